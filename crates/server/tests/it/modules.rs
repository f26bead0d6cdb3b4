//! The modules' own tests over HTTP: `tests.rs` in the folder of a module, beside what it tests.
//!
//! This file is their list and nothing else: `script/new-module` adds a line.

use erp_testkit::Fixture;

/// What the sweeps send to the modules' routes where it does not follow from the contract: `FIXTURES` of their `tests.rs`.
pub(crate) const FIXTURES: &[&[Fixture]] = &[
    crate::purchasing::FIXTURES,
    crate::imports::FIXTURES,
    audit_trail::FIXTURES,
    jobs::FIXTURES,
    mails::FIXTURES,
    operators::FIXTURES,
    privacy::FIXTURES,
    tenants::FIXTURES,
    webhooks::FIXTURES,
];

#[path = "../../../modules/src/audit_trail/tests.rs"]
mod audit_trail;
#[path = "../../../modules/src/jobs/tests.rs"]
mod jobs;
#[path = "../../../modules/src/mails/tests.rs"]
mod mails;
#[path = "../../../modules/src/operators/tests.rs"]
mod operators;
#[path = "../../../modules/src/privacy/tests.rs"]
mod privacy;
#[path = "../../../modules/src/suppliers/tests.rs"]
mod suppliers;
#[path = "../../../modules/src/tenants/tests.rs"]
mod tenants;
#[path = "../../../modules/src/webhooks/tests.rs"]
mod webhooks;
