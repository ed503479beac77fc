//! Requests to the services: one client of HTTP over TLS, which goes nowhere else than it was sent, and reads no more than it needs.

mod reach;
mod retry;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

pub use self::reach::Reach;
use self::reach::{NotReachable, Resolver, may_reach};
pub(crate) use self::retry::retry_after;
use crate::error::Invalid;
use crate::limits::ANSWER_BYTES_MAX;

/// How often a connection that has requests in flight is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long a connection with nothing to do stays: a push is seldom the last one.
const IDLE: Duration = Duration::from_secs(600);

/// Connections with nothing to do that are kept for one host, where it knows no HTTP/2.
const IDLE_PER_HOST_MAX: usize = 32;

/// Whom a service's certificate is to come from.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Those whom the machine trusts.
    #[default]
    System,
    /// These alone.
    Only(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// Those of a file in PEM.
    ///
    /// # Errors
    /// There is none in it, or one can't be read.
    pub fn from_pem(pem: &str) -> Result<Self, Invalid> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = read.map_err(|_| Invalid::Roots)?;
        if certificates.is_empty() { Err(Invalid::Roots) } else { Ok(Self::Only(certificates)) }
    }
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speaks {
    /// 2, or 1.1, as the server wants.
    Both,
    /// 2 alone, which APNs needs.
    Two,
}

/// Which URLs there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Schemes {
    /// `https`.
    Https,
    /// `http` as well: to a program beside.
    Either,
}

/// Sends requests.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
    timeout: Duration,
}

/// How it is to be.
pub(crate) struct About {
    pub roots: Roots,
    pub reach: Reach,
    pub speaks: Speaks,
    pub schemes: Schemes,
    /// From a request's begin to the end of its answer.
    pub timeout: Duration,
}

/// What came back.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Its first bytes: [`ANSWER_BYTES_MAX`] and one frame at most.
    pub body: Bytes,
}

/// Nothing came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// It may not go there: the host is not a public one.
    NotReachable,
    /// There was no connection, it ended before the answer, or the answer took too long.
    Unanswered,
}

impl Http {
    /// # Errors
    /// The roots can't be used.
    pub fn new(about: About) -> Result<Self, Invalid> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(about.reach));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(about.timeout));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls_of(about.roots)?);
        let tls = match about.schemes {
            Schemes::Https => tls.https_only(),
            Schemes::Either => tls.https_or_http(),
        };
        let connector = match about.speaks {
            Speaks::Both => tls.enable_http1().enable_http2().wrap_connector(tcp),
            Speaks::Two => tls.enable_http2().wrap_connector(tcp),
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http2_only(about.speaks == Speaks::Two)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .build(connector);
        Ok(Self { client, reach: about.reach, timeout: about.timeout })
    }

    /// Sends a request, follows nothing, and gives the answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, Lost> {
        // A host that is an address is asked of no resolver.
        if !may_reach(self.reach, request.uri()) {
            return Err(Lost::NotReachable);
        }
        let asked = async {
            let answer = self.client.request(request).await.map_err(|error| lost(&error))?;
            let (head, body) = answer.into_parts();
            Ok(Reply { status: head.status, headers: head.headers, body: beginning(body).await })
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(Lost::Unanswered))
    }
}

/// Why there is no answer: hyper puts a resolver's error somewhere below its own.
fn lost(error: &(dyn Error + 'static)) -> Lost {
    let mut below = Some(error);
    while let Some(error) = below {
        // An io::Error that wraps another one gives that one's source as its own: it is looked into by itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<NotReachable>() || inner.is_some_and(|inner| inner.is::<NotReachable>()) {
            return Lost::NotReachable;
        }
        below = error.source();
    }
    Lost::Unanswered
}

/// The first bytes of an answer. One that breaks off has said what it has.
async fn beginning(mut body: Incoming) -> Bytes {
    let mut bytes = BytesMut::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    bytes.freeze()
}

fn tls_of(roots: Roots) -> Result<ClientConfig, Invalid> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Invalid::Roots)?;
    match roots {
        Roots::System => {
            let verified = builder.with_platform_verifier().map_err(|_| Invalid::Roots)?;
            Ok(verified.with_no_client_auth())
        }
        Roots::Only(certificates) => {
            let mut store = RootCertStore::empty();
            for certificate in certificates {
                store.add(certificate).map_err(|_| Invalid::Roots)?;
            }
            Ok(builder.with_root_certificates(store).with_no_client_auth())
        }
    }
}

/// A base URL, to which paths are put: without a slash at its end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(Box<str>);

impl BaseUrl {
    /// # Errors
    /// It is not one of `https` with a host.
    pub fn new(url: &str) -> Result<Self, Invalid> {
        uri_of(url, Schemes::Https)?;
        Ok(Self(url.trim_end_matches('/').into()))
    }

    /// A path's URL.
    pub fn of(&self, path: impl fmt::Display) -> String {
        format!("{}{path}", self.0)
    }
}

/// A URL of the operator's.
///
/// # Errors
/// It has another scheme, no host, or somebody's name in it, which would be sent to nobody.
pub(crate) fn uri_of(url: &str, schemes: Schemes) -> Result<Uri, Invalid> {
    let uri: Uri = url.parse().map_err(|_| Invalid::BaseUrl)?;
    let has_scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => schemes == Schemes::Either,
        _ => false,
    };
    let has_host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if has_scheme && has_host { Ok(uri) } else { Err(Invalid::BaseUrl) }
}

/// A setting that is put into a header or a path's part.
///
/// # Errors
/// It is empty, or has characters that are not visible ones of ASCII.
pub(crate) fn setting(text: &str) -> Result<&str, Invalid> {
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(text) } else { Err(Invalid::Setting) }
}
