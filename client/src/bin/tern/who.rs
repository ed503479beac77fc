//! Whom a command is about, as a person writes it.

use std::str::FromStr;

use serde_json::{Map, Value};

/// A person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// By phone, E.164.
    Phone(String),
    /// By user id.
    User(u64),
}

/// A phone as people write it: E.164, with spaces, dashes, dots, slashes and brackets between.
pub fn phone(written: &str) -> Result<String, String> {
    let bare: String = written.chars().filter(|c| !c.is_whitespace() && !"-./()".contains(*c)).collect();
    let is_phone = bare.strip_prefix('+').is_some_and(|digits| {
        (8..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    });
    if is_phone {
        Ok(bare)
    } else {
        Err("a phone is a plus sign and 8 to 15 digits, country code first, as in +1 555 00010".to_owned())
    }
}

/// A place as people write it: degrees of latitude and longitude, with a comma between.
pub fn location(written: &str) -> Result<(f64, f64), String> {
    let place = written.split_once(',').and_then(|(latitude, longitude)| {
        let place: (f64, f64) = (latitude.trim().parse().ok()?, longitude.trim().parse().ok()?);
        (place.0.abs() <= 90.0 && place.1.abs() <= 180.0).then_some(place)
    });
    place.ok_or_else(|| "a place is latitude and longitude in degrees, as in 52.5163,13.3777".to_owned())
}

/// A display name as the server takes it: it is looked at before a code is spent on it.
pub fn name(written: &str) -> Result<String, String> {
    let name = tern_wire::ids::Name::parse(written);
    name.map(|name| name.as_str().to_owned()).ok_or_else(|| {
        "a name has at most 100 bytes, and no characters that control or turn what follows".to_owned()
    })
}

impl FromStr for Who {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written.strip_prefix('@') {
            Some(id) => {
                let id = id.parse().ok().filter(|id| *id > 0);
                id.map(Self::User)
                    .ok_or_else(|| "a user is @ and the number that `tern chats` shows".to_owned())
            }
            None => phone(written).map(Self::Phone),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Phone(phone) => phone.fmt(f),
            Self::User(id) => write!(f, "@{id}"),
        }
    }
}

impl Who {
    /// As the parameters of a method name them.
    pub fn params(&self) -> Map<String, Value> {
        let (key, value) = match self {
            Self::Phone(phone) => ("phone", Value::from(phone.as_str())),
            Self::User(id) => ("chat", Value::from(*id)),
        };
        Map::from_iter([(key.to_owned(), value)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_is_taken_as_people_write_it_and_nothing_else_for_one() {
        for written in ["+15550001", "+1 555 0001", "+1-555-0001", "+1 (555) 00/01", "+1.555.0001"] {
            assert_eq!(written.parse(), Ok(Who::Phone("+15550001".to_owned())), "{written}");
        }
        assert_eq!("@42".parse(), Ok(Who::User(42)));
        for bad in ["15550001", "+1", "+0155500011", "+1555000a", "@", "@0", "@-1", "@x", "Ann", ""] {
            assert!(bad.parse::<Who>().is_err(), "{bad:?}");
        }
    }
}
