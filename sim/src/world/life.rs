//! What people do, at random: everything that docs/FEATURES.md says they can, as far as the client's machine and an operator offer it.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use tern_client::machine::rows::EntryRow;
use tern_client::machine::{Ask, Tables as _};
use tern_client::{Envelope, Kind, NewMessage};
use tern_proto::v1::{self, client_frame, group_change::Change, lookup};
use tern_shard::admin::AdminRequest;
use tern_wire::ids::{GROUPS_FROM, MediaId, PRIVATE, Phone, PhoneHash, UserId};
use tern_wire::limits::DISCOVERED_MAX;

use super::{Event, World};
use crate::model::hash_of;
use crate::pins::pin_of;
use crate::record::{place_of, text};
use crate::reports::About;
use crate::talk::{has_text, says};
use crate::work::Work;

/// Groups in a world.
const GROUPS_MAX: u64 = 20;

/// People whom somebody writes to more than to others.
const FRIENDS: u64 = 6;

impl World {
    pub(super) fn somebody_does_something(&mut self) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        let pace_us = self.options.pace().as_micros() as u64;
        let wait = Duration::from_micros(1 + self.life.below(2 * pace_us / self.options.devices as u64));
        self.at(self.now + wait, Event::Life);
        let at = self.life.below(self.devices.len() as u64) as usize;
        match self.life.below(200) {
            0..4 => self.stranger_comes(),
            4..6 => return self.operator_asks(at),
            6 if self.devices[at].takes_asks() => {
                let close = self.devices[at].close();
                return self.device(at, close);
            }
            number if self.devices[at].takes_asks() => {
                let Some((work, ask)) = self.wish(at, number) else { return Ok(()) };
                self.tally.begun(work);
                let input = self.devices[at].ask(work, ask, &mut self.record);
                return self.device(at, input);
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody to do with: mostly a friend, sometimes oneself.
    fn somebody(&mut self, at: usize) -> usize {
        let (devices, any) = (self.devices.len() as u64, self.life.below(4) == 0);
        let other = if any { self.life.below(devices) } else { at as u64 + self.life.below(FRIENDS) };
        (other % devices) as usize
    }

    /// What the person of a device wants now, if anything.
    fn wish(&mut self, at: usize, number: u64) -> Option<(Work, Ask)> {
        let other = self.somebody(at);
        let chat = self.devices[other].user;
        if chat == 0 {
            // They have no account yet: only the phone is known.
            return Some(self.by_phone(other));
        }
        let request = |work, request| Some((work, Ask::Request(request)));
        if let Some(set) = self.wish_for_pushes(at) {
            return Some((Work::Rename, Ask::Request(client_frame::Request::SetPush(set))));
        }
        if self.life.below(5) == 0 {
            return Some(self.with_a_group(at, chat));
        }
        match number {
            ..90 => Some((Work::Send, self.message(at, chat))),
            90..120 => self.about_a_message(at, chat),
            120..150 => self.reading(at, chat),
            150..159 => {
                let (from, forwards) = (self.life.below(30), self.life.below(2) == 0);
                let limit = self.life.below(20) as u32;
                Some((Work::History, Ask::History(v1::History { chat, from, forwards, limit })))
            }
            159 => request(Work::History, client_frame::Request::Search(self.search(chat))),
            160..170 => {
                let known =
                    (1..self.life.below(3)).map(|version| v1::KnownChat { id: chat, version }).collect();
                let chats = v1::Chats { after: 0, limit: self.life.below(10) as u32, known };
                request(Work::Chats, client_frame::Request::Chats(chats))
            }
            170..173 => Some((Work::Talk, self.own(at, chat))),
            173 => Some((Work::LookUp, Ask::Lookup(lookup::By::UserId(chat)))),
            174..176 => request(Work::LookUp, self.report(at, chat)),
            176..179 => Some(self.by_phone(other)),
            179 => request(Work::LookUp, self.discover()),
            180..186 => {
                let rename = self.rename(number);
                request(Work::Rename, client_frame::Request::Rename(rename))
            }
            186..188 => request(Work::Devices, client_frame::Request::Devices(v1::Devices {})),
            188..190 => {
                // Mostly one is set.
                let pin =
                    if self.life.below(4) == 0 { String::new() } else { pin_of(&self.devices[at].phone) };
                request(Work::Rename, client_frame::Request::SetPin(v1::SetPin { pin }))
            }
            190..195 => {
                let device_id = self.device_of(at)?;
                request(Work::Devices, client_frame::Request::RingDevice(v1::RingDevice { device_id }))
            }
            195..197 => {
                // To end the own one is to log out.
                let device_id = self.device_of(at)?;
                self.record.may_end(self.devices[at].user, device_id);
                request(Work::Devices, client_frame::Request::EndDevice(v1::EndDevice { device_id }))
            }
            197 => Some((Work::Send, Ask::Flush)),
            198 => Some((Work::LookUp, self.show(at))),
            _ => {
                let doing = self.life.below(3) as i32;
                request(Work::Talk, client_frame::Request::Activity(v1::Activity { chat, doing, sender: 0 }))
            }
        }
    }

    /// Where a device is to be told that something has come, if it says so now.
    fn wish_for_pushes(&mut self, at: usize) -> Option<v1::SetPush> {
        let (user, device) = self.devices[at].session()?;
        self.pushes.wish(user, device)
    }

    fn by_phone(&self, other: usize) -> (Work, Ask) {
        (Work::LookUp, Ask::Lookup(lookup::By::Phone(self.devices[other].phone.clone())))
    }

    /// Who of an address book is here that has all phones, as far as one may ask for them at once.
    pub(super) fn discover(&self) -> client_frame::Request {
        let phones: BTreeSet<_> = self.devices.iter().map(|device| &*device.phone).collect();
        let hash = |phone| PhoneHash::of(&Phone::parse(phone).expect("a phone")).as_bytes().to_vec().into();
        let hashes = phones.into_iter().take(DISCOVERED_MAX).map(hash).collect();
        client_frame::Request::Discover(v1::Discover { hashes })
    }

    /// Another name, of the person or of the device.
    fn rename(&mut self, number: u64) -> v1::Rename {
        let name = Some(format!("name {number}{}", self.life.below(100)));
        if self.life.below(2) == 0 {
            let about = name.clone().filter(|_| number.is_multiple_of(2));
            let picture = self.media.picture().or(name.clone().map(Into::into));
            v1::Rename { name, about, picture, device_name: None }
        } else {
            v1::Rename { device_name: name, ..v1::Rename::default() }
        }
    }

    /// A device shows others from now on.
    fn show(&mut self, at: usize) -> Ask {
        let others = 1 + self.life.below(4);
        let mut user_ids = Vec::new();
        for _ in 0..others {
            let other = self.somebody(at);
            user_ids.push(self.devices[other].user);
        }
        user_ids.retain(|user| *user > 0);
        user_ids.sort_unstable();
        user_ids.dedup();
        let groups = self.record.groups.iter().copied().filter(|group| *group != PRIVATE).take(1).collect();
        Ask::Show(v1::Subscribe { user_ids, groups, away: self.life.below(8) == 0 })
    }

    /// Something about a group: one that is there, mostly, or a new one with somebody.
    fn with_a_group(&mut self, at: usize, somebody: u64) -> (Work, Ask) {
        let groups = self.record.groups.len() as u64;
        if groups < self.options.groups.max(1) || (groups < GROUPS_MAX && self.life.below(20) == 0) {
            return (Work::Rename, self.make_group(at, somebody));
        }
        let chat = self.record.groups[self.life.below(groups) as usize];
        match self.life.below(20) {
            ..8 => (Work::Send, self.message(at, chat)),
            8..10 => match self.about_a_message(at, chat) {
                Some(talk) => talk,
                None => (Work::Send, self.message(at, chat)),
            },
            10..13 => match self.reading(at, chat) {
                Some(reading) => reading,
                None => (
                    Work::Rename,
                    Ask::Request(client_frame::Request::AboutGroup(v1::AboutGroup {
                        chat,
                        ..Default::default()
                    })),
                ),
            },
            13 => {
                let (from, forwards) = (self.life.below(30), self.life.below(2) == 0);
                (Work::History, Ask::History(v1::History { chat, from, forwards, limit: 5 }))
            }
            14 if self.life.below(2) == 0 => (Work::LookUp, Ask::Request(self.report(at, chat))),
            14 => {
                let by = Some(lookup::By::UserId(somebody));
                (Work::LookUp, Ask::Request(client_frame::Request::Lookup(v1::Lookup { by, group: chat })))
            }
            _ => (Work::Rename, self.change_group(at, chat, somebody)),
        }
    }

    fn make_group(&mut self, at: usize, somebody: u64) -> Ask {
        let mut members = vec![somebody];
        for _ in 0..self.life.below(5) {
            let other = self.somebody(at);
            members.push(self.devices[other].user);
        }
        members.sort_unstable();
        members.dedup();
        members.retain(|user| *user != 0);
        let settings = self.settings();
        let made = v1::GroupMade {
            name: "group".to_owned(),
            settings: Some(settings),
            members,
            picture: self.media.picture().unwrap_or_default(),
            ..Default::default()
        };
        change(0, Change::Made(made))
    }

    fn settings(&mut self) -> v1::GroupSettings {
        let mut who = || i32::from(self.life.below(4) == 0);
        let (senders, editors, adders) = (who(), who(), who());
        v1::GroupSettings { senders, editors, adders, shows_history: self.life.below(3) == 0 }
    }

    fn change_group(&mut self, at: usize, chat: u64, somebody: u64) -> Ask {
        let other = self.somebody(at);
        let user_id = self.devices[other].user.max(1);
        if self.life.below(4) == 0 {
            return self.invitation(at, chat, somebody);
        }
        let what = match self.life.below(12) {
            ..5 => {
                let mut user_ids = vec![somebody, user_id];
                user_ids.dedup();
                Change::Added(v1::Members { user_ids })
            }
            5..8 => Change::Removed(somebody),
            8 => Change::Left(v1::Left {}),
            9 => Change::Role(v1::RoleGiven { user_id: somebody, role: self.life.below(2) as i32 }),
            10 => Change::Settings(self.settings()),
            _ => {
                let name = Change::Name(format!("group {}", self.life.below(100)));
                self.media.picture().map_or(name, Change::Picture)
            }
        };
        change(chat, what)
    }

    /// An invitation to a group is made, followed or ended.
    fn invitation(&mut self, at: usize, chat: u64, somebody: u64) -> Ask {
        let made = self.record.secrets.len() as u64;
        if made == 0 || self.life.below(6) == 0 {
            let secret = u128::from(made + 1).to_be_bytes().to_vec();
            let unix_ms = self.devices[at].clock.wall.ms(self.now).max(0) as u64;
            let invitation = v1::Invitation {
                hash: hash_of(&secret).into(),
                expires_ms: [0, unix_ms + self.life.below(2_000)][self.life.below(2) as usize],
                uses_max: self.life.below(2) as u32,
                wants_approval: self.life.below(3) == 0,
            };
            self.record.secrets.push((chat, secret));
            return change(chat, Change::Invitation(invitation));
        }
        let (group, secret) = self.record.secrets[self.life.below(made) as usize].clone();
        match self.life.below(8) {
            0 => change(group, Change::InvitationEnded(hash_of(&secret).into())),
            1 => change(group, Change::Declined(somebody)),
            2..4 => change(group, Change::Asked(secret.into())),
            _ => change(group, Change::Joined(secret.into())),
        }
    }

    /// A new message; or, now and then, the last one with a key once more.
    fn message(&mut self, at: usize, chat: u64) -> Ask {
        if self.life.below(30) == 0
            && let Some(again) = self.devices[at].keyed.clone()
        {
            return again;
        }
        self.said += 1;
        let length = if self.life.below(20) == 0 { self.life.below(4000) } else { self.life.below(200) };
        let body = text(self.said, length as usize);
        let key = (self.life.below(10) == 0).then(|| self.said.to_string());
        let is_keyed = key.is_some();
        let kind = if self.life.below(12) == 0 { Kind::Poll } else { Kind::Text };
        let envelope = Envelope { media: self.media.some(), ..self.envelope(at, chat) };
        self.record.asked(self.said, at, body.len(), (self.devices[at].user, chat), (envelope.about, false));
        let ask = Ask::Send(NewMessage { chat, kind, body, envelope, key });
        if is_keyed {
            self.devices[at].keyed = Some(ask.clone());
        }
        ask
    }

    /// What somebody searches for, in a chat or in all.
    fn search(&mut self, chat: u64) -> v1::Search {
        let query = if self.life.below(2) == 0 { "xx".to_owned() } else { self.said.to_string() };
        let chat = if self.life.below(2) == 0 { 0 } else { chat };
        v1::Search { query, chat, limit: self.life.below(9) as u32, after: None }
    }

    /// Somebody tells the operators of one of the latest entries of a chat, whatever it is and whether they have it or not; or of who is
    /// in the chat.
    fn report(&mut self, at: usize, chat: u64) -> client_frame::Request {
        let user = self.devices[at].user;
        let log = self.devices[at].machine().and_then(|machine| machine.tables().log(chat).ok().flatten());
        let position = log.map_or(0, |log| log.position);
        let (about, user_id, chat, seqs) = if position > 0 && self.life.below(4) > 0 {
            let seq = position - self.life.below(position.min(10));
            (About::Message(place_of(user, chat), seq), 0, chat, vec![seq])
        } else {
            (About::Person(chat), chat, 0, Vec::new())
        };
        let client_id = self.record.reports.asks(user, about);
        let (category, comment) = (v1::Category::Spam.into(), format!("report {client_id}"));
        client_frame::Request::Report(v1::Report { client_id, user_id, chat, seqs, category, comment })
    }

    /// What is said of a new message: now and then it replies to something, or was forwarded.
    fn envelope(&mut self, at: usize, chat: u64) -> Envelope {
        match self.life.below(8) {
            0 => Envelope::about(self.some_entry(at, chat).map_or(0, |(seq, _)| seq)),
            1 => Envelope { forwards: 1, ..Envelope::default() },
            2 if chat >= GROUPS_FROM => {
                Envelope { mentions: vec![self.devices[at].user.max(1)], ..Envelope::default() }
            }
            _ => Envelope::default(),
        }
    }

    /// An entry of a chat that a device has, one of the latest, or what that is about: its seq, and whose it is.
    fn some_entry(&mut self, at: usize, chat: u64) -> Option<(u64, u64)> {
        let tables = self.devices[at].machine()?.tables();
        let position = tables.log(chat).ok().flatten()?.position;
        let seq = position - self.life.below(position.clamp(1, 10));
        let entry = tables.entry(chat, seq).ok().flatten()?;
        let is_about = !says(entry.kind) && entry.envelope.about > 0;
        Some((if is_about { entry.envelope.about } else { seq }, entry.sender))
    }

    /// Something about a message, mostly one's own where nobody else may.
    fn about_a_message(&mut self, at: usize, chat: u64) -> Option<(Work, Ask)> {
        let me = self.devices[at].user;
        let kind = match self.life.below(13) {
            12 => return Some((Work::Talk, self.timer(chat))),
            ..4 => Kind::Edit,
            4..7 => Kind::Reaction,
            7..9 => Kind::Deletion,
            9 => Kind::Vote,
            10 => Kind::Pin,
            _ => Kind::Unpin,
        };
        let wants_own = matches!(kind, Kind::Edit | Kind::Deletion) && self.life.below(5) > 0;
        let mut found = self.some_entry(at, chat)?;
        for _ in 0..10 {
            if !wants_own || found.1 == me {
                break;
            }
            found = self.some_entry(at, chat)?;
        }
        let envelope = Envelope::about(found.0);
        let mut body = Vec::new();
        if has_text(kind.number()) {
            self.said += 1;
            body = text(self.said, self.life.below(40) as usize);
            let about = (found.0, kind == Kind::Edit);
            self.record.asked(self.said, at, body.len(), (me, chat), about);
        }
        Some((Work::Talk, Ask::Send(NewMessage { chat, kind, body, envelope, key: None })))
    }

    /// Messages of a chat end after a while from here on, or stay.
    fn timer(&mut self, chat: u64) -> Ask {
        let after_ms = [0, 0, 1_000, 5_000][self.life.below(4) as usize];
        let body = v1::Timer { after_ms }.encode_to_vec();
        Ask::Send(NewMessage { chat, kind: Kind::Timer, body, ..NewMessage::default() })
    }

    /// Something for one's own devices, mostly in place of something of before.
    fn own(&mut self, at: usize, chat: u64) -> Ask {
        let below = self.life.below(12);
        let what = match below {
            7..10 => {
                // Mostly they are blocked no more.
                v1::private::What::Blocked(v1::Blocked { user_id: chat, off: self.life.below(3) > 0 })
            }
            10 => {
                let contact =
                    v1::Contact { user_id: chat, off: self.life.below(2) == 0, ..Default::default() };
                v1::private::What::Contacts(v1::Contacts { contacts: vec![contact] })
            }
            11 => v1::private::What::Privacy(v1::Privacy {
                online: [0, 0, 2][self.life.below(3) as usize],
                hides_reads: self.life.below(2) == 0,
                found_by_phone: (chat % 3) as i32,
                about: (chat / 3 % 3) as i32,
                picture: (chat / 9 % 3) as i32,
                ..Default::default()
            }),
            4..6 => v1::private::What::Scheduled(self.scheduled(at, chat)),
            6 => v1::private::What::Scheduled(v1::Scheduled::default()),
            0 => v1::private::What::Star(v1::Star { chat, seq: 1 + self.life.below(9), off: false }),
            1 => v1::private::What::Draft(v1::Draft { chat, text: "a draft".into(), about: 0 }),
            _ => v1::private::What::Chat(v1::ChatSettings {
                chat,
                archived: self.life.below(2) == 0,
                muted_until_ms: self.life.below(9),
                ..Default::default()
            }),
        };
        let body = v1::Private { what: Some(what) }.encode_to_vec();
        // What it replaces may be how another chat is had, which then keeps what it had: only a newer one of its own changes that.
        let of_same = |private: v1::Private| match private.what {
            Some(v1::private::What::Scheduled(before)) if below == 6 => before.at_ms > 0,
            Some(v1::private::What::Chat(before)) if (2..4).contains(&below) => before.chat == chat,
            Some(v1::private::What::Draft(before)) if below == 1 => before.chat == chat,
            _ => false,
        };
        let about = self.latest_private(at, of_same).unwrap_or(0);
        let (kind, envelope) = (Kind::Private, Envelope::about(about));
        Ask::Send(NewMessage { chat: PRIVATE, kind, body, envelope, key: None })
    }

    /// Something that is to be said soon, by the server.
    fn scheduled(&mut self, at: usize, chat: u64) -> v1::Scheduled {
        // By the server's clock: by those of many devices it would be sending for hours.
        let unix_ms = self.clock.now_ms(self.now).max(1);
        self.said += 1;
        let body = text(self.said, self.life.below(40) as usize);
        self.record.asked(self.said, at, body.len(), (self.devices[at].user, chat), (0, false));
        let media = self.media.some().iter().map(MediaId::to_bytes).collect();
        let send = v1::Send { chat, body: body.into(), media, ..v1::Send::default() };
        v1::Scheduled { at_ms: unix_ms + self.life.below(3_000), send: Some(send) }
    }

    /// The newest entry of the private log that a device has, of which this is true.
    fn latest_private(&self, at: usize, is_so: impl Fn(v1::Private) -> bool) -> Option<u64> {
        let entries = self.devices[at].machine()?.tables().entries(PRIVATE, 0, u64::MAX, u32::MAX).ok()?;
        let said = |entry: &EntryRow| v1::Private::decode(&entry.body[..]).is_ok_and(&is_so);
        entries.iter().rev().find(|entry| !entry.erased && said(entry)).map(|entry| entry.seq)
    }

    /// A person has read a chat up to what the device has of it, or a little less.
    fn reading(&mut self, at: usize, chat: u64) -> Option<(Work, Ask)> {
        let log = self.devices[at].machine()?.tables().log(chat).ok().flatten()?;
        let upto = log.position.checked_sub(self.life.below(3)).filter(|upto| *upto > 0)?;
        if self.life.below(4) > 0 {
            return Some((Work::Read, Ask::MarkRead { chat, upto }));
        }
        // Wherever it was read.
        let apart = self.devices[at].read_apart.entry(chat).or_default();
        *apart = upto.max(*apart);
        let acknowledge = v1::Acknowledge { chat, delivered_upto: 0, read_upto: upto };
        Some((Work::Read, Ask::Request(client_frame::Request::Acknowledge(acknowledge))))
    }

    /// A device of the same person: another one, or now and then this one.
    fn device_of(&mut self, at: usize) -> Option<u32> {
        let own = self.devices[at].session()?;
        let mut sessions = self.devices.iter().filter_map(super::Device::session);
        let other = sessions.find(|session| session.0 == own.0 && *session != own);
        let is_own = self.life.below(4) == 0;
        other.or(is_own.then_some(own)).map(|(_, device)| device)
    }

    fn operator_asks(&mut self, at: usize) -> Result<(), String> {
        let phone = Phone::parse(&self.devices[at].phone).expect("a phone");
        let user = self.devices[at].user;
        let request = match self.life.below(5) {
            4 if user != 0 && self.ends.below(2) == 0 => return self.end_or_keep(at, &phone, user),
            4 if user != 0 => {
                self.suspend_or_free(&phone, user);
                return Ok(());
            }
            0 => AdminRequest::Status,
            1 => AdminRequest::ResetCodes(phone.clone()),
            _ => AdminRequest::User(phone.clone()),
        };
        self.question(&phone, request);
        Ok(())
    }

    /// Somebody has their account deleted, or an operator keeps it.
    fn end_or_keep(&mut self, at: usize, phone: &Phone, user: u64) -> Result<(), String> {
        if self.ending.contains(&user)
            && let Some(id) = UserId::new(user)
        {
            self.question(phone, AdminRequest::Keep(id));
        }
        if self.ending.insert(user) && self.devices[at].takes_asks() {
            let pin = pin_of(&self.devices[at].phone);
            let delete = client_frame::Request::DeleteAccount(v1::DeleteAccount { pin });
            self.tally.begun(Work::Devices);
            let input = self.devices[at].ask(Work::Devices, Ask::Request(delete), &mut self.record);
            return self.device(at, input);
        }
        self.ending.remove(&user);
        Ok(())
    }
}

/// A group is to become so; 0: a new one.
fn change(chat: u64, change: Change) -> Ask {
    let body = v1::GroupChange { change: Some(change) }.encode_to_vec();
    Ask::Send(NewMessage { kind: Kind::Group, ..NewMessage::text(chat, body) })
}
