//! `tern chat` on a pseudo terminal, against the real ternd: what the terminal is told, and what keys and pasted paths do.

mod profiles;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use profiles::Profile;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use tern_testkit::Ternd;

/// How long anything may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// What a terminal answers to what it is asked.
type Answers = &'static [(&'static str, &'static str)];

/// One that knows kitty's protocol, one that knows sixel, and one that never answers.
const KITTY: Answers = &[("\x1b_Gi=31,", "\x1b_Gi=31;OK\x1b\\"), ("\x1b[c", "\x1b[?62;22c"), SIZE, STATUS];
const SIXEL: Answers = &[("\x1b[c", "\x1b[?62;4;22c"), SIZE, STATUS];
const SILENT: Answers = &[];

const SIZE: (&str, &str) = ("\x1b[16t", "\x1b[6;20;10t");
const STATUS: (&str, &str) = ("\x1b[5n", "\x1b[0n");

/// A terminal with a chat on it.
struct Terminal {
    child: Child,
    keys: File,
    pieces: Receiver<Vec<u8>>,
    /// All that it was told.
    told: String,
    answers: Answers,
    /// Up to where it has answered.
    answered: usize,
    /// Up to where a test has looked.
    seen: usize,
}

impl Terminal {
    fn chat(profile: &Profile, arguments: &[&str], variables: &[(&str, &str)], answers: Answers) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is this test's");
        tcsetwinsize(&master, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })
            .expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("text");
        let slave =
            || OwnedFd::from(File::options().read(true).write(true).open(&name).expect("its other end"));
        let mut command = profile.tern(&[&["chat"], arguments].concat());
        for name in ["NO_COLOR", "COLORTERM", "TMUX", "TERM_PROGRAM", "WEZTERM_EXECUTABLE", "KONSOLE_VERSION"]
        {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color").envs(variables.iter().copied());
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("tern runs");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("the same once more");
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            // It ends with an error when nobody has the other end any more.
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                if sender.send(piece[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys, pieces, told: String::new(), answers, answered: 0, seen: 0 }
    }

    /// Waits until it is told something, behind what was waited for before.
    fn until(&mut self, wanted: &str) {
        loop {
            if let Some(at) = self.told[self.seen..].find(wanted) {
                self.seen += at + wanted.len();
                return;
            }
            let piece = self.pieces.recv_timeout(HANG);
            let piece = piece.unwrap_or_else(|_| panic!("{wanted:?} did not come: {:?}", self.told));
            self.told.push_str(&String::from_utf8_lossy(&piece));
            self.answer();
        }
    }

    fn answer(&mut self) {
        let upto = self.answered;
        let mut asked: Vec<_> = self
            .answers
            .iter()
            .flat_map(|(question, answer)| {
                let places = self.told[upto..].match_indices(question);
                places.map(|(at, _)| (upto + at + question.len(), *answer)).collect::<Vec<_>>()
            })
            .collect();
        asked.sort_unstable();
        for (end, answer) in asked {
            self.answered = end;
            self.press(answer);
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
    }

    fn paste(&mut self, text: &str) {
        self.press(&format!("\x1b[200~{text}\x1b[201~"));
    }

    /// Leaves the chat, and gives all that the terminal was told.
    fn leave(mut self) -> String {
        self.press("\x03");
        assert!(self.child.wait().expect("it ends").success(), "{:?}", self.told);
        while let Ok(piece) = self.pieces.recv() {
            self.told.push_str(&String::from_utf8_lossy(&piece));
        }
        std::mem::take(&mut self.told)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves none behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn red_picture(path: &Path) {
    image::RgbImage::from_pixel(320, 240, image::Rgb([200, 10, 10])).save(path).expect("written");
}

/// Who has a chat of two, and messages in it.
fn newest(profile: &Profile, phone: &str) -> (u64, Value) {
    let page = profile.json(&["history", phone, "--json"]).remove(0);
    let head = page["head"].as_u64().expect("a number");
    (head, page["messages"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default())
}

#[test]
fn a_picture_is_shown_as_the_terminal_can_and_not_where_no_colour_is_wanted() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let file = dir.path().join("cat.jpeg");
    red_picture(&file);
    ann.json(&["send", "+15550002", "--file", file.to_str().expect("text"), "--json"]);
    let line = String::from_utf8(bob.run(&["history", "+15550001"]).stdout).expect("text");
    assert!(line.contains("⎙ cat.jpeg (image/jpeg, 320x240, ") && line.contains(" kB)"), "{line}");

    let mut blocks =
        Terminal::chat(&bob, &["+15550001", "--pictures", "blocks"], &[("COLORTERM", "truecolor")], SILENT);
    blocks.until("48;2;200;10;");
    blocks.until("▀");
    assert!(!blocks.leave().contains("\x1b_G"));

    // It does not answer: half blocks of the colours that its name says.
    let mut silent = Terminal::chat(&bob, &["+15550001"], &[], SILENT);
    silent.until("38;5;160");
    silent.until("▀");
    silent.leave();

    let mut kitty = Terminal::chat(&bob, &["+15550001"], &[("COLORTERM", "truecolor")], KITTY);
    kitty.until("\x1b_Gq=2,i=");
    kitty.until("\u{10eeee}");
    assert!(!kitty.leave().contains("▀"));

    let mut sixel = Terminal::chat(&bob, &["+15550001"], &[], SIXEL);
    sixel.until("\x1bP");
    sixel.until("\x1b\\");
    assert!(!sixel.leave().contains("▀"));

    for (arguments, variables) in [
        (&["+15550001"][..], &[("NO_COLOR", "1"), ("COLORTERM", "truecolor")][..]),
        (&["+15550001", "--pictures", "off"], &[("COLORTERM", "truecolor")]),
    ] {
        let mut plain = Terminal::chat(&bob, arguments, variables, KITTY);
        plain.until("cat.jpeg");
        let told = plain.leave();
        assert!(!told.contains("▀") && !told.contains("\x1b_G") && !told.contains("\x1b[c"), "{told:?}");
    }
}

/// A file was on its way to somebody before one had said so: an Enter that was meant for a line.
#[test]
fn a_file_that_is_dropped_is_sent_by_an_enter_that_follows_the_offer_and_by_nothing_else() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let file = dir.path().join("my cat.jpeg");
    red_picture(&file);
    let quoted = format!("'{}' ", file.display());

    let mut chat = Terminal::chat(&ann, &["+15550002", "--pictures", "off"], &[], SILENT);
    chat.until("● ");
    chat.paste(&quoted);
    chat.until("image/jpeg,");
    chat.press("\x1b");
    chat.until("────");
    chat.press("\r");
    chat.until("✓");
    let (head, message) = newest(&bob, "+15550001");
    assert_eq!((head, message["text"].as_str()), (1, Some(&*quoted)), "what was declined is text");

    // Typed, and not pasted: the first Enter offers, the second sends.
    chat.press(&file.display().to_string());
    chat.press("\r");
    chat.until("image/jpeg,");
    assert_eq!(newest(&bob, "+15550001").0, 1, "one Enter sends no file");
    chat.press("\r");
    chat.until("320x240");
    chat.until("✓");
    let (head, message) = newest(&bob, "+15550001");
    assert_eq!((head, &message["media"]["name"]), (2, &"my cat.jpeg".into()), "{message}");
    assert_eq!((&message["media"]["width"], &message["media"]["type"]), (&320.into(), &"image/jpeg".into()));

    // Of a folder, and of what is not there, the line is all there is.
    chat.press(&format!("{}\r", dir.path().join("nothing.jpeg").display()));
    chat.until("nothing.jpeg");
    chat.until("✓");
    assert_eq!(newest(&bob, "+15550001").0, 3);
    chat.leave();

    let saved = dir.path().join("saved.jpeg");
    bob.json(&["save", "+15550001", "2", "--to", saved.to_str().expect("text"), "--json"]);
    assert_eq!(std::fs::read(saved).expect("saved"), std::fs::read(file).expect("there"), "the same bytes");
}
