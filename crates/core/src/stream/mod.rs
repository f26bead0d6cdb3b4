//! Lists that are answered whole: row by row out of the database and on to the client, in flat memory.
//!
//! A task reads, and hands chunks to the body over a channel that holds two: a slow client slows the database down. The
//! task and not the body holds the connection, so that `STREAM_TIMEOUT` ends what nobody reads; and it looks up when the
//! client leaves. An answer that cannot be completed is broken off, so that nobody takes it for whole: HTTP/1.1 closes
//! the connection before the last chunk, HTTP/2 resets the stream.

mod csv;

use std::pin::pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, Stream, stream};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

pub(crate) use csv::FORMULA;
pub use csv::{Cell, CsvLine};

use crate::app::{App, StreamPlace};
use crate::auth::Caller;
use crate::db::{FromRow, Params, RowStream};
use crate::error::{Error, Result, codes};
use crate::extract::MediaType;

/// Newline-delimited JSON: one object a line.
pub const NDJSON: &str = "application/x-ndjson";
/// RFC 4180, in UTF-8 without a byte order mark, with a header line.
pub const CSV: &str = "text/csv";

/// How large a chunk grows while the database is faster than the client.
const CHUNK: usize = 16 * 1024;
/// How many chunks may wait for the client.
const WAITING: usize = 2;

/// How often PostgreSQL hears of a stream whose client takes its time: its patience is a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A row of a streamed list: its JSON for NDJSON, its columns for CSV.
pub trait Record: FromRow + Serialize + Send + 'static {
    /// Writes the names of its values, as the JSON's.
    fn write_names(line: &mut CsvLine<'_>);

    /// Writes its values, in the order of their names.
    fn write(&self, line: &mut CsvLine<'_>);
}

/// The names of a record's values, as the first line of CSV has them.
pub(crate) fn names<R: Record>() -> Vec<String> {
    let mut out = BytesMut::new();
    R::write_names(&mut CsvLine::new(&mut out));
    String::from_utf8_lossy(&out).split(',').map(str::to_owned).collect()
}

/// Answers with all rows of a READ ONLY statement in the caller's tenant, as [`NDJSON`] or [`CSV`].
///
/// # Errors
/// `core.overloaded` when `MAX_STREAMS` are under way, or the statement's own before its first row. A later error breaks
/// the answer off and is logged.
pub async fn answer<R: Record>(
    app: &App,
    caller: &Caller,
    MediaType(media_type): MediaType,
    sql: &'static str,
    params: Params<'_>,
) -> Result<Response> {
    let place = app.streams.place(caller.tenant())?;
    let rows = app.db.tenant_read(caller).stream::<R>(sql, params).await?;
    let (to, from) = channel(WAITING);
    let concealed: Vec<String> = caller
        .fields()
        .map(|fields| fields.concealed_of_records(caller).into_iter().map(str::to_owned).collect())
        .unwrap_or_default();
    let (format, content_type) = match media_type {
        CSV => (StreamFormat::Csv(places_of::<R>(&concealed)), "text/csv; charset=utf-8; header=present"),
        _ => (StreamFormat::Ndjson(concealed), NDJSON),
    };
    let produced = produce(rows, format, to, app.config.traffic.stream_timeout, place);
    drop(app.lifecycle.spawn("stream", produced));
    Ok(([(CONTENT_TYPE, content_type)], Body::from_stream(chunks(from))).into_response())
}

/// How rows are written, and what is left out of each: fields by name, or places in a line.
enum StreamFormat {
    Ndjson(Vec<String>),
    Csv(Vec<usize>),
}

/// The places in a line of CSV that these fields have.
fn places_of<R: Record>(fields: &[String]) -> Vec<usize> {
    let is_of = |name: &str, field: &String| {
        name.strip_prefix(field.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let names = names::<R>().into_iter().enumerate();
    names.filter(|(_, name)| fields.iter().any(|field| is_of(name, field))).map(|(place, _)| place).collect()
}

/// A chunk; `None` says that the list is complete.
type StreamMessage = Option<Bytes>;

/// What the body sends. A channel that closes without the word that the list is complete is an error.
fn chunks(from: Receiver<StreamMessage>) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::unfold(Some(from), |from| async {
        let mut from = from?;
        match from.recv().await {
            Some(Some(chunk)) => Some((Ok(chunk), Some(from))),
            Some(None) => None,
            None => Some((Err(Error::internal("the stream broke off")), None)),
        }
    })
}

/// How a stream goes on, for the log and for its place.
struct Progress<'a> {
    rows: u64,
    bytes: u64,
    place: &'a StreamPlace,
}

impl<'a> Progress<'a> {
    fn new(place: &'a StreamPlace) -> Self {
        Self { rows: 0, bytes: 0, place }
    }
}

/// Reads to the end, the deadline, the first error, or until the client has left; says in the log which it was.
async fn produce<R: Record>(
    rows: RowStream<R>,
    format: StreamFormat,
    to: Sender<StreamMessage>,
    limit: Duration,
    place: StreamPlace,
) {
    let begun = Instant::now();
    let mut progress = Progress::new(&place);
    let outcome = tokio::select! {
        outcome = timeout(limit, read(rows, &format, &to, &mut progress)) => outcome
            .unwrap_or_else(|_| Err(Error::new(&codes::TIMEOUT).because("STREAM_TIMEOUT"))),
        () = place.given_away() => Err(Error::new(&codes::OVERLOADED)
            .because("it was read slowly, and another tenant had no place")),
    };
    let Progress { rows, bytes, .. } = progress;
    let duration = begun.elapsed().as_micros() as f64 / 1000.0;
    match outcome {
        Ok(true) => tracing::info!(rows, bytes, duration, "Streamed"),
        Ok(false) => tracing::info!(rows, bytes, duration, "Stream left by its client"),
        Err(error) => {
            let code = error.code().code;
            let cause = error.cause();
            if error.code().status == 500 {
                tracing::error!(code, error = cause, rows, bytes, duration, "Stream broke off");
            } else {
                tracing::warn!(code, error = cause, rows, bytes, duration, "Stream broke off");
            }
        }
    }
}

/// Whether all was read and taken; `false` when the client has left.
async fn read<R: Record>(
    mut rows: RowStream<R>,
    format: &StreamFormat,
    to: &Sender<StreamMessage>,
    progress: &mut Progress<'_>,
) -> Result<bool> {
    let mut chunk = BytesMut::new();
    format.begin::<R>(&mut chunk);
    loop {
        let row = match rows.next().now_or_never() {
            Some(row) => row,
            None => {
                // The database takes its time: what is there goes out meanwhile.
                if !send(&mut rows, to, &mut chunk, progress).await? {
                    return Ok(false);
                }
                tokio::select! {
                    row = rows.next() => row,
                    () = to.closed() => return Ok(false),
                }
            }
        };
        let Some(row) = row.transpose()? else { break };
        format.write(&row, &mut chunk)?;
        progress.rows += 1;
        if chunk.len() >= CHUNK && !send(&mut rows, to, &mut chunk, progress).await? {
            return Ok(false);
        }
    }
    Ok(send(&mut rows, to, &mut chunk, progress).await? && to.send(None).await.is_ok())
}

/// Sends on the bytes that are ready; `false` when the client has gone.
///
/// # Errors
/// When the rest is lost while a slow client is waited for.
async fn send<R: Record>(
    rows: &mut RowStream<R>,
    to: &Sender<StreamMessage>,
    chunk: &mut BytesMut,
    progress: &mut Progress<'_>,
) -> Result<bool> {
    if chunk.is_empty() {
        return Ok(true);
    }
    let bytes = chunk.len() as u64;
    let mut sending = pin!(to.send(Some(chunk.split().freeze())));
    let sent = match sending.as_mut().now_or_never() {
        Some(sent) => sent,
        None => tokio::select! {
            sent = sending => sent,
            lost = rows.keep_alive(KEEP_ALIVE) => match lost? {},
        },
    };
    progress.bytes += bytes;
    progress.place.took(bytes);
    Ok(sent.is_ok())
}

impl StreamFormat {
    fn begin<R: Record>(&self, out: &mut BytesMut) {
        if let Self::Csv(without) = self {
            let mut line = CsvLine::leaving_out(without, out);
            R::write_names(&mut line);
            line.end();
        }
    }

    fn write<R: Record>(&self, row: &R, out: &mut BytesMut) -> Result<()> {
        match self {
            Self::Ndjson(without) if without.is_empty() => {
                serde_json::to_writer((&mut *out).writer(), row).map_err(Error::internal)?;
                out.put_u8(b'\n');
            }
            Self::Ndjson(without) => {
                let mut fields = serde_json::to_value(row).map_err(Error::internal)?;
                if let Some(fields) = fields.as_object_mut() {
                    fields.retain(|name, _| !without.contains(name));
                }
                serde_json::to_writer((&mut *out).writer(), &fields).map_err(Error::internal)?;
                out.put_u8(b'\n');
            }
            Self::Csv(without) => {
                let mut line = CsvLine::leaving_out(without, out);
                row.write(&mut line);
                line.end();
            }
        }
        Ok(())
    }
}
