//! What files, shells and copying put around a value: the same for each setting, whatever its kind and its source.

/// Characters that nobody sees: a byte order mark, and what comes along from web pages.
const UNSEEN: [char; 5] = ['\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}'];
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];

/// `text` without white space, line breaks and unseen characters at its ends.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || UNSEEN.contains(&character))
}

/// Why a value, trimmed already, is hardly what was meant, and what to do.
pub(super) fn fault(text: &str) -> Option<(&'static str, &'static str)> {
    let stands_in = |(open, close): &(char, char)| {
        text.chars().count() > 1 && text.starts_with(*open) && text.ends_with(*close)
    };
    if QUOTES.iter().any(stands_in) {
        return Some((
            "stands in quotes, which are then part of the value",
            "Remove them: `docker run --env-file` and Kubernetes keep them, unlike a shell or a .env file",
        ));
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Some(("holds bytes that are not UTF-8", "Write it in UTF-8"));
    }
    let has_control = text.chars().any(char::is_control);
    has_control.then_some(("holds a line break or another control character", "Write it on one line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_a_value_is_dropped_and_what_is_in_it_stays() {
        for text in ["x y", " x y ", "\u{feff}x y\r\n", "\n\n\tx y\u{a0}", "x y\u{200b}\n\u{2060}"] {
            assert_eq!(trimmed(text), "x y", "{text:?}");
        }
        for text in ["\"x\"", "'x'", "`x`", "“x”", "\"\"", "''", "x\ny", "x\0", "x\u{fffd}"] {
            assert!(fault(text).is_some(), "{text:?}");
        }
        for text in ["x", "x'y'", "\"", "'x\"", "it's", "x y", "ä", "\"x\"y"] {
            assert_eq!(fault(text), None, "{text:?}");
        }
    }
}
