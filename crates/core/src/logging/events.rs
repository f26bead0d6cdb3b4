//! Events that are more than a level: for the security desk, the auditor's log shipper and the business.

use std::fmt;

/// How bad a security event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth counting: one failed sign-in.
    Low,
    /// Worth a look: many of them.
    Medium,
    /// Somebody should look today: a tenant mismatch.
    High,
    /// Somebody should look now: isolation or keys are at stake.
    Critical,
}

impl Severity {
    /// `LOW`, `MEDIUM`, `HIGH` or `CRITICAL`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Logs a security event: level warn, target `security`, field `severity`. It is written whatever `LOG_LEVEL` says.
///
/// ```
/// use erp_core::{logging::Severity, security_event};
/// security_event!(Severity::High, "Tenant mismatch", action = "select_tenant", attempts = 3);
/// ```
#[macro_export]
macro_rules! security_event {
    ($severity:expr, $message:literal $(, $($fields:tt)*)?) => {
        $crate::logging::__tracing::warn!(
            target: "security",
            { severity = $crate::logging::Severity::as_str($severity), $($($fields)*)? },
            $message
        )
    };
}

/// Logs who did what to what: level info, target `audit`, fields `action` and `resource`. The audit *trail*, which cannot
/// be lost or changed, is in the database: `TenantTx::audit`.
///
/// ```
/// use erp_core::audit_event;
/// audit_event!("identity.signed_in", "user", "User signed in", method = "password");
/// ```
#[macro_export]
macro_rules! audit_event {
    ($action:expr, $resource:expr, $message:literal $(, $($fields:tt)*)?) => {
        $crate::logging::__tracing::info!(
            target: "audit",
            { action = $action, resource = $resource, $($($fields)*)? },
            $message
        )
    };
}

/// Logs what happened in the business: level info, target `business`, field `event`.
///
/// ```
/// use erp_core::business_event;
/// business_event!("order_placed", "Order placed", amount = 1500.0, currency = "EUR");
/// ```
#[macro_export]
macro_rules! business_event {
    ($event:expr, $message:literal $(, $($fields:tt)*)?) => {
        $crate::logging::__tracing::info!(
            target: "business",
            { event = $event, $($($fields)*)? },
            $message
        )
    };
}
