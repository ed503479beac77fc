//! Making a session: prove a phone by the code that it is sent.

use std::sync::Arc;

use tern_proto::v1::{self, client_frame, server_frame};

use crate::client::Options;
use crate::error::Error;
use crate::link::Link;
use crate::store::Account;

/// A code is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeSent {
    /// How many digits it has.
    pub digits: u32,
    /// How long it is good, in milliseconds.
    pub expires_in_ms: u32,
    /// How often a wrong one may be tried.
    pub attempts: u32,
    /// Names the request: the code is good with it alone.
    pub registration: u64,
}

/// A connection for registering.
pub struct Registrar {
    link: Link,
    options: Options,
    registration: u64,
}

impl Registrar {
    /// Connects to the server.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let link = Link::connect(&options.server, Arc::new(options.trust.tls()?)).await?;
        Ok(Self { link, options: options.clone(), registration: 0 })
    }

    /// Goes on with a code that was asked for on another connection.
    pub fn go_on_with(&mut self, registration: u64) {
        self.registration = registration;
    }

    /// Asks for a one-time code.
    pub async fn register(&mut self, phone: &str) -> Result<CodeSent, Error> {
        let request = client_frame::Request::Register(v1::Register { phone: phone.to_owned() });
        match self.link.call(request).await? {
            server_frame::Message::CodeSent(sent) => {
                let v1::CodeSent { digits, expires_in_ms, attempts, registration } = sent;
                self.registration = registration;
                Ok(CodeSent { digits, expires_in_ms, attempts, registration })
            }
            _ => Err(Error::Protocol("Register was answered by something else")),
        }
    }

    /// Proves the phone with the code that was asked for last, and keeps the session in the profile.
    pub async fn verify(
        &mut self,
        phone: &str,
        code: &str,
        name: &str,
        device: &str,
    ) -> Result<Account, Error> {
        let request = client_frame::Request::Verify(v1::Verify {
            phone: phone.to_owned(),
            code: code.to_owned(),
            name: name.to_owned(),
            device_name: device.to_owned(),
            registration: self.registration,
        });
        let server_frame::Message::Session(session) = self.link.call(request).await? else {
            return Err(Error::Protocol("Verify was answered by something else"));
        };
        let mut store = self.options.open_store()?;
        store.register(phone, &session)?;
        store.account()?.ok_or(Error::NotRegistered)
    }

    /// Ends the connection cleanly.
    pub async fn close(self) {
        self.link.close().await;
    }
}
