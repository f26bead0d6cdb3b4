//! The two formats of a line. Nothing that comes from outside can end a line, colour it or forge a part of it.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::field::{Chain, FieldValue};
use crate::config::{Level, LogFormat};

/// The known context of a line, in the order of both formats.
const CONTEXT: [&str; 5] = ["correlation_id", "tenant_id", "user_id", "module", "action"];

/// One event with the context that applies to it.
pub(super) struct LogLine<'a> {
    timestamp: Timestamp,
    level: Level,
    message: Option<FieldValue<'a>>,
    context: [Option<FieldValue<'a>>; CONTEXT.len()],
    rest: SmallVec<[(&'static str, FieldValue<'a>); 12]>,
}

impl<'a> LogLine<'a> {
    pub(super) fn new(timestamp: Timestamp, level: Level) -> Self {
        Self { timestamp, level, message: None, context: [None; CONTEXT.len()], rest: SmallVec::new() }
    }

    /// Adds a field. The first of a name holds: the event's, then that of the innermost span.
    pub(super) fn add(&mut self, key: &'static str, value: FieldValue<'a>) {
        if key == "message" {
            self.message.get_or_insert(value);
        } else if let Some(known) = CONTEXT.iter().position(|name| *name == key) {
            self.context[known].get_or_insert(value);
        } else if self.rest.iter().all(|(other, _)| *other != key) {
            self.rest.push((key, value));
        }
    }
}

/// Turns lines into text, each with its line break.
pub(super) struct Formatter {
    format: LogFormat,
    colour: bool,
    boot_id: String,
}

impl Formatter {
    pub(super) fn new(format: LogFormat, colour: bool, boot_id: String) -> Self {
        Self { format, colour, boot_id }
    }

    pub(super) fn format(&self, line: &LogLine<'_>) -> String {
        let mut out = String::with_capacity(512);
        match self.format {
            LogFormat::Json => self.json(&mut out, line),
            LogFormat::Console => self.console(&mut out, line),
        }
        out.push('\n');
        out
    }

    fn json(&self, out: &mut String, line: &LogLine<'_>) {
        write(out, format_args!(r#"{{"timestamp":"{:.3}","level":""#, line.timestamp));
        out.push_str(line.level.as_str());
        out.push_str(r#"","message":"#);
        json_value(out, line.message.unwrap_or(FieldValue::Text("")));
        for (key, value) in CONTEXT.iter().zip(self.context(line)) {
            if let Some(value) = value {
                json_field(out, key, value);
            }
        }
        for (key, value) in &line.rest {
            json_field(out, key, *value);
        }
        out.push('}');
    }

    fn console(&self, out: &mut String, line: &LogLine<'_>) {
        let time = format!("{:.3}", line.timestamp);
        out.push_str(time.get(11..23).unwrap_or(&time));
        let level = line.level.as_str().to_ascii_uppercase();
        let (colour, plain) = if self.colour { (colour(line.level), "\u{1b}[0m") } else { ("", "") };
        write(out, format_args!(" [{colour}{level}{plain}]"));
        let [correlation, tenant, user, module, action] = self.context(line);
        for (label, part) in
            [("", module), ("", action), ("", correlation), ("tenant:", tenant), ("user:", user)]
        {
            if let Some(value) = part {
                out.push_str(" [");
                out.push_str(label);
                escape(out, &plain_text(value), Quoting::Bracket);
                out.push(']');
            }
        }
        out.push_str(": ");
        escape(out, &line.message.map(plain_text).unwrap_or_default(), Quoting::Message);
        for (key, value) in &line.rest {
            console_field(out, key, *value);
        }
    }

    fn context<'a>(&'a self, line: &'a LogLine<'_>) -> [Option<FieldValue<'a>>; CONTEXT.len()] {
        let mut context: [Option<FieldValue<'a>>; CONTEXT.len()] = line.context;
        context[0].get_or_insert(FieldValue::Text(&self.boot_id));
        context
    }
}

fn json_field(out: &mut String, key: &str, value: FieldValue<'_>) {
    out.push_str(",\"");
    escape(out, &camel_case(key), Quoting::Json);
    out.push_str("\":");
    json_value(out, value);
}

fn json_value(out: &mut String, value: FieldValue<'_>) {
    match value {
        FieldValue::Text(text) => json_text(out, text),
        FieldValue::Float(number) if !number.is_finite() => json_text(out, &number.to_string()), // JSON has no NaN
        FieldValue::Error(Chain { text, causes }) => {
            json_text(out, text);
            if !causes.is_empty() {
                out.push_str(",\"causes\":[");
                for (index, cause) in causes.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    json_text(out, cause);
                }
                out.push(']');
            }
        }
        FieldValue::Bool(value) => write(out, format_args!("{value}")),
        FieldValue::Signed(value) => out.push_str(itoa::Buffer::new().format(value)),
        FieldValue::Unsigned(value) => out.push_str(itoa::Buffer::new().format(value)),
        FieldValue::Float(value) => write(out, format_args!("{value}")),
    }
}

fn json_text(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text, Quoting::Json);
    out.push('"');
}

fn console_field(out: &mut String, key: &str, value: FieldValue<'_>) {
    let mut pair = |key: &str, text: &str| {
        out.push(' ');
        escape(out, key, Quoting::Message);
        out.push('=');
        if text.is_empty() || text.contains([' ', '=', '"']) {
            json_text(out, text);
        } else {
            escape(out, text, Quoting::Message);
        }
    };
    pair(&camel_case(key), &plain_text(value));
    if let FieldValue::Error(Chain { causes, .. }) = value {
        for cause in causes {
            pair("cause", cause);
        }
    }
}

fn plain_text(value: FieldValue<'_>) -> Cow<'_, str> {
    match value {
        FieldValue::Text(text) => text.into(),
        FieldValue::Error(chain) => chain.text.as_str().into(),
        FieldValue::Bool(value) => value.to_string().into(),
        FieldValue::Signed(value) => value.to_string().into(),
        FieldValue::Unsigned(value) => value.to_string().into(),
        FieldValue::Float(value) => value.to_string().into(),
    }
}

/// `status_code` → `statusCode`. A field cannot take the place of the line's own keys.
fn camel_case(key: &str) -> Cow<'_, str> {
    let key = key.strip_prefix("r#").unwrap_or(key);
    if matches!(key, "timestamp" | "level" | "message" | "causes") {
        return format!("field.{key}").into();
    }
    // Those on nearly every line.
    let known = match key {
        "correlation_id" => "correlationId",
        "tenant_id" => "tenantId",
        "user_id" => "userId",
        "status_code" => "statusCode",
        "user_agent" => "userAgent",
        _ if !key.contains('_') => key,
        _ => return joined(key).into(),
    };
    known.into()
}

fn joined(key: &str) -> String {
    let mut words = key.split('_').filter(|word| !word.is_empty());
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
    }
    name
}

/// Where a text goes, which decides what ends it there.
#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    Json,
    Message,
    Bracket,
}

/// The bytes that go anywhere as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'"' | b'\\' | b'[' | b']');
        byte += 1;
    }
    plain
};

fn escape(out: &mut String, text: &str, place: Quoting) {
    let special = text.bytes().position(|byte| !PLAIN[usize::from(byte)]);
    let (plain, rest) = text.split_at(special.unwrap_or(text.len()));
    out.push_str(plain); // most texts are plain to their end
    for character in rest.chars() {
        match character {
            '"' | '\\' if place == Quoting::Json => out.extend(['\\', character]),
            '[' | ']' if place == Quoting::Bracket => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hidden if hidden.is_control() || is_invisible(hidden) => {
                write(out, format_args!("\\u{:04x}", u32::from(hidden)));
            }
            plain => out.push(plain),
        }
    }
}

/// LogLine and paragraph separators, which some viewers break at, and marks that reverse or hide the text around them.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "\u{1b}[31m",
        Level::Warn => "\u{1b}[33m",
        Level::Info => "\u{1b}[32m",
        Level::Http => "\u{1b}[35m",
        Level::Debug => "\u{1b}[34m",
        Level::Verbose => "\u{1b}[90m",
    }
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
