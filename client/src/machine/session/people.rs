//! Who somebody is: looked up, and remembered as far as the server tells.

use std::time::Duration;

use tern_proto::v1::{self, client_frame, lookup};

use super::{Pending, Session};
use crate::error::Error;
use crate::machine::device::{Device, News};
use crate::machine::ended::Ended;
use crate::machine::io::{Reply, Ticket};
use crate::machine::rows::Person;
use crate::machine::tables::Tables;
use tern_wire::ids::GROUPS_FROM;

impl Session {
    /// Known people are told at once, unless the server may tell more of them by now.
    pub(super) fn look_up<S: Tables>(&mut self, device: &mut Device<S>, ticket: Ticket, by: lookup::By) {
        let known = device.known(&by).and_then(|known| {
            let is_to_be_asked = known.as_ref().map_or(Ok(true), |person| device.is_to_be_asked(person))?;
            Ok((known, is_to_be_asked))
        });
        match known {
            Err(error) => device.answer(ticket, Err(error)),
            Ok((Some(person), false)) => device.answer(ticket, Ok(Reply::Person(person))),
            Ok((known, _)) => {
                let request = client_frame::Request::Lookup(v1::Lookup { by: Some(by), group: 0 });
                self.request(device.now.monotonic, request, Pending::Lookup(known, ticket));
            }
        }
    }

    pub(super) fn look_up_changed(&mut self, now: Duration, user: u64) {
        if !self.requests.is_looking_up(user) {
            let by = Some(lookup::By::UserId(user));
            self.request(
                now,
                client_frame::Request::Lookup(v1::Lookup { by, group: 0 }),
                Pending::Changed(user),
            );
        }
    }

    /// The server knows them no more.
    pub(super) fn is_nobody_now<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        user_id: u64,
    ) -> Result<(), Ended> {
        device.records.forget_phone_of(user_id)?;
        let (name, phone) = (String::new(), String::new());
        device.news.push(News::PersonChanged(Person { user_id, name, phone, ..Person::default() }));
        Ok(())
    }

    /// Remembers what the server tells of a person. Gives what is known then.
    pub(super) fn person<S: Tables>(
        &self,
        device: &mut Device<S>,
        person: v1::Person,
    ) -> Result<Person, Error> {
        let person = person_of(person);
        self.put(device, &person)?;
        device.records.set_profile(&person)?;
        Ok(device.records.person(person.user_id)?.unwrap_or(person))
    }

    /// The same where it is told who they are and no more.
    fn put<S: Tables>(&self, device: &mut Device<S>, person: &Person) -> Result<(), Error> {
        let (user_id, records) = (person.user_id, &mut device.records);
        records.put_person(person)?;
        // Where a name may be seen, one that is empty is not one that is not told.
        if user_id == device.account.user_id || records.both_have_written(user_id)? {
            records.set_name(user_id, &person.name)?;
        }
        Ok(())
    }

    /// Remembers whom a page of chats is with, and adds whom one knows already.
    pub(super) fn known_chats<S: Tables>(
        &self,
        device: &mut Device<S>,
        mut page: v1::ChatsPage,
    ) -> Result<v1::ChatsPage, Error> {
        // A group says itself what it is called.
        for chat in page.chats.iter_mut().filter(|chat| chat.id < GROUPS_FROM) {
            let (user_id, name, phone) = (chat.id, chat.name.clone(), chat.phone.clone());
            let told = !name.is_empty() || !phone.is_empty();
            if told {
                self.put(device, &Person { user_id, name, phone, ..Person::default() })?;
            }
            if let Some(known) = device.records.person(user_id)? {
                (chat.name, chat.phone) = (known.name, known.phone);
            }
        }
        Ok(page)
    }
}

/// As the server tells of somebody.
fn person_of(person: v1::Person) -> Person {
    let v1::Person { user_id, name, phone, about, picture, version } = person;
    Person { user_id, name, phone, about, picture: picture.into(), version }
}
