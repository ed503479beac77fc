//! Small files that say that they are large, and some that are once they are unpacked.

/// A zlib stream of so many zeros, 160 times smaller: one block of fixed codes, a literal and then copies of the 258 bytes before
/// (RFC 1950, RFC 1951).
pub fn zeros(length: u64) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], at: 0 };
    let (copies, literals) = ((length - 1) / 258, 1 + (length - 1) % 258);
    // The last block, of fixed codes.
    bits.push(0b011, 3);
    // The literal 0 is 00110000, from its highest bit on.
    (0..literals).for_each(|_| bits.push(0b0000_1100, 8));
    // 258 bytes are 11000101, from 1 byte before: 00000.
    (0..copies).for_each(|_| bits.push(0b1010_0011, 13));
    bits.push(0, 7);
    // Adler-32 of zeros.
    let mut bytes = bits.bytes;
    bytes.extend(((((length % 65_521) as u32) << 16) | 1).to_be_bytes());
    bytes
}

/// Bits, the lowest of a byte first.
struct Bits {
    bytes: Vec<u8>,
    at: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        for bit in 0..count {
            if self.at == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("one was pushed");
            *last |= ((bits >> bit & 1) as u8) << self.at;
            self.at = (self.at + 1) % 8;
        }
    }
}

/// A PNG of so many pixels in grey, with these chunks between its head and its end.
pub fn png(width: u32, height: u32, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let chunks = chunks.iter().flat_map(|(name, body)| chunk(name, body));
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(b"IHDR", &head));
    bytes.extend(chunks);
    bytes.extend(chunk(b"IEND", &[]));
    bytes
}

/// One that is black, and has all of its pixels.
pub fn black_png(width: u32, height: u32) -> Vec<u8> {
    // A row has a byte for its filter before its pixels: 0 too.
    png(width, height, &[(b"IDAT", &zeros(u64::from(width + 1) * u64::from(height)))])
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let crc = crc32(name.iter().chain(body));
    [&(body.len() as u32).to_be_bytes()[..], name, body, &crc.to_be_bytes()].concat()
}

fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A GIF of this screen with one picture of that size.
pub fn gif(screen: u16, picture: u16) -> Vec<u8> {
    let (screen, picture) = (screen.to_le_bytes(), picture.to_le_bytes());
    [
        b"GIF89a".as_slice(),
        &screen,
        &screen,
        &[0x80, 0, 0, 0, 0, 0, 255, 255, 255, 0x2c, 0, 0, 0, 0],
        &picture,
        &picture,
        &[0, 2, 2, 0x44, 0x01, 0, 0x3b],
    ]
    .concat()
}

/// A JPEG that says that it has another size than it has.
pub fn jpeg_of_size(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("it has a frame");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}
