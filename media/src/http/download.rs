//! Downloads: a medium, or a part of it, to whoever has a link to it.

use std::ops::Range;
use std::time::Duration;

use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::answer::{Body, behind, empty, no_link, no_method, put, refused, says};
use super::{Media, unix_s};
use crate::id::MediaId;
use crate::metadata::hexadecimal;
use crate::store::{About, StoreError};

/// What of a medium is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// There is nothing there.
    Nothing,
}

impl Media {
    pub(super) async fn download<T>(&self, request: &Request<T>, id: MediaId) -> Response<Body> {
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            return no_method("GET, HEAD");
        }
        let now_s = unix_s();
        let query = request.uri().query().unwrap_or_default();
        let end_s = match self.links.check(id, query, now_s) {
            Ok(end_s) => end_s,
            Err(bad) => return no_link(bad),
        };
        match self.store.link(id, request.method().clone(), Duration::from_secs(end_s - now_s)).await {
            Ok(None) => {}
            Ok(Some(url)) => return elsewhere(&url, end_s - now_s),
            Err(error) => return error.into(),
        }
        let about = match self.store.about(id).await {
            Ok(Some(about)) => about,
            Ok(None) => return StoreError::Gone.into(),
            Err(error) => return error.into(),
        };
        let etag = format!("\"{}\"", hexadecimal(&about.sha256));
        let mut answer = self.answer_of(request, id, &about, &etag, is_head).await;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
            describe(&mut answer, &about, &etag, end_s - now_s);
        }
        answer
    }

    async fn answer_of<T>(
        &self,
        request: &Request<T>,
        id: MediaId,
        about: &About,
        etag: &str,
        is_head: bool,
    ) -> Response<Body> {
        if says(request, "if-none-match").is_some_and(|tags| names(tags, etag)) {
            return empty(StatusCode::NOT_MODIFIED);
        }
        // A part of what has become another since is of no use; no medium does.
        let is_same = says(request, "if-range").is_none_or(|tag| tag == etag);
        let range = says(request, "range").filter(|_| is_same && !is_head);
        let wanted = range.map_or(Wanted::All, |range| wanted(range, about.bytes));
        let (status, bytes) = match wanted {
            Wanted::All => (StatusCode::OK, 0..about.bytes),
            Wanted::Part(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
            Wanted::Nothing => {
                let mut answer = refused(StatusCode::RANGE_NOT_SATISFIABLE, "the medium is shorter");
                put(&mut answer, CONTENT_RANGE.as_str(), &format!("bytes */{}", about.bytes));
                return answer;
            }
        };
        let mut answer = if is_head {
            let mut answer = empty(status);
            put(&mut answer, "content-length", &about.bytes.to_string());
            answer
        } else {
            let length = bytes.end - bytes.start;
            match self.store.read(id, bytes.clone()).await {
                Ok(pieces) => Response::new(Body::Pieces(pieces, length)),
                Err(error) => return error.into(),
            }
        };
        *answer.status_mut() = status;
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, about.bytes);
            put(&mut answer, CONTENT_RANGE.as_str(), &range);
        }
        answer
    }
}

/// For how long a cache may send others to a place: what a role has signed is good for less than it says.
const SENT_ON_S: u64 = 300;

/// A medium is to be had at another place, for so long. Whoever is sent there by a cache has half of that at least.
fn elsewhere(url: &str, left_s: u64) -> Response<Body> {
    let mut answer = empty(StatusCode::TEMPORARY_REDIRECT);
    put(&mut answer, LOCATION.as_str(), url);
    put(&mut answer, CACHE_CONTROL.as_str(), &format!("public, max-age={}", (left_s / 2).min(SENT_ON_S)));
    answer
}

/// What a cache, and a browser, are to know of a medium. It never becomes another one.
fn describe(answer: &mut Response<Body>, about: &About, etag: &str, left_s: u64) {
    put(answer, ETAG.as_str(), etag);
    put(answer, CACHE_CONTROL.as_str(), &format!("public, max-age={left_s}, immutable"));
    put(answer, ACCEPT_RANGES.as_str(), "bytes");
    if answer.status() != StatusCode::NOT_MODIFIED {
        put(answer, CONTENT_TYPE.as_str(), &about.of);
    }
    // What somebody has uploaded is never taken for a page of this server's, nor run.
    put(answer, X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff");
    put(answer, CONTENT_SECURITY_POLICY.as_str(), "default-src 'none'; sandbox");
    put(answer, "content-disposition", "attachment");
}

/// Whether an `If-None-Match` names a tag (RFC 9110, 13.1.2).
fn names(tags: &str, etag: &str) -> bool {
    let tags = tags.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
    tags.into_iter().any(|tag| tag == "*" || tag == etag)
}

/// What a `Range` asks for (RFC 9110, 14.2): of what can't be read, or asks for several parts, all.
fn wanted(range: &str, length: u64) -> Wanted {
    let Some(of) = behind(range.trim(), "bytes=") else { return Wanted::All };
    let Some((first, last)) = of.trim().split_once('-').filter(|_| !of.contains(',')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|_| !text.contains('+'));
    let bytes = match (first.trim().is_empty(), last.trim().is_empty()) {
        (false, true) => number(first).map(|first| first..length),
        (false, false) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..length.min(last.saturating_add(1))),
            _ => None,
        },
        // The last so many bytes.
        (true, false) => number(last)
            .map(|last| if last == 0 { length..length } else { length.saturating_sub(last)..length }),
        (true, true) => None,
    };
    match bytes {
        None => Wanted::All,
        Some(bytes) if bytes.start >= length => Wanted::Nothing,
        Some(bytes) => Wanted::Part(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_rfc_9110_says() {
        let check = |range: &str, expect: Wanted| assert_eq!(wanted(range, 100), expect, "{range}");
        check("bytes=0-0", Wanted::Part(0..1));
        check("Bytes=0-0", Wanted::Part(0..1));
        check("bytes=10-19", Wanted::Part(10..20));
        check("bytes=10-", Wanted::Part(10..100));
        check("bytes=10-1000", Wanted::Part(10..100));
        check("bytes=-10", Wanted::Part(90..100));
        check("bytes=-1000", Wanted::Part(0..100));
        check("bytes=99-18446744073709551615", Wanted::Part(99..100));
        for nothing in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            check(nothing, Wanted::Nothing);
        }
        for all in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=18446744073709551616-",
        ] {
            check(all, Wanted::All);
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }
}
