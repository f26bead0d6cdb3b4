//! The catalogue: items with a stock keeping unit, unique within their tenant.
//! This module is the example to follow (`docs/guides/add-a-module.md`): tables first, then one handler after the other.

mod imports;
mod quota;

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Contains, Id, Identifier, Int, Text, Version};
use erp_core::{input, list, patch, record, sql};
use imports::{IMPORT, IMPORTS, import};
use jiff::Timestamp;

/// The catalogue module.
pub static MODULE: Module = Module {
    name: "catalog",
    about: "Items with a stock keeping unit, unique within their tenant.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    jobs: &[&IMPORT.job],
    files: &[&IMPORT.file, &IMPORT.rejections],
    flags: &[&IMPORTS],
    meters: &[&quota::ITEMS],
    migrations: erp_core::migrations![
        "0001_items" was ["0004_catalog"],
        "0002_item_rules" was ["0008_catalog_rules"],
        "0003_items_counted",
    ],
    samples: erp_core::samples!["items"],
    demo: &[
        "insert into items (id, sku, name, quantity) values (gen_random_uuid(), 'BOLT-M8', 'Bolt M8', 1200), \
         (gen_random_uuid(), 'NUT-M8', 'Nut M8', 1150), (gen_random_uuid(), 'WASHER-8', 'Washer 8 mm', 4000)",
    ],
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the catalogue.
    pub PERMISSIONS {
        READ = "catalog.item.read" to [Owner, Member, ReadOnly]: "List and read items.";
        WRITE = "catalog.item.write" to [Owner, Member]: "Create, change and delete items.";
    }
}

erp_core::error_codes! {
    /// The codes of the catalogue.
    pub ERRORS in codes {
        SKU_TAKEN = "catalog.sku_taken", 409, "SKU already in use", on items [items_sku_key, items_sku_folded_key];
            "Another item of this tenant has the same sku, or one that differs in case or width only.";
            "Choose another sku, or change the item that has it.";
        QUANTITY_TOO_LARGE = "catalog.quantity_too_large", 409, "Quantity too large", on items [items_quantity_exact];
            "The quantity of an item would be larger than 9007199254740991.";
            "Correct the quantity of the item, or receive less.";
    }
}

fn routes() -> Routes {
    let may = Access::Permission;
    Routes::new()
        .get("/api/v1/items", may(&READ), list)
        .doc(Operation::new("listItems", "List items"))
        .post("/api/v1/items", may(&WRITE), create)
        .doc(Operation::new("createItem", "Create an item"))
        .post("/api/v1/items/imports", may(&WRITE), import)
        .doc(Operation::new("importItems", "Import items from CSV or NDJSON"))
        .uploads(&IMPORT.file)
        .get("/api/v1/items/{id}", may(&READ), read)
        .doc(Operation::new("readItem", "Read an item"))
        .put("/api/v1/items/{id}", may(&WRITE), replace)
        .doc(Operation::new("replaceItem", "Replace an item"))
        .patch("/api/v1/items/{id}", may(&WRITE), change)
        .doc(Operation::new("changeItem", "Change a part of an item"))
        .delete("/api/v1/items/{id}", may(&WRITE), delete)
        .doc(Operation::new("deleteItem", "Delete an item"))
}

type Sku = Identifier<1, 64>;
type Name = Text<1, 200>;
type Description = Text<0, 2000>;
type Quantity = Int<0>;

// The item of the examples.
const SKU: &str = "BOLT-M8";
const NAME: &str = "Hexagon bolt M8";
const DESCRIPTION: &str = "ISO 4017, zinc-plated, 40 mm";
const QUANTITY: i64 = 250;

record! {
    /// An item, as it is stored and answered.
    pub Item in "items" as "item" {
        id: Id<Item>,
        /// The stock keeping unit: unique within the tenant, in any case (`bolt-m8` is `BOLT-M8`).
        #[schemars(example = SKU)]
        sku: String,
        #[schemars(example = NAME)]
        name: String,
        #[schemars(example = DESCRIPTION)]
        description: Option<String>,
        #[schemars(example = QUANTITY)]
        quantity: Quantity,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST and PUT.
    NewItem {
        /// The stock keeping unit: unique within the tenant, in any case (`bolt-m8` is `BOLT-M8`).
        #[schemars(example = SKU)]
        sku: Sku,
        #[schemars(example = NAME)]
        name: Name,
        #[schemars(example = DESCRIPTION)]
        description: Option<Description>,
        #[serde(default)]
        #[schemars(example = QUANTITY)]
        quantity: Quantity,
    }
}

patch! {
    /// The body of PATCH (RFC 7396): absent keeps, `null` clears.
    ItemPatch {
        #[schemars(example = SKU)]
        sku: Sku,
        #[schemars(example = NAME)]
        name: Name,
        #[schemars(example = DESCRIPTION)]
        description: Option<Description>,
        #[schemars(example = QUANTITY)]
        quantity: Quantity,
    }
}

input! {
    /// What a list of items can be narrowed to.
    Search {
        /// Part of a name or a sku, in any case.
        q: Option<Contains<200>>,
    }
}

list! {
    /// Items, the newest first.
    Items of Item by Search
    from "items" where "$1::text is null or name collate app.search ilike $1 or sku collate app.search ilike $1"
    sorted [-created_at, name, sku]
}

const READ_ITEM: &str = sql!["select ", Item::COLUMNS, " from items where id = $1"];
const CREATE: &str = sql![
    "insert into items (id, ",
    NewItem::COLUMNS,
    ") values ($1, ",
    NewItem::VALUES,
    ") returning ",
    Item::COLUMNS
];
const REPLACE: &str = sql!["update items set ", NewItem::SET, " where ", THIS, " returning ", Item::COLUMNS];
const CHANGE: &str = sql!["update items set ", ItemPatch::SET, " where ", THIS, " returning ", Item::COLUMNS];
const DELETE: &str = sql!["delete from items where ", THIS, " returning id"];

async fn list(call: Call, page: Page<Items>) -> Result<Listed<Items>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewItem>) -> Result<Created<Item>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Item>>) -> Result<Tagged<Item>> {
    call.read(READ_ITEM, id).await
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Item>>,
    when: IfMatch,
    Json(new): Json<NewItem>,
) -> Result<Tagged<Item>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn change(
    call: Call,
    Path(id): Path<Id<Item>>,
    when: IfMatch,
    Json(patch): Json<ItemPatch>,
) -> Result<Tagged<Item>> {
    call.change(CHANGE, id, when, &patch.values()).await
}

async fn delete(call: Call, Path(id): Path<Id<Item>>, when: IfMatch) -> Result<NoContent> {
    call.remove(DELETE, id, when).await
}

/// What other modules do with items, in transactions of their own.
pub mod facade {
    use erp_core::db::TenantTx;
    use erp_core::error::Result;
    use erp_core::shared::Id;

    pub use super::{Item, codes::QUANTITY_TOO_LARGE};

    /// Items are locked in the order of their ids, so that two who receive the same ones never wait for each other.
    const RECEIVE: &str = "with received as (select id, sum(quantity) as quantity from unnest($1::uuid[], $2::bigint[]) \
        as r (id, quantity) group by id), \
        locked as (select id from items where id in (select id from received) order by id for no key update) \
        update items i set quantity = i.quantity + r.quantity from received r join locked using (id) where i.id = r.id";

    /// Raises the quantities of `items`, each by its one of `quantities`; an item may occur several times.
    ///
    /// # Errors
    /// `catalog.quantity_too_large`, or as the database answers.
    pub async fn receive(tx: &mut TenantTx<'_>, items: &[Id<Item>], quantities: &[i64]) -> Result<()> {
        tx.rows::<()>(RECEIVE, &[&items, &quantities]).await.map(|_| ())
    }
}
