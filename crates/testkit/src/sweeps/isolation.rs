//! What another tenant's ids do: nothing, and as if there were none such.

use erp_core::module::Route;
use http::Method;
use serde_json::Value;

use super::derive::references;
use super::rules::succeeds;
use super::{Ready, Sweep, Sweeps, filled, is_members, name};
use crate::Answer;

/// An id that nobody has.
const RANDOM_ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
/// Headers that differ from request to request.
const DIFFERS: [&str; 5] = ["x-request-id", "x-correlation-id", "traceparent", "date", "ratelimit"];

impl<'app> Sweeps<'app> {
    /// An id of another tenant, in the path or in the body, is answered like one that does not exist, and nothing is
    /// changed; a list shows nothing of what another tenant has made.
    ///
    /// Each id of a path with several is tried alone too: another's line below one's own order.
    ///
    /// # Panics
    /// As every sweep: when a route does otherwise, or none is reached.
    pub async fn isolation(&self) {
        let concerns = |route: &Route| {
            let leads_to = route.path.contains('{');
            let names = self.operation(route).is_some_and(|operation| operation.get("requestBody").is_some());
            is_members(route) && (leads_to || names || self.is_list(route))
        };
        let visit = async |route: &'app Route| {
            if self.is_list(route) {
                self.list_shows_only_ones_own(route).await;
            } else {
                self.anothers_ids_lead_nowhere(route).await;
            }
        };
        self.each(Sweep::Isolation, concerns, visit).await;
    }

    /// Whether things are made in it and listed.
    fn is_list(&self, route: &Route) -> bool {
        route.method == Method::GET && !route.path.contains('{') && self.post(route.path).is_some()
    }

    async fn list_shows_only_ones_own(&self, route: &Route) {
        let (alice, bob) = (self.app.alice(), self.app.bob());
        let made = self.setup("globex", &bob).make(route.path).await;
        let theirs = bob.get(route.path).await.assert(200);
        assert!(theirs.text().contains(&made), "{} does not show what was just made: {theirs}", name(route));
        let ours = alice.get(route.path).await.assert(200);
        assert!(!ours.text().contains(&made), "{} shows what is another tenant's: {ours}", name(route));
    }

    async fn anothers_ids_lead_nowhere(&self, route: &'app Route) {
        let ours = self.ready(route, "acme").await;
        let theirs = self.ready(route, "globex").await;
        let thing = self.thing(&theirs, route);
        let before = self.everything(thing.as_deref()).await;
        for attack in attacks(&ours, &theirs) {
            answers_alike(route, &ours, &attack).await;
        }
        let after = self.everything(thing.as_deref()).await;
        assert_eq!(after, before, "{} changed something that it refused to change", name(route));
        succeeds(&theirs, theirs.send_as(&theirs.actor, route).await, route);
    }

    /// All that was told in both tenants, and the thing as its owner sees it.
    async fn everything(&self, thing: Option<&str>) -> (Vec<Value>, Vec<Value>, Option<Value>) {
        let told = (self.told("acme").await, self.told("globex").await);
        let seen = match thing {
            Some(path) => Some(self.app.bob().get(path).await.assert(200).json()),
            None => None,
        };
        (told.0, told.1, seen)
    }

    /// The audit log of a tenant, without its denials: they are gathered, and told when a minute is over, whichever request is under
    /// way then.
    pub(super) async fn told(&self, tenant: &str) -> Vec<Value> {
        let all = self.app.audit_of(tenant).await.into_iter();
        all.filter(|row| row["details"]["count"].is_null()).collect()
    }
}

/// A request with an id of another tenant, and the same with one that nobody has.
struct Attack {
    /// Where the id stands.
    place: String,
    foreign: (Vec<String>, Option<Value>),
    missing: (Vec<String>, Option<Value>),
}

/// Every way to put what is another's into a request of one's own.
fn attacks(ours: &Ready<'_>, theirs: &Ready<'_>) -> Vec<Attack> {
    let body = || ours.body.clone();
    let in_path = |values: Vec<String>, missing| Attack {
        place: "in its path".to_owned(),
        foreign: (values, body()),
        missing: (missing, body()),
    };
    let mut attacks = Vec::new();
    if !theirs.values.is_empty() {
        attacks.push(in_path(theirs.values.clone(), vec![RANDOM_ID.to_owned(); theirs.values.len()]));
    }
    if theirs.values.len() > 1 {
        attacks.extend(theirs.values.iter().enumerate().map(|(index, value)| {
            let with = |value: &str| {
                let mut values = ours.values.clone();
                value.clone_into(&mut values[index]);
                values
            };
            in_path(with(value), with(RANDOM_ID))
        }));
    }
    let (Some(our_body), Some(their_body)) = (&ours.body, &theirs.body) else { return attacks };
    for pointer in references(our_body) {
        let Some(value) = their_body.pointer(&pointer) else { continue };
        let with = |value: &Value| {
            let mut body = our_body.clone();
            if let Some(place) = body.pointer_mut(&pointer) {
                value.clone_into(place);
            }
            (ours.values.clone(), Some(body))
        };
        attacks.push(Attack {
            place: format!("at {pointer} of its body"),
            foreign: with(value),
            missing: with(&RANDOM_ID.into()),
        });
    }
    attacks
}

/// Sends both requests, on no condition and on two; a refusal tells nothing of what there is.
async fn answers_alike(route: &Route, ours: &Ready<'_>, attack: &Attack) {
    for condition in ["", "\"1\"", "\"999\""] {
        let send = async |(values, body): &(Vec<String>, Option<Value>)| {
            let path = filled(route.path, values);
            let ready = Ready {
                path,
                values: values.clone(),
                body: body.clone(),
                actor: ours.actor.clone(),
                ..*ours
            };
            match condition {
                "" => ready.send_as(&ready.actor, route).await,
                tag => ready.send_with(&ready.actor, route, "if-match", tag).await,
            }
        };
        let found = send(&attack.foreign).await;
        let missing = send(&attack.missing).await;
        assert!(
            found.status.is_client_error()
                || (route.method.is_safe() && found.comparable() == missing.comparable()),
            "{} takes an id of another tenant {}: let a foreign key check it (app.tenant_reference), or read what it names \
             in the caller's transaction first. {found}",
            name(route),
            attack.place
        );
        assert_eq!(
            found.comparable(),
            missing.comparable(),
            "{} tells another's id {} from none",
            name(route),
            attack.place
        );
        assert_eq!(
            headers(&found),
            headers(&missing),
            "{} tells another's id {} from none",
            name(route),
            attack.place
        );
    }
}

/// The names of the headers, and the values of those that do not differ from request to request.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), format!("{value:?}")));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !DIFFERS.contains(&name.as_str())).collect();
    headers.sort();
    headers
}
