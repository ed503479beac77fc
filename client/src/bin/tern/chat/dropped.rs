//! A file that was dropped on the terminal: terminals paste its path, each in its own way of quoting. What is such a path is offered to be
//! sent, and sent by nothing but an Enter that follows the offer.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use tern_client::type_of;
use tokio::time::Instant;

use super::keys::Action;
use crate::media::size;
use crate::shown;

/// Bytes of a path, as systems have it. What is longer is text.
const PATH_BYTES_MAX: usize = 4096;

/// A file that a line names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub path: PathBuf,
    /// Its type; `None`: of none that servers take.
    pub of: Option<String>,
    pub bytes: u64,
}

impl Found {
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        shown::clean_line(&name.to_string_lossy())
    }

    fn offer(&self) -> String {
        // The name last: it may be longer than the line. The path is written below it.
        let of = self.of.as_deref().unwrap_or_default();
        format!("Enter sends the file, Esc: it stays text: {of}, {}, {}", size(self.bytes), self.name())
    }
}

/// What became of a line that may name a file.
#[derive(Debug, Default)]
pub struct Offer {
    /// The line that is being looked at, and whether it is to be sent if it names none.
    asked: Option<(String, bool)>,
    /// What is offered, and since when that can be seen.
    found: Option<(Found, Option<Instant>)>,
    /// The line that stays text.
    declined: String,
}

/// What a key means to an offer.
#[derive(PartialEq, Eq, Debug)]
pub enum Answer {
    /// What it always means.
    Other,
    /// That was all.
    Done,
    Send(Found),
}

impl Offer {
    /// Whether it is to be looked whether a line names a file. `is_to_go`: if it does not, it is to be sent. What was declined is not
    /// offered again then, but it is when it is pasted again.
    pub fn ask(&mut self, line: &str, is_to_go: bool) -> bool {
        let asks = (!is_to_go || self.declined != line) && !paths_of(line).is_empty();
        if asks {
            self.asked = Some((line.to_owned(), is_to_go));
        }
        asks
    }

    /// It was looked. Gives what is to be said of it, and whether what is written is to be sent as the text that it is.
    pub fn take(&mut self, line: &str, found: Option<Found>, written: &str) -> (Option<String>, bool) {
        let Some((_, is_to_go)) = self.asked.take_if(|(asked, _)| asked == line) else {
            return (None, false);
        };
        if line != written {
            return (None, false);
        }
        match found {
            Some(found) if found.of.is_some() => {
                self.found = Some((found, None));
                (None, false)
            }
            Some(found) => {
                line.clone_into(&mut self.declined);
                (Some(format!("{}: of no type that servers take; it is text", found.name())), false)
            }
            None => {
                line.clone_into(&mut self.declined);
                (None, is_to_go)
            }
        }
    }

    /// What stands above the line, while a file is offered.
    pub fn text(&self) -> Option<String> {
        self.found.as_ref().map(|(found, _)| found.offer())
    }

    /// It is on the screen now.
    pub fn was_drawn(&mut self, now: Instant) {
        if let Some((_, since)) = &mut self.found {
            since.get_or_insert(now);
        }
    }

    /// What a key means that was pressed then. A key from before the offer was seen is not for it.
    pub fn answer(&mut self, action: &Action, pressed: Instant, written: &str) -> Answer {
        match (self.found.take(), action) {
            (Some((found, Some(since))), Action::Send) if pressed >= since => Answer::Send(found),
            (Some(still), Action::Send) => {
                self.found = Some(still);
                Answer::Done
            }
            (Some(_), Action::Leave) => {
                written.clone_into(&mut self.declined);
                Answer::Done
            }
            (Some(still), Action::Scroll(_) | Action::ScrollPages(_) | Action::ToNewest | Action::Chats) => {
                self.found = Some(still);
                Answer::Other
            }
            _ => Answer::Other,
        }
    }
}

/// The regular file that a line names, if it names one that this process may read. Waits for the file system.
pub fn look(line: &str) -> Option<Found> {
    paths_of(line).into_iter().find_map(|path| {
        let about = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        // The rest of the program names files by text.
        path.to_str()?;
        Some(Found { of: type_of(&path).ok()?, bytes: about.len(), path })
    })
}

/// The paths that a line may mean: from the root on, or from one's own folder. None: it is text.
fn paths_of(line: &str) -> Vec<PathBuf> {
    let line = line.trim();
    if line.is_empty() || line.len() > PATH_BYTES_MAX || line.contains(['\n', '\0']) {
        return Vec::new();
    }
    if let Some(url) = line.strip_prefix("file://") {
        return path_of_url(url).into_iter().collect();
    }
    let mut paths: Vec<_> = [Some(line.to_owned()), unquoted(line)].into_iter().flatten().collect();
    paths.dedup();
    paths.iter().filter_map(|path| absolute(path)).collect()
}

fn absolute(path: &str) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Some(PathBuf::from(std::env::var_os("HOME")?).join(rest)),
        None => Path::new(path).is_absolute().then(|| PathBuf::from(path)),
    }
}

/// The path of a `file` URL (RFC 8089) of this machine.
fn path_of_url(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("localhost").unwrap_or(url);
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = str::from_utf8(rest.get(..2)?).ok()?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?;
        bytes.push(byte);
        rest = &rest[2..];
    }
    Some(OsString::from_vec(bytes).into())
}

/// The word that a shell would take this for; `None`: it would take it for several, or for none.
fn unquoted(line: &str) -> Option<String> {
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '\\') => word.push(chars.next()?),
            (Some('"'), '\\') => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            (None, c) if c.is_whitespace() => return None,
            (_, c) => word.push(c),
        }
    }
    quote.is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_path_is_known_however_a_terminal_quotes_it() {
        let check = |line: &str, path: &str| {
            let paths = paths_of(line);
            assert!(paths.contains(&PathBuf::from(path)), "{line:?} is {paths:?}");
        };
        check("/tmp/cat.jpeg", "/tmp/cat.jpeg");
        check(" /tmp/cat.jpeg \n", "/tmp/cat.jpeg");
        check("/tmp/my cat.jpeg", "/tmp/my cat.jpeg");
        check("/tmp/my\\ cat\\'s.jpeg", "/tmp/my cat's.jpeg");
        check("'/tmp/my cat.jpeg' ", "/tmp/my cat.jpeg");
        check("'/tmp/my cat'\\''s.jpeg'", "/tmp/my cat's.jpeg");
        check("\"/tmp/my \\\"cat\\\" \\n.jpeg\"", "/tmp/my \"cat\" \\n.jpeg");
        check("file:///tmp/my%20cat.jpeg", "/tmp/my cat.jpeg");
        check("file://localhost/tmp/caf%C3%A9.jpeg", "/tmp/café.jpeg");
        check("/tmp/back\\slash", "/tmp/back\\slash");
        let home = std::env::var("HOME").expect("tests have a home");
        check("~/cat.jpeg", &format!("{home}/cat.jpeg"));
    }

    #[test]
    fn what_is_text_is_no_path() {
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        for text in [
            "",
            "hello",
            "cat.jpeg",
            "./cat.jpeg",
            "/tmp/one\n/tmp/two",
            "'/tmp/never closed",
            "'/tmp/one' '/tmp/two'",
            "file://elsewhere/tmp/cat.jpeg",
            "file:///tmp/%zz",
            "file:///tmp/%2",
            "file:///tmp/%00",
            "https://example.org/cat.jpeg",
            "/tmp/a\0b",
            &long,
        ] {
            assert_eq!(paths_of(text), Vec::<PathBuf>::new(), "{text:?}");
        }
    }

    #[test]
    fn a_regular_file_alone_is_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("my notes.txt");
        std::fs::write(&file, "hello").expect("written");
        let found = look(&format!("'{}'", file.display())).expect("it is there");
        assert_eq!(
            (found.name().as_str(), found.of.as_deref(), found.bytes),
            ("my notes.txt", Some("text/plain"), 5)
        );
        assert_eq!(look(&dir.path().display().to_string()), None, "a folder is text");
        assert_eq!(look("/dev/null"), None, "a device is text");
        assert_eq!(look(&dir.path().join("gone").display().to_string()), None);
    }

    fn found() -> Found {
        Found { path: "/tmp/a\u{1b}b.txt".into(), of: Some("text/plain".to_owned()), bytes: 5 }
    }

    /// A file is not a thing to be sent by an Enter that was meant for a line.
    #[test]
    fn an_enter_from_before_the_offer_was_seen_sends_nothing() {
        let (mut offer, now) = (Offer::default(), Instant::now());
        let line = "/tmp/a.txt";
        assert!(offer.ask(line, false));
        assert_eq!(offer.take(line, Some(found()), line), (None, false));
        assert_eq!(offer.answer(&Action::Send, now, line), Answer::Done, "it was not drawn");
        let drawn = now + Duration::from_secs(1);
        offer.was_drawn(drawn);
        assert_eq!(offer.answer(&Action::Send, now, line), Answer::Done, "it was pressed before");
        let said = offer.text().expect("it is offered");
        assert!(said.contains("text/plain, 5 bytes") && !said.contains('\u{1b}'), "{said}");
        assert_eq!(offer.answer(&Action::Send, drawn, line), Answer::Send(found()));
        assert_eq!(offer.answer(&Action::Send, drawn, line), Answer::Other, "once");
    }

    #[test]
    fn what_is_declined_or_changed_is_text() {
        let (mut offer, now) = (Offer::default(), Instant::now());
        let line = "/tmp/a.txt";
        let offered = |offer: &mut Offer| {
            assert!(offer.ask(line, false));
            offer.take(line, Some(found()), line);
            offer.was_drawn(now);
        };
        offered(&mut offer);
        assert_eq!(offer.answer(&Action::Insert("x".to_owned()), now, line), Answer::Other);
        assert_eq!(offer.answer(&Action::Send, now, line), Answer::Other, "another line is another thing");
        offered(&mut offer);
        assert_eq!(offer.answer(&Action::Leave, now, line), Answer::Done);
        assert!(!offer.ask(line, true), "it is not asked about again");
        assert!(offer.ask(line, false), "unless it is dropped again");
        assert!(offer.ask("/tmp/b.txt", true));
        assert_eq!(
            offer.take("/tmp/b.txt", None, "/tmp/b.txt"),
            (None, true),
            "what names no file is sent as it is"
        );
        assert!(offer.ask("/tmp/c.txt", true));
        assert_eq!(offer.take("/tmp/c.txt", None, "/tmp/c.txt and"), (None, false), "it was written on");
    }
}
