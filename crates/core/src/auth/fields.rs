//! Fields of bodies and answers that want a permission of their own.
//!
//! Without it a field is absent from every answer, as JSON, NDJSON and CSV, and nobody sorts or filters by it or writes it. Which
//! fields these are a type says in its schema (`module::guards` reads it): a handler knows nothing of it, and cannot forget it.

use serde_json::Value;

use super::{Caller, Permission};
use crate::error::{Error, Violation, codes};

/// Any element of a list, in the path of a field.
pub(crate) const EACH: &str = "*";

/// A field, and the permission that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuardedField {
    /// The names that lead to it: `items`, `*`, `cost`.
    pub(crate) path: Vec<String>,
    pub(crate) permission: &'static Permission,
}

/// The guarded fields of a route: of its answers, of its body, and of its query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GuardedFields {
    pub(crate) answered: Vec<GuardedField>,
    pub(crate) written: Vec<GuardedField>,
    pub(crate) asked: Vec<GuardedField>,
}

impl GuardedFields {
    pub(crate) fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.written.is_empty() && self.asked.is_empty()
    }

    /// Whether something is to be left out of what `caller` is answered; a stranger has no permission at all.
    pub(crate) fn conceals(&self, caller: Option<&Caller>) -> bool {
        concealed(&self.answered, caller).next().is_some()
    }

    /// Leaves out of an answer what the caller must not see.
    pub(crate) fn conceal(&self, answer: &mut Value, caller: Option<&Caller>) {
        concealed(&self.answered, caller).for_each(|field| remove(answer, &field.path));
    }

    /// The fields of a listed record that the caller must not see.
    pub(crate) fn concealed_of_records<'a>(&'a self, caller: &'a Caller) -> Vec<&'a str> {
        let lacked = concealed(&self.answered, Some(caller));
        lacked
            .filter_map(|field| match field.path.as_slice() {
                [items, each, name] if items == "items" && each == EACH => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Refuses a body that writes what the caller may not: one that replaces a whole record always does.
    ///
    /// # Errors
    /// `core.forbidden`.
    pub(crate) fn check_written(&self, body: &[u8], replaces: bool, caller: &Caller) -> Result<(), Error> {
        let mut lacked = concealed(&self.written, Some(caller)).peekable();
        if lacked.peek().is_none() {
            return Ok(());
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Ok(()) }; // it is refused as what it is
        match lacked.find(|field| replaces || has(&body, &field.path)) {
            Some(field) => Err(refused(field, format!("/{}", field.path.join("/")))),
            None => Ok(()),
        }
    }

    /// Refuses a query that narrows or orders a list by what the caller must not see: what is left would tell it.
    ///
    /// # Errors
    /// `core.forbidden`.
    pub(crate) fn check_asked(&self, query: &str, caller: Option<&Caller>) -> Result<(), Error> {
        let lacked: Vec<_> = concealed(&self.asked, caller).collect();
        if lacked.is_empty() {
            return Ok(());
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_meant = |field: &&&GuardedField| {
                let field = field.path.first().map(String::as_str).unwrap_or_default();
                name == field || (name == "sort" && value.trim_start_matches('-') == field)
            };
            if let Some(field) = lacked.iter().find(is_meant) {
                return Err(refused(field, format!("?{name}")));
            }
        }
        Ok(())
    }
}

fn concealed<'a>(
    fields: &'a [GuardedField],
    caller: Option<&'a Caller>,
) -> impl Iterator<Item = &'a GuardedField> {
    fields.iter().filter(move |field| caller.is_none_or(|caller| !caller.may(field.permission)))
}

fn refused(field: &GuardedField, pointer: String) -> Error {
    let detail = "The field wants a permission of its own.";
    let violation = Violation::new(pointer, "forbidden", detail);
    Error::new(&codes::FORBIDDEN).detail(detail).violation(violation).needs(field.permission.name)
}

fn remove(value: &mut Value, path: &[String]) {
    match (path, value) {
        ([last], Value::Object(fields)) => _ = fields.remove(last),
        ([each, rest @ ..], Value::Array(elements)) if each == EACH => {
            elements.iter_mut().for_each(|element| remove(element, rest));
        }
        ([each, rest @ ..], Value::Object(fields)) if each == EACH => {
            fields.values_mut().for_each(|value| remove(value, rest));
        }
        ([name, rest @ ..], Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(name) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}

fn has(value: &Value, path: &[String]) -> bool {
    match (path, value) {
        ([], _) => true,
        ([each, rest @ ..], Value::Array(elements)) if each == EACH => {
            elements.iter().any(|element| has(element, rest))
        }
        ([each, rest @ ..], Value::Object(fields)) if each == EACH => {
            fields.values().any(|value| has(value, rest))
        }
        ([name, rest @ ..], Value::Object(fields)) => fields.get(name).is_some_and(|inner| has(inner, rest)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn a_field_is_removed_and_found_wherever_it_stands() {
        let whole = json!({
            "cost": 1, "sku": "A", "items": [{ "cost": 1, "b": { "cost": 2 } }, { "b": null }],
            "by": { "x": { "cost": 3 } },
        });
        for (at, left) in [
            ("cost", json!({ "sku": "A", "items": whole["items"], "by": whole["by"] })),
            ("items/*/cost", {
                let mut left = whole.clone();
                left["items"][0].as_object_mut().unwrap().remove("cost");
                left
            }),
            ("items/*/b/cost", {
                let mut left = whole.clone();
                left["items"][0]["b"] = json!({});
                left
            }),
            ("by/*/cost", {
                let mut left = whole.clone();
                left["by"]["x"] = json!({});
                left
            }),
        ] {
            let mut changed = whole.clone();
            remove(&mut changed, &path(at));
            assert_eq!(changed, left, "{at}");
            assert!(has(&whole, &path(at)) && !has(&changed, &path(at)), "{at}");
        }
        assert!(has(&json!({ "cost": null }), &path("cost")), "to clear it is to write it");
    }
}
