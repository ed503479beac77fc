//! A small picture of a large one.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, Rgba};

use crate::limits::{THUMBNAIL_BYTES_MAX, THUMBNAIL_SIDE_PX};

/// The qualities in which a thumbnail is encoded, until one is small enough.
const QUALITIES: [u8; 4] = [80, 65, 50, 35];

/// How many times larger than the thumbnail the picture is that it is resized from. Averages of whole pixels make that of what is
/// larger: a pass over the pixels and no more memory, while a filter would take 16 bytes for each pixel of a row of strips.
const OVERSAMPLED: u32 = 3;

/// Pixels of the longer side of the picture of which the BlurHash is made: it has waves of at most four to a side.
const BLUR_SIDE_PX: u32 = 32;

/// See the module.
pub(super) struct Thumbnail {
    pub(super) jpeg: Vec<u8>,
    pub(super) blur_hash: String,
}

/// The thumbnail of a picture that is to be turned so.
pub(super) fn of(image: DynamicImage, orientation: Orientation) -> Thumbnail {
    let mut small = shrink(over_white(image));
    small.apply_orientation(orientation);
    let small = small.into_rgb8();
    Thumbnail { blur_hash: blur_hash(&small), jpeg: encode(small) }
}

/// A picture without transparency: before it is made smaller, or colours that nobody can see would be mixed into others.
fn over_white(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let mut image = image.into_rgba8();
    for Rgba([r, g, b, alpha]) in image.pixels_mut() {
        let over = |channel: u8| {
            let sum = u32::from(channel) * u32::from(*alpha) + 255 * (255 - u32::from(*alpha));
            // Of at most 255 * 255.
            ((sum + 127) / 255) as u8
        };
        (*r, *g, *b) = (over(*r), over(*g), over(*b));
        *alpha = 255;
    }
    image.into()
}

fn shrink(image: DynamicImage) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    let (to_width, to_height) = fit(width, height, THUMBNAIL_SIDE_PX);
    if (to_width, to_height) == (width, height) {
        return image;
    }
    let between = (to_width * OVERSAMPLED, to_height * OVERSAMPLED);
    let image = if between.0 < width && between.1 < height {
        image.thumbnail_exact(between.0, between.1)
    } else {
        image
    };
    image.resize_exact(to_width, to_height, FilterType::CatmullRom)
}

/// The size of a picture that fits into a square, keeps its proportions, and is not enlarged.
fn fit(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= side {
        return (width, height);
    }
    let scaled = |of: u32| {
        let rounded = (u64::from(of) * u64::from(side) + u64::from(longer) / 2) / u64::from(longer);
        u32::try_from(rounded).expect("it is at most the side").max(1)
    };
    (scaled(width), scaled(height))
}

/// A JPEG of at most [`THUMBNAIL_BYTES_MAX`] bytes: the best one of those that there are.
fn encode(mut image: RgbImage) -> Vec<u8> {
    loop {
        for quality in QUALITIES {
            let mut jpeg = Vec::with_capacity(THUMBNAIL_BYTES_MAX);
            JpegEncoder::new_with_quality(&mut jpeg, quality)
                .encode_image(&image)
                .expect("it is small, and memory takes it");
            if jpeg.len() <= THUMBNAIL_BYTES_MAX {
                return jpeg;
            }
        }
        // It ends: a JPEG of a single pixel has well under a KiB.
        let (width, height) = fit(image.width(), image.height(), image.width().max(image.height()) * 3 / 4);
        image = resize(&image, width, height, FilterType::CatmullRom);
    }
}

fn blur_hash(image: &RgbImage) -> String {
    let (width, height) = fit(image.width(), image.height(), BLUR_SIDE_PX);
    let small = DynamicImage::from(resize(image, width, height, FilterType::Triangle)).into_rgba8();
    let (across, down) = if height > width { (3, 4) } else { (4, 3) };
    blurhash::encode(across, down, width, height, &small)
        .expect("there are as many components as it can have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_keeps_its_proportions_and_is_not_enlarged() {
        for (size, expect) in [
            ((1, 1), (1, 1)),
            ((200, 200), (200, 200)),
            ((4_000, 3_000), (200, 150)),
            ((3_000, 4_000), (150, 200)),
            ((201, 200), (200, 199)),
            ((65_535, 1), (200, 1)),
            ((1, 65_535), (1, 200)),
        ] {
            assert_eq!(fit(size.0, size.1, THUMBNAIL_SIDE_PX), expect, "{size:?}");
        }
    }

    #[test]
    fn a_thumbnail_of_noise_is_small_too() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise = RgbImage::from_fn(300, 300, |_, _| image::Rgb([0; 3].map(|_: u8| random.u8(..))));
        let jpeg = of(noise.into(), Orientation::NoTransforms).jpeg;
        assert!(jpeg.len() <= THUMBNAIL_BYTES_MAX, "{}", jpeg.len());
    }
}
