//! What a balancer says of its client: it is said once, however it is cut, and within its bound.

use tern_wire::proxy::{HEADER_BYTES_MAX, parse};

/// Bytes before the addresses.
const HEAD_BYTES: usize = 16;

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
        let source = header.source.into_iter().flat_map(|source| {
            let tail = if source[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] { 12 } else { 0 };
            source[tail..].to_vec()
        });
        let source: Vec<u8> = source.collect();
        assert!(data[HEAD_BYTES..header.bytes].starts_with(&source), "another address than was said");
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
