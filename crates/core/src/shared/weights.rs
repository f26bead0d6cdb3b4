//! Lists of choices with weights: `Accept`, `Accept-Encoding` and their kin (RFC 9110, 12.4.2). The only place that reads
//! them.

use http::{HeaderMap, HeaderName};

/// The weight of what is preferred to nothing else, in thousandths.
const MOST: u16 = 1000;

/// Each choice with its weight in thousandths, 0 for what is refused. Elements that are malformed are left out:
/// negotiation is a courtesy, and no reason to refuse a request.
pub(crate) fn choices<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'h str, u16)> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(choice)
}

fn choice(element: &str) -> Option<(&str, u16)> {
    // Every request comes this way, and in names as short as these a loop finds quicker than a search for a character.
    let end = element.bytes().position(|byte| byte == b';').unwrap_or(element.len());
    let (choice, parameters) = element.split_at(end);
    let choice = choice.trim_ascii();
    if choice.is_empty() {
        return None;
    }
    let quality = if parameters.is_empty() { None } else { parameters.split(';').find_map(quality) };
    match quality {
        None => Some((choice, MOST)),
        Some(text) => Some((choice, weight(text)?)),
    }
}

fn quality(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim_ascii().eq_ignore_ascii_case("q").then(|| value.trim_ascii().trim_matches('"'))
}

/// `0.5` as 500. Read as it is meant: `.2` is 0.2, as old Java clients write it, and what is beyond three digits is cut.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.is_empty() || text == "." || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, thousandths) {
        ("" | "0", thousandths) => Some(thousandths),
        ("1", 0) => Some(MOST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn weights_are_read_over_all_lines_and_what_is_malformed_is_left_out() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, "text/html;level=1;q=0.5, */*; q=0".parse().unwrap());
        headers.append(
            ACCEPT,
            "a, b;q=1.000,c;Q=0.05,,d;q=,e;q=2,f;q=0.1239,g;q=1.1,h;q=.5,i; q = \"0.7\",j;q=., ;q=1"
                .parse()
                .unwrap(),
        );
        let read: Vec<_> = choices(&headers, &ACCEPT).collect();
        assert_eq!(
            read,
            [
                ("text/html", 500),
                ("*/*", 0),
                ("a", 1000),
                ("b", 1000),
                ("c", 50),
                ("f", 123),
                ("h", 500),
                ("i", 700)
            ]
        );
    }
}
