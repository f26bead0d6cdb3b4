//! Searching the audit log: what is found is what a plain look at all rows finds, whatever is sealed and in blocks.

use erp_testkit::TestApp;
use serde_json::Value;

/// Rows of acme: seven actors, eleven actions, three kinds of things, an id of its own each.
async fn fill(app: &TestApp, rows: u32) {
    let sql = format!(
        "select set_config('app.actor', 'actor ' || g % 7, true), app.audit('thing.' || g % 11, 'thing ' || g % 3, \
           'id ' || g, outcome => case when g % 5 = 0 then 'failure' else 'success' end, \
           details => jsonb_build_object('said', 'Needle_' || g)) from generate_series(1, {rows}) g"
    );
    app.execute_in("acme", &sql).await;
}

/// The numbers of all rows that a search finds, page by page.
async fn found(app: &TestApp, query: &str) -> Vec<i64> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.alice().get(&format!("/api/v1/audit?{query}{cursor}")).await.assert(200).json();
        found.extend(page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()));
        let Value::String(next) = &page["nextCursor"] else { return found };
        cursor = format!("&cursor={next}");
    }
}

/// The same by SQL.
async fn expected(app: &TestApp, condition: &str) -> Vec<i64> {
    let sql = format!("select seq from audit_log where tenant_id = $1 and ({condition}) order by seq desc");
    let rows = app.sql().query(&sql, &[&app.tenant_id("acme")]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

const SEARCHES: [(&str, &str); 14] = [
    ("limit=200", "true"),
    ("actor=actor+3&limit=37", "actor = 'actor 3'"),
    ("action=thing.4&limit=50", "action = 'thing.4'"),
    ("resource=thing+1&limit=200", "resource = 'thing 1'"),
    ("resourceId=id+77", "resource_id = 'id 77'"),
    ("resourceId=id+77&resource=thing+1", "resource_id = 'id 77' and resource = 'thing 1'"),
    ("actor=actor+3&action=thing.4&limit=3", "actor = 'actor 3' and action = 'thing.4'"),
    ("actor=actor+3&resource=thing+0", "actor = 'actor 3' and resource = 'thing 0'"),
    ("action=thing.4&outcome=failure&limit=1", "action = 'thing.4' and outcome = 'failure'"),
    ("text=eedle_77&limit=1", "details::text like '%eedle\\_77%'"),
    ("text=NEEDLE_777", "details::text like '%Needle\\_777%'"),
    ("actor=nobody", "false"),
    ("action=thing.4&text=nowhere", "false"),
    ("resource=thing+1&resourceId=id+2", "false"),
];

async fn each_search_agrees(app: &TestApp, when: &str) {
    for (query, condition) in SEARCHES {
        assert_eq!(found(app, query).await, expected(app, condition).await, "{when}: {query}");
    }
}

#[tokio::test]
async fn a_search_finds_what_a_look_at_every_row_finds_whatever_is_sealed() {
    let app = TestApp::start().await;
    fill(&app, 700).await;
    each_search_agrees(&app, "nothing is sealed").await;
    app.seal_audit().await;
    each_search_agrees(&app, "two blocks are full").await;
    fill(&app, 800).await;
    each_search_agrees(&app, "half is sealed").await;
    app.seal_audit().await;
    each_search_agrees(&app, "all is sealed").await;
    let blocks = "select count(*) from audit_blocks where tenant_id = $1 and block < 1000";
    let tenant = app.tenant_id("acme");
    assert_eq!(
        app.sql().query_one(blocks, &[&tenant]).await.unwrap().get::<_, i64>(0),
        5,
        "of some 1,500 rows"
    );
    // Rows that an earlier version has sealed.
    for sql in ["delete from audit_blocks where block < 1000", "update audit_logs set searchable = 0"] {
        app.sql().execute(sql, &[]).await.unwrap();
    }
    each_search_agrees(&app, "after an update").await;
    fill(&app, 1).await;
    app.seal_audit().await;
    each_search_agrees(&app, "made searchable later").await;
    assert_eq!(app.sql().query_one(blocks, &[&tenant]).await.unwrap().get::<_, i64>(0), 5);
    app.finish().await;
}

#[tokio::test]
async fn a_search_keeps_to_its_time() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        fill(&app, 300).await; // one transaction, one moment later
    }
    app.seal_audit().await;
    let sql =
        "select min(at)::text, max(at)::text from audit_log where tenant_id = $1 and seq between 350 and 650";
    let times = app.sql().query_one(sql, &[&app.tenant_id("acme")]).await.unwrap();
    let (since, until): (String, String) = (times.get(0), times.get(1));
    let url = |time: &str| time.replace(' ', "T").replace('+', "%2B");
    let condition = format!("at >= '{since}' and at < '{until}'");
    let time = format!("since={}:00&until={}:00", url(&since), url(&until));
    for (query, of) in [
        ("limit=200", "true"),
        ("actor=actor+3&limit=9", "actor = 'actor 3'"),
        ("text=_7", "details::text like '%\\_7%'"),
    ] {
        let expected = expected(&app, &format!("{of} and {condition}")).await;
        assert_eq!(found(&app, &format!("{query}&{time}")).await, expected, "{query}");
        assert!(!expected.is_empty());
    }
    app.finish().await;
}

#[tokio::test]
async fn a_page_tells_what_happened_and_no_tenant_finds_anothers_rows() {
    let app = TestApp::start().await;
    fill(&app, 300).await;
    app.seal_audit().await;
    app.alice()
        .post("/api/v1/items", serde_json::json!({ "sku": "S-1", "name": "It", "quantity": 3 }))
        .await
        .assert(201);
    let page = app.alice().get("/api/v1/audit?action=item.created").await.assert(200).json();
    let event = &page["items"][0];
    assert_eq!(
        (event["resource"].as_str(), event["after"]["sku"].as_str()),
        (Some("item"), Some("S-1")),
        "{page}"
    );
    assert_eq!(event["outcome"], "success");
    assert!(
        event["correlationId"].is_string() && event["clientIp"].is_string() && event["before"].is_null(),
        "{page}"
    );
    for query in ["action=thing.4", "actor=actor+3", "resourceId=id+7", "text=needle", "text=s-1"] {
        let page = app.bob().get(&format!("/api/v1/audit?{query}")).await.assert(200).json();
        assert_eq!(page["items"].as_array().map(Vec::len), Some(0), "{query}: {page}");
    }
    app.max().get("/api/v1/audit").await.assert(403);
    for cursor in ["x", "MQ", "MC4w", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE", "%00"] {
        let answer = app.alice().get(&format!("/api/v1/audit?cursor={cursor}")).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{cursor}");
    }
    app.finish().await;
}

/// A walk is bounded: what is rare and far away is reached page by page.
#[tokio::test]
async fn a_page_looks_through_so_many_rows_and_says_where_to_go_on() {
    let app = TestApp::start().await;
    fill(&app, 18_000).await;
    let page = app.alice().get("/api/v1/audit?text=needle_9%22").await.assert(200).json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(0), "{page}");
    assert!(page["nextCursor"].is_string(), "{page}");
    let sql = r#"details::text like '%Needle\_9"%'"#;
    assert_eq!(found(&app, "text=needle_9%22").await, expected(&app, sql).await);
    // Frequent by its term, and rare by what no filter knows: 17,000 rows of one action in blocks.
    app.seal_audit().await;
    assert_eq!(
        found(&app, "actor=actor+2&text=needle_9%22").await,
        expected(&app, &format!("actor = 'actor 2' and {sql}")).await
    );
    app.finish().await;
}
