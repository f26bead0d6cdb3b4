//! Text that is made at compile time. Each function writes as much as fits into `out` and returns how long the whole is:
//! called once with no room for the length, and once with enough.

/// `bytes` as text, where they are UTF-8.
pub const fn text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

/// Joins the parts of a statement at compile time: `sql!["select ", Item::COLUMNS, " from items where id = $1"]`.
///
/// Each part is a `&'static str` constant. Values are never parts: they are the statement's parameters.
#[macro_export]
macro_rules! sql {
    ($($part:expr),+ $(,)?) => { $crate::const_text!($crate::resource::concat, &[$($part),+]) };
}

/// Runs a function of [`resource::text`](crate::resource::text) at compile time.
#[doc(hidden)]
#[macro_export]
macro_rules! const_text {
    ($write:path $(, $argument:expr)*) => {{
        const LENGTH: usize = $write(&mut [] $(, $argument)*);
        const BYTES: [u8; LENGTH] = {
            let mut bytes = [0; LENGTH];
            $write(&mut bytes $(, $argument)*);
            bytes
        };
        const TEXT: &str = $crate::resource::text(&BYTES);
        TEXT
    }};
}

const fn put_byte(out: &mut [u8], at: usize, byte: u8) -> usize {
    if at < out.len() {
        out[at] = byte;
    }
    at + 1
}

const fn put(out: &mut [u8], mut at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        at = put_byte(out, at, bytes[index]);
        index += 1;
    }
    at
}

/// `$7`, for numbers below 100.
const fn put_place(out: &mut [u8], at: usize, number: usize) -> usize {
    let mut at = put(out, at, "$");
    if number >= 10 {
        at = put_byte(out, at, b'0' + (number / 10 % 10) as u8);
    }
    put_byte(out, at, b'0' + (number % 10) as u8)
}

/// One part after the other.
pub const fn concat(out: &mut [u8], parts: &[&str]) -> usize {
    let (mut at, mut index) = (0, 0);
    while index < parts.len() {
        at = put(out, at, parts[index]);
        index += 1;
    }
    at
}

/// `id, sku, name`.
pub const fn columns(out: &mut [u8], names: &[&str]) -> usize {
    let (mut at, mut index) = (0, 0);
    while index < names.len() {
        at = put(out, at, if index > 0 { ", " } else { "" });
        at = put(out, at, names[index]);
        index += 1;
    }
    at
}

/// `$2, $3, $4`, from `first` on.
pub const fn places(out: &mut [u8], count: usize, first: usize) -> usize {
    let (mut at, mut index) = (0, 0);
    while index < count {
        at = put(out, at, if index > 0 { ", " } else { "" });
        at = put_place(out, at, first + index);
        index += 1;
    }
    at
}

/// `sku = $3, name = $4`, from `first` on; of a patch `sku = case when $3 then $4 else sku end, …`.
pub const fn assignments(out: &mut [u8], names: &[&str], first: usize, patch: bool) -> usize {
    let (mut at, mut index) = (0, 0);
    while index < names.len() {
        at = put(out, at, if index > 0 { ", " } else { "" });
        at = put(out, at, names[index]);
        if patch {
            at = put(out, at, " = case when ");
            at = put_place(out, at, first + 2 * index);
            at = put(out, at, "::boolean then ");
            at = put_place(out, at, first + 2 * index + 1);
            at = put(out, at, " else ");
            at = put(out, at, names[index]);
            at = put(out, at, " end");
        } else {
            at = put(out, at, " = ");
            at = put_place(out, at, first + index);
        }
        index += 1;
    }
    at
}

/// `created_at` as `createdAt`, as serde's `rename_all = "camelCase"` has it.
pub const fn camel_case(out: &mut [u8], name: &str) -> usize {
    let bytes = name.as_bytes();
    let (mut at, mut index, mut upper) = (0, 0, false);
    while index < bytes.len() {
        let byte = bytes[index];
        if byte != b'_' {
            at = put_byte(out, at, if upper { byte.to_ascii_uppercase() } else { byte });
        }
        upper = byte == b'_';
        index += 1;
    }
    at
}

/// The statement of a page: parameters `$1` to `$filters` are the filter's, then come the limit and, `after` a place, the
/// place's value as text and its id.
pub const fn page_statement(
    out: &mut [u8],
    [columns, from, condition, key, key_type]: [&str; 5],
    filters: usize,
    ascending: bool,
    after: bool,
) -> usize {
    let direction = if ascending { " asc" } else { " desc" };
    let mut at = concat(out, &["select ", columns, " from ", from, " where (", condition, ")"]);
    if after {
        at = put(out, at, " and (");
        at = put(out, at, key);
        at = put(out, at, if ascending { ", id) > (" } else { ", id) < (" });
        at = put_place(out, at, filters + 2);
        at = put(out, at, "::text::");
        at = put(out, at, key_type);
        at = put(out, at, ", ");
        at = put_place(out, at, filters + 3);
        at = put(out, at, ")");
    }
    at = put(out, at, " order by ");
    at = put(out, at, key);
    at = put(out, at, direction);
    at = put(out, at, ", id");
    at = put(out, at, direction);
    at = put(out, at, " limit ");
    put_place(out, at, filters + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_are_made_at_compile_time() {
        use crate::resource as r;

        const NAMES: &[&str] = &["sku", "net_price"];
        assert_eq!(
            sql!["select ", const_text!(r::columns, NAMES), " from x"],
            "select sku, net_price from x"
        );
        assert_eq!(const_text!(r::places, 3, 9), "$9, $10, $11");
        assert_eq!(const_text!(r::assignments, NAMES, 3, false), "sku = $3, net_price = $4");
        assert_eq!(
            const_text!(r::assignments, NAMES, 9, true),
            "sku = case when $9::boolean then $10 else sku end, \
             net_price = case when $11::boolean then $12 else net_price end"
        );
        assert_eq!(const_text!(r::camel_case, "a_net_price"), "aNetPrice");
        let page = const_text!(r::page_statement, ["id, at", "x", "$1 = y", "at", "date"], 1, false, true);
        assert_eq!(
            page,
            "select id, at from x where ($1 = y) and (at, id) < ($3::text::date, $4) order by at desc, id desc limit $2"
        );
    }
}
