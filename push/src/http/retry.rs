//! The header `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;

/// How long an answer asks to wait: it says seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now_s: u64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_secs(now_s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect_s: Option<u64>) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
        assert_eq!(retry_after(&headers, 784_111_777), expect_s.map(Duration::from_secs), "{text:?}");
    }

    #[test]
    fn it_says_seconds_or_a_date() {
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:49:30 GMT", Some(0));
        check("-1", None);
        check("soon", None);
        check("99999999999999999999999", None);
    }
}
