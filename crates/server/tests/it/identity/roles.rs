//! Roles of a tenant's own: made, given, changed and ended; nobody gives more than he has, nor for longer.

use erp_core::auth::Role;
use erp_testkit::{Actor, Answer, TestApp};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::tokens;

const FRESH: SignedDuration = SignedDuration::from_secs(5);

async fn make(by: &Actor<'_>, name: &str, permissions: &[&str]) -> Answer {
    by.post("/api/v1/roles", json!({ "name": name, "permissions": permissions })).await
}

/// The path of a role that `by` has just made.
async fn made(by: &Actor<'_>, name: &str, permissions: &[&str]) -> String {
    let role = make(by, name, permissions).await.assert(201);
    let path = role.header("location").to_owned();
    assert_eq!(by.get(&path).await.assert(200).json(), role.json());
    path
}

async fn change(by: &Actor<'_>, path: &str, name: &str, permissions: &[&str]) -> Answer {
    by.put(path, json!({ "name": name, "permissions": permissions })).await
}

async fn give(by: &Actor<'_>, to: &Actor<'_>, body: Value) -> Answer {
    by.put(&format!("/api/v1/users/{}/roles", to.id().unwrap()), body).await
}

/// Somebody of acme without any role.
async fn newcomer(app: &TestApp) -> Actor<'_> {
    let newcomer = app.another("acme", Role::ReadOnly).await;
    let none = format!("delete from grants where principal_id = '{}'", newcomer.id().unwrap());
    app.execute_in("acme", &none).await;
    newcomer
}

/// The database's time, in so many seconds: the app's clock stands.
async fn at(app: &TestApp, seconds: i32) -> String {
    let sql = format!("select to_jsonb(now() + {seconds} * interval '1 second')");
    let time: Value = app.sql().query_one(&sql, &[]).await.unwrap().get(0);
    time.as_str().unwrap().parse::<Timestamp>().unwrap().to_string()
}

const READ: &str = "catalog.item.read";
const WRITE: &str = "catalog.item.write";

fn item(sku: &str) -> Value {
    json!({ "sku": sku, "name": sku })
}

#[tokio::test]
async fn j_05_a_role_is_made_given_changed_and_taken_back_and_counts_everywhere_within_five_seconds() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let keeper = newcomer(&here).await;
    let over_there = there.anonymous().with_token(keeper.token());
    over_there.get("/api/v1/items").await.assert(403);
    let role = made(&here.alice(), "Storekeeper", &[READ]).await;
    give(&here.alice(), &keeper, json!({ "roles": ["storekeeper"] })).await.assert(204);
    keeper.get("/api/v1/items").await.assert(200);
    there.clock().advance(FRESH);
    over_there.get("/api/v1/items").await.assert(200);
    over_there.post("/api/v1/items", item("A")).await.assert(403);

    change(&here.alice(), &role, "Storekeeper", &[READ, WRITE]).await.assert(200);
    keeper.post("/api/v1/items", item("A")).await.assert(201);
    there.clock().advance(FRESH);
    over_there.post("/api/v1/items", item("B")).await.assert(201);
    change(&here.alice(), &role, "Keeper of stores", &[READ]).await.assert(200);
    keeper.post("/api/v1/items", item("C")).await.assert(403);
    there.clock().advance(FRESH);
    over_there.post("/api/v1/items", item("C")).await.assert(403);

    let read = here.alice().get(&role).await.json();
    assert_eq!((&read["holders"], &read["name"]), (&json!(1), &json!("Keeper of stores")));
    here.alice().delete(&role).await.assert(409).problem("identity.role_in_use");
    let who = here.alice().get("/api/v1/access/who?role=keeper%20of%20stores").await.assert(200).json();
    assert_eq!(who["principals"][0]["principal"]["id"], keeper.id().unwrap().to_string());
    give(&here.alice(), &keeper, json!({ "roles": [] })).await.assert(204);
    here.alice().delete(&role).await.assert(204);
    here.alice().delete(&role).await.assert(404);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn roles_and_permissions_are_listed_with_what_they_are() {
    let app = TestApp::start().await;
    made(&app.alice(), "Storekeeper", &[READ]).await;
    let all = app.max().get("/api/v1/roles").await.assert(200).json();
    let names: Vec<_> = all["builtIn"].as_array().unwrap().iter().map(|role| &role["name"]).collect();
    assert_eq!(json!(names), json!(["owner", "administrator", "member", "auditor", "read-only"]));
    assert_eq!(all["roles"][0]["name"], "Storekeeper");
    assert!(all["builtIn"][4]["permissions"].as_array().unwrap().contains(&json!(READ)), "{all}");
    let declared = app.max().get("/api/v1/permissions").await.assert(200).json();
    let declared = declared["permissions"].as_array().unwrap();
    let write = declared.iter().find(|permission| permission["name"] == WRITE).unwrap();
    assert_eq!(write["what"], "Create, change and delete items.");
    assert_eq!(write["roles"], json!(["owner", "administrator", "member"]));
    app.finish().await;
}

#[tokio::test]
async fn a_role_has_a_name_of_its_own_and_permissions_that_there_are() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let role = made(&alice, "Storekeeper", &[READ]).await;
    for taken in ["storekeeper", "OWNER", "read-only", "Auditor"] {
        make(&alice, taken, &[READ]).await.assert(409).problem("identity.role_taken");
    }
    let other = made(&alice, "Clerk", &[READ]).await;
    change(&alice, &other, "STOREKEEPER", &[READ]).await.assert(409).problem("identity.role_taken");
    made(&app.bob(), "Storekeeper", &[READ]).await; // another tenant's names are its own
    let unknown = make(&alice, "X", &[READ, "catalog.item.eat"]).await.assert(422).problem("core.invalid");
    assert_eq!(unknown["errors"][0]["pointer"], "/permissions/1");
    // Another tenant's role is like none (T-16).
    app.bob().get(&role).await.assert(404);
    app.bob().delete(&role).await.assert(404);
    change(&app.bob(), &role, "Mine", &[READ]).await.assert(404);
    let by_name = give(&app.alice(), &app.max(), json!({ "roles": ["member", "Member"] })).await;
    assert_eq!(by_name.assert(422).problem("core.invalid")["errors"][0]["pointer"], "/roles/1");
    app.finish().await;
}

#[tokio::test]
async fn t_16_nobody_makes_changes_or_gives_a_role_that_allows_more_than_he_may() {
    let app = TestApp::start().await;
    let more = "identity.more_than_own";
    let may = [READ, "identity.role.read", "identity.role.manage", "identity.user.manage"];
    let manager = app.someone("acme", &permissions(&app, &may)).await;
    make(&manager, "More", &[READ, WRITE]).await.assert(403).problem(more);
    let mine = made(&manager, "Mine", &[READ]).await;
    change(&manager, &mine, "Mine", &[READ, WRITE]).await.assert(403).problem(more);
    // A role that allows more than he may is not his to change at all, not even to take away from it.
    let large = made(&app.alice(), "Large", &[READ, WRITE]).await;
    change(&manager, &large, "Large", &[READ]).await.assert(403).problem(more);
    manager.delete(&large).await.assert(403).problem(more);
    let friend = newcomer(&app).await;
    give(&manager, &friend, json!({ "roles": ["Large"] })).await.assert(403).problem(more);
    give(&manager, &friend, json!({ "roles": ["member"] })).await.assert(403).problem(more);
    give(&manager, &friend, json!({ "roles": ["Mine"] })).await.assert(204);
    // What others hold grows by those who have it all.
    change(&app.alice(), &mine, "Mine", &[READ, WRITE]).await.assert(200);
    friend.post("/api/v1/items", item("A")).await.assert(201);
    change(&manager, &mine, "Mine", &[READ]).await.assert(403).problem(more);
    // Nor by a key: it has no more than its scopes.
    let key = json!({ "name": "K", "scopes": ["identity.role.read", "identity.role.manage", READ] });
    let key = app.alice().post("/api/v1/api-keys", key).await.assert(201).json();
    let by_key = app.anonymous().with_token(key["key"].as_str().unwrap());
    make(&by_key, "By a key", &[READ, WRITE]).await.assert(403).problem(more);
    made(&by_key, "By a key", &[READ]).await;
    app.finish().await;
}

fn permissions(app: &TestApp, names: &[&str]) -> Vec<&'static erp_core::auth::Permission> {
    names.iter().map(|name| app.edge().app.permissions.find(name).unwrap()).collect()
}

/// What an instance remembers of a giver is five seconds old at most, and that would be enough to give it on.
#[tokio::test]
async fn t_16_a_right_that_was_taken_away_a_moment_ago_is_given_by_nobody() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let administrator = here.another("acme", Role::Administrator).await;
    let friend = newcomer(&here).await;
    let over_there = there.anonymous().with_token(administrator.token());
    over_there.get("/api/v1/roles").await.assert(200);
    give(&here.alice(), &administrator, json!({ "roles": ["read-only"] })).await.assert(204);
    // There it is remembered still; what is given is looked up.
    over_there.get("/api/v1/roles").await.assert(200);
    let path = format!("/api/v1/users/{}/roles", friend.id().unwrap());
    let given = over_there.put(&path, json!({ "roles": ["administrator"] })).await;
    given.assert(403).problem("identity.more_than_own");
    make(&over_there, "Mine", &[WRITE]).await.assert(403).problem("identity.more_than_own");
    let key = json!({ "name": "K", "scopes": [WRITE] });
    over_there.post("/api/v1/api-keys", key).await.assert(403).problem("identity.more_than_own");
    let invitation = json!({ "email": "me@example.com", "roles": ["administrator"] });
    over_there.post("/api/v1/invitations", invitation).await.assert(403);
    // And somebody who was removed gives nothing at all.
    here.alice().delete(&format!("/api/v1/users/{}", administrator.id().unwrap())).await.assert(204);
    over_there.put(&path, json!({ "roles": [] })).await.assert(401);
    there.finish().await;
    here.finish().await;
}

/// A role that grows while it is given, on two instances: the second sees what the first has done.
#[tokio::test]
async fn t_16_a_role_that_grows_while_it_is_given_is_given_by_those_who_have_it_all() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let manager = here.someone("acme", &permissions(&here, &[READ, "identity.user.manage"])).await;
    let over_there = there.anonymous().with_token(manager.token());
    let friend = newcomer(&here).await;
    let path = format!("/api/v1/users/{}/roles", friend.id().unwrap());
    let role = made(&here.alice(), "Growing", &[READ]).await;
    for round in 0..10 {
        change(&here.alice(), &role, "Growing", &[READ]).await.assert(200);
        give(&here.alice(), &friend, json!({ "roles": [] })).await.assert(204);
        let owner = here.alice();
        let body = json!({ "roles": ["Growing"] });
        let (grown, given) =
            tokio::join!(change(&owner, &role, "Growing", &[READ, WRITE]), over_there.put(&path, body));
        grown.assert(200);
        let given = given.status.as_u16();
        assert!(given == 204 || given == 403, "{given} in round {round}");
        // Given before it grew: then an owner has given the rest. Never after.
        let told = here.audit_of("acme").await;
        let last = |action: &str, actor: &str| {
            let found = told.iter().rposition(|row| row["action"] == action && row["actor"] == *actor);
            found.unwrap_or_default()
        };
        let manager_id = manager.id().unwrap().to_string();
        if given == 204 {
            let alice = here.person("acme", Role::Owner).user_id.to_string();
            assert!(last("grant.created", &manager_id) < last("role_permission.created", &alice), "{round}");
        }
    }
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn j_05_a_role_ends_by_itself_and_nobody_gives_for_longer_than_he_has() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let deputy = newcomer(&here).await;
    let (soon, later) = (at(&here, 60).await, at(&here, 3600).await);
    let for_a_time = |role: &str, until: &str| json!({ "roles": ["read-only"], "expiring": [{ "role": role, "expiresAt": until }] });
    give(&here.alice(), &deputy, for_a_time("administrator", &soon)).await.assert(204);
    let read = here.alice().get(&format!("/api/v1/users/{}", deputy.id().unwrap())).await.json();
    assert_eq!(read["roles"], json!(["read-only"]));
    assert_eq!(read["expiring"], json!([{ "role": "administrator", "expiresAt": soon }]));
    // What he has for a minute he gives for a minute.
    let friend = newcomer(&here).await;
    let more = "identity.more_than_own";
    give(&deputy, &friend, json!({ "roles": ["member"] })).await.assert(403).problem(more);
    give(&deputy, &friend, for_a_time("member", &later)).await.assert(403).problem(more);
    give(&deputy, &friend, json!({ "roles": ["auditor"] })).await.assert(403).problem(more);
    give(&deputy, &friend, for_a_time("member", &soon)).await.assert(204);
    make(&deputy, "Mine", &[WRITE]).await.assert(403).problem(more);
    let key = json!({ "name": "K", "scopes": [WRITE] });
    let key = deputy.post("/api/v1/api-keys", key).await.assert(201).json();
    let key = there.anonymous().with_token(key["key"].as_str().unwrap());
    key.post("/api/v1/items", item("K")).await.assert(201);
    let past = give(&here.alice(), &friend, for_a_time("member", &at(&here, -1).await)).await;
    assert_eq!(past.assert(422).problem("core.invalid")["errors"][0]["pointer"], "/expiring/0/expiresAt");

    // A minute later, and nobody has done anything.
    let over_there = there.anonymous().with_token(friend.token());
    over_there.post("/api/v1/items", item("A")).await.assert(201);
    here.execute_in("acme", "update grants set expires_at = now() where expires_at is not null").await;
    for app in [&here, &there] {
        app.clock().advance(FRESH);
    }
    over_there.post("/api/v1/items", item("B")).await.assert(403);
    key.post("/api/v1/items", item("B")).await.assert(403);
    deputy.get("/api/v1/items").await.assert(200);
    deputy.get("/api/v1/api-keys").await.assert(403);
    // One that has ended can be given again.
    give(&here.alice(), &friend, json!({ "roles": ["member"] })).await.assert(204);
    friend.post("/api/v1/items", item("B")).await.assert(201);
    there.finish().await;
    here.finish().await;
}

/// An owner for a time is none that the tenant can rely on.
#[tokio::test]
async fn a_tenant_keeps_an_owner_for_good() {
    let app = TestApp::start().await;
    let second = app.another("acme", Role::Owner).await;
    let alice = app.person("acme", Role::Owner).user_id;
    let until = at(&app, 3600).await;
    let for_a_time = json!({ "roles": [], "expiring": [{ "role": "owner", "expiresAt": until }] });
    give(&app.alice(), &second, for_a_time.clone()).await.assert(204);
    let own = format!("/api/v1/users/{alice}/roles");
    app.alice().put(&own, for_a_time).await.assert(409).problem("identity.last_owner");
    app.alice().put(&own, json!({ "roles": [] })).await.assert(409).problem("identity.last_owner");
    // An owner for a time makes none for good.
    second.put(&own, json!({ "roles": ["owner"] })).await.assert(403).problem("identity.more_than_own");
    app.finish().await;
}

#[tokio::test]
async fn a_permission_that_no_module_declares_any_more_allows_nothing_and_is_shown_as_such() {
    let app = TestApp::start().await;
    let role = made(&app.alice(), "Old", &[READ]).await;
    let id = role.rsplit('/').next().unwrap();
    let old =
        format!("insert into role_permissions (role_id, permission) values ('{id}', 'gone.thing.read')");
    app.execute_in("acme", &old).await;
    let holder = newcomer(&app).await;
    give(&app.alice(), &holder, json!({ "roles": ["Old"] })).await.assert(204);
    let read = app.alice().get(&role).await.json();
    assert_eq!((&read["permissions"], &read["undeclared"]), (&json!([READ]), &json!(["gone.thing.read"])));
    assert_eq!(holder.get("/api/v1/me").await.json()["permissions"], json!([READ]));
    // It stays for as long as nobody takes it out, and comes into no role anew.
    change(&app.alice(), &role, "Old", &[READ, "gone.thing.read"]).await.assert(200);
    make(&app.alice(), "New", &["gone.thing.read"]).await.assert(422);
    let read = change(&app.alice(), &role, "Old", &[READ]).await.assert(200).json();
    assert_eq!(read["undeclared"], json!([]));
    app.finish().await;
}

/// A name that means something else by the time somebody accepts would give what nobody had.
#[tokio::test]
async fn an_open_invitation_gives_the_role_that_was_meant() {
    let app = TestApp::start().await;
    let role = made(&app.alice(), "Clerk", &[READ]).await;
    let invitation = json!({ "email": "ada@example.com", "roles": ["clerk"] });
    app.alice().post("/api/v1/invitations", invitation).await.assert(202);
    app.alice().delete(&role).await.assert(409).problem("identity.role_in_use");
    change(&app.alice(), &role, "Junior clerk", &[READ]).await.assert(200);
    made(&app.alice(), "Clerk", &[READ, WRITE]).await;
    let open = app.alice().get("/api/v1/invitations").await.json();
    assert_eq!(open["invitations"][0]["roles"], json!(["Junior clerk"]));
    app.finish().await;
}

/// Deleted and given at the same time, on two instances: either nobody holds it, or it is there.
#[tokio::test]
async fn a_role_that_is_removed_while_it_is_given_is_either_there_or_not() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let friend = newcomer(&here).await;
    let path = format!("/api/v1/users/{}/roles", friend.id().unwrap());
    for round in 0..10 {
        let name = format!("Role {round}");
        let role = made(&here.alice(), &name, &[READ]).await;
        let (owner, other) = (here.alice(), there.alice());
        let (removed, given) =
            tokio::join!(owner.delete(&role), other.put(&path, json!({ "roles": [name] })));
        let outcome = (removed.status.as_u16(), given.status.as_u16());
        assert!([(204, 422), (409, 204)].contains(&outcome), "{outcome:?}");
        give(&here.alice(), &friend, json!({ "roles": [] })).await.assert(204);
    }
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn to_give_roles_and_make_keys_wants_a_proof_of_the_last_ten_minutes() {
    let app = TestApp::start().await;
    let credential = &app.person("acme", Role::Owner).credential;
    // The time of a proof is the database's, whose clock is ahead of the app's.
    let now: Timestamp = at(&app, 0).await.parse().unwrap();
    app.clock().advance(now.duration_since(app.edge().app.clock.now()));
    let signed_in = tokens(&app, "acme", Role::Owner).await;
    let owner = app.anonymous().with_token(signed_in["accessToken"].as_str().unwrap());
    let role = made(&owner, "Early", &[READ]).await;
    let later = SignedDuration::from_secs(700);
    app.clock().advance(later);
    let member = app.person("acme", Role::Member).user_id;
    let needs = "identity.step_up_required";
    make(&owner, "Late", &[READ]).await.assert(403).problem(needs);
    change(&owner, &role, "Late", &[READ]).await.assert(403).problem(needs);
    owner.delete(&role).await.assert(403).problem(needs);
    let path = format!("/api/v1/users/{member}/roles");
    owner.put(&path, json!({ "roles": ["read-only"] })).await.assert(403).problem(needs);
    let key = json!({ "name": "K", "scopes": [READ] });
    owner.post("/api/v1/api-keys", key.clone()).await.assert(403).problem(needs);
    let invitation = json!({ "email": "a@example.com", "roles": ["member"] });
    owner.post("/api/v1/invitations", invitation).await.assert(403).problem(needs);
    // To take somebody's access away does not wait for a password.
    owner.post(&format!("/api/v1/users/{member}/deactivate"), json!({})).await.assert(204);
    owner.get("/api/v1/roles").await.assert(200);

    // The database's clock has not been moved.
    app.clock().advance(-later);
    let proof = json!({ "password": credential.password });
    let proven = owner.post("/api/v1/auth/step-up", proof).await.assert(200).json();
    let owner = app.anonymous().with_token(proven["accessToken"].as_str().unwrap());
    let key = owner.post("/api/v1/api-keys", key).await.assert(201).json();
    made(&owner, "Late", &[READ]).await;
    app.clock().advance(later);
    let rotate = format!("/api/v1/api-keys/{}/rotate", key["id"].as_str().unwrap());
    owner.post(&rotate, json!({})).await.assert(403).problem(needs);
    app.finish().await;
}

#[tokio::test]
async fn u_05_what_is_told_of_a_role_is_what_has_changed_and_by_whom() {
    let app = TestApp::start().await;
    let before = app.audit_of("acme").await.len();
    let role = made(&app.alice(), "Clerk", &[READ, WRITE]).await;
    change(&app.alice(), &role, "Clerk", &[READ]).await.assert(200);
    app.alice().delete(&role).await.assert(204);
    let told = app.audit_of("acme").await.split_off(before);
    let alice = app.person("acme", Role::Owner).user_id.to_string();
    assert!(told.iter().all(|row| row["actor"] == alice.as_str()), "{told:?}");
    let mut actions: Vec<&str> = told.iter().filter_map(|row| row["action"].as_str()).collect();
    actions.sort_unstable();
    let of = |what: &'static str, times| vec![what; times];
    let expected = [
        of("role.created", 1),
        of("role.deleted", 1),
        of("role_permission.created", 2),
        of("role_permission.deleted", 2),
    ];
    assert_eq!(actions, expected.concat());
    app.finish().await;
}

/// Many at once, as the last owner and his deputies do it: nothing waits for ever, and the tenant keeps an owner.
#[tokio::test]
async fn many_who_change_rights_at_the_same_time_come_one_after_the_other() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let owners = [here.another("acme", Role::Owner).await, here.another("acme", Role::Owner).await];
    let path = |n: usize| format!("/api/v1/users/{}/roles", owners[n].id().unwrap());
    let tries = (0..12).map(|n| {
        let app = if n % 2 == 0 { &here } else { &there };
        let roles = if n % 3 == 0 { json!(["owner"]) } else { json!(["member"]) };
        let (by, path) = (app.alice(), path(n % 2));
        async move { by.put(&path, json!({ "roles": roles })).await.status.as_u16() }
    });
    let all = join_all(tries).await;
    assert!(all.iter().all(|status| *status == 204), "{all:?}");
    there.finish().await;
    here.finish().await;
}
