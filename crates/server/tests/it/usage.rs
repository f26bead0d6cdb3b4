//! What tenants use, and how much of it their plans have: counted exactly or every few seconds, the same on every instance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::{Layers, MapSource};
use erp_core::error::Result;
use erp_core::factory::settings;
use erp_core::module::{Access, Module, Routes};
use erp_core::shared::SystemRng;
use erp_modules::PRODUCT;
use erp_modules::tenants::operator;
use erp_testkit::{Actor, Answer, Pooler, Redis, TestApp};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

const FRESH: SignedDuration = SignedDuration::from_secs(5);

fn core(app: &TestApp) -> &App {
    &app.edge().app
}

/// The way that an operator's command has.
fn operators(app: &TestApp) -> OperatorSession {
    let given = [
        ("APP_ENV", "development".to_owned()),
        ("DATABASE_URL", app.database().roles.runtime_url.clone()),
        ("DATABASE_SYSTEM_URL", app.database().roles.system_url.clone()),
    ];
    let config = settings(&PRODUCT).load(&Layers::from(MapSource::environment(given))).unwrap();
    OperatorSession::of_verb(&PRODUCT, &config, &SystemRng::new(), "plan").unwrap()
}

/// Gives acme a plan with these quotas, which all of `apps` follow.
async fn plan(apps: &[&TestApp], quotas: &[(&str, Option<i64>)]) {
    let operators = operators(apps[0]);
    let quotas: BTreeMap<_, _> = quotas.iter().map(|(meter, quota)| ((*meter).to_owned(), *quota)).collect();
    let change = operator::PlanChange { quotas, ..operator::PlanChange::default() };
    operator::set_plan(&operators, "business", &change).await.unwrap();
    operator::give_plan(&operators, "acme", Some("business")).await.unwrap();
    operators.close().await;
    apps.iter().for_each(|app| app.clock().advance(FRESH));
}

async fn create(by: &Actor<'_>, sku: impl std::fmt::Display) -> Answer {
    by.post("/api/v1/items", json!({ "sku": sku.to_string(), "name": "Bolt" })).await
}

/// What the tenant is told of one meter.
async fn usage(by: &Actor<'_>, meter: &str) -> Value {
    let all = by.get("/api/v1/usage").await.assert(200).json();
    let all = all["meters"].as_array().unwrap();
    all.iter().find(|one| one["meter"] == meter).unwrap().clone()
}

#[tokio::test]
async fn t_22_a_quota_of_rows_is_exact_however_many_come_at_once_on_two_instances() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let had = usage(&here.alice(), "catalog.items").await["used"].as_i64().unwrap();
    plan(&[&here, &there], &[("catalog.items", Some(had + 5))]).await;
    let (alice, over_there) = (here.alice(), there.anonymous().with_token(here.alice().token()));
    let creating = (0..20).map(|number| create(if number % 2 == 0 { &alice } else { &over_there }, number));
    let answers = join_all(creating).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (5, 15));
    for answer in refused {
        let problem = answer.assert(409).problem("core.over_quota");
        assert_eq!(problem["quota"], json!({ "meter": "catalog.items", "limit": had + 5, "used": had + 5 }));
    }
    let told = usage(&alice, "catalog.items").await;
    assert_eq!(
        (&told["used"], &told["limit"], &told["isTotal"]),
        (&json!(had + 5), &json!(had + 5), &json!(true))
    );
    let theirs = usage(&here.bob(), "catalog.items").await;
    assert_eq!((&theirs["used"], &theirs["limit"]), (&json!(had), &Value::Null));
    // Where one goes, one can come; and a smaller quota takes nothing away.
    let gone = made[0].json();
    let path = format!("/api/v1/items/{}", gone["id"].as_str().unwrap());
    alice.delete(&path).await.assert(204);
    create(&over_there, "again").await.assert(201);
    plan(&[&here, &there], &[("catalog.items", Some(2))]).await;
    create(&alice, "more").await.assert(409).problem("core.over_quota");
    let path = format!("/api/v1/items/{}", made[1].json()["id"].as_str().unwrap());
    alice.delete(&path).await.assert(204);
    assert_eq!(usage(&alice, "catalog.items").await["used"], had + 4);
    plan(&[&here, &there], &[("catalog.items", None)]).await;
    create(&alice, "more").await.assert(201);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn t_22_a_quota_of_a_day_counts_all_instances_and_begins_anew_the_next_day() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    plan(&[&here, &there], &[("core.requests", Some(10))]).await;
    let ask = async |app: &TestApp| app.anonymous().with_token(here.max().token()).get("/api/v1/items").await;
    for _ in 0..6 {
        ask(&here).await.assert(200);
        core(&here).add_usage().await;
    }
    ask(&there).await.assert(200);
    core(&there).add_usage().await; // and learns of the others
    for _ in 0..3 {
        ask(&there).await.assert(200);
    }
    let refused = ask(&there).await.assert(429);
    let problem = refused.problem("core.quota_used_up");
    assert_eq!(problem["quota"], json!({ "meter": "core.requests", "limit": 10, "used": 10 }));
    assert_eq!(problem["violated-policies"], json!(["core.requests"]));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((60_000..86_400).contains(&wait), "until midnight: {wait}");
    here.bob().get("/api/v1/items").await.assert(200);
    core(&there).add_usage().await;
    let stored = "select u.used from usage u join tenants t on t.id = u.tenant_id where t.slug = 'acme' and meter = 'core.requests'";
    let stored: i64 = here.sql().query_one(stored, &[]).await.unwrap().get(0);
    assert_eq!(stored, 10, "who is refused is not counted");
    there.clock().advance(SignedDuration::from_hours(24));
    there.max().get("/api/v1/items").await.assert(200);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn t_16_a_feature_module_cannot_change_what_its_tenant_has_used() {
    let app = TestApp::start().await;
    let had = usage(&app.alice(), "catalog.items").await["used"].as_i64().unwrap();
    create(&app.alice(), "one").await.assert(201);
    let runtime = app.runtime_in("acme").await;
    let tenant = app.tenant_id("acme");
    for statement in [
        "update usage_totals set used = 0".to_owned(),
        "insert into usage (day, meter, used) values ('2026-11-30', 'core.requests', 0)".to_owned(),
        format!("select app.count_usage('{tenant}', 'catalog.items', -1, false)"),
        "delete from usage".to_owned(),
        "delete from usage_totals".to_owned(),
    ] {
        let error = runtime.batch_execute(&statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}");
    }
    assert_eq!(usage(&app.alice(), "catalog.items").await["used"], had + 1);
    app.finish().await;
}

#[tokio::test]
async fn t_22_no_seat_is_given_beyond_the_quota_and_the_invitation_stays() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let seats = usage(&alice, "identity.members").await["used"].as_i64().unwrap();
    assert!(seats >= 2, "{seats}");
    plan(&[&app], &[("identity.members", Some(seats))]).await;
    let invitation = json!({ "email": "ada@example.com", "roles": ["member"] });
    alice.post("/api/v1/invitations", invitation).await.assert(202);
    let sql = "select text from mails where recipient = 'ada@example.com'";
    let text: String = app.sql().query_one(sql, &[]).await.unwrap().get(0);
    let token = text.split_once("/invitation?token=").unwrap().1.lines().next().unwrap();
    let accept = json!({ "token": token, "name": "Ada", "password": "correct horse battery staple" });
    let joins = async || app.anonymous().post("/api/v1/invitations/accept", accept.clone()).await;
    let refused = joins().await.assert(409).problem("core.over_quota");
    assert_eq!(refused["quota"], json!({ "meter": "identity.members", "limit": seats, "used": seats }));
    // A member who is paused takes no seat, and cannot come back while somebody else has it.
    let max = format!("/api/v1/users/{}", app.max().id().unwrap());
    alice.post(&format!("{max}/deactivate"), Value::Null).await.assert(204);
    joins().await.assert(200);
    let back = alice.post(&format!("{max}/reactivate"), Value::Null).await;
    back.assert(409).problem("core.over_quota");
    plan(&[&app], &[("identity.members", Some(seats + 1))]).await;
    alice.post(&format!("{max}/reactivate"), Value::Null).await.assert(204);
    assert_eq!(usage(&alice, "identity.members").await["used"], seats + 1);
    app.finish().await;
}

#[tokio::test]
async fn t_22_plans_hold_while_redis_is_down_and_behind_a_pooler() {
    if !Redis::is_installed("plans") || !Pooler::is_installed("plans") {
        return;
    }
    let mut redis = Redis::start(&[]);
    let url = redis.url();
    let instance = || {
        let plain = TestApp::builder().pooled().setting("REDIS_URL", &url);
        plain.setting("RATE_LIMIT_MAX", "500").setting("SPEED_LIMIT_STEP", "0s")
    };
    let here = instance().start().await;
    let there = instance().beside(&here).start().await;
    let limit = async |app: &TestApp| {
        let answer = app.anonymous().with_token(here.max().token()).get("/api/v1/items").await.assert(200);
        answer.header("ratelimit-policy").to_owned()
    };
    for app in [&here, &there] {
        assert!(limit(app).await.contains("q=500"), "{}", limit(app).await);
    }
    redis.kill();
    let had = usage(&here.alice(), "catalog.items").await["used"].as_i64().unwrap();
    let operators = operators(&here);
    let change = operator::PlanChange {
        rate_limit_max: Some(Some(700)),
        quotas: BTreeMap::from([("catalog.items".to_owned(), Some(had + 2))]),
        ..operator::PlanChange::default()
    };
    operator::set_plan(&operators, "business", &change).await.unwrap();
    operator::give_plan(&operators, "acme", Some("business")).await.unwrap();
    operator::set_flag(&operators, "acme", "catalog.import", Some(false)).await.unwrap();
    operators.close().await;
    for app in [&here, &there] {
        app.clock().advance(FRESH);
        assert!(limit(app).await.contains("q=700"), "{}", limit(app).await);
        let flags = app.anonymous().with_token(here.max().token()).get("/api/v1/flags").await.assert(200);
        let flags = flags.json();
        let flag = flags["flags"].as_array().unwrap().iter().find(|flag| flag["name"] == "catalog.import");
        assert_eq!(flag.unwrap()["isOn"], false);
    }
    let (alice, over_there) = (here.alice(), there.anonymous().with_token(here.alice().token()));
    let creating = (0..10).map(|number| create(if number % 2 == 0 { &alice } else { &over_there }, number));
    let answers = join_all(creating).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((made, refused), (2, 8));
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn what_a_tenant_has_used_is_shown_day_by_day_and_to_those_who_may() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant_id("acme"), app.tenant_id("globex"));
    for (tenant, day, used) in [(acme, "2026-01-31", 7), (acme, "2026-02-02", 9), (globex, "2026-02-02", 5)] {
        let sql = format!(
            "insert into usage (tenant_id, day, meter, used) values ('{tenant}', '{day}', 'core.requests', {used}), \
             ('{tenant}', '{day}', 'catalog.items', {used})"
        );
        app.sql().batch_execute(&sql).await.unwrap();
    }
    app.sql().batch_execute("update usage set most = used + 1 where meter = 'catalog.items'").await.unwrap();
    let told = async |query: &str, meter: &str| {
        let all = app.alice().get(&format!("/api/v1/usage{query}")).await.assert(200).json();
        let all = all["meters"].as_array().unwrap();
        all.iter().find(|one| one["meter"] == meter).unwrap()["days"].clone()
    };
    let day = |day: &str, used: i64, most: Option<i64>| json!({ "day": day, "used": used, "most": most });
    assert_eq!(
        told("", "catalog.items").await,
        json!([day("2026-02-01", 7, Some(7)), day("2026-02-02", 9, Some(10)), day("2026-02-03", 9, Some(9))]),
        "this month, up to today"
    );
    let two = "?days=2026-02-01/2026-02-02";
    assert_eq!(
        told(two, "core.requests").await,
        json!([day("2026-02-01", 0, None), day("2026-02-02", 9, None)])
    );
    for wrong in ["?days=2025-01-01/2026-02-03", "?days=../2026-02-03", "?days=soon"] {
        app.alice().get(&format!("/api/v1/usage{wrong}")).await.assert(422).problem("core.invalid");
    }
    app.max().get("/api/v1/usage").await.assert(403).problem("core.forbidden");
    app.finish().await;
}

static HEAVY: Module =
    Module { name: "heavy", routes: || Routes::new().get("/heavy", Access::SignedIn, heavy), ..Module::BARE };

async fn heavy(State(app): State<App>, caller: Caller) -> Result<&'static str> {
    let _: Vec<()> = app.db.tenant_read(&caller).last().rows("select pg_sleep(0.03)", &[]).await?;
    Ok("done")
}

/// Gives acme a plan.
async fn give(app: &TestApp, change: operator::PlanChange) {
    let operators = operators(app);
    operator::set_plan(&operators, "small", &change).await.unwrap();
    operator::give_plan(&operators, "acme", Some("small")).await.unwrap();
    operators.close().await;
    app.clock().advance(FRESH);
}

/// The most connections that work for `/heavy` at a time, until `done`.
async fn most_connections(app: &TestApp, done: &AtomicBool) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' \
        and query = 'select pg_sleep(0.03)'";
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(app.sql().query_one(sql, &[]).await.unwrap().get(0));
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_22_a_rush_of_ten_times_its_quota_costs_others_nothing_and_holds_its_share_of_connections() {
    let app = TestApp::builder().module(&HEAVY).setting("SPEED_LIMIT_STEP", "0s");
    let app = app.setting("DATABASE_MAX_CONNECTIONS", "8").setting("DATABASE_TENANT_MAX_CONNECTIONS", "6");
    let app = app.start().await;
    let (limit, share) = (40, 2);
    let change = operator::PlanChange {
        rate_limit_max: Some(Some(limit)),
        connections: Some(Some(share)),
        ..operator::PlanChange::default()
    };
    give(&app, change).await;
    let (max, bob, done) = (app.max(), app.bob(), AtomicBool::new(false));
    let rush = async {
        let one = async || {
            let mut served = 0;
            for _ in 0..limit {
                let answer = max.get("/heavy").await;
                served += i32::from(answer.status == 200);
                assert!([200, 429].contains(&answer.status.as_u16()), "{answer}");
            }
            served
        };
        let served: i32 = join_all((0..10).map(|_| one())).await.into_iter().sum();
        done.store(true, Ordering::Relaxed);
        served
    };
    let others = async {
        let mut asked = 0;
        while asked < 40 || !done.load(Ordering::Relaxed) {
            bob.get("/api/v1/items").await.assert(200);
            asked += 1;
        }
    };
    let (served, most, ()) = tokio::join!(rush, most_connections(&app, &done), others);
    assert_eq!(served, limit, "of {}", 10 * limit);
    assert!((1..=i64::from(share)).contains(&most), "{most} connections");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_22_a_plan_bounds_requests_at_a_time_and_database_time_and_the_top_shows_who_asks() {
    let app = TestApp::builder().module(&HEAVY).start().await;
    let (max, bob) = (app.max(), app.bob());
    let refused = |answer: &Answer, policy: &str| {
        let problem = answer.clone().assert(429).problem("core.rate_limited");
        assert_eq!(problem["violated-policies"], json!([policy]), "{answer}");
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0), "{answer}");
    };
    let change = operator::PlanChange { requests_at_once: Some(Some(2)), ..operator::PlanChange::default() };
    give(&app, change).await;
    max.get("/heavy").await.assert(200);
    let answers = join_all((0..12).map(|_| max.get("/heavy"))).await;
    let (served, shed): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert!(served.len() >= 2 && !shed.is_empty(), "{} and {}", served.len(), shed.len());
    shed.iter().for_each(|answer| refused(answer, "requests-at-once"));
    max.get("/heavy").await.assert(200);

    let change = operator::PlanChange {
        requests_at_once: Some(None),
        database_ms: Some(Some(1)),
        ..operator::PlanChange::default()
    };
    give(&app, change).await;
    refused(&max.get("/heavy").await, "database-time");
    bob.get("/heavy").await.assert(200);
    let operator = app.operator().await;
    let top = operator.get("/api/v1/admin/tenants/top").await.assert(200).json();
    let slugs: Vec<_> = top["tenants"].as_array().unwrap().iter().map(|one| one["slug"].clone()).collect();
    assert_eq!((&slugs[..2], &top["minutes"]), (&[json!("acme"), json!("globex")][..], &json!(5)));
    let acme = &top["tenants"][0];
    assert!(
        acme["databaseMs"].as_u64().unwrap() >= 100 && acme["requests"].as_u64().unwrap() >= 15,
        "{acme}"
    );
    assert_eq!((&acme["errors"], &acme["connections"]), (&json!(0), &json!(0)), "{acme}");
    for by in ["requests", "errors", "connections", "database-time"] {
        let one =
            operator.get(&format!("/api/v1/admin/tenants/top?by={by}&limit=1")).await.assert(200).json();
        assert_eq!(one["tenants"].as_array().unwrap().len(), 1, "{by}");
    }
    app.alice().get("/api/v1/admin/tenants/top").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn rows_of_a_file_beyond_the_quota_are_rejected_one_by_one_and_the_import_goes_on() {
    let app = TestApp::builder().setting("JOB_WORKERS", "2").start().await;
    let had = usage(&app.alice(), "catalog.items").await["used"].as_i64().unwrap();
    plan(&[&app], &[("catalog.items", Some(had + 3))]).await;
    let alice = app.alice();
    create(&alice, "OLD").await.assert(201);
    // Two have room; what changes a row that is there wants none.
    let file = "sku,name\nQ-1,New\nQ-2,New\nQ-3,New\nQ-4,New\nOLD,Changed\n";
    let file =
        http::Request::post("/api/v1/items/imports").header("content-type", "text/csv").body(file).unwrap();
    let id = alice.request(file).await.assert(202).json()["jobId"].as_str().unwrap().to_owned();
    let over = format!("select exists (select from job_done where id = '{id}' and outcome = 'succeeded')");
    app.until(&over, "select to_jsonb(array_agg(j)) from job_dead j").await;
    let result = alice.get(&format!("/api/v1/jobs/{id}/result")).await.assert(200).json()["result"].clone();
    assert_eq!(
        (&result["created"], &result["changed"], &result["rejected"]),
        (&json!(2), &json!(1), &json!(2))
    );
    let rejected = format!("/api/v1/files/{}/content", result["rejections"].as_str().unwrap());
    let rejected = alice.get(&rejected).await.assert(200).text();
    let lines: Vec<&str> = rejected.lines().collect();
    assert_eq!(lines.len(), 3, "{rejected}");
    for (line, begins) in lines[1..].iter().zip(["4,", "5,"]) {
        assert!(line.starts_with(begins) && line.contains("plan"), "{rejected}");
    }
    assert_eq!(usage(&alice, "catalog.items").await["used"], json!(had + 3));
    app.finish().await;
}
