//! The bounds of previews, each with what happens when it is reached. Those that an operator may set are fields of [`Limits`].

use std::time::Duration;

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes at once. Beyond, a file waits in line.
    pub processes_max: usize,
    /// Files in line. Beyond: [`Busy`](crate::PreviewError::Busy).
    pub waiting_max: usize,
    /// How long a process may take. Beyond, it is killed: [`TimedOut`](crate::PreviewError::TimedOut).
    pub wall_timeout: Duration,
    /// How long it may compute, in whole seconds, at least one. Beyond, the kernel ends it: the same.
    pub cpu_time: Duration,
    /// Bytes of memory that a process may map, its program included. Beyond: [`TooLarge`](crate::TooLarge::Memory).
    pub memory_bytes_max: u64,
    /// Bytes of a file. Beyond: [`TooLarge`](crate::TooLarge::Bytes), before a process begins if the length is known.
    pub file_bytes_max: u64,
    /// Pixels of a picture. Beyond: [`TooLarge`](crate::TooLarge::Pixels), before anything is decoded.
    pub pixels_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes_max: 2,
            waiting_max: 64,
            wall_timeout: Duration::from_secs(15),
            cpu_time: Duration::from_secs(10),
            memory_bytes_max: 512 << 20,
            file_bytes_max: 100 << 20,
            pixels_max: 100_000_000,
        }
    }
}

impl Limits {
    /// Those of one process, as the arguments of the program.
    pub(crate) fn arguments(&self) -> [String; 4] {
        [
            format!("cpu-s={}", self.cpu_s()),
            format!("memory={}", self.memory_bytes_max),
            format!("file={}", self.file_bytes_max),
            format!("pixels={}", self.pixels_max),
        ]
    }

    /// The program's limits: the default ones but for those that its arguments say. `None`: an argument is none.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut limits = Self::default();
        for argument in arguments {
            let (name, value) = argument.split_once('=')?;
            let value = value.parse().ok()?;
            match name {
                "cpu-s" => limits.cpu_time = Duration::from_secs(value),
                "memory" => limits.memory_bytes_max = value,
                "file" => limits.file_bytes_max = value,
                "pixels" => limits.pixels_max = value,
                _ => return None,
            }
        }
        Some(limits)
    }

    pub(crate) fn cpu_s(&self) -> u64 {
        self.cpu_time.as_secs().max(1)
    }

    /// What of the memory is left to a decoder of a file of so many bytes: the file is there twice, once as it came and once as the
    /// decoder has it, and the program has its share.
    pub(crate) fn decoder_bytes_max(&self, file_bytes: usize) -> u64 {
        self.memory_bytes_max.saturating_sub(2 * file_bytes as u64).saturating_sub(PROGRAM_BYTES)
    }
}

/// Bytes of address space that the program takes for itself: it begins in 8 MiB, and a thumbnail of the largest picture takes a few more.
const PROGRAM_BYTES: u64 = 24 << 20;

/// Pixels of one side of a picture: as many as a JPEG can say. Beyond: [`TooLarge`](crate::TooLarge::Pixels).
pub const SIDE_PX_MAX: u32 = 65_535;

/// Pixels of a thumbnail's longer side. A picture that has fewer is not enlarged.
pub const THUMBNAIL_SIDE_PX: u32 = 200;

/// Bytes of a thumbnail. Beyond, it is encoded in a lower quality, and then smaller.
pub const THUMBNAIL_BYTES_MAX: usize = 16 << 10;

/// Parts of a wave form.
pub const WAVE_PARTS: usize = 64;

/// Bytes of a BlurHash: what 9 times 9 components take is the most that there is.
pub const BLUR_HASH_BYTES_MAX: usize = 6 + 2 * 80;

/// How long a recording may say that it is: a year. Beyond, it is malformed.
pub const DURATION_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// Bytes of an answer. Beyond, the process is killed: [`Died`](crate::PreviewError::Died).
pub const ANSWER_BYTES_MAX: usize = 32 << 10;

// An answer is a head of well under a KiB and these three, each as large as it may be.
const _: () = assert!(THUMBNAIL_BYTES_MAX + BLUR_HASH_BYTES_MAX + WAVE_PARTS + (1 << 10) <= ANSWER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_limits_that_it_is_given_and_nonsense_is_refused() {
        let limits = Limits {
            cpu_time: Duration::from_secs(3),
            memory_bytes_max: 1 << 30,
            file_bytes_max: 7,
            pixels_max: 8,
            ..Limits::default()
        };
        assert_eq!(Limits::from_arguments(limits.arguments().into_iter()), Some(limits));
        assert_eq!(Limits::from_arguments([].into_iter()), Some(Limits::default()));
        for argument in ["", "memory", "memory=", "memory=-1", "memory=1x", "other=1"] {
            assert_eq!(Limits::from_arguments([argument.to_owned()].into_iter()), None, "{argument}");
        }
    }
}
