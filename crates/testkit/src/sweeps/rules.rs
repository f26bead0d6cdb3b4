//! What holds of every route alone: who may call it, and what its headers do.

use erp_core::auth::{RequiredAction, Role};
use erp_core::module::{Access, Route};
use http::Method;
use serde_json::{Value, json};

use super::derive::collection;
use super::{Ready, Sweep, Sweeps, changes, filled, is_members, is_operators, name, request};
use crate::{Actor, Answer};

/// A version that nothing has.
const STALE: &str = "\"999\"";

impl Sweeps<'_> {
    /// With right every route succeeds.
    ///
    /// # Panics
    /// As every sweep: when a route does otherwise, or none is reached.
    pub async fn right(&self) {
        let visit = async |route| {
            let ready = self.ready(route, "globex").await;
            succeeds(&ready, ready.send_as(&ready.actor, route).await, route);
        };
        self.each(Sweep::Right, |_| true, visit).await;
    }

    /// Without a credential every route of a member is 401.
    pub async fn nobody(&self) {
        let visit = async |route| {
            let ready = self.ready(route, "acme").await;
            let answer = ready.send_as(&self.app.anonymous(), route).await.assert(401);
            if route.has_page() {
                assert!(answer.text().contains("<form"), "{}: it leads nowhere", name(route));
                return;
            }
            answer.problem("core.unauthenticated");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", name(route));
        };
        self.each(Sweep::Nobody, is_members, visit).await;
    }

    /// Every route of a member is 401 for each of these credentials, which are good no more or never were: what each is, and the header
    /// that brings it. They are looked at before all else of a request, so that none is prepared.
    pub async fn refuses(&self, credentials: &[(&str, (&str, String))]) {
        const NOTHING: &str = "00000000-0000-7000-8000-000000000000";
        let visit = async |route: &Route| {
            let values = vec![NOTHING.to_owned(); route.path.matches('{').count()];
            let path = filled(route.path, &values);
            for (what, (header, credential)) in credentials {
                let begun = http::Request::builder().header("sec-fetch-site", "same-origin");
                let request = request(route, &path, None, begun.header(*header, credential));
                let answer = self.app.anonymous().request(request).await;
                assert_eq!(answer.status, 401, "{what}: {answer}");
            }
        };
        self.each(Sweep::Nobody, is_members, visit).await;
    }

    /// Every route of a member keeps to the tenants that the caller belongs to, whichever way one is selected by where the product's
    /// `TENANT_DOMAIN` is `domain`: a foreign one is 403, two that disagree and what is no tenant's name are 400, and without a
    /// credential all of it is 401. It is looked at before all else of a request, so that none is prepared.
    pub async fn selection(&self, domain: &str) {
        const NOTHING: &str = "00000000-0000-7000-8000-000000000000";
        let (alice, nobody) = (self.app.alice(), self.app.anonymous());
        let host = |name: &str| format!("{name}.{domain}");
        let visit = async |route: &Route| {
            let values = vec![NOTHING.to_owned(); route.path.matches('{').count()];
            let path = filled(route.path, &values);
            let send = async |by: &Actor<'_>, prefix: &str, headers: &[(&str, &str)]| {
                let begun = http::Request::builder().header("sec-fetch-site", "same-origin");
                let begun = headers.iter().fold(begun, |begun, (name, value)| begun.header(*name, *value));
                by.request(request(route, &format!("{prefix}{path}"), None, begun)).await
            };
            let (by_header, by_host) = (("x-tenant-id", "globex"), host("globex"));
            let (by_host, own, odd) = (("host", by_host.as_str()), host("acme"), host("a.b"));
            let mut foreign = vec![("", vec![by_header]), ("", vec![by_host])];
            let mut unclear =
                vec![("", vec![by_header, ("host", own.as_str())]), ("", vec![("host", odd.as_str())])];
            if path.starts_with("/api/") {
                foreign.push(("/t/globex", Vec::new()));
                unclear.push(("/t/globex", vec![("x-tenant-id", "acme")]));
                unclear.push(("/t/globex", vec![("host", own.as_str())]));
                unclear.push(("/t/glo%62ex", Vec::new()));
            }
            for (ways, status, code) in
                [(&foreign, 403, "core.tenant_mismatch"), (&unclear, 400, "core.tenant_selection")]
            {
                for (prefix, headers) in ways {
                    let answer = send(&alice, prefix, headers).await;
                    assert_eq!(answer.status, status, "{prefix} {headers:?}: {answer}");
                    if !route.has_page() {
                        answer.problem(code);
                    }
                    send(&nobody, prefix, headers).await.assert(401);
                }
            }
        };
        self.each(Sweep::Isolation, is_members, visit).await;
    }

    /// Every route of operators is 401 for everybody else, whatever they bring, and every route of members is for operators.
    pub async fn operators(&self) {
        let operator = self.app.operator().await;
        let key = json!({ "name": "Script", "scopes": ["identity.user.read"] });
        let key = self.app.alice().post("/api/v1/api-keys", key).await.assert(201).json();
        let key = self.app.anonymous().with_token(key["key"].as_str().expect("it is shown"));
        let strangers = [self.app.anonymous(), self.app.alice(), self.app.reader_of("globex"), key];
        let visit = async |route: &Route| {
            let ready = self.ready(route, "acme").await;
            let others = if is_operators(route) { &strangers[..] } else { std::slice::from_ref(&operator) };
            for other in others {
                let answer = ready.send_as(other, route).await.assert(401);
                if !route.has_page() {
                    answer.problem("core.unauthenticated");
                }
            }
        };
        self.each(Sweep::Operators, |route| is_operators(route) || is_members(route), visit).await;
    }

    /// Every route that is for the person alone is 403 for an operator in its place.
    pub async fn impersonation(&self) {
        let operator = self.app.operator().await;
        let owner = self.app.person("acme", Role::Owner).user_id;
        let asked = json!({ "tenant": "acme", "userId": owner, "reason": "A sweep", "minutes": 60 });
        let begun = operator.post("/api/v1/admin/impersonate", asked).await.assert(200).json();
        let there = self.app.anonymous().with_token(begun["accessToken"].as_str().expect("it is shown"));
        let visit = async |route: &Route| {
            let ready = self.ready(route, "acme").await;
            let refused = ready.send_as(&there, route).await.assert(403);
            if !route.has_page() {
                refused.problem("core.impersonated");
            }
        };
        self.each(Sweep::Impersonation, Route::is_for_oneself, visit).await;
    }

    /// Every route of a member is 403 for somebody who has not done what is wanted before all else, but for those that are open for it.
    pub async fn required(&self) {
        for action in [RequiredAction::ChangePassword, RequiredAction::SecondFactor] {
            let limited = self.limited(action).await;
            let visit = async |route: &Route| self.stands_before(route, action, &limited).await;
            self.each(Sweep::Required, is_members, visit).await;
        }
    }

    async fn stands_before(&self, route: &Route, action: RequiredAction, limited: &Actor<'_>) {
        let (code, name) = (action.code(), name(route));
        let ready = self.ready(route, "acme").await;
        if route.opens_for.contains(&action) {
            // Some of them end the session.
            let answer = ready.send_as(&self.limited(action).await, route).await;
            assert!(!answer.text().contains(code.code), "{name}: {answer}");
            return;
        }
        let answer = ready.send_as(limited, route).await.assert(403);
        if route.has_page() {
            assert!(answer.text().contains(code.title), "{name}: {answer}");
        } else {
            answer.problem(code.code);
        }
    }

    /// An owner of acme of whom an operator demands something.
    async fn limited(&self, action: RequiredAction) -> Actor<'_> {
        let limited = self.app.another("acme", Role::Owner).await;
        let id = limited.id().expect("it is somebody");
        let demand =
            format!("update sessions set demanded = '{{{}}}' where principal_id = '{id}'", action.as_str());
        self.app.execute_in("acme", &demand).await;
        limited
    }

    /// Every route that wants a permission is 403 for each role that does not have it, and for a member without any.
    pub async fn permission(&self) {
        let nothing = self.app.someone("acme", &[]).await;
        let visit = async |route: &Route| {
            let Access::Permission(permission) = route.access else { return };
            let roles = [Role::Owner, Role::Member, Role::ReadOnly];
            let without = roles.into_iter().filter(|role| !role.has(permission));
            let without = without.map(|role| self.app.actor("acme", role)).chain([nothing.clone()]);
            let ready = self.ready(route, "acme").await;
            for actor in without {
                ready.send_as(&actor, route).await.assert(403).problem("core.forbidden");
            }
        };
        self.each(Sweep::Permission, |route| matches!(route.access, Access::Permission(_)), visit).await;
    }

    /// A change that is sent twice under one key is made once, and another tenant's use of the key is its own.
    pub async fn idempotency(&self) {
        let visit = async |route| {
            let key = format!("sweep-{}", self.number());
            let send =
                async |ready: &Ready<'_>| ready.send_with(&ready.actor, route, "idempotency-key", &key).await;
            let ready = self.ready(route, "acme").await;
            let first = succeeds(&ready, send(&ready).await, route);
            let told = self.told("acme").await.len();
            let second = succeeds(&ready, send(&ready).await, route);
            assert_eq!(second.header("idempotency-replayed"), "true", "{second}");
            assert_eq!(second.body, first.body, "{} is answered otherwise the second time", name(route));
            assert_eq!(self.told("acme").await.len(), told, "{} was done twice under one key", name(route));
            let theirs = self.ready(route, "globex").await;
            let theirs = succeeds(&theirs, send(&theirs).await, route);
            assert_eq!(theirs.header("idempotency-replayed"), "", "{}: another tenant's key", name(route));
        };
        self.each(Sweep::Idempotency, changes, visit).await;
    }

    /// A change on condition of a version (`If-Match`) is 412 in another one and succeeds in this one; what has the tag
    /// that the client knows (`If-None-Match`) is 304.
    pub async fn condition(&self) {
        let visit = async |route: &Route| {
            let ready = self.ready(route, "acme").await;
            let tag = self.tag(&ready, route).await;
            if route.method == Method::GET {
                ready.send_with(&ready.actor, route, "if-none-match", &tag).await.assert(304);
                ready.send_with(&ready.actor, route, "if-none-match", STALE).await.assert(200);
            } else {
                let stale = ready.send_with(&ready.actor, route, "if-match", STALE).await;
                stale.assert(412).problem("core.stale");
                succeeds(&ready, ready.send_with(&ready.actor, route, "if-match", &tag).await, route);
            }
        };
        let takes = |route: &Route| {
            let parameters = self.operation(route).and_then(|operation| operation["parameters"].as_array());
            let named =
                |parameter: &Value| parameter["name"] == "If-Match" || parameter["name"] == "If-None-Match";
            parameters.is_some_and(|parameters| parameters.iter().any(named))
        };
        self.each(Sweep::Condition, takes, visit).await;
    }

    /// The tag of what a route reads, or of what it changes.
    async fn tag(&self, ready: &Ready<'_>, route: &Route) -> String {
        let read = route.method == Method::GET;
        let path = self.thing(ready, route).filter(|_| !read).unwrap_or_else(|| ready.path.clone());
        self.app.alice().get(&path).await.assert(200).header("etag").to_owned()
    }

    /// The path to read what a route changes by, if there is one: `/orders/1` of `/orders/1/approve`.
    pub(super) fn thing(&self, ready: &Ready<'_>, route: &Route) -> Option<String> {
        let below = &route.path[collection(route.path)?.len() + 1..];
        let rest = below.find('/').map_or("", |end| &below[end..]);
        let template = route.path.strip_suffix(rest)?;
        let read = self.routes().any(|other| other.method == Method::GET && other.path == template);
        read.then(|| ready.path.strip_suffix(rest).unwrap_or_default().to_owned())
    }

    /// A change has audit rows, in its tenant only, of who made it and of its request.
    pub async fn audit(&self) {
        let visit = async |route| {
            let ready = self.ready(route, "acme").await;
            let before = self.told("acme").await.len();
            let others = self.told("globex").await.len();
            let answer = succeeds(&ready, ready.send_as(&ready.actor, route).await, route);
            let told = self.told("acme").await.split_off(before);
            let name = name(route);
            assert!(
                !told.is_empty(),
                "{name} changes something and no audit row tells of it: give its table audit_as, report it by `audit`, \
                 or exempt it in its fixture with the reason"
            );
            for row in told {
                assert_eq!(
                    row["actor"].as_str(),
                    ready.actor.id().map(|id| id.to_string()).as_deref(),
                    "{name}: {row}"
                );
                assert_eq!(row["correlation_id"], answer.header("x-request-id"), "{name}: {row}");
            }
            assert_eq!(self.told("globex").await.len(), others, "{name} is told in another tenant");
        };
        self.each(Sweep::Audit, changes, visit).await;
    }
}

/// The answer, if it is of success.
#[track_caller]
pub(super) fn succeeds(ready: &Ready<'_>, answer: Answer, route: &Route) -> Answer {
    assert_eq!(
        answer.status.as_u16(),
        ready.success,
        "with right {} does not succeed, with the body {}: correct its fixture, or write one. {answer}",
        name(route),
        ready.body.as_ref().map_or("-".to_owned(), Value::to_string)
    );
    answer
}
