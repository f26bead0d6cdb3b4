//! What one value without its members can violate: type, choice, bounds, length, characters, format.

use regex_lite::Regex;
use serde_json::{Number, Value};

use crate::error::ViolationParams;
use crate::shared::{Currency, Day, Days, Form, is_decimal, normalise};

/// The largest whole number up to which a float is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong with a value: a code, a sentence without a subject, and what the sentence holds.
pub(super) struct ScalarFault {
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) params: ViolationParams,
}

impl ScalarFault {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), params: ViolationParams::default() }
    }

    fn with(mut self, params: ViolationParams) -> Self {
        self.params = params;
        self
    }
}

/// The first fault of `value`.
pub(super) fn fault(schema: &Value, value: &Value) -> Option<ScalarFault> {
    if *schema == Value::Bool(false) {
        return Some(ScalarFault::new("unknown", "is not allowed"));
    }
    if let Some(wrong) = wrong_type(schema, value) {
        return Some(wrong);
    }
    let allowed = schema.get("enum").and_then(Value::as_array).cloned();
    let allowed = allowed.or_else(|| schema.get("const").map(|only| vec![only.clone()]));
    if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
        let words: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let fault = ScalarFault::new("unknown", format!("one of {} is expected", words.join(", ")));
        return Some(fault.with(ViolationParams { allowed, ..ViolationParams::default() }));
    }
    match value {
        Value::String(text) => of_text(schema, text),
        Value::Number(number) => of_number(schema, number),
        _ => None,
    }
}

fn wrong_type(schema: &Value, value: &Value) -> Option<ScalarFault> {
    let names: Vec<&str> = match schema.get("type")? {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    if names.iter().any(|name| is(name, value)) {
        return None;
    }
    // A whole number that no integer of ours holds comes as a float.
    let large = value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() >= EXACT);
    if large && names.contains(&"integer") {
        return Some(out_of_range(schema));
    }
    let expected = names.iter().copied().map(str::to_owned).collect();
    let fault = ScalarFault::new("type", format!("{} is expected", names.join(" or ")));
    Some(fault.with(ViolationParams { expected, ..ViolationParams::default() }))
}

fn out_of_range(schema: &Value) -> ScalarFault {
    let bound = |name| schema.get(name).and_then(Value::as_number).cloned();
    ScalarFault::new("range", format!("is out of range; {} allowed", bounds(schema)))
        .with(ViolationParams::span(bound("minimum"), bound("maximum"), None))
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // Stricter than JSON Schema, as serde is: an integer is written as one, not as 1.0 or 1e3.
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    }
}

fn of_text(schema: &Value, text: &str) -> Option<ScalarFault> {
    let bound = |name| schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let (least, most) = (bound("minLength"), bound("maxLength"));
    let (_, [sent, kept]) = normalise(text);
    let outside = |length| length > most.unwrap_or(usize::MAX) || kept < least.unwrap_or(0);
    if let Some(length) = [sent, kept].into_iter().find(|&length| outside(length)) {
        let fault =
            ScalarFault::new("length", format!("has {length} characters; {} allowed", span(least, most)));
        let [least, most] = [least, most].map(|bound| bound.map(Number::from));
        return Some(fault.with(ViolationParams::span(least, most, Some(length))));
    }
    let format = schema.get("format").and_then(Value::as_str);
    if let Some(refusal) = format.and_then(Form::named).and_then(|form| form.refuses(text)) {
        return Some(ScalarFault::new("character", refusal));
    }
    if let Some(refused) = of_format(format, text) {
        return Some(refused);
    }
    let pattern = schema.get("pattern").and_then(Value::as_str);
    if pattern.and_then(|pattern| Regex::new(pattern).ok()).is_some_and(|pattern| !pattern.is_match(text)) {
        return Some(match text.chars().find(|c| c.is_control()) {
            Some(bad) => ScalarFault::new(
                "character",
                format!("contains the control character U+{:04X}", u32::from(bad)),
            ),
            None => ScalarFault::new("invalid", "does not have the expected form"),
        });
    }
    None
}

/// What is wrong with a text whose schema names its `format`.
fn of_format(format: Option<&str>, text: &str) -> Option<ScalarFault> {
    let format = format?;
    let well_formed = match format {
        "uuid" => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "currency" => Currency::parse(text).is_ok(),
        "decimal" => is_decimal(text),
        _ => true,
    };
    if !well_formed {
        let fault = ScalarFault::new("invalid", format!("a {format} is expected"));
        return Some(
            fault.with(ViolationParams { expected: vec![format.to_owned()], ..ViolationParams::default() }),
        );
    }
    match format {
        "date" => Day::parse(text).err().map(|why| ScalarFault::new("range", why)),
        "date-interval" => Days::parse(text).err().map(|why| ScalarFault::new("invalid", why)),
        _ => None,
    }
}

fn of_number(schema: &Value, number: &Number) -> Option<ScalarFault> {
    let bound = |name| schema.get(name).and_then(Value::as_number);
    let below = bound("minimum").is_some_and(|least| less(number, least));
    let above = bound("maximum").is_some_and(|most| less(most, number));
    (below || above).then(|| out_of_range(schema))
}

/// Integers are compared as such: a float would make neighbours of large ones equal.
fn less(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

fn bounds(schema: &Value) -> String {
    span(schema.get("minimum"), schema.get("maximum"))
}

/// `1 to 9 are`, `at least 1 is`, `at most 9 is`.
pub(super) fn span(least: Option<impl ToString>, most: Option<impl ToString>) -> String {
    match (least.map(|bound| bound.to_string()), most.map(|bound| bound.to_string())) {
        (Some(least), Some(most)) => format!("{least} to {most} are"),
        (Some(least), None) => format!("at least {least} is"),
        (None, Some(most)) => format!("at most {most} is"),
        (None, None) => "other values are".to_owned(),
    }
}

/// The value that a query's text stands for, by the parameter's schema; what is no such value stays text.
pub(super) fn from_text(schema: Option<&Value>, text: String) -> Value {
    let types = schema.and_then(|schema| schema.get("type"));
    let wants = |name: &str| match types {
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        Some(one) => one == name,
        None => false,
    };
    let number = if wants("integer") {
        let small = text.parse::<i64>().ok().map(Number::from);
        small.or_else(|| text.parse::<u64>().ok().map(Number::from)).or_else(|| whole(&text))
    } else if wants("number") {
        text.parse::<f64>().ok().and_then(Number::from_f64)
    } else {
        None
    };
    match (number, text.parse::<bool>()) {
        (Some(number), _) => Value::Number(number),
        (None, Ok(truth)) if wants("boolean") => Value::Bool(truth),
        _ => Value::String(text),
    }
}

/// A whole number too large for an integer, as a float, so that it is out of range and not of another type.
fn whole(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| text.parse().ok()).flatten().and_then(Number::from_f64)
}
