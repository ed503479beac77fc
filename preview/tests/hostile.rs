//! A file that somebody has made to do harm does more than go without a preview.

mod common;

use std::sync::Arc;

use common::pictures::{encoded, gif, quarters, waves, webp, with_exif};
use common::{bombs, file_of, pdf, preview_of, previews, voice};
use image::ImageFormat;
use tern_preview::{How, Limits, Malformed, Preview, PreviewError, Previews, TooLarge};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Truncations and mutations of each file: `TERN_PREVIEW_ROUNDS` says otherwise.
const ROUNDS: usize = 80;

/// Where the mutations begin: `TERN_SEED` says otherwise.
const SEED: u64 = 7;

/// A whole file of each kind, with its type.
fn whole() -> Vec<(&'static str, Vec<u8>)> {
    let (picture, frames) = (waves(90, 60), [quarters(50, 40), waves(50, 40)]);
    vec![
        ("image/jpeg", with_exif(&encoded(picture.clone(), ImageFormat::Jpeg), 6)),
        ("image/png", encoded(picture.clone(), ImageFormat::Png)),
        ("image/gif", gif(&frames)),
        ("image/webp", encoded(picture, ImageFormat::WebP)),
        ("image/webp", webp(&frames)),
        ("audio/ogg", voice::note(&[0.3], 1)),
        ("application/pdf", pdf::letter()),
    ]
}

fn environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The bytes with some of them changed, of all the ways in which files are damaged.
fn mutated(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.choice([0, 1, 0x7f, 0x80, 0xff]).expect("there are some"),
            2 => bytes[at] = random.u8(..),
            3 => drop(bytes.drain(at..(at + random.usize(..16)).min(bytes.len() - 1).max(at))),
            _ => {
                let piece = bytes[at..(at + random.usize(..32)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Tries all of these files, and gives those of which the process died, each with what it was.
async fn died(files: Vec<(&'static str, String, Vec<u8>)>) -> Vec<String> {
    let previews = Arc::new(previews(Limits::default()));
    // As many as may have a process or wait: each has an open file.
    let places = Arc::new(Semaphore::new(Limits::default().waiting_max));
    let mut making = JoinSet::new();
    for (of, what, bytes) in files {
        let (previews, places) = (previews.clone(), places.clone());
        making.spawn(async move {
            let _place = places.acquire().await.expect("nobody closes it");
            match previews.make(of, file_of(&bytes)).await {
                Ok(_)
                | Err(PreviewError::Unsupported | PreviewError::Malformed(_) | PreviewError::TooLarge(_)) => {
                    None
                }
                Err(error) => Some(format!("{of}, {what}: {error:?}")),
            }
        });
    }
    let died = making.join_all().await.into_iter().flatten().collect();
    assert_makes_the_next(&previews).await;
    died
}

async fn assert_makes_the_next(previews: &Previews) {
    let good = encoded(waves(30, 20), ImageFormat::Png);
    let preview = previews.make("image/png", file_of(&good)).await.expect("it is a picture");
    assert_eq!((preview.width, preview.height), (Some(30), Some(20)));
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_or_shown_as_far_as_it_is_there() {
    let rounds = environment("TERN_PREVIEW_ROUNDS", ROUNDS);
    let files = whole().into_iter().flat_map(|(of, bytes)| {
        (0..rounds).map(move |round| {
            let length = bytes.len() * round / rounds;
            (of, format!("{length} bytes"), bytes[..length].to_vec())
        })
    });
    assert_eq!(died(files.collect()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_file_kills_at_most_its_own_process() {
    let (rounds, seed) = (environment("TERN_PREVIEW_ROUNDS", ROUNDS) as u64, environment("TERN_SEED", SEED));
    let mut files = Vec::new();
    for (of, bytes) in whole() {
        for round in 0..rounds {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(round);
            files.push((of, format!("seed {seed}"), mutated(&bytes, &mut fastrand::Rng::with_seed(seed))));
        }
    }
    // A decoder that panics is one with a fault, not one that got away.
    let died = died(files).await;
    let got_away: Vec<_> =
        died.iter().filter(|died| !died.contains(&format!("{:?}", How::Panicked))).collect();
    assert!(got_away.is_empty(), "TERN_SEED={seed}: {got_away:#?}");
}

#[tokio::test]
async fn damaged_packets_are_as_good_as_lost() {
    let mut random = fastrand::Rng::with_seed(environment("TERN_SEED", SEED));
    let files = (0..environment("TERN_PREVIEW_ROUNDS", ROUNDS)).map(|round| {
        let packets: Vec<Vec<u8>> = (0..40)
            .map(|_| std::iter::repeat_with(|| random.u8(..)).take(round % 40 + 1).collect())
            .collect();
        let bytes = voice::of_packets(packets.iter().map(|packet| (packet.as_slice(), 960)));
        ("audio/ogg", format!("round {round}"), bytes)
    });
    assert_eq!(died(files.collect()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_picture_that_says_it_is_huge_is_not_decoded() {
    let jpeg = encoded(waves(64, 64), ImageFormat::Jpeg);
    for (of, what, bytes) in [
        ("image/png", "65535 x 65535, and none of it", bombs::png(65_535, 65_535, &[(b"IDAT", &[])])),
        ("image/png", "a side of 70000", bombs::png(70_000, 1, &[(b"IDAT", &[])])),
        ("image/png", "30000 x 30000, and all of it", bombs::black_png(30_000, 30_000)),
        ("image/gif", "a screen of 65535 x 65535", bombs::gif(65_535, 1)),
        ("image/jpeg", "65535 x 65535", bombs::jpeg_of_size(&jpeg, 65_535, 65_535)),
    ] {
        let refused = preview_of(of, &bytes).await;
        assert!(
            matches!(refused, Err(PreviewError::TooLarge(TooLarge::Pixels))),
            "{of}, {what}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_picture_that_takes_much_memory_is_refused_for_that() {
    let large = bombs::black_png(20_000, 20_000);
    let limits = Limits { pixels_max: u64::MAX, memory_bytes_max: 128 << 20, ..Limits::default() };
    let previews = previews(limits);
    let refused = previews.make("image/png", file_of(&large)).await;
    assert!(matches!(refused, Err(PreviewError::TooLarge(TooLarge::Memory))), "{refused:?}");
    // A small screen, and a picture on it that is not.
    let refused = previews.make("image/gif", file_of(&bombs::gif(9, 65_535))).await;
    let is_refused =
        matches!(refused, Err(PreviewError::TooLarge(TooLarge::Memory) | PreviewError::Malformed(_)));
    assert!(is_refused, "{refused:?}");
    assert_makes_the_next(&previews).await;
}

#[tokio::test]
async fn what_a_picture_says_beside_its_pixels_is_not_unpacked() {
    let text = [b"Comment\0\0".as_slice(), &bombs::zeros(1 << 30)].concat();
    let bytes = bombs::png(1, 1, &[(b"zTXt", &text), (b"iCCP", &text), (b"IDAT", &bombs::zeros(2))]);
    let ended = preview_of("image/png", &bytes).await;
    assert!(matches!(ended, Ok(_) | Err(PreviewError::TooLarge(TooLarge::Memory))), "{ended:?}");
}

#[tokio::test]
async fn a_recording_is_not_longer_than_its_packets_whatever_it_says() {
    // Silence of 20 ms each, but for the 312 samples at the beginning that are the encoder's.
    let packets = [[0xf8_u8, 0xff, 0xfe]; 100];
    let bytes = voice::of_packets(packets.iter().map(|packet| (packet.as_slice(), 960)));
    for (granule, expect) in [(i64::MAX, 1_993), (i64::MIN, 1_993), (48_312, 1_000)] {
        let preview = preview_of("audio/ogg", &voice::that_ends_at(bytes.clone(), granule)).await;
        assert_eq!(preview.expect("it is a recording").duration_ms, Some(expect), "{granule}");
    }
    let nothing = preview_of("audio/ogg", &voice::of_packets([])).await;
    assert!(matches!(nothing, Err(PreviewError::Malformed(Malformed::Nothing))), "{nothing:?}");
}

#[tokio::test]
async fn a_document_that_goes_round_or_unpacks_for_ever_ends() {
    let catalogue = b"<</Type/Catalog/Pages 2 0 R>>".as_slice();
    let loops = pdf::pdf(
        &[
            catalogue,
            b"<</Type/Pages/Kids[2 0 R 3 0 R]/Count 2/Parent 3 0 R>>",
            b"<</Type/Pages/Kids[2 0 R 3 0 R]/Count 9/Parent 2 0 R>>",
        ],
        "",
    );
    let itself = pdf::pdf(&[b"1 0 R", b"3 0 R", b"2 0 R"], "/Prev 9");
    let nested = [b"<</Type/Catalog/Pages ".as_slice(), &b"[".repeat(200_000)].concat();
    let stream = pdf::deflated("/Type/ObjStm/N 1/First 4/Filter/FlateDecode", &bombs::zeros(1 << 30));
    let bomb = pdf::pdf(&[catalogue, &stream], "/Prev 0");
    let many =
        [b"<</Type/Pages/Count 1000000/Kids[".as_slice(), &b"3 0 R ".repeat(1_000_000), b"]>>"].concat();
    let many = pdf::pdf(&[catalogue, &many, b"<</Type/Page/MediaBox[0 0 1e38 nan]>>"], "");
    for (what, bytes) in [
        ("a tree of pages that goes round", loops),
        ("an object that is itself", itself),
        ("arrays in arrays", pdf::pdf(&[&nested], "")),
        ("a stream of a GiB", bomb),
        ("a page a million times", many),
    ] {
        match preview_of("application/pdf", &bytes).await {
            Ok(Preview { width, pages, .. }) => {
                assert!(pages <= Some(1_000_000), "{what}: {width:?} {pages:?}")
            }
            Err(PreviewError::Malformed(_) | PreviewError::TooLarge(_) | PreviewError::TimedOut) => {}
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_document_that_unpacks_to_more_than_memory_takes_is_refused_for_that() {
    // What says where objects are, which must be unpacked before anything else is known.
    let table =
        pdf::deflated("/Type/XRef/Size 9/W[1 4 2]/Root 1 0 R/Filter/FlateDecode", &bombs::zeros(1 << 30));
    let head = b"%PDF-1.7\n".as_slice();
    let end = format!("\nendobj\nstartxref\n{}\n%%EOF\n", head.len());
    let bytes = [head, b"1 0 obj\n", &table, end.as_bytes()].concat();
    let refused = preview_of("application/pdf", &bytes).await;
    assert!(matches!(refused, Err(PreviewError::TooLarge(TooLarge::Memory))), "{refused:?}");
}
