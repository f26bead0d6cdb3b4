use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::instrument::{Instrument, Recorded};
use super::series::Series;
use super::*;
use crate::shared::{SystemClock, SystemRng};

const MS: Duration = Duration::from_millis(1);

fn tenant() -> TenantId {
    TenantId::new(&SystemClock, &SystemRng::new())
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

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
    metrics.record_request("GET", "/api/users", 200, Duration::from_micros(45_000_500), None);
    metrics.record_request("GET", "/api/users", 200, Duration::from_micros(2500), None);
    metrics.record_request("GET", "/api/users", 404, Duration::from_micros(250), None);
    metrics.record_database("select", "item", Duration::from_micros(500), true, None);
    let text = metrics.render(Format::Text004);
    for part in [
        "# HELP http_requests_total Requests answered, by method, route template, status and tenant.\n",
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
    metrics.record_request("GET", "/a", 200, MS, None);
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
    metrics.record_database("a\"b\\c\nd{}", "é", MS, false, None);
    metrics.db_operation_duration_ms.with(&["x", "y", ""]).observe(f64::INFINITY);
    metrics.db_operation_duration_ms.with(&["x", "y", ""]).observe(f64::NAN);
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
        metrics.record_request("GET", &label, 200, MS, None);
        metrics.record_database(&label, &label, MS, true, None);
    }
    for family in metrics.0.registry.all() {
        assert!(family.samples().len() <= SeriesLimits::default().series + 1, "{}", family.shape().name);
    }
    let text = metrics.render(Format::Text004);
    assert!(text.contains(
        "http_requests_total{method=\"other\",path=\"other\",status_code=\"other\",tenant=\"other\"} 4000\n"
    ));
    assert!(
        text.contains(
            "http_request_duration_ms_count{method=\"other\",path=\"other\",tenant=\"other\"} 4000\n"
        )
    );
    assert!(text.contains("\nmetrics_series_dropped_total 16000\n"));
    metrics.record_request("GET", "random-1", 200, MS, None);
    assert_eq!(metrics.http_requests_total.with(&["GET", "random-1", "200", ""]).get(), 2);
}

#[test]
fn labels_that_say_other_are_the_series_of_the_rest() {
    let metrics = Metrics::with_limits(true, SeriesLimits { series: 2, ..SeriesLimits::default() });
    for task in ["other", "a", "b", "c", "other", "a"] {
        metrics.background_panics_total.with(&[task]).inc();
    }
    let text = metrics.render(Format::Text004);
    assert_eq!(lines(&text, "background_panics_total{").len(), 3, "{text}");
    assert!(text.contains("background_panics_total{task=\"other\"} 3\n"), "{text}");
    assert!(text.contains("\nmetrics_series_dropped_total 1\n"), "{text}");
}

#[test]
fn without_room_a_series_loses_its_tenant_first() {
    let metrics = Metrics::with_limits(true, SeriesLimits { tenant_series: 2, ..SeriesLimits::default() });
    for _ in 0..5 {
        metrics.record_request("GET", "/a", 200, MS, Some(tenant()));
    }
    let text = metrics.render(Format::Text004);
    assert_eq!(lines(&text, "http_requests_total{").len(), 3, "{text}");
    let rest = "http_requests_total{method=\"GET\",path=\"/a\",status_code=\"200\",tenant=\"other\"} 3\n";
    assert!(text.contains(rest), "{text}");
}

#[test]
fn the_tenant_is_a_label_of_http_database_and_business() {
    let (metrics, acme) = (Metrics::new(true), tenant());
    metrics.record_request("GET", "/a", 500, MS, Some(acme));
    metrics.record_request("GET", "/a", 200, MS, None);
    metrics.record_database("select", "items", MS, true, Some(acme));
    metrics.business("revenue", 1500.5, "financial", "USD", Some(acme));
    metrics.business("revenue", -0.5, "financial", "USD", Some(acme));
    metrics.business("user_signup", 1.0, "acquisition", "", None);
    let text = metrics.render(Format::Text004);
    let label = format!("tenant=\"{acme}\"");
    for start in [
        "http_requests_total",
        "http_request_duration_ms_sum",
        "http_errors_total",
        "db_operations_total",
        "db_operation_duration_ms_sum",
    ] {
        assert!(lines(&text, start).iter().any(|line| line.contains(&label)), "{start}\n{text}");
    }
    assert!(
        text.contains(&format!("business_revenue{{category=\"financial\",unit=\"USD\",{label}}} 1500\n")),
        "{text}"
    );
    assert!(text.contains("business_user_signup{category=\"acquisition\"} 1\n"), "{text}");
    assert!(
        text.contains("http_requests_total{method=\"GET\",path=\"/a\",status_code=\"200\"} 1\n"),
        "{text}"
    );
    let without = Metrics::with_limits(true, SeriesLimits { tenants: 0, ..SeriesLimits::default() });
    without.record_request("GET", "/a", 200, MS, Some(acme));
    assert!(!without.render(Format::Text004).contains("tenant="));
}

#[test]
fn a_tenant_that_becomes_busy_takes_the_place_of_the_least_busy() {
    let metrics = Metrics::with_limits(true, SeriesLimits { tenants: 2, ..SeriesLimits::default() });
    let [first, second, rush] = [tenant(), tenant(), tenant()];
    let record =
        |tenant, times| (0..times).for_each(|_| metrics.record_request("GET", "/a", 200, MS, Some(tenant)));
    let replace = || metrics.0.tenants.replace().into_iter().for_each(|gone| metrics.forget(gone));
    let shown = |tenant: TenantId| metrics.render(Format::Text004).contains(&tenant.to_string());
    record(first, 10);
    record(second, 3);
    record(rush, 6);
    replace();
    record(rush, 1);
    assert!(shown(first) && shown(second) && !shown(rush), "twice as much is not more than twice as much");
    record(rush, 20);
    replace();
    record(rush, 1);
    assert!(shown(first) && shown(second) && shown(rush), "the one that leaves is still shown once");
    replace();
    assert!(shown(first) && !shown(second) && shown(rush));
    record(second, 1);
    assert!(!shown(second));
    let total: u64 = lines(&metrics.render(Format::Text004), "http_requests_total{")
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(total, 10 + 28 + 1, "everything but what left with the tenant");
}

#[test]
fn o_05_ten_thousand_tenants_stay_bounded() {
    let metrics = Metrics::with_limits(true, SeriesLimits { tenants: 5, ..SeriesLimits::default() });
    let regular = tenant();
    for round in 0..10 {
        for _ in 0..1000 {
            metrics.record_request("GET", "/a", 200, MS, Some(tenant()));
            metrics.record_request("GET", "/a", 200, MS, Some(regular));
        }
        metrics.0.tenants.replace().into_iter().for_each(|gone| metrics.forget(gone));
        let series = metrics.http_requests_total.0.samples().len();
        assert!(series <= 5 + 5 + 1, "{series} in round {round}");
    }
    assert!(
        metrics.render(Format::Text004).contains(&regular.to_string()),
        "the busy one is found among the noise"
    );
}

#[test]
fn by_name_everything_registers_itself() {
    let metrics = Metrics::new(true);
    metrics.counter("user_created", 1, &[("tenant", "tenant-1"), ("source", "a")]);
    metrics.counter("user_created_total", 2, &[("source", "a"), ("tenant", "tenant-1")]);
    metrics.gauge("active_connections", 45.0, "connections", &[]);
    metrics.histogram("upload_bytes", 5.0, &[10.0, 100.0], &[("kind", "image")]);
    metrics.histogram("upload_bytes", 50.0, &[], &[]);
    metrics.counter("http_requests_total", 3, &[("path", "/x"), ("method", "GET"), ("status_code", "200")]);
    let text = metrics.render(Format::Text004);
    for part in [
        "# HELP user_created_total Counted by name.\n# TYPE user_created_total counter\n",
        "user_created_total{tenant=\"tenant-1\",source=\"a\"} 3\n",
        "# HELP active_connections Set by name, in connections.\n# TYPE active_connections gauge\nactive_connections 45\n",
        "upload_bytes_bucket{kind=\"image\",le=\"10\"} 1\nupload_bytes_bucket{kind=\"image\",le=\"100\"} 1\n",
        "upload_bytes_bucket{le=\"10\"} 0\nupload_bytes_bucket{le=\"100\"} 1\n",
        "http_requests_total{method=\"GET\",path=\"/x\",status_code=\"200\"} 3\n",
        "\nmetrics_series_dropped_total 0\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(metrics.render(Format::OpenMetrics).contains("# TYPE user_created counter\nuser_created_total{"));
}

#[test]
fn by_name_what_prometheus_would_not_take_is_refused_and_counted() {
    let metrics = Metrics::new(true);
    metrics.counter("jobs", 1, &[("queue", "a")]);
    let before = metrics.render(Format::Text004);
    metrics.gauge("jobs", 1.0, "", &[]);
    metrics.gauge("process_threads", 1.0, "", &[("host", "a")]);
    metrics.histogram("http_requests", 1.0, &[], &[]);
    metrics.counter("jobs", 1, &[("color", "a")]);
    for name in ["", "1st", "a b", "ä", "a_sum", "a_bucket", "x_total", "a\n# TYPE b counter"] {
        metrics.gauge(name, 1.0, "", &[]);
    }
    for label in ["", "le", "__name__", "a-b", "a:b"] {
        metrics.counter("labelled", 1, &[(label, "x")]);
    }
    metrics.counter("labelled", 1, &[("a", "x"), ("a", "y")]);
    metrics.counter("labelled", 1, &[("a", "x"); 9]);
    metrics.histogram("buckets", 1.0, &[2.0, 1.0], &[]);
    metrics.histogram("buckets", 1.0, &[1.0, f64::INFINITY], &[]);
    let refused = 4 + 8 + 5 + 4;
    let after =
        before.replace("metrics_series_dropped_total 0", &format!("metrics_series_dropped_total {refused}"));
    assert_eq!(metrics.render(Format::Text004), after);
}

#[test]
fn o_05_random_names_and_labels_stay_bounded() {
    let metrics = Metrics::new(true);
    for number in 0..3000 {
        metrics.counter(&format!("name_{number}"), 1, &[]);
        metrics.counter("same", 1, &[("id", &number.to_string()), ("tenant", &number.to_string())]);
        metrics.gauge("long", 1.0, "", &[("text", &"é".repeat(number))]);
    }
    let lines = metrics.render(Format::Text004).lines().count();
    assert!(lines < 1000 + 4000 + 3 * 600, "{lines}");
    assert!(metrics.render(Format::Text004).lines().all(|line| line.len() < 400));
}

#[tokio::test]
async fn time_is_recorded_however_the_work_ends() {
    use futures_util::FutureExt as _;
    let metrics = Metrics::new(true);
    assert_eq!(metrics.measure("db_query", &[("table", "items")], async { 7 }).await, 7);
    assert!(metrics.measure("db_query", &[], std::future::pending::<()>()).now_or_never().is_none());
    drop(metrics.time("render", &[]));
    let timer = metrics.start_timer("api_request", &[]);
    assert!(metrics.stop_timer(timer).is_some());
    assert_eq!(metrics.stop_timer(timer), None);
    let text = metrics.render(Format::Text004);
    for line in [
        "db_query_duration_seconds_count{table=\"items\"} 1\n",
        "db_query_duration_seconds_count 1\n",
        "render_duration_seconds_count 1\n",
        "api_request_duration_seconds_count 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn forgotten_timers_are_dropped_and_counted() {
    let metrics = Metrics::new(true);
    let oldest = metrics.start_timer("a", &[]);
    for _ in 0..10_000 {
        metrics.start_timer("a", &[]);
    }
    assert_eq!(metrics.stop_timer(oldest), None);
    assert_eq!(metrics.metrics_timers_dropped_total.with(&[]).get(), 1);
}

#[tokio::test]
async fn the_process_and_the_runtime_are_observed() {
    let metrics = Metrics::new(true);
    metrics.observe_process();
    metrics.observe_runtime();
    for (name, least) in [
        (&metrics.process_resident_memory_bytes, 1e6),
        (&metrics.process_open_fds, 3.0),
        (&metrics.process_max_fds, 10.0),
        (&metrics.process_threads, 1.0),
        (&metrics.process_start_time_seconds, 1e9),
        (&metrics.tokio_workers, 1.0),
    ] {
        assert!(name.with(&[]).get() >= least, "{}", name.0.shape().name);
    }
    assert!(metrics.process_open_fds.with(&[]).get() <= metrics.process_max_fds.with(&[]).get());
}

#[test]
fn what_the_allocator_tells_is_shown_and_nothing_where_it_does_not() {
    let metrics = Metrics::new(true);
    assert!(!metrics.render(Format::Text004).contains("\nallocator_"));
    metrics.observe_allocator(Allocated { allocated: 7, resident: 9 });
    let text = metrics.render(Format::Text004);
    assert!(
        text.contains("\nallocator_allocated_bytes 7\n") && text.contains("\nallocator_resident_bytes 9\n")
    );
}

#[tokio::test(start_paused = true)]
async fn the_lag_of_the_event_loop_is_measured_until_the_stop() {
    let (metrics, stop) = (Metrics::new(true), tokio_util::sync::CancellationToken::new());
    let watch = watch_lag(metrics.clone(), stop.clone());
    let later = async {
        tokio::time::sleep(Duration::from_millis(1050)).await;
        stop.cancel();
    };
    tokio::join!(watch, later);
    assert!(metrics.render(Format::Text004).contains("\nevent_loop_lag_seconds_count 10\n"));
}

/// Everything that can be recorded, recorded.
fn busy() -> Metrics {
    let metrics = Metrics::new(true);
    for tenant in [None, Some(tenant())] {
        metrics.record_request("GET", "/api/v1/items/{id}", 200, MS, tenant);
        metrics.record_request("BREW", "/a\"\\\n", 999, MS, tenant);
        metrics.record_database("select", "items", MS, false, tenant);
        metrics.business("revenue", -1.5, "financial", "USD", tenant);
    }
    metrics.observe_process();
    metrics.background_panics_total.with(&["task"]).inc();
    metrics.db_pool_connections.with(&["used"]).set(f64::NAN);
    metrics.event_loop_lag_seconds.with(&[]).observe(f64::INFINITY);
    metrics.counter("user_created", 1, &[("tenant", "tenant-1")]);
    metrics.gauge("active_connections", 45.0, "", &[]);
    drop(metrics.time("api_request", &[]));
    metrics
}

/// A program that script/bootstrap puts into `target/tools`, or that is in PATH. On CI it must be there; elsewhere `None`,
/// and that the test was not run.
#[allow(clippy::disallowed_methods, clippy::print_stderr)] // of the machine that runs the tests
fn tool(place: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let mut candidates = vec![program.ancestors().nth(3).unwrap().join("tools").join(place)];
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates.extend(std::env::split_paths(&path).map(|folder| folder.join(place)));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    if found.is_none() {
        eprintln!("{place} is not there (script/bootstrap tests fetches it): O-04 was not checked with it");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test: script/bootstrap tests");
    }
    found
}

/// Runs a program with `text` as its input: whether it succeeded, and all that it said.
fn feed(program: &Path, arguments: &[&str], text: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn o_04_promtool_accepts_every_metric() {
    let Some(promtool) = tool("promtool") else { return };
    let (code, remarks) = feed(&promtool, &["check", "metrics"], &busy().render(Format::Text004));
    for remark in remarks.lines() {
        let name = remark.split(' ').next().unwrap();
        assert!(matches!(name, "http_request_duration_ms" | "db_operation_duration_ms"), "{remark}");
        assert!(remark.contains("abbreviated units"), "{remark}");
    }
    assert_ne!(code, Some(1), "promtool could not parse it");
    let (code, _) = feed(&promtool, &["check", "metrics"], "broken{ 1\n");
    assert_eq!(code, Some(1), "promtool checks");
}

#[test]
fn o_04_the_parsers_of_prometheus_client_accept_every_metric() {
    let Some(python) = tool("prometheus_client/bin/python") else { return };
    let parse = |parser: &str, text: &str| {
        let program = format!(
            "import sys\nfrom prometheus_client.{parser} import text_string_to_metric_families as parse\n\
             print(*(family.name for family in parse(sys.stdin.read())))"
        );
        feed(&python, &["-c", &program], text)
    };
    let metrics = busy();
    for (parser, format) in [("openmetrics.parser", Format::OpenMetrics), ("parser", Format::Text004)] {
        let (code, families) = parse(parser, &metrics.render(format));
        assert_eq!(code, Some(0), "{parser}: {families}");
        assert!(families.split_whitespace().count() > METRICS.len() / 2, "{parser}: {families}");
        assert!(families.contains("http_request_duration_ms"), "{parser}: {families}");
    }
    let without_end = metrics.render(Format::OpenMetrics).replace("# EOF", "");
    assert_eq!(parse("openmetrics.parser", &without_end).0, Some(1), "the parser checks");
}

#[test]
fn o_04_every_line_is_one_of_the_format() {
    for format in [Format::Text004, Format::OpenMetrics] {
        let text = busy().render(format);
        let (mut family, mut seen) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split_once(' ').unwrap().0.to_owned();
                assert!(seen.insert(format!("# {family}")), "{family} stands twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest.split_once(' ').unwrap().0, family);
            } else if line != "# EOF" {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(seen.insert(series.to_owned()), "{series} stands twice");
                assert!(
                    series.starts_with(&family) && series.contains('{') == series.ends_with('}'),
                    "{line}"
                );
                assert_eq!(
                    series.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2,
                    0,
                    "{line}"
                );
            }
        }
        for (histogram, count) in text.lines().filter_map(|line| line.split_once("_count")) {
            let last = text.lines().rfind(|line| line.starts_with(histogram) && line.contains("_bucket"));
            assert!(last.is_some_and(|line| line.contains("le=\"+Inf\"")), "{histogram}{count}");
        }
    }
}

#[test]
fn o_05_random_methods_and_statuses_add_at_most_five_series() {
    let metrics = Metrics::new(true);
    for number in 0..5000_u16 {
        metrics.record_request(
            &format!("M{number}"),
            "/a",
            if number % 2 == 0 { 0 } else { 60_000 + number },
            MS,
            None,
        );
    }
    let added: usize = metrics.0.registry.all().iter().map(|family| family.samples().len()).sum();
    let before: usize = Metrics::new(true).0.registry.all().iter().map(|family| family.samples().len()).sum();
    assert_eq!(added - before, 3, "one series in each of the three http families");
}

#[test]
fn concurrent_recording_loses_nothing() {
    let metrics = Metrics::new(true);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let metrics = metrics.clone();
            scope.spawn(move || {
                let held = metrics.http_requests_total.with(&["GET", "/a", "200", ""]);
                for _ in 0..10_000 {
                    held.inc();
                    metrics.record_database("select", "item", Duration::from_micros(500), true, None);
                }
            });
        }
    });
    assert_eq!(metrics.http_requests_total.with(&["GET", "/a", "200", ""]).get(), 80_000);
    let [(_, Recorded::Buckets(counts, sum))] = &metrics.db_operation_duration_ms.0.samples()[..] else {
        panic!()
    };
    assert_eq!((counts[0], *sum), (80_000, 40_000.0));
}

#[test]
fn disabled_metrics_keep_nothing() {
    let metrics = Metrics::new(false);
    metrics.record_request("GET", "/a", 200, MS, None);
    metrics.record_database("select", "item", MS, true, None);
    let held = metrics.log_lines_dropped_total.with(&[]);
    held.add(3);
    assert_eq!((held.get(), metrics.is_enabled()), (0, false));
    assert!(metrics.0.registry.all().iter().all(|family| family.samples().is_empty()));
}

#[test]
fn instruments_do_what_they_say() {
    let counter = Counter::new(&[].into());
    counter.add(2);
    counter.catch_up(7);
    counter.catch_up(3);
    assert_eq!(counter.get(), 7);
    let seconds = FloatCounter::new(&[].into());
    seconds.add(1.5);
    seconds.add(-1.0);
    seconds.add(f64::NAN);
    seconds.catch_up(2.5);
    seconds.catch_up(2.0);
    assert_eq!(seconds.sample(), Recorded::Value(2.5));
    let gauge = Gauge::new(&[].into());
    gauge.set(2.0);
    gauge.add(-0.5);
    assert_eq!((gauge.sample(), Gauge::disabled().get()), (Recorded::Value(1.5), 0.0));
}

#[test]
fn the_accept_header_chooses_the_format() {
    let accepted = |accept: &str| {
        Format::accepted(&http::HeaderMap::from_iter([(http::header::ACCEPT, accept.parse().unwrap())]))
    };
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for open in [prometheus, "application/openmetrics-text", "application/openmetrics-text; q=.9, */*"] {
        assert_eq!(accepted(open), Format::OpenMetrics, "{open}");
    }
    for text in [
        "",
        "*/*",
        "text/plain",
        "text/html",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.1,text/plain",
        "application/openmetrics-text;q=x",
        "application/openmetrics-text;q=.1,text/plain;q=.2",
    ] {
        assert_eq!(accepted(text), Format::Text004, "{text}");
    }
    assert_eq!(Format::accepted(&http::HeaderMap::new()), Format::Text004);
}

mod of_a_module {
    use super::MetricTable;

    /// A module, as far as metrics know of one.
    struct Row {
        metrics: &'static [MetricTable],
    }
    const BILLING: Row = Row { metrics: &[MetricTable::of::<BillingMetrics>()] };
    const GREEDY: Row = Row { metrics: &[MetricTable::of::<GreedyMetrics>()] };

    crate::metrics! {
        /// What is counted of invoices.
        pub(super) struct BillingMetrics of BILLING;

        /// Invoices sent, by the way they went and by tenant.
        billing_invoices_sent_total: Counter[way, tenant] { unit: "invoices" }

        /// How long it takes to print one.
        billing_print_seconds: Histogram[] { unit: "s", buckets: DURATION_SECONDS }
    }

    crate::metrics! {
        /// Of another module, which has not looked around.
        #[allow(dead_code)] // refused before anything is counted
        pub(super) struct GreedyMetrics of GREEDY;

        /// A name of the core's, without its ending: OpenMetrics calls a counter's family so.
        http_requests: Gauge[] { unit: "requests" }
    }

    crate::metrics! {
        /// Of one who does not know Prometheus.
        #[allow(dead_code)] // refused before anything is counted
        pub(super) struct WrongMetrics;

        /// A label that histograms have already.
        wrong_print_seconds: Histogram[le] { unit: "s", buckets: &[1.0] }
    }
}
use of_a_module::{BillingMetrics, GreedyMetrics, WrongMetrics};

#[test]
fn o_05_a_modules_metrics_are_bounded_like_the_cores() {
    let tables = [MetricTable::of::<BillingMetrics>()];
    let metrics =
        Metrics::with_tables(true, SeriesLimits { series: 3, ..SeriesLimits::default() }, tables).unwrap();
    let billing = metrics.of::<BillingMetrics>().unwrap();
    for way in ["mail", "post", "fax", "drone", "pigeon"] {
        billing.billing_invoices_sent_total.with(&[way, ""]).inc();
    }
    billing.billing_print_seconds.with(&[]).observe(0.2);
    let rush = tenant();
    billing.billing_invoices_sent_total.with(&["mail", metrics.tenant_label(Some(rush)).as_str()]).inc();
    metrics.counter("billing_invoices_sent", 1, &[("way", "mail")]); // by name it is the same
    let text = metrics.render(Format::Text004);
    assert!(text.contains("# TYPE billing_invoices_sent_total counter\n"), "{text}");
    assert!(text.contains("billing_invoices_sent_total{way=\"mail\"} 2\n"), "{text}");
    assert!(text.contains("billing_invoices_sent_total{way=\"other\",tenant=\"other\"} 2\n"), "{text}");
    assert!(text.contains(&format!("{{way=\"mail\",tenant=\"{rush}\"}} 1\n")), "{text}");
    assert!(text.contains("\nbilling_print_seconds_count 1\n"), "{text}");
    assert!(text.contains("\nmetrics_series_dropped_total 2\n"), "{text}");
    metrics.forget(rush);
    assert!(!metrics.render(Format::Text004).contains(&rush.to_string()));
    assert!(metrics.of::<GreedyMetrics>().is_err(), "no module named it");
}

#[test]
fn a_table_that_claims_a_name_or_that_prometheus_would_not_take_is_refused() {
    let refused = |table| {
        let error = Metrics::with_tables(true, SeriesLimits::default(), [table]).err().unwrap();
        (error.exit, error.message)
    };
    let (exit, message) = refused(MetricTable::of::<GreedyMetrics>());
    assert_eq!(exit, Exit::Internal);
    assert!(message.starts_with("The metric http_requests is declared twice: change its row"), "{message}");
    let (_, message) = refused(MetricTable::of::<WrongMetrics>());
    assert!(message.starts_with("The metric wrong_print_seconds is not right: invalid label"), "{message}");
}
