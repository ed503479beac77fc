//! The data of a target, read as what it does: numbers and pieces. It never ends: behind its end are zeros.

/// The unread rest.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.word()) % end
    }

    /// At most so many bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece that says its own length, of at most 255 bytes.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let bytes = self.byte();
        self.take(bytes.into())
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Where a stream is cut into what arrives at once: the lengths of its pieces, over and over; none for one piece.
pub(crate) struct Cuts(Vec<usize>);

impl Cuts {
    /// As many as the next byte says, at most 15, of at most 256 bytes each.
    pub(crate) fn read(script: &mut Script) -> Self {
        let count = script.byte() % 16;
        Self((0..count).map(|_| usize::from(script.byte()) + 1).collect())
    }

    /// The pieces of a stream.
    pub(crate) fn of<'a>(&self, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        for cut in self.0.iter().cycle() {
            if stream.is_empty() {
                break;
            }
            let (piece, rest) = stream.split_at((*cut).min(stream.len()));
            pieces.push(piece);
            stream = rest;
        }
        if !stream.is_empty() {
            pieces.push(stream);
        }
        pieces
    }
}
