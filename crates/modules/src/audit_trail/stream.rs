//! A tenant's own stream of its audit log, to the receiver that it has set.

use erp_core::audit;
use erp_core::auth::{SettingValue, TenantSetting};
use erp_core::config::StreamUrl;
use erp_core::error::Result;
use erp_core::jobs::{Job, JobKind, Schedule};
use serde_json::Value;

use super::{SET_STREAM, STREAMING};

/// Ports below 1024 that a tenant's receiver may have: those of syslog.
const SYSLOG_PORTS: [u16; 2] = [601, 6514];

/// Where rows go; none: nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamReceiver(Option<StreamUrl>);

impl SettingValue for StreamReceiver {
    const KIND: &'static str = "syslogs://host:port or ocsfs://host:port, or an empty text";

    fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = StreamUrl::read(text).ok_or_else(|| format!("is not {}", Self::KIND))?;
        if !url.tls {
            return Err("is not encrypted: a tenant's rows leave over TLS only".to_owned());
        }
        if url.port < 1024 && !SYSLOG_PORTS.contains(&url.port) {
            return Err("names a port that is another service's".to_owned());
        }
        Ok(Self(Some(url)))
    }

    fn to_json(&self) -> Value {
        self.0.as_ref().map(ToString::to_string).unwrap_or_default().into()
    }

    fn fallback() -> Self {
        Self(None)
    }
}

/// Where a tenant's rows go.
pub(super) static RECEIVER: TenantSetting<StreamReceiver> = TenantSetting::new(
    "audit_trail.stream_url",
    "",
    "Where rows of the tenant's audit log are streamed to (SIEM): a public host, over TLS; each row comes at least once, with an id.",
    &SET_STREAM,
);

/// Sends what is new, in a tenant that has a receiver.
pub(super) static SEND: JobKind<()> = JobKind::<()>::new(
    "audit_trail.stream",
    "Streams what is new in the audit log to the receiver that the tenant has set.",
    |job, ()| Box::pin(send(job)),
)
.system(&STREAMING);

pub(super) static EVERY_FIVE_MINUTES: Schedule = Schedule::for_each_tenant(
    "audit_trail.own_streams",
    "Streams what is new in audit logs to the receivers that tenants have set.",
    "2-57/5 * * * *",
    &SEND,
    &(),
);

async fn send(job: &Job) -> Result<()> {
    let caller = &job.call.caller;
    let StreamReceiver(Some(url)) = caller.entitlements().setting(&RECEIVER) else { return Ok(()) };
    let rows =
        audit::stream_own((&job.call.app, caller.trace()), job.system()?, caller.tenant(), &url).await?;
    job.result(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_receiver_is_encrypted_and_no_other_service() {
        assert_eq!(StreamReceiver::parse("").unwrap(), StreamReceiver(None));
        for good in
            ["syslogs://logs.example.com", "ocsfs://logs.example.com:9000", "syslogs://logs.example.com:601"]
        {
            assert!(StreamReceiver::parse(good).is_ok(), "{good}");
        }
        for wrong in [
            "syslog://logs.example.com",
            "ocsfs://logs.example.com:25",
            "https://logs.example.com",
            "syslogs://u:p@logs.example.com",
        ] {
            assert!(StreamReceiver::parse(wrong).is_err(), "{wrong}");
        }
    }
}
