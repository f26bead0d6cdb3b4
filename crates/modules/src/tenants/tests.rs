//! What tenants have: settings, features and plans, within five seconds on every instance, and each tenant its own.

use erp_core::app::App;
use erp_core::auth::{Caller, Flag};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::{Layers, MapSource};
use erp_core::extract::Json;
use erp_core::factory::settings;
use erp_core::module::{Access, Module, Product, Routes};
use erp_core::shared::SystemRng;
use erp_modules::tenants::{facade, operator};
use erp_testkit::{Actor, Answer, Fixture, Prepared, Sweep, TestApp};
use jiff::SignedDuration;
use serde_json::{Value, json};

const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// The paths of settings are those of what modules declare, and no tenant's ids.
const ISOLATION: &[(Sweep, &str)] = &[(
    Sweep::Isolation,
    "settings have the same names in every tenant; its tests show that each has its own",
)];

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("GET /api/v1/settings/{name}", |_| Box::pin(async { currency() })).except(ISOLATION),
    Fixture::new("PUT /api/v1/settings/{name}", |_| {
        Box::pin(async { currency().with(json!({ "value": "CHF" })) })
    })
    .except(ISOLATION),
    Fixture::new("DELETE /api/v1/settings/{name}", |setup| {
        Box::pin(async move {
            let body = json!({ "value": "CHF" });
            setup.caller().put("/api/v1/settings/tenants.currency", body).await.assert(200);
            currency()
        })
    })
    .except(ISOLATION),
];

fn currency() -> Prepared {
    Prepared::at(["tenants.currency"])
}

static NEW_LIST: Flag = Flag::off("tried.new_list", "The list is another one.");

async fn told(caller: Caller) -> Json<Value> {
    let plan = caller.entitlements().plan().map(|plan| plan.name.clone());
    Json(json!({
        "currency": caller.setting(&facade::CURRENCY).code(),
        "zone": caller.setting(&facade::TIME_ZONE).as_str(),
        "newList": caller.is_on(&NEW_LIST),
        "plan": plan,
    }))
}

/// What a feature module is told of its caller's tenant.
static TRIED: Module = Module {
    name: "tried",
    flags: &[&NEW_LIST],
    routes: || Routes::new().get("/tried", Access::SignedIn, told),
    ..Module::BARE
};

async fn set(by: &Actor<'_>, name: &str, value: Value) -> Answer {
    by.put(&format!("/api/v1/settings/{name}"), json!({ "value": value })).await
}

async fn ask(by: &Actor<'_>) -> Value {
    by.get("/tried").await.assert(200).json()
}

/// The way that an operator's command has.
fn operators(app: &TestApp) -> OperatorSession {
    let product: &Product = &erp_modules::PRODUCT;
    let given = [
        ("APP_ENV", "development".to_owned()),
        ("DATABASE_URL", app.database().roles.runtime_url.clone()),
        ("DATABASE_SYSTEM_URL", app.database().roles.system_url.clone()),
    ];
    let layers = Layers::from(MapSource::environment(given));
    let config = settings(product).load(&layers).unwrap();
    OperatorSession::of_verb(product, &config, &SystemRng::new(), "flag").unwrap()
}

fn core(app: &TestApp) -> &App {
    &app.edge().app
}

#[tokio::test]
async fn a_setting_is_typed_counts_on_every_instance_within_five_seconds_and_is_audited() {
    let here = TestApp::builder().module(&TRIED).start().await;
    let there = TestApp::builder().module(&TRIED).beside(&here).start().await;
    let over_there = there.anonymous().with_token(here.max().token());
    assert_eq!(
        (&ask(&here.max()).await["currency"], &ask(&over_there).await["zone"]),
        (&json!("EUR"), &json!("UTC"))
    );

    let changed = set(&here.alice(), "tenants.currency", json!("CHF")).await.assert(200).json();
    assert_eq!((&changed["value"], &changed["isSet"]), (&json!("CHF"), &json!(true)));
    assert_eq!(ask(&here.max()).await["currency"], "CHF", "at once where it was changed");
    assert_eq!(ask(&over_there).await["currency"], "EUR", "as it was read there a moment ago");
    there.clock().advance(FRESH);
    assert_eq!(ask(&over_there).await["currency"], "CHF");
    assert_eq!(ask(&here.bob()).await["currency"], "EUR", "another tenant has its own");

    here.alice().delete("/api/v1/settings/tenants.currency").await.assert(204);
    here.alice().delete("/api/v1/settings/tenants.currency").await.assert(204);
    assert_eq!(ask(&here.max()).await["currency"], "EUR");
    let read = here.max().get("/api/v1/settings/tenants.currency").await.assert(200).json();
    assert_eq!(
        (&read["value"], &read["isSet"], &read["mayChange"]),
        (&json!("EUR"), &json!(false), &json!(false))
    );
    let audit = here.audit_of("acme").await;
    let told = |action: &str| audit.iter().filter(|row| row["action"] == action).count();
    assert_eq!((told("tenant_setting.created"), told("tenant_setting.deleted")), (1, 1), "{audit:#?}");
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_setting_takes_what_its_type_allows_from_those_who_may_and_no_unknown_one_is_there() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for (name, wrong) in [
        ("tenants.currency", json!("EURO")),
        ("tenants.currency", json!(7)),
        ("tenants.time_zone", json!("Mars/Olympus")),
        ("tenants.locale", json!("german, please")),
        ("tenants.fiscal_year_start", json!("02-29")),
        ("tenants.fiscal_year_start", Value::Null),
    ] {
        let refused = set(&alice, name, wrong.clone()).await.assert(422).problem("core.invalid");
        assert_eq!(refused["errors"][0]["pointer"], "/value", "{name} {wrong}");
    }
    set(&alice, "tenants.fiscal_year_start", json!("04-01")).await.assert(200);
    set(&alice, "tenants.time_zone", json!("Europe/Zurich")).await.assert(200);
    for unknown in ["tenants.colour", "x", "tenants.currency%00"] {
        set(&alice, unknown, json!("CHF")).await.assert(404).problem("core.not_found");
        alice.get(&format!("/api/v1/settings/{unknown}")).await.assert(404);
    }
    set(&app.max(), "tenants.currency", json!("CHF")).await.assert(403).problem("core.forbidden");
    app.max().delete("/api/v1/settings/tenants.currency").await.assert(403);
    app.anonymous().get("/api/v1/settings").await.assert(401);
    let listed = app.max().get("/api/v1/settings").await.assert(200).json();
    let listed = listed["settings"].as_array().unwrap();
    let zone = listed.iter().find(|setting| setting["name"] == "tenants.time_zone").unwrap();
    assert_eq!((&zone["value"], &zone["isSet"]), (&json!("Europe/Zurich"), &json!(true)));
    let theirs = app.bob().get("/api/v1/settings/tenants.time_zone").await.assert(200).json();
    assert_eq!(theirs["value"], "UTC");
    app.finish().await;
}

#[tokio::test]
async fn t_16_a_feature_module_cannot_change_what_its_tenant_has_nor_see_plans() {
    let app = TestApp::start().await;
    let runtime = app.runtime_in("acme").await;
    let mut refused = vec!["select from plans".to_owned(), "select from flag_rollouts".to_owned()];
    for table in ["tenant_settings", "tenant_flags", "tenant_plans"] {
        refused.extend([format!("delete from {table}"), format!("insert into {table} default values")]);
    }
    for statement in refused {
        let error = runtime.batch_execute(&statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_feature_is_on_by_the_tenants_own_word_else_by_its_rollout_else_by_the_deployment() {
    let app = TestApp::builder().module(&TRIED).setting("FEATURE_TRIED_NEW_LIST", "on").start().await;
    let operators = operators(&app);
    let rng = SystemRng::new();
    let now = async |expected: bool, reason: &str| {
        app.clock().advance(FRESH);
        assert_eq!(ask(&app.max()).await["newList"], expected, "{reason}");
        let flags = app.max().get("/api/v1/flags").await.assert(200).json();
        let flags = flags["flags"].as_array().unwrap();
        let told = flags.iter().find(|flag| flag["name"] == NEW_LIST.name).unwrap();
        assert_eq!((&told["isOn"], &told["reason"]), (&json!(expected), &json!(reason)));
        let explained = operator::explain(&operators, core(&app).entitlements.table(), "acme").await.unwrap();
        let explained = explained.iter().find(|flag| flag.name == NEW_LIST.name).unwrap();
        assert_eq!((explained.is_on, explained.reason.as_str()), (expected, reason));
    };
    now(true, "deployment").await;
    operator::roll_out(&operators, &rng, NEW_LIST.name, Some(0)).await.unwrap();
    now(false, "rollout").await;
    operator::roll_out(&operators, &rng, NEW_LIST.name, Some(10_000)).await.unwrap();
    now(true, "rollout").await;
    operator::set_flag(&operators, "acme", NEW_LIST.name, Some(false)).await.unwrap();
    now(false, "tenant").await;
    assert_eq!(ask(&app.bob()).await["newList"], true, "another tenant has its own");
    let listed = operator::flags(&operators, core(&app).entitlements.table()).await.unwrap();
    let listed = listed.iter().find(|flag| flag.name == NEW_LIST.name).unwrap();
    assert_eq!((listed.rollout, listed.on, listed.off), (Some(10_000), 0, 1));
    operator::set_flag(&operators, "acme", NEW_LIST.name, None).await.unwrap();
    operator::roll_out(&operators, &rng, NEW_LIST.name, None).await.unwrap();
    now(true, "deployment").await;
    assert!(operator::set_flag(&operators, "nowhere", NEW_LIST.name, None).await.is_err());
    let audit = app.audit_of("acme").await;
    let set = audit.iter().find(|row| row["action"] == "tenant_flag.created").unwrap();
    assert_eq!((&set["actor"], &set["after"]["is_on"]), (&json!("system:plans-and-flags"), &json!(false)));
    operators.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_rollout_keeps_its_salt_so_that_whoever_has_a_feature_keeps_it() {
    let app = TestApp::start().await;
    let operators = operators(&app);
    let salt = async || -> String {
        let row =
            app.sql().query_one("select salt from flag_rollouts where flag = 'catalog.import'", &[]).await;
        row.unwrap().get(0)
    };
    operator::roll_out(&operators, &SystemRng::new(), "catalog.import", Some(1000)).await.unwrap();
    let first = salt().await;
    for part in [Some(2000), None, Some(2500)] {
        operator::roll_out(&operators, &SystemRng::new(), "catalog.import", part).await.unwrap();
        assert_eq!(salt().await, first, "{part:?}");
    }
    operators.close().await;
    app.finish().await;
}

#[tokio::test]
async fn a_feature_that_is_off_is_refused_where_it_begins() {
    let app = TestApp::start().await;
    let operators = operators(&app);
    operator::set_flag(&operators, "acme", "catalog.import", Some(false)).await.unwrap();
    let import = async |by: Actor<'_>| {
        let request = http::Request::post("/api/v1/items/imports").header("content-type", "text/csv");
        by.request(request.body("sku,name\nA,A\n").unwrap()).await
    };
    import(app.alice()).await.assert(403).problem("core.feature_off");
    import(app.bob()).await.assert(202);
    operators.close().await;
    app.finish().await;
}

#[tokio::test]
async fn t_22_a_plan_is_a_limit_of_requests_and_a_share_of_connections_within_five_seconds_everywhere() {
    let plain = || {
        TestApp::builder().module(&TRIED).setting("RATE_LIMIT_MAX", "50").setting("SPEED_LIMIT_STEP", "0s")
    };
    let here = plain().start().await;
    let there = plain().beside(&here).start().await;
    let limit = async |by: &Actor<'_>| -> u32 {
        let answer = by.get("/tried").await.assert(200);
        let policy = answer.header("ratelimit-policy");
        let quota = policy.split(';').find_map(|part| part.strip_prefix("q=")).unwrap();
        quota.parse().unwrap()
    };
    let over_there = there.anonymous().with_token(here.max().token());
    assert_eq!((limit(&here.max()).await, limit(&over_there).await), (50, 50));
    let operators = operators(&here);
    let change = operator::PlanChange {
        about: Some("For the large.".to_owned()),
        rate_limit_max: Some(Some(500)),
        connections: Some(Some(3)),
        ..operator::PlanChange::default()
    };
    operator::set_plan(&operators, "business", &change).await.unwrap();
    operator::give_plan(&operators, "acme", Some("business")).await.unwrap();
    assert!(operator::give_plan(&operators, "acme", Some("golden")).await.is_err(), "there is no such plan");
    for app in [&here, &there] {
        app.clock().advance(FRESH);
    }
    assert_eq!((limit(&here.max()).await, limit(&over_there).await), (500, 500));
    assert_eq!((limit(&here.bob()).await, &ask(&here.max()).await["plan"]), (50, &json!("business")));
    // What is not given stays as it is.
    let narrower = operator::PlanChange { rate_limit_max: Some(Some(60)), ..operator::PlanChange::default() };
    operator::set_plan(&operators, "business", &narrower).await.unwrap();
    let plans = operator::plans(&operators).await.unwrap();
    let told = (plans[0].rate_limit_max, plans[0].connections, plans[0].tenants, plans[0].about.as_str());
    assert_eq!(told, (Some(60), Some(3), 1, "For the large."));
    here.clock().advance(FRESH);
    assert_eq!(limit(&here.max()).await, 60);
    operator::give_plan(&operators, "acme", None).await.unwrap();
    here.clock().advance(FRESH);
    assert_eq!((limit(&here.max()).await, &ask(&here.max()).await["plan"]), (50, &Value::Null));
    let audit = here.audit_of("acme").await;
    assert!(audit.iter().any(|row| row["action"] == "tenant_plan.created"), "{audit:#?}");
    operators.close().await;
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_request_whose_tenant_was_seen_a_moment_ago_costs_no_statement() {
    let app = TestApp::builder().module(&TRIED).start().await;
    ask(&app.max()).await;
    let before = app.log().with_message("Query").len();
    assert!(before > 0, "statements are logged");
    for _ in 0..5 {
        ask(&app.max()).await;
    }
    assert_eq!(app.log().with_message("Query").len(), before);
    app.finish().await;
}

#[tokio::test]
async fn t_16_requests_come_from_the_tenants_networks_and_nobody_shuts_himself_out() {
    let plain = || TestApp::builder().setting("TRUSTED_PROXIES", "127.0.0.1");
    let here = plain().start().await;
    let there = plain().beside(&here).start().await;
    let (owner, member) = (here.alice().token().to_owned(), here.max().token().to_owned());
    let call = async |app: &TestApp, token: &str, from: &str, networks: Option<Value>| {
        let method = if networks.is_some() { "PUT" } else { "GET" };
        let body = networks.map_or_else(String::new, |networks| json!({ "value": networks }).to_string());
        let request = http::Request::builder()
            .method(method)
            .uri("/api/v1/settings/tenants.allowed_networks")
            .header("x-forwarded-for", from)
            .header("content-type", "application/json");
        app.anonymous().with_token(token).request(request.body(body).unwrap()).await
    };
    let (inside, outside) = ("192.0.2.7", "198.51.100.1");
    let set = async |networks: Value| call(&here, &owner, inside, Some(networks)).await;
    call(&there, &member, outside, None).await.assert(200);
    let shut = set(json!(["198.51.100.0/24"])).await.assert(409).problem("tenants.shuts_out");
    assert!(shut["detail"].as_str().unwrap().contains(inside), "{shut}");
    set(json!(["192.0.2.0/24", "2001:db8::/32"])).await.assert(200);
    for (app, told) in [(&here, 403), (&there, 200)] {
        call(app, &member, outside, None).await.assert(told);
    }
    there.clock().advance(FRESH);
    call(&there, &member, outside, None).await.assert(403).problem("core.address_refused");
    call(&there, &member, inside, None).await.assert(200);
    call(&there, &member, "2001:db8::9", None).await.assert(200);
    call(&there, &owner, outside, Some(json!([]))).await.assert(403);
    call(&here, here.bob().token(), outside, None).await.assert(200);
    core(&here).write_denials().await;
    let audit = here.audit_of("acme").await;
    let denied = audit.iter().find(|row| row["details"]["code"] == "core.address_refused");
    assert_eq!(denied.unwrap()["outcome"], "denied", "{audit:#?}");
    // An operator opens it again.
    let operators = operators(&here);
    assert!(operator::clear_setting(&operators, "acme", "tenants.currency").await.is_err(), "it is not set");
    operator::clear_setting(&operators, "acme", "tenants.allowed_networks").await.unwrap();
    here.clock().advance(FRESH);
    call(&here, &member, outside, None).await.assert(200);
    operators.close().await;
    there.finish().await;
    here.finish().await;
}
