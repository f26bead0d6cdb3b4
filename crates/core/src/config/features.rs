//! Feature switches from the environment: `FEATURE_<NAME>=on|off|25%`.

use std::collections::BTreeMap;

/// One paragraph for the references.
pub(super) const DOC: &str = "A switch of the product's own, such as `FEATURE_NEW_LIST=25%`: on, off, or a share of a \
    hundred tenants, which a hash of the tenant picks. A feature without one is off. It comes from the environment or a \
    `.env` file and has no flag.";

/// What every switch's name starts with.
pub(super) const FEATURE: &str = "FEATURE_";

/// The switches that are set, by lower-case name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features(BTreeMap<String, Rollout>);

/// Who has a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// Everybody.
    On,
    /// Nobody.
    Off,
    /// This many of a hundred; who, is decided by a hash of the tenant.
    Percent(u8),
}

impl Features {
    /// Who has the feature; nobody when it is not set.
    pub fn rollout(&self, name: &str) -> Rollout {
        self.find(name).unwrap_or(Rollout::Off)
    }

    /// Who has the feature, where the deployment says so.
    pub fn find(&self, name: &str) -> Option<Rollout> {
        self.0.get(&name.to_ascii_lowercase()).copied()
    }

    /// Takes a switch unless a stronger source has set it; `false` when the text says nothing.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> bool {
        let Some(rollout) = parse(text) else { return false };
        self.0.entry(name.to_ascii_lowercase()).or_insert(rollout);
        true
    }
}

fn parse(text: &str) -> Option<Rollout> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" => Some(Rollout::On),
        "off" | "false" | "" => Some(Rollout::Off),
        share => {
            share.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100).map(Rollout::Percent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_off_or_a_share() {
        let mut features = Features::default();
        assert!(
            features.add("NEW_LIST", "25%") && features.add("new_list", "on") && features.add("X", "off")
        );
        assert_eq!(features.rollout("new_list"), Rollout::Percent(25));
        assert_eq!(features.rollout("unknown"), Rollout::Off);
        assert!(!features.add("Y", "101%") && !features.add("Y", "maybe"));
    }
}
