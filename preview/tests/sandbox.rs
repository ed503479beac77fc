//! Code that hostile bytes have taken over gets out of its process, or takes the server with it.

mod common;

use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::pictures::{encoded, waves};
use common::{file_of, previews};
use image::ImageFormat;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tern_preview::{CheckError, How, Limits, PreviewError, Previews, TooLarge};

/// What does it: the example `escape`, which `cargo test` builds beside the tests.
fn escape() -> PathBuf {
    let test = std::env::current_exe().expect("it runs");
    let folder = test.parent().and_then(Path::parent).expect("a test is in deps/");
    let program = folder.join("examples/escape");
    assert!(program.exists(), "cargo build -p tern-preview --example escape");
    program
}

/// How a process ends that is told to do this.
async fn ends(what: &str, limits: &Limits) -> PreviewError {
    let previews = Previews::new(escape(), limits.clone());
    let ended = previews.make("image/png", file_of(what.as_bytes())).await;
    ended.expect_err("it makes no previews")
}

/// The usual limits, but for a second of computing.
fn limits() -> Limits {
    Limits { cpu_time: Duration::from_secs(1), wall_timeout: Duration::from_secs(60), ..Limits::default() }
}

#[tokio::test]
async fn what_it_may_not_do_kills_it() {
    for what in [
        "open",
        "write",
        "read another",
        "socket",
        "fork",
        "exec",
        "thread",
        "kill",
        "kill itself",
        "sleep",
        "unlink",
        "limits",
    ] {
        let ended = ends(what, &limits()).await;
        assert!(matches!(ended, PreviewError::Died { how: How::Forbidden }), "{what}: {ended:?}");
    }
    // That a process which does nothing of it ends by itself: the others were not killed for something else.
    let ended = ends("nothing", &limits()).await;
    assert!(matches!(ended, PreviewError::Died { how: How::Exit(77) }), "{ended:?}");
}

#[tokio::test]
async fn it_gets_no_more_memory_than_it_may() {
    for what in ["memory", "pieces of memory", "stack", "abort"] {
        let ended = ends(what, &limits()).await;
        assert!(matches!(ended, PreviewError::TooLarge(TooLarge::Memory)), "{what}: {ended:?}");
    }
}

#[tokio::test]
async fn it_does_not_compute_for_ever() {
    let ended = ends("loop", &limits()).await;
    assert!(matches!(ended, PreviewError::TooLarge(TooLarge::Computing)), "{ended:?}");
}

#[tokio::test]
async fn its_answer_is_bounded_and_nonsense_is_none() {
    let ended = ends("flood", &limits()).await;
    assert!(matches!(ended, PreviewError::Died { how: How::Answer }), "{ended:?}");
    let ended = ends("nonsense", &limits()).await;
    assert!(matches!(ended, PreviewError::Died { how: How::Exit(77) }), "{ended:?}");
}

#[tokio::test]
async fn a_fault_of_one_is_none_of_the_next() {
    let previews = previews(Limits::default());
    let good = encoded(waves(30, 20), ImageFormat::Png);
    let dying = Previews::new(escape(), limits());
    for what in ["open", "panic", "abort"] {
        assert!(dying.make("image/png", file_of(what.as_bytes())).await.is_err(), "{what}");
        let preview = previews.make("image/png", file_of(&good)).await.expect("it is a picture");
        assert_eq!((preview.width, preview.height), (Some(30), Some(20)));
    }
}

/// Forbids this thread, and what it starts, to lock itself in: as a container may, or an older systemd.
fn forbid_seccomp() {
    let rules = std::iter::once((libc::SYS_seccomp, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().expect("tern runs on it");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).expect("it is a filter");
    let filter: BpfProgram = filter.try_into().expect("it is short");
    seccompiler::apply_filter(&filter).expect("the kernel has seccomp");
}

#[test]
fn a_program_that_can_not_be_locked_in_reads_nothing() {
    let mut file = file_of(&encoded(waves(9, 9), ImageFormat::Png));
    let read = file.try_clone().expect("there are descriptors");
    // A thread of its own, which ends with what it may not.
    let made = std::thread::spawn(|| {
        forbid_seccomp();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be had");
        runtime.block_on(previews(Limits::default()).make("image/png", read))
    });
    let made = made.join().expect("it does not panic");
    assert!(matches!(made, Err(PreviewError::NoSandbox)), "{made:?}");
    // The process had this very file, and where it is read is one for both.
    assert_eq!(file.stream_position().expect("it is a file"), 0);
}

#[tokio::test]
async fn a_server_knows_at_its_start_whether_the_program_works() {
    previews(Limits::default()).check().await.expect("it works");
    let checked = |program: &str| {
        let previews = Previews::new(program.into(), Limits::default());
        async move { previews.check().await }
    };
    let checked_without = checked("/nowhere/tern-preview").await;
    assert!(
        matches!(checked_without, Err(CheckError::Preview(PreviewError::Failed(_)))),
        "{checked_without:?}"
    );
    // Another program.
    let checked_true = checked("/bin/true").await;
    assert!(matches!(checked_true, Err(CheckError::Wrong)), "{checked_true:?}");
    // One that can't be locked in: it has no memory to begin with.
    let tight = Limits { memory_bytes_max: 1 << 10, ..Limits::default() };
    assert!(previews(tight).check().await.is_err());
}
