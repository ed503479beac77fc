//! Pictures, whole ones.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, RgbaImage};

pub const RED: [u8; 3] = [230, 20, 20];
pub const GREEN: [u8; 3] = [20, 200, 20];
pub const BLUE: [u8; 3] = [20, 20, 230];
pub const WHITE: [u8; 3] = [250, 250, 250];

/// What no thumbnail may have: where a picture was taken, and of what.
pub const SECRET: &[u8] = b"48.8584 N 2.2945 E";

/// A picture whose quarters are red and green above, blue and white below.
pub fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => WHITE,
        })
    })
}

/// A picture in which no pixel is as another one, nearly.
pub fn waves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8]))
}

pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).expect("it can be encoded");
    bytes
}

/// A JPEG with EXIF: how it is to be turned, where it was taken, and a description.
pub fn with_exif(jpeg: &[u8], orientation: u16) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0".to_vec();
    let mut entries = Vec::new();
    entries.extend(entry(0x010e, 2, SECRET.len() as u32, 200));
    entries.extend(entry(0x0112, 3, 1, u32::from(orientation)));
    entries.extend(entry(0x8825, 4, 1, 100));
    exif.extend(3_u16.to_le_bytes());
    exif.extend(entries);
    // Offsets are from where TIFF begins: 6 bytes in.
    exif.resize(6 + 100, 0);
    exif.extend(1_u16.to_le_bytes());
    exif.extend(entry(0x001d, 2, SECRET.len() as u32, 200));
    exif.resize(6 + 200, 0);
    exif.extend(SECRET);
    let length = u16::try_from(exif.len() + 2).expect("it is short");
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &exif, &jpeg[2..]].concat()
}

fn entry(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A GIF that shows one picture after another.
pub fn gif(images: &[RgbImage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for image in images {
        let frame = Frame::new(DynamicImage::from(image.clone()).into_rgba8());
        encoder.encode_frame(frame).expect("it can be encoded");
    }
    drop(encoder);
    bytes
}

/// The same as WebP: <https://developers.google.com/speed/webp/docs/riff_container>.
pub fn webp(images: &[RgbImage]) -> Vec<u8> {
    let (width, height) = images[0].dimensions();
    let size = [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[&[0b10, 0, 0, 0], size.as_slice()].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for image in images {
        let still = encoded(image.clone(), ImageFormat::WebP);
        let frame = [&[0; 6], size.as_slice(), &[100, 0, 0, 0], &still[12..]].concat();
        body.extend(chunk(b"ANMF", &frame));
    }
    chunk(b"RIFF", &body)
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len() % 2];
    [name.as_slice(), &(body.len() as u32).to_le_bytes(), body, &padding].concat()
}

/// A picture of which the left half can't be seen, and is black.
pub fn half_transparent(width: u32, height: u32) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, _| {
        image::Rgba(if x < width / 2 { [0, 0, 0, 0] } else { [RED[0], RED[1], RED[2], 255] })
    })
}
