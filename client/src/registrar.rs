//! Making a session: prove a phone by the code that it is sent.

use std::sync::Arc;

use tern_proto::v1::{self, client_frame, server_frame};

use crate::client::Options;
use crate::error::Error;
use crate::link::Link;
use crate::store::{Account, Store};

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
    link: Link,
    options: Options,
    replace: bool,
}

impl Registrar {
    /// Connects to the server.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let link = Link::connect(&options.server, Arc::new(options.trust.tls()?)).await?;
        Ok(Self { link, options: options.clone(), replace: false })
    }

    /// Whether a profile that is registered already, elsewhere or with messages that were not sent, is emptied.
    pub fn replacing(self, replace: bool) -> Self {
        Self { replace, ..self }
    }

    /// Asks for a one-time code. It is good only together with what the server says of it, which the profile keeps.
    pub async fn register(&mut self, phone: &str) -> Result<CodeSent, Error> {
        self.check(&*self.options.open_store()?, phone)?;
        let request = client_frame::Request::Register(v1::Register { phone: phone.to_owned() });
        let server_frame::Message::CodeSent(sent) = self.link.call(request).await? else {
            return Err(Error::Protocol("Register was answered by something else"));
        };
        let v1::CodeSent { digits, expires_in_ms, attempts, registration } = sent;
        self.options.open_store()?.set_setting(REGISTRATION, &format!("{phone} {registration}"))?;
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
        let registration = {
            let store = self.options.open_store()?;
            self.check(&store, phone)?;
            registration_of(&store, phone)?
        };
        let request = client_frame::Request::Verify(v1::Verify {
            phone: phone.to_owned(),
            code: code.to_owned(),
            name: name.to_owned(),
            device_name: device.to_owned(),
            registration,
        });
        let server_frame::Message::Session(session) = self.link.call(request).await? else {
            return Err(Error::Protocol("Verify was answered by something else"));
        };
        let store = self.options.open_store()?;
        store.register(phone, &session, &self.link.store)?;
        store.account()?.ok_or(Error::NotRegistered)
    }

    /// Whether this profile may become this phone's on this server. What is the same phone's in the same store may: its
    /// account is the same, or has ended.
    fn check(&self, store: &Store, phone: &str) -> Result<(), Error> {
        let Some(account) = store.account()? else { return Ok(()) };
        if self.replace {
            return Ok(());
        }
        let here = match (account.store.is_empty(), self.link.store.is_empty()) {
            (false, false) => account.store == self.link.store,
            _ => store.setting("server")?.is_none_or(|server| server == self.options.server),
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

    /// Ends the connection cleanly.
    pub async fn close(self) {
        self.link.close().await;
    }
}

/// What the server called the last request for a code for a phone; 0 if this profile made none.
fn registration_of(store: &Store, phone: &str) -> Result<u64, Error> {
    let kept = store.setting(REGISTRATION)?;
    let number = kept.as_deref().and_then(|kept| kept.strip_prefix(phone)?.strip_prefix(' ')?.parse().ok());
    Ok(number.unwrap_or(0))
}
