//! The isolation proof.
