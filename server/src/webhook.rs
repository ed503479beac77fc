//! A program of the operators' that is told something by HTTP: JSON in a POST.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::Response;

/// Where it listens.
#[derive(Clone)]
pub struct Webhook {
    pub url: String,
    /// What the header `Authorization` says.
    pub authorization: Option<String>,
}

impl Webhook {
    /// Posts JSON, and gives the answer.
    ///
    /// # Errors
    /// If there is none within `timeout`; or as the agent is made, for its status.
    pub fn post(
        &self,
        agent: &ureq::Agent,
        json: String,
        timeout: Duration,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut request = agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request.header("content-type", "application/json").send(json)
    }
}

/// Of those who ask webhooks: TLS as the rest of the program has it, and whom the machine trusts.
pub fn agent_config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    ureq::Agent::config_builder().tls_config(tls)
}
