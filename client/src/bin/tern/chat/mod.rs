//! `tern chat`: the loop that turns keys and events into the screen.

mod about;
mod dropped;
mod files;
mod input;
mod keys;
mod picker;
mod pictures;
mod state;
#[cfg(test)]
mod tests;
mod thumbnail;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyEventKind};
use ratatui::layout::{Position, Rect};
use ratatui::{DefaultTerminal, crossterm};
use serde_json::{Value, json};
use tern_client::{
    Client, Doing, Error, Event, Events, HistoryPage, NewMessage, Person, Private, Sent, is_group,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::asker;
use crate::commands;
use crate::methods::{Failure, Session};
use crate::profile::ProfileArgs;
use crate::rpc::Server;
use crate::shown;
use crate::who::Who;
use about::Marked;
use files::Came;
use keys::{Action, Help};
use picker::{Picked, Picker};
use pictures::Means;
pub use pictures::Pictures;
use state::{Chat, Kept};

/// Messages read from history at once.
const PAGE_MESSAGES: u32 = 100;

/// Messages shown that the server has no more.
const GONE_MESSAGES: u32 = 1000;

/// Chats that are kept as they were left. Beyond, those that were left first begin anew.
const CHATS_MAX: usize = 16;

/// How long nothing is typed before the draft is kept.
const DRAFT_DELAY: Duration = Duration::from_millis(500);

/// How often others are told that one types.
const TYPING_EVERY: Duration = Duration::from_secs(4);

/// What a terminal takes for its bell.
const BELL: &str = "\x07";

/// How a message that comes is made known beside the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Notify {
    /// The terminal's bell
    Bell,
    /// A notification of the desktop, where the terminal knows OSC 9; it says from whom
    Osc,
}

/// What a task of the chat has come back with; the number is whose chat it is about.
enum Done {
    Sent(u64, u64, Result<Sent, Error>),
    Page(u64, Result<HistoryPage, Error>),
    Kept(u64, Result<Kept, Error>),
    /// One's own devices are told something.
    Told(Result<Sent, Error>),
    Person(Person),
    /// Of a group, what somebody is called.
    Member(u64, Person),
    /// Somebody was looked up, to chat with.
    Found(u64, Result<Value, Failure>),
    Chats(Result<Value, Failure>),
    /// Something about files of a chat.
    File(u64, Came),
}

/// Runs until the user leaves.
pub async fn run(
    profile: &ProfileArgs,
    who: Option<Who>,
    notify: Option<Notify>,
    pictures: Pictures,
) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let why = "chat needs a terminal: programs use rpc, or send and listen --json";
        return Err(Error::Config(why.to_owned()).into());
    }
    let options = profile.registered()?;
    let (session, mut events) = asker::start(profile, true).await?;
    let server = Server::without_events(session.clone());
    commands::serve_others(&options, server.clone());
    let first = match who {
        Some(who) => Some(shown::person_of(&session.call("lookup", who.params().into()).await?)),
        None => None,
    };
    let mut terminal =
        ratatui::try_init().map_err(|error| Error::Config(format!("the terminal: {error}")))?;
    modes(true);
    // Nothing else reads the terminal yet.
    let means = tokio::task::spawn_blocking(move || self::pictures::means(pictures)).await;
    let mut screen = Screen::new(session.clone(), notify, means.unwrap_or(Means::Nothing));
    match first {
        Some(peer) => screen.open(peer),
        None => screen.pick(),
    }
    let ended = screen.run(&mut terminal, &mut events).await;
    // Before the terminal is touched: it may have gone, and that is why this ends.
    screen.keep_drafts(true).await;
    events.done();
    modes(false);
    let _ = ratatui::try_restore();
    asker::close(&session.client).await;
    server.finish().await;
    Ok(ended?)
}

/// Waits for a signal that asks the program to end.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Without handlers the signals end the program by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// What follows from a key, beside what it changes.
enum Next {
    GoOn,
    Repaint,
    Suspend,
    Leave,
}

/// Paints all of the screen anew. (`Terminal::clear` asks the terminal where its cursor is, and the thread of the keys would take
/// the answer.)
fn repaint(terminal: &mut DefaultTerminal) -> std::io::Result<()> {
    let size = terminal.size()?;
    terminal.resize(Rect::from((Position::ORIGIN, size)))
}

/// Gives the terminal back to the shell until this program is called up again.
fn suspend(terminal: &mut DefaultTerminal) -> std::io::Result<()> {
    modes(false);
    ratatui::try_restore()?;
    // All threads stop here, until the shell lets them go on.
    let stopped = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP);
    *terminal = ratatui::try_init()?;
    modes(true);
    stopped.map_err(std::io::Error::from)
}

/// Turns on what the chat wants of a terminal beside ratatui's own: pasted text as a piece, and the wheel as arrows. Those that
/// know neither do without.
fn modes(on: bool) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let _ = if on {
        crossterm::execute!(stdout, event::EnableBracketedPaste)
            .and_then(|()| stdout.write_all(b"\x1b[?1007h"))
    } else {
        crossterm::execute!(stdout, event::DisableBracketedPaste)
            .and_then(|()| stdout.write_all(b"\x1b[?1007l"))
    };
    let _ = stdout.flush();
}

/// The chats, which of them is on the screen, and what is under way.
struct Screen {
    session: Arc<Session>,
    chats: BTreeMap<u64, Chat>,
    /// The chat on the screen, and those that were left, the latest last.
    current: Option<u64>,
    left: Vec<u64>,
    picker: Option<Picker>,
    help: Help,
    /// Counts those that were looked for.
    finding: u64,
    done: mpsc::UnboundedSender<Done>,
    finished: mpsc::UnboundedReceiver<Done>,
    /// Chats of which a page is being read.
    reading: BTreeSet<u64>,
    /// Messages from others than who is on the screen.
    elsewhere: BTreeMap<u64, u64>,
    names: BTreeMap<u64, String>,
    connected: bool,
    notify: Option<Notify>,
    /// How pictures are shown.
    means: Means,
    /// When what is being written is to be kept.
    draft_at: Option<Instant>,
    /// In which chat others were told that one types, and when it may be said again.
    typing: Option<(u64, Instant)>,
    /// Lines on the screen of which terminals and this program may think that they are of another width.
    doubtful: Vec<(u16, String)>,
}

impl Screen {
    fn new(session: Arc<Session>, notify: Option<Notify>, means: Means) -> Self {
        let (done, finished) = mpsc::unbounded_channel();
        Self {
            session,
            chats: BTreeMap::new(),
            current: None,
            left: Vec::new(),
            picker: None,
            help: Help::default(),
            finding: 0,
            done,
            finished,
            reading: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            names: BTreeMap::new(),
            connected: false,
            notify,
            means,
            draft_at: None,
            typing: None,
            doubtful: Vec::new(),
        }
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    fn chat(&mut self) -> Option<&mut Chat> {
        self.chats.get_mut(&self.current?)
    }

    async fn run(&mut self, terminal: &mut DefaultTerminal, events: &mut Events) -> Result<(), Error> {
        let screen = |error: std::io::Error| Error::Config(format!("the terminal: {error}"));
        let mut keys = terminal_events();
        let mut interrupted = std::pin::pin!(interrupted());
        loop {
            let ends_at = self.end();
            self.draw(terminal).map_err(screen)?;
            if self.picker.is_none() {
                self.was_on_screen().await?;
            }
            let draft_at = self.draft_at;
            tokio::select! {
                key = keys.recv() => match key {
                    Some((pressed, key)) => match self.key(&key, pressed) {
                        Next::GoOn => {}
                        Next::Repaint => repaint(terminal).map_err(screen)?,
                        Next::Suspend => {
                            suspend(terminal).map_err(screen)?;
                            self.forget_pictures();
                        }
                        Next::Leave => return Ok(()),
                    },
                    None => return Ok(()),
                },
                event = events.next() => match event {
                    Some(Event::SessionEnded(reason)) => return Err(Error::SessionEnded(reason)),
                    Some(Event::OtherStore) => {
                        return Err(Error::OtherStore { server: self.session.server.clone() });
                    }
                    Some(event) => self.event(&event),
                    None => return Ok(()),
                },
                Some(done) = self.finished.recv() => self.finish(done),
                () = at(draft_at) => {
                    self.draft_at = None;
                    self.keep_drafts(false).await;
                }
                () = at(ends_at) => {}
                () = &mut interrupted => return Ok(()),
            }
        }
    }

    /// Takes from the screen what has ended. Gives when there is more to be taken.
    fn end(&mut self) -> Option<Instant> {
        let now_ms = crate::private::now_ms();
        let next_ms = self.chat()?.end(now_ms)?;
        Some(Instant::now() + Duration::from_millis(next_ms.saturating_sub(now_ms)))
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal) -> std::io::Result<()> {
        let doubtful = self.paint(terminal)?;
        if std::mem::replace(&mut self.doubtful, doubtful) != self.doubtful {
            // What the terminal thinks wider or narrower would leave its traces.
            repaint(terminal)?;
            self.paint(terminal)?;
        }
        Ok(())
    }

    fn paint(&mut self, terminal: &mut DefaultTerminal) -> std::io::Result<Vec<(u16, String)>> {
        let elsewhere = self.elsewhere_text();
        let painted = if self.help.shown {
            terminal.draw(view::draw_help)?
        } else if let Some(picker) = &mut self.picker {
            terminal.draw(|frame| picker.draw(frame))?
        } else if let Some(chat) = self.chat() {
            chat.elsewhere = elsewhere;
            let painted = terminal.draw(|frame| view::draw(chat, frame))?;
            chat.offer.was_drawn(Instant::now());
            painted
        } else {
            return Ok(Vec::new());
        };
        Ok(view::doubtful(painted.buffer))
    }

    /// Read is what has been on the screen; and who is near the oldest message wants those before it.
    async fn was_on_screen(&mut self) -> Result<(), Error> {
        let Some(chat) = self.chat() else { return Ok(()) };
        let (peer, seen) = (chat.peer().user_id, chat.newly_seen());
        if chat.wants_older() {
            self.read_older(peer);
        }
        self.fetch_pictures();
        match seen {
            Some(upto) => self.client().mark_read(peer, upto).await,
            None => Ok(()),
        }
    }

    fn elsewhere_text(&self) -> String {
        let from = |(peer, count): (&u64, &u64)| {
            let name = self.names.get(peer).cloned().unwrap_or_else(|| format!("@{peer}"));
            format!("{count} new from {name}")
        };
        let mut texts: Vec<_> = self.elsewhere.iter().take(3).map(from).collect();
        if self.elsewhere.len() > texts.len() {
            texts.push("more".to_owned());
        }
        if !texts.is_empty() {
            texts.push("Ctrl-G".to_owned());
        }
        texts.join(", ")
    }

    /// Does what a key means.
    fn key(&mut self, event: &TerminalEvent, pressed: Instant) -> Next {
        let action = match event {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => keys::action(key),
            TerminalEvent::Paste(text) => Action::Insert(text.clone()),
            // Terminals of another size are not always told to forget what they show.
            TerminalEvent::Resize(..) => return Next::Repaint,
            _ => return Next::GoOn,
        };
        match action {
            Action::Repaint => return Next::Repaint,
            Action::Suspend => return Next::Suspend,
            _ => {}
        }
        let is_written = self.is_written();
        match event {
            TerminalEvent::Key(key) if self.help.takes(key, &action, is_written) => return Next::GoOn,
            // What is pasted is written, and seen.
            _ => self.help.shown = false,
        }
        if self.picker.is_some() {
            return self.key_in_picker(&action);
        }
        let next = self.key_in_chat(action, pressed);
        if matches!(event, TerminalEvent::Paste(_)) {
            self.look_for_file(false);
        }
        next
    }

    /// Whether something is written where keys write.
    fn is_written(&self) -> bool {
        if let Some(picker) = &self.picker {
            return picker.is_written();
        }
        let chat = self.current.and_then(|current| self.chats.get(&current));
        chat.is_some_and(|chat| chat.search.is_some() || !chat.input.text().is_empty())
    }

    fn key_in_picker(&mut self, action: &Action) -> Next {
        let Some(picker) = &mut self.picker else { return Next::GoOn };
        match picker.key(action) {
            Picked::Stay => {}
            Picked::Leave if self.current.is_none() => return Next::Leave,
            Picked::Leave => (self.picker, self.finding) = (None, self.finding + 1),
            Picked::Known(peer) => self.find(&Who::User(peer)),
            Picked::Typed(who) => self.find(&who),
        }
        Next::GoOn
    }

    fn key_in_chat(&mut self, action: Action, pressed: Instant) -> Next {
        let Some(chat) = self.chat() else { return Next::Leave };
        if chat.edit_search(&action) {
            return Next::GoOn;
        }
        if self.key_to_offer(&action, pressed) {
            return Next::GoOn;
        }
        let Some(chat) = self.chat() else { return Next::Leave };
        match chat.mark(&action) {
            Marked::Other => {}
            Marked::Done => return Next::GoOn,
            Marked::Send(number, message) => {
                self.send(number, message);
                return Next::GoOn;
            }
            Marked::Own(private) => {
                let (client, done) = (self.client().clone(), self.done.clone());
                tokio::spawn(async move {
                    let _ = done.send(Done::Told(client.tell_own(&private).await));
                });
                return Next::GoOn;
            }
        }
        match action {
            Action::Leave => return Next::Leave,
            Action::DeleteOrLeave if chat.input.text().is_empty() => return Next::Leave,
            Action::Search => chat.begin_search(),
            Action::Chats => self.pick(),
            Action::Send => return self.enter(),
            action => {
                let before = chat.input.text().len();
                chat.edit(&action);
                let (peer, writes) = (chat.peer().user_id, chat.input.text().len() > before);
                self.draft_at = Some(Instant::now() + DRAFT_DELAY);
                if writes {
                    self.types(peer);
                }
            }
        }
        Next::GoOn
    }

    /// Sends what is written, or does what it says: what people type who are used to commands, and never mean to send.
    fn enter(&mut self) -> Next {
        let Some(chat) = self.chat() else { return Next::GoOn };
        let command = chat.input.text().trim_end().to_owned();
        if matches!(command.as_str(), "/quit" | "/help" | "/chats") {
            chat.input.take();
            match command.as_str() {
                "/quit" => return Next::Leave,
                "/help" => self.help.shown = true,
                _ => self.pick(),
            }
            return Next::GoOn;
        }
        if self.look_for_file(true) {
            return Next::GoOn;
        }
        if let Some((number, message)) = self.chat().and_then(Chat::send) {
            self.send(number, message);
        }
        Next::GoOn
    }

    fn send(&mut self, number: u64, message: NewMessage) {
        let (client, done, peer) = (self.client().clone(), self.done.clone(), message.chat);
        tokio::spawn(async move {
            // The screen may be gone.
            let _ = done.send(Done::Sent(peer, number, client.send_message(message).await));
        });
        self.draft_at = Some(Instant::now());
        // The message itself says that it is written.
        self.typing = None;
    }

    /// Whoever shows the chat is told that one types, now and then.
    fn types(&mut self, peer: u64) {
        let now = Instant::now();
        if self.typing.is_some_and(|(chat, again)| chat == peer && again > now) {
            return;
        }
        self.typing = Some((peer, now + TYPING_EVERY));
        let client = self.client().clone();
        tokio::spawn(async move {
            // It is of the moment: if it can't be told, it is not.
            let _ = client.act(peer, Doing::Typing).await;
        });
    }

    /// The server is told which chat is on the screen: what happens there is told then.
    fn show(&self, peer: u64) {
        let client = self.client().clone();
        tokio::spawn(async move {
            let (users, groups) = if is_group(peer) { (vec![], vec![peer]) } else { (vec![peer], vec![]) };
            let _ = client.show(&users, &groups, false).await;
        });
    }

    /// Shows the list of chats.
    fn pick(&mut self) {
        self.picker = Some(Picker::default());
        self.ask("chats", json!({}), Done::Chats);
    }

    /// Looks for somebody, to go to their chat: the last that was chosen, and if nothing else is done meanwhile.
    fn find(&mut self, who: &Who) {
        self.finding += 1;
        let number = self.finding;
        self.ask("lookup", who.params().into(), move |found| Done::Found(number, found));
    }

    fn ask(
        &self,
        method: &'static str,
        params: Value,
        done: impl FnOnce(Result<Value, Failure>) -> Done + Send + 'static,
    ) {
        let (session, finished) = (self.session.clone(), self.done.clone());
        tokio::spawn(async move {
            let _ = finished.send(done(session.call(method, params).await));
        });
    }

    /// Goes to a chat.
    fn open(&mut self, peer: Person) {
        let id = peer.user_id;
        if let Some(before) = self.current.replace(id) {
            // Those of the chat on the screen alone are kept.
            self.chats.get_mut(&before).into_iter().for_each(|chat| chat.pictures.clear());
            self.left.retain(|left| *left != before);
            self.left.push(before);
        }
        self.left.retain(|left| *left != id);
        (self.picker, self.draft_at) = (None, Some(Instant::now()));
        self.show(id);
        self.elsewhere.remove(&id);
        if !self.chats.contains_key(&id) {
            let mut chat = Chat::new(peer);
            chat.connected = self.connected;
            self.chats.insert(id, chat);
            self.read_kept(id);
        }
        // Of those that go their drafts are kept already.
        while self.chats.len() > CHATS_MAX && !self.left.is_empty() {
            self.chats.remove(&self.left.remove(0));
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::Disconnected { .. } => self.connected = false,
            // However messages are made known: somebody looks for this very device.
            Event::Ring { .. } => tell_terminal(BELL),
            _ => {}
        }
        if let Event::Message(message) = event
            && let Some(name) = shown::group_name(message)
        {
            self.names.insert(message.chat, shown::clean_line(&name));
        }
        if let Event::Message(message) = event
            && !message.own
        {
            if self.current != Some(message.chat) && message.kind.is_message() {
                *self.elsewhere.entry(message.chat).or_default() += 1;
                if !self.names.contains_key(&message.chat) {
                    self.look_up(message.chat);
                }
            }
            if message.kind.is_message() {
                self.notify(message.chat);
            }
        }
        // Their first words may have made their name known.
        let news = matches!(event, Event::Connected | Event::Message(_));
        let nameless: Vec<_> = self.chats.values().filter(|chat| news && chat.wants_name()).collect();
        let nameless: Vec<_> = nameless.iter().map(|chat| chat.peer().user_id).collect();
        for chat in self.chats.values_mut() {
            chat.take(event.clone());
        }
        nameless.into_iter().for_each(|peer| self.look_up(peer));
        self.meet_strangers();
    }

    /// Asks what those of a group are called whom a screen names; each once.
    fn meet_strangers(&mut self) {
        let strangers = |chat: &Chat| (chat.peer().user_id, chat.strangers());
        let all: Vec<_> = self.chats.values().map(strangers).filter(|(_, all)| !all.is_empty()).collect();
        for (group, strangers) in all {
            for user in &strangers {
                // Until it is known, and if nobody tells, the number is what there is.
                self.chats.get_mut(&group).into_iter().for_each(|chat| chat.meet(*user, String::new()));
            }
            let (client, done) = (self.client().clone(), self.done.clone());
            tokio::spawn(async move {
                for user in strangers {
                    if let Ok(person) = client.lookup_member(group, user).await {
                        let _ = done.send(Done::Member(group, person));
                    }
                }
            });
        }
    }

    fn notify(&self, peer: u64) {
        let name = self.names.get(&peer).cloned();
        let name = name.or_else(|| self.chats.get(&peer).map(|chat| shown::name_of(chat.peer())));
        let text = match (self.notify, name) {
            (None, _) => return,
            (Some(Notify::Bell), _) => BELL.to_owned(),
            // A name holds no control characters when it is shown.
            (Some(Notify::Osc), name) => {
                format!("\x1b]9;tern: a message from {}\x07", name.unwrap_or_else(|| format!("@{peer}")))
            }
        };
        tell_terminal(&text);
    }

    fn read_older(&mut self, peer: u64) {
        let Some(from) = self.chats.get(&peer).map(Chat::oldest).filter(|_| self.reading.insert(peer)) else {
            return;
        };
        let (client, done) = (self.client().clone(), self.done.clone());
        tokio::spawn(async move {
            let _ = done.send(Done::Page(peer, client.history(peer, from, false, PAGE_MESSAGES).await));
        });
    }

    /// Reads what the profile has kept of a chat beside its messages: those that are gone, a draft, what is hidden.
    fn read_kept(&self, peer: u64) {
        let (client, done) = (self.client().clone(), self.done.clone());
        tokio::spawn(async move {
            let kept = async {
                let gone = client.gone(peer, GONE_MESSAGES).await?;
                let (draft, told) = (client.draft(peer).await?, client.told_draft(peer).await?);
                Ok(Kept { gone, draft, told, hidden: client.hidden(peer).await? })
            };
            let _ = done.send(Done::Kept(peer, kept.await));
        });
    }

    fn look_up(&self, peer: u64) {
        let (client, done) = (self.client().clone(), self.done.clone());
        tokio::spawn(async move {
            if let Ok(person) = client.lookup_chat(peer).await {
                let _ = done.send(Done::Person(person));
            }
        });
    }

    /// Has what is being written kept; and one's own devices are told of it in chats that are left, and where it is sent.
    async fn keep_drafts(&mut self, leaves_all: bool) {
        let client = self.client().clone();
        let current = self.current.filter(|_| !leaves_all);
        for (peer, chat) in &mut self.chats {
            if let Some(text) = chat.draft_to_keep() {
                // One that can't be kept is still on the screen.
                let _ = client.set_draft(*peer, text).await;
            }
            if (Some(*peer) != current || chat.input.text().is_empty())
                && let Some(text) = chat.draft_to_tell()
            {
                let _ = client.keep_own(&Private::Draft(*peer, text.into(), 0)).await;
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let told = |error: &Error| Some(shown::clean_line(&error.to_string()));
        match done {
            Done::Sent(peer, number, result) => {
                if let Some(chat) = self.chats.get_mut(&peer) {
                    chat.sent(number, result);
                }
            }
            Done::Page(peer, page) => {
                self.reading.remove(&peer);
                if let Some(chat) = self.chats.get_mut(&peer) {
                    chat.page(page);
                }
                self.meet_strangers();
            }
            Done::Member(group, person) => {
                if let Some(chat) = self.chats.get_mut(&group) {
                    chat.meet(person.user_id, shown::name_of(&person));
                }
            }
            Done::Kept(peer, kept) => {
                if let Some(chat) = self.chats.get_mut(&peer) {
                    let taken = kept.map(|kept| chat.take_kept(kept));
                    taken.unwrap_or_else(|error| chat.notice = told(&error));
                }
            }
            Done::Told(result) => {
                let kept = || Some("kept on all your devices".to_owned());
                let notice = result.as_ref().map_or_else(told, |_| kept());
                self.chat().into_iter().for_each(|chat| chat.notice.clone_from(&notice));
            }
            Done::Person(person) => {
                self.names.insert(person.user_id, shown::name_of(&person));
                if let Some(chat) = self.chats.get_mut(&person.user_id) {
                    chat.know(person);
                }
            }
            // Whoever has left the list has changed their mind.
            Done::Found(number, _) if number != self.finding || self.picker.is_none() => {}
            Done::Found(_, Ok(person)) => self.open(shown::person_of(&person)),
            Done::Chats(Ok(mut chats)) => {
                if let (Some(picker), Some(chats)) = (&mut self.picker, chats["chats"].as_array_mut()) {
                    picker.list(std::mem::take(chats));
                }
            }
            Done::Found(_, Err(failure)) | Done::Chats(Err(failure)) => {
                if let Some(picker) = &mut self.picker {
                    picker.notice = Some(why(failure));
                }
            }
            Done::File(peer, came) => self.finish_file(peer, came),
        }
    }
}

/// What a failure says to people.
fn why(failure: Failure) -> String {
    match failure {
        Failure::Error(error) => error.to_string(),
        Failure::Params(why) | Failure::Told { message: why, .. } => why,
        Failure::Method | Failure::Gone(_) => String::new(),
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Says something to the terminal that changes nothing on the screen.
fn tell_terminal(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Keys, with when they were pressed, come from a thread of their own: reading a terminal blocks. It ends with the process.
fn terminal_events() -> mpsc::UnboundedReceiver<(Instant, TerminalEvent)> {
    let (sender, events) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send((Instant::now(), event)).is_err() {
                break;
            }
        }
    });
    events
}
