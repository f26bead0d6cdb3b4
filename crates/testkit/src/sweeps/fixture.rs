use std::pin::Pin;

use erp_core::auth::Permission;
use erp_core::shared::UserId;
use serde_json::Value;

use super::{Sweep, Sweeps};
use crate::{Actor, TestApp};

/// What a test sends to one route so that it succeeds, and what has to be there before.
///
/// The routes of a resource need none: their requests follow from the contract, see [`Sweeps`]. A row is for a body that
/// names another resource's id, for a thing that must be in a certain state, and for a route that a sweep cannot take:
///
/// ```
/// use erp_testkit::{Fixture, Prepared, Setup, Sweep};
/// use serde_json::json;
///
/// pub(crate) const FIXTURES: &[Fixture] = &[
///     Fixture::new("POST /api/v1/orders", |setup| Box::pin(order(setup))),
///     Fixture::new("POST /api/v1/orders/{id}/receive", |setup| Box::pin(approved(setup))),
///     Fixture::derived("POST /api/v1/orders/{id}/print").except(&[(Sweep::Audit, "it changes nothing that is kept")]),
/// ];
///
/// async fn order(setup: &Setup<'_>) -> Prepared {
///     let item = setup.make("/api/v1/items").await;
///     Prepared::body(json!({ "note": format!("Order {}", setup.number()), "lines": [{ "itemId": item }] }))
/// }
///
/// /// Made by a colleague, and approved by somebody else.
/// async fn approved(setup: &Setup<'_>) -> Prepared {
///     let order = setup.make("/api/v1/orders").await;
///     setup.caller().post(&format!("/api/v1/orders/{order}/approve"), json!({})).await.assert(200);
///     Prepared::at([order])
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Fixture {
    /// Its method and path template: `POST /api/v1/orders/{id}/approve`.
    pub(super) route: &'static str,
    /// The status of success, where it is not what the contract says.
    pub(super) success: Option<u16>,
    pub(super) prepare: Option<Prepare>,
    /// The sweeps that pass it by, and why.
    pub(super) exempt: &'static [(Sweep, &'static str)],
}

type Prepare = for<'a> fn(&'a Setup<'a>) -> Preparing<'a>;

/// A boxed future: of an `async fn` by `Box::pin`.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Prepared> + 'a>>;

impl Fixture {
    /// Prepares the request of a route, such as `POST /api/v1/orders/{id}/approve`.
    pub const fn new(route: &'static str, prepare: Prepare) -> Self {
        Self { route, success: None, prepare: Some(prepare), exempt: &[] }
    }

    /// The request that follows from the contract, to say more about it.
    pub const fn derived(route: &'static str) -> Self {
        Self { route, success: None, prepare: None, exempt: &[] }
    }

    /// Another status of success than the first one of 2xx that the contract has.
    #[must_use]
    pub const fn answers(self, status: u16) -> Self {
        Self { success: Some(status), ..self }
    }

    /// Lets sweeps pass the route by, each with the reason.
    #[must_use]
    pub const fn except(self, exempt: &'static [(Sweep, &'static str)]) -> Self {
        Self { exempt, ..self }
    }
}

/// A request that can be sent now: what stands in its path, and its body.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The values of the path's parameters, in their order.
    pub values: Vec<String>,
    /// The body, for a route that reads one.
    pub body: Option<Value>,
    /// Who sends it and with which token, where that is not the sweep to choose.
    pub(super) sender: Option<(UserId, String)>,
}

impl Prepared {
    /// Of a path without parameters.
    pub fn body(body: Value) -> Self {
        Self { body: Some(body), ..Self::default() }
    }

    /// Of a path without parameters, for a route that takes a file: its text.
    pub fn file(text: &str) -> Self {
        Self::body(Value::from(text))
    }

    /// Of a path with these values, and without a body.
    pub fn at(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { values: values.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same, sent by this person with this token: for what wants a session of its sender's.
    #[must_use]
    pub fn sent_by(self, person: UserId, token: impl Into<String>) -> Self {
        Self { sender: Some((person, token.into())), ..self }
    }

    /// The same with a body.
    #[must_use]
    pub fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// Where a [`Fixture`] prepares its request: a tenant, who is going to send it, and another person of that tenant.
pub struct Setup<'a> {
    pub(super) sweeps: &'a Sweeps<'a>,
    pub(super) tenant: &'static str,
    pub(super) caller: Actor<'a>,
    pub(super) colleague: Actor<'a>,
}

impl<'a> Setup<'a> {
    /// The app.
    pub fn app(&self) -> &'a TestApp {
        self.sweeps.app
    }

    /// The tenant: `acme` or `globex`.
    pub fn tenant(&self) -> &'static str {
        self.tenant
    }

    /// An owner of the tenant, who also sends the request where it is made with right and an owner may.
    pub fn caller(&self) -> &Actor<'a> {
        &self.caller
    }

    /// Another owner of the tenant, for what may not be done by one and the same person.
    pub fn colleague(&self) -> &Actor<'a> {
        &self.colleague
    }

    /// Somebody new in the tenant, with these permissions and no others.
    pub async fn someone(&self, permissions: &[&Permission]) -> Actor<'a> {
        self.app().someone(self.tenant, permissions).await
    }

    /// A number that no other call returns, for what must be unique.
    pub fn number(&self) -> u32 {
        self.sweeps.number()
    }

    /// Lets the colleague make a thing by a POST to `collection`, as its own fixture or the contract says; its id.
    pub async fn make(&self, collection: &str) -> String {
        self.make_within(collection).await.pop().expect("what was made has an id")
    }

    /// The same in a collection whose path has parameters, `/api/v1/orders/{id}/lines`: the ids from the outermost in,
    /// which are the values of the path of what was made.
    pub async fn make_within(&self, collection: &str) -> Vec<String> {
        self.sweeps.make(collection, self).await
    }
}
