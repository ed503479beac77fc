//! A connection until it is logged in: connecting, `Hello`, the tokens' exchange if they have ended, `Login`.
//!
//! | stage | what comes | then |
//! |---|---|---|
//! | connecting | it stands | says `Hello`: greeting |
//! | greeting | `Welcome` of this store | logging in, or exchanging if the token is about to end |
//! | exchanging | `Session` | stores it: logging in again |
//! | logging in | `LoggedIn` | open |
//! | logging in, for the first time | `TOKEN_EXPIRED` | exchanging |
//! | any | anything else, or nothing in time | it has ended |

use std::time::Duration;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::errors::Reason;

use super::device::{Device, News};
use super::ended::Ended;
use super::io::ConnectionId;
use super::limits::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, TOKEN_SPARE_MS};
use super::link::{Link, answer_to};
use super::rows::Person;
use super::tables::Tables;
use crate::error::Error;
use crate::event::Event;

/// What is waited for. The numbers are requests'.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    Greeting(u64),
    Exchanging(u64),
    LoggingIn {
        request: u64,
        /// The token that is used was fresh.
        exchanged: bool,
    },
}

/// See the module.
pub(crate) struct Opening {
    pub(crate) link: Link,
    stage: Stage,
    /// When it must have gone on.
    pub(crate) by: Duration,
}

impl Opening {
    pub(crate) fn new(connection: ConnectionId, now: Duration) -> Self {
        Self { link: Link::new(connection), stage: Stage::Connecting, by: now + CONNECT_TIMEOUT }
    }

    pub(crate) fn connected(&mut self, now: Duration) -> Result<(), Ended> {
        match self.stage {
            Stage::Connecting => {
                let request = self.link.greet();
                self.wait_for(Stage::Greeting(request), now);
                Ok(())
            }
            // Its shell says that once.
            Stage::Greeting(_) | Stage::Exchanging(_) | Stage::LoggingIn { .. } => Ok(()),
        }
    }

    fn wait_for(&mut self, stage: Stage, now: Duration) {
        (self.stage, self.by) = (stage, now + RESPONSE_TIMEOUT);
    }

    /// Takes a frame. `true` if the connection is logged in then.
    pub(crate) fn frame<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        frame: v1::ServerFrame,
    ) -> Result<bool, Ended> {
        match self.stage {
            Stage::Connecting => return Err(Error::Protocol("a frame came before Hello").into()),
            Stage::Greeting(request) => self.greeted(device, answer_to(request, frame)?)?,
            Stage::Exchanging(request) => self.exchanged(device, answer_to(request, frame))?,
            Stage::LoggingIn { request, exchanged } => match answer_to(request, frame) {
                Ok(server_frame::Message::LoggedIn(logged_in)) => {
                    look_at_devices(device, logged_in.newest_device_id)?;
                    know_oneself(device, logged_in.name)?;
                    return Ok(true);
                }
                Ok(_) => return Err(Error::Protocol("Login was answered by something else").into()),
                Err(Error::Refused { reason: Reason::TokenExpired, .. }) if !exchanged => {
                    self.exchange(device)?
                }
                Err(error) => return Err(error.into()),
            },
        }
        Ok(false)
    }

    fn greeted<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        answer: server_frame::Message,
    ) -> Result<(), Ended> {
        let server_frame::Message::Welcome(welcome) = answer else {
            return Err(Error::Protocol("Hello was answered by something else").into());
        };
        self.link.welcomed(welcome)?;
        self.check_store(device)?;
        if device.account.access_expires_ms < device.now.unix_ms + TOKEN_SPARE_MS {
            self.exchange(device)?;
        } else {
            let token = device.account.access_token.clone();
            self.log_in(token, false, device.now.monotonic);
        }
        Ok(())
    }

    /// Nothing of another store's is sent to a server: not even a token.
    fn check_store<S: Tables>(&self, device: &mut Device<S>) -> Result<(), Error> {
        let store = &self.link.store;
        if store.is_empty() || store[..] == device.account.store[..] {
            return Ok(());
        }
        if !device.account.store.is_empty() {
            return Err(Error::OtherStore { server: device.server.clone() });
        }
        let account = device.records.set_store_id(store)?;
        device.news.push(News::Account(account));
        Ok(())
    }

    fn exchange<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Error> {
        let nonce = device.records.refresh_nonce(&mut device.entropy)?.into();
        let refresh_token = device.account.refresh_token.clone();
        let request = self.link.queue(client_frame::Request::Refresh(v1::Refresh { refresh_token, nonce }));
        self.wait_for(Stage::Exchanging(request), device.now.monotonic);
        Ok(())
    }

    fn exchanged<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        answer: Result<server_frame::Message, Error>,
    ) -> Result<(), Ended> {
        let session = match answer {
            Ok(server_frame::Message::Session(session)) => session,
            Ok(_) => return Err(Error::Protocol("Refresh was answered by something else").into()),
            // The refresh token itself has ended: only registering helps.
            Err(Error::Refused { reason: Reason::TokenExpired, .. }) => {
                return Err(Ended::Final(Reason::SessionRevoked));
            }
            Err(error) => return Err(error.into()),
        };
        let account = device.records.refreshed(session)?;
        let token = account.access_token.clone();
        device.news.push(News::Account(account));
        self.log_in(token, true, device.now.monotonic);
        Ok(())
    }

    fn log_in(&mut self, access_token: String, exchanged: bool, now: Duration) {
        let request = self.link.queue(client_frame::Request::Login(v1::Login { access_token }));
        self.wait_for(Stage::LoggingIn { request, exchanged }, now);
    }
}

/// Tells of a device that was added while this one was away.
fn look_at_devices<S: Tables>(device: &mut Device<S>, newest: u32) -> Result<(), Error> {
    let before = device.records.newest_device()?;
    if !device.receive || newest <= before {
        return Ok(());
    }
    if before != 0 {
        let device_name = String::new();
        device.news.push(News::Tell(Event::DeviceAdded { device_id: newest, device_name, time_ms: 0 }));
    }
    device.records.set_newest_device(newest)
}

/// One's own name, as it is now.
fn know_oneself<S: Tables>(device: &mut Device<S>, name: String) -> Result<(), Error> {
    let (user_id, phone) = (device.account.user_id, device.account.phone.clone());
    device.records.put_person(&Person { user_id, name: name.clone(), phone, ..Person::default() })?;
    device.records.set_name(user_id, &name)
}
