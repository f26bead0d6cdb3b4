use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// One kind of event: a row of its module's table, with payloads of the type `P`.
///
/// ```
/// use erp_core::error::Result;
/// use erp_core::events::EventKind;
/// use erp_core::module::Module;
/// use erp_core::resource::Call;
/// use erp_core::shared::{Id, IdKind};
///
/// enum Invoice {}
/// impl IdKind for Invoice {
///     const NAME: &'static str = "invoice";
/// }
///
/// /// An invoice was paid.
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct InvoicePaid {
///     number: String,
/// }
///
/// static PAID: EventKind<InvoicePaid> = EventKind::new("billing.invoice_paid", "An invoice was paid in full.");
///
/// static BILLING: Module = Module { name: "billing", events: &[&PAID], ..Module::BARE };
///
/// async fn pay(call: Call, id: Id<Invoice>, number: String) -> Result<()> {
///     let mut tx = call.tenant();
///     call.emit(&mut tx, &PAID, id, &InvoicePaid { number })?;
///     tx.commit().await
/// }
/// ```
pub struct EventKind<P: 'static> {
    facts: EventFacts,
    payload: PhantomData<fn(P)>,
}

/// What the table says of a kind of event, whatever its payload is.
#[derive(Debug, Clone, Copy)]
pub struct EventFacts {
    /// `module.what_has_happened`, and `@2` where the payload has another form than before: who reads the former one is not
    /// told of this one.
    pub name: &'static str,
    /// A sentence on what has happened, for the reference and for those who subscribe.
    pub about: &'static str,
}

impl<P> EventKind<P> {
    /// A kind. `name` is `module.what_has_happened`, in the past tense.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self { facts: EventFacts { name, about }, payload: PhantomData }
    }
}

/// A kind of event, whatever the type of its payload.
pub trait AnyEventKind: Sync {
    /// What the table says of it.
    fn facts(&self) -> &EventFacts;

    /// The schema of its payload, JSON Schema 2020-12.
    fn schema(&self) -> Schema;
}

impl<P: JsonSchema + 'static> AnyEventKind for EventKind<P> {
    fn facts(&self) -> &EventFacts {
        &self.facts
    }

    fn schema(&self) -> Schema {
        SchemaGenerator::default().into_root_schema_for::<P>()
    }
}
