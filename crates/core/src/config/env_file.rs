//! `.env` files: `KEY=VALUE` lines, `#` comments, `export`, single and double quotes. Nothing is expanded.

use std::io::ErrorKind;
use std::path::Path;

use super::file;
use super::source::{MapSource, Origin, Source};
use super::{Problems, SettingProblem};

/// The values of a `.env` file, and what is wrong with it: [`Config::load`](super::Config::load) reports that along with
/// everything else.
pub struct EnvFile {
    values: MapSource,
    problems: Problems,
}

impl EnvFile {
    /// Reads the file at `path`; `None` when there is none. One that cannot be read has no values, and a problem: so has a
    /// link that leads nowhere.
    pub fn read(path: &Path) -> Option<Self> {
        let missing = std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        (!missing).then(|| Self::named(path))
    }

    /// The same for a file that somebody has named: it must be there.
    pub fn named(path: &Path) -> Self {
        let name = path.display().to_string();
        let mut read = match file::read(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => {
                let mut unread = Self::parse(&name, "");
                let why = match error.kind() {
                    ErrorKind::NotFound => "does not exist, or is a link that leads nowhere".to_owned(),
                    _ => format!("cannot be read: {error}"),
                };
                unread.problems.add(
                    name.as_str(),
                    why,
                    "Make it a readable file of KEY=VALUE lines in UTF-8",
                );
                unread
            }
        };
        if file::is_open_to_all(path) {
            read.problems.warnings.push(format!(
                "{name} may be written by everybody on this machine, and with it the settings and secrets in it: chmod 600 {name}"
            ));
        }
        read
    }

    /// Parses `text`; `name` is what problems call the file. They name a line by its number, never by its content.
    pub fn parse(name: &str, text: &str) -> Self {
        let mut problems = Problems::default();
        let mut values: Vec<(String, String)> = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let place = || format!("{name}:{}", index + 1);
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((key, _))) if values.iter().any(|(other, _)| *other == key) => {
                    problems.add(place(), format!("{key} is set a second time"), "Keep one of the lines");
                }
                Ok(Some(pair)) => values.push(pair),
                Err(message) => problems.add(place(), message, "Write KEY=VALUE, or # before a comment"),
            }
        }
        Self { values: MapSource::new(Origin::EnvFile, values), problems }
    }
}

impl Source for EnvFile {
    fn origin(&self) -> Origin {
        self.values.origin()
    }

    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name)
    }

    fn names(&self) -> Vec<String> {
        self.values.names()
    }

    fn problems(&self) -> &[SettingProblem] {
        self.problems.as_slice()
    }

    fn warnings(&self) -> &[String] {
        &self.problems.warnings
    }
}

fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (key, value) = line.split_once('=').ok_or("has no =")?;
    let key = key.trim_end();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("has no name of letters, digits and _ before the =");
    }
    Ok(Some((key.to_owned(), parse_value(value.trim_start())?)))
}

fn parse_value(text: &str) -> Result<String, &'static str> {
    let (value, rest) = match text.as_bytes().first() {
        Some(b'\'') => {
            let (value, rest) = text[1..].split_once('\'').ok_or("has a ' that is not closed")?;
            (value.to_owned(), rest)
        }
        Some(b'"') => double_quoted(&text[1..])?,
        Some(b'#') => return Ok(String::new()),
        _ => return Ok(without_comment(text).trim_end().to_owned()),
    };
    match rest.trim_start() {
        "" => Ok(value),
        comment if comment.starts_with('#') => Ok(value),
        _ => Err("has text after the closing quote"),
    }
}

/// A `#` begins a comment only after white space: `postgresql://…/db#1` is a value.
fn without_comment(text: &str) -> &str {
    let comment = text.match_indices('#').find(|(at, _)| text[..*at].ends_with([' ', '\t']));
    comment.map_or(text, |(at, _)| &text[..at])
}

/// The value up to the closing quote, with `\n`, `\r`, `\t`, `\"`, `\\` and `\$` resolved, and what follows the quote.
fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, 'r')) => '\r',
                Some((_, 't')) => '\t',
                Some((_, escaped @ ('"' | '\\' | '$'))) => escaped,
                _ => return Err("has a \\ that escapes nothing; use single quotes"),
            }),
            other => value.push(other),
        }
    }
    Err("has a \" that is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(line: &str) -> String {
        EnvFile::parse(".env", line).get("A").unwrap()
    }

    #[test]
    fn values_are_read_as_a_shell_would() {
        for (line, value) in [
            ("A=1", "1"),
            ("  export A = 1  ", "1"),
            ("\u{feff}A=1\r\n", "1"),
            ("A=b c # comment", "b c"),
            ("A=url#part", "url#part"),
            ("A=", ""),
            ("A= # comment", ""),
            ("A='x # \"y\" \\n'", "x # \"y\" \\n"),
            (r#"A="x # \"y\"\n$" # comment"#, "x # \"y\"\n$"),
            ("A=a=b", "a=b"),
            ("# A=0\n\nA=1", "1"),
        ] {
            assert_eq!(value_of(line), value, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_by_number_and_never_shown() {
        let text =
            "A=1\nhunter2\nB='hunter2\nC=\"hunter2\nA=hunter2\n=hunter2\nD='x' hunter2\nE=\"\\hunter2\"";
        let problems = EnvFile::parse(".env", text).problems.to_string();
        assert_eq!(problems.lines().count(), 7, "{problems}");
        for (line, number) in problems.lines().zip(2..) {
            assert!(line.starts_with(&format!(".env:{number}: ")), "{line}");
        }
        assert!(!problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn a_missing_file_is_a_problem_where_it_was_named_and_an_unreadable_one_everywhere() {
        let missing = Path::new("/nonexistent/.env");
        assert!(EnvFile::read(missing).is_none());
        assert!(
            EnvFile::named(missing).problems.to_string().starts_with("/nonexistent/.env: does not exist")
        );
        assert_eq!(EnvFile::read(Path::new("/")).unwrap().problems.len(), 1);
        let link = std::env::temp_dir().join(format!("erp-env-link-{}", std::process::id()));
        std::os::unix::fs::symlink("/nonexistent/.env", &link).unwrap();
        let dangling = EnvFile::read(&link);
        std::fs::remove_file(&link).unwrap();
        assert!(dangling.unwrap().problems.to_string().contains("leads nowhere"));
    }
}
