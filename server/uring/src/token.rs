//! What an operation carries to its completion: its kind, and whom it is for, in 64 bits.

/// A connection of this ring: an index, and the low bits of a generation that tells what comes late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnToken {
    /// The connection's index.
    pub index: u32,
    /// The low 24 bits of its generation.
    generation: u32,
}

const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl ConnToken {
    /// The token of a connection.
    pub fn new(index: u32, generation: u32) -> Self {
        Self { index, generation: generation & GENERATION_MASK }
    }

    /// Whether it is of the connection with this generation.
    pub fn is_of(self, generation: u32) -> bool {
        self.generation == generation & GENERATION_MASK
    }
}

/// A descriptor on its way from one ring to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransferId {
    /// The core that gives it away.
    pub from: u16,
    /// Counts what that core gives away.
    pub number: u32,
}

/// What a completion is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Accept,
    /// By its place among the connects.
    Connect(u32),
    Receive(ConnToken),
    /// By its place among the sends.
    Send(u32),
    Shutdown(ConnToken),
    Close,
    Cancel,
    /// Another ring has work for this one.
    Wake,
    /// The eventfd was written to.
    Notify,
    /// A descriptor has left.
    Give(ConnToken),
    /// A descriptor has come.
    Take(TransferId),
    /// By its place among the questions for addresses.
    Peer(u32),
    /// An option of a socket was set.
    Option,
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        let conn = |token: ConnToken| (token.index, token.generation);
        let (kind, (low, high)) = match self {
            Self::Accept => (1, (0, 0)),
            Self::Receive(token) => (2, conn(token)),
            Self::Send(place) => (3, (place, 0)),
            Self::Shutdown(token) => (4, conn(token)),
            Self::Close => (5, (0, 0)),
            Self::Cancel => (6, (0, 0)),
            Self::Wake => (7, (0, 0)),
            Self::Notify => (8, (0, 0)),
            Self::Give(token) => (9, conn(token)),
            Self::Take(transfer) => (10, (transfer.number, u32::from(transfer.from))),
            Self::Peer(place) => (11, (place, 0)),
            Self::Connect(place) => (12, (place, 0)),
            Self::Option => (13, (0, 0)),
        };
        kind << 56 | u64::from(high) << 32 | u64::from(low)
    }

    pub(super) fn unpack(bits: u64) -> Option<Self> {
        let (low, high) = (bits as u32, (bits >> 32) as u32 & GENERATION_MASK);
        let conn = ConnToken { index: low, generation: high };
        Some(match bits >> 56 {
            1 => Self::Accept,
            2 => Self::Receive(conn),
            3 => Self::Send(low),
            4 => Self::Shutdown(conn),
            5 => Self::Close,
            6 => Self::Cancel,
            7 => Self::Wake,
            8 => Self::Notify,
            9 => Self::Give(conn),
            10 => Self::Take(TransferId { from: high as u16, number: low }),
            11 => Self::Peer(low),
            12 => Self::Connect(low),
            13 => Self::Option,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let conn = ConnToken::new(u32::MAX, 0xab_cdef);
        let transfer = TransferId { from: u16::MAX, number: u32::MAX };
        for token in [
            Token::Accept,
            Token::Receive(conn),
            Token::Send(7),
            Token::Shutdown(conn),
            Token::Close,
            Token::Cancel,
        ]
        .into_iter()
        .chain([
            Token::Wake,
            Token::Notify,
            Token::Give(conn),
            Token::Take(transfer),
            Token::Peer(8),
            Token::Option,
            Token::Connect(9),
        ]) {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(0), None);
    }

    #[test]
    fn a_token_of_an_earlier_connection_is_told_apart() {
        let token = ConnToken::new(3, 0x0100_0001);
        assert!(token.is_of(0x0100_0001));
        assert!(!token.is_of(0x0100_0002));
    }
}
