//! `tern chat`: the loop that turns keys and events into the screen.

mod input;
mod keys;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal as _;

use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyEventKind};
use ratatui::layout::{Position, Rect};
use ratatui::{DefaultTerminal, crossterm};
use tern_client::{Client, Error, Event, Events, HistoryPage, Message, Person, Sent};
use tokio::sync::mpsc;

use crate::commands;
use crate::profile::ProfileArgs;
use keys::Action;
use state::Chat;

/// Messages read from history at once.
const PAGE_MESSAGES: u32 = 100;

/// Messages shown that the server has no more.
const GONE_MESSAGES: u32 = 1000;

/// What a task of the chat has come back with.
enum Done {
    Sent(u64, Result<Sent, Error>),
    Page(Result<HistoryPage, Error>),
    Gone(Result<Vec<Message>, Error>),
    Person(Person),
}

/// Runs until the user leaves.
pub async fn run(profile: &ProfileArgs, phone: &str) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::Config("chat needs a terminal: programs use send and listen --json".to_owned()));
    }
    let options = profile.registered()?;
    let server = options.server.clone();
    let (client, mut events) = Client::start(options).await?;
    let mut before = Vec::new();
    let peer = loop {
        match client.lookup_phone(phone).await {
            Ok(peer) => break peer,
            // The events say whether it is worth waiting.
            Err(error @ (Error::Connection(_) | Error::Closed)) => match events.next().await {
                Some(Event::Disconnected { .. }) | None => return Err(error),
                Some(Event::SessionEnded(reason)) => return Err(Error::SessionEnded(reason)),
                Some(Event::OtherStore) => return Err(Error::OtherStore { server }),
                Some(event) => before.push(event),
            },
            Err(error) => return Err(error),
        }
    };
    let mut terminal =
        ratatui::try_init().map_err(|error| Error::Config(format!("the terminal: {error}")))?;
    let mut chat = Chat::new(peer);
    for event in before {
        chat.take(event);
    }
    modes(true);
    let ended = Screen::new(&client, server, chat).run(&mut terminal, &mut events).await;
    modes(false);
    ratatui::restore();
    events.done();
    commands::close(&client).await;
    ended
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

/// The chat on the screen, with what it has under way.
struct Screen<'a> {
    client: &'a Client,
    server: String,
    chat: Chat,
    done: mpsc::UnboundedSender<Done>,
    finished: mpsc::UnboundedReceiver<Done>,
    reading: bool,
}

impl<'a> Screen<'a> {
    fn new(client: &'a Client, server: String, chat: Chat) -> Self {
        let (done, finished) = mpsc::unbounded_channel();
        Self { client, server, chat, done, finished, reading: false }
    }

    async fn run(&mut self, terminal: &mut DefaultTerminal, events: &mut Events) -> Result<(), Error> {
        let screen = |error: std::io::Error| Error::Config(format!("the terminal: {error}"));
        let mut keys = terminal_events();
        let mut interrupted = std::pin::pin!(interrupted());
        self.read_gone();
        loop {
            if self.chat.wants_older() {
                self.read_older();
            }
            terminal.draw(|frame| view::draw(&mut self.chat, frame)).map_err(screen)?;
            // Read is what has been on the screen.
            if let Some(upto) = self.chat.newly_seen() {
                self.client.mark_read(self.chat.peer().user_id, upto).await?;
            }
            tokio::select! {
                key = keys.recv() => match key {
                    Some(key) => match self.key(&key) {
                        Next::GoOn => {}
                        Next::Repaint => repaint(terminal).map_err(screen)?,
                        Next::Suspend => suspend(terminal).map_err(screen)?,
                        Next::Leave => return Ok(()),
                    },
                    None => return Ok(()),
                },
                event = events.next() => match event {
                    Some(Event::SessionEnded(reason)) => return Err(Error::SessionEnded(reason)),
                    Some(Event::OtherStore) => {
                        return Err(Error::OtherStore { server: self.server.clone() });
                    }
                    Some(event) => self.event(event),
                    None => return Ok(()),
                },
                Some(done) = self.finished.recv() => self.finish(done),
                () = &mut interrupted => return Ok(()),
            }
        }
    }

    /// Does what a key means.
    fn key(&mut self, event: &TerminalEvent) -> Next {
        let action = match event {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => keys::action(key),
            TerminalEvent::Paste(text) => Action::Insert(text.clone()),
            // Terminals of another size are not always told to forget what they show.
            TerminalEvent::Resize(..) => return Next::Repaint,
            _ => return Next::GoOn,
        };
        match action {
            Action::Leave => return Next::Leave,
            Action::DeleteOrLeave if self.chat.input.text().is_empty() => return Next::Leave,
            Action::Repaint => return Next::Repaint,
            Action::Suspend => return Next::Suspend,
            Action::Send => {
                if let Some((number, text)) = self.chat.send() {
                    let (client, done) = (self.client.clone(), self.done.clone());
                    let peer = self.chat.peer().user_id;
                    tokio::spawn(async move {
                        // The screen may be gone.
                        let _ = done.send(Done::Sent(number, client.send(peer, text).await));
                    });
                }
            }
            action => self.chat.edit(&action),
        }
        Next::GoOn
    }

    fn event(&mut self, event: Event) {
        // Their first words may have made their name known.
        let names = matches!(event, Event::Connected | Event::Message(_)) && self.chat.wants_name();
        self.chat.take(event);
        if names {
            self.look_up();
        }
    }

    fn read_older(&mut self) {
        if self.reading {
            return;
        }
        self.reading = true;
        let (client, done) = (self.client.clone(), self.done.clone());
        let (peer, from) = (self.chat.peer().user_id, self.chat.oldest());
        tokio::spawn(async move {
            let _ = done.send(Done::Page(client.history(peer, from, false, PAGE_MESSAGES).await));
        });
    }

    fn read_gone(&self) {
        let (client, done) = (self.client.clone(), self.done.clone());
        let peer = self.chat.peer().user_id;
        tokio::spawn(async move {
            let _ = done.send(Done::Gone(client.gone(peer, GONE_MESSAGES).await));
        });
    }

    fn look_up(&self) {
        let (client, done) = (self.client.clone(), self.done.clone());
        let peer = self.chat.peer().user_id;
        tokio::spawn(async move {
            if let Ok(person) = client.lookup_user(peer).await {
                let _ = done.send(Done::Person(person));
            }
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Sent(number, result) => self.chat.sent(number, result),
            Done::Gone(Ok(gone)) => gone.into_iter().for_each(|message| self.chat.lose(message)),
            Done::Gone(Err(error)) => self.chat.notice = Some(crate::shown::clean_line(&error.to_string())),
            Done::Person(person) => self.chat.know(person),
            Done::Page(page) => {
                self.reading = false;
                self.chat.page(page);
            }
        }
    }
}

/// Keys come from a thread of their own: reading a terminal blocks. It ends with the process.
fn terminal_events() -> mpsc::UnboundedReceiver<TerminalEvent> {
    let (sender, events) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    events
}
