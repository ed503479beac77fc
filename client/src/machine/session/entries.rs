//! Entries and receipts: what comes is stored, what is missing is read, and what the server no longer has goes into doubt.

use tern_proto::v1::{self, client_frame};

use super::{Pending, Session};
use crate::client::Sent;
use crate::error::Error;
use crate::machine::device::{Device, News};
use crate::machine::ended::Ended;
use crate::machine::rows::LogState;
use crate::machine::tables::{Tables, Which};

impl Session {
    pub(super) fn pushed<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        entry: v1::Entry,
    ) -> Result<(), Ended> {
        let seq = entry.seq;
        let log = self.entry(device, entry)?;
        // What is missing below may be on its way as one's own `Sent`.
        if self.resuming.caught_up && log.position < seq && self.sending.in_flight == 0 {
            self.fill(device, log.chat)?;
        }
        Ok(())
    }

    /// Stores an entry, wherever it comes from. Gives its log.
    pub(super) fn entry<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        entry: v1::Entry,
    ) -> Result<LogState, Ended> {
        let v1::Entry { chat, seq, sender, sender_device, client_id, time_ms, .. } = entry;
        if chat == 0 || seq == 0 {
            return Err(Error::Protocol("an entry has no place").into());
        }
        let account = &device.account;
        let own = sender == account.user_id && sender_device == account.device_id;
        let took = device.records.take(&entry, account, self.link.generation)?;
        if took.rewound {
            self.was_put_back(device, chat, seq - 1)?;
        }
        if own {
            // It may have come before its acknowledgement, which a lost connection has taken along.
            if device.records.dequeue(client_id)?.is_some() {
                let sent = Sent { chat, seq, time_ms };
                device.records.note_sent(client_id, sent)?;
                device.news.push(News::Sent(client_id, sent));
                self.sending.forget(client_id);
            }
        }
        device.news.push(News::Grown(chat));
        Ok(took.log)
    }

    /// What is before `from` is not there for this device. What it has from there on, without what was before, is told now.
    pub(super) fn begins<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        chat: u64,
        from: u64,
    ) -> Result<(), Error> {
        device.records.begin(chat, from, self.link.generation)?;
        device.news.push(News::Grown(chat));
        Ok(())
    }

    /// The server says that what is beyond `upto` may not be in its store.
    pub(super) fn put_back<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        chat: u64,
        upto: u64,
    ) -> Result<(), Ended> {
        if device.records.log(chat)?.top > upto {
            device.records.rewind(chat, upto)?;
            self.was_put_back(device, chat, upto)?;
        }
        Ok(())
    }

    fn was_put_back<S: Tables>(&mut self, device: &mut Device<S>, chat: u64, upto: u64) -> Result<(), Ended> {
        self.requests.forget_acknowledgements(chat);
        device.news.push(News::PutBack { chat, upto });
        if self.resuming.caught_up && device.records.settle()? {
            device.news.push(News::SomethingIsGone);
        }
        Ok(())
    }

    /// Reads what is missing before what is there. What is on its way comes sooner; this is for what is not.
    pub(super) fn fill_gaps<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        if self.resuming.caught_up {
            for log in device.records.logs(Which::Gaps)? {
                self.fill(device, log.chat)?;
            }
        }
        Ok(())
    }

    /// Reads what is missing in a chat, unless that is under way.
    pub(super) fn fill<S: Tables>(&mut self, device: &mut Device<S>, chat: u64) -> Result<(), Ended> {
        if !self.requests.is_filling(chat) {
            let from = device.records.log(chat)?.position;
            let request = v1::History { chat, from, forwards: true, limit: 0 };
            self.request(device.now.monotonic, client_frame::Request::History(request), Pending::Fill(chat));
        }
        Ok(())
    }

    pub(super) fn filled<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        chat: u64,
        page: v1::HistoryPage,
    ) -> Result<(), Ended> {
        if page.first > 0 {
            // What is before it is not for this user.
            self.begins(device, chat, page.first)?;
        }
        for entry in page.entries {
            self.entry(device, v1::Entry { chat, ..entry })?;
        }
        // Of one's own messages that are learnt only from here nobody has told how far the others are with them.
        let generation = self.link.generation;
        if device.records.others_marks(chat, page.delivered_upto, page.read_upto, generation)? {
            device.news.push(News::MarksMoved { chat, own: false });
        }
        let log = device.records.log(chat)?;
        if log.top > page.head && !page.more {
            // What would have to be read does not exist, and neither does what stands beyond it.
            self.put_back(device, chat, page.head)?;
        } else if log.top > log.position && page.more {
            self.fill(device, chat)?;
        }
        Ok(())
    }

    pub(super) fn receipt<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        receipt: &v1::Receipt,
    ) -> Result<(), Ended> {
        let v1::Receipt { chat, delivered_upto, read_upto, member } = *receipt;
        let own = member == device.account.user_id;
        let records = &mut device.records;
        let news = if own {
            // That it is known here is acknowledged: until then the server tells it again.
            self.acknowledging.add(chat);
            self.acknowledging.soon(device.now.monotonic);
            records.read_elsewhere(chat, read_upto, self.link.generation)?
        } else {
            if self.resuming.is_listing() {
                // What the store has is less than what it had.
                records.forget_marks_of(chat)?;
            }
            records.others_marks(chat, delivered_upto, read_upto, self.link.generation)?
        };
        if news {
            device.news.push(News::MarksMoved { chat, own });
        }
        Ok(())
    }
}
