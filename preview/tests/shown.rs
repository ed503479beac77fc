//! A preview that shows something else than the medium, or more than is to be seen of it.

mod common;

use common::pictures::{
    BLUE, GREEN, RED, SECRET, WHITE, encoded, gif, half_transparent, quarters, waves, webp, with_exif,
};
use common::{pdf, preview_of, voice};
use image::{ImageFormat, RgbImage};
use tern_preview::limits::{THUMBNAIL_BYTES_MAX, THUMBNAIL_SIDE_PX, WAVE_PARTS};
use tern_preview::{Malformed, Preview, PreviewError};

/// The thumbnail, decoded, which is a JPEG of at most the size that it may have, and of nothing else.
fn thumbnail(preview: &Preview) -> RgbImage {
    assert!(preview.thumbnail.len() <= THUMBNAIL_BYTES_MAX);
    let image = image::load_from_memory_with_format(&preview.thumbnail, ImageFormat::Jpeg)
        .expect("it is a JPEG")
        .into_rgb8();
    assert!(image.width().max(image.height()) <= THUMBNAIL_SIDE_PX);
    image
}

/// The colours in the corners: above on the left and on the right, and below.
fn corners(image: &RgbImage) -> [[u8; 3]; 4] {
    let (right, below) = (image.width() - 3, image.height() - 3);
    [(2, 2), (right, 2), (2, below), (right, below)].map(|(x, y)| image.get_pixel(x, y).0)
}

fn assert_alike(colours: [[u8; 3]; 4], expect: [[u8; 3]; 4], what: &str) {
    let differs = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 12;
    let are_alike = !colours.as_flattened().iter().zip(expect.as_flattened()).any(differs);
    assert!(are_alike, "{what}: {colours:?} is not {expect:?}");
}

#[tokio::test]
async fn each_kind_of_picture_has_its_size_and_looks_as_it_does() {
    let quarters = quarters(640, 480);
    for (of, bytes) in [
        ("image/jpeg", encoded(quarters.clone(), ImageFormat::Jpeg)),
        ("IMAGE/PNG; x=y", encoded(quarters.clone(), ImageFormat::Png)),
        ("image/gif", encoded(quarters.clone(), ImageFormat::Gif)),
        ("image/webp", encoded(quarters.clone(), ImageFormat::WebP)),
    ] {
        let preview = preview_of(of, &bytes).await.unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!((preview.width, preview.height), (Some(640), Some(480)), "{of}");
        assert_eq!((preview.duration_ms, preview.pages, preview.wave.len()), (None, None, 0), "{of}");
        let small = thumbnail(&preview);
        assert_eq!(small.dimensions(), (200, 150), "{of}");
        assert_alike(corners(&small), [RED, GREEN, BLUE, WHITE], of);
        // A size of 4 by 3 components, and what they take.
        assert!(preview.blur_hash.starts_with('L') && preview.blur_hash.len() == 28, "{}", preview.blur_hash);
    }
}

#[tokio::test]
async fn a_picture_of_any_depth_is_shown() {
    let waves = image::DynamicImage::from(waves(300, 200));
    for image in [
        waves.to_luma8().into(),
        waves.to_luma_alpha8().into(),
        waves.to_luma16().into(),
        waves.to_luma_alpha16().into(),
        waves.to_rgb16().into(),
        waves.to_rgba16().into(),
    ] {
        let image: image::DynamicImage = image;
        let color = image.color();
        let preview = preview_of("image/png", &encoded(image, ImageFormat::Png)).await;
        let preview = preview.unwrap_or_else(|error| panic!("{color:?}: {error}"));
        assert_eq!(thumbnail(&preview).dimensions(), (200, 133), "{color:?}");
    }
}

#[tokio::test]
async fn a_picture_is_turned_as_its_camera_says() {
    let jpeg = encoded(quarters(600, 400), ImageFormat::Jpeg);
    for (orientation, is_turned, expect) in [
        (1, false, [RED, GREEN, BLUE, WHITE]),
        (2, false, [GREEN, RED, WHITE, BLUE]),
        (3, false, [WHITE, BLUE, GREEN, RED]),
        (4, false, [BLUE, WHITE, RED, GREEN]),
        (5, true, [RED, BLUE, GREEN, WHITE]),
        (6, true, [BLUE, RED, WHITE, GREEN]),
        (7, true, [WHITE, GREEN, BLUE, RED]),
        (8, true, [GREEN, WHITE, RED, BLUE]),
        // There are no others.
        (9, false, [RED, GREEN, BLUE, WHITE]),
    ] {
        let what = format!("orientation {orientation}");
        let preview =
            preview_of("image/jpeg", &with_exif(&jpeg, orientation)).await.expect("it is a picture");
        let size = if is_turned { (Some(400), Some(600)) } else { (Some(600), Some(400)) };
        assert_eq!((preview.width, preview.height), size, "{what}");
        let small = thumbnail(&preview);
        assert_eq!(small.dimensions(), if is_turned { (133, 200) } else { (200, 133) }, "{what}");
        assert_alike(corners(&small), expect, &what);
    }
}

#[tokio::test]
async fn nobody_learns_where_a_picture_was_taken() {
    let jpeg = with_exif(&encoded(waves(300, 300), ImageFormat::Jpeg), 1);
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(has(&jpeg, SECRET) && has(&jpeg, b"Exif"));
    let thumbnail = preview_of("image/jpeg", &jpeg).await.expect("it is a picture").thumbnail;
    assert!(!has(&thumbnail, SECRET) && !has(&thumbnail, b"Exif"));
    // No segment of an application, but for that of JFIF, and no comment.
    let segments = thumbnail.windows(2).filter(|marker| matches!(marker, [0xff, 0xe1..=0xef | 0xfe])).count();
    assert_eq!(segments, 0);
}

#[tokio::test]
async fn what_is_transparent_is_white_and_what_can_not_be_seen_is_not_mixed_in() {
    for size in [64, 640] {
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let bytes = encoded(half_transparent(size, size), format);
            let preview = preview_of(format.to_mime_type(), &bytes).await.expect("it is a picture");
            let small = thumbnail(&preview);
            assert_alike(corners(&small), [[255; 3], RED, [255; 3], RED], "half of it");
            // Black would be darker than either half.
            assert!(small.pixels().all(|pixel| pixel.0[0] > 200), "{size} px of {format:?}");
        }
    }
}

#[tokio::test]
async fn of_what_moves_the_first_frame_is_shown() {
    let (first, second) = (quarters(320, 240), RgbImage::from_pixel(320, 240, image::Rgb([0; 3])));
    let frames = [first, second.clone(), second];
    for (of, bytes) in [("image/gif", gif(&frames)), ("image/webp", webp(&frames))] {
        let preview = preview_of(of, &bytes).await.unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!((preview.width, preview.height), (Some(320), Some(240)), "{of}");
        assert_alike(corners(&thumbnail(&preview)), [RED, GREEN, BLUE, WHITE], of);
    }
}

#[tokio::test]
async fn a_small_picture_is_not_enlarged_and_a_long_one_keeps_a_pixel() {
    for (size, expect) in [((7, 9), (7, 9)), ((1, 1), (1, 1)), ((4_000, 2), (200, 1)), ((2, 4_000), (1, 200))]
    {
        let bytes = encoded(waves(size.0, size.1), ImageFormat::Png);
        let preview = preview_of("image/png", &bytes).await.expect("it is a picture");
        assert_eq!(thumbnail(&preview).dimensions(), expect, "{size:?}");
    }
}

#[tokio::test]
async fn a_voice_note_has_its_length_and_is_as_loud_as_it_sounds() {
    for channels in [1, 2] {
        let preview =
            preview_of("audio/ogg; codecs=opus", &voice::note(&[0.0, 0.8, 0.4, 0.0], channels)).await;
        let preview = preview.expect("it is a voice note");
        assert_eq!(preview.duration_ms, Some(4_000));
        assert_eq!((preview.width, preview.thumbnail.len(), preview.wave.len()), (None, 0, WAVE_PARTS));
        let second = |at: usize| &preview.wave[at * WAVE_PARTS / 4 + 2..(at + 1) * WAVE_PARTS / 4 - 2];
        let within = |at: usize, range: std::ops::RangeInclusive<u8>| {
            assert!(second(at).iter().all(|part| range.contains(part)), "second {at}: {:?}", preview.wave);
        };
        within(0, 0..=3);
        within(1, 200..=255);
        within(2, 90..=160);
        within(3, 0..=3);
    }
}

#[tokio::test]
async fn silence_is_silent() {
    let preview = preview_of("audio/ogg", &voice::note(&[0.0], 1)).await.expect("it is a voice note");
    assert_eq!((preview.duration_ms, preview.wave), (Some(1_000), vec![0; WAVE_PARTS]));
}

#[tokio::test]
async fn a_document_has_its_pages_and_the_size_of_the_first() {
    let preview = preview_of("application/pdf", &pdf::letter()).await.expect("it is a document");
    let expect = Preview { width: Some(792), height: Some(612), pages: Some(2), ..Preview::default() };
    assert_eq!(preview, expect);
}

#[tokio::test]
async fn of_an_encrypted_document_nothing_is_said() {
    let nobody_knows = "00".repeat(32);
    let encrypt = format!(
        "/ID[<00><00>]/Encrypt<</Filter/Standard/V 2/R 3/Length 128/P -1/O<{nobody_knows}>/U<{nobody_knows}>>>"
    );
    let bytes = pdf::pdf(
        &[
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 612 792]>>",
            b"<</Type/Page/Parent 2 0 R>>",
        ],
        &encrypt,
    );
    assert_eq!(preview_of("application/pdf", &bytes).await.expect("it is a document"), Preview::default());
}

#[tokio::test]
async fn what_is_of_another_type_is_refused() {
    let png = encoded(waves(9, 9), ImageFormat::Png);
    for of in ["image/jpeg", "image/gif", "image/webp", "audio/ogg", "application/pdf"] {
        let refused = preview_of(of, &png).await;
        assert!(matches!(refused, Err(PreviewError::Malformed(Malformed::Head))), "{of}: {refused:?}");
    }
    for of in ["image/svg+xml", "video/mp4", "text/plain", "--check", ""] {
        let refused = preview_of(of, &png).await;
        assert!(matches!(refused, Err(PreviewError::Unsupported)), "{of}: {refused:?}");
    }
    // Vorbis in Ogg.
    let vorbis = voice::note(&[0.1], 1);
    let at = vorbis.windows(8).position(|window| window == b"OpusHead").expect("it has one");
    let vorbis = [&vorbis[..at], b"\x01vorbis\0", &vorbis[at + 8..]].concat();
    let refused = preview_of("audio/ogg", &vorbis).await;
    assert!(matches!(refused, Err(PreviewError::Unsupported)), "{refused:?}");
}
