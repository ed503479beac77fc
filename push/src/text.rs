//! Previews that are shortened until a payload fits.

use crate::notice::Preview;

/// Where something is missing.
const ELLIPSIS: &str = "…";

/// The payload that `build` makes with as much of the preview as `bytes_max` has room for: first the body is shortened, then the title;
/// where nothing of it has room, there is none.
///
/// `build` writes each of its texts once, as JSON does.
pub(crate) fn fit(
    preview: Option<&Preview>,
    bytes_max: usize,
    build: impl Fn(Option<&Preview>) -> Vec<u8>,
) -> Vec<u8> {
    let whole = build(preview);
    let Some(preview) = preview.filter(|_| whole.len() > bytes_max) else { return whole };
    let over = whole.len() - bytes_max;
    let body_bytes = escaped_bytes(&preview.body);
    let body = shorten(&preview.body, body_bytes.saturating_sub(over));
    let over_title = over.saturating_sub(body_bytes - escaped_bytes(&body));
    let title = shorten(&preview.title, escaped_bytes(&preview.title).saturating_sub(over_title));
    let shortened = build(Some(&Preview { title, body }));
    if shortened.len() <= bytes_max { shortened } else { build(None) }
}

/// A text that takes at most so many bytes in JSON: whole, or cut between two characters with an ellipsis behind, or empty.
fn shorten(text: &str, bytes_max: usize) -> String {
    if escaped_bytes(text) <= bytes_max {
        return text.to_owned();
    }
    let Some(mut left) = bytes_max.checked_sub(ELLIPSIS.len()) else { return String::new() };
    let fits = |char: &char| {
        let left_then = left.checked_sub(escaped_char_bytes(*char));
        left = left_then.unwrap_or(left);
        left_then.is_some()
    };
    let kept: String = text.chars().take_while(fits).collect();
    if kept.is_empty() { kept } else { kept + ELLIPSIS }
}

fn escaped_bytes(text: &str) -> usize {
    text.chars().map(escaped_char_bytes).sum()
}

/// Bytes of a character within a string of JSON, as `serde_json` writes it.
fn escaped_char_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..='\u{1f}' => 6,
        _ => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn built(preview: Option<&Preview>) -> Vec<u8> {
        let (title, body) = preview.map_or(("", ""), |preview| (&preview.title, &preview.body));
        json!({ "title": title, "body": body }).to_string().into_bytes()
    }

    fn check(title: &str, body: &str, bytes_max: usize, expect: (&str, &str)) {
        let preview = Preview { title: title.to_owned(), body: body.to_owned() };
        let got: Value = serde_json::from_slice(&fit(Some(&preview), bytes_max, built)).expect("it is JSON");
        assert_eq!((got["title"].as_str(), got["body"].as_str()), (Some(expect.0), Some(expect.1)));
    }

    #[test]
    fn the_body_goes_first_then_the_title() {
        let empty = built(None).len();
        check("abc", "defghij", empty + 10, ("abc", "defghij"));
        check("abc", "defghij", empty + 9, ("abc", "def…"));
        check("abc", "defghij", empty + 7, ("abc", "d…"));
        check("abc", "defghij", empty + 6, ("abc", ""));
        check("abcd", "defghij", empty + 4, ("abcd", ""));
        check("abcdef", "g", empty + 5, ("ab…", ""));
        check("abc", "defghij", empty + 2, ("", ""));
        check("", "ääää", empty + 7, ("", "ää…"));
        check("", "\"\"\"\"", empty + 7, ("", "\"\"…"));
    }

    proptest! {
        #[test]
        fn what_is_shortened_fits_and_is_a_beginning(title in ".{0,40}", body in "\\PC{0,80}|[\"\\\\\n\u{1}ä]{0,80}", room in 0_usize..120) {
            let preview = Preview { title: title.clone(), body: body.clone() };
            let bytes_max = built(None).len() + room;
            let fitted = fit(Some(&preview), bytes_max, built);
            prop_assert!(fitted.len() <= bytes_max);
            let got: Value = serde_json::from_slice(&fitted).expect("it is JSON");
            for (short, whole) in [(&got["title"], &title), (&got["body"], &body)] {
                let short = short.as_str().expect("a text");
                let begin = short.strip_suffix('…').unwrap_or(short);
                prop_assert!(whole.starts_with(begin));
            }
            if built(Some(&preview)).len() <= bytes_max {
                prop_assert_eq!(fitted, built(Some(&preview)));
            }
        }
    }
}
