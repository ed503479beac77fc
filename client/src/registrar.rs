//! Making a session: prove a phone by the code that it is sent.

use std::sync::Arc;

use tern_proto::v1::{self, client_frame, server_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::client::Options;
use crate::error::Error;
use crate::links::DeviceLink;
use crate::machine::link::{Link, answer_to};
use crate::machine::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::profile::with_store;
use crate::store::{Account, Store};
use crate::wire::{CLOSE_TIMEOUT, connect};

/// A code is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeSent {
    /// How many digits it has.
    pub digits: u32,
    /// How long it is good, in milliseconds.
    pub expires_in_ms: u32,
    /// How often a wrong one may be tried.
    pub attempts: u32,
}

/// The profile's setting that names the request for a code that is under way: PHONE NUMBER.
const REGISTRATION: &str = "registration";

/// A connection for registering.
pub struct Registrar {
    line: Line,
    options: Options,
    replace: bool,
    pin: String,
}

impl Registrar {
    /// Connects to the server.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let connecting = connect(options.server.clone(), Arc::new(options.trust.tls()?));
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| Error::TimedOut)??;
        let mut line = Line { stream, link: Link::new(0) };
        let hello = line.link.greet();
        match line.answer(hello).await? {
            server_frame::Message::Welcome(welcome) => line.link.welcomed(welcome)?,
            _ => return Err(Error::Protocol("Hello was answered by something else")),
        }
        Ok(Self { line, options: options.clone(), replace: false, pin: String::new() })
    }

    /// Whether a profile that is registered already, elsewhere or with messages that were not sent, is emptied.
    pub fn replacing(self, replace: bool) -> Self {
        Self { replace, ..self }
    }

    /// The account's PIN, which [`Registrar::verify`] gives from here on: needed where it is refused with `PIN_NEEDED`.
    pub fn set_pin(&mut self, pin: &str) {
        pin.clone_into(&mut self.pin);
    }

    /// Asks for a one-time code. It is good only together with what the server says of it, which the profile keeps.
    pub async fn register(&mut self, phone: &str) -> Result<CodeSent, Error> {
        let (check, of) = (self.check(), phone.to_owned());
        with_store(&self.options, move |store| check.of(&store, &of)).await?;
        let request = client_frame::Request::Register(v1::Register { phone: phone.to_owned() });
        let server_frame::Message::CodeSent(sent) = self.line.call(request).await? else {
            return Err(Error::Protocol("Register was answered by something else"));
        };
        let v1::CodeSent { digits, expires_in_ms, attempts, registration } = sent;
        let kept = format!("{phone} {registration}");
        with_store(&self.options, move |store| store.set_setting(REGISTRATION, &kept)).await?;
        Ok(CodeSent { digits, expires_in_ms, attempts })
    }

    /// Proves the phone with its code, and keeps the session in the profile. What belonged to an earlier one is emptied.
    pub async fn verify(
        &mut self,
        phone: &str,
        code: &str,
        name: &str,
        device: &str,
    ) -> Result<Account, Error> {
        let (check, of) = (self.check(), phone.to_owned());
        let registration = with_store(&self.options, move |store| {
            check.of(&store, &of)?;
            registration_of(&store, &of)
        });
        let registration = registration.await?;
        let request = client_frame::Request::Verify(v1::Verify {
            phone: phone.to_owned(),
            code: code.to_owned(),
            name: name.to_owned(),
            device_name: device.to_owned(),
            registration,
            pin: self.pin.clone(),
        });
        let server_frame::Message::Session(session) = self.line.call(request).await? else {
            return Err(Error::Protocol("Verify was answered by something else"));
        };
        let (phone, id) = (phone.to_owned(), self.line.link.store.clone());
        with_store(&self.options, move |store| {
            store.register(&phone, &session, &id)?;
            store.account()?.ok_or(Error::NotRegistered)
        })
        .await
    }

    /// Becomes a device of the account whose device has given this link, and keeps the session in the profile. What belonged to an
    /// earlier one is emptied.
    pub async fn link(&mut self, link: &DeviceLink, device: &str) -> Result<Account, Error> {
        let check = self.check();
        with_store(&self.options, move |store| match store.account()? {
            // Of which phone it will be is not known yet.
            Some(account) if !check.replace => {
                Err(Error::ProfileTaken(format!("is a device of {}", account.phone)))
            }
            _ => Ok(()),
        })
        .await?;
        let request = client_frame::Request::Link(v1::Link {
            user_id: link.user,
            secret: link.secret.to_vec().into(),
            device_name: device.to_owned(),
        });
        let server_frame::Message::Session(session) = self.line.call(request).await? else {
            return Err(Error::Protocol("Link was answered by something else"));
        };
        let id = self.line.link.store.clone();
        with_store(&self.options, move |store| {
            store.register(&session.phone, &session, &id)?;
            store.account()?.ok_or(Error::NotRegistered)
        })
        .await
    }

    fn check(&self) -> Check {
        let (server, id) = (self.options.server.clone(), self.line.link.store.to_vec());
        Check { server, id, replace: self.replace }
    }

    /// Ends the connection cleanly.
    pub async fn close(mut self) {
        // A server that does not take the end learns of it from its own timeout.
        let _ = timeout(CLOSE_TIMEOUT, self.line.stream.shutdown()).await;
    }
}

/// A connection on which one thing is asked at a time, and nothing is pushed.
struct Line {
    stream: TlsStream<TcpStream>,
    link: Link,
}

impl Line {
    /// Sends a request and waits for its response.
    async fn call(&mut self, request: client_frame::Request) -> Result<server_frame::Message, Error> {
        let id = self.link.queue(request);
        self.answer(id).await
    }

    async fn answer(&mut self, id: u64) -> Result<server_frame::Message, Error> {
        let asked = async {
            self.stream.write_all(&self.link.take_out()).await?;
            self.stream.flush().await?;
            loop {
                let mut bytes = Vec::with_capacity(4096);
                if self.stream.read_buf(&mut bytes).await? == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                let (frames, rest) = self.link.read(&bytes);
                if let Some((frame, _)) = frames.into_iter().next() {
                    return answer_to(id, frame);
                }
                rest?;
            }
        };
        timeout(RESPONSE_TIMEOUT, asked).await.unwrap_or(Err(Error::TimedOut))
    }
}

/// What a profile must be to become a phone's on a server.
struct Check {
    server: String,
    /// Names the server's store; empty if it does not.
    id: Vec<u8>,
    replace: bool,
}

impl Check {
    /// Whether this profile may become this phone's on this server. What is the same phone's in the same store may: its
    /// account is the same, or has ended.
    fn of(&self, store: &Store, phone: &str) -> Result<(), Error> {
        let Some(account) = store.account()? else { return Ok(()) };
        if self.replace {
            return Ok(());
        }
        let here = match (account.store.is_empty(), self.id.is_empty()) {
            (false, false) => account.store == self.id,
            _ => store.setting("server")?.is_none_or(|server| server == self.server),
        };
        if account.phone != phone {
            return Err(Error::ProfileTaken(format!("is a device of {}", account.phone)));
        }
        if !here {
            let server = store.setting("server")?.unwrap_or_else(|| "another server".to_owned());
            let what = format!("is a device of {phone} at {server}, which is not, or no longer, this server");
            return Err(Error::ProfileTaken(what));
        }
        match store.outbox_len()? {
            0 => Ok(()),
            count => Err(Error::ProfileTaken(format!("holds {count} messages that have not been sent"))),
        }
    }
}

/// What the server called the last request for a code for a phone; 0 if this profile made none.
fn registration_of(store: &Store, phone: &str) -> Result<u64, Error> {
    let kept = store.setting(REGISTRATION)?;
    let number = kept.as_deref().and_then(|kept| kept.strip_prefix(phone)?.strip_prefix(' ')?.parse().ok());
    Ok(number.unwrap_or(0))
}
