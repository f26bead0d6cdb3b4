//! Whether what came on a connection ends within a head or a frame, so that the clock of heads runs (D-01).
//!
//! It follows lengths and decides nothing but a clock: what the bytes mean is hyper's to say.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113, 4.1: three bytes of length, type, flags, four bytes of stream.
const FRAME_HEAD: usize = 9;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_HEADERS: u8 = 4;

/// How far a connection's bytes have come.
pub(super) enum Framing {
    /// So many bytes of HTTP/2's preface came, and nothing else.
    Preface(usize),
    /// HTTP/1, with the last four bytes.
    Http1(u32),
    /// HTTP/2.
    Http2(Frames),
}

/// How far the frames of HTTP/2 have come.
#[derive(Default)]
pub(super) struct Frames {
    head: [u8; FRAME_HEAD],
    /// Bytes of the head that came.
    known: usize,
    /// Bytes of the payload that did not come yet.
    left: usize,
    /// A request's head goes on in the next frame.
    continues: bool,
    /// Frames since the last head of a request that ask for nothing.
    controls: u64,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self::Preface(0)
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        if let Self::Preface(known) = *self {
            let wanted = PREFACE.get(known..).unwrap_or_default();
            let both = wanted.len().min(bytes.len());
            *self = match bytes.strip_prefix(wanted) {
                Some(rest) => {
                    bytes = rest;
                    Self::Http2(Frames::default())
                }
                None if wanted.get(..both) == Some(bytes) => return *self = Self::Preface(known + both),
                None => Self::Http1(0),
            }
        }
        match self {
            Self::Preface(_) => {}
            Self::Http1(tail) => {
                let last = bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default();
                last.iter().for_each(|byte| *tail = *tail << 8 | u32::from(*byte));
            }
            Self::Http2(frames) => frames.read(bytes),
        }
    }

    /// How many frames of HTTP/2 came since the last head of a request that ask for nothing.
    pub(super) fn controls(&self) -> u64 {
        if let Self::Http2(frames) = self { frames.controls } else { 0 }
    }

    /// The bytes end within something. Of HTTP/1 it is asked after messages whose end is an empty line: heads alone, and
    /// chunked bodies.
    pub(super) fn is_within(&self) -> bool {
        match self {
            Self::Preface(known) => *known > 0,
            Self::Http1(tail) => {
                let tail = tail.to_be_bytes();
                !(tail.ends_with(b"\n\r\n") || tail.ends_with(b"\n\n"))
            }
            Self::Http2(frames) => frames.known > 0 || frames.left > 0 || frames.continues,
        }
    }
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) {
        loop {
            let payload = self.left.min(bytes.len());
            self.left -= payload;
            let Some((first, rest)) = bytes.get(payload..).and_then(<[u8]>::split_first) else { return };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.known) {
                *place = *first;
            }
            self.known += 1;
            if self.known == FRAME_HEAD {
                self.begin();
            }
        }
    }

    /// A frame's head is complete.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.known = 0;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        match kind {
            HEADERS | CONTINUATION => {
                self.continues = flags & END_HEADERS == 0;
                self.controls = 0;
            }
            DATA | RST_STREAM | WINDOW_UPDATE => {} // hyper counts what is too much of these
            _ => self.controls += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is within something after each of `parts`, and after each byte where they come one by one.
    fn within(parts: &[&[u8]]) -> Vec<bool> {
        let (mut whole, mut dripping) = (Framing::new(), Framing::new());
        let after = |part: &&[u8]| {
            whole.read(part);
            part.iter().for_each(|byte| dripping.read(&[*byte]));
            assert_eq!(whole.is_within(), dripping.is_within(), "{part:?}");
            whole.is_within()
        };
        parts.iter().map(after).collect()
    }

    #[test]
    fn d_01_of_http1_an_empty_line_is_the_end() {
        let parts: [&[u8]; 5] = [
            b"POST / HTTP/1.1\r\n",
            b"transfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\n\nGE",
            b"T / HTTP/1.1\n\n",
        ];
        assert_eq!(within(&parts), [true, false, false, true, false]);
    }

    #[test]
    fn d_01_of_http2_frames_have_lengths_and_heads_have_continuations() {
        let frame = |length, kind, flags| [0, 0, length, kind, flags, 0, 0, 0, 1];
        let parts: [&[u8]; 10] = [
            b"PRI * HTTP/2.0\r\n\r\n",
            b"SM\r\n\r\n",
            &frame(0, 4, 0),
            &frame(2, HEADERS, 0),
            b"xy",
            &frame(1, CONTINUATION, END_HEADERS),
            b"z",
            &[frame(0, 6, 0), frame(0, 6, 0)].concat(),
            &frame(0, 6, 0)[..4],
            &frame(0, 6, 0)[4..],
        ];
        let expected = [true, false, false, true, true, true, false, false, true, false];
        assert_eq!(within(&parts), expected);
    }
}
