//! What people read first of an archive: what is in it, and where. Pure.

use serde_json::Value;
use tern_client::Message;

use crate::shown;

/// See the module.
pub struct Index {
    /// Whose account.
    who: String,
    made_ms: u64,
    pub chats: Vec<Listed>,
    /// The private log.
    pub own: Option<Listed>,
    /// Chats that the server can't read now.
    pub unreadable: Vec<u64>,
}

/// A file of messages.
#[derive(Default)]
pub struct Listed {
    pub file: String,
    /// With whom.
    name: String,
    messages: u64,
    /// When the first and the last of them were sent.
    times_ms: Option<(u64, u64)>,
}

impl Listed {
    /// A file that has none yet.
    pub fn of(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// Of a chat with whom.
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// One more message, newer than the ones before.
    pub fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.times_ms = Some((self.times_ms.map_or(message.time_ms, |(first, _)| first), message.time_ms));
    }

    fn row(&self) -> String {
        let time = |ms: Option<u64>| ms.map(shown::time_of).unwrap_or_default();
        let (first, last) = (self.times_ms.map(|times| times.0), self.times_ms.map(|times| times.1));
        format!(
            "<tr><td><a href=\"{}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&self.file),
            escape(&self.name),
            self.messages,
            time(first),
            time(last)
        )
    }
}

/// What else is in it: the file, and what it says.
const FILES: [(&str, &str); 8] = [
    ("account.json", "your account: phone, name, what you say of yourself, devices, and who may see what"),
    ("contacts.jsonl", "your contacts, as you call them"),
    ("blocked.jsonl", "whom you block"),
    ("starred.jsonl", "messages that you have starred: their chats and places"),
    ("scheduled.jsonl", "messages that are to be sent later"),
    ("stories.jsonl", "stories that are there now, yours and those that you may see"),
    ("chats.jsonl", "your chats and groups, how you have them, and how far they were read"),
    ("media.jsonl", "what the messages say of pictures, voice notes and documents"),
];

/// What is not in it.
const MISSING: &str = "Not in this archive: what others have sent and you may not see, drafts and messages that wait on one of your devices alone, \
                       what you have reported to the operators, secrets by which your devices and your card prove what they are, and \
                       what the server counts of everybody together. Where a message was encrypted between devices, its bytes are here as the server \
                       has them.";

impl Index {
    pub fn new(account: &Value, made_ms: u64) -> Self {
        let text = |key: &str| account["account"][key].as_str().unwrap_or_default().to_owned();
        let who = format!("{}, {}, on {}", text("name"), text("phone"), text("server"));
        Self { who, made_ms, chats: Vec::new(), own: None, unreadable: Vec::new() }
    }

    /// How many messages there are, the private log aside.
    pub fn messages(&self) -> u64 {
        self.chats.iter().map(|chat| chat.messages).sum()
    }

    /// The page.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>tern: {who}</title>\n<style>body{{font:16px/1.5 sans-serif;\
             max-width:60em;margin:2em auto;padding:0 1em}}td,th{{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}}</style>\n\
             <h1>Your data</h1>\n<p>{who}. Made {made}.</p>\n<p>Each file is JSON, or has one JSON object a line. Times are in milliseconds \
             since 1970-01-01, UTC.</p>\n<table>\n",
            who = escape(&self.who),
            made = shown::time_of(self.made_ms),
        );
        for (file, what) in FILES {
            page += &format!("<tr><td><a href=\"{file}\">{file}</a></td><td>{what}</td></tr>\n");
        }
        if let Some(own) = &self.own {
            let what = format!("what your devices tell each other: {} entries", own.messages);
            page += &format!("<tr><td><a href=\"{0}\">{0}</a></td><td>{what}</td></tr>\n", own.file);
        }
        page += "</table>\n<h2>Chats</h2>\n<table>\n<tr><th>with</th><th>messages</th><th>first</th><th>last</th></tr>\n";
        for chat in &self.chats {
            page += &chat.row();
        }
        page += "</table>\n";
        if !self.unreadable.is_empty() {
            page += "<p>The server could not read these chats now, so they are not here:";
            for chat in &self.unreadable {
                page += &format!(" {chat}");
            }
            page += "</p>\n";
        }
        page + &format!("<p>{MISSING}</p>\n</html>\n")
    }
}

/// A text within HTML, or within a quoted value.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_call_themselves_is_text_and_nothing_else() {
        let account = json!({ "account": { "name": "<script>", "phone": "+15550001", "server": "a&b" } });
        let mut index = Index::new(&account, 0);
        index.chats.push(Listed { name: "\"><img src=x>'".to_owned(), ..Listed::default() });
        let html = index.html();
        assert!(!html.contains("<script>") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;, +15550001, on a&amp;b"), "{html}");
    }
}
