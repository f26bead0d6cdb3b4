use std::collections::BTreeSet;
use std::path::Path;

use super::family::Series;
use super::instrument::{Instrument, Sample};
use super::*;

#[test]
fn every_row_is_unique_and_documented() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} stands twice", metric.name);
        assert!(
            metric.help().len() > 20 && metric.help().ends_with('.'),
            "{} is not documented",
            metric.name
        );
        assert!(!metric.unit.is_empty(), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
        assert!(metric.buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
        assert!(!metric.labels.contains(&"le"), "{}", metric.name);
        // The specification's names are kept; every new duration is in seconds (O-04).
        let specified = ["http_request_duration_ms", "db_operation_duration_ms"];
        assert!(!metric.name.ends_with("_ms") || specified.contains(&metric.name), "{}", metric.name);
    }
}

#[test]
fn the_text_is_that_of_the_specification() {
    let metrics = Metrics::new(true);
    metrics.record_request("GET", "/api/users", 200, 45_000.5);
    metrics.record_request("GET", "/api/users", 200, 2.5);
    metrics.record_request("GET", "/api/users", 404, 0.25);
    metrics.record_database("select", "item", 0.5, true);
    let text = metrics.render(Format::Text004);
    for part in [
        "# HELP http_requests_total Requests answered, by method, route template and status.\n",
        "# TYPE http_requests_total counter\nhttp_requests_total{method=\"GET\",path=\"/api/users\",status_code=\"200\"} 2\n",
        "http_errors_total{method=\"GET\",path=\"/api/users\",status_code=\"404\"} 1\n# HELP",
        "# TYPE http_request_duration_ms histogram\n",
        "http_request_duration_ms_bucket{method=\"GET\",path=\"/api/users\",le=\"1\"} 1\n",
        "http_request_duration_ms_bucket{method=\"GET\",path=\"/api/users\",le=\"2.5\"} 2\n",
        "http_request_duration_ms_bucket{method=\"GET\",path=\"/api/users\",le=\"10000\"} 2\n",
        "http_request_duration_ms_bucket{method=\"GET\",path=\"/api/users\",le=\"+Inf\"} 3\n",
        "http_request_duration_ms_sum{method=\"GET\",path=\"/api/users\"} 45003.25\n",
        "http_request_duration_ms_count{method=\"GET\",path=\"/api/users\"} 3\n",
        "db_operations_total{operation=\"select\",table=\"item\",success=\"true\"} 1\n",
        "\nmetrics_series_dropped_total 0\n",
        "\nlog_lines_dropped_total 0\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(!text.contains("EOF"));
}

#[test]
fn openmetrics_follows_its_own_rules() {
    let metrics = Metrics::new(true);
    metrics.record_request("GET", "/a", 200, 1.0);
    let text = metrics.render(Format::OpenMetrics);
    assert!(text.contains("# TYPE http_requests counter\nhttp_requests_total{"), "{text}");
    assert!(
        text.contains("# HELP log_lines_dropped ") && text.contains("\nlog_lines_dropped_total 0\n"),
        "{text}"
    );
    assert!(
        text.contains("le=\"1.0\"} 1\n")
            && text.contains("le=\"2.5\"} 1\n")
            && text.contains("le=\"+Inf\"} 1\n")
    );
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn labels_and_help_cannot_break_a_line() {
    let metrics = Metrics::new(true);
    metrics.record_database("a\"b\\c\nd{}", "é", f64::NAN, false);
    metrics.db_operation_duration_ms.with(&["x", "y"]).observe(f64::INFINITY);
    let text = metrics.render(Format::Text004);
    assert!(
        text.contains(r#"db_operations_total{operation="a\"b\\c\nd{}",table="é",success="false"} 1"#),
        "{text}"
    );
    assert!(text.contains("db_operation_duration_ms_count{operation=\"a\\\"b"), "{text}");
    assert!(text.contains("db_operation_duration_ms_sum{operation=\"x\",table=\"y\"} +Inf\n"), "{text}");
}

#[test]
fn o_05_random_labels_stay_bounded() {
    let metrics = Metrics::new(true);
    for number in 0..5000 {
        let label = format!("random-{number}");
        metrics.record_request("GET", &label, 200, 1.0);
        metrics.record_database(&label, &label, 1.0, true);
    }
    for family in metrics.families.all() {
        assert!(family.samples().len() <= MOST_SERIES + 1, "{}", family.metric().name);
    }
    let text = metrics.render(Format::Text004);
    assert!(
        text.contains("http_requests_total{method=\"other\",path=\"other\",status_code=\"other\"} 4000\n")
    );
    assert!(text.contains("http_request_duration_ms_count{method=\"other\",path=\"other\"} 4000\n"));
    assert!(text.contains("\nmetrics_series_dropped_total 16000\n"));
    metrics.record_request("GET", "random-1", 200, 1.0);
    assert_eq!(metrics.http_requests_total.with(&["GET", "random-1", "200"]).get(), 2);
}

#[test]
fn labels_that_say_other_are_the_series_of_the_rest() {
    let metrics = Metrics::with_series_limit(true, 2);
    for labels in [["other", "other"], ["a", "a"], ["b", "b"], ["c", "c"], ["other", "other"], ["a", "a"]] {
        metrics.db_operation_duration_ms.with(&labels).observe(1.0);
    }
    let text = metrics.render(Format::Text004);
    assert_eq!(text.matches("db_operation_duration_ms_count{").count(), 3, "{text}");
    assert!(
        text.contains("db_operation_duration_ms_count{operation=\"other\",table=\"other\"} 3\n"),
        "{text}"
    );
    assert!(text.contains("\nmetrics_series_dropped_total 1\n"), "{text}");
}

#[test]
fn o_05_random_methods_and_statuses_add_at_most_five_series() {
    let metrics = Metrics::new(true);
    for number in 0..5000_u16 {
        metrics.record_request(
            &format!("M{number}"),
            "/a",
            if number % 2 == 0 { 0 } else { 60_000 + number },
            1.0,
        );
    }
    let added: usize = metrics.families.all().iter().map(|family| family.samples().len()).sum();
    assert_eq!(added - 2, 3, "one series in each of the three http families");
}

#[test]
fn concurrent_recording_loses_nothing() {
    let metrics = Metrics::new(true);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let metrics = metrics.clone();
            scope.spawn(move || {
                let held = metrics.http_requests_total.with(&["GET", "/a", "200"]);
                for _ in 0..10_000 {
                    held.inc();
                    metrics.record_database("select", "item", 0.5, true);
                }
            });
        }
    });
    assert_eq!(metrics.http_requests_total.with(&["GET", "/a", "200"]).get(), 80_000);
    let [(_, Sample::Buckets(counts, sum))] = &metrics.db_operation_duration_ms.samples()[..] else {
        panic!()
    };
    assert_eq!((counts[0], *sum), (80_000, 40_000.0));
}

#[test]
fn disabled_metrics_keep_nothing() {
    let metrics = Metrics::new(false);
    metrics.record_request("GET", "/a", 200, 1.0);
    metrics.record_database("select", "item", 1.0, true);
    let held = metrics.log_lines_dropped_total.with(&[]);
    held.add(3);
    assert_eq!((held.get(), metrics.is_enabled()), (0, false));
    assert!(metrics.families.all().iter().all(|family| family.samples().is_empty()));
}

#[test]
fn instruments_do_what_they_say() {
    let counter = Counter::new(METRICS[0]);
    counter.add(2);
    counter.catch_up(7);
    counter.catch_up(3);
    assert_eq!(counter.get(), 7);
    let gauge = Gauge::new(METRICS[0]);
    gauge.set(2.0);
    gauge.add(-0.5);
    assert_eq!((gauge.sample(), Gauge::disabled().get()), (Sample::Value(1.5), 0.0));
}

#[test]
fn the_accept_header_chooses_the_format() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for open in [prometheus, "application/openmetrics-text", "application/openmetrics-text; q=0.9, */*"] {
        assert_eq!(Format::from_accept(Some(open)), Format::OpenMetrics, "{open}");
    }
    for text in [
        "",
        "*/*",
        "text/plain",
        "text/html",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.1,text/plain",
        "application/openmetrics-text;q=x",
    ] {
        assert_eq!(Format::from_accept(Some(text)), Format::Text004, "{text}");
    }
    assert_eq!(Format::from_accept(None), Format::Text004);
}

#[test]
#[allow(clippy::disallowed_methods)] // BLESS is for the person who runs the tests
fn the_reference_is_fresh() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("docs/reference/metrics.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, render_markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == render_markdown(), "{} is stale: run the tests with BLESS=1", path.display());
}
