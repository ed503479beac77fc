//! What a balancer says of its client: it is said once, however it is cut, and within its bound.

use tern_wire::proxy::{HEADER_BYTES_MAX, parse};

/// Bytes before the addresses.
const HEAD_BYTES: usize = 16;

/// Where the family of the addresses is said, and what it is for IPv4.
const FAMILY_AT: usize = 13;
const TCP_OVER_IPV4: u8 = 0x11;

/// What is before an IPv4 address in an IPv6 one that holds it.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The data is what comes on a connection from a trusted address.
pub fn proxy(data: &[u8]) {
    let whole = parse(data);
    if let Ok(Some(header)) = whole {
        assert!((HEAD_BYTES..=HEADER_BYTES_MAX.min(data.len())).contains(&header.bytes));
        assert_eq!(
            parse(&data[..header.bytes]),
            whole,
            "what the client says changes what the balancer said"
        );
        // An IPv6 address that holds an IPv4 one is as good as the latter.
        let said = |bytes: usize| data[HEAD_BYTES..][..bytes].to_vec();
        let expected = header.source.map(|_| match data[FAMILY_AT] {
            TCP_OVER_IPV4 => [MAPPED.to_vec(), said(4)].concat(),
            _ => said(16),
        });
        assert_eq!(header.source.map(|source| source.to_vec()), expected, "another address than was said");
    }
    assert!(data.len() < HEADER_BYTES_MAX || whole != Ok(None), "a header is waited for without end");
    let mut before = Ok(None);
    for end in 0..=data.len().min(HEADER_BYTES_MAX) {
        let now = parse(&data[..end]);
        assert!(before == Ok(None) || now == before, "more bytes have changed what was said already");
        before = now;
    }
    assert!(before == whole, "the cuts matter");
}
