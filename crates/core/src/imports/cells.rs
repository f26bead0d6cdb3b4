//! What the cells of a row stand for: by the columns of the file, and by the schema of what a row is read as.

use std::collections::BTreeSet;

use bytes::BytesMut;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::codes::import_codes;
use super::rows::not_utf_8;
use crate::error::{Error, Result};
use crate::stream::{CsvLine, FORMULA};

/// Columns that a file of rejected rows has before its own, so that it can be corrected and imported again.
pub(super) const OF_REJECTIONS: [&str; 2] = ["row", "errors"];

/// The cells of one row.
pub(super) struct CsvRecord(pub(super) Vec<String>);

impl CsvRecord {
    pub(super) fn new(cells: &[u8], ends: &[usize]) -> Result<Self> {
        let text = std::str::from_utf8(cells).map_err(|_| not_utf_8())?;
        let mut begin = 0;
        let cell = |end: &usize| {
            let cell = text.get(begin..*end).map(str::to_owned);
            begin = *end;
            cell.ok_or_else(not_utf_8)
        };
        ends.iter().map(cell).collect::<Result<Vec<_>>>().map(Self)
    }

    /// Spreadsheets leave such rows at the end.
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|cell| cell.trim().is_empty())
    }

    /// The row as a line of CSV, without its end.
    pub(super) fn line(&self) -> String {
        line_of(&self.0)
    }
}

/// Cells as a line of CSV, without its end.
pub(super) fn line_of(cells: &[String]) -> String {
    let mut out = BytesMut::new();
    let mut line = CsvLine::new(&mut out);
    cells.iter().for_each(|cell| _ = line.text(undefused(cell)));
    String::from_utf8_lossy(&out).into_owned()
}

/// The columns of a file.
pub(super) struct Columns {
    names: Vec<String>,
    /// Where the value of each belongs; nowhere for one that is passed over.
    places: Vec<Option<Place>>,
}

/// A value of the JSON that a row stands for.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    /// `credit`, `amount`
    path: Vec<String>,
    kind: CellKind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum CellKind {
    Text,
    Number,
    Boolean,
}

impl Columns {
    /// Those of a header, for rows that are read as a `T`.
    pub(super) fn of<T: JsonSchema>(names: Vec<String>, ignored: &[String]) -> Result<Self> {
        let known = places::<T>();
        let name_of = |place: &Place| place.path.join(".");
        let place = |name: &String| known.iter().find(|place| name_of(place) == name.trim()).cloned();
        let places: Vec<_> = names.iter().map(place).collect();
        let passed = |name: &str| ignored.iter().any(|one| one == name) || OF_REJECTIONS.contains(&name);
        let unknown: Vec<&str> = names
            .iter()
            .zip(&places)
            .filter(|(name, place)| place.is_none() && !passed(name.trim()))
            .map(|(name, _)| name.trim())
            .collect();
        let mut seen = BTreeSet::new();
        let twice: Vec<_> = names
            .iter()
            .zip(&places)
            .filter(|(name, place)| place.is_some() && !seen.insert(name.trim()))
            .map(|(name, _)| name.trim())
            .collect();
        let all: Vec<_> = known.iter().map(name_of).collect();
        let refuse = |what: &str, which: &[&str]| {
            let which: String = which.join("', '").chars().take(200).collect();
            let detail = format!("The file {what} '{which}'. A row has these columns: {}.", all.join(", "));
            Err(Error::new(&import_codes::COLUMNS).detail(detail))
        };
        if !unknown.is_empty() {
            return refuse("has columns that a row does not have:", &unknown);
        }
        if !twice.is_empty() {
            return refuse("has columns twice:", &twice);
        }
        let missing: Vec<_> = required::<T>();
        let missing: Vec<&str> = missing
            .iter()
            .map(String::as_str)
            .filter(|name| !places.iter().flatten().any(|place| place.path[0] == *name))
            .collect();
        if !missing.is_empty() {
            return refuse("lacks the columns", &missing);
        }
        Ok(Self { names, places })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The JSON that a row stands for. An empty cell is left out.
    pub(super) fn json(&self, CsvRecord(cells): &CsvRecord) -> Result<Vec<u8>> {
        let mut object = Map::new();
        for (cell, place) in cells.iter().zip(&self.places) {
            let (Some(place), false) = (place, cell.is_empty()) else { continue };
            let [parents @ .., last] = place.path.as_slice() else { continue };
            let mut inner = &mut object;
            for parent in parents {
                let next = inner.entry(parent.as_str()).or_insert_with(|| Value::Object(Map::new()));
                inner = next
                    .as_object_mut()
                    .ok_or_else(|| Error::internal("a column is both a value and an object"))?;
            }
            inner.insert(last.clone(), place.kind.value(undefused(cell)));
        }
        serde_json::to_vec(&object).map_err(Error::internal)
    }
}

impl CellKind {
    /// What cannot be read as what it should be stays a text, and is refused as one.
    fn value(self, cell: &str) -> Value {
        let text = || Value::from(cell);
        match self {
            Self::Text => text(),
            Self::Number => cell.trim().parse().map_or_else(|_| text(), Value::Number),
            Self::Boolean => match cell.trim().to_ascii_lowercase().as_str() {
                "true" => true.into(),
                "false" => false.into(),
                _ => text(),
            },
        }
    }
}

/// An export writes a `'` before what a spreadsheet would take for a formula: see [`CsvLine::text`].
fn undefused(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(FORMULA)).unwrap_or(cell)
}

/// The values of what a row is read as, those within objects too.
fn places<T: JsonSchema>() -> Vec<Place> {
    let mut found = Vec::new();
    collect(&schema::<T>(), &mut Vec::new(), &mut found);
    found
}

fn required<T: JsonSchema>() -> Vec<String> {
    let schema = schema::<T>();
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn schema<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Place>) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        path.push(name.clone());
        let alternatives =
            ["anyOf", "oneOf"].iter().filter_map(|key| property.get(key)?.as_array()).flatten();
        let whole = std::iter::once(property).chain(alternatives);
        match whole.clone().find(|one| one.get("properties").is_some()) {
            Some(object) => collect(object, path, found),
            None => found.push(Place { path: path.clone(), kind: kind(&whole) }),
        }
        path.pop();
    }
}

fn kind<'a>(alternatives: &(impl Iterator<Item = &'a Value> + Clone)) -> CellKind {
    let is = |wanted: &str| {
        alternatives.clone().filter_map(|one| one.get("type")).any(|kind| match kind {
            Value::Array(kinds) => kinds.iter().any(|kind| kind == wanted),
            kind => kind == wanted,
        })
    };
    match () {
        () if is("string") => CellKind::Text,
        () if is("integer") || is("number") => CellKind::Number,
        () if is("boolean") => CellKind::Boolean,
        () => CellKind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input;
    use crate::shared::{Int, Money, Text};

    input! {
        Article {
            name: Text<1, 20>,
            #[serde(default)]
            quantity: Int<0>,
            hidden: Option<bool>,
            price: Option<Money<0>>,
        }
    }

    fn columns(header: &str) -> Result<Columns> {
        Columns::of::<Article>(header.split(',').map(str::to_owned).collect(), &["id".to_owned()])
    }

    #[test]
    fn cells_are_what_the_schema_says() {
        let columns = columns("id,price.amount,hidden,name,quantity,price.currency").unwrap();
        let json = |cells: &[&str]| {
            let record = CsvRecord(cells.iter().map(|cell| (*cell).to_owned()).collect());
            String::from_utf8(columns.json(&record).unwrap()).unwrap()
        };
        assert_eq!(
            json(&["x", "1.50", "TRUE", "'+49", "7", "CHF"]),
            r#"{"hidden":true,"name":"+49","price":{"amount":"1.50","currency":"CHF"},"quantity":7}"#
        );
        assert_eq!(
            json(&["", "", "no", "12", "seven", ""]),
            r#"{"hidden":"no","name":"12","quantity":"seven"}"#
        );
        assert_eq!(json(&["only"]), "{}");
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_by_name() {
        for (header, says) in [
            ("name,colour", "'colour'"),
            ("name,name", "columns twice: 'name'"),
            ("quantity", "lacks the columns 'name'"),
            ("name;quantity", "'name;quantity'"),
        ] {
            let error = columns(header).map(drop).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("price.amount"), "{error}");
        }
        assert!(columns("row,errors,name").is_ok());
    }
}
