//! What one tells the operators of others.

pub use tern_proto::v1::Category;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::limits::NUMBERS_END;

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Tells the operators of a person. Whoever is reported learns nothing. Made again, it is the same report.
    pub async fn report_person(&self, user_id: u64, category: Category, comment: &str) -> Result<(), Error> {
        self.report(user_id, (0, &[]), category, comment).await
    }

    /// Tells the operators of messages of a chat: at most 20 of one author, within 64 places. The server attaches them as one sees
    /// them. Made again, it is the same report.
    pub async fn report_messages(
        &self,
        chat: u64,
        seqs: &[u64],
        category: Category,
        comment: &str,
    ) -> Result<(), Error> {
        self.report(0, (chat, seqs), category, comment).await
    }

    async fn report(
        &self,
        user_id: u64,
        (chat, seqs): (u64, &[u64]),
        category: Category,
        comment: &str,
    ) -> Result<(), Error> {
        let report = v1::Report {
            client_id: number_of(user_id, chat, seqs),
            user_id,
            chat,
            seqs: seqs.to_vec(),
            category: category.into(),
            comment: comment.to_owned(),
        };
        match self.ask(client_frame::Request::Report(report)).await? {
            server_frame::Message::Reported(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }
}

/// The number of a report follows from what it is about (FNV-1a, 64 bits), so that it is not made twice.
fn number_of(user_id: u64, chat: u64, seqs: &[u64]) -> u64 {
    let mut seqs = seqs.to_vec();
    seqs.sort_unstable();
    let bytes = [user_id, chat].into_iter().chain(seqs).flat_map(u64::to_be_bytes);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    1 + hash % (NUMBERS_END - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_report_has_the_same_number() {
        let number = number_of(0, 7, &[3, 1]);
        assert_eq!(number, number_of(0, 7, &[1, 3]));
        let others = [number_of(7, 0, &[]), number_of(0, 7, &[1]), number_of(0, 8, &[1, 3])];
        assert!(!others.contains(&number) && others.iter().all(|other| (1..NUMBERS_END).contains(other)));
    }
}
