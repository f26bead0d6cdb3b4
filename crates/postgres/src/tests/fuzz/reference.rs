//! The same streams read another way: plainly, whole, and strictly.

use crate::{Row, WireError};

/// A message: its kind, what is in it, and where it ends.
type Read<'a> = (u8, &'a [u8], usize);

/// The whole messages of a stream, up to the first that cannot be one.
pub(super) fn messages(stream: &[u8]) -> Vec<Read<'_>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(header) = stream.get(at..at + 5) {
        let length = i32::from_be_bytes(header[1..].try_into().unwrap());
        let Some(end) =
            usize::try_from(length).ok().filter(|length| *length >= 4).map(|length| at + 1 + length)
        else {
            break;
        };
        let Some(body) = stream.get(at + 5..end) else { break };
        found.push((header[0], body, end));
        at = end;
    }
    found
}

/// What an exchange is answered with.
pub(super) struct Exchange<'a> {
    /// The rows of the step that is wanted.
    pub(super) rows: Vec<&'a [u8]>,
    pub(super) steps: usize,
    pub(super) refused: bool,
    /// It holds what has no place in it.
    pub(super) foreign: bool,
    /// What follows its end.
    pub(super) rest: usize,
}

/// Reads an answer up to its end; `None` when it has none.
pub(super) fn exchange(stream: &[u8], wanted: usize) -> Option<Exchange<'_>> {
    let mut read = Exchange { rows: Vec::new(), steps: 0, refused: false, foreign: false, rest: 0 };
    for (tag, body, end) in messages(stream) {
        match tag {
            b'D' if read.steps == wanted => read.rows.push(body),
            b'C' | b'I' => read.steps += 1,
            b'E' => read.refused = true,
            b'Z' => return Some(Exchange { rest: stream.len() - end, ..read }),
            tag => read.foreign |= !b"12nstTDNSA".contains(&tag),
        }
    }
    None
}

/// The rows that a portal may give, in their order.
pub(super) fn portal(stream: &[u8], wanted: usize) -> Vec<&[u8]> {
    let (mut rows, mut steps) = (Vec::new(), 0);
    for (tag, body, _) in messages(stream) {
        match tag {
            b'D' if steps == wanted => rows.push(body),
            b'C' | b'I' => steps += 1,
            _ => {}
        }
    }
    rows
}

/// The values of a row with nothing behind them.
fn cells(body: &[u8], columns: usize) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*count)) != columns {
        return None;
    }
    let mut cells = Vec::new();
    for _ in 0..columns {
        let (length, after) = rest.split_first_chunk::<4>()?;
        match i32::from_be_bytes(*length) {
            -1 => {
                cells.push(None);
                rest = after;
            }
            length => {
                let (cell, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                cells.push(Some(cell));
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(cells)
}

/// A row that is read is the one that was sent; one that breaks its own frame is refused.
pub(super) fn compare(row: Result<Row<'_>, WireError>, body: &[u8], columns: usize) {
    let read = row.and_then(|row| (0..columns).map(|index| row.value(index)).collect::<Result<Vec<_>, _>>());
    match (read, cells(body, columns)) {
        (Ok(read), Some(cells)) => assert_eq!(read, cells),
        (Err(WireError::Protocol(_)), None) => {}
        (Ok(_), None) if columns == 0 => {} // nothing of it is read
        (Ok(read), None) => panic!("a row that breaks its frame was taken: {body:?} as {read:?}"),
        (Err(error), Some(_)) => panic!("a row was refused that is one: {body:?}: {error}"),
        (Err(error), None) => panic!("it is the server's fault: {error}"),
    }
}
