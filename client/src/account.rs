//! What a client asks about its own account: its chats at a glance, its devices, its names.

use std::collections::BTreeMap;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::ids::MediaId;

use crate::client::Client;
use crate::driver::Call;
use crate::error::Error;
use crate::media::named_by;
use crate::message::Message;
use crate::private::ChatSettings;
use crate::store::Person;

/// A chat at a glance.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    /// With whom, as far as the server tells. Of a group: its number, and what it is called.
    pub person: Person,
    /// The newest seq.
    pub head: u64,
    /// How many of the peer's messages are not read.
    pub unread: u64,
    /// The newest message.
    pub last: Option<Message>,
    /// The peer has everything up to here.
    pub delivered_upto: u64,
    /// The peer has read up to here.
    pub read_upto: u64,
    /// One has read up to here oneself, on any device.
    pub own_read_upto: u64,
    /// Another one whenever anything above has changed.
    pub version: u64,
    /// The server can't read this chat now: nothing but the person is known.
    pub unavailable: bool,
    /// A group that one has left, or was removed from.
    pub left: bool,
    /// Messages that are sent now disappear after so many ms; 0: they stay.
    pub timer_ms: u64,
    /// How one has it.
    pub settings: ChatSettings,
}

/// A page of the list of chats.
#[derive(Clone, PartialEq, Debug)]
pub struct ChatsPage {
    /// In the order of their numbers, groups last, without those whose versions were given.
    pub chats: Vec<Chat>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<u64>,
}

/// A device of one's account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its number.
    pub device_id: u32,
    /// What it is called.
    pub device_name: String,
    /// When it was added, in ms since the Unix epoch.
    pub created_ms: u64,
    /// The first millisecond of the day, UTC, on which it was last here.
    pub seen_ms: u64,
    /// It has a connection now.
    pub connected: bool,
}

pub(crate) const WRONG_KIND: Error = Error::Protocol("a response is not of its request's kind");

impl Client {
    pub(crate) async fn ask(&self, request: client_frame::Request) -> Result<server_frame::Message, Error> {
        self.call(|answer| Call::Ask { request, answer }).await
    }

    /// Lists one's chats behind this one (0: from the first), without those that still are what these
    /// versions say, by the chats' numbers.
    pub async fn chats_page(&self, after: u64, known: &BTreeMap<u64, u64>) -> Result<ChatsPage, Error> {
        let known = known.range(after.saturating_add(1)..).take(tern_wire::limits::CHATS_MAX);
        let known = known.map(|(chat, version)| v1::KnownChat { id: *chat, version: *version }).collect();
        let request = client_frame::Request::Chats(v1::Chats { after, limit: 0, known });
        // The server has one of a connection under way at a time.
        let _turn = self.listing.lock().await;
        let server_frame::Message::ChatsPage(page) = self.ask(request).await? else { return Err(WRONG_KIND) };
        let chats = page.chats.into_iter().map(|chat| chat_of(chat, self.account().user_id)).collect();
        Ok(ChatsPage { chats, next: (page.next != 0).then_some(page.next) })
    }

    /// Lists all of one's chats, those with the newest message first.
    pub async fn chats(&self) -> Result<Vec<Chat>, Error> {
        let (mut chats, mut next) = (Vec::new(), Some(0));
        while let Some(after) = next {
            let page = self.chats_page(after, &BTreeMap::new()).await?;
            if page.next.is_some_and(|next| next <= after) {
                return Err(Error::Protocol("a list of chats does not go on"));
            }
            chats.extend(page.chats);
            next = page.next;
        }
        chats.sort_by_key(|chat: &Chat| std::cmp::Reverse(chat.last.as_ref().map_or(0, |last| last.time_ms)));
        Ok(chats)
    }

    /// Says that everything up to a message was read, wherever it was read, and waits until that is durable. What this profile has not
    /// received comes all the same.
    pub async fn tell_read(&self, chat: u64, upto: u64) -> Result<(), Error> {
        let acknowledge = v1::Acknowledge { chat, delivered_upto: 0, read_upto: upto };
        match self.ask(client_frame::Request::Acknowledge(acknowledge)).await? {
            server_frame::Message::Acknowledged(_) => self.mark_read(chat, upto).await,
            _ => Err(WRONG_KIND),
        }
    }

    /// Lists one's devices, those that have not ended; and whether the account has a PIN.
    pub async fn devices(&self) -> Result<(Vec<Device>, bool), Error> {
        let request = client_frame::Request::Devices(v1::Devices {});
        let server_frame::Message::DeviceList(list) = self.ask(request).await? else {
            return Err(WRONG_KIND);
        };
        let device = |device: v1::Device| {
            let v1::Device { device_id, device_name, created_ms, seen_ms, connected } = device;
            Device { device_id, device_name, created_ms, seen_ms, connected }
        };
        Ok((list.devices.into_iter().map(device).collect(), list.has_pin))
    }

    /// Ends a device of one's account for good. One's own is the way to log out: the session ends with it.
    pub async fn end_device(&self, device_id: u32) -> Result<(), Error> {
        let request = client_frame::Request::EndDevice(v1::EndDevice { device_id });
        match self.ask(request).await? {
            server_frame::Message::DeviceEnded(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }

    /// Has a device of one's account ring. Whether it is connected: if so it is told, and if not it never is.
    pub async fn ring_device(&self, device_id: u32) -> Result<bool, Error> {
        let request = client_frame::Request::RingDevice(v1::RingDevice { device_id });
        match self.ask(request).await? {
            server_frame::Message::DeviceRung(rung) => Ok(rung.connected),
            _ => Err(WRONG_KIND),
        }
    }

    /// Sets the account's PIN, or another one (4 to 64 bytes); empty: none any more. Without it nobody becomes a device of the account by a
    /// one-time code alone, while any of its devices is in use.
    pub async fn set_pin(&self, pin: &str) -> Result<(), Error> {
        let request = client_frame::Request::SetPin(v1::SetPin { pin: pin.to_owned() });
        match self.ask(request).await? {
            server_frame::Message::PinSet(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }

    /// Has the account end, after as long as the server gives: with its PIN, or empty if it has none. Gives when, in ms since the Unix epoch. This and all other devices are let in no more; until then whoever
    /// proves its phone ([`crate::Registrar`]) keeps it.
    pub async fn delete_account(&self, pin: &str) -> Result<u64, Error> {
        let request = client_frame::Request::DeleteAccount(v1::DeleteAccount { pin: pin.to_owned() });
        match self.ask(request).await? {
            server_frame::Message::AccountEnds(ends) => Ok(ends.at_ms),
            _ => Err(WRONG_KIND),
        }
    }

    /// Changes what others see of one beside the name, as far as one lets them: what one says of oneself (at most 140 characters in one line),
    /// and what names one's picture: the 16 bytes of a medium ([`Client::set_picture`]), or anything else of at most 1,024 bytes, which mean
    /// nothing to the server. `None` leaves it.
    pub async fn set_profile(&self, about: Option<String>, picture: Option<Vec<u8>>) -> Result<(), Error> {
        let me = self.account().user_id;
        let rename = v1::Rename { about, picture: picture.map(Into::into), ..v1::Rename::default() };
        match self.ask(client_frame::Request::Rename(rename)).await? {
            // What it has become is told anew.
            server_frame::Message::Renamed(_) => self.profile(me).await.map(drop),
            _ => Err(WRONG_KIND),
        }
    }

    /// Has a medium that was uploaded as one's picture, which the server keeps for as long; or none any more.
    pub async fn set_picture(&self, medium: Option<MediaId>) -> Result<(), Error> {
        self.set_profile(None, Some(named_by(medium))).await
    }

    /// What a person is to one now, as the server tells: one that this profile knows, or oneself.
    pub async fn profile(&self, user_id: u64) -> Result<Person, Error> {
        let by = match self.local(move |store| store.person(user_id)).await? {
            Some(known) if !known.phone.is_empty() => v1::lookup::By::Phone(known.phone),
            _ => v1::lookup::By::UserId(user_id),
        };
        let request = client_frame::Request::Lookup(v1::Lookup { by: Some(by), group: 0 });
        self.call(|answer| Call::LookUpMember { request, answer }).await
    }

    /// Changes one's display name, or what this device is called; `None` leaves it.
    pub async fn rename(&self, name: Option<String>, device_name: Option<String>) -> Result<(), Error> {
        let me = self.account().user_id;
        let request = client_frame::Request::Rename(v1::Rename {
            name: name.clone(),
            device_name,
            ..v1::Rename::default()
        });
        match (self.ask(request).await?, name) {
            (server_frame::Message::Renamed(_), Some(name)) => {
                self.local(move |store| store.set_name(me, &name)).await
            }
            (server_frame::Message::Renamed(_), None) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }
}

fn chat_of(chat: v1::Chat, me: u64) -> Chat {
    let v1::Chat { id, name, phone, head, unread, delivered_upto, read_upto, .. } = chat;
    Chat {
        person: Person { user_id: id, name, phone, ..Person::default() },
        head,
        unread,
        last: chat.last.map(|last| Message::of_page(id, last, me)),
        delivered_upto,
        read_upto,
        own_read_upto: chat.own_read_upto,
        version: chat.version,
        unavailable: chat.unavailable,
        left: chat.left,
        timer_ms: chat.timer_ms,
        settings: chat.settings.map(ChatSettings::of_wire).unwrap_or_default(),
    }
}
