//! A server that is acted out in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::{Dice, message, ready};
use super::answers::spoil_if;

pub(super) const PASSWORD: &[u8] = b"secret";

/// How often it is asked in vain before it hangs up.
const PATIENCE: usize = 10;

/// What the server says next, once it has been spoken to.
#[derive(Clone)]
pub(super) enum Stage {
    Say(Vec<u8>),
    /// SCRAM's challenge, to the nonce that it has heard; spoilt if so.
    Challenge(bool),
    /// Its proof, and what follows when it lets somebody in; spoilt if so.
    Proof(bool),
}

/// It says each stage when it is spoken to, in pieces, and hangs up when nobody says any more.
pub(crate) struct Server {
    stages: VecDeque<Stage>,
    said: Vec<u8>,
    at: usize,
    heard: Vec<u8>,
    spoken_to: bool,
    /// It is being spoken to, and has not heard the end.
    listens: bool,
    /// How often nothing could be read of it.
    silent: usize,
    /// The longest piece.
    piece: usize,
    dice: Dice,
    /// SCRAM's messages so far: the client's first without its header, and the server's.
    scram: (String, String),
    /// Whether what it said last proves that it knows the password, where it was to.
    pub(super) proven: Option<bool>,
}

impl Server {
    pub(super) fn new(stages: Vec<Stage>, dice: &mut Dice) -> Self {
        let piece = [1, 7, 64, usize::MAX][dice.roll(4)];
        let (scram, silent) = (Default::default(), 0);
        let (said, at, heard, spoken_to, listens) = (Vec::new(), 0, Vec::new(), false, false);
        Self {
            stages: stages.into(),
            said,
            at,
            heard,
            spoken_to,
            listens,
            silent,
            piece,
            dice: Dice::of(dice.next()),
            scram,
            proven: None,
        }
    }

    /// It begins to speak without being spoken to.
    pub(super) fn uncalled(mut self) -> Self {
        self.spoken_to = true;
        self
    }

    /// Says the next stage, if it was spoken to.
    fn go_on(&mut self) -> bool {
        while self.at == self.said.len() {
            if !std::mem::take(&mut self.spoken_to) {
                return false;
            }
            let Some(stage) = self.stages.pop_front() else { return false };
            (self.said, self.at) = (self.render(&stage), 0);
            self.heard.clear();
        }
        true
    }

    fn render(&mut self, stage: &Stage) -> Vec<u8> {
        let (said, spoilt) = match stage {
            Stage::Say(bytes) => return bytes.clone(),
            Stage::Challenge(spoilt) => (self.challenge(), spoilt),
            Stage::Proof(spoilt) => {
                let proof = self.proof();
                let said = spoil_if(*spoilt, proof.clone(), &mut self.dice);
                let length = 1 + u32::from_be_bytes(proof[1..5].try_into().unwrap()) as usize;
                self.proven = Some(said.windows(length).any(|part| *part == proof[..length]));
                return said;
            }
        };
        spoil_if(*spoilt, said, &mut self.dice)
    }

    fn challenge(&mut self) -> Vec<u8> {
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        let nonce = heard.split_once("r=").map_or("", |(_, nonce)| nonce);
        self.scram =
            (format!("n=,r={nonce}"), format!("r={nonce}more,s={},i=3", BASE64_STANDARD.encode(b"salt")));
        message(b'R', &[&[0, 0, 0, 11], self.scram.1.as_bytes()].concat())
    }

    fn proof(&mut self) -> Vec<u8> {
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        let last = heard.split_once("c=").map_or("", |(_, last)| last);
        let last = last.split(",p=").next().unwrap_or_default();
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, 3.try_into().unwrap(), b"salt", PASSWORD, &mut salted);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let all = format!("{},{},c={last}", self.scram.0, self.scram.1);
        let signature = sign(sign(&salted, b"Server Key").as_ref(), all.as_bytes());
        let signature = format!("v={}", BASE64_STANDARD.encode(signature.as_ref()));
        let last = message(b'R', &[&[0, 0, 0, 12], signature.as_bytes()].concat());
        let keys = message(b'K', &[1; 8]);
        [last, message(b'R', &[0; 4]), keys, ready(b'I')].concat()
    }
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dice.roll(6) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.go_on() {
            let most = self.piece.min(buffer.remaining()).min(self.said.len() - self.at);
            let length = 1 + self.dice.roll(most);
            buffer.put_slice(&self.said[self.at..self.at + length]);
            self.at += length;
            self.silent = 0;
            return Poll::Ready(Ok(()));
        }
        self.silent += 1;
        if self.listens || self.silent < PATIENCE {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(())) // nothing: it hangs up
    }
}

impl AsyncWrite for Server {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.dice.roll(6) == 0 {
            self.listens = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = if self.dice.roll(2) == 0 { bytes.len() } else { 1 + self.dice.roll(bytes.len()) };
        self.heard.extend_from_slice(&bytes[..length]);
        self.listens = length < bytes.len(); // half of what is said is answered by nobody
        self.spoken_to |= !self.listens;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
