//! Text that is made at compile time. Each function writes as much as fits into `out` and returns how long the whole is:
//! called once with no room for the length, and once with enough.

use super::SortColumn;

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
    concat_at(out, 0, parts)
}

const fn concat_at(out: &mut [u8], mut at: usize, parts: &[&str]) -> usize {
    let mut index = 0;
    while index < parts.len() {
        at = put(out, at, parts[index]);
        index += 1;
    }
    at
}

/// A field, and what follows its name in the names of its columns.
pub type Field<'a> = (&'a str, &'a [&'a str]);

/// How many columns the fields have.
pub const fn count(fields: &[Field<'_>]) -> usize {
    let (mut count, mut index) = (0, 0);
    while index < fields.len() {
        count += fields[index].1.len();
        index += 1;
    }
    count
}

/// `id, sku, price_minor, price_currency`.
pub const fn columns(out: &mut [u8], fields: &[Field<'_>]) -> usize {
    let (mut at, mut index) = (0, 0);
    while index < fields.len() {
        let (name, suffixes) = fields[index];
        let mut part = 0;
        while part < suffixes.len() {
            at = put(out, at, if at > 0 { ", " } else { "" });
            at = put(out, at, name);
            at = put(out, at, suffixes[part]);
            part += 1;
        }
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

/// `update set sku = excluded.sku, name = excluded.name where (i.sku, i.name) is distinct from (excluded.sku, excluded.name)`.
pub const fn upsert(out: &mut [u8], fields: &[Field<'_>]) -> usize {
    let at = put(out, 0, "update set ");
    let at = put_each(out, at, fields, ["", " = excluded."]);
    let at = put(out, at, " where (");
    let at = put_each(out, at, fields, ["i.", ""]);
    let at = put(out, at, ") is distinct from (");
    let at = put_each(out, at, fields, ["excluded.", ""]);
    put(out, at, ")")
}

/// Each column behind `before`, and once more behind `again` where that is not empty.
const fn put_each(out: &mut [u8], mut at: usize, fields: &[Field<'_>], [before, again]: [&str; 2]) -> usize {
    let (mut first, mut index) = (true, 0);
    while index < fields.len() {
        let (name, suffixes) = fields[index];
        let mut part = 0;
        while part < suffixes.len() {
            at = put(out, at, if first { "" } else { ", " });
            at = put(out, at, before);
            at = put(out, at, name);
            at = put(out, at, suffixes[part]);
            if !again.is_empty() {
                at = put(out, at, again);
                at = put(out, at, name);
                at = put(out, at, suffixes[part]);
            }
            first = false;
            part += 1;
        }
        index += 1;
    }
    at
}

/// `sku = $3, name = $4`, from `first` on; of a patch `sku = case when $3 then $4 else sku end, …`.
pub const fn assignments(out: &mut [u8], fields: &[Field<'_>], first: usize, patch: bool) -> usize {
    let (mut at, mut index, mut place) = (0, 0, first);
    while index < fields.len() {
        let (name, suffixes) = fields[index];
        let mut part = 0;
        while part < suffixes.len() {
            at = put(out, at, if at > 0 { ", " } else { "" });
            at = concat_at(out, at, &[name, suffixes[part], " = "]);
            if patch {
                at = put(out, at, "case when ");
                at = put_place(out, at, place);
                at = put(out, at, "::boolean then ");
                at = put_place(out, at, place + 1);
                at = concat_at(out, at, &[" else ", name, suffixes[part], " end"]);
            } else {
                at = put_place(out, at, place);
            }
            place += if patch { 2 } else { 1 };
            part += 1;
        }
        index += 1;
    }
    at
}

/// The condition of a statement that takes a step of a document: [`THIS`](super::THIS), a state that it can be taken in,
/// and that `$3` has taken none of the steps that exclude it.
pub const fn condition_of_step(out: &mut [u8], from: &[&str], unlike: &[&str]) -> usize {
    let mut at = concat(out, &[super::THIS, " and status in ("]);
    let mut index = 0;
    while index < from.len() {
        at = put(out, at, if index > 0 { "', '" } else { "'" });
        at = put(out, at, from[index]);
        index += 1;
    }
    at = put(out, at, "')");
    index = 0;
    while index < unlike.len() {
        at = put(out, at, " and ");
        at = put(out, at, unlike[index]);
        at = put(out, at, " is distinct from $3");
        index += 1;
    }
    at
}

/// The statement that tells how a document stands which the condition of a step did not find.
pub const fn look_at_step(out: &mut [u8], table: &str, unlike: &[&str]) -> usize {
    let head = "select status, ($2::bigint[] is null or version = any ($2)) as is_current, \
                coalesce($3::uuid = any (array[";
    let mut at = put(out, 0, head);
    let mut index = 0;
    while index < unlike.len() {
        at = put(out, at, if index > 0 { ", " } else { "" });
        at = put(out, at, unlike[index]);
        index += 1;
    }
    at = put(out, at, "]::uuid[]), false) as is_theirs from ");
    at = put(out, at, table);
    put(out, at, " where id = $1")
}

/// The condition of a list whose filter names columns: each is the filter's value, where that is given.
pub const fn equalities(out: &mut [u8], fields: &[Field<'_>]) -> usize {
    let (mut at, mut index, mut place) = (0, 0, 1);
    while index < fields.len() {
        let (name, suffixes) = fields[index];
        let mut part = 0;
        while part < suffixes.len() {
            at = concat_at(out, at, &[if at > 0 { " and (" } else { "(" }, name, suffixes[part], " = "]);
            at = put_place(out, at, place);
            at = put(out, at, " or ");
            at = put_place(out, at, place);
            at = put(out, at, " is null)");
            place += 1;
            part += 1;
        }
        index += 1;
    }
    if at == 0 { put(out, 0, "true") } else { at }
}

/// Whether a condition names one of the fields that are encrypted, as a whole word.
pub const fn names_sealed(fields: &[(&str, bool)], condition: &str) -> bool {
    let mut index = 0;
    while index < fields.len() {
        let (name, sealed) = fields[index];
        if sealed && names_word(condition.as_bytes(), name.as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

const fn names_word(text: &[u8], word: &[u8]) -> bool {
    let mut at = 0;
    while at + word.len() <= text.len() {
        let mut same = 0;
        while same < word.len() && text[at + same] == word[same] {
            same += 1;
        }
        let begins = at == 0 || !is_of_word(text[at - 1]);
        let end = at + word.len();
        if same == word.len() && begins && (end == text.len() || !is_of_word(text[end])) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_of_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
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

/// `total_currency desc, total_minor desc`, or without a direction.
const fn keys(out: &mut [u8], mut at: usize, key: &str, columns: &[SortColumn], direction: &str) -> usize {
    let mut index = 0;
    while index < columns.len() {
        at = concat_at(out, at, &[if index > 0 { ", " } else { "" }, key, columns[index].suffix, direction]);
        index += 1;
    }
    at
}

/// The values of a place: what `columns` read of its text.
const fn place_values(out: &mut [u8], mut at: usize, columns: &[SortColumn], place: usize) -> usize {
    let mut index = 0;
    while index < columns.len() {
        let SortColumn { part: [before, after], sql_type, .. } = &columns[index];
        at = concat_at(out, at, &[if index > 0 { ", " } else { "" }, before]);
        at = put_place(out, at, place);
        at = concat_at(out, at, &["::text", after, "::", sql_type]);
        index += 1;
    }
    at
}

/// The statement of a page: parameters `$1` to `$filters` are the filter's, then come the limit and, `after` a place, the
/// place's value as text and its id.
pub const fn page_statement(
    out: &mut [u8],
    [columns, from, condition, key]: [&str; 4],
    key_columns: &[SortColumn],
    filters: usize,
    ascending: bool,
    after: bool,
) -> usize {
    let direction = if ascending { " asc" } else { " desc" };
    let mut at = concat(out, &["select ", columns, " from ", from, " where (", condition, ")"]);
    if after {
        at = put(out, at, " and (");
        at = keys(out, at, key, key_columns, "");
        at = put(out, at, if ascending { ", id) > (" } else { ", id) < (" });
        at = place_values(out, at, key_columns, filters + 2);
        at = put(out, at, ", ");
        at = put_place(out, at, filters + 3);
        at = put(out, at, ")");
    }
    at = put(out, at, " order by ");
    at = keys(out, at, key, key_columns, direction);
    at = concat_at(out, at, &[", id", direction, " limit "]);
    put_place(out, at, filters + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_are_made_at_compile_time() {
        use crate::resource as r;

        const FIELDS: &[r::Field<'_>] = &[("sku", &[""]), ("net", &["_minor", "_currency"])];
        assert_eq!(
            sql!["select ", const_text!(r::columns, FIELDS), " from x"],
            "select sku, net_minor, net_currency from x"
        );
        assert_eq!(r::count(FIELDS), 3);
        assert_eq!(const_text!(r::places, 3, 9), "$9, $10, $11");
        assert_eq!(
            const_text!(r::assignments, FIELDS, 3, false),
            "sku = $3, net_minor = $4, net_currency = $5"
        );
        assert_eq!(
            const_text!(r::assignments, FIELDS, 7, true),
            "sku = case when $7::boolean then $8 else sku end, \
             net_minor = case when $9::boolean then $10 else net_minor end, \
             net_currency = case when $11::boolean then $12 else net_currency end"
        );
        assert_eq!(
            const_text!(r::upsert, FIELDS),
            "update set sku = excluded.sku, net_minor = excluded.net_minor, net_currency = excluded.net_currency \
             where (i.sku, i.net_minor, i.net_currency) is distinct from (excluded.sku, excluded.net_minor, excluded.net_currency)"
        );
        assert_eq!(const_text!(r::camel_case, "a_net_price"), "aNetPrice");
        const AT: &[r::SortColumn] = &[r::SortColumn::only("date")];
        assert_eq!(
            const_text!(r::equalities, FIELDS),
            "(sku = $1 or $1 is null) and (net_minor = $2 or $2 is null) and (net_currency = $3 or $3 is null)"
        );
        assert_eq!(const_text!(r::equalities, &[]), "true");
        assert_eq!(
            const_text!(r::condition_of_step, &["a", "b"], &["x_by", "y_by"]),
            "id = $1 and ($2::bigint[] is null or version = any ($2)) and status in ('a', 'b') \
             and x_by is distinct from $3 and y_by is distinct from $3"
        );
        let page = const_text!(r::page_statement, ["id, at", "x", "$1 = y", "at"], AT, 1, false, true);
        assert_eq!(
            page,
            "select id, at from x where ($1 = y) and (at, id) < ($3::text::date, $4) order by at desc, id desc limit $2"
        );
        const NET: &[r::SortColumn] = <crate::shared::Money as r::SortValue>::COLUMNS;
        let page = const_text!(r::page_statement, ["id", "x", "true", "net"], NET, 0, true, true);
        assert_eq!(
            page,
            "select id from x where (true) and (net_currency, net_minor, id) > \
             (split_part($2::text, ' ', 1)::text, split_part($2::text, ' ', 2)::bigint, $3) \
             order by net_currency asc, net_minor asc, id asc limit $1"
        );
    }
}
