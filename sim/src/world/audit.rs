//! What is looked at when a process starts, and when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use tern_client::machine::Ask;
use tern_client::machine::tables::{Tables as _, Which};
use tern_proto::v1::{self, client_frame};
use tern_storage::LogId;
use tern_storage::records::EntryRecord;
use tern_wire::ids::{GROUPS_FROM, PRIVATE};
use tern_wire::limits::DISCOVERED_MAX;

use super::World;
use crate::books::{Books, Log, is_seen};
use crate::device::Device;
use crate::record::{chat_in, place_of};
use crate::store::Store;
use crate::talk::{has_text, says};
use crate::work::Work;

/// How long after its time the server may still have something, when nothing is wrong.
const ENDS_WITHIN_MS: u64 = 2_000;

/// How long after its time a message that was scheduled is sent at the latest, when nothing is wrong: also if it was lost on its way.
const DISPATCHED_WITHIN_MS: u64 = 15_000;

/// How long after its time what is kept no longer may still be there, when nothing is wrong.
const CUT_WITHIN: Duration = Duration::from_secs(10);

/// In a while that is none of the intervals at which it does things, what it has begun is done.
const A_MOMENT: Duration = Duration::from_millis(137);

/// How often it may be found doing something when nobody asks it to, ten seconds apart.
const QUIET_TRIES: u32 = 5;

/// Pages of a list of chats; more can't be.
const PAGES_MAX: usize = 100;

impl World {
    /// Looks whether the books add up, and go on from those before. `false`: they can't be read now.
    pub(super) fn audit(&mut self, store: &Store) -> Result<bool, String> {
        let Some(books) = Books::read(store, self.now, &self.kept)? else { return Ok(false) };
        self.sums = books.audit(&self.record, &self.kept, &self.media, self.latest_ms)?;
        books.logs.iter().for_each(|(id, log)| self.kept.ends(*id, log.head()));
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
        if !self.kept.is_for_ever() {
            self.run_until(self.now + CUT_WITHIN)?;
        }
        // It takes seconds, in which the server may send what was scheduled: the books are read afterwards.
        self.look_for_each_other()?;
        let lists = self.lists_and_books()?;
        let read_ms = self.clock.now_ms(self.now);
        let books = self.books.as_ref().expect("it was just read");
        self.have_found_each_other(books)?;
        let ended_ms = read_ms.saturating_sub(ENDS_WITHIN_MS);
        let cut_ms = read_ms.saturating_sub(CUT_WITHIN.as_millis() as u64);
        for (id, log) in &books.logs {
            if let Some(seq) = log.outlived(ended_ms) {
                return Err(format!("{id:?}: {seq} has outlived its time"));
            }
            let is_cut = !matches!(id, LogId::Private(_));
            if let Some(seq) = log.stays_too_long(&self.kept, cut_ms).filter(|_| is_cut) {
                return Err(format!("{id:?}: {seq} was to be kept no longer"));
            }
        }
        if let Some((user, log)) = books.outbox.first() {
            return Err(format!("devices of {user} are still to be told of {log:?}"));
        }
        if let Some((user, other)) = books.hiding.first() {
            return Err(format!("{other} is still to lose the stories of {user}"));
        }
        books.schedules_are_kept(ended_ms.saturating_sub(DISPATCHED_WITHIN_MS))?;
        let (owed, free) = self.record.is_paid(books)?;
        for (device, list) in self.devices.iter().zip(&lists) {
            self.has_all(device, books).map_err(|what| format!("{what}: {device:?}"))?;
            is_listed(device.user, list, books)
                .map_err(|what| format!("listed to {}: {what}", device.user))?;
        }
        for device in &self.devices {
            self.knows_who_is_here(device).map_err(|what| format!("{what}: {device:?}"))?;
        }
        let again = self.record.again(books);
        let entries = books.logs.values().flat_map(|log| &log.entries);
        let committed = entries.filter(|entry| has_text(entry.kind)).count() as u64 - again;
        if committed < owed || committed > owed + free {
            return Err(format!("{committed} entries stand for {owed} that are owed and {free} that may be"));
        }
        Ok(())
    }

    /// What each device is told of its chats, and what the store held before and after: the server may send meanwhile what was
    /// scheduled, and then somebody says that they have it.
    fn lists_and_books(&mut self) -> Result<Vec<BTreeMap<u64, v1::Chat>>, String> {
        self.audit_in_peace()?;
        let mut tries = 0..QUIET_TRIES;
        loop {
            let before = self.books.take().expect("it was just read");
            let lists = self.list_chats()?;
            let mut is_quiet = self.is_quiet();
            if is_quiet.is_err() {
                // What it does by itself (marks that are cleared) may fall on this moment again and again.
                self.run_until(self.now + A_MOMENT)?;
                is_quiet = self.is_quiet();
            }
            self.audit_in_peace()?;
            let books = self.books.as_ref().expect("it was just read");
            books.goes_on_from(&before)?;
            if is_quiet.is_ok() && !books.have_moved_since(&before) {
                return Ok(lists);
            }
            // It may be sending something at this moment.
            if tries.next().is_none() {
                return is_quiet.map(|()| lists);
            }
        }
    }

    fn is_quiet(&self) -> Result<(), String> {
        self.node.as_ref().expect("somebody has caught up with it").is_quiet()
    }

    fn audit_in_peace(&mut self) -> Result<(), String> {
        let node = self.node.take().expect("somebody has caught up with it");
        let is_read = self.audit(&node.engine);
        self.node = Some(node);
        if is_read? { Ok(()) } else { Err("the store can't be read though nothing is wrong".to_owned()) }
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
                let input = self.devices[at].ask(Work::Chats, ask, &mut self.record);
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

    /// Everybody asks who of an address book is here that has all phones.
    fn look_for_each_other(&mut self) -> Result<(), String> {
        for at in 0..self.devices.len() {
            self.devices[at].discovered = None;
            let ask = Ask::Request(self.discover());
            let input = self.devices[at].ask(Work::LookUp, ask, &mut self.record);
            self.device(at, input)?;
        }
        self.run_until(self.now + Duration::from_secs(10))
    }

    /// Everybody has found by their phones those who let them, and nobody else.
    fn have_found_each_other(&self, books: &Books) -> Result<(), String> {
        let phones: BTreeSet<_> = self.devices.iter().map(|device| &*device.phone).collect();
        for device in &self.devices {
            let found = device.discovered.as_ref().ok_or_else(|| format!("it finds nobody: {device:?}"))?;
            let due: Vec<_> =
                phones.iter().take(DISCOVERED_MAX).map(|phone| books.found(device.user, phone)).collect();
            if *found != due {
                return Err(format!("{} has found {found:?}, and {due:?} let them", device.user));
            }
        }
        Ok(())
    }

    /// A device has what the store has, and has said so; and the watermarks that it waits for.
    fn has_all(&self, device: &Device, books: &Books) -> Result<(), String> {
        let (user, number) = device.session().expect("it has caught up");
        if self.record.is_ended(user, number) {
            return Err("its session is not over, and its end was acknowledged".to_owned());
        }
        let chats = device.chats();
        let nothing = BTreeMap::new();
        for (chat, log) in of_user(user, books) {
            let has = chats.get(&chat).unwrap_or(&nothing);
            let (first, last) = (log.joined(user), log.visible_to(user));
            // What was deleted behind the last that it may see, it has not heard of.
            let is_deleted_later = |seq: u64| {
                let entry = &log.entries[seq as usize - 1];
                let message = if entry.kind == i32::from(v1::Kind::Edit) { entry.about } else { seq };

                let mut later = log.entries[last as usize..].iter();
                let deletion = i32::from(v1::Kind::Deletion);
                entry.erased && later.any(|later| later.kind == deletion && later.about == message)
            };
            let is_there = |seq: u64| {
                let entry = &log.entries[seq as usize - 1];
                let same = |body: &Vec<u8>| body[..] == entry.body[..];
                // The server's clock and the device's own erase what has ended, each in its time.
                let has_ended = |body: &Vec<u8>| entry.expires_ms > 0 && (entry.erased || body.is_empty());
                let is_old = entry.erased && self.kept.is_old(entry.time_ms, self.latest_ms);
                let is_withheld = !is_seen(entry, user) && has.get(&seq).is_none_or(Vec::is_empty);
                let is_it = |body| same(body) || has_ended(body) || is_deleted_later(seq) || is_old;
                // What was cut off before it asked, it has not.
                seq < log.first || is_withheld || has.get(&seq).is_some_and(is_it)
            };
            if let Some(seq) = (first..=last).find(|seq| !is_there(*seq)) {
                return Err(format!("it has not what is at {seq} of {last} with {chat}, or another"));
            }
            if let Some(seq) = has.keys().find(|seq| !log.may_see(user, **seq)) {
                return Err(format!("it has {seq} of the chat with {chat}, which it may not see"));
            }
            let member = log.members.get(&user).cloned().unwrap_or_default();
            let position = member.positions.iter().find(|position| position.device == number);
            let position = position.map_or(0, |position| position.upto).max(first - 1);
            let lacks = &log.entries[position as usize..last as usize];
            let is_foreign = |entry: &EntryRecord| (entry.sender, entry.device) != (user, number);
            if lacks.iter().any(|entry| is_foreign(entry) && is_seen(entry, user)) {
                return Err(format!("it is at {position} of {last} in the chat with {chat}: {member:?}"));
            }
        }
        self.knows_the_others(device, books)
    }

    /// A device knows of those whom it shows whether they are here, as far as they and its own user let it: all are connected.
    fn knows_who_is_here(&self, device: &Device) -> Result<(), String> {
        let books = self.books.as_ref().expect("it was just read");
        for (user, heard) in device.shown().filter(|(user, _)| *user != device.user) {
            let is_here = self.devices.iter().any(|other| other.user == user && !other.is_away());
            let lets = |one: u64, other: u64| !books.blocked.contains(&(one, other));
            let is_open = |one: u64| books.privacy.get(&one).is_none_or(|privacy| privacy.online == 0);
            let sees =
                lets(user, device.user) && lets(device.user, user) && is_open(user) && is_open(device.user);
            if heard != sees.then_some(is_here) {
                return Err(format!(
                    "of {user} it knows {heard:?}, who is here: {is_here}, and seen: {sees}"
                ));
            }
        }
        Ok(())
    }

    /// A device knows how far the others have got whom it waits for, and has nothing that has outlived its time.
    fn knows_the_others(&self, device: &Device, books: &Books) -> Result<(), String> {
        let (user, number) = device.session().expect("it has caught up");
        let tables = device.machine().expect("it has a session").tables();
        let unix_ms = device.clock.wall.ms(self.now).max(0) as u64;
        if tables.next_end().expect("memory is read").is_some_and(|at_ms| at_ms + 1_000 <= unix_ms) {
            return Err("it has something that has outlived its time".to_owned());
        }
        let waits = tables.logs(Which::All(None), u32::MAX).expect("memory is read");
        for log in waits.iter().filter(|log| log.chat != user && log.chat != PRIVATE) {
            let there = books.logs.get(&place_of(user, log.chat)).expect("what it has was just compared");
            let read_upto = there.members.get(&user).map_or(0, |member| member.read_upto);
            // Whoever has left a group is told nothing more.
            let apart = device.read_apart.get(&log.chat).copied().unwrap_or(0);
            // What was before one has come is not to be read.
            let knows = log.read_upto.max(apart).max(there.joined(user) - 1);
            if there.is_in(user) && knows < read_upto {
                let member = there.members.get(&user);
                return Err(format!("it knows {knows} of {} as read: {member:?}", log.chat));
            }
        }
        for log in waits
            .into_iter()
            .filter(|log| log.last_own > log.others_read && log.chat != user && log.chat != PRIVATE)
        {
            let there = books.logs.get(&place_of(user, log.chat)).expect("what it has was just compared");
            // Of what another device has sent, or this one before it was registered anew, it learns when there is something new.
            let last = &there.entries[log.last_own as usize - 1];
            if (last.sender, last.device) != (user, number) {
                continue;
            }
            // Whoever has left a group is told nothing more.
            if !there.is_in(user) {
                continue;
            }
            let (told, is) = ((log.others_delivered, log.others_read), there.others(user));
            // In a group what is beyond one's own last message is not told. Who keeps something back is asked how far they have got only where
            // one waits for that, and tells nothing by what is withheld: which of one's own messages they have is known.
            let upto = if log.chat < GROUPS_FROM { u64::MAX } else { log.last_own };
            let counts =
                |mark: u64| if there.keeps_back(user) { there.own_upto(user, mark) } else { mark.min(upto) };
            // That they have what they wrote themselves before one did is no news: nobody is told it for its own sake.
            let says_nothing = |is: u64| log.chat < GROUPS_FROM && there.own_upto(user, is) == 0;
            let is_told = |told: u64, is: u64| told <= is && (counts(told) == counts(is) || says_nothing(is));
            if !is_told(told.0, is.0) || !is_told(told.1, is.1) {
                return Err(format!(
                    "of {} it knows the others at {told:?}, and they are at {is:?}",
                    log.chat
                ));
            }
        }
        Ok(())
    }
}

/// The logs of a user, by the peer.
fn of_user(user: u64, books: &Books) -> impl Iterator<Item = (u64, &Log)> {
    let is_theirs = move |id: LogId, log: &Log| !matches!(id, LogId::Group(_)) || log.is_or_was_in(user);
    let logs = books.logs.iter().filter(move |(id, log)| is_theirs(**id, log));
    logs.filter_map(move |(id, log)| Some((chat_in(user, *id)?, log)))
}

/// How a user has chats, as the private log says it.
fn settings_of(user: u64, books: &Books) -> Result<BTreeMap<u64, v1::ChatSettings>, String> {
    let mut settings = BTreeMap::new();
    let log = books.logs.get(&LogId::Private(user));
    for entry in log.into_iter().flat_map(|log| &log.entries).filter(|entry| !entry.erased) {
        let said = v1::Private::decode(&entry.body[..]).map_err(|_| format!("{} says nothing", entry.seq))?;
        if let Some(v1::private::What::Chat(chat)) = said.what {
            settings.insert(chat.chat, v1::ChatSettings { chat: 0, ..chat });
        }
    }
    Ok(settings)
}

/// What a user is told of the chats is what the books say.
fn is_listed(user: u64, list: &BTreeMap<u64, v1::Chat>, books: &Books) -> Result<(), String> {
    let (mut count, settings) = (0, settings_of(user, books)?);
    let is_one = |chat: u64, log: &Log| chat != PRIVATE && log.is_or_was_in(user);
    for (chat, log) in of_user(user, books).filter(|(chat, log)| is_one(*chat, log)) {
        count += 1;
        let told = list.get(&chat).ok_or_else(|| format!("{chat} is missing"))?;
        let member = log.members.get(&user).cloned().unwrap_or_default();
        let (own_read, theirs) = (member.read_upto, log.others(user));
        let (head, is_in) = (log.visible_to(user), log.is_in(user));
        let counts = |entry: &&EntryRecord| entry.sender != user && says(entry.kind) && !entry.withheld;
        let beyond =
            &log.entries[own_read.max(log.joined(user) - 1).max(log.first - 1) as usize..head as usize];
        let unread = if is_in { beyond.iter().filter(counts).count() as u64 } else { 0 };
        if told.settings != settings.get(&chat).copied() {
            return Err(format!(
                "of {chat} it says {:?}, and it is {:?}",
                told.settings,
                settings.get(&chat)
            ));
        }
        let unavailable = told.unavailable || told.left == is_in;
        let (told, is) = (
            (told.head, told.unread, told.delivered_upto, told.read_upto, told.own_read_upto),
            (head, unread, theirs.0, theirs.1, own_read),
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
