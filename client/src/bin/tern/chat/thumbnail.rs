//! The thumbnail of a picture, in the cells of a terminal: of each cell `▀` the upper half in one colour, the lower one in another.
//!
//! Its bytes are a stranger's. What is larger than a thumbnail is refused before a pixel of it is decoded, and nothing comes of it but
//! colours: no text, and no commands to a terminal.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, ImageDecoder as _, Limits, Rgb, RgbImage, imageops};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

/// Pixels of a side, as docs/PROTOCOL.md has it.
const SIDE_MAX: u32 = 200;

/// What decoding may take: ten times what the pixels take.
const DECODER_BYTES_MAX: u64 = 1 << 20;

/// Cells that a picture takes at most.
pub const COLUMNS_MAX: u16 = 32;
/// The same.
pub const ROWS_MAX: u16 = 10;

/// The steps of a colour in the cube of 256 colours, and where the cube and the greys begin.
const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
const CUBE: u8 = 16;
const GREYS: u8 = 232;

/// The colours that a terminal knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colours {
    /// 24 bits.
    All,
    /// The cube and the greys of xterm.
    Of256,
}

/// The pixels of a JPEG; `None`: it is none, is damaged, or is larger than a thumbnail is.
pub fn decode(jpeg: &[u8]) -> Option<RgbImage> {
    let mut decoder = JpegDecoder::new(Cursor::new(jpeg)).ok()?;
    let (width, height) = decoder.dimensions();
    if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
        return None;
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    decoder.set_limits(limits).ok()?;
    DynamicImage::from_decoder(decoder).ok().map(|picture| picture.into_rgb8())
}

/// A picture in lines of cells, as large as it is at most: a pixel is as wide as a cell, and half as high.
pub fn cells(picture: &RgbImage, colours: Colours) -> Vec<Line<'static>> {
    let (width, height) = fitting(picture.dimensions());
    let small = imageops::thumbnail(picture, width, height);
    let colour = |x, y| colour(*small.get_pixel(x, y), colours);
    let cell = |x, y| {
        let upper = Style::new().fg(colour(x, y));
        // Below an odd last row there is nothing.
        let style = if y + 1 < height { upper.bg(colour(x, y + 1)) } else { upper };
        Span::styled("▀", style)
    };
    (0..height).step_by(2).map(|y| Line::from_iter((0..width).map(|x| cell(x, y)))).collect()
}

/// The pixels of a picture that is no larger than it may be in cells, and as wide to its height as before.
fn fitting((width, height): (u32, u32)) -> (u32, u32) {
    let (columns, rows) = (u32::from(COLUMNS_MAX), 2 * u32::from(ROWS_MAX));
    if width <= columns && height <= rows {
        (width, height)
    } else if width * rows > height * columns {
        (columns, (height * columns / width).max(1))
    } else {
        ((width * rows / height).max(1), rows)
    }
}

fn colour(Rgb([red, green, blue]): Rgb<u8>, colours: Colours) -> Color {
    match colours {
        Colours::All => Color::Rgb(red, green, blue),
        Colours::Of256 => Color::Indexed(nearest([red, green, blue])),
    }
}

/// The nearest of 256 colours: of the cube, or a grey.
fn nearest(wanted: [u8; 3]) -> u8 {
    let step = |value: u8| (0..6_u8).min_by_key(|at| STEPS[usize::from(*at)].abs_diff(value)).unwrap_or(0);
    let [red, green, blue] = wanted.map(step);
    let in_cube = CUBE + 36 * red + 6 * green + blue;
    let grey = (0..24_u8).min_by_key(|at| distance(wanted, [8 + 10 * at; 3])).unwrap_or(0);
    let cube_colour = [red, green, blue].map(|at| STEPS[usize::from(at)]);
    if distance(wanted, [8 + 10 * grey; 3]) < distance(wanted, cube_colour) { GREYS + grey } else { in_cube }
}

fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.into_iter().zip(other).map(|(one, other)| u32::from(one.abs_diff(other)).pow(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 128]));
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
        bytes
    }

    /// The header that says how large it is.
    fn says(mut jpeg: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
        let begins = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
        jpeg[begins + 5..begins + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[begins + 7..begins + 9].copy_from_slice(&width.to_be_bytes());
        jpeg
    }

    #[test]
    fn what_is_no_thumbnail_is_refused_before_it_takes_memory() {
        let size = |jpeg: &[u8]| decode(jpeg).map(|picture| picture.dimensions());
        assert_eq!(size(&jpeg(200, 150)), Some((200, 150)));
        assert_eq!(size(&jpeg(201, 10)), None, "wider than a thumbnail is");
        assert_eq!(size(&jpeg(10, 201)), None, "higher than that");
        assert_eq!(size(&says(jpeg(16, 16), 65_535, 65_535)), None, "it says that it is huge");
        assert_eq!(size(&says(jpeg(16, 16), 0, 16)), None);
        for other in [&b""[..], b"\x89PNG\r\n\x1a\n", b"\x1b]0;title\x07", &[0xff, 0xd8, 0xff]] {
            assert_eq!(size(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_damaged_thumbnail_is_none_or_a_picture_and_never_a_panic() {
        let whole = jpeg(40, 30);
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if let Some(picture) = decode(&bytes) {
                assert!(picture.width() <= SIDE_MAX && picture.height() <= SIDE_MAX, "round {round}");
                cells(&picture, Colours::All);
            }
        }
    }

    #[test]
    fn two_pixels_one_above_the_other_are_a_cell() {
        let mut picture = RgbImage::new(2, 3);
        picture.put_pixel(0, 0, Rgb([255, 0, 0]));
        picture.put_pixel(0, 1, Rgb([0, 255, 0]));
        picture.put_pixel(1, 2, Rgb([0, 0, 255]));
        let lines = cells(&picture, Colours::All);
        let styles = |at: usize| lines[at].spans.iter().map(|span| (span.style.fg, span.style.bg));
        let (red, green) = (Some(Color::Rgb(255, 0, 0)), Some(Color::Rgb(0, 255, 0)));
        let (blue, black) = (Some(Color::Rgb(0, 0, 255)), Some(Color::Rgb(0, 0, 0)));
        assert_eq!(styles(0).collect::<Vec<_>>(), [(red, green), (black, black)]);
        assert_eq!(
            styles(1).collect::<Vec<_>>(),
            [(black, None), (blue, None)],
            "an odd row has no lower half"
        );
        assert!(lines.iter().flat_map(|line| &line.spans).all(|span| span.content == "▀"));
    }

    #[test]
    fn a_picture_keeps_its_form_and_fits() {
        let check = |size, cells| assert_eq!(fitting(size), cells, "{size:?}");
        check((200, 200), (20, 20));
        check((200, 100), (32, 16));
        check((200, 1), (32, 1));
        check((1, 200), (1, 20));
        check((10, 12), (10, 12));
    }

    #[test]
    fn of_256_colours_the_nearest_is_taken() {
        let check = |wanted, index| assert_eq!(nearest(wanted), index, "{wanted:?}");
        check([0, 0, 0], 16);
        check([255, 255, 255], 231);
        check([255, 0, 0], 196);
        check([95, 135, 175], 67);
        check([128, 128, 128], 244);
        check([9, 8, 7], 232);
    }
}
