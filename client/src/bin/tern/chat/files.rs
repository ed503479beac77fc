//! Files of a chat on the screen: pictures are fetched when they come into view, and what was dropped is uploaded and sent. All of it beside
//! the loop of keys and events, which never waits for it.

use serde_json::{Value, json};
use tern_client::{MediaId, NewMessage, Progress};
use tokio::time::Instant;

use super::dropped::{self, Answer, Found};
use super::keys::Action;
use super::pictures::{Means, Picture};
use super::state::Chat;
use super::{Done, Screen};
use crate::media::{paced, size};
use crate::methods::{Failure, parse};
use crate::shown;
use crate::talk::Send;

/// What a task about files has come back with.
pub(super) enum Came {
    /// A picture of a message; `Err`: it can't be had now.
    Picture(u64, Result<Option<Picture>, ()>),
    /// What a line names.
    Found(String, Option<Found>),
    /// How far the upload of what is on its way is.
    Progress(u64, Progress),
    /// It is uploaded: this is to be sent.
    Uploaded(u64, Result<NewMessage, Failure>),
}

impl Screen {
    /// Fetches the pictures that have come into view.
    pub(super) fn fetch_pictures(&mut self) {
        if !self.connected || matches!(self.means, Means::Nothing) {
            return;
        }
        let Some(chat) = self.chat() else { return };
        let (peer, wanted) = (chat.peer().user_id, chat.wanted_pictures());
        for (seq, medium) in wanted {
            self.fetch_picture(peer, seq, medium);
        }
    }

    /// The terminal may have forgotten what it was given.
    pub(super) fn forget_pictures(&mut self) {
        self.chats.values_mut().for_each(|chat| chat.pictures.clear());
    }

    fn fetch_picture(&self, peer: u64, seq: u64, medium: MediaId) {
        let (client, done, means) = (self.client().clone(), self.done.clone(), self.means.clone());
        tokio::spawn(async move {
            let came = match client.thumbnail(peer, seq, medium).await {
                Ok(None) => Ok(None),
                Ok(Some(jpeg)) => {
                    // Decoding takes its time, and should it fail badly, there is no picture.
                    let drawn = tokio::task::spawn_blocking(move || Picture::new(&jpeg, &means));
                    Ok(drawn.await.unwrap_or(None))
                }
                Err(_) => Err(()),
            };
            let _ = done.send(Done::File(peer, Came::Picture(seq, came)));
        });
    }

    /// Does what a key means to a file that is offered. Gives whether that was all.
    pub(super) fn key_to_offer(&mut self, action: &Action, pressed: Instant) -> bool {
        let Some(chat) = self.chat() else { return false };
        match chat.offer.answer(action, pressed, chat.input.text()) {
            Answer::Other => false,
            Answer::Done => true,
            Answer::Send(found) => {
                let peer = chat.peer().user_id;
                let (number, about) = chat.begin_file(&found);
                self.upload(peer, number, about, found);
                self.draft_at = Some(Instant::now());
                true
            }
        }
    }

    /// Looks whether what is written names a file. `is_to_go`: if it does not, it is sent. Gives whether it looks.
    pub(super) fn look_for_file(&mut self, is_to_go: bool) -> bool {
        let Some(chat) = self.chat() else { return false };
        let line = chat.input.text().to_owned();
        if !chat.writes_message() || !chat.offer.ask(&line, is_to_go) {
            return false;
        }
        let (peer, done) = (chat.peer().user_id, self.done.clone());
        // A file system that is far away may take long to answer.
        tokio::task::spawn_blocking(move || {
            let found = dropped::look(&line);
            let _ = done.send(Done::File(peer, Came::Found(line, found)));
        });
        true
    }

    fn upload(&self, peer: u64, number: u64, about: u64, found: Found) {
        let (session, done) = (self.session.clone(), self.done.clone());
        tokio::spawn(async move {
            let progress = done.clone();
            let tell = paced(move |at| {
                let _ = progress.send(Done::File(peer, Came::Progress(number, at)));
            });
            let params = json!({ "path": found.path, "type": found.of });
            let uploaded = session.media("upload", params, tell).await;
            let message = uploaded.and_then(|medium| message_of(peer, about, medium));
            let _ = done.send(Done::File(peer, Came::Uploaded(number, message)));
        });
    }

    pub(super) fn finish_file(&mut self, peer: u64, came: Came) {
        let Some(chat) = self.chats.get_mut(&peer) else { return };
        match came {
            Came::Picture(seq, picture) => chat.take_picture(seq, picture),
            Came::Progress(number, at) => chat.progress(number, at),
            Came::Found(line, found) => {
                let (said, is_to_go) = chat.offer.take(&line, found, chat.input.text());
                if said.is_some() {
                    chat.notice = said;
                }
                if is_to_go && let Some((number, message)) = chat.send() {
                    self.send(number, message);
                }
            }
            Came::Uploaded(number, Ok(message)) => {
                chat.uploads.remove(&number);
                self.send(number, message);
            }
            Came::Uploaded(number, Err(failure)) => {
                chat.uploads.remove(&number);
                chat.failed(number, &super::why(failure));
            }
        }
    }
}

/// The message that a medium goes with, as `send` makes it.
fn message_of(peer: u64, about: u64, medium: Value) -> Result<NewMessage, Failure> {
    let send: Send = parse(json!({ "chat": peer, "about": about, "medium": medium }))?;
    Ok(NewMessage { chat: peer, ..send.into_message()? })
}

impl Chat {
    /// The pictures on the screen that are to be fetched.
    fn wanted_pictures(&mut self) -> Vec<(u64, MediaId)> {
        let (first, last) = self.in_view;
        if first == 0 || first > last {
            return Vec::new();
        }
        let shown = self.messages.range(first..=last).filter(|(seq, _)| !self.hidden.has(**seq));
        let on_screen =
            shown.filter_map(|(seq, message)| Some((*seq, super::pictures::picture_of(message)?))).collect();
        self.pictures.wanted(&on_screen)
    }

    /// Takes a picture, or that there is none. What is being read stays where it is.
    pub fn take_picture(&mut self, seq: u64, picture: Result<Option<Picture>, ()>) {
        self.grown |= seq > self.in_view.1;
        self.pictures.take(seq, picture);
    }

    /// A file is on its way. Gives its number, and what it replies to.
    pub fn begin_file(&mut self, found: &Found) -> (u64, u64) {
        drop(self.input.take());
        self.scroll = 0;
        let number = self.pend(format!("⎙ {} ({})", found.name(), size(found.bytes)));
        self.progress(number, Progress { done: 0, all: found.bytes });
        (number, self.written(String::new()).envelope.about)
    }

    fn progress(&mut self, number: u64, at: Progress) {
        if self.pending.iter().any(|pending| pending.number == number) {
            self.uploads.insert(number, at);
        }
    }

    /// How far uploads are, for the line about the chat. Empty if there are none.
    pub fn uploads_text(&self) -> String {
        let (done, all) =
            self.uploads.values().fold((0, 0), |(done, all), at| (done + at.done, all + at.all));
        match self.uploads.len() {
            0 => String::new(),
            1 => format!("uploading: {} of {}", size(done), size(all)),
            files => format!("uploading {files} files: {} of {}", size(done), size(all)),
        }
    }

    /// What was on its way is not sent.
    fn failed(&mut self, number: u64, why: &str) {
        self.grown = true;
        let pending = self.pending.iter_mut().find(|pending| pending.number == number);
        pending.into_iter().for_each(|pending| pending.failed = Some(shown::clean_line(why)));
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui_image::picker::{Picker, ProtocolType};
    use tern_client::body::Media;
    use tern_client::{Envelope, Event, Kind, Message, Person};

    use super::super::thumbnail::Colours;
    use super::super::view;
    use super::*;

    const PEER: u64 = 2;

    fn message(seq: u64, own: bool, kind: Kind, body: Vec<u8>) -> Message {
        Message { chat: PEER, seq, sender: if own { 1 } else { PEER }, body, own, kind, ..Message::default() }
    }

    fn with_picture(seq: u64, own: bool) -> Message {
        let media =
            Media { r#type: "image/png".to_owned(), name: format!("cat-{seq}.png"), ..Media::default() };
        let envelope = Envelope { media: vec![MediaId::from_bytes([seq as u8; 16])], ..Envelope::default() };
        Message { envelope, ..message(seq, own, Kind::Media, media.encode_to_vec()) }
    }

    fn chat() -> Chat {
        let mut chat = Chat::new(Person { user_id: PEER, name: "Bob".to_owned(), ..Person::default() });
        chat.take(Event::Connected);
        chat
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let picture = image::RgbImage::from_pixel(width, height, image::Rgb([200, 10, 10]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("encoded");
        bytes.into_inner()
    }

    fn by(protocol: ProtocolType) -> Means {
        let mut picker = Picker::halfblocks();
        picker.set_protocol_type(protocol);
        Means::Graphics(Box::new(picker))
    }

    fn draw(chat: &mut Chat, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
        terminal.draw(|frame| view::draw(chat, frame)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect()
    }

    /// What the screen asks for is had, as far as it can be shown.
    fn fetch(chat: &mut Chat, means: &Means) -> Vec<u64> {
        let wanted: Vec<_> = chat.wanted_pictures().into_iter().map(|(seq, _)| seq).collect();
        wanted.iter().for_each(|seq| chat.take_picture(*seq, Ok(Picture::new(&jpeg(8, 6), means))));
        wanted
    }

    #[test]
    fn a_picture_stands_above_its_line_on_the_side_of_who_sent_it() {
        let mut chat = chat();
        chat.take(Event::Message(with_picture(1, false)));
        chat.take(Event::Message(with_picture(2, true)));
        draw(&mut chat, 60, 20);
        assert_eq!(fetch(&mut chat, &Means::Blocks(Colours::All)), [2, 1]);
        let rows = draw(&mut chat, 60, 20);
        let line = |name: &str| rows.iter().position(|row| row.contains(name)).expect("shown");
        let (theirs, own) = (line("cat-1"), line("cat-2"));
        for above in theirs - 3..theirs {
            assert_eq!(rows[above].trim_end(), format!("{}{}", " ".repeat(18), "▀".repeat(8)), "{rows:#?}");
        }
        for above in own - 3..own {
            assert_eq!(rows[above], format!("{}{}", " ".repeat(52), "▀".repeat(8)), "{rows:#?}");
        }
        let narrow = draw(&mut chat, 14, 30);
        assert_eq!(narrow.iter().filter(|row| row.starts_with("▀▀▀▀▀▀▀▀  ")).count(), 3, "{narrow:#?}");
        assert!(!draw(&mut chat, 7, 30).concat().contains('▀'), "there is no room");
        chat.take(Event::Message(Message { erased: true, body: Vec::new(), ..with_picture(1, false) }));
        let rows = draw(&mut chat, 60, 20);
        assert_eq!(
            rows.iter().filter(|row| row.contains('▀')).count(),
            3,
            "what is deleted is not shown: {rows:#?}"
        );
    }

    #[test]
    fn pictures_are_fetched_when_they_are_seen_and_those_that_are_none_never() {
        let mut chat = chat();
        for seq in 1..=30 {
            chat.take(Event::Message(with_picture(seq, false)));
        }
        let sealed = Media { r#type: "image/png".to_owned(), key: b"k".to_vec().into(), ..Media::default() };
        let paper = Media { r#type: "application/pdf".to_owned(), ..Media::default() };
        for (seq, media) in [(31, sealed), (32, paper)] {
            let envelope = with_picture(seq, false).envelope;
            let body = media.encode_to_vec();
            chat.take(Event::Message(Message { envelope, ..message(seq, false, Kind::Media, body) }));
        }
        draw(&mut chat, 60, 10);
        let wanted: Vec<_> = chat.wanted_pictures().into_iter().map(|(seq, _)| seq).collect();
        assert!(wanted.iter().all(|seq| (25..=30).contains(seq)) && !wanted.is_empty(), "{wanted:?}");
    }

    #[test]
    fn a_picture_that_comes_below_what_is_read_moves_nothing() {
        let mut chat = chat();
        for seq in 1..=40 {
            let body = format!("line-{seq}.").into_bytes();
            chat.take(Event::Message(message(seq, false, Kind::Text, body)));
        }
        chat.take(Event::Message(with_picture(41, false)));
        draw(&mut chat, 60, 12);
        assert_eq!(chat.wanted_pictures().len(), 1);
        chat.edit(&Action::ScrollPages(2));
        let before = draw(&mut chat, 60, 12);
        chat.take_picture(41, Ok(Picture::new(&jpeg(8, 6), &Means::Blocks(Colours::Of256))));
        assert_eq!(draw(&mut chat, 60, 12)[..10], before[..10]);
    }

    /// The terminal draws them as wholes: what of them is on the screen is the chat's to say, in every place and size.
    #[test]
    fn pictures_of_the_terminals_own_are_cut_where_the_chat_is() {
        for protocol in [ProtocolType::Kitty, ProtocolType::Sixel] {
            let mut chat = chat();
            for seq in 1..=6 {
                chat.take(Event::Message(with_picture(seq, seq % 2 == 0)));
            }
            draw(&mut chat, 80, 30);
            while !chat.wanted_pictures().is_empty() {
                (1..=6)
                    .for_each(|seq| chat.take_picture(seq, Ok(Picture::new(&jpeg(200, 150), &by(protocol)))));
                draw(&mut chat, 80, 30);
            }
            assert!(chat.pictures.get(6).is_some());
            for height in [1, 2, 3, 5, 6, 9, 29] {
                for width in [1, 30, 80] {
                    chat.scroll = 0;
                    for _ in 0..40 {
                        let rows = draw(&mut chat, width, height);
                        let foot = if height > 5 { rows.len() - 2 } else { rows.len() };
                        assert!(rows[foot..].iter().all(|row| !row.contains(['\u{1b}', '\u{10eeee}'])));
                        chat.edit(&Action::Scroll(1));
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_on_its_way_says_how_far_it_is_and_why_it_is_not_sent() {
        let mut chat = chat();
        let found =
            Found { path: "/tmp/report.pdf".into(), of: Some("application/pdf".to_owned()), bytes: 82_100 };
        chat.input.set("/tmp/report.pdf".to_owned());
        let (number, about) = chat.begin_file(&found);
        assert_eq!((chat.input.text(), about), ("", 0), "the line is no draft any more");
        chat.progress(number, Progress { done: 41_000, all: 82_100 });
        let rows = draw(&mut chat, 80, 8);
        assert!(rows[0].contains("uploading: 41.0 kB of 82.1 kB"), "{rows:#?}");
        assert!(rows.iter().any(|row| row.contains("⎙ report.pdf (82.1 kB)  …")), "{rows:#?}");
        chat.uploads.remove(&number);
        chat.failed(number, "too large\u{1b}");
        let rows = draw(&mut chat, 80, 8);
        assert!(rows.iter().any(|row| row.contains("✗ too large")), "{rows:#?}");
        chat.progress(number + 1, Progress { done: 1, all: 2 });
        assert_eq!(chat.uploads_text(), "", "what is not on its way has no place");
    }

    #[test]
    fn what_was_uploaded_is_sent_as_send_makes_it() {
        let medium = json!({ "medium": MediaId::from_bytes([7; 16]).to_string(), "type": "image/png", "name": "cat.png",
            "bytes": 5, "sha256": "00", "looks": { "width": 640, "height": 480 } });
        let message = message_of(PEER, 3, medium).expect("a message");
        assert_eq!((message.chat, message.kind, message.envelope.about), (PEER, Kind::Media, 3));
        assert_eq!(message.envelope.media, [MediaId::from_bytes([7; 16])]);
        let media = Media::decode(&message.body[..]).expect("it says what it is");
        assert_eq!((media.width, media.name.as_str()), (640, "cat.png"));
    }
}
