//! What Kubernetes puts into every container for each Service of its namespace: for one named `metrics`,
//! `METRICS_PORT=tcp://10.96.0.7:9464` and its kin (Kubernetes, "Accessing the Service", environment variables).

use super::Origin;

/// Whether a variable with the name of a setting of ours is such a link, which says nothing about our settings.
pub(super) fn is_link(origin: Origin, name: &str, value: &str) -> bool {
    let scheme = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    origin == Origin::Environment && scheme && name.ends_with("_PORT")
}

/// Whether a variable is one of a link's family.
pub(super) fn is_of_a_link(origin: Origin, name: &str, value: &str) -> bool {
    let after_port = name.rsplit_once("_PORT_").map_or("", |(_, rest)| rest);
    let numbered = after_port.starts_with(|first: char| first.is_ascii_digit());
    is_link(origin, name, value)
        || (origin == Origin::Environment
            && (name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || numbered))
}

/// What is said of a link in the place of a setting.
pub(super) fn warning(name: &str) -> String {
    let service = name.trim_end_matches("_PORT").to_ascii_lowercase().replace('_', "-");
    format!(
        "{name} is ignored: Kubernetes sets it for the Service \"{service}\". Set enableServiceLinks: false in the pod's \
         spec, or rename the Service"
    )
}
