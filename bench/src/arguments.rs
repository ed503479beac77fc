//! What a number on the command line may be: whatever can't be measured is refused before anything runs.

use std::fs::File;
use std::path::PathBuf;

use tern_wire::limits::BODY_BYTES_MAX;

use crate::load::STAMP_BYTES;

/// A rate, a factor, a time: above zero, and with an end.
pub fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if number > 0.0 && number.is_finite() { Ok(number) } else { Err("it must be above 0".to_owned()) }
}

/// Bytes of a message: room for what it is checked by, and no more than a server takes.
pub fn message_size(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "no number of bytes".to_owned())?;
    if (STAMP_BYTES..=BODY_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("a message has {STAMP_BYTES} to {BODY_BYTES_MAX} bytes"))
    }
}

/// A file that can be written: it is made now, and not only after the run.
pub fn writable(text: &str) -> Result<PathBuf, String> {
    File::create(text).map_err(|error| error.to_string())?;
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for bad in ["0", "-1", "inf", "NaN", "x", ""] {
            assert!(positive(bad).is_err(), "{bad}");
        }
        assert_eq!(positive("0.5"), Ok(0.5));
        for bad in ["15", "65537", "x"] {
            assert!(message_size(bad).is_err(), "{bad}");
        }
        assert_eq!(message_size("200"), Ok(200));
        assert!(writable("/nowhere/at/all.hlog").is_err());
    }
}
