//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the user wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Insert(String),
    Backspace,
    Delete,
    Left,
    Right,
    Home,
    End,
    Clear,
    Send,
    /// Lines towards older messages; negative towards newer ones.
    Scroll(i32),
    ScrollPages(i32),
    Leave,
    Nothing,
}

/// The meaning of a key.
pub fn action(key: &KeyEvent) -> Action {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => Action::Leave,
        KeyCode::Char('u') if control => Action::Clear,
        KeyCode::Char('a') if control => Action::Home,
        KeyCode::Char('e') if control => Action::End,
        KeyCode::Char(_) if control => Action::Nothing,
        KeyCode::Char(c) => Action::Insert(c.to_string()),
        KeyCode::Enter => Action::Send,
        KeyCode::Backspace => Action::Backspace,
        KeyCode::Delete => Action::Delete,
        KeyCode::Left => Action::Left,
        KeyCode::Right => Action::Right,
        KeyCode::Home => Action::Home,
        KeyCode::End => Action::End,
        KeyCode::Up => Action::Scroll(1),
        KeyCode::Down => Action::Scroll(-1),
        KeyCode::PageUp => Action::ScrollPages(1),
        KeyCode::PageDown => Action::ScrollPages(-1),
        KeyCode::Esc => Action::Leave,
        _ => Action::Nothing,
    }
}
