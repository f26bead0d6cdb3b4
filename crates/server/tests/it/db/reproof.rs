//! The isolation proof of a running server: made again on reconnect, and readiness follows it.

use std::time::{Duration, Instant};

use erp_testkit::TestApp;

/// How long a verdict may take from the reconnect: the monitor asks twice a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ends the connection that the monitor asks over, as a quick failover does; to the next one the server answers at once.
async fn fail_over(app: &TestApp) {
    app.sql().query("select pg_terminate_backend($1)", &[&app.monitor().await]).await.unwrap();
}

/// Waits until readiness answers `status`, and returns what it names as failed.
async fn ready(app: &TestApp, status: u16) -> String {
    let begun = Instant::now();
    loop {
        let answer = app.anonymous().get("/readyz").await;
        if answer.status.as_u16() == status {
            return answer.json()["failed"].to_string();
        }
        assert!(begun.elapsed() < PATIENCE, "not {status}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the log holds `count` lines with this message.
async fn logged(app: &TestApp, message: &str, count: usize) {
    let begun = Instant::now();
    while app.log().with_message(message).len() < count {
        assert!(begun.elapsed() < PATIENCE, "no {count} lines {message:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn t_08_isolation_that_breaks_while_serving_turns_readiness_off_and_its_mend_on() {
    let app = TestApp::start().await;
    app.expect_errors();
    assert_eq!(ready(&app, 200).await, "[]");
    app.sql().batch_execute("alter table items no force row level security").await.unwrap();
    fail_over(&app).await;
    assert_eq!(ready(&app, 503).await, r#"["isolation"]"#);
    let broken = app.log().with_message("Isolation is broken");
    assert!(broken.iter().any(|line| line["object"] == "public.items"), "{broken:?}");
    app.anonymous().get("/livez").await.assert(200);
    let metrics = app.anonymous().get("/metrics").await.text();
    assert!(metrics.contains("\nisolation_proof_passed 0\n"), "{metrics}");

    app.sql().batch_execute("alter table items force row level security").await.unwrap();
    fail_over(&app).await;
    ready(&app, 200).await;
    logged(&app, "Isolation proven again", 1).await;
    app.finish().await;
}

#[tokio::test]
async fn a_proof_that_cannot_be_made_thrice_counts_as_none() {
    let app = TestApp::start().await;
    app.expect_errors();
    app.sql().batch_execute("alter table app.relations rename column ordinal to other").await.unwrap();
    for failures in 1..=3 {
        assert_eq!(ready(&app, 200).await, "[]", "the last verdict stands after {} failures", failures - 1);
        fail_over(&app).await;
        logged(&app, "The isolation proof could not be made", failures).await;
    }
    assert_eq!(ready(&app, 503).await, r#"["isolation"]"#);

    app.sql().batch_execute("alter table app.relations rename column other to ordinal").await.unwrap();
    fail_over(&app).await;
    ready(&app, 200).await;
    app.finish().await;
}

/// Lets this database take `limit` connections; -1 for any number.
async fn let_in(app: &TestApp, limit: &str) {
    let sql = format!(
        "do $$ begin execute format('alter database %I connection limit {limit}', current_database()); end $$"
    );
    app.sql().batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn s_04_a_database_that_gives_no_connection_says_nothing_of_isolation_until_the_last_proof_is_old() {
    let app = TestApp::start().await;
    app.expect_errors();
    let now = "select count(*)::text from pg_stat_activity where datname = current_database()";
    let all: String = app.sql().query_one(now, &[]).await.unwrap().get(0);
    let_in(&app, &all).await;
    // The monitor takes the place that it had. The proof finds none, however often it is asked for.
    for failures in 1..=4 {
        fail_over(&app).await;
        logged(&app, "The isolation proof could not be made", failures).await;
        assert_eq!(ready(&app, 200).await, "[]", "after {failures} failures");
    }
    app.clock().advance(jiff::SignedDuration::from_secs(600));
    fail_over(&app).await;
    assert_eq!(ready(&app, 503).await, r#"["isolation"]"#);

    let_in(&app, "-1").await;
    assert_eq!(ready(&app, 200).await, "[]", "tried again without being asked");
    app.finish().await;
}

#[tokio::test]
async fn tasks_that_the_process_needs_are_watched() {
    let app = TestApp::builder().setting("METRICS_PORT", "0").start().await;
    let metrics = app.anonymous().get("/metrics").await.text();
    for task in ["accept", "database monitor", "isolation proof"] {
        let line = format!("\nbackground_restarts_total{{task=\"{task}\"}} 0\n");
        assert!(metrics.contains(&line), "no {line:?} in {metrics}");
    }
    app.finish().await;
}
