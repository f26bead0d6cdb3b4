//! Purchase orders: a document with lines, from its draft to the receipt of the goods.
//!
//! This module is the example of a document (`docs/guides/a-document-module.md`): it has a number, lines, and states that
//! people move it through. `catalog` is the example of a plain resource.

mod notices;
mod quotes;

use erp_core::auth::Permission;
use erp_core::db::{Params, RetentionDuty};
use erp_core::error::{Error, Result, Violation, codes as invalid};
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Method, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, Tagged, WithLines};
use erp_core::shared::{Id, Int, List, Money, PrincipalId, Version};
use erp_core::{answer::Refusing, input, list, record, sql, states};
use jiff::Timestamp;

use notices::{ORDER_APPROVED, ORDER_PLACED, OrderApproved, TELL_SUPPLIER};
use quotes::QUOTE;

use crate::catalog::facade::{self as items, Item, QUANTITY_TOO_LARGE};
use crate::suppliers::facade::Supplier;

/// The purchasing module.
pub static MODULE: Module = Module {
    name: "purchasing",
    about: "Purchase orders: drafted, approved by somebody else, received into the catalogue's quantities.",
    uses: &["catalog", "suppliers"],
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    events: &[&ORDER_APPROVED],
    subscribers: &[&TELL_SUPPLIER],
    mails: &[&ORDER_PLACED],
    files: &[&QUOTE],
    system: notices::SYSTEM,
    migrations: erp_core::migrations![
        "0001_purchase_orders" after ["catalog/0001_items", "suppliers/0001_suppliers"],
        "0002_quotes",
    ],
    states: &[Status::STATES],
    samples: erp_core::samples!["purchase_orders", "purchase_order_lines"],
    duties: &[VOUCHERS],
    ..Module::BARE
};

/// What books are kept by: name and account of the supplier stand on it.
const VOUCHERS: RetentionDuty = RetentionDuty {
    name: "purchasing.vouchers",
    kind: "supplier",
    law: "vouchers are kept for ten years (such as § 147 AO in Germany)",
    holds: "exists (select from public.purchase_orders o where o.supplier_id = $1 and o.created_at > now() - interval '10 years')",
};

erp_core::permissions! {
    /// The permissions of purchasing.
    pub PERMISSIONS {
        READ = "purchasing.order.read" to [Owner, Member, ReadOnly]: "List and read purchase orders.";
        WRITE = "purchasing.order.write" to [Owner, Member]: "Create, revise and cancel purchase orders.";
        APPROVE = "purchasing.order.approve" to [Owner]: "Approve purchase orders that others have written.";
        RECEIVE = "purchasing.order.receive" to [Owner, Member]: "Receive what was ordered.";
    }
}

erp_core::error_codes! {
    /// The codes of purchasing.
    pub ERRORS in codes {
        NO_SUPPLIER = "purchasing.no_supplier", 422, "No such supplier",
            on purchase_orders [purchase_orders_supplier_id_fkey at "/supplierId"];
            "There is no supplier of this id.";
            "Name one that there is.";
        NO_ITEM = "purchasing.no_item", 422, "No such item",
            on purchase_order_lines [purchase_order_lines_item_id_fkey at "/lines/*/itemId"];
            "There is no item of this id.";
            "Name one that there is, in the line that 'errors' points at.";
    }
}

states! {
    /// What becomes of a purchase order.
    Status of Order {
        Draft = "draft", Approved = "approved", Received = "received", Cancelled = "cancelled";
        REVISION = "revised": [Draft] to Draft may WRITE;
        APPROVAL = "approved": [Draft] to Approved may APPROVE unlike [created_by, revised_by];
        RECEIPT = "received": [Approved] to Received may RECEIVE;
        CANCELLATION = "cancelled": [Draft, Approved] to Cancelled may WRITE;
    }
}

const fn may(permission: &'static Permission) -> Access {
    Access::Permission(permission)
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/purchase-orders", may(&READ), list)
        .doc(Operation::new("listPurchaseOrders", "List purchase orders"))
        .post("/api/v1/purchase-orders", may(&WRITE), create)
        .doc(Operation::new("createPurchaseOrder", "Create a purchase order"))
        .get("/api/v1/purchase-orders/{id}", may(&READ), read)
        .doc(Operation::new("readPurchaseOrder", "Read a purchase order with its lines"))
        .transition(Method::PUT, "/api/v1/purchase-orders/{id}", &REVISION, revise)
        .doc(Operation::new("revisePurchaseOrder", "Replace a draft and its lines"))
        .transition(Method::POST, "/api/v1/purchase-orders/{id}/approve", &APPROVAL, approve)
        .doc(Operation::new("approvePurchaseOrder", "Approve a purchase order"))
        .transition(Method::POST, "/api/v1/purchase-orders/{id}/receive", &RECEIPT, receive)
        .doc(Operation::new("receivePurchaseOrder", "Receive what was ordered, into the items' quantities"))
        .transition(Method::POST, "/api/v1/purchase-orders/{id}/cancel", &CANCELLATION, cancel)
        .doc(Operation::new("cancelPurchaseOrder", "Cancel a purchase order"))
        .put("/api/v1/purchase-orders/{id}/quote", may(&WRITE), quotes::set)
        .doc(Operation::new(
            "setQuote",
            "Keep what the supplier has offered, in place of what was kept before",
        ))
        .uploads(&QUOTE)
        .get("/api/v1/purchase-orders/{id}/quote", may(&READ), quotes::read)
        .doc(Operation::new("readQuote", "Read what the supplier has offered"))
}

type Pieces = Int<1, 1_000_000_000>;

// The order of the examples.
const NUMBER: &str = "PO-2026-00001";
const SUPPLIER: &str = "Bolt & Co";
const QUANTITY: i64 = 500;

record! {
    /// A purchase order.
    pub Order in "purchase_orders" as "purchase_order" {
        id: Id<Order>,
        /// Without gaps in each year.
        #[schemars(example = NUMBER)]
        number: String,
        status: Status,
        supplier_id: Id<Supplier>,
        /// The supplier's name.
        #[schemars(example = SUPPLIER)]
        supplier: String,
        /// What its lines cost together.
        total: Money<0>,
        /// How often its lines have been replaced, and one more.
        revision: i32,
        /// Who took which step.
        created_by: PrincipalId,
        revised_by: Option<PrincipalId>,
        approved_by: Option<PrincipalId>,
        received_by: Option<PrincipalId>,
        cancelled_by: Option<PrincipalId>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

record! {
    /// A line of a purchase order.
    pub Line in "purchase_order_lines" {
        position: Int<1, 200>,
        item_id: Id<Item>,
        #[schemars(example = QUANTITY)]
        quantity: Pieces,
        /// What one piece costs; all lines have one currency.
        unit_price: Money<0>,
    }
}

input! {
    /// The body of POST and PUT.
    NewOrder {
        supplier_id: Id<Supplier>;
        lines: List<NewLine, 1, 200>,
    }
}

input! {
    /// A line of it.
    NewLine {
        item_id: Id<Item>,
        #[schemars(example = QUANTITY)]
        quantity: Pieces,
        /// What one piece costs; all lines have one currency.
        unit_price: Money<0>,
    }
}

input! {
    /// What a list of purchase orders can be narrowed to.
    Search {
        status: Option<Status>,
        supplier_id: Option<Id<Supplier>>,
    }
}

list! {
    /// Purchase orders, the newest first.
    Orders of Order by Search from ORDERS sorted [-created_at, number]
}

/// Orders with their suppliers' names; in a statement that begins `with purchase_orders as (update …)`, those that it changed.
const ORDERS: &str =
    "(select o.*, s.name as supplier from purchase_orders o join suppliers s on s.id = o.supplier_id) o";
const ORDER: &str = sql!["select ", Order::COLUMNS, " from ", ORDERS];
const LINES: &str = sql!["select ", Line::COLUMNS, " from purchase_order_lines where order_id = $1"];
/// An order with its lines, a row for each; in a statement that begins `with purchase_order_lines as (…)`, the new ones.
const WITH_LINES: &str = sql![
    "select ",
    Order::COLUMNS,
    ", ",
    Line::COLUMNS,
    " from ",
    ORDERS,
    " join purchase_order_lines l on l.order_id = o.id where o.id = $1 order by position"
];
const CREATE: &str = sql![
    "with purchase_orders as (insert into purchase_orders \
     (id, supplier_id, number, created_by, total_minor, total_currency) \
     values ($1, $2, app.document_number('PO', $3), $4, $5, $6) returning *), \
     purchase_order_lines as (insert into purchase_order_lines (",
    NewLine::COLUMNS,
    ", position, order_id) \
     select l.*, $1 from unnest($7::uuid[], $8::bigint[], $9::bigint[], $10::text[]) with ordinality l returning *) ",
    WITH_LINES
];
const REVISE: &str = sql![
    "with purchase_orders as (update purchase_orders set ",
    REVISION.set,
    ", supplier_id = $4, total_minor = $5, total_currency = $6, revision = revision + 1 where ",
    REVISION.when,
    " returning *) ",
    ORDER
];
/// Lines of the same position are changed, so that the audit log tells of those only that differ.
const REPLACE_LINES: &str = sql![
    "with gone as (delete from purchase_order_lines where order_id = $1 and position > cardinality($2::uuid[])), \
     purchase_order_lines as (insert into purchase_order_lines (",
    NewLine::COLUMNS,
    ", position, order_id) \
     select l.*, $1 from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::text[]) with ordinality l \
     on conflict (tenant_id, order_id, position) do update set item_id = excluded.item_id, quantity = excluded.quantity, \
     unit_price_minor = excluded.unit_price_minor, unit_price_currency = excluded.unit_price_currency returning *) ",
    WITH_LINES
];
const APPROVE_ORDER: &str = sql!["with purchase_orders as (", APPROVAL.update, ") ", ORDER];
const RECEIVE_ORDER: &str = sql!["with purchase_orders as (", RECEIPT.update, ") ", ORDER];
const CANCEL_ORDER: &str = sql!["with purchase_orders as (", CANCELLATION.update, ") ", ORDER];
const ITEMS: &str = "select id from items where id = any ($1)";

async fn list(call: Call, page: Page<Orders>) -> Result<Listed<Orders>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewOrder>) -> Result<Created<WithLines<Order, Line>>> {
    let (author, year, total) = (call.caller.user()?, call.year(), total(&new.lines)?);
    let head: Params<'_> = &[&new.supplier_id, &year, &author, &total.minor(), &total.currency()];
    match call.create_with_lines(CREATE, head, &new.lines).await {
        Err(error) => Err(call.locate(error, ITEMS, &items_of(&new.lines)).await),
        made => made,
    }
}

async fn read(call: Call, Path(id): Path<Id<Order>>) -> Result<Tagged<WithLines<Order, Line>>> {
    call.read_with_lines(WITH_LINES, id).await
}

/// Locks the order before its lines are replaced: two who revise it at the same time do it one after the other.
async fn revise(
    call: Call,
    Path(id): Path<Id<Order>>,
    when: IfMatch,
    Json(new): Json<NewOrder>,
) -> Result<Tagged<WithLines<Order, Line>>> {
    let total = total(&new.lines)?;
    let head: Params<'_> = &[&new.supplier_id, &total.minor(), &total.currency()];
    let (tx, _) = call.advancing::<Order>(&REVISION, REVISE, id, when, head).await?;
    match tx.replace_lines(REPLACE_LINES, id, &new.lines).await {
        Err(error) => Err(call.locate(error, ITEMS, &items_of(&new.lines)).await),
        revised => revised,
    }
}

/// The event is told with the approval, or not at all.
async fn approve(call: Call, Path(id): Path<Id<Order>>, when: IfMatch) -> Result<Tagged<Order>> {
    let (mut tx, order) = call.advancing::<Order>(&APPROVAL, APPROVE_ORDER, id, when, &[]).await?;
    call.emit(&mut tx, &ORDER_APPROVED, id, &OrderApproved::of(&order))?;
    tx.commit().await?;
    Ok(Tagged(order))
}

/// Locks the order, then its items in the order of their ids.
async fn receive(
    call: Call,
    Path(id): Path<Id<Order>>,
    when: IfMatch,
) -> Result<Tagged<Order>, Refusing<QUANTITY_TOO_LARGE>> {
    let (mut tx, order) = call.advancing(&RECEIPT, RECEIVE_ORDER, id, when, &[]).await?;
    let lines: Vec<Line> = tx.rows(LINES, &[&id]).await?;
    let (ids, quantities): (Vec<_>, Vec<_>) =
        lines.iter().map(|line| (line.item_id, line.quantity.get())).unzip();
    items::receive(&mut tx, &ids, &quantities).await?;
    tx.commit().await?;
    Ok(Tagged(order))
}

async fn cancel(call: Call, Path(id): Path<Id<Order>>, when: IfMatch) -> Result<Tagged<Order>> {
    call.advance(&CANCELLATION, CANCEL_ORDER, id, when).await
}

fn items_of(lines: &[NewLine]) -> Vec<Id<Item>> {
    lines.iter().map(|line| line.item_id).collect()
}

/// What the lines cost together. All of them have the currency of the first.
fn total(lines: &[NewLine]) -> Result<Money<0>> {
    let mut total: Option<Money<0>> = None;
    for (index, line) in lines.iter().enumerate() {
        let cost = line.unit_price.times(line.quantity);
        let sum = cost.and_then(|cost| total.map_or(Ok(cost), |total| total.checked_add(cost)));
        let refused = |fault| Violation::of_money(format!("/lines/{index}/unitPrice"), fault);
        total = Some(sum.map_err(|fault| Error::new(&invalid::INVALID).violation(refused(fault)))?);
    }
    total.ok_or_else(|| Error::internal("an order without lines"))
}
