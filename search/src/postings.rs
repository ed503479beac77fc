//! Which entries of a run have a term, in as few bytes as one of three forms takes. [`page`](crate::page) has the layout.
//!
//! Offsets rise, lie within the run, and are at least one. Bytes that say something else are damage.

use crate::limits::RUN_ENTRIES_MAX;
use crate::varint;

// An offset that stands alone has two bytes at most.
const _: () = assert!(RUN_ENTRIES_MAX <= 1 << 16);

/// The bit, in the number that several offsets begin with, that says that they are a bitmap.
const BITMAP: u64 = 1;

/// The offsets of a term, as they are written.
#[derive(Clone, Copy)]
pub(crate) struct Postings<'a> {
    form: Form,
    bytes: &'a [u8],
}

#[derive(Clone, Copy)]
enum Form {
    One,
    List,
    Bitmap,
}

/// Appends rising offsets, of which there is at least one, all below `end`.
pub(crate) fn put(out: &mut Vec<u8>, offsets: &[u32], end: u32) {
    if let [only] = offsets {
        out.extend_from_slice(&only.to_le_bytes()[..one_bytes(end)]);
        return;
    }
    let start = out.len();
    put_list(out, offsets);
    let bits = offsets.last().map_or(0, |last| last + 1);
    let bytes = bits.div_ceil(u8::BITS) as usize;
    if bytes + head_bytes(bytes) < out.len() - start {
        out.truncate(start);
        put_bitmap(out, bytes, offsets);
    }
}

/// Bytes of an offset that stands alone.
fn one_bytes(end: u32) -> usize {
    if end <= 1 << 8 { 1 } else { 2 }
}

fn put_list(out: &mut Vec<u8>, offsets: &[u32]) {
    varint::put(out, (offsets.len() as u64) << 1);
    let mut next = 0;
    for offset in offsets {
        varint::put(out, u64::from(offset - next));
        next = offset + 1;
    }
}

fn head_bytes(bytes: usize) -> usize {
    if bytes < 1 << 6 { 1 } else { 2 }
}

fn put_bitmap(out: &mut Vec<u8>, bytes: usize, offsets: &[u32]) {
    varint::put(out, (bytes as u64) << 1 | BITMAP);
    let start = out.len();
    out.resize(start + bytes, 0);
    for offset in offsets {
        out[start + (offset / u8::BITS) as usize] |= 1 << (offset % u8::BITS);
    }
}

/// Takes what [`put`] has written from the front of `bytes`. `None`: it is not there.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], is_one: bool, end: u32) -> Option<Postings<'a>> {
    if is_one {
        return Some(Postings { form: Form::One, bytes: varint::take_bytes(bytes, one_bytes(end))? });
    }
    let head = varint::take(bytes)?;
    let count = usize::try_from(head >> 1).ok()?;
    let (form, length) =
        if head & BITMAP == 0 { (Form::List, list_bytes(bytes, count)?) } else { (Form::Bitmap, count) };
    Some(Postings { form, bytes: varint::take_bytes(bytes, length)? })
}

/// Bytes of so many numbers, of which there are two at least.
fn list_bytes(bytes: &[u8], count: usize) -> Option<usize> {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| varint::is_last(**byte));
    let (last, _) = ends.nth(count.checked_sub(1).filter(|before| *before > 0)?)?;
    Some(last + 1)
}

impl Postings<'_> {
    /// Gives all offsets. `None`: they are damaged, or one is not below `end`.
    pub(crate) fn each(self, end: u32, visit: impl FnMut(u32)) -> Option<()> {
        match self.form {
            Form::One => self.each_of_one(end, visit),
            Form::List => self.each_of_list(end, visit),
            Form::Bitmap => self.each_of_bitmap(end, visit),
        }
    }

    fn each_of_one(self, end: u32, mut visit: impl FnMut(u32)) -> Option<()> {
        let mut bytes = [0; 4];
        bytes[..self.bytes.len()].copy_from_slice(self.bytes);
        let offset = u32::from_le_bytes(bytes);
        (offset < end).then(|| visit(offset))
    }

    fn each_of_list(mut self, end: u32, mut visit: impl FnMut(u32)) -> Option<()> {
        let mut next: u32 = 0;
        while !self.bytes.is_empty() {
            let between = u32::try_from(varint::take(&mut self.bytes)?).ok()?;
            let offset = next.checked_add(between).filter(|offset| *offset < end)?;
            visit(offset);
            next = offset + 1;
        }
        Some(())
    }

    fn each_of_bitmap(self, end: u32, mut visit: impl FnMut(u32)) -> Option<()> {
        let last = self.bytes.last().filter(|last| **last != 0)?;
        let bits = self.bytes.len() * u8::BITS as usize - last.leading_zeros() as usize;
        (bits <= end as usize).then_some(())?;
        for (start, byte) in (0..).step_by(u8::BITS as usize).zip(self.bytes) {
            let mut rest = *byte;
            while rest != 0 {
                visit(start + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: u32 = 1000;

    fn read(bytes: &mut &[u8], is_one: bool, end: u32) -> Option<Vec<u32>> {
        let mut offsets = Vec::new();
        take(bytes, is_one, end)?.each(end, |offset| offsets.push(offset))?;
        Some(offsets)
    }

    fn check(end: u32, offsets: &[u32], expect: &[u8]) {
        let mut bytes = Vec::new();
        put(&mut bytes, offsets, end);
        assert_eq!(bytes, expect, "{offsets:?}");
    }

    #[test]
    fn the_shortest_form_is_written() {
        check(256, &[255], &[255]);
        check(257, &[255], &[255, 0]);
        check(END, &[999], &[0xe7, 3]);
        check(END, &[3, 9], &[2 << 1, 3, 5]);
        check(END, &[0, 1, 2, 3, 4, 5, 6, 7], &[1 << 1 | 1, 0xff]);
        check(END, &[1, 2, 3, 8], &[2 << 1 | 1, 0b1110, 1]);
    }

    #[test]
    fn what_is_not_within_the_run_is_damage() {
        let check = |is_one, mut bytes: &[u8]| assert_eq!(read(&mut bytes, is_one, END), None, "{bytes:?}");
        check(true, &[]);
        check(true, &[5]);
        check(true, &[0xe8, 3]); // the one at 1000
        check(false, &[]);
        check(false, &[0]); // a list of none
        check(false, &[1 << 1, 5]); // a list of one
        check(false, &[2 << 1, 5]); // ends too early
        check(false, &[2 << 1, 0xe7, 7, 0]); // 999 and 1000
        check(false, &[1]); // a bitmap of no bytes
        check(false, &[2 << 1 | 1, 1, 0]); // a byte too many
        check(false, &[2 << 1 | 1, 1]); // a byte too few
        check(false, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        check(false, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    proptest! {
        #[test]
        fn offsets_are_read_as_they_were_written(
            offsets in prop::collection::btree_set(0..END, 1..400),
            dense in prop::collection::btree_set(0..64u32, 1..64),
            few in prop::collection::btree_set(0..END, 1..4),
            behind: Vec<u8>,
        ) {
            for offsets in [offsets, dense, few] {
                let offsets: Vec<u32> = offsets.into_iter().collect();
                let mut bytes = Vec::new();
                put(&mut bytes, &offsets, END);
                bytes.extend_from_slice(&behind);
                let mut rest = &bytes[..];
                prop_assert_eq!(read(&mut rest, offsets.len() == 1, END), Some(offsets));
                prop_assert_eq!(rest, &behind[..]);
            }
        }
    }
}
