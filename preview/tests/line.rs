//! A file that takes for ever keeps others from their previews, or a line that nobody bounds grows.

mod common;

use std::fs::File;
use std::io::{PipeWriter, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::time::Duration;

use common::pictures::{encoded, waves};
use common::{file_of, previews};
use image::ImageFormat;
use tern_preview::{Limits, PreviewError, TooLarge};

/// A file of which the rest does not come before somebody writes it.
fn hanging() -> (File, PipeWriter) {
    let (reader, writer) = pipe().expect("there are descriptors");
    (File::from(OwnedFd::from(reader)), writer)
}

#[tokio::test]
async fn a_file_that_hangs_is_killed_and_the_next_one_made() {
    let limits = Limits { wall_timeout: Duration::from_millis(200), processes_max: 1, ..Limits::default() };
    let (file, writer) = hanging();
    let ended = previews(limits).make("image/png", file).await;
    assert!(matches!(ended, Err(PreviewError::TimedOut)), "{ended:?}");
    // It is no more: nobody reads of the pipe.
    let error = (&writer).write_all(&[0]).expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn who_does_not_wait_for_a_preview_ends_its_process() {
    let (file, mut writer) = hanging();
    let previews = previews(Limits { processes_max: 1, waiting_max: 0, ..Limits::default() });
    {
        let making = previews.make("image/png", file);
        let mut making = std::pin::pin!(making);
        // Once: the process begins.
        tokio::select! {
            biased;
            ended = &mut making => panic!("it hangs: {ended:?}"),
            () = std::future::ready(()) => {}
        }
    }
    // It is killed: nobody reads of the pipe, which takes as much as it holds at most. Whoever read of it would read more.
    let mut pieces = 0;
    while writer.write_all(&[0; 4_096]).is_ok() {
        pieces += 1;
        assert!(pieces < 1_000, "the process reads");
    }
    let next = previews.make("image/png", file_of(&encoded(waves(9, 9), ImageFormat::Png))).await;
    assert!(next.is_ok(), "{next:?}");
}

#[tokio::test]
async fn a_full_line_says_so_and_who_is_in_it_gets_a_turn() {
    let previews = previews(Limits { processes_max: 1, waiting_max: 1, ..Limits::default() });
    let good = encoded(waves(9, 9), ImageFormat::Png);
    let ((first, mut first_writer), second) = (hanging(), file_of(&good));
    let first = previews.make("image/png", first);
    let second = previews.make("image/png", second);
    let third = async {
        let third = previews.make("image/png", file_of(&good)).await;
        first_writer.write_all(&good).expect("the first one reads");
        drop(first_writer);
        third
    };
    // They begin in this order: the first one has the process, and the second one the place.
    let (first, second, third) = tokio::join!(biased; first, second, third);
    assert!(matches!(third, Err(PreviewError::Busy)), "{third:?}");
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
}

#[tokio::test]
async fn a_file_that_is_too_long_is_not_read() {
    let limits = Limits { file_bytes_max: 1_000, ..Limits::default() };
    let previews = previews(limits);
    let file = file_of(&[]);
    file.set_len(1_001).expect("it is a file");
    let refused = previews.make("image/png", file).await;
    assert!(matches!(refused, Err(PreviewError::TooLarge(TooLarge::Bytes))), "{refused:?}");
    // Of a pipe nobody knows how long it is, before all has come.
    let (file, mut writer) = hanging();
    writer.write_all(&[0; 1_001]).expect("a pipe holds more");
    let refused = previews.make("image/png", file).await;
    assert!(matches!(refused, Err(PreviewError::TooLarge(TooLarge::Bytes))), "{refused:?}");
}
