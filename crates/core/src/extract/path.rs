use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use schemars::JsonSchema;

use super::SchemaOf;
use crate::app::App;
use crate::error::{Error, codes};
use crate::shared::{Id, IdKind, Int};

/// The parameters of a route's path: the one of `/items/{id}` as `Path<Id<Item>>`, those of `/orders/{order}/lines/{line}`
/// as `Path<(Id<Order>, Id<Line>)>`, in their order.
///
/// Text that is no such value is answered like an unknown one: 404 (T-16). A route whose path has another number of
/// parameters is refused at the start.
pub struct Path<T>(pub T);

/// One parameter of a path.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a parameter that a path can have",
    note = "take `Id<…>`, an integer or `String`; a type of your own implements `FromStr`, `JsonSchema` and `Segment`"
)]
pub trait Segment: FromStr + JsonSchema + Send {}

impl<K: IdKind> Segment for Id<K> {}
impl Segment for String {}
impl<const MIN: i64, const MAX: i64> Segment for Int<MIN, MAX> {}
macro_rules! whole_numbers {
    ($($type:ty),+) => { $(impl Segment for $type {})+ };
}
whole_numbers!(i16, i32, i64, u16, u32, u64, usize);

/// All parameters of a path: one [`Segment`], or a tuple of up to four.
pub trait PathValues: Sized {
    /// Their schemas, in the order of the path.
    const SCHEMAS: &'static [SchemaOf];

    /// Reads as many texts as there are [`SCHEMAS`](Self::SCHEMAS); `None` if one is no such value.
    fn read(texts: &[String]) -> Option<Self>;
}

impl<T: Segment> PathValues for T {
    const SCHEMAS: &'static [SchemaOf] = &[T::json_schema];

    fn read(texts: &[String]) -> Option<Self> {
        texts.first()?.parse().ok()
    }
}

macro_rules! path_values {
    ($($value:ident = $index:literal),+) => {
        impl<$($value: Segment),+> PathValues for ($($value,)+) {
            const SCHEMAS: &'static [SchemaOf] = &[$($value::json_schema),+];

            fn read(texts: &[String]) -> Option<Self> {
                Some(($(texts.get($index)?.parse::<$value>().ok()?,)+))
            }
        }
    };
}
path_values!(A = 0, B = 1);
path_values!(A = 0, B = 1, C = 2);
path_values!(A = 0, B = 1, C = 2, D = 3);

/// The values of a path's parameters, put into the request by the chain.
#[derive(Clone)]
pub(crate) struct PathParams(pub(crate) Vec<String>);

impl<T: PathValues> FromRequestParts<App> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let params = parts.extensions.get::<PathParams>();
        let value = params.and_then(|params| T::read(&params.0));
        value.map(Path).ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }
}
