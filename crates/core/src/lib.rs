//! The core infrastructure layer of a multitenant ERP: it knows no feature.
//!
//! Imports run one way, top to bottom of this list; `tests/it/architecture.rs` refuses one that runs back.

pub mod shared;

pub mod error;

pub mod shares;

pub mod lifecycle;

pub mod config;

pub mod logging;

pub mod metrics;

pub mod redis;

pub mod crypto;

pub mod auth;

pub mod db;

pub mod limits;

pub mod outbound;

pub mod files;

pub mod cache;

pub mod mail;

pub mod assets;

pub mod app;

pub mod extract;

pub mod stream;

pub mod answer;

pub mod resource;

pub mod jobs;

pub mod events;

pub mod webhooks;

pub mod module;

pub mod imports;

pub mod encryption;

pub mod usage;

pub mod platform_log;

pub mod audit;

mod worker;

pub mod mailer;

pub mod middleware;

pub mod openapi;

pub mod health;

pub mod static_files;

pub mod stored_files;

pub mod subjects;

pub mod factory;

pub mod server;

pub mod bootstrap;
