//! Rentals: who has which vehicle.

use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, Tagged};
use erp_core::shared::{Id, Text, Version};
use erp_core::{input, list, record, sql};
use jiff::Timestamp;

use crate::fleet::Vehicle;

/// The rentals module.
pub static MODULE: Module = Module {
    name: "rentals",
    about: "Who has which vehicle.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    migrations: erp_core::migrations!["0001_rentals" was ["0010_rentals"] after ["fleet/0001_vehicles"]],
    samples: erp_core::samples!["rentals"],
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of rentals.
    pub PERMISSIONS {
        READ = "rentals.rental.read" to [Owner, Member, ReadOnly]: "List and read rentals.";
        WRITE = "rentals.rental.write" to [Owner, Member]: "Hand out vehicles.";
    }
}

erp_core::error_codes! {
    /// The codes of rentals.
    pub ERRORS in codes {
        NO_SUCH_VEHICLE = "rentals.no_such_vehicle", 422, "No such vehicle",
            on rentals [rentals_vehicle_fkey at "/vehicleId"];
            "The tenant has no vehicle of that id.";
            "Name one of its vehicles.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/rentals", Access::Permission(&READ), list)
        .doc(Operation::new("listRentals", "List rentals"))
        .post("/api/v1/rentals", Access::Permission(&WRITE), create)
        .doc(Operation::new("createRental", "Hand out a vehicle"))
        .get("/api/v1/rentals/{id}", Access::Permission(&READ), read)
        .doc(Operation::new("readRental", "Read a rental"))
}

record! {
    /// A rental, as it is stored and answered.
    Rental in "rentals" as "rental" {
        id: Id<Rental>,
        vehicle_id: Id<Vehicle>,
        customer: String,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST.
    NewRental {
        vehicle_id: Id<Vehicle>,
        customer: Text<1, 200>,
    }
}

list! {
    /// Rentals, the newest first.
    Rentals of Rental from "rentals" sorted [-created_at]
}

const READ_ONE: &str = sql!["select ", Rental::COLUMNS, " from rentals where id = $1"];
const CREATE: &str = sql![
    "insert into rentals (id, ",
    NewRental::COLUMNS,
    ") values ($1, ",
    NewRental::VALUES,
    ") returning ",
    Rental::COLUMNS
];

async fn list(call: Call, page: Page<Rentals>) -> Result<Listed<Rentals>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewRental>) -> Result<Created<Rental>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Rental>>) -> Result<Tagged<Rental>> {
    call.read(READ_ONE, id).await
}
