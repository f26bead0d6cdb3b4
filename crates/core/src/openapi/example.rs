//! An example of a schema, made of the examples that its parts state.

use serde_json::{Map, Value, json};

/// How deep a schema is followed: recursive ones end here.
const DEEPEST: usize = 8;

/// A value of `schema`, whose references lead into `root`; `null` where nothing can be made up.
pub(super) fn of(root: &Value, schema: &Value) -> Value {
    make(root, schema, 0)
}

fn make(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    let stated =
        schema.pointer("/examples/0").or_else(|| schema.get("const")).or_else(|| schema.pointer("/enum/0"));
    if let Some(stated) = stated {
        return stated.clone();
    }
    if let Some(target) =
        schema.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?))
    {
        return make(root, target, depth + 1);
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        return default.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.pointer(&format!("/{choice}/0")) {
            return make(root, first, depth + 1);
        }
    }
    let name = schema.get("type").and_then(|name| name.as_str().or_else(|| name.pointer("/0")?.as_str()));
    match name {
        Some("object") => object(root, schema, depth),
        Some("array") => schema.get("items").map_or(json!([]), |items| json!([make(root, items, depth + 1)])),
        Some("string") => text(schema),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(0)),
        Some("boolean") => json!(true),
        _ => Value::Null,
    }
}

fn object(root: &Value, schema: &Value, depth: usize) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields = properties.into_iter().flatten();
    fields.map(|(name, field)| (name.clone(), make(root, field, depth + 1))).collect::<Map<_, _>>().into()
}

fn text(schema: &Value) -> Value {
    match schema.get("format").and_then(Value::as_str) {
        Some("uuid") => json!("0190163d-8694-739b-aea5-966c26f8ad91"),
        Some("date-time") => json!("2026-02-03T04:05:06Z"),
        Some("date") => json!("2026-02-03"),
        _ => json!("text"),
    }
}
