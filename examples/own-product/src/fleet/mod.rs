//! The fleet: the vehicles that a tenant rents out.

use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, Tagged};
use erp_core::shared::{Id, Text, Version};
use erp_core::{input, list, record, sql};
use jiff::Timestamp;

/// The fleet module.
pub static MODULE: Module = Module {
    name: "fleet",
    about: "The vehicles that a tenant rents out.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    // When it was released first, all migrations stood in one list, and this was the ninth.
    migrations: erp_core::migrations!["0001_vehicles" was ["0009_vehicles"]],
    samples: erp_core::samples!["vehicles"],
    demo: &[
        "insert into vehicles (id, plate) values (gen_random_uuid(), 'B-CD 123'), (gen_random_uuid(), 'M-AX 7')",
    ],
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the fleet.
    pub PERMISSIONS {
        READ = "fleet.vehicle.read" to [Owner, Member, ReadOnly]: "List and read vehicles.";
        WRITE = "fleet.vehicle.write" to [Owner]: "Add vehicles.";
    }
}

erp_core::error_codes! {
    /// The codes of the fleet.
    pub ERRORS in codes {
        PLATE_TAKEN = "fleet.plate_taken", 409, "Plate already in use", on vehicles [vehicles_plate_key];
            "Another vehicle of this tenant has the same plate.";
            "Correct the plate.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/vehicles", Access::Permission(&READ), list)
        .doc(Operation::new("listVehicles", "List vehicles"))
        .post("/api/v1/vehicles", Access::Permission(&WRITE), create)
        .doc(Operation::new("createVehicle", "Add a vehicle"))
        .get("/api/v1/vehicles/{id}", Access::Permission(&READ), read)
        .doc(Operation::new("readVehicle", "Read a vehicle"))
}

record! {
    /// A vehicle, as it is stored and answered.
    pub Vehicle in "vehicles" as "vehicle" {
        id: Id<Vehicle>,
        plate: String,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST.
    NewVehicle {
        plate: Text<1, 20>,
    }
}

list! {
    /// Vehicles by plate.
    Vehicles of Vehicle from "vehicles" sorted [plate]
}

const READ_ONE: &str = sql!["select ", Vehicle::COLUMNS, " from vehicles where id = $1"];
const CREATE: &str = sql![
    "insert into vehicles (id, ",
    NewVehicle::COLUMNS,
    ") values ($1, ",
    NewVehicle::VALUES,
    ") returning ",
    Vehicle::COLUMNS
];

async fn list(call: Call, page: Page<Vehicles>) -> Result<Listed<Vehicles>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewVehicle>) -> Result<Created<Vehicle>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Vehicle>>) -> Result<Tagged<Vehicle>> {
    call.read(READ_ONE, id).await
}
