//! Pictures in a chat: how this terminal shows them, and those that are kept to be shown.
//!
//! Where the terminal says that it knows kitty's protocol or sixel, they go over that, by ratatui-image; elsewhere they are half blocks. Which of
//! both is asked once, before anybody reads keys.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::ValueEnum;
use image::RgbImage;
use ratatui::layout::Size;
use ratatui::text::Line;
use ratatui_image::picker::cap_parser::QueryStdioOptions;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::sliced::SlicedProtocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tern_client::body::Media;
use tern_client::{Kind, MediaId, Message};

use super::thumbnail::{self, COLUMNS_MAX, Colours, ROWS_MAX};

/// Pictures of a chat that are kept. Beyond, one that is not on the screen goes; if all are, no more are fetched.
const PICTURES_MAX: usize = 32;

/// Pictures of a chat that are fetched at once. Others wait.
const FETCHES_MAX: usize = 4;

/// How long a terminal may take to answer, which every one does at once but for the way there and back. One that does not is
/// not asked more.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks a terminal what it is (DA1): the one thing that all terminals answer, with what ends with a `c`.
const WHAT_ARE_YOU: &[u8] = b"\x1b[c";

/// Bytes that such an answer has at most.
const ANSWER_BYTES_MAX: usize = 256;

/// How pictures are to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Pictures {
    /// As well as the terminal can: by kitty's protocol or sixel where it says so, otherwise in half blocks
    Auto,
    /// In half blocks
    Blocks,
    /// Not at all: a line says what there is
    Off,
}

/// By what pictures are shown.
#[derive(Clone, Debug)]
pub enum Means {
    Nothing,
    Blocks(Colours),
    /// The terminal's own, of kitty's protocol or sixel.
    Graphics(Box<Picker>),
}

/// What the environment says: of half blocks which colours, and whether the terminal may be asked for more.
fn told(wanted: Pictures, variable: impl Fn(&str) -> Option<String>) -> (Option<Colours>, bool) {
    let value = |name: &str| variable(name).unwrap_or_default();
    let term = value("TERM");
    if wanted == Pictures::Off || !value("NO_COLOR").is_empty() || matches!(term.as_str(), "" | "dumb") {
        return (None, false);
    }
    let colours = match value("COLORTERM").as_str() {
        "truecolor" | "24bit" => Some(Colours::All),
        _ if term.contains("direct") => Some(Colours::All),
        _ if term.contains("256") || wanted == Pictures::Blocks => Some(Colours::Of256),
        _ => None,
    };
    // What stands between would have to be told to let pictures through, and that is the person's to choose.
    let is_within = !value("TMUX").is_empty() || term.starts_with("tmux") || term.starts_with("screen");
    (colours, wanted == Pictures::Auto && !is_within)
}

/// Finds out how this terminal shows pictures. It must be in raw mode, and nobody else may read it meanwhile.
pub fn means(wanted: Pictures) -> Means {
    let (colours, may_ask) = told(wanted, |name| std::env::var(name).ok());
    let otherwise = colours.map_or(Means::Nothing, Means::Blocks);
    if !may_ask || !answers().unwrap_or(false) {
        return otherwise;
    }
    let options = QueryStdioOptions { timeout: ANSWER_TIMEOUT, ..QueryStdioOptions::default() };
    match Picker::from_query_stdio_with_options(options) {
        Ok(picker) if matches!(picker.protocol_type(), ProtocolType::Kitty | ProtocolType::Sixel) => {
            Means::Graphics(Box::new(picker))
        }
        _ => otherwise,
    }
}

/// Whether there is a terminal that answers. Of one that does not, what is typed later would be taken for the answer.
fn answers() -> std::io::Result<bool> {
    let mut stdout = std::io::stdout();
    stdout.write_all(WHAT_ARE_YOU)?;
    stdout.flush()?;
    let stdin = std::io::stdin();
    let timeout = Timespec { tv_sec: 0, tv_nsec: ANSWER_TIMEOUT.subsec_nanos().into() };
    for _ in 0..ANSWER_BYTES_MAX {
        let mut byte = [0];
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut waiting, Some(&timeout))? == 0 || rustix::io::read(stdin.as_fd(), &mut byte)? == 0 {
            return Ok(false);
        }
        if byte == *b"c" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A picture as it is drawn.
pub enum Picture {
    Blocks(Vec<Line<'static>>),
    Graphics(SlicedProtocol),
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({:?})", self.size())
    }
}

impl Picture {
    /// Of a thumbnail as it came; `None`: it is none that can be shown.
    pub fn new(jpeg: &[u8], means: &Means) -> Option<Self> {
        let pixels = thumbnail::decode(jpeg)?;
        match means {
            Means::Nothing => None,
            Means::Blocks(colours) => Some(Self::Blocks(thumbnail::cells(&pixels, *colours))),
            Means::Graphics(picker) => Self::graphics(pixels, picker),
        }
    }

    fn graphics(pixels: RgbImage, picker: &Picker) -> Option<Self> {
        let size = Size::new(COLUMNS_MAX, ROWS_MAX);
        let drawn = SlicedProtocol::new(picker, pixels.into(), Some(size)).ok()?;
        (drawn.size().width > 0 && drawn.size().height > 0).then_some(Self::Graphics(drawn))
    }

    /// In cells.
    pub fn size(&self) -> Size {
        match self {
            Self::Blocks(lines) => {
                let width = lines.first().map_or(0, Line::width);
                Size::new(width as u16, lines.len() as u16)
            }
            Self::Graphics(drawn) => drawn.size(),
        }
    }
}

/// What is known of a picture.
#[derive(Debug)]
enum Known {
    Asked,
    /// There is none.
    Nothing,
    /// It could not be had: it is asked for again when there is a connection again.
    Failed,
    Here(Picture),
}

/// The pictures of a chat, by the seq of their message.
#[derive(Debug, Default)]
pub struct Album {
    known: BTreeMap<u64, Known>,
}

impl Album {
    /// What of these, which are on the screen, is to be fetched: they count as asked for.
    pub fn wanted(&mut self, on_screen: &BTreeMap<u64, MediaId>) -> Vec<(u64, MediaId)> {
        let mut wanted = Vec::new();
        // The newest first: they are what is looked at.
        for (seq, medium) in on_screen.iter().rev() {
            let asked = self.known.values().filter(|known| matches!(known, Known::Asked)).count();
            if asked >= FETCHES_MAX {
                break;
            }
            if !self.known.contains_key(seq) && self.has_room(on_screen) {
                self.known.insert(*seq, Known::Asked);
                wanted.push((*seq, *medium));
            }
        }
        wanted
    }

    fn has_room(&mut self, on_screen: &BTreeMap<u64, MediaId>) -> bool {
        if self.known.len() < PICTURES_MAX {
            return true;
        }
        let can_go =
            |(seq, known): &(&u64, &Known)| !on_screen.contains_key(seq) && !matches!(known, Known::Asked);
        let gone = self.known.iter().find(can_go).map(|(seq, _)| *seq);
        gone.is_some_and(|seq| self.known.remove(&seq).is_some())
    }

    /// What has come of one that was asked for; `Err`: it could not be had now.
    pub fn take(&mut self, seq: u64, came: Result<Option<Picture>, ()>) {
        if let Some(known @ Known::Asked) = self.known.get_mut(&seq) {
            *known = match came {
                Ok(Some(picture)) => Known::Here(picture),
                Ok(None) => Known::Nothing,
                Err(()) => Known::Failed,
            };
        }
    }

    pub fn get(&self, seq: u64) -> Option<&Picture> {
        match self.known.get(&seq) {
            Some(Known::Here(picture)) => Some(picture),
            _ => None,
        }
    }

    /// What failed may be asked for again.
    pub fn try_again(&mut self) {
        self.known.retain(|_, known| !matches!(known, Known::Failed));
    }

    pub fn clear(&mut self) {
        self.known.clear();
    }
}

/// The medium of a message of which the server may have a thumbnail.
pub fn picture_of(message: &Message) -> Option<MediaId> {
    if message.kind != Kind::Media || message.erased {
        return None;
    }
    let media = message.body_as::<Media>()?;
    let is_open_picture = media.r#type.starts_with("image/") && media.key.is_empty();
    message.envelope.media.first().copied().filter(|_| is_open_picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_what_the_environment_says_and_no_color_is_kept_to() {
        let check = |wanted, variables: &[(&str, &str)], expected| {
            let value = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(told(wanted, value), expected, "{wanted:?} {variables:?}");
        };
        let xterm = ("TERM", "xterm-256color");
        check(Pictures::Auto, &[xterm], (Some(Colours::Of256), true));
        check(Pictures::Auto, &[xterm, ("COLORTERM", "truecolor")], (Some(Colours::All), true));
        check(Pictures::Blocks, &[xterm], (Some(Colours::Of256), false));
        check(Pictures::Blocks, &[("TERM", "xterm")], (Some(Colours::Of256), false));
        check(Pictures::Auto, &[("TERM", "vt100")], (None, true));
        check(Pictures::Auto, &[("TERM", "dumb")], (None, false));
        check(Pictures::Auto, &[], (None, false));
        check(Pictures::Off, &[xterm], (None, false));
        for wanted in [Pictures::Auto, Pictures::Blocks] {
            check(wanted, &[xterm, ("NO_COLOR", "1")], (None, false));
        }
        check(Pictures::Auto, &[xterm, ("NO_COLOR", "")], (Some(Colours::Of256), true));
        let within = [("TERM", "tmux-256color"), ("COLORTERM", "24bit")];
        check(Pictures::Auto, &within, (Some(Colours::All), false));
    }

    fn here() -> Picture {
        Picture::Blocks(vec![Line::from("▀")])
    }

    fn on_screen(seqs: std::ops::Range<u64>) -> BTreeMap<u64, MediaId> {
        seqs.map(|seq| (seq, MediaId::from_bytes([1; 16]))).collect()
    }

    #[test]
    fn a_few_are_fetched_at_once_each_once_and_what_failed_again_with_a_connection() {
        let mut album = Album::default();
        let seqs = |wanted: Vec<(u64, MediaId)>| wanted.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>();
        let screen = on_screen(1..7);
        assert_eq!(seqs(album.wanted(&screen)), [6, 5, 4, 3]);
        assert!(album.wanted(&screen).is_empty(), "four are under way");
        album.take(6, Ok(Some(here())));
        album.take(5, Ok(None));
        album.take(4, Err(()));
        assert_eq!(seqs(album.wanted(&screen)), [2, 1]);
        assert!(album.get(6).is_some() && album.get(5).is_none() && album.get(4).is_none());
        album.try_again();
        assert_eq!(seqs(album.wanted(&screen)), [4]);
        album.clear();
        album.take(3, Ok(Some(here())));
        assert!(album.get(3).is_none(), "nobody waits for it any more");
    }

    #[test]
    fn no_more_are_kept_than_may_be_and_none_goes_that_is_looked_at() {
        let mut album = Album::default();
        for seq in 1..=100 {
            for (seq, _) in album.wanted(&on_screen(seq..seq + 1)) {
                album.take(seq, Ok(Some(here())));
            }
        }
        assert_eq!(album.known.len(), PICTURES_MAX);
        assert!(album.get(100).is_some() && album.get(1).is_none());
        let all = on_screen(101..200);
        let mut fetched = 0;
        loop {
            let wanted = album.wanted(&all);
            if wanted.is_empty() {
                break;
            }
            fetched += wanted.len();
            wanted.into_iter().for_each(|(seq, _)| album.take(seq, Ok(Some(here()))));
        }
        assert_eq!((fetched, album.known.len()), (PICTURES_MAX, PICTURES_MAX), "and then it is enough");
    }
}
