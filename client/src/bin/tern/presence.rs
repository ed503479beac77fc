//! Who is here, who types, and whom one shows: as methods.

use serde::Deserialize;
use serde_json::{Value, json};
use tern_client::{Doing, is_group};

use crate::methods::{Failure, Session, parse};
use crate::shown;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Show {
    chats: Vec<u64>,
    #[serde(default)]
    away: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    chat: Option<u64>,
    phone: Option<String>,
    doing: String,
}

fn doing_of(name: &str) -> Result<Doing, Failure> {
    let all = [Doing::Typing, Doing::Recording, Doing::Nothing];
    let found = all.into_iter().find(|doing| shown::doing_name(*doing) == name);
    found.ok_or_else(|| Failure::Params("doing is typing, recording or nothing".to_owned()))
}

impl Session {
    /// Methods about who is here.
    pub async fn presence(&self, method: &str, params: Value) -> Result<Value, Failure> {
        if method == "show" {
            let Show { chats, away } = parse(params)?;
            self.show(chats, away).await?;
        } else {
            let Act { chat, phone, doing } = parse(params)?;
            let chat = self.number(chat, phone).await?;
            self.why(self.client.act(chat, doing_of(&doing)?).await).await?;
        }
        Ok(json!({}))
    }

    /// Says which chats this device shows: of people whether they are here is told then, and what is done in all of them.
    pub async fn show(&self, chats: Vec<u64>, away: bool) -> Result<(), Failure> {
        let (groups, users): (Vec<_>, Vec<_>) = chats.into_iter().partition(|chat| is_group(*chat));
        self.why(self.client.show(&users, &groups, away).await).await
    }
}
