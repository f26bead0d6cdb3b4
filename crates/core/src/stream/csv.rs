use std::fmt::{Display, Write as _};

use bytes::{BufMut as _, BytesMut};
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::shared::{Currency, Day, Id, Int, Money, Version};

/// What a spreadsheet takes for the beginning of a formula, full-width forms included.
pub(crate) const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];
/// What is only told from the line's own characters within quotes; `;` separates in half of Europe.
const QUOTED: [char; 5] = ['"', ',', ';', '\n', '\r'];

/// A line of CSV that is being written (RFC 4180).
pub struct CsvLine<'a> {
    out: &'a mut BytesMut,
    begun: bool,
    /// The places that are left out, and how many there were so far.
    without: &'a [usize],
    place: usize,
}

impl<'a> CsvLine<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        Self::leaving_out(&[], out)
    }

    /// A line in which some places are not there.
    pub(super) fn leaving_out(without: &'a [usize], out: &'a mut BytesMut) -> Self {
        Self { out, begun: false, without, place: 0 }
    }

    /// A text that somebody has typed. One that a spreadsheet would run gets a `'` before it (OWASP, CSV injection).
    pub fn text(&mut self, text: &str) -> &mut Self {
        if self.is_left_out() {
            return self;
        }
        self.separate();
        let formula = text.starts_with(FORMULA);
        if !formula && !text.contains(QUOTED) {
            self.out.put_slice(text.as_bytes());
            return self;
        }
        self.out.put_slice(if formula { b"\"'" } else { b"\"" });
        for (number, part) in text.split('"').enumerate() {
            if number > 0 {
                self.out.put_slice(b"\"\"");
            }
            self.out.put_slice(part.as_bytes());
        }
        self.out.put_u8(b'"');
        self
    }

    /// A number, an id or a time: it holds nothing that would need quotes.
    pub fn value(&mut self, value: impl Display) -> &mut Self {
        if self.is_left_out() {
            return self;
        }
        self.separate();
        let _ = write!(self.out, "{value}");
        self
    }

    pub(super) fn end(self) {
        self.out.put_slice(b"\r\n");
    }

    /// Whether the next place is.
    fn is_left_out(&mut self) -> bool {
        let place = self.place;
        self.place += 1;
        self.without.contains(&place)
    }

    fn separate(&mut self) {
        if self.begun {
            self.out.put_u8(b',');
        }
        self.begun = true;
    }
}

/// A value that can stand in a line of CSV, in one place or several. Of an `Option`, `None` is the empty text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be exported as CSV",
    note = "implement `erp_core::stream::Cell`: `line.text(…)` for what somebody has typed, `line.value(…)` for the rest; \
            instead of a float write `Money` or `Int`, which are exact"
)]
pub trait Cell {
    /// What follows the field's name in the header line, for each of its places.
    const NAMES: &'static [&'static str] = &[""];

    /// Writes it, to each of its places.
    fn write(&self, line: &mut CsvLine<'_>);

    /// Writes what the header line says of a field.
    fn write_names(field: &str, line: &mut CsvLine<'_>) {
        for name in Self::NAMES {
            line.value(format_args!("{field}{name}"));
        }
    }
}

impl Cell for String {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(self);
    }
}

impl<T: Cell> Cell for Option<T> {
    const NAMES: &'static [&'static str] = T::NAMES;

    fn write(&self, line: &mut CsvLine<'_>) {
        match self {
            Some(value) => value.write(line),
            None => T::NAMES.iter().for_each(|_| _ = line.text("")),
        }
    }
}

macro_rules! values {
    ($($type:ty),+) => {
        $(impl Cell for $type {
            fn write(&self, line: &mut CsvLine<'_>) {
                line.value(self);
            }
        })+
    };
}
values!(bool, i16, i32, i64, Version, Timestamp, Date, Day, Uuid, Currency);

/// `credit.amount` and `credit.currency`, as the members of its JSON.
impl<const LEAST: i64> Cell for Money<LEAST> {
    const NAMES: &'static [&'static str] = &[".amount", ".currency"];

    fn write(&self, line: &mut CsvLine<'_>) {
        line.value(self.amount()).value(self.currency());
    }
}

impl<const MIN: i64, const MAX: i64> Cell for Int<MIN, MAX> {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.value(self);
    }
}

impl<K> Cell for Id<K> {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.value(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_05_texts_are_quoted_and_formulas_are_defused() {
        for (text, written) in [
            ("bolt", "bolt"),
            ("", ""),
            ("Größe M8 ∅", "Größe M8 ∅"),
            ("a, b", "\"a, b\""),
            ("a;b", "\"a;b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("\"", "\"\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+49 30", "\"'+49 30\""),
            ("-5 °C", "\"'-5 °C\""),
            ("@sum", "\"'@sum\""),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("＝1", "\"'＝1\""),
            ("5-6=x", "5-6=x"),
        ] {
            let mut out = BytesMut::new();
            let mut line = CsvLine::new(&mut out);
            line.text(text).value(-7);
            line.end();
            assert_eq!(out, format!("{written},-7\r\n"), "{text}");
        }
    }
}
