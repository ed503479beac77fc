//! What is looked at when a process starts, and when all is over.

use std::collections::BTreeMap;
use std::time::Duration;

use tern_client::machine::Ask;
use tern_client::machine::tables::{Tables as _, Which};
use tern_proto::v1::{self, client_frame};
use tern_storage::LogId;
use tern_storage::embedded::SteppedEngine;

use super::World;
use crate::books::{Books, Log};
use crate::device::Device;
use crate::work::Work;

/// Pages of a list of chats; more can't be.
const PAGES_MAX: usize = 100;

impl World {
    /// Looks whether the books add up, and go on from those before. `false`: they can't be read now.
    pub(super) fn audit(&mut self, engine: &SteppedEngine) -> Result<bool, String> {
        let Some(books) = Books::read(engine, self.now)? else { return Ok(false) };
        self.sums = books.audit(&self.record)?;
        if let Some(before) = &self.books {
            books.goes_on_from(before)?;
        }
        let sums = self.sums;
        self.note(|| format!("the store holds {sums:?}"));
        self.books = Some(books);
        Ok(true)
    }

    /// All is over: all have all, and the same; the books add up, and everybody has what they say.
    pub(super) fn look_back(&mut self) -> Result<(), String> {
        if let Some(device) = self.devices.iter().find(|device| !device.is_done()) {
            return Err(format!("it has not caught up: {device:?}"));
        }
        let lists = self.list_chats()?;
        let node = self.node.take().expect("somebody has caught up with it");
        node.is_quiet()?;
        if !self.audit(&node.engine)? {
            return Err("the store can't be read though nothing is wrong".to_owned());
        }
        self.node = Some(node);
        let books = self.books.as_ref().expect("it was just read");
        let (owed, free) = self.record.is_paid(books)?;
        for (device, list) in self.devices.iter().zip(&lists) {
            self.has_all(device, books).map_err(|what| format!("{what}: {device:?}"))?;
            is_listed(device.user, list, books)
                .map_err(|what| format!("listed to {}: {what}", device.user))?;
        }
        let committed = self.sums.committed;
        if committed < owed || committed > owed + free {
            return Err(format!("{committed} entries stand for {owed} that are owed and {free} that may be"));
        }
        Ok(())
    }

    /// What each device is told of its chats, by peer.
    fn list_chats(&mut self) -> Result<Vec<BTreeMap<u64, v1::Chat>>, String> {
        let mut lists = vec![BTreeMap::new(); self.devices.len()];
        let mut next = vec![Some(0); self.devices.len()];
        for _ in 0..PAGES_MAX {
            let pages = next.iter().enumerate().filter_map(|(at, after)| Some((at, (*after)?)));
            let pages: Vec<(usize, u64)> = pages.collect();
            for (at, after) in pages.iter().copied() {
                let chats = v1::Chats { after, limit: 0, known: Vec::new() };
                let ask = Ask::Request(client_frame::Request::Chats(chats));
                self.devices[at].page = None;
                let input = self.devices[at].ask(Work::Chats, ask);
                self.device(at, input)?;
            }
            self.run_until(self.now + Duration::from_secs(10))?;
            for (at, _) in pages {
                let Some(page) = self.devices[at].page.take() else {
                    return Err(format!("its list of chats does not come: {:?}", self.devices[at]));
                };
                lists[at].extend(page.chats.into_iter().map(|chat| (chat.id, chat)));
                next[at] = (page.next != 0).then_some(page.next);
            }
            if next.iter().all(Option::is_none) {
                return Ok(lists);
            }
        }
        Err("a list of chats has no end".to_owned())
    }

    /// A device has what the store has, and has said so; and the watermarks that it waits for.
    fn has_all(&self, device: &Device, books: &Books) -> Result<(), String> {
        let (user, number) = device.session().expect("it has caught up");
        if self.record.is_ended(user, number) {
            return Err("its session is not over, and its end was acknowledged".to_owned());
        }
        let chats = device.chats();
        for (chat, log) in of_user(user, books) {
            let texts = chats.get(&chat).map_or(&[][..], Vec::as_slice);
            let same = texts.len() == log.entries.len()
                && texts.iter().zip(&log.entries).all(|(text, entry)| text[..] == entry.body[..]);
            if !same {
                return Err(format!("it has {} of {} with {chat}, or others", texts.len(), log.head()));
            }
            let member = log.members.get(&user).cloned().unwrap_or_default();
            let position = member.positions.iter().find(|position| position.device == number);
            let lacks = &log.entries[position.map_or(0, |position| position.upto) as usize..];
            if lacks.iter().any(|entry| (entry.sender, entry.device) != (user, number)) {
                return Err(format!("it has not said that it has all of the chat with {chat}"));
            }
        }
        let tables = device.machine().expect("it has a session").tables();
        let waits = tables.logs(Which::All(None), u32::MAX).expect("memory is read");
        for log in waits.into_iter().filter(|log| log.last_own > log.others_read && log.chat != user) {
            let there =
                books.logs.get(&LogId::direct(user, log.chat)).expect("what it has was just compared");
            // Of what another device has sent, or this one before it was registered anew, it learns when there is something new.
            let last = &there.entries[log.last_own as usize - 1];
            if (last.sender, last.device) != (user, number) {
                continue;
            }
            let marks = there.members.get(&log.chat).cloned().unwrap_or_default();
            if (log.others_delivered, log.others_read) != (marks.delivered_upto, marks.read_upto) {
                return Err(format!(
                    "it knows {} at {:?}, and they are at {:?}",
                    log.chat,
                    (log.others_delivered, log.others_read),
                    (marks.delivered_upto, marks.read_upto)
                ));
            }
        }
        Ok(())
    }
}

/// The logs of a user, by the peer.
fn of_user(user: u64, books: &Books) -> impl Iterator<Item = (u64, &Log)> {
    books.logs.iter().filter_map(move |(id, log)| match *id {
        LogId::Direct(lower, higher) if lower == user => Some((higher, log)),
        LogId::Direct(lower, higher) if higher == user => Some((lower, log)),
        LogId::Direct(..) | LogId::Group(_) => None,
    })
}

/// What a user is told of the chats is what the books say.
fn is_listed(user: u64, list: &BTreeMap<u64, v1::Chat>, books: &Books) -> Result<(), String> {
    let mut count = 0;
    for (chat, log) in of_user(user, books) {
        count += 1;
        let told = list.get(&chat).ok_or_else(|| format!("{chat} is missing"))?;
        let marks = |user: u64| {
            let member = log.members.get(&user).cloned().unwrap_or_default();
            (member.delivered_upto, member.read_upto)
        };
        let (own, theirs) = (marks(user), marks(chat));
        let unread = log.entries[own.1 as usize..].iter().filter(|entry| entry.sender != user).count() as u64;
        let unavailable = told.unavailable;
        let (told, is) = (
            (told.head, told.unread, told.delivered_upto, told.read_upto, told.own_read_upto),
            (log.head(), unread, theirs.0, theirs.1, own.1),
        );
        if told != is || unavailable {
            return Err(format!("of {chat} it says {told:?}, and it is {is:?}"));
        }
    }
    if count != list.len() {
        return Err(format!("there are {count}, and not {}", list.len()));
    }
    Ok(())
}
