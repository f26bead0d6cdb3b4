//! Limits that instances share through Redis.
