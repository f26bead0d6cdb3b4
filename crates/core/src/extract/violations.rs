//! Everything that is wrong with a value, by the schema of the type that it should be.
//!
//! serde is the gate and stops at the first fault; this walks on, and is asked only when serde has refused. Constraints
//! are stated once, in the type: what serde refuses and what the schema says come from the same constants.

mod scalar;
#[cfg(test)]
mod tests;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Number, Value};

use crate::error::{Violation, ViolationParams};
use crate::shared::Money;
use scalar::ScalarFault;

/// How many violations one answer holds.
const MOST: usize = 100;
/// How deep a value is followed.
const DEEPEST: usize = 64;
/// The longest pointer or text that is told back, in characters.
const LONGEST: usize = 300;

/// The violations of a body, each with its JSON pointer.
pub(super) fn of_body<T: JsonSchema>(body: &Value) -> Vec<Violation> {
    let root = schema_of::<T>();
    of_value(root.as_value(), root.as_value(), body)
}

/// The violations of a value, by a schema whose references lead into `root`: for tests of what is answered.
pub fn of_value(root: &Value, schema: &Value, value: &Value) -> Vec<Violation> {
    let mut walk = Walk { root, found: Vec::new() };
    walk.value(schema, value, "", 0);
    walk.found
}

/// The violations of a query, each with `?` and the parameter's name.
pub(super) fn of_query<'q, T: JsonSchema>(
    pairs: impl Iterator<Item = (std::borrow::Cow<'q, str>, std::borrow::Cow<'q, str>)>,
) -> Vec<Violation> {
    let root = schema_of::<T>();
    let mut walk = Walk { root: root.as_value(), found: Vec::new() };
    let mut query = Map::new();
    for (name, text) in pairs {
        let property = root.as_value().pointer("/properties").and_then(|known| known.get(&*name));
        let value = scalar::from_text(property.map(|schema| walk.resolve(schema)), text.into_owned());
        if query.insert(name.clone().into_owned(), value).is_some() {
            walk.report(
                &child("", &name),
                "duplicate",
                "is given more than once",
                ViolationParams::default(),
            );
        }
    }
    walk.value(root.as_value(), &Value::Object(query), "", 0);
    let parameter = |pointer: &str| format!("?{}", pointer.trim_start_matches('/'));
    let found = walk.found.into_iter();
    found.map(|violation| Violation { pointer: parameter(&violation.pointer), ..violation }).collect()
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

/// `text`, if it is of a bearable length; else its beginning.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The pointer to a member of what `pointer` points to (RFC 6901).
fn child(pointer: &str, name: &str) -> String {
    cut(&format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")))
}

struct Walk<'root> {
    root: &'root Value,
    found: Vec<Violation>,
}

impl Walk<'_> {
    fn report(
        &mut self,
        pointer: &str,
        code: &'static str,
        detail: impl Into<String>,
        params: ViolationParams,
    ) {
        if self.found.len() < MOST {
            self.found.push(Violation { params, ..Violation::new(pointer, code, detail) });
        }
    }

    /// The schema that a reference leads to.
    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        target.and_then(|path| self.root.pointer(path)).unwrap_or(schema)
    }

    fn value(&mut self, schema: &Value, value: &Value, pointer: &str, depth: usize) {
        if depth > DEEPEST || self.found.len() >= MOST {
            return;
        }
        let root = self.root;
        let schema = Walk { root, found: Vec::new() }.resolve(schema).clone();
        for one in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(one, value, pointer, depth + 1);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(choice).and_then(Value::as_array) {
                self.choice(branches, value, pointer, depth);
            }
        }
        if let Some(ScalarFault { code, detail, params }) = scalar::fault(&schema, value) {
            return self.report(pointer, code, detail, params);
        }
        match value {
            Value::Object(fields) => self.object(&schema, fields, pointer, depth),
            Value::Array(items) => self.array(&schema, items, pointer, depth),
            _ => {}
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, pointer: &str, depth: usize) {
        let before = self.found.len();
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for (name, value) in fields {
            match (known.get(name), schema.get("additionalProperties")) {
                (Some(property), _) => self.value(property, value, &child(pointer, name), depth + 1),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    let detail = format!("known are: {}", names.join(", "));
                    let allowed = names.into_iter().map(Value::from).collect();
                    self.report(
                        &child(pointer, name),
                        "unknown",
                        detail,
                        ViolationParams { allowed, ..ViolationParams::default() },
                    );
                }
                (None, Some(others)) => self.value(others, value, &child(pointer, name), depth + 1),
                (None, None) => {}
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
            self.report(&child(pointer, name), "missing", "is required", ViolationParams::default());
        }
        // What an amount may be depends on its currency, which no other word of the schema says.
        if self.found.len() == before && schema.get("format").is_some_and(|format| format == "money") {
            let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            if let Err(fault) = Money::<0>::parse(text("amount").trim_start_matches('-'), text("currency")) {
                self.found.push(Violation::of_money(child(pointer, "amount"), fault));
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], pointer: &str, depth: usize) {
        let bound = |name| schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(usize::MAX));
        if !(least..=most).contains(&items.len()) {
            let (min, max) = (bound("minItems"), bound("maxItems"));
            let detail = format!("has {} elements; {} allowed", items.len(), scalar::span(min, max));
            let params =
                ViolationParams::span(min.map(Number::from), max.map(Number::from), Some(items.len()));
            self.report(pointer, "length", detail, params);
        }
        let Some(of) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(of, item, &child(pointer, &index.to_string()), depth + 1);
        }
    }

    /// Of the branches that do not fit, the one that fits best says what is wrong.
    fn choice(&mut self, branches: &[Value], value: &Value, pointer: &str, depth: usize) {
        let words: Vec<String> =
            branches.iter().filter_map(|one| Some(one.get("const")?.to_string())).collect();
        if words.len() == branches.len() {
            if !words.contains(&value.to_string()) {
                let allowed = branches.iter().filter_map(|one| one.get("const").cloned()).collect();
                let detail = format!("one of {} is expected", words.join(", "));
                self.report(
                    pointer,
                    "unknown",
                    detail,
                    ViolationParams { allowed, ..ViolationParams::default() },
                );
            }
            return;
        }
        let found = branches.iter().map(|branch| {
            let mut walk = Walk { root: self.root, found: Vec::new() };
            walk.value(branch, value, pointer, depth + 1);
            walk.found
        });
        // A branch of another type has one violation only, and says least.
        let best = found.min_by_key(|found| {
            let other = found.iter().any(|one| one.code == "type" && one.pointer == pointer);
            (other, found.len())
        });
        self.found.extend(best.unwrap_or_default());
        self.found.truncate(MOST);
    }
}
