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

/// Logs a security event: level warn, target `security`, field `severity`.
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
