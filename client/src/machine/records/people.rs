//! Whom one knows.

use super::Records;
use crate::error::Error;
use crate::machine::rows::Person;
use crate::machine::tables::{Change, Tables};

impl<S: Tables> Records<S> {
    /// A person by id.
    pub(crate) fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        self.tables.person(user_id)
    }

    /// A person by phone.
    pub(crate) fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        self.tables.person_by_phone(phone)
    }

    /// Remembers a person. What the server told before and does not tell now stays; a phone is one person's.
    pub(crate) fn put_person(&mut self, person: &Person) -> Result<(), Error> {
        if !person.phone.is_empty()
            && let Some(other) = self.tables.person_by_phone(&person.phone)?
            && other.user_id != person.user_id
        {
            self.change(Change::Person(&Person { phone: String::new(), ..other }))?;
        }
        let mut person = person.clone();
        if let Some(before) = self.tables.person(person.user_id)? {
            if person.name.is_empty() {
                person.name = before.name;
            }
            if person.phone.is_empty() {
                person.phone = before.phone;
            }
            // Where less than all is told (in a list of chats), the rest stays.
            if person.version == 0 {
                (person.about, person.picture) = (before.about, before.picture);
                person.version = before.version;
            }
        }
        self.change(Change::Person(&person))
    }

    /// A person's name is this, also if it is empty.
    pub(crate) fn set_name(&mut self, user_id: u64, name: &str) -> Result<(), Error> {
        match self.tables.person(user_id)? {
            Some(person) => self.change(Change::Person(&Person { name: name.to_owned(), ..person })),
            None => Ok(()),
        }
    }

    /// What one sees of a person beside name and phone is this.
    pub(crate) fn set_profile(&mut self, of: &Person) -> Result<(), Error> {
        let Some(person) = self.tables.person(of.user_id)? else { return Ok(()) };
        let (about, picture, version) = (of.about.clone(), of.picture.clone(), of.version);
        let after = Person { about, picture, version, ..person.clone() };
        if after == person { Ok(()) } else { self.change(Change::Person(&after)) }
    }

    /// The server does not know a person any more: who has that phone now is asked again.
    pub(crate) fn forget_phone_of(&mut self, user_id: u64) -> Result<(), Error> {
        match self.tables.person(user_id)? {
            Some(Person { user_id, name, .. }) => {
                self.change(Change::Person(&Person { user_id, name, ..Person::default() }))
            }
            None => Ok(()),
        }
    }
}
