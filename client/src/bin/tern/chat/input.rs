//! What is being written: text in lines, a cursor, and what was cut last.

use super::keys::Action;

/// See the module.
#[derive(Debug, Default)]
pub struct Input {
    text: String,
    /// A byte of the text, at the edge of a character.
    cursor: usize,
    cut: String,
}

impl Input {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is before the cursor, and what behind it.
    pub fn around(&self) -> (&str, &str) {
        self.text.split_at(self.cursor)
    }

    /// Begins with a text that was being written before.
    pub fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    /// Takes all of it.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Where the line of the cursor begins and ends.
    fn line(&self) -> (usize, usize) {
        let (before, after) = self.around();
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        (begin, self.cursor + after.find('\n').unwrap_or(after.len()))
    }

    fn previous(&self) -> usize {
        self.around().0.chars().next_back().map_or(0, char::len_utf8)
    }

    fn next(&self) -> usize {
        self.around().1.chars().next().map_or(0, char::len_utf8)
    }

    /// Where the word before the cursor begins.
    fn word_begin(&self) -> usize {
        let before = self.around().0;
        let word = before.trim_end_matches(|c: char| !c.is_alphanumeric());
        word.trim_end_matches(char::is_alphanumeric).len()
    }

    /// Where the word behind the cursor ends.
    fn word_end(&self) -> usize {
        let after = self.around().1;
        let word = after.trim_start_matches(|c: char| !c.is_alphanumeric());
        self.text.len() - word.trim_start_matches(char::is_alphanumeric).len()
    }

    fn cut(&mut self, from: usize, upto: usize) {
        if from < upto {
            self.cut = self.text.drain(from..upto).collect();
            self.cursor = from;
        }
    }

    /// Text as it was typed or pasted: lines and tabs stay, what commands a terminal does not.
    fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
    }

    /// Moves the cursor to the same column of the line above or below, if there is one.
    fn move_line(&mut self, down: bool) -> bool {
        let (begin, end) = self.line();
        let column = self.text[begin..self.cursor].chars().count();
        let line = if down {
            let Some(rest) = self.text.get(end + 1..) else { return false };
            (end + 1, end + 1 + rest.find('\n').unwrap_or(rest.len()))
        } else {
            let Some(above) = begin.checked_sub(1) else { return false };
            (self.text[..above].rfind('\n').map_or(0, |at| at + 1), above)
        };
        let text = &self.text[line.0..line.1];
        self.cursor = line.0 + text.char_indices().nth(column).map_or(text.len(), |(at, _)| at);
        true
    }

    /// Does what a key means for the text. `false` if it means nothing here.
    pub fn edit(&mut self, action: &Action) -> bool {
        let (begin, end) = self.line();
        match action {
            Action::Insert(text) => self.insert(text),
            Action::Backspace => {
                let previous = self.previous();
                self.cursor -= previous;
                self.text.drain(self.cursor..self.cursor + previous);
            }
            Action::Delete | Action::DeleteOrLeave => {
                let next = self.next();
                self.text.drain(self.cursor..self.cursor + next);
            }
            Action::Left => self.cursor -= self.previous(),
            Action::Right => self.cursor += self.next(),
            Action::WordLeft => self.cursor = self.word_begin(),
            Action::WordRight => self.cursor = self.word_end(),
            Action::Home => self.cursor = begin,
            Action::End => self.cursor = end,
            Action::CutToHome => self.cut(begin, self.cursor),
            // At the end of a line the line's end itself.
            Action::CutToEnd if self.cursor == end => self.cut(end, (end + 1).min(self.text.len())),
            Action::CutToEnd => self.cut(self.cursor, end),
            Action::CutWord => self.cut(self.word_begin(), self.cursor),
            Action::PutBack => {
                let cut = self.cut.clone();
                self.insert(&cut);
            }
            Action::Up => return self.move_line(false),
            Action::Down => return self.move_line(true),
            _ => return false,
        }
        true
    }
}
