//! Answers: their bodies, and how a refusal reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};

use crate::gate::Refusal;
use crate::links::BadLink;
use crate::store::{Pieces, StoreError};

/// What is sent.
pub enum Body {
    /// All of it is there.
    Whole(Bytes),
    /// It comes piece by piece, and so many bytes are left.
    Pieces(Pieces, u64),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Pieces(_, 0) => Poll::Ready(None),
            Self::Pieces(pieces, left) => {
                let ended = || Err(StoreError::Failed("a medium ended before its end".to_owned()));
                let piece = ready!(pieces.poll_recv(cx)).unwrap_or_else(ended);
                *left -= piece.as_ref().map_or(*left, |piece| piece.len() as u64);
                Poll::Ready(Some(piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Pieces(_, left) => *left,
        })
    }
}

/// What a header of a request says, if it is there once and is text.
pub(super) fn says<'a, T>(request: &'a Request<T>, header: &str) -> Option<&'a str> {
    let mut values = request.headers().get_all(header).iter();
    let (first, second) = (values.next()?, values.next());
    first.to_str().ok().filter(|_| second.is_none())
}

/// What follows a word with which a header's value begins, in whatever case.
pub(super) fn behind<'a>(value: &'a str, word: &str) -> Option<&'a str> {
    let (begin, rest) = value.split_at_checked(word.len())?;
    begin.eq_ignore_ascii_case(word).then_some(rest)
}

/// Sets a header.
pub(super) fn put(answer: &mut Response<Body>, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
    answer.headers_mut().insert(name, HeaderValue::from_str(value).expect("it is ASCII"));
}

/// An answer to a method that there is not, with those that there are.
pub(super) fn no_method(allowed: &str) -> Response<Body> {
    let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, &format!("there is {allowed}"));
    put(&mut answer, "allow", allowed);
    answer
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::Whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// An answer that says what was wrong, for whoever wrote the client.
pub(super) fn refused(status: StatusCode, why: &str) -> Response<Body> {
    let mut answer = Response::new(Body::Whole(format!("{why}\n").into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        let (status, after) = match refusal {
            Refusal::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, None),
            Refusal::TooMany(after) => (StatusCode::TOO_MANY_REQUESTS, Some(after)),
            Refusal::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, None),
            Refusal::Unavailable(after) => (StatusCode::SERVICE_UNAVAILABLE, Some(after)),
        };
        let mut answer = refused(status, &refusal.to_string());
        if let Some(after) = after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// An answer to what may be done in a moment.
pub(super) fn later(why: &str) -> Box<Response<Body>> {
    let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}: try again in a moment"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(answer)
}

/// An answer to a link that is none.
pub(super) fn no_link(bad: BadLink) -> Response<Body> {
    let why = match bad {
        BadLink::Forged => "this is no link that the server gave",
        BadLink::Over => "the link is over: ask for a new one",
    };
    refused(StatusCode::FORBIDDEN, why)
}

impl From<StoreError> for Response<Body> {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gone => refused(StatusCode::NOT_FOUND, "the medium is there no more"),
            StoreError::Full => refused(StatusCode::INSUFFICIENT_STORAGE, "the server has no room for media"),
            StoreError::Away(after) => {
                let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, "media are out of reach now");
                let after_s = after.as_secs_f64().ceil() as u64;
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after_s.max(1)));
                answer
            }
            error => {
                // Where something lies is the operator's concern.
                tracing::error!(%error, "media can't be read or written");
                let mut answer =
                    refused(StatusCode::SERVICE_UNAVAILABLE, "media can't be read or written now");
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
                answer
            }
        }
    }
}
