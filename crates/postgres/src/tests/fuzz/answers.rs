//! What a server says, and how it is spoilt.

use super::super::{Dice, error, message, ready};
use super::server::Stage;

/// Types of columns: of PostgreSQL's own, and one that it has not.
const TYPES: [u32; 6] = [23, 25, 17, 1700, 3802, 16_385];
/// Every kind of message that there is, and some that there are not.
const TAGS: &[u8] = b"RSKZTDCIENAnst123GHWdcVvXQ?\0\xff";

/// Some columns by their types.
pub(super) fn columns(dice: &mut Dice) -> Vec<u32> {
    (0..dice.roll(5)).map(|_| TYPES[dice.roll(TYPES.len())]).collect()
}

pub(super) fn description(columns: &[u32]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (at, kind) in columns.iter().enumerate() {
        body.extend(format!("c{at}\0").into_bytes());
        body.extend([0; 6]); // of no table
        body.extend(kind.to_be_bytes());
        body.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1]);
    }
    message(b'T', &body)
}

pub(super) fn row(columns: usize, dice: &mut Dice) -> Vec<u8> {
    let mut body = u16::try_from(columns).unwrap().to_be_bytes().to_vec();
    for _ in 0..columns {
        let length = match dice.roll(20) {
            0 => 3000 + dice.roll(20_000),
            1..4 => {
                body.extend([0xff; 4]); // NULL
                continue;
            }
            4..7 => 0,
            _ => dice.roll(30),
        };
        body.extend(u32::try_from(length).unwrap().to_be_bytes());
        body.extend((0..length).map(|_| dice.0 as u8));
    }
    message(b'D', &body)
}

/// A row of texts.
pub(super) fn texts(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    message(b'D', &body)
}

/// What may be said at any time.
pub(super) fn news(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(3) {
        0 => message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mnever mind\0\0"),
        1 => message(b'S', b"TimeZone\0UTC\0"),
        _ => message(b'A', b"\0\0\0\x07orders\0what\0"),
    }
}

/// A message of any kind, with anything in it.
fn anything(dice: &mut Dice) -> Vec<u8> {
    let tag = TAGS[dice.roll(TAGS.len())];
    let length = dice.roll(24);
    let body: Vec<u8> = (0..length).map(|_| [0, 1, 0xff, dice.0 as u8][dice.roll(4)]).collect();
    message(tag, &body)
}

/// The answer to a statement of our own and one whose rows are wanted, in messages. Its rows have so many columns.
pub(super) fn query(kinds: &[u32], dice: &mut Dice) -> Vec<Vec<u8>> {
    let nothing = |tag: u8| message(tag, &[]);
    let mut said =
        vec![nothing(b'1'), nothing(b'2'), message(b'C', b"BEGIN\0"), nothing(b'1'), nothing(b'2')];
    let rows = dice.roll(8);
    match dice.roll(12) {
        0 => said.extend([error("ERROR", "22012"), ready(b'E')]),
        1 => said.push(error("FATAL", "57P01")),
        2 => said.extend([nothing(b'n'), message(b'C', b"INSERT 0 1\0"), ready(b'T')]),
        3 => said.extend([nothing(b'n'), nothing(b'I'), ready(b'I')]),
        end => {
            said.push(description(kinds));
            said.extend((0..rows).map(|_| row(kinds.len(), dice)));
            if end == 4 {
                said.extend([error("ERROR", "40001"), ready(b'E')]);
            } else {
                said.extend([message(b'C', b"SELECT 9\0"), ready([b'I', b'T'][dice.roll(2)])]);
            }
        }
    }
    while dice.roll(3) == 0 {
        said.insert(dice.roll(said.len()), news(dice));
    }
    said
}

/// Rows of a portal, up to where the server waits or has no more.
pub(super) fn piece(kinds: &[u32], first: bool, last: bool, dice: &mut Dice) -> Vec<u8> {
    let nothing = |tag: u8| message(tag, &[]);
    let mut said = Vec::new();
    if first {
        said.extend([nothing(b'1'), nothing(b'2'), message(b'C', b"BEGIN\0")]);
        said.extend([nothing(b'1'), nothing(b'2'), description(kinds)]);
    }
    said.extend((0..dice.roll(5)).map(|_| row(kinds.len(), dice)));
    said.push(if last { message(b'C', b"SELECT 9\0") } else { nothing(b's') });
    if dice.roll(3) == 0 {
        said.insert(dice.roll(said.len()), news(dice));
    }
    said.push(ready(b'T'));
    said.concat()
}

/// How a server lets somebody in: each of the ways to sign in, spoilt if so.
pub(super) fn greeting(spoilt: bool, dice: &mut Dice) -> Vec<Stage> {
    let authentication = |number: u8, rest: &[u8]| message(b'R', &[&[0, 0, 0, number], rest].concat());
    let mut welcome = authentication(0, &[]);
    while dice.roll(3) == 0 {
        welcome.extend(news(dice));
    }
    welcome.extend([message(b'K', &[1; 8]), ready(b'I')].concat());
    let mechanisms = [&b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"[..], b"SCRAM-SHA-256\0\0"][dice.roll(2)];
    let mut stages = match dice.roll(6) {
        0 => vec![authentication(3, &[]), welcome],
        1 => vec![authentication(5, b"salt"), welcome],
        2..4 => {
            let offer =
                Stage::Say(spoil_if(spoilt && dice.roll(3) == 0, authentication(10, mechanisms), dice));
            let (challenge, proof) = (spoilt && dice.roll(2) == 0, spoilt && dice.roll(2) == 0);
            return vec![offer, Stage::Challenge(challenge), Stage::Proof(proof)];
        }
        _ => vec![welcome],
    };
    let at = dice.roll(stages.len());
    stages[at] = spoil_if(spoilt, std::mem::take(&mut stages[at]), dice);
    stages.into_iter().map(Stage::Say).collect()
}

pub(super) fn spoil_if(spoilt: bool, bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    if spoilt { spoil(bytes, dice) } else { bytes }
}

/// Changes a few messages or bytes.
pub(super) fn spoil(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    if dice.roll(20) == 0 {
        let length = dice.roll(2000);
        return (0..length).map(|_| dice.next() as u8).collect();
    }
    for _ in 0..=dice.roll(3) {
        bytes = if dice.roll(2) == 0 { spoil_messages(&bytes, dice) } else { spoil_bytes(bytes, dice) };
    }
    bytes
}

fn spoil_messages(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut said: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let Some(header) = rest.first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some((message, after)) = rest.split_at_checked(length.saturating_add(1)).filter(|_| length >= 4)
        else {
            break;
        };
        said.push(message.to_vec());
        rest = after;
    }
    said.push(rest.to_vec());
    let (at, other) = (dice.roll(said.len()), dice.roll(said.len()));
    match dice.roll(8) {
        0 => drop(said.remove(at)),
        1 => said.insert(other, said[at].clone()),
        2 => said.swap(at, other),
        3 => said.insert(at, anything(dice)),
        4 => said.insert(at, news(dice)),
        5 => said[at].iter_mut().take(1).for_each(|tag| *tag = TAGS[dice.roll(TAGS.len())]),
        6 => said[at].iter_mut().skip(1 + dice.roll(4)).take(1).for_each(|length| {
            *length = [0, 1, 3, 4, 0x7f, 0xff, length.wrapping_add(1), length.wrapping_sub(1)][dice.roll(8)];
        }),
        // What it says about its length stays true, and its inside does not.
        _ if said[at].len() >= 5 => {
            let (tag, body) = (said[at][0], spoil_bytes(said[at][5..].to_vec(), dice));
            said[at] = message(tag, &body);
        }
        _ => {}
    }
    said.concat()
}

fn spoil_bytes(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let at = dice.roll(bytes.len().max(1)).min(bytes.len());
    let few = dice.roll(6);
    match dice.roll(6) {
        0 => drop(bytes.drain(at..(at + few).min(bytes.len()))),
        1 => bytes.truncate(at),
        2 => drop(bytes.splice(at..at, (0..few).map(|_| dice.next() as u8).collect::<Vec<_>>())),
        3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.roll(8)),
        4 => bytes.iter_mut().skip(at).take(few).for_each(|byte| *byte = [0, 0xff, 0x7f, 0x80][dice.roll(4)]),
        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = dice.next() as u8),
    }
    bytes
}
