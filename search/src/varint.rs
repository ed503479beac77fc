//! Numbers in as many bytes as they need: seven bits a byte, the lowest first, the eighth bit set in all but the last (LEB128).
//!
//! What is read is what this module writes: a number in more bytes than it needs is damage, as is one beyond 64 bits.

/// Bits of a byte that are the number's.
const BITS: u32 = 7;

/// The bit that says that another byte follows.
const MORE: u8 = 0x80;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        out.push(number as u8 | MORE);
        number >>= BITS;
    }
    out.push(number as u8);
}

/// Takes a number from the front of `bytes`; `None` if none is there.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(BITS as usize) {
        let byte = take_byte(bytes)?;
        let bits = u64::from(byte & !MORE);
        if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
            return None;
        }
        number |= bits << shift;
        if is_last(byte) {
            return Some(number);
        }
    }
    None
}

/// Does a number end with this byte?
pub(crate) fn is_last(byte: u8) -> bool {
    byte & MORE == 0
}

/// Takes one byte from the front of `bytes`.
pub(crate) fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// Takes `count` bytes from the front of `bytes`.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expect: Option<u64>) {
        assert_eq!(take(&mut &bytes[..]), expect, "{bytes:?}");
    }

    #[test]
    fn numbers_are_read_only_as_they_are_written() {
        check(&[], None);
        check(&[0], Some(0));
        check(&[127], Some(127));
        check(&[0x80, 1], Some(128));
        check(&[0x80], None);
        check(&[0x80, 0], None);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(u64::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None);
        check(&[0x80; 11], None);
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(number: u64, behind: Vec<u8>) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            bytes.extend_from_slice(&behind);
            let mut rest = &bytes[..];
            prop_assert_eq!(take(&mut rest), Some(number));
            prop_assert_eq!(rest, &behind[..]);
        }
    }
}
