//! What keys mean: a shell's line editing, in several lines.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the user wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Insert(String),
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    /// The beginning and the end of the line.
    Home,
    End,
    /// Cuts, to be put back: up to the beginning of the line, to its end, the word before.
    CutToHome,
    CutToEnd,
    CutWord,
    PutBack,
    /// A line of the input up or down, or of the chat where the input has none there.
    Up,
    Down,
    Send,
    /// Marks the message above, or below, to do something to it.
    Mark(bool),
    /// Lines towards older messages; negative towards newer ones.
    Scroll(i32),
    ScrollPages(i32),
    /// To the newest message.
    ToNewest,
    /// Looks for text in what is loaded; again: further up.
    Search,
    /// The same, further down.
    SearchDown,
    /// To the list of chats.
    Chats,
    Help,
    Repaint,
    Suspend,
    Leave,
    /// Deletes to the right, or leaves if nothing is written.
    DeleteOrLeave,
    Nothing,
}

/// Whether the screen explains the keys.
#[derive(Default)]
pub struct Help {
    pub shown: bool,
}

impl Help {
    /// Whether a key is for the help: F1 shows it, as `?` does where nothing is written, and any key goes back. A `?` goes back to what
    /// is written and stands there: whoever means to write one types it twice.
    pub fn takes(&mut self, key: &KeyEvent, action: &Action, is_written: bool) -> bool {
        let asks = key.code == KeyCode::Char('?') && matches!(action, Action::Insert(_));
        if std::mem::take(&mut self.shown) {
            return !asks;
        }
        self.shown = *action == Action::Help || (asks && !is_written);
        self.shown
    }
}

/// The meaning of a key.
pub fn action(key: &KeyEvent) -> Action {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let shift = key.modifiers.contains(KeyModifiers::SHIFT);
    match key.code {
        KeyCode::Enter if alt || shift => Action::Insert("\n".to_owned()),
        KeyCode::Enter => Action::Send,
        KeyCode::Char(c) if control => with_control(c),
        KeyCode::Char('b') if alt => Action::WordLeft,
        KeyCode::Char('f') if alt => Action::WordRight,
        KeyCode::Backspace if alt => Action::CutWord,
        // Of a key that means nothing here, nothing is written.
        KeyCode::Char(_) if alt => Action::Nothing,
        KeyCode::Char(c) => Action::Insert(c.to_string()),
        KeyCode::Tab => Action::Nothing,
        KeyCode::Backspace => Action::Backspace,
        KeyCode::Delete => Action::Delete,
        KeyCode::Left if control || alt => Action::WordLeft,
        KeyCode::Right if control || alt => Action::WordRight,
        KeyCode::Left => Action::Left,
        KeyCode::Right => Action::Right,
        KeyCode::End if control => Action::ToNewest,
        KeyCode::Home => Action::Home,
        KeyCode::End => Action::End,
        KeyCode::Up if shift => Action::Scroll(1),
        KeyCode::Down if shift => Action::Scroll(-1),
        KeyCode::Up if control || alt => Action::Mark(true),
        KeyCode::Down if control || alt => Action::Mark(false),
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::ScrollPages(1),
        KeyCode::PageDown => Action::ScrollPages(-1),
        KeyCode::F(1) => Action::Help,
        KeyCode::Esc => Action::Leave,
        _ => Action::Nothing,
    }
}

fn with_control(c: char) -> Action {
    match c {
        'c' => Action::Leave,
        'd' => Action::DeleteOrLeave,
        'a' => Action::Home,
        'e' => Action::End,
        'b' => Action::Left,
        'f' => Action::Right,
        'g' => Action::Chats,
        'h' => Action::Backspace,
        // What terminals send for Enter in a line of its own.
        'j' => Action::Insert("\n".to_owned()),
        'k' => Action::CutToEnd,
        'l' => Action::Repaint,
        'r' => Action::Search,
        's' => Action::SearchDown,
        'u' => Action::CutToHome,
        'w' => Action::CutWord,
        'y' => Action::PutBack,
        'z' => Action::Suspend,
        _ => Action::Nothing,
    }
}
