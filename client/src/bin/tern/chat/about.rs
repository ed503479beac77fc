//! What is about a message, in a chat on the screen: a message is marked, and replied to, edited, deleted, reacted to, pinned, voted on.

use prost::Message as _;
use tern_client::body::{Poll, Vote};
use tern_client::{Envelope, Kind, Message, NewMessage, Private, Standing};

use super::keys::Action;
use super::state::{Chat, Pending};
use crate::shown::{self, TEXT_BYTES_MAX};
use crate::talk;

/// Bytes of a reaction, as the server has it.
const REACTION_BYTES_MAX: usize = 64;

/// Columns of a message that is quoted.
const QUOTED_CHARS_MAX: usize = 60;

/// What is being written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Writing {
    /// A message.
    #[default]
    New,
    /// A reply to a message.
    Reply(u64),
    /// What a message is to read.
    Edit(u64),
    /// A reaction to it.
    Reaction(u64),
    /// A choice of its answers.
    Vote(u64),
}

/// What follows from a key while a message is marked, or something about one is written.
pub enum Marked {
    /// It means what it always means.
    Other,
    /// That was all.
    Done,
    /// This is to be sent.
    Send(u64, NewMessage),
    /// This is to be told to one's own devices.
    Own(Private),
}

impl Chat {
    /// A message as it stands, as far as what is about it is loaded. `None`: there is no such message.
    pub fn standing(&self, seq: u64) -> Option<Standing> {
        let message = self.messages.get(&seq).filter(|message| message.kind.is_message())?;
        if self.hidden.has(seq) {
            return None;
        }
        let mut standing = Standing::new(message.clone());
        for about in self.about.range((seq, 0)..=(seq, u64::MAX)) {
            if let Some(about) = self.messages.get(&about.1) {
                standing.take(about);
            }
        }
        Some(standing)
    }

    /// Remembers what a message is about, and which is not loaded any more.
    pub(super) fn index(&mut self, message: &Message) {
        if message.envelope.about > 0 {
            self.about.insert((message.envelope.about, message.seq));
        }
    }

    /// A message in a few words, with who said it.
    pub fn quoted(&self, seq: u64) -> String {
        let Some(standing) = self.standing(seq) else { return format!("message {seq}") };
        let who = match standing.message.own {
            true => "me".to_owned(),
            false if self.is_group() => self.name_of(standing.message.sender),
            false => shown::name_of(self.peer()),
        };
        let text = shown::text_of_message(&standing.message);
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(QUOTED_CHARS_MAX).collect();
        let rest = if short.len() < text.len() { "…" } else { "" };
        format!("{who}: {short}{rest}")
    }

    /// What stands above what is being written, if it is no new message.
    pub fn writing_line(&self) -> Option<String> {
        if let Some(offer) = self.offer.text() {
            return Some(offer);
        }
        if self.confirming {
            return Some("delete it for everyone? y: yes, any other key: no".to_owned());
        }
        if let Some(seq) = self.marked {
            // The keys first: of a long message the end is not seen.
            let keys = "r reply, e edit, d delete, + react, p pin, v vote, s star, x hide";
            return Some(format!("{keys}: {}", self.quoted(seq)));
        }
        Some(match self.writing {
            Writing::New => return None,
            Writing::Reply(seq) => format!("to {}  Esc: no reply", self.quoted(seq)),
            Writing::Edit(seq) => format!("instead of {}  Esc: not", self.quoted(seq)),
            Writing::Reaction(seq) => {
                format!("a reaction to {}; nothing: none any more  Esc: not", self.quoted(seq))
            }
            Writing::Vote(seq) => {
                format!("answers of {}, by number; nothing: none  Esc: not", self.quoted(seq))
            }
        })
    }

    /// Whether what is written is to be a message, and not something about one.
    pub fn writes_message(&self) -> bool {
        self.marked.is_none() && matches!(self.writing, Writing::New | Writing::Reply(_))
    }

    /// Does what a key means while a message is marked, or something about one is written.
    pub fn mark(&mut self, action: &Action) -> Marked {
        match action {
            Action::Mark(up) => {
                self.move_mark(*up);
                return Marked::Done;
            }
            // Nothing but a choice of these keys is waited for.
            _ if std::mem::take(&mut self.confirming) => {
                if matches!(action, Action::Insert(text) if text == "y")
                    && let Some(seq) = self.marked.take()
                {
                    return self.act(seq, Kind::Deletion, Vec::new(), "(deletes)");
                }
                return Marked::Done;
            }
            _ => {}
        }
        let Some(seq) = self.marked else { return self.write(action) };
        match action {
            Action::Leave => self.marked = None,
            Action::Send => self.begin(Writing::Reply(seq)),
            Action::Insert(text) => return self.choose(seq, text),
            Action::Scroll(_) | Action::ScrollPages(_) | Action::ToNewest => return Marked::Other,
            _ => {}
        }
        Marked::Done
    }

    fn choose(&mut self, seq: u64, key: &str) -> Marked {
        let Some(standing) = self.standing(seq) else { return Marked::Done };
        let Standing { message, pinned, .. } = standing;
        match key {
            "r" => self.begin(Writing::Reply(seq)),
            "s" => return self.keep(Private::Star(self.peer().user_id, seq, true)),
            "x" => return self.keep(Private::Hidden(self.peer().user_id, vec![seq], 0)),
            _ if message.erased => self.notice = Some("it is deleted".to_owned()),
            "e" if message.own && message.kind == Kind::Text => {
                self.begin(Writing::Edit(seq));
                self.input.set(String::from_utf8_lossy(&message.body).into_owned());
            }
            "e" => self.notice = Some("only your own texts are edited".to_owned()),
            "d" => self.confirming = true,
            "+" => self.begin(Writing::Reaction(seq)),
            "p" => {
                self.marked = None;
                let (kind, text) = if pinned { (Kind::Unpin, "(unpins)") } else { (Kind::Pin, "(pins)") };
                return self.act(seq, kind, Vec::new(), text);
            }
            "v" if message.kind == Kind::Poll => self.begin(Writing::Vote(seq)),
            "v" => self.notice = Some("that is no poll".to_owned()),
            _ => {}
        }
        Marked::Done
    }

    fn keep(&mut self, private: Private) -> Marked {
        self.marked = None;
        Marked::Own(private)
    }

    fn begin(&mut self, writing: Writing) {
        if !matches!(writing, Writing::Reply(_)) {
            self.put_aside = self.input.take();
        }
        (self.writing, self.marked, self.notice) = (writing, None, None);
    }

    /// Back to a new message; what was being written before comes back.
    fn end_writing(&mut self) {
        if !matches!(std::mem::take(&mut self.writing), Writing::New | Writing::Reply(_)) {
            self.input.set(std::mem::take(&mut self.put_aside));
        }
    }

    fn write(&mut self, action: &Action) -> Marked {
        let text = self.input.text().trim().to_owned();
        match (self.writing, action) {
            (Writing::New, _) => Marked::Other,
            (_, Action::Leave) => {
                self.end_writing();
                Marked::Done
            }
            (Writing::Reaction(_), Action::Send) if text.len() > REACTION_BYTES_MAX => {
                self.notice = Some("that is too long for a reaction".to_owned());
                Marked::Done
            }
            (Writing::Reaction(seq), Action::Send) => {
                self.end_writing();
                self.act(seq, Kind::Reaction, text.clone().into_bytes(), &format!("(reacts) {text}"))
            }
            (Writing::Edit(_), Action::Send) if text.is_empty() || text.len() > TEXT_BYTES_MAX => {
                self.notice = Some("it must read something".to_owned());
                Marked::Done
            }
            (Writing::Edit(seq), Action::Send) => {
                let text = self.input.text().to_owned();
                self.end_writing();
                self.act(seq, Kind::Edit, text.clone().into_bytes(), &text)
            }
            (Writing::Vote(seq), Action::Send) => self.vote(seq, &text),
            _ => Marked::Other,
        }
    }

    fn vote(&mut self, seq: u64, text: &str) -> Marked {
        let poll = self.messages.get(&seq).and_then(Message::body_as::<Poll>).unwrap_or_default();
        let numbers = text.split([',', ' ']).filter(|number| !number.is_empty());
        let answers: Option<Vec<u32>> = numbers
            .map(|number| {
                number.parse::<u32>().ok()?.checked_sub(1).filter(|at| (*at as usize) < poll.answers.len())
            })
            .collect();
        let fits = |answers: &Vec<u32>| poll.choices_max == 0 || answers.len() <= poll.choices_max as usize;
        match answers.filter(fits) {
            Some(answers) => {
                self.end_writing();
                self.act(seq, Kind::Vote, Vote { answers }.encode_to_vec(), &format!("(votes) {text}"))
            }
            None => {
                self.notice = Some("numbers of its answers, not more than it allows".to_owned());
                Marked::Done
            }
        }
    }

    fn act(&mut self, seq: u64, kind: Kind, body: Vec<u8>, text: &str) -> Marked {
        let number = self.pend(text.to_owned());
        let (chat, envelope) = (self.peer().user_id, Envelope::about(seq));
        Marked::Send(number, NewMessage { chat, kind, body, envelope, key: None })
    }

    /// Something is on its way: gives its number.
    pub(super) fn pend(&mut self, text: String) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.pending.push(Pending { number, text, failed: None });
        number
    }

    /// The message that is written, and is to be sent.
    pub(super) fn written(&mut self, text: String) -> NewMessage {
        let about = match std::mem::take(&mut self.writing) {
            Writing::Reply(seq) => seq,
            _ => 0,
        };
        NewMessage { envelope: Envelope::about(about), ..NewMessage::text(self.peer().user_id, text) }
    }

    /// Marks the message above the marked one, or below it; the newest, if none is.
    fn move_mark(&mut self, up: bool) {
        let hidden = self.hidden.clone();
        let is_message = |(seq, message): &(&u64, &Message)| message.kind.is_message() && !hidden.has(**seq);
        let next = match (self.marked, up) {
            (None, true) => self.messages.iter().rev().find(is_message),
            (None, false) => None,
            (Some(at), true) => {
                self.messages.range(..at).rev().find(is_message).or(self.messages.get_key_value(&at))
            }
            (Some(at), false) => self.messages.range(at + 1..).find(is_message),
        };
        self.marked = next.map(|(seq, _)| *seq);
        self.jump = self.marked;
    }

    /// What is said of a message below it: reactions, that it is pinned or was edited. Empty if nothing is.
    pub fn remarks(&self, standing: &Standing) -> String {
        let mut counted = std::collections::BTreeMap::<&str, usize>::new();
        for reaction in standing.reactions.values() {
            *counted.entry(reaction.as_str()).or_default() += 1;
        }
        let mut remarks: Vec<_> = counted
            .into_iter()
            .map(|(reaction, count)| match count {
                1 => shown::clean_line(reaction),
                count => format!("{} {count}", shown::clean_line(reaction)),
            })
            .collect();
        if standing.pinned {
            remarks.push("pinned".to_owned());
        }
        if standing.edited_ms.is_some() && !standing.message.erased {
            remarks.push("edited".to_owned());
        }
        remarks.join("  ")
    }
}

/// What a message says now, with how many have voted for each answer.
pub fn text_of(standing: &Standing) -> String {
    let text = shown::text_of_message(&standing.message);
    if standing.message.kind != Kind::Poll || standing.message.erased || standing.votes.is_empty() {
        return text;
    }
    let votes = |at: usize| {
        standing.votes.values().filter(|answers| answers.iter().any(|answer| *answer as usize == at)).count()
    };
    let mut lines = text.lines();
    let question = lines.next().unwrap_or_default().to_owned();
    let answers = lines.enumerate().map(|(at, line)| match votes(at) {
        0 => format!("\n{line}"),
        count => format!("\n{line} — {count}"),
    });
    question + &answers.collect::<String>()
}

/// What stands before a message: what it replies to, that it was forwarded.
pub fn above(chat: &Chat, message: &Message) -> Option<String> {
    match (message.envelope.about, message.envelope.forwards) {
        (0, 0) => None,
        (0, _) => Some(talk::prefix(message).trim().to_owned()),
        (about, _) => Some(format!("│ {}", chat.quoted(about))),
    }
}
