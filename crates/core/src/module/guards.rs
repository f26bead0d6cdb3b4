//! Which fields of a route want a permission of their own: what the schemas of its body, its query and its answers say.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Module, Route};
use crate::answer::{Content, Outputs};
use crate::auth::{EACH, GuardedField, GuardedFields, Permission, PermissionTable};
use crate::error::{Error, Result};
use crate::extract::SchemaOf;

/// What a field's schema says: `#[schemars(extend("x-permission" = COST.name))]`.
pub(crate) const MARK: &str = "x-permission";
/// How deep a schema is followed: a recursive one ends here.
const DEEPEST: usize = 16;

impl Route {
    /// Its guarded fields, where it has some. They are looked for at its first request.
    ///
    /// # Errors
    /// `core.internal` for a permission that no module declares.
    pub(crate) fn find_fields(&self, permissions: &PermissionTable) -> Result<GuardedFields> {
        let mut outputs = Outputs::default();
        (self.outputs)(&mut outputs);
        let inputs = self.inputs();
        let find = FieldSearch { permissions };
        let mut fields = GuardedFields::default();
        for answer in outputs.answers {
            if let Content::Json(schema) = answer.content {
                fields.answered.extend(find.among(schema, false)?);
            }
        }
        if let Some(body) = inputs.body {
            fields.written = find.among(body, true)?;
        }
        if let Some(query) = inputs.query {
            fields.asked = find.among(query, true)?;
        }
        // What is concealed of a record is nothing to narrow or order its list by.
        let of_records =
            fields.answered.iter().filter(|field| field.path.len() == 3 && field.path[1] == EACH);
        let by_name = of_records.map(|field| GuardedField { path: vec![field.path[2].clone()], ..*field });
        let by_name: Vec<GuardedField> = by_name.collect();
        fields.asked.extend(by_name);
        Ok(fields)
    }
}

/// The routes of `modules` with a field that wants a permission which none of them declares: nobody could be answered. For a
/// product's own tests.
pub fn undeclared_field_permissions(modules: &[&'static Module]) -> Vec<String> {
    let table = PermissionTable::new(modules.iter().flat_map(|module| module.permissions).copied());
    let routes = modules.iter().flat_map(|module| (module.routes)().of(module.name));
    let tell = |route: Route| {
        let error = route.find_fields(&table).err()?;
        let why = error.cause().map(ToString::to_string).unwrap_or_default();
        Some(format!("{} {} of '{}': {why}", route.method, route.path, route.module))
    };
    routes.filter_map(tell).collect()
}

/// The fields of all answers of these modules that want a permission of their own.
///
/// # Errors
/// As [`Route::find_fields`].
pub(crate) fn guarded_fields(
    modules: &[&'static Module],
    permissions: &PermissionTable,
) -> Result<Vec<GuardedField>> {
    let mut found = Vec::new();
    for route in modules.iter().flat_map(|module| (module.routes)().of(module.name)) {
        found.extend(route.find_fields(permissions)?.answered);
    }
    Ok(found)
}

/// The permissions that a type wants for its fields, whatever they are.
///
/// # Errors
/// As [`Route::find_fields`].
pub(crate) fn permissions_of(
    schema: SchemaOf,
    permissions: &PermissionTable,
) -> Result<Vec<&'static Permission>> {
    let fields = FieldSearch { permissions }.among(schema, true)?;
    Ok(fields.into_iter().map(|field| field.permission).collect())
}

struct FieldSearch<'a> {
    permissions: &'a PermissionTable,
}

impl FieldSearch<'_> {
    fn among(&self, schema: SchemaOf, read: bool) -> Result<Vec<GuardedField>> {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut generator: SchemaGenerator =
            if read { settings.into_generator() } else { settings.for_serialize().into_generator() };
        let mut found = Vec::new();
        self.collect(schema(&mut generator).as_value(), &mut Vec::new(), &mut found)?;
        Ok(found)
    }

    fn collect(&self, schema: &Value, path: &mut Vec<String>, found: &mut Vec<GuardedField>) -> Result<()> {
        if let Some(name) = schema.get(MARK).and_then(Value::as_str) {
            let permission = self.permissions.find(name);
            let permission = permission.ok_or_else(|| {
                Error::internal(format!(
                    "'{}' wants the permission '{name}', which no module declares",
                    path.join(".")
                ))
            })?;
            found.push(GuardedField { path: path.clone(), permission });
            return Ok(());
        }
        if path.len() >= DEEPEST {
            return Ok(());
        }
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let elements = ["items", "additionalProperties"].iter().filter_map(|key| schema.get(*key));
        let parts =
            properties.map(|(name, part)| (name.as_str(), part)).chain(elements.map(|part| (EACH, part)));
        for (name, part) in parts {
            path.push(name.to_owned());
            self.collect(part, path, found)?;
            path.pop();
        }
        for choice in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(choice).and_then(Value::as_array).into_iter().flatten() {
                self.collect(part, path, found)?;
            }
        }
        Ok(())
    }
}
