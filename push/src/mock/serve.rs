//! Listeners of mocks: TLS, HTTP/2 or 1.1, and connections that end as the script says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::keys::Identity;
use super::script::{End, Reply};
use crate::service::Doing;

/// Streams at once on one connection: as many as APNs allows.
const STREAMS_MAX: u32 = 1000;

/// A request.
pub(super) struct Asked {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    /// What a header says, if it is there and is text.
    pub fn says(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What answers.
pub(super) trait Answers: Send + Sync + 'static {
    fn answer(&self, asked: Asked) -> Doing<'_, Reply>;
}

/// A listener on a port of this machine, until it is dropped, with all of its connections.
pub(super) struct Listener {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    pub async fn start(answers: Arc<dyn Answers>, identity: &Identity, protocols: &[&[u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let tls = TlsAcceptor::from(identity.server(protocols));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, tls.clone(), answers.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, answers: Arc<dyn Answers>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let (ends, mut ending) = mpsc::unbounded_channel();
    let service = service_fn(move |request| answered(request, answers.clone(), ends.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            Some(end) = ending.recv() => match end {
                End::GoesAway => connection.as_mut().graceful_shutdown(),
                End::IsReset => return,
                End::Stays => {}
            },
        }
    }
}

async fn answered(
    request: Request<Incoming>,
    answers: Arc<dyn Answers>,
    ends: mpsc::UnboundedSender<End>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    let path = head.uri.path().to_owned();
    let reply = answers.answer(Asked { method: head.method, path, headers: head.headers, body }).await;
    match reply.delay {
        None => std::future::pending().await,
        Some(delay) if delay.is_zero() => {}
        Some(delay) => tokio::time::sleep(delay).await,
    }
    if reply.end != End::Stays {
        let _ = ends.send(reply.end);
    }
    if reply.end == End::IsReset {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(reply.body.into())).expect("a script has no nonsense"))
}
