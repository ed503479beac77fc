//! The tern client library, for applications.
//!
//! [`Registrar`] proves a phone and makes this device's session; [`Client::start`] then keeps a connection to the server,
//! reconnects by itself, sends with retries that never double a message, and gives an ordered stream of [`Event`]s. What
//! must survive a restart (session, messages on their way, what has been received) lies in a small SQLite database.
//!
//! ```no_run
//! # async fn example() -> Result<(), tern_client::Error> {
//! use tern_client::{Client, Options, Registrar, State, Trust};
//! let options = Options::new("127.0.0.1:7443", Trust::CaFile("tern-data/cert.pem".into()), State::Dir("ann".into()));
//! let mut registrar = Registrar::connect(&options).await?;
//! registrar.register("+15550001").await?;
//! registrar.verify("+15550001", "123456", "Ann", "laptop").await?;
//! let (client, mut events) = Client::start(options).await?;
//! let bob = client.lookup_phone("+15550002").await?;
//! let sent = client.send(bob.user_id, "hello").await?;
//! println!("seq {}", sent.seq);
//! while let Some(event) = events.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(()) }
//! ```
//!
//! The library looks into no message's body, but for what becomes of groups, and for the words by which messages are found.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod account;
mod cards;
mod client;
mod driver;
mod error;
mod event;
mod groups;
mod invitations;
mod link_text;
mod links;
pub mod machine;
mod media;
mod message;
mod people;
mod presence;
mod private;
mod profile;
mod push;
mod registrar;
mod report;
mod search;
pub mod store;
mod stories;
mod talk;
mod trust;
mod wire;

pub use account::{Chat, ChatsPage, Device};
pub use cards::Card;
pub use client::{Client, HistoryPage, Kept, Options, Sent, State};
pub use error::Error;
pub use event::{Cause, Event, Events, Status};
pub use groups::{Group, GroupMember, NewGroup, is_group};
pub use invitations::{GroupLink, GroupPreview, Invitation, NewInvitation};
pub use links::DeviceLink;
pub use media::{Looks, PICTURE, Progress, Uploaded, type_of};
pub use message::{Envelope, Kind, Message, NewMessage, Standing};
pub use people::{Audience, Contact, Discovered, Privacy};
pub use presence::Doing;
pub use private::{ChatSettings, Dispatched, FOR_EVER_MS, Hidden, Notify, Private, Scheduled};
pub use push::{PushAddress, PushPlaces, PushService, PushSettings, QuietHours};
pub use registrar::{CodeSent, Registrar};
pub use report::Category;
pub use search::{Found, FoundOnServer};
pub use store::{Account, Person};
pub use stories::{NewStory, Story, StoryAudience, StoryId, StoryNews, Viewer, story_number};
pub use tern_wire::errors::Reason;
pub use tern_wire::group::{Change as GroupChange, Made as GroupMade, Role, Settings as GroupSettings, Who};
pub use tern_wire::ids::{MediaId, PRIVATE, UserId};
pub use trust::Trust;

/// The bodies of kinds of messages, as the protocol has them.
pub mod body {
    pub use tern_proto::v1::{Call, ContactCard, Location, Media, Poll, StoryText, Timer, Vote};
}
