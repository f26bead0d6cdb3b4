//! Headers whose values are made anew for each answer.

use std::fmt;
use std::io::{Cursor, Write as _};

use http::HeaderValue;

/// The value that `text` gives, made where it takes one allocation: each answer of a limited route has two of them. `None` for more than
/// 128 bytes.
pub(super) fn header_value(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut room = Cursor::new([0; 128]);
    room.write_fmt(text).ok()?;
    let written = usize::try_from(room.position()).ok()?;
    HeaderValue::from_bytes(room.get_ref().get(..written)?).ok()
}
