//! What goes wrong, by name: each with its own probability and its own stream of random numbers, so that what one fault draws
//! changes nothing of what another one does.

use std::collections::BTreeMap;

use tern_storage::medium::stream::{MILLION, Stream};

/// A fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trouble {
    /// A connection is reset: what is on its way is lost, at any byte.
    Reset,
    /// A connection dies and nobody is told: what is sent into it is lost.
    HalfOpen,
    /// A device does not read for a while.
    SlowReader,
    /// A send takes a part of what it was given.
    ShortSend,
    /// What is on its way takes long.
    Delay,
    /// The node's process is killed: what it has written and not synced stays with the system.
    Kill,
    /// The power fails: what is not synced is kept, lost or torn.
    PowerCut,
    /// The node stands still for a while, all cores of it.
    Pause,
    /// A device's process is killed: what it has not stored is gone.
    DeviceCrash,
    /// A device's store fails for a while.
    DeviceDisk,
    /// Slots move to other cores.
    Move,
    /// The node's wall clock is set forwards or back.
    ClockJump,
    /// A device's wall clock is.
    DeviceClock,
    /// A one-time code is lost on its way to the phone.
    CodeLost,
    /// A core has no buffers to receive into for a while.
    NoBuffers,
    /// A core's sends find no room for a while.
    SendFull,
    /// A core is not to be asked anything more for a while.
    Crowded,
    /// A core has much to do: its next turn comes late.
    Busy,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Reset,
        Self::HalfOpen,
        Self::SlowReader,
        Self::ShortSend,
        Self::Delay,
        Self::Kill,
        Self::PowerCut,
        Self::Pause,
        Self::DeviceCrash,
        Self::DeviceDisk,
        Self::Move,
        Self::ClockJump,
        Self::DeviceClock,
        Self::CodeLost,
        Self::NoBuffers,
        Self::SendFull,
        Self::Crowded,
        Self::Busy,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::SlowReader => "slow-read",
            Self::ShortSend => "short-send",
            Self::Delay => "delay",
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::Pause => "pause",
            Self::DeviceCrash => "dev-crash",
            Self::DeviceDisk => "dev-disk",
            Self::Move => "move",
            Self::ClockJump => "clock",
            Self::DeviceClock => "dev-clock",
            Self::CodeLost => "code-lost",
            Self::NoBuffers => "no-buffers",
            Self::SendFull => "send-full",
            Self::Crowded => "crowded",
            Self::Busy => "busy",
        }
    }

    /// The fault of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.name() == name)
    }

    /// How often, of a million times that it could be. The first group each time that bytes are sent, the second ten times a second of
    /// simulated time.
    fn odds(self) -> u32 {
        match self {
            Self::Reset => 3_000,
            Self::HalfOpen => 1_000,
            Self::ShortSend => 30_000,
            Self::Delay => 10_000,
            Self::SlowReader => 30_000,
            Self::Kill => 10_000,
            Self::PowerCut => 12_000,
            Self::Pause => 10_000,
            Self::DeviceCrash => 20_000,
            Self::DeviceDisk => 10_000,
            Self::Move | Self::Busy => 300_000,
            Self::ClockJump => 10_000,
            Self::DeviceClock => 20_000,
            Self::CodeLost => 200_000,
            Self::NoBuffers | Self::SendFull | Self::Crowded => 20_000,
        }
    }
}

/// Faults that a world does not know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Without(u32);

impl Without {
    /// One more.
    pub fn and(self, trouble: Trouble) -> Self {
        Self(self.0 | 1 << trouble as u32)
    }

    /// Whether it is one of them.
    pub fn has(self, trouble: Trouble) -> bool {
        self.0 & (1 << trouble as u32) != 0
    }

    /// Their names, with commas between; empty if there are none.
    pub fn names(self) -> String {
        let names = Trouble::ALL.into_iter().filter(|trouble| self.has(*trouble)).map(Trouble::name);
        names.collect::<Vec<_>>().join(",")
    }
}

/// The faults of a world.
#[derive(Debug)]
pub struct Troubles {
    streams: BTreeMap<Trouble, Stream>,
    /// How much of it there is in this world, in parts of 100.
    strength: BTreeMap<Trouble, u32>,
    over: bool,
}

impl Troubles {
    /// Those of a seed: some worlds know little of some faults, and much of others.
    pub fn new(seed: u64, without: Without) -> Self {
        let mut shape = Stream::named(seed, "shape");
        let stream = |trouble: Trouble| (trouble, Stream::named(seed, trouble.name()));
        let mut strength: BTreeMap<_, _> =
            Trouble::ALL.into_iter().map(|it| (it, [0, 30, 100, 300][shape.below(4) as usize])).collect();
        strength.iter_mut().filter(|(it, _)| without.has(**it)).for_each(|(_, strength)| *strength = 0);
        Self { streams: Trouble::ALL.into_iter().map(stream).collect(), strength, over: false }
    }

    /// Whether it happens now.
    pub fn hits(&mut self, trouble: Trouble) -> bool {
        if self.over {
            return false;
        }
        let odds = u64::from(trouble.odds()) * u64::from(self.strength[&trouble]) / 100;
        let stream = self.streams.get_mut(&trouble).expect("each has one");
        stream.hits((odds as u32).min(MILLION))
    }

    /// A number below a bound, for how it happens.
    pub fn below(&mut self, trouble: Trouble, bound: u64) -> u64 {
        self.streams.get_mut(&trouble).expect("each has one").below(bound)
    }

    /// From here on nothing goes wrong.
    pub fn end(&mut self) {
        self.over = true;
    }
}
