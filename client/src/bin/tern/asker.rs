//! Who carries out what a command asks for: a client of its own, or the process that has the profile already.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tern_client::{Client, Error, Event, Events, Options, State, Status};

use crate::methods::{Failure, Session};
use crate::profile::ProfileArgs;
use crate::rpc::Remote;

/// How long a command waits for what was kept earlier to be sent, and for its connection to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
pub enum Asker {
    Own { session: Arc<Session>, events: Events },
    Remote(Remote),
}

/// A client of a registered profile, with what it is told.
pub async fn start(profile: &ProfileArgs, receive: bool) -> Result<(Arc<Session>, Events), Error> {
    let options = Options { receive, ..profile.registered()? };
    let server = options.server.clone();
    let (client, events) = Client::start(options).await?;
    let session = Session { client, server, profile: profile.place()?.to_string() };
    Ok((Arc::new(session), events))
}

/// The directory of a profile that is being used.
pub fn directory_of(options: &Options) -> Option<&std::path::Path> {
    match &options.state {
        State::Dir(dir) => Some(dir),
        State::Memory(_) => None,
    }
}

impl Asker {
    /// For a command that asks for something and ends.
    pub async fn open(profile: &ProfileArgs) -> Result<Self, Error> {
        match start(profile, false).await {
            Ok((session, events)) => Ok(Self::Own { session, events }),
            Err(in_use @ Error::ProfileInUse { .. }) => {
                let dir = profile.place()?.dir;
                Remote::connect(&dir).await.map(Self::Remote).map_err(|_| in_use)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for something, and waits for it.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        match self {
            Self::Own { session, .. } => session.call(method, params).await,
            Self::Remote(remote) => remote.call(method, params).await,
        }
    }

    /// Waits until there is a connection, and fails if there is none.
    pub async fn connected(&self) -> Result<(), Error> {
        match self {
            Self::Own { session, .. } => session.connected().await,
            // It has its own, and says if it has not.
            Self::Remote(_) => Ok(()),
        }
    }

    /// Why there is no connection, when there is none.
    pub async fn lost(&self) -> String {
        match self {
            Self::Own { session, .. } => match session.client.lost().await {
                Status::Lost { why, .. } => why,
                // That ends what is waited for, too.
                _ => std::future::pending().await,
            },
            Self::Remote(_) => std::future::pending().await,
        }
    }

    /// Has what was kept earlier sent. Gives what there is to say of that: what was refused.
    pub async fn close(self, say: impl Fn(&Event)) {
        if let Self::Own { session, mut events } = self {
            close(&session.client).await;
            while let Some(event) = events.try_next() {
                if matches!(event, Event::NotSent { .. }) {
                    say(&event);
                }
            }
        }
    }
}

/// Has what was kept earlier sent, and closes the connection, but does not wait long for a server that is not there.
pub async fn close(client: &Client) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.flush()).await;
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await;
}
