//! Reports to the operators, as they are asked for.

use tern_proto::v1;
pub use tern_proto::v1::Category;

use crate::errors::{Reason, Refusal};
use crate::ids::{ChatId, ClientMessageId, Seq, UserId};
use crate::limits::{COMMENT_BYTES_MAX, REPORTED_MAX, REPORTED_SPAN_MAX};
use crate::message;

/// See `Report` in the schema.
#[derive(Clone, PartialEq)]
pub struct Report {
    /// By which a retry is known.
    pub client_id: ClientMessageId,
    /// Who, or what.
    pub about: About,
    /// What is wrong.
    pub category: Category,
    /// What the reporter says of it.
    pub comment: String,
}

/// What is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum About {
    /// A person.
    Person(UserId),
    /// Messages of a chat, rising: at least one.
    Messages(ChatId, Vec<Seq>),
}

/// Shows no comment.
impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report({}, {:?}, {:?})", self.client_id.0, self.about, self.category)
    }
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

impl Report {
    /// # Errors
    /// If it says nothing that can be reported.
    pub fn parse(raw: v1::Report) -> Result<Self, Refusal> {
        let category = Category::try_from(raw.category).map_err(|_| invalid("there is no such category"))?;
        if matches!(category, Category::SameText | Category::Filtered) {
            return Err(invalid("the server alone reports so"));
        }
        if raw.comment.len() > COMMENT_BYTES_MAX {
            return Err(invalid("a comment has at most 1,000 bytes"));
        }
        let about = match (UserId::new(raw.user_id), raw.chat, raw.seqs) {
            (Some(user), 0, seqs) if seqs.is_empty() => About::Person(user),
            (None, chat, seqs) if raw.user_id == 0 && chat != 0 => {
                About::Messages(chat_of(chat)?, places(seqs)?)
            }
            _ => return Err(invalid("either a person is reported, or messages of a chat")),
        };
        Ok(Self { client_id: message::client_id(raw.client_id)?, about, category, comment: raw.comment })
    }
}

fn chat_of(chat: u64) -> Result<ChatId, Refusal> {
    match ChatId::new(chat) {
        Some(ChatId::Private) => Err(invalid("one's private log has nobody else's messages")),
        Some(chat) => Ok(chat),
        None => Err(invalid("there is no such chat")),
    }
}

fn places(mut seqs: Vec<u64>) -> Result<Vec<Seq>, Refusal> {
    if seqs.is_empty() || seqs.len() > REPORTED_MAX || seqs.contains(&0) {
        return Err(invalid("a report is of 1 to 20 messages, which are counted from 1"));
    }
    seqs.sort_unstable();
    if seqs.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a message is named twice"));
    }
    if seqs[seqs.len() - 1] - seqs[0] >= REPORTED_SPAN_MAX {
        return Err(invalid("the messages of a report lie within 64 places"));
    }
    Ok(seqs.into_iter().map(Seq).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user_id: u64, chat: u64, seqs: &[u64], category: i32, is_one: bool) {
        let (seqs, comment) = (seqs.to_vec(), "x".repeat(1_000));
        let raw = v1::Report { client_id: 1, user_id, chat, seqs, category, comment };
        let parsed = Report::parse(raw.clone());
        assert_eq!(parsed.is_ok(), is_one, "{raw:?}: {parsed:?}");
    }

    #[test]
    fn a_report_is_of_a_person_or_of_few_messages_that_lie_together() {
        check(7, 0, &[], 1, true);
        check(0, 7, &[3], 0, true);
        check(0, 7, &[64, 1], 5, true);
        check(0, 0, &[], 1, false);
        check(0, 0, &[1], 1, false);
        check(7, 7, &[1], 1, false);
        check(7, 0, &[1], 1, false);
        check(0, 7, &[], 1, false);
        check(0, 7, &[0], 1, false);
        check(0, 7, &[3, 3], 1, false);
        check(0, 7, &[1, 65], 1, false);
        check(0, 7, &(1..=20).collect::<Vec<_>>(), 1, true);
        check(0, 7, &(1..=21).collect::<Vec<_>>(), 1, false);
        check(u64::MAX, 0, &[], 1, UserId::new(u64::MAX).is_some());
        check(0, 1 << 43, &[1], 1, false);
        check(7, 0, &[], 6, false);
        check(7, 0, &[], 100, false);
        let raw =
            v1::Report { client_id: 1, user_id: 7, comment: "x".repeat(1_001), ..v1::Report::default() };
        assert!(Report::parse(raw).is_err());
        let shown =
            Report::parse(v1::Report { user_id: 7, comment: "s3cret".into(), ..v1::Report::default() });
        assert!(!format!("{shown:?}").contains("s3cret"));
    }
}
