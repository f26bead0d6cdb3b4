//! The private PostgreSQL cluster of development and tests.
