//! Fields of bodies and answers that want a permission of their own.
//!
//! Without it a field is absent from every answer, as JSON, NDJSON and CSV, and nobody sorts or filters by it or writes it. Which
//! fields these are a type says in its schema (`module::guards` reads it): a handler knows nothing of it, and cannot forget it.

use std::fmt;

use serde_json::Value;
use tokio::sync::OnceCell;

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

/// The columns of all records that want a permission, for those who show rows of the audit log. They are looked for when somebody asks
/// first.
pub struct GuardedColumns {
    find: FindFields,
    found: OnceCell<Vec<GuardedField>>,
}

type FindFields = Box<dyn Fn() -> Result<Vec<GuardedField>, Error> + Send + Sync>;

/// Columns that somebody must not see.
#[derive(Debug)]
pub struct ConcealedColumns<'a>(Vec<&'a GuardedField>);

impl GuardedColumns {
    pub(crate) fn new(find: impl Fn() -> Result<Vec<GuardedField>, Error> + Send + Sync + 'static) -> Self {
        Self { find: Box::new(find), found: OnceCell::new() }
    }

    /// Those that `caller` must not see.
    ///
    /// # Errors
    /// `core.internal` for a permission that no module declares.
    pub async fn concealed_from(&self, caller: &Caller) -> Result<ConcealedColumns<'_>, Error> {
        let found = self.found.get_or_try_init(async || (self.find)()).await?;
        Ok(ConcealedColumns(found.iter().filter(|field| !caller.may(field.permission)).collect()))
    }
}

impl fmt::Debug for GuardedColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedColumns").field("found", &self.found).finish_non_exhaustive()
    }
}

impl ConcealedColumns<'_> {
    /// Refuses what cannot be answered without telling of such a column: a search by a text, or the bytes of an entry.
    ///
    /// # Errors
    /// `core.forbidden`.
    pub fn refuse(&self, pointer: &str) -> Result<(), Error> {
        self.0.first().map_or(Ok(()), |field| Err(refused(field, pointer.to_owned())))
    }

    /// Leaves them out of a row, however deep they stand: a column is known by its name alone, whatever it is of. What is kept of an
    /// amount, `price_amount` and `price_currency`, goes with `price`.
    pub fn leave_out(&self, row: &mut Value) {
        match row {
            Value::Object(columns) if !self.0.is_empty() => {
                columns.retain(|name, _| !self.0.iter().any(|field| is_of(name, field)));
                columns.values_mut().for_each(|value| self.leave_out(value));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.leave_out(value)),
            _ => {}
        }
    }
}

/// Whether a column is that of a field, as its name is written in the database or in answers.
fn is_of(column: &str, field: &GuardedField) -> bool {
    let name = field.path.iter().rfind(|part| *part != EACH).map(String::as_str).unwrap_or_default();
    let mut in_database = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            in_database.push('_');
        }
        in_database.push(letter.to_ascii_lowercase());
    }
    [name, &in_database]
        .iter()
        .filter_map(|name| column.strip_prefix(*name))
        .any(|rest| rest.is_empty() || rest.starts_with('_'))
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
    fn a_column_is_known_by_the_name_of_its_field() {
        static COST: Permission =
            Permission { name: "stock.cost.see", what: "See it.", roles: &[], owners_alone: false };
        let field = |name: &str| GuardedField {
            path: ["items", EACH, name, EACH].map(str::to_owned).into(),
            permission: &COST,
        };
        for (column, name, is_it) in [
            ("cost", "cost", true),
            ("cost_amount", "cost", true),
            ("unit_cost", "unitCost", true),
            ("unit_cost_currency", "unitCost", true),
            ("unitCost", "unitCost", true),
            ("costs", "cost", false),
            ("cos", "cost", false),
            ("unit", "unitCost", false),
            ("unit_code", "unitCost", false),
        ] {
            assert_eq!(is_of(column, &field(name)), is_it, "{column} of {name}");
        }
        let fields = [field("cost"), field("unitCost")];
        let mut row = json!({ "name": "A", "cost_amount": 1, "lines": [{ "unit_cost": { "personal": 2 }, "number": 3 }] });
        ConcealedColumns(fields.iter().collect()).leave_out(&mut row);
        assert_eq!(row, json!({ "name": "A", "lines": [{ "number": 3 }] }));
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
