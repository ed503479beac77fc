//! The list of chats on the screen, to go to one of them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position};
use ratatui::style::Stylize as _;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::Value;
use tern_client::Person;

use super::input::Input;
use super::keys::Action;
use crate::who::Who;
use crate::{shown, tables};

/// See the module.
#[derive(Debug, Default)]
pub struct Picker {
    /// What is listed; `None` until it has come.
    chats: Option<Vec<Value>>,
    /// What is typed: a part of a name or phone, or a phone of somebody else.
    typed: Input,
    chosen: usize,
    pub notice: Option<String>,
    /// Lines of the list that fit on the screen, as drawn last.
    page_lines: usize,
}

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Picked {
    /// Nothing.
    Stay,
    /// It is left.
    Leave,
    /// This person's chat is to be opened.
    Known(u64),
    /// This person is to be looked up.
    Typed(Who),
}

impl Picker {
    /// The list has come.
    pub fn list(&mut self, chats: Vec<Value>) {
        self.chats = Some(chats);
        self.chosen = self.chosen.min(self.matching().len().saturating_sub(1));
    }

    fn matching(&self) -> Vec<&Value> {
        let wanted = self.typed.text().to_lowercase();
        let is_wanted = |chat: &&Value| {
            let Person { user_id, name, phone, .. } = shown::person_of(chat);
            let texts = [name.to_lowercase(), phone, format!("@{user_id}")];
            texts.iter().any(|text| text.contains(wanted.trim()))
        };
        self.chats.iter().flatten().filter(is_wanted).collect()
    }

    /// Whether something is typed.
    pub fn is_written(&self) -> bool {
        !self.typed.text().is_empty()
    }

    /// Does what a key means.
    pub fn key(&mut self, action: &Action) -> Picked {
        let matching = self.matching();
        match action {
            Action::Leave => return Picked::Leave,
            Action::Send => {
                if let Some(chat) = matching.get(self.chosen) {
                    return Picked::Known(shown::person_of(chat).user_id);
                }
                match self.typed.text().trim().parse() {
                    Ok(who) => return Picked::Typed(who),
                    Err(why) => self.notice = Some(why),
                }
            }
            Action::Up | Action::Scroll(1) => self.chosen = self.chosen.saturating_sub(1),
            Action::Down | Action::Scroll(_) => {
                self.chosen = (self.chosen + 1).min(matching.len().saturating_sub(1));
            }
            Action::ScrollPages(pages) => {
                let page = self.page_lines.max(1) as isize * *pages as isize;
                let last = matching.len().saturating_sub(1);
                self.chosen = self.chosen.saturating_add_signed(-page).min(last);
            }
            Action::Insert(text) if text.contains('\n') => {}
            action => {
                if self.typed.edit(action) {
                    (self.chosen, self.notice) = (0, None);
                }
            }
        }
        Picked::Stay
    }

    /// Draws it. It learns how much fits.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let [head, middle, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
        let title = match &self.notice {
            Some(notice) => {
                Line::from(vec![" chats  ".bold(), Span::from(shown::clean_line(notice)).yellow()])
            }
            None => Line::from(" chats ".bold()),
        };
        frame.render_widget(Paragraph::new(title.reversed()), head);
        self.page_lines = usize::from(middle.height);
        let matching: Vec<Value> = self.matching().into_iter().cloned().collect();
        let first = (self.chosen + 1).saturating_sub(self.page_lines.max(1));
        let lines = tables::chats(&matching, Some(usize::from(area.width)), false);
        let line = |(at, line): (usize, String)| {
            let unread = matching[at]["unread"].as_u64().is_some_and(|unread| unread > 0);
            let line = if unread { Line::from(line.bold()) } else { Line::from(line) };
            if at == self.chosen { line.reversed() } else { line }
        };
        let lines = lines.into_iter().enumerate().skip(first).take(self.page_lines).map(line);
        let lines: Vec<_> = match (&self.chats, matching.is_empty()) {
            (None, _) => vec![Line::from("  …".dim())],
            (Some(_), true) => {
                vec![Line::from("  nobody so; Enter asks for the phone that is written below".dim())]
            }
            _ => lines.collect(),
        };
        frame.render_widget(Paragraph::new(lines), middle);
        let help = "> a name, or a phone; Enter goes there, Esc goes back, ? helps";
        let typed = self.typed.text();
        let written = match typed {
            "" => Line::from(help.dim()),
            typed => Line::from(format!("> {}", shown::clean_line(typed))),
        };
        frame.render_widget(Paragraph::new(written), foot);
        let column = Span::raw(shown::clean_line(self.typed.around().0)).width() + 2;
        let column = column.min(usize::from(foot.width).saturating_sub(1));
        frame.set_cursor_position(Position::new(foot.x + column as u16, foot.y));
    }
}
