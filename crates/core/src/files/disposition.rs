//! `Content-Disposition` (RFC 6266, RFC 8187): what a file that is sent is called, both ways.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands in `filename*` as it is: `attr-char` of RFC 8187.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The value of a download's header. It is never shown in the page that asks for it.
pub(crate) fn attachment(name: &str) -> String {
    let ascii: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(name, PLAIN))
}

/// The name in the value of an upload's header, `filename*` before `filename`; the outer `None` where the value is malformed.
pub(crate) fn name_of(value: &str) -> Option<Option<String>> {
    let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
    if kind.trim().is_empty() || !kind.trim().bytes().all(is_token) {
        return None;
    }
    let (mut plain, mut extended) = (None, None);
    while !rest.trim().is_empty() {
        let (name, value, after) = parameter(rest)?;
        match name.to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            "filename*" => extended = Some(decoded(&value)?),
            _ => {}
        }
        rest = after;
    }
    Some(extended.or(plain))
}

/// A parameter, and what follows it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim_start());
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let (value, after) = value.split_once(';').unwrap_or((value, ""));
        let value = value.trim();
        return (!value.is_empty()).then(|| (name, value.to_owned(), after));
    };
    let (mut content, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => content.push(characters.next()?.1),
            '"' => {
                let after = quoted.get(at + 1..)?.trim_start();
                let after = if after.is_empty() { after } else { after.strip_prefix(';')? };
                return Some((name, content, after));
            }
            other => content.push(other),
        }
    }
    None
}

/// `UTF-8''Z%C3%BCrich.pdf`
fn decoded(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, text) = rest.split_once('\'')?;
    let is_utf8 = charset.eq_ignore_ascii_case("utf-8");
    is_utf8.then(|| percent_decode_str(text).decode_utf8().ok().map(String::from))?
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_clients_write_them() {
        for (value, expected) in [
            ("attachment", Some(None)),
            ("attachment; filename=a.pdf", Some(Some("a.pdf"))),
            ("ATTACHMENT; FileName=\"a b;c.pdf\"", Some(Some("a b;c.pdf"))),
            ("attachment; filename=\"a\\\"b.pdf\" ; x=1", Some(Some("a\"b.pdf"))),
            ("inline; filename=\"x.pdf\"; filename*=UTF-8''Z%C3%BCrich.pdf", Some(Some("Zürich.pdf"))),
            ("attachment; filename*=utf-8'de'%e2%82%ac.pdf; filename=e.pdf", Some(Some("€.pdf"))),
            ("", None),
            ("attachment; filename", None),
            ("attachment; filename=\"a", None),
            ("attachment; filename=\"a\"b", None),
            ("attachment; filename*=latin1''%fc", None),
            ("attachment; filename*=UTF-8''%ff", None),
            ("attachment; =a", None),
        ] {
            assert_eq!(name_of(value).as_ref().map(Option::as_deref), expected, "{value}");
        }
    }

    #[test]
    fn a_download_is_named_in_two_ways_and_never_shown() {
        assert_eq!(attachment("a b.pdf"), "attachment; filename=\"a b.pdf\"; filename*=UTF-8''a%20b.pdf");
        assert_eq!(
            attachment("Zürich \"5\".pdf"),
            "attachment; filename=\"Z_rich _5_.pdf\"; filename*=UTF-8''Z%C3%BCrich%20%225%22.pdf"
        );
    }
}
