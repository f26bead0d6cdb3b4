//! The rows of a file, one after the other, in flat memory.

use std::marker::PhantomData;

use csv_core::ReadRecordResult;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};

use super::cells::{Columns, CsvRecord};
use super::codes::import_codes;
use super::declared::ImportRow;
use crate::error::{Error, Result, codes};
use crate::extract::parse;
use crate::files::Media;
use crate::resource::FileContent;

/// A longer row is rejected.
const LONGEST: usize = 64 * 1024;
/// And one of more cells.
const MOST_CELLS: usize = 256;
/// So much of a file tells what separates its cells.
const SNIFFED: usize = 8 * 1024;

type RowSource = Box<dyn AsyncBufRead + Send + Unpin>;

/// A row as it stands in the file, and what it was read as.
pub struct RowRead<T> {
    /// The number that a spreadsheet shows for it, where the header is the first; of NDJSON, the line's.
    pub number: u64,
    /// As it stands there, to be written to the file of the rejected rows.
    pub(super) text: String,
    /// What it was read as.
    ///
    /// # Errors
    /// As a body of the same fields is refused.
    pub parsed: Result<T>,
}

/// What is left of a file.
pub struct RowReader<T> {
    format: RowFormat,
    /// Rows that were read or passed, the header included.
    number: u64,
    types: PhantomData<fn() -> T>,
}

enum RowFormat {
    Csv { records: Box<Records>, columns: Columns },
    Ndjson(Lines),
}

/// A row without its type: of CSV as the JSON that it stands for.
struct RawRow {
    text: String,
    json: Result<Vec<u8>>,
}

impl<T: ImportRow> RowReader<T> {
    /// Opens a file of this type, and reads the header of one with columns. `ignored` are columns that are passed over.
    pub(super) async fn open(content: FileContent, media_type: &str, ignored: &[String]) -> Result<Self> {
        let source = Box::new(BufReader::with_capacity(SNIFFED, content.reader()));
        Self::read(source, media_type == Media::CSV.name, ignored).await
    }

    /// Opens a file that lies at hand, such as an operator's: of CSV, or of NDJSON.
    ///
    /// # Errors
    /// `imports.columns` for CSV of other columns.
    pub async fn of_source(source: impl AsyncRead + Send + Unpin + 'static, is_csv: bool) -> Result<Self> {
        Self::read(Box::new(BufReader::with_capacity(SNIFFED, source)), is_csv, &[]).await
    }

    async fn read(source: RowSource, is_csv: bool, ignored: &[String]) -> Result<Self> {
        if !is_csv {
            return Ok(Self { format: RowFormat::Ndjson(Lines { source }), number: 0, types: PhantomData });
        }
        let mut records = Records::open(source).await?;
        let header = match records.next().await? {
            Some(Ok(CsvRecord(header))) => header,
            Some(Err(error)) => return Err(error),
            None => return Err(Error::new(&import_codes::COLUMNS).detail("The file is empty.")),
        };
        let columns = Columns::of::<T>(header, ignored)?;
        Ok(Self {
            format: RowFormat::Csv { records: Box::new(records), columns },
            number: 1,
            types: PhantomData,
        })
    }

    /// Passes over rows that an earlier attempt has written.
    pub(super) async fn pass(&mut self, rows: u64) -> Result<()> {
        for _ in 0..rows {
            if self.next_raw().await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The next rows, so many at most; none at the end.
    ///
    /// # Errors
    /// As the file cannot be read.
    pub async fn next(&mut self, most: usize) -> Result<Vec<RowRead<T>>> {
        let mut rows = Vec::with_capacity(most);
        while rows.len() < most
            && let Some(RawRow { text, json }) = self.next_raw().await?
        {
            let parsed = json.and_then(|json| parse(&json));
            rows.push(RowRead { number: self.number, text, parsed });
        }
        Ok(rows)
    }

    /// The first line of a file of rejected rows, if it has one: the columns of this file.
    pub(super) fn header(&self) -> Option<&[String]> {
        match &self.format {
            RowFormat::Csv { columns, .. } => Some(columns.names()),
            RowFormat::Ndjson(_) => None,
        }
    }

    /// The next row that is not blank.
    async fn next_raw(&mut self) -> Result<Option<RawRow>> {
        loop {
            let row = match &mut self.format {
                RowFormat::Csv { records, columns } => match records.next().await? {
                    None => return Ok(None),
                    Some(Ok(record)) if record.is_blank() => None,
                    Some(Ok(record)) => Some(RawRow { text: record.line(), json: columns.json(&record) }),
                    Some(Err(error)) => Some(RawRow { text: String::new(), json: Err(error) }),
                },
                RowFormat::Ndjson(lines) => match lines.next().await? {
                    None => return Ok(None),
                    Some(Ok(line)) if line.trim().is_empty() => None,
                    Some(Ok(line)) => {
                        let text = rejected_before(&line).unwrap_or(line);
                        Some(RawRow { json: Ok(text.clone().into_bytes()), text })
                    }
                    Some(Err(error)) => Some(RawRow { text: String::new(), json: Err(error) }),
                },
            };
            self.number += 1;
            if row.is_some() {
                return Ok(row);
            }
        }
    }
}

/// The records of a CSV file (RFC 4180), whatever ends its lines, and whether `,`, `;` or a tab separates its cells.
struct Records {
    source: RowSource,
    reader: csv_core::Reader,
    cells: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    async fn open(mut source: RowSource) -> Result<Self> {
        let delimiter = delimiter(source.fill_buf().await.map_err(unreadable)?);
        let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Ok(Self { source, reader, cells: vec![0; LONGEST], ends: vec![0; MOST_CELLS] })
    }

    /// The next record; an error of its own for one that is too long or is not in UTF-8.
    async fn next(&mut self) -> Result<Option<Result<CsvRecord>>> {
        let (mut filled, mut ended, mut too_long) = (0, 0, false);
        loop {
            let input = self.source.fill_buf().await.map_err(unreadable)?;
            let (outcome, read, wrote, ends) =
                self.reader.read_record(input, &mut self.cells[filled..], &mut self.ends[ended..]);
            self.source.consume(read);
            (filled, ended) = (filled + wrote, ended + ends);
            match outcome {
                ReadRecordResult::InputEmpty => {}
                // What has no room is read on, and forgotten.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (filled, ended, too_long) = (0, 0, true);
                }
                ReadRecordResult::Record if too_long => return Ok(Some(Err(too_large()))),
                ReadRecordResult::Record => {
                    return Ok(Some(CsvRecord::new(&self.cells[..filled], &self.ends[..ended])));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }
}

/// What stands most often in the first line, outside of quotes.
fn delimiter(head: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            byte if !quoted => {
                counts.iter_mut().filter(|(one, _)| one == byte).for_each(|(_, count)| *count += 1);
            }
            _ => {}
        }
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map_or(b',', |(delimiter, _)| delimiter)
}

/// The lines of a file.
struct Lines {
    source: RowSource,
}

impl Lines {
    /// The next line, without its end; an error of its own for one that is too long or is not in UTF-8.
    async fn next(&mut self) -> Result<Option<Result<String>>> {
        let (mut line, mut begun, mut too_long) = (Vec::new(), false, false);
        loop {
            let input = self.source.fill_buf().await.map_err(unreadable)?;
            if input.is_empty() && !begun {
                return Ok(None);
            }
            let end = input.iter().position(|byte| *byte == b'\n');
            let (part, read) = end.map_or((input, input.len()), |end| (&input[..end], end + 1));
            too_long |= line.len() + part.len() > LONGEST;
            if !too_long {
                line.extend_from_slice(part);
            }
            let over = end.is_some() || input.is_empty();
            begun = true;
            self.source.consume(read);
            if over {
                let line = if too_long {
                    Err(too_large())
                } else {
                    String::from_utf8(line).map_err(|_| not_utf_8())
                };
                return Ok(Some(line));
            }
        }
    }
}

/// The row that a line of a file of rejected rows holds: see [`super::rejections`].
fn rejected_before(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rejected {
        #[serde(rename = "row")]
        _row: u64,
        #[serde(rename = "errors")]
        _errors: Vec<IgnoredAny>,
        value: Value,
    }
    let rejected: Rejected = serde_json::from_str(line).ok()?;
    Some(rejected.value.to_string())
}

/// The store has failed, or what it gives is not what was stored: the attempt fails, and not a row.
fn unreadable(error: std::io::Error) -> Error {
    match error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        true => error
            .into_inner()
            .and_then(|inner| inner.downcast::<Error>().ok())
            .map_or_else(|| Error::internal("the error was one of ours"), |error| *error),
        false => Error::internal(error),
    }
}

fn too_large() -> Error {
    let detail = format!("The row has more than {} KiB, or more than {MOST_CELLS} cells.", LONGEST / 1024);
    Error::new(&codes::INVALID).detail(detail)
}

pub(super) fn not_utf_8() -> Error {
    Error::new(&codes::INVALID).detail("The text is not in UTF-8. Save the file as 'CSV UTF-8'.")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn records(text: &[u8]) -> Vec<Result<Vec<String>, String>> {
        let mut records = Records::open(Box::new(std::io::Cursor::new(text.to_vec()))).await.unwrap();
        let mut all = Vec::new();
        while let Some(record) = records.next().await.unwrap() {
            all.push(record.map(|CsvRecord(cells)| cells).map_err(|error| error.to_string()));
        }
        all
    }

    #[tokio::test]
    async fn records_are_read_whatever_separates_them() {
        for text in ["a,b\r\n1,2\r\n", "a;b\n1;2\n", "a\tb\r1\t2", "\u{feff}a,b\n\n1,\"2\"\n"] {
            assert_eq!(
                records(text.as_bytes()).await,
                [Ok(vec!["a".into(), "b".into()]), Ok(vec!["1".into(), "2".into()])],
                "{text:?}"
            );
        }
        let quoted = records(b"\"a;x\",b\n\"say \"\"no\"\"\",\"two\r\nlines\"").await;
        assert_eq!(quoted[1], Ok(vec!["say \"no\"".to_owned(), "two\r\nlines".to_owned()]));
        assert!(records(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_row_that_is_too_long_is_one_row_and_takes_no_memory() {
        let mut text = b"a,b\n\"".to_vec();
        text.extend(std::iter::repeat_n(b'x', 3 * LONGEST));
        text.extend(b"\",1\n2,3\n");
        text.extend(",".repeat(2 * MOST_CELLS).into_bytes());
        text.extend(b"\n4,5\n\xff,6\n");
        let all = records(&text).await;
        assert_eq!(all.len(), 6, "{all:?}");
        assert!(all[1].is_err() && all[3].is_err() && all[5].is_err());
        assert_eq!(
            (&all[2], &all[4]),
            (&Ok(vec!["2".into(), "3".into()]), &Ok(vec!["4".into(), "5".into()]))
        );
    }

    #[tokio::test]
    async fn lines_end_where_they_end() {
        let text = format!("{{}}\r\n\n{}\nlast", "x".repeat(LONGEST + 1));
        let mut lines =
            Lines { source: Box::new(BufReader::with_capacity(7, std::io::Cursor::new(text.into_bytes()))) };
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.ok());
        }
        assert_eq!(all, [Some("{}\r".to_owned()), Some(String::new()), None, Some("last".to_owned())]);
    }
}
