//! The PROXY protocol, version 2: what a balancer says of the client before the client's own first byte
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2).
//!
//! It is read from addresses that an operator trusts, and nowhere else: whoever may say where they come from has no limits.

use std::fmt;
use std::net::Ipv4Addr;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses: signature, version and command, family, length.
const HEAD_BYTES: usize = 16;

/// Bytes of a header, with all that may follow the addresses. Beyond, it is refused: balancers send some dozens.
pub const HEADER_BYTES_MAX: usize = 1024;

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its bytes: what follows is the client's.
    pub bytes: usize,
    /// Where the client is: IPv6, or IPv4 mapped into it. `None` for a connection of the balancer's own (`LOCAL`), and for
    /// one that it can't tell of.
    pub source: Option<[u8; 16]>,
}

/// The bytes are no such header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no PROXY header of version 2: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the head of `bytes`; `None` while it is cut off.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let signed = bytes.len().min(SIGNATURE.len());
    if bytes[..signed] != SIGNATURE[..signed] {
        return Err(Malformed("it does not begin like one"));
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let (version_command, family) = (head[12], head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version_command >> 4 != 2 {
        return Err(Malformed("it is of another version"));
    }
    if HEAD_BYTES + length > HEADER_BYTES_MAX {
        return Err(Malformed("it is too long"));
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let cut_off = Malformed("it is shorter than its addresses");
    let source = match (version_command & 0x0f, family) {
        (0, _) => None,
        // TCP over IPv4: source and destination address, their ports.
        (1, 0x11) => {
            let source: [u8; 4] =
                addresses.get(..12).and_then(|all| all[..4].try_into().ok()).ok_or(cut_off)?;
            Some(Ipv4Addr::from(source).to_ipv6_mapped().octets())
        }
        // TCP over IPv6.
        (1, 0x21) => Some(addresses.get(..36).and_then(|all| all[..16].try_into().ok()).ok_or(cut_off)?),
        (1, 0x00) => None,
        (1, _) => return Err(Malformed("it tells of no TCP connection")),
        _ => return Err(Malformed("its command is unknown")),
    };
    Ok(Some(Header { bytes: HEAD_BYTES + length, source }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((addresses.len() as u16).to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    #[test]
    fn a_header_says_where_the_client_is() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1c, 0x03];
        let mut six = [0u8; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let mut with_more = four.to_vec();
        with_more.extend([0x04, 0, 1, 9]);
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        let cases = [
            (header(1, 0x11, &four), Some(mapped)),
            (header(1, 0x11, &with_more), Some(mapped)),
            (header(1, 0x21, &six), Some(six[..16].try_into().expect("16 bytes"))),
            (header(0, 0x00, &[]), None),
            (header(0, 0x11, &four), None),
            (header(1, 0x00, &[]), None),
        ];
        for (mut bytes, source) in cases {
            let length = bytes.len();
            bytes.extend(b"the client's own");
            assert_eq!(parse(&bytes), Ok(Some(Header { bytes: length, source })));
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut version_1 = header(1, 0x11, &[0; 12]);
        version_1[12] = 0x11;
        let mut too_long = header(1, 0x11, &[0; 12]);
        too_long[14] = 0xff;
        let cases = [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 7171\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            version_1,
            too_long,
            header(2, 0x11, &[0; 12]),
            header(1, 0x11, &[0; 11]),
            header(1, 0x21, &[0; 35]),
            header(1, 0x12, &[0; 12]),
            header(1, 0x31, &[0; 216]),
        ];
        for bytes in cases {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..80), signed: bool) {
            if signed {
                bytes.splice(0..0, SIGNATURE.iter().copied());
            }
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.bytes <= bytes.len());
            }
        }
    }
}
