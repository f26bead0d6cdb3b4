//! Lists of items: order, pages, bounds and search.

use std::collections::HashSet;

use erp_testkit::{Actor, TestApp};
use serde_json::{Value, json};

const SORTS: [&str; 6] = ["createdAt", "-createdAt", "name", "-name", "sku", "-sku"];

async fn page(actor: &Actor<'_>, query: &str) -> Value {
    actor.get(&format!("/api/v1/items?{query}")).await.assert(200).json()
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_have_no_gap_and_no_duplicate_in_any_order() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for number in 0..30 {
        // Three names for ten items each, so that only the id orders them; and texts that sort oddly.
        let name = ["alpha", "Älpha", "alpha\\ 'quoted' \"x\""][number % 3];
        let body = json!({ "sku": format!("L-{:02}", 29 - number), "name": name });
        alice.post("/api/v1/items", body).await.assert(201);
    }
    app.execute_in("acme", "update items set created_at = '2026-01-01' where sku like 'L-1%'").await;
    for sort in SORTS {
        let whole = ids(&page(&alice, &format!("sort={sort}&limit=200")).await);
        assert_eq!(whole.len(), 33);
        for limit in [1, 7, 33] {
            let (mut walked, mut next) = (Vec::new(), None::<String>);
            loop {
                let cursor = next.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
                let part = page(&alice, &format!("sort={sort}&limit={limit}{cursor}")).await;
                assert!(ids(&part).len() <= limit);
                walked.extend(ids(&part));
                next = part["nextCursor"].as_str().map(str::to_owned);
                if next.is_none() {
                    assert_eq!(part["nextCursor"], Value::Null);
                    break;
                }
            }
            assert_eq!(walked, whole, "sort={sort}&limit={limit}");
        }
        assert_eq!(whole.iter().collect::<HashSet<_>>().len(), 33);
    }
    app.finish().await;
}

#[tokio::test]
async fn any_time_that_can_be_stored_pages_on_and_others_cannot_be_stored() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let insert = |at: &str| {
        format!(
            "insert into items (id, sku, name, created_at) values (gen_random_uuid(), 'T-' || md5('{at}'), 't', '{at}')"
        )
    };
    let stored = [
        "0001-01-01 00:00:00+00",
        "1582-10-10 12:00:00+00",
        "1900-01-01 00:00:00.000001+00",
        "9998-12-31 23:59:59.999999+00",
    ];
    for at in stored {
        app.execute_in("acme", &insert(at)).await;
    }
    for at in ["infinity", "-infinity", "9999-12-31 23:59:59.999999+00", "0001-12-31 BC", "294276-12-31"] {
        let in_acme = format!("set local app.tenant_id = '{}'; {}", app.tenant_id("acme"), insert(at));
        let refused = app.database().runtime().await.batch_execute(&format!("begin; {in_acme}")).await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "23514", "{at}");
    }
    for sort in ["createdAt", "-createdAt"] {
        let whole = ids(&page(&alice, &format!("sort={sort}&limit=200")).await);
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let part = page(&alice, &format!("sort={sort}&limit=1{cursor}")).await;
            walked.extend(ids(&part));
            let Some(next) = part["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((walked.len(), &walked), (3 + stored.len(), &whole), "{sort}");
    }
    app.finish().await;
}

#[tokio::test]
async fn the_default_is_the_newest_50() {
    let app = TestApp::start().await;
    app.execute_in(
        "acme",
        "insert into items (id, sku, name, created_at) select gen_random_uuid(), 'D-' || n, 'Default', \
         now() + make_interval(secs => n) from generate_series(1, 250) n",
    )
    .await;
    let alice = app.alice();
    let plain = page(&alice, "").await;
    assert_eq!((ids(&plain).len(), &plain["items"][0]["sku"]), (50, &json!("D-250")));
    assert_eq!(ids(&plain), ids(&page(&alice, "sort=-createdAt&limit=50").await));
    assert_eq!(ids(&page(&alice, "limit=200").await).len(), 200);
    app.finish().await;
}

#[tokio::test]
async fn i_05_a_limit_out_of_its_bounds_or_an_unknown_parameter_is_422() {
    let app = TestApp::start().await;
    for query in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=65536",
        "limit=1e2",
        "limit=1&limit=2",
        "sort=quantity",
        "sort=",
        "sort=name;drop",
        "q=",
        "q=%00",
        "page=2",
        "tenant_id=x",
        "limit=%ff",
        "q=%ff%00",
    ] {
        let problem =
            app.alice().get(&format!("/api/v1/items?{query}")).await.assert(422).problem("core.invalid");
        let (wrong, _) = query.split_once('=').unwrap();
        let told: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(told, [format!("?{wrong}")], "what is wrong and nothing else: {problem}");
    }
    app.finish().await;
}

#[tokio::test]
async fn i_05_a_cursor_that_was_tampered_with_is_400() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let cursor = page(&alice, "limit=1&sort=name").await["nextCursor"].as_str().unwrap().to_owned();
    let forge = |sort: &str, value: Value, id: &str| {
        use base64::Engine as _;
        let json = json!({ "sort": sort, "value": value, "id": id }).to_string();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    };
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let tampered = [
        ("name", String::new()),
        ("name", "x".to_owned()),
        ("name", format!("{cursor}x")),
        ("name", cursor[1..].to_owned()),
        ("name", cursor[..cursor.len() - 2].to_owned()),
        ("-name", cursor.clone()),
        ("sku", cursor.clone()),
        ("name", forge("name", json!("a\0b"), id)),
        ("name", forge("name", json!(1), id)),
        ("name", forge("name", json!("a"), "x")),
        ("createdAt", forge("createdAt", json!("yesterday"), id)),
        ("createdAt", forge("createdAt", json!("-009998-01-01T00:00:00Z"), id)),
        ("createdAt", forge("createdAt", json!("0000-01-01T00:00:00Z"), id)),
        ("createdAt", forge("createdAt", json!("2026-01-01T00:00:00Z[Europe/Paris]"), id)),
        ("createdAt", forge("createdAt", json!("2026-01-01T00:00:00Z'; select 1"), id)),
    ];
    for (sort, cursor) in tampered {
        let answer = alice.get(&format!("/api/v1/items?limit=1&sort={sort}&cursor={cursor}")).await;
        answer.assert(400).problem("core.malformed_cursor");
    }
    alice.get(&format!("/api/v1/items?limit=1&sort=name&cursor={cursor}")).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn i_04_a_search_is_text_and_no_pattern() {
    let app = TestApp::start().await;
    let alice = app.alice();
    for (sku, name) in
        [("Q-1", "100% wool"), ("Q-2", "snake_case"), ("Q-3", "back\\slash"), ("Q-4", "it's; --")]
    {
        alice.post("/api/v1/items", json!({ "sku": sku, "name": name })).await.assert(201);
    }
    for (q, expected) in [
        ("%25", vec!["100% wool"]),
        ("_", vec!["snake_case"]),
        ("%5C", vec!["back\\slash"]),
        ("%5C%25", vec![]),
        ("WOOL", vec!["100% wool"]),
        ("%27s%3B%20--", vec!["it's; --"]),
        ("q-2", vec!["snake_case"]),
        ("%27%20or%201%3D1", vec![]),
    ] {
        assert_eq!(names(&page(&alice, &format!("q={q}")).await), expected, "q={q}");
    }
    assert!(names(&page(&app.bob(), "q=wool").await).is_empty());
    app.finish().await;
}
