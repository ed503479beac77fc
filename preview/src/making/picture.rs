//! Of pictures: JPEG, PNG, GIF and WebP. Their size is known before a pixel is decoded, and decides whether one is.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use crate::limits::{Limits, SIDE_PX_MAX};
use crate::making::thumbnail;
use crate::preview::{Malformed, Preview, Refusal, TooLarge};

/// See [`preview_of`](crate::preview_of).
pub(super) fn preview_of(format: ImageFormat, bytes: &[u8], limits: &Limits) -> Result<Preview, Refusal> {
    let memory = limits.decoder_bytes_max(bytes.len());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut of_decoder = image::Limits::no_limits();
    of_decoder.max_alloc = Some(memory);
    reader.limits(of_decoder);
    let mut decoder = reader.into_decoder().map_err(|error| refusal(&error, Malformed::Head))?;
    let (width, height) = decoder.dimensions();
    check_size(&decoder, memory, limits)?;
    // What says it may be damaged, and the picture not.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| refusal(&error, Malformed::Body))?;
    let thumbnail = thumbnail::of(image, orientation);
    let (width, height) = if is_turned(orientation) { (height, width) } else { (width, height) };
    Ok(Preview {
        width: Some(width),
        height: Some(height),
        thumbnail: thumbnail.jpeg,
        blur_hash: thumbnail.blur_hash,
        ..Preview::default()
    })
}

/// Whether a picture may be decoded.
fn check_size(decoder: &impl ImageDecoder, memory: u64, limits: &Limits) -> Result<(), Refusal> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Refusal::Malformed(Malformed::Nothing));
    }
    if width.max(height) > SIDE_PX_MAX || pixels > limits.pixels_max {
        return Err(Refusal::TooLarge(TooLarge::Pixels));
    }
    // What is transparent is put over white in eight bits a channel: of any other kind, that is a copy.
    let copied = match decoder.color_type() {
        ColorType::L8 | ColorType::L16 | ColorType::Rgb8 | ColorType::Rgb16 | ColorType::Rgba8 => 0,
        _ => pixels.saturating_mul(4),
    };
    if decoder.total_bytes().saturating_add(copied) > memory {
        return Err(Refusal::TooLarge(TooLarge::Memory));
    }
    Ok(())
}

/// Whether width and height change places.
fn is_turned(orientation: Orientation) -> bool {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => true,
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
    }
}

/// What a decoder's error says of the file. Its text may have content of the file, and goes no further.
fn refusal(error: &ImageError, malformed: Malformed) -> Refusal {
    match error {
        ImageError::Limits(_) => Refusal::TooLarge(TooLarge::Memory),
        ImageError::Unsupported(_) => Refusal::Unsupported,
        _ => Refusal::Malformed(malformed),
    }
}
