use std::borrow::Cow;
use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use http::request::Parts;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::list::{Sort, TYPES};
use super::{Listing, Values};
use crate::app::App;
use crate::crypto::SealFault;
use crate::db::{RowSealer, ToSql};
use crate::error::{Error, Result, codes};
use crate::extract::{Input, Inputs, MediaType, query};

/// The page of a list that a query asks for, in which order, and what it narrows the list to.
pub struct Page<L: Listing> {
    /// What the list is narrowed to.
    pub filter: L::Filter,
    pub(super) limit: Option<u16>,
    pub(super) cursor: Option<String>,
    pub(super) sort: Sort,
    pub(super) media_type: MediaType,
}

/// A list that cannot be narrowed.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unfiltered {}

impl Values for Unfiltered {
    const COUNT: usize = 0;
    const EQUAL: &'static str = "true";

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        Vec::new()
    }

    const SEALED: bool = false;

    fn seal(&self, _: &RowSealer<'_>) -> Result<(), SealFault> {
        Ok(())
    }
}

/// The parameters that all lists have.
const OWN: [&str; 3] = ["limit", "cursor", "sort"];

impl<L: Listing> FromRequestParts<App> for Page<L> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let text = parts.uri.query().unwrap_or_default();
        query::check_characters(text)?;
        let refused = || query::refusal::<PageQuery<L>>(text, None);
        let (own, others): (Vec<_>, Vec<_>) =
            form_urlencoded::parse(text.as_bytes()).partition(|(name, _)| OWN.contains(&name.as_ref()));
        let given = |wanted: &str| {
            let mut values = own.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_ref());
            let first = values.next();
            if values.next().is_some() { Err(refused()) } else { Ok(first) }
        };
        let limit = |text: &str| text.parse().ok().filter(|limit| (1..=L::MOST).contains(limit));
        let limit = given("limit")?.map(|text| limit(text).ok_or_else(refused)).transpose()?;
        let named = |text: &str| Sort::all::<L>().find(|sort| sort.name::<L>() == text).ok_or_else(refused);
        let sort = given("sort")?.map_or_else(|| Ok(Sort::default::<L>()), named)?;
        let cursor = given("cursor")?.map(str::to_owned);
        let rest = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
        let filter = query::read(&rest).map_err(|fault| query::refusal::<PageQuery<L>>(text, Some(fault)))?;
        let asked = parts.extensions.get::<MediaType>().copied();
        let json = MediaType(TYPES.first().copied().unwrap_or_default());
        Ok(Self { filter, limit, cursor, sort, media_type: asked.unwrap_or(json) })
    }
}

impl<L: Listing> Input for Page<L> {
    fn describe(inputs: &mut Inputs) {
        inputs.query = Some(PageQuery::<L>::json_schema);
        inputs.refusals.extend([&codes::INVALID, &codes::MALFORMED_CURSOR]);
    }
}

/// The whole query of a list: the filter's parameters and those that all lists have.
struct PageQuery<L>(PhantomData<L>);

impl<L: Listing> JsonSchema for PageQuery<L> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Query", <L::Record as JsonSchema>::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = L::Filter::json_schema(generator);
        let orders: Vec<String> = Sort::all::<L>().map(|sort| sort.name::<L>()).collect();
        let own = [
            json!({
                "type": "integer", "minimum": 1, "maximum": L::MOST, "default": L::LIMIT,
                "description": format!("How many {} a page has at most.", <L::Record as super::InTable>::TABLE.replace('_', " ")),
            }),
            json!({ "type": "string", "description": "`nextCursor` of the page before, unchanged." }),
            json!({
                "type": "string", "enum": orders, "default": Sort::default::<L>().name::<L>(),
                "description": "The order; `-` is for descending.",
            }),
        ];
        let properties = schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            properties.extend(OWN.map(str::to_owned).into_iter().zip(own));
        }
        schema
    }
}
