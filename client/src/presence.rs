//! Who is here, and what people do just now: told while there is a connection, and kept nowhere.

pub use tern_proto::v1::Doing;
use tern_proto::v1::{self, client_frame, server_frame};

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::driver::Call;
use crate::error::Error;

impl Client {
    /// Says whom this device shows, in place of whom it showed before: [`Event::Presence`](crate::Event::Presence) tells whether these
    /// people are here, and [`Event::Activity`](crate::Event::Activity) what they do in the chat with one, or in these groups. `away` says
    /// that nobody looks at the device: one is not here by it. It holds on later connections too. At most 256 people and 16 groups.
    pub async fn show(&self, users: &[u64], groups: &[u64], away: bool) -> Result<(), Error> {
        let shows = v1::Subscribe { user_ids: users.to_vec(), groups: groups.to_vec(), away };
        self.call(|answer| Call::Show { shows, answer }).await
    }

    /// Says what one does in a chat just now: those who show it are told. Say it again every 5 seconds while it lasts, and at the end
    /// that it is nothing. More often than every 3 seconds is refused.
    pub async fn act(&self, chat: u64, doing: Doing) -> Result<(), Error> {
        let activity = v1::Activity { chat, doing: doing.into(), sender: 0 };
        match self.ask(client_frame::Request::Activity(activity)).await? {
            server_frame::Message::ActivityTold(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }
}
