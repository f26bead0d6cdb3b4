//! The three codings: one interface over three encoders, a body that is compressed while it is sent, and the way back for
//! what lies packed.

use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use brotli::CompressorWriter;
use bytes::buf::Writer;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body::Frame;

/// Measured on pages of items (`docs/guides/http-edge.md`): beyond these, time doubles and the size hardly falls.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 2;
/// How far back a stream is searched for repetitions, as a power of two: it bounds the memory of an encoder, to about
/// 1 MiB.
const WINDOW: u32 = 17;
/// How much is compressed before others get their turn: less than a millisecond's work.
const PIECE: usize = 32 * 1024;

/// A content coding (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::middleware) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub(in crate::middleware) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses a body that is complete; a large one piece by piece, so that others get their turn.
pub(in crate::middleware) async fn whole(coding: Coding, body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(coding, Some(body.len() as u64))?;
    for (number, piece) in body.chunks(PIECE).enumerate() {
        if number > 1 {
            tokio::task::yield_now().await;
        }
        encoder.write(piece)?;
    }
    encoder.finish()
}

/// What a gzip file holds. Only for our own: what others send could unpack to anything.
pub(in crate::middleware) fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain)?;
    Ok(plain)
}

type Sink = Writer<BytesMut>;

enum Encoder {
    Gzip(GzEncoder<Sink>),
    Brotli(Box<CompressorWriter<Sink>>),
    Zstd(zstd::stream::write::Encoder<'static, Sink>),
}

impl Encoder {
    /// `length` is the body's, when it is known: less memory is then taken for a small one.
    fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        let sink = BytesMut::new().writer();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(sink, flate2::Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                Self::Brotli(Box::new(CompressorWriter::new(sink, 4096, BROTLI_QUALITY, WINDOW)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL)?;
                encoder.window_log(WINDOW)?;
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Makes all that was written readable for the client.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What is compressed so far and has not been taken.
    fn take(&mut self) -> Bytes {
        let sink = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        sink.get_mut().split().freeze()
    }

    /// The rest.
    fn finish(self) -> io::Result<Bytes> {
        let sink = match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(sink.into_inner().freeze())
    }
}

/// A body that is compressed while it is sent. What its source has given is held back for a better ratio while more comes
/// at once, and flushed as soon as the source waits: a stream flows on.
pub(in crate::middleware) struct Compressed {
    source: Body,
    encoder: Stage,
    /// Given by the source and not compressed yet.
    input: Bytes,
    unflushed: bool,
}

/// An encoder takes much memory, and is there only while there is something to compress.
enum Stage {
    Unbegun(Coding),
    Begun(Box<Encoder>),
    Ended,
}

impl Stage {
    fn begin(&mut self) -> io::Result<Option<&mut Encoder>> {
        if let Self::Unbegun(coding) = *self {
            *self = Self::Begun(Box::new(Encoder::new(coding, None)?));
        }
        Ok(if let Self::Begun(encoder) = self { Some(encoder) } else { None })
    }

    /// The rest, where this was not the end already.
    fn finish(&mut self) -> io::Result<Option<Bytes>> {
        self.begin()?;
        let ended = std::mem::replace(self, Self::Ended);
        if let Self::Begun(encoder) = ended { encoder.finish().map(Some) } else { Ok(None) }
    }
}

impl Compressed {
    pub(in crate::middleware) fn new(coding: Coding, source: Body) -> Self {
        Self { source, encoder: Stage::Unbegun(coding), input: Bytes::new(), unflushed: false }
    }

    /// Compresses a piece of what is at hand.
    fn compress(&mut self) -> io::Result<Bytes> {
        let Some(encoder) = self.encoder.begin()? else { return Ok(Bytes::new()) };
        let piece = self.input.split_to(self.input.len().min(PIECE));
        encoder.write(&piece)?;
        self.unflushed = true;
        Ok(encoder.take())
    }

    fn flush(&mut self) -> io::Result<Bytes> {
        let Stage::Begun(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        if !self.unflushed {
            return Ok(Bytes::new());
        }
        encoder.flush()?;
        self.unflushed = false;
        Ok(encoder.take())
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if matches!(this.encoder, Stage::Ended) {
            return Poll::Ready(None);
        }
        if this.input.is_empty() {
            match Pin::new(&mut this.source).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => this.input = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    this.encoder = Stage::Ended; // never finished: what was sent is not taken for the whole
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    let rest = this.encoder.finish().transpose();
                    return Poll::Ready(rest.map(|rest| rest.map(Frame::data).map_err(axum::Error::new)));
                }
                Poll::Pending => return waiting(this.flush()),
            }
        }
        match this.compress() {
            Ok(bytes) if bytes.is_empty() => {
                cx.waker().wake_by_ref(); // after the others
                Poll::Pending
            }
            bytes => Poll::Ready(Some(bytes.map(Frame::data).map_err(axum::Error::new))),
        }
    }
}

fn waiting(flushed: io::Result<Bytes>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    match flushed {
        Ok(bytes) if bytes.is_empty() => Poll::Pending,
        bytes => Poll::Ready(Some(bytes.map(Frame::data).map_err(axum::Error::new))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain),
        }
        .unwrap();
        plain
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u32| format!("{{\"n\":{}}}\n", n.wrapping_mul(2_654_435_761)).into_bytes())
            .take(bytes)
            .collect()
    }

    #[tokio::test]
    async fn what_comes_out_is_what_went_in() {
        for (coding, bytes) in
            CODINGS.into_iter().flat_map(|coding| [0, 1, 5000, 300_000].map(|bytes| (coding, bytes)))
        {
            let text = text(bytes);
            assert_eq!(plain(coding, &whole(coding, &text).await.unwrap()), text, "{coding:?}, {bytes}");
            let streamed = Compressed::new(coding, Body::from(text.clone()));
            let streamed = streamed.collect().await.unwrap().to_bytes();
            assert_eq!(plain(coding, &streamed), text, "{coding:?}, {bytes}");
            assert!(bytes < 5000 || streamed.len() < text.len() / 2);
        }
    }

    #[tokio::test]
    async fn a_stream_that_waits_is_flushed() {
        for coding in CODINGS {
            let first =
                futures_util::stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"first")))]);
            let source = StreamBody::new(first.chain(futures_util::stream::pending()));
            let mut body = Compressed::new(coding, Body::new(source));
            let mut sent = Vec::new();
            // All frames that come before the source is waited for for ever.
            while let Ok(frame) =
                tokio::time::timeout(std::time::Duration::from_millis(50), body.frame()).await
            {
                sent.extend(frame.unwrap().unwrap().into_data().unwrap());
            }
            let mut shown = vec![0; 5];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read_exact(&mut shown),
                Coding::Brotli => brotli::Decompressor::new(&sent[..], 4096).read_exact(&mut shown),
                Coding::Zstd => zstd::stream::read::Decoder::new(&sent[..]).unwrap().read_exact(&mut shown),
            }
            .unwrap();
            assert_eq!(shown, b"first", "{coding:?}");
        }
    }

    #[tokio::test]
    async fn a_source_that_fails_is_not_finished() {
        let frames = [Ok(Frame::data(Bytes::from(text(100_000)))), Err(io::Error::other("lost"))];
        let source = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let mut body = Compressed::new(Coding::Gzip, source);
        let mut outcomes = Vec::new();
        while let Some(frame) = body.frame().await {
            outcomes.push(frame.is_ok());
        }
        assert_eq!(outcomes.last(), Some(&false));
    }
}
