use std::io;
use std::sync::mpsc;

use serde_json::Value as Json;
use tracing::field::Empty;
use tracing::{debug, error, info, info_span, trace, warn};

use super::*;
use crate::lifecycle::Lifecycle;
use crate::shared::{ManualClock, SystemRng};
use crate::{audit_event, business_event, security_event};

fn options(format: LogFormat) -> LogOptions {
    let clock = ManualClock::new("2025-10-21T14:30:15.123Z".parse().unwrap());
    LogOptions::new(Level::Info, format, "boot_0badcafe", Arc::new(clock))
}

/// The lines that `work` logs at `level`.
fn capture_at(level: Level, format: LogFormat, work: impl FnOnce(&Logging)) -> Vec<String> {
    let sink = CapturingSink::new();
    let (logging, subscriber) = Logging::new(options(format).to(sink.clone()));
    tracing::subscriber::with_default(subscriber, || {
        logging.set_level(level);
        work(&logging);
    });
    assert!(logging.flush());
    sink.lines()
}

fn capture(format: LogFormat, work: impl FnOnce()) -> Vec<String> {
    capture_at(Level::Verbose, format, |_| work())
}

fn json(work: impl FnOnce()) -> Json {
    let lines = capture(LogFormat::Json, work);
    assert_eq!(lines.len(), 1, "{lines:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

fn sign_in() {
    let request = info_span!("request", correlation_id = "req_123", tenant_id = Empty, user_id = Empty);
    let _request = request.enter();
    request.record("tenant_id", "abc");
    let _inner = info_span!("sign_in", module = "auth", action = "login").entered();
    request.record("user_id", 456);
    info!("User authentication successful");
}

#[test]
fn the_console_format_is_that_of_the_specification() {
    let line = "14:30:15.123 [INFO] [auth] [login] [req_123] [tenant:abc] [user:456]: User authentication successful";
    assert_eq!(capture(LogFormat::Console, sign_in), [line]);
    let lines = capture(LogFormat::Console, || {
        warn!(free_bytes = 12, path = "a b", ok = true, "Disk is {}", "full");
        trace!(action = "tick", "x");
    });
    assert_eq!(
        lines[0],
        r#"14:30:15.123 [WARN] [boot_0badcafe]: Disk is full freeBytes=12 path="a b" ok=true"#
    );
    assert_eq!(lines[1], "14:30:15.123 [VERBOSE] [tick] [boot_0badcafe]: x");
}

#[test]
fn the_json_format_is_that_of_the_specification() {
    let user = info_span!("x"); // a span made without a subscriber must not matter
    let _user = user.enter();
    let lines = capture(LogFormat::Json, || {
        let _span = info_span!("r", correlation_id = "req_123", tenant_id = "abc", user_id = "456").entered();
        info!(module = "auth", action = "login", "User authentication successful");
    });
    let full = r#"{"timestamp":"2025-10-21T14:30:15.123Z","level":"info","message":"User authentication successful","correlationId":"req_123","tenantId":"abc","userId":"456","module":"auth","action":"login"}"#;
    assert_eq!(lines, [full]);
    let lines = capture(LogFormat::Json, || {
        info!(target: "http", method = "GET", status_code = 200_u16, duration = 1.5, cached = false, "GET /");
    });
    let http = r#"{"timestamp":"2025-10-21T14:30:15.123Z","level":"http","message":"GET /","correlationId":"boot_0badcafe","method":"GET","statusCode":200,"duration":1.5,"cached":false}"#;
    assert_eq!(lines, [http]);
}

/// Each subset of the known context: a part that is missing leaves no trace, and the rest keeps its place.
#[test]
fn any_part_of_the_context_may_be_missing() {
    const BOOT: &str = "boot_0badcafe";
    for parts in 0..1 << 5 {
        let part = |index: usize, value: &'static str| (parts & 1 << index != 0).then_some(value);
        let [correlation, tenant, user, module, action] =
            [part(0, "req_123"), part(1, "abc"), part(2, "456"), part(3, "auth"), part(4, "login")];
        let log = || {
            let _request = info_span!("request", correlation_id = correlation, tenant_id = tenant).entered();
            let _inner = info_span!("inner", user_id = user, module).entered();
            info!(action, "m");
        };
        let shown = |before: &str, part: Option<&str>, after: &str| {
            part.map(|part| format!("{before}{part}{after}")).unwrap_or_default()
        };
        let known = correlation.or(Some(BOOT));
        let console = [
            shown(" [", module, "]"),
            shown(" [", action, "]"),
            shown(" [", known, "]"),
            shown(" [tenant:", tenant, "]"),
            shown(" [user:", user, "]"),
        ];
        let console = format!("14:30:15.123 [INFO]{}: m", console.concat());
        assert_eq!(capture(LogFormat::Console, log), [console], "{parts:05b}");
        let json = [
            shown(r#","correlationId":""#, known, "\""),
            shown(r#","tenantId":""#, tenant, "\""),
            shown(r#","userId":""#, user, "\""),
            shown(r#","module":""#, module, "\""),
            shown(r#","action":""#, action, "\""),
        ];
        let start = r#"{"timestamp":"2025-10-21T14:30:15.123Z","level":"info","message":"m""#;
        assert_eq!(capture(LogFormat::Json, log), [format!("{start}{}}}", json.concat())], "{parts:05b}");
    }
}

#[test]
fn the_event_wins_over_the_inner_span_which_wins_over_the_outer() {
    let line = json(|| {
        let _outer = info_span!("outer", module = "a", action = "a", tenant_id = "a", job = 7).entered();
        let _inner = info_span!("inner", module = "b", action = "b").entered();
        info!(module = "c", "m");
    });
    assert_eq!(
        (&line["module"], &line["action"], &line["tenantId"], &line["job"]),
        (&"c".into(), &"b".into(), &"a".into(), &7.into())
    );
}

#[derive(Debug)]
struct Broken(&'static str, Option<Box<Broken>>);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

#[test]
fn an_error_is_written_with_its_whole_chain() {
    let broken = || Broken("outer", Some(Box::new(Broken("middle\n", Some(Box::new(Broken("root", None)))))));
    let log = || error!(error = &broken() as &dyn std::error::Error, "Failed");
    let line = json(log);
    assert_eq!(
        (&line["error"], &line["causes"]),
        (&"outer".into(), &serde_json::json!(["middle\n", "root"]))
    );
    assert!(capture(LogFormat::Console, log)[0].ends_with(r": Failed error=outer cause=middle\n cause=root"));
}

#[test]
fn o_01_no_value_forges_a_line() {
    let evil = "x\r\n14:30:15.123 [INFO]: forged\u{1b}[2J\u{2028}\u{2029}\u{85}\u{9b}31m\u{7f}\0\u{202e}\",\"level\":\"error\",\"x\":\"\\";
    let log = || {
        let _span = info_span!("r", correlation_id = evil, tenant_id = evil, user_id = %evil, module = evil, action = ?evil, other = evil).entered();
        error!(user_agent = evil, debug = ?evil, error = &io::Error::other(evil) as &dyn std::error::Error, "{evil}");
    };
    for format in [LogFormat::Json, LogFormat::Console] {
        let lines = capture(format, log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let raw = |character: char| character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character);
        assert!(!lines[0].contains(raw), "{}", lines[0]);
    }
    let line = json(log);
    for key in ["message", "correlationId", "tenantId", "userId", "module", "userAgent", "error", "other"] {
        assert_eq!(line[key], evil, "{key}");
    }
    assert_eq!(line["level"], "error");
    assert_eq!(json(|| info!(level = "x", timestamp = 1, "m"))["level"], "info");

    let forged = "a] [tenant:other";
    let line = &capture(LogFormat::Console, || info!(correlation_id = forged, "m"))[0];
    assert_eq!(line, r"14:30:15.123 [INFO] [a\] \[tenant:other]: m");
}

#[test]
fn o_01_no_value_is_longer_than_8_kib() {
    let long = "\u{1F980}".repeat(1 << 18); // 1 MiB
    let line = json(|| info!(user_agent = long, debug = ?long, "{long}"));
    for key in ["message", "userAgent", "debug"] {
        let text = line[key].as_str().unwrap();
        assert!(text.len() <= 8192 && text.len() > 8000 && text.ends_with("…[cut]"), "{key} {}", text.len());
    }
}

#[test]
fn credentials_are_redacted_wherever_they_stand() {
    for format in [LogFormat::Json, LogFormat::Console] {
        let lines = capture(format, || {
            let _span = info_span!("r", refresh_token = "hunter2", user_id = "u").entered();
            info!(password = "hunter2", "x-api-key" = "hunter2", Authorization = ?"hunter2", otp = 123_456, "m");
        });
        assert!(!lines[0].contains("hunter2") && !lines[0].contains("123456"), "{}", lines[0]);
        assert_eq!(lines[0].matches("[redacted]").count(), 5, "{}", lines[0]);
    }
}

#[test]
fn levels_rank_and_change_at_run_time() {
    let log_all = || {
        error!("e");
        warn!("w");
        info!("i");
        info!(target: "http", "h");
        debug!(target: "http", "h");
        debug!("d");
        trace!("v");
    };
    let expected = [
        (Level::Error, "e"),
        (Level::Warn, "ew"),
        (Level::Info, "ewi"),
        (Level::Http, "ewihh"),
        (Level::Debug, "ewihhd"),
        (Level::Verbose, "ewihhdv"),
    ];
    for (level, letters) in expected {
        let lines = capture_at(level, LogFormat::Console, |_| log_all());
        let written: String = lines.iter().filter_map(|line| line.chars().last()).collect();
        assert_eq!(written, letters, "{level}");
    }
    let lines = capture_at(Level::Error, LogFormat::Console, |logging| {
        let _span = info_span!("r", tenant_id = "abc").entered();
        for level in [Level::Error, Level::Verbose, Level::Warn] {
            logging.set_level(level);
            assert_eq!(logging.level(), level);
            trace!("{level}");
        }
        logging.clone().set_level(Level::Error);
        error!("last");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("[tenant:abc]")), "{lines:?}");
}

#[test]
fn drivers_are_quiet_below_warn() {
    let lines = capture(LogFormat::Console, || {
        debug!(target: "tokio_postgres::query", "parameters: hunter2");
        info!(target: "hyper", "noise");
        trace!(target: "h2::codec", "noise");
        warn!(target: "rustls::conn", "kept");
        info!(target: "hyperspace", "kept");
        info!(target: "some_module", "kept");
    });
    assert_eq!(lines.iter().filter(|line| line.ends_with("kept")).count(), 3);
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn a_security_event_has_a_severity() {
    let line = json(|| security_event!(Severity::Critical, "Isolation", tenant_id = "abc", attempts = 3,));
    assert_eq!((&line["level"], &line["severity"]), (&"warn".into(), &"CRITICAL".into()));
    assert_eq!(
        (&line["message"], &line["tenantId"], &line["attempts"]),
        (&"Isolation".into(), &"abc".into(), &3.into())
    );
    assert_eq!(json(|| security_event!(Severity::Low, "One",))["severity"], "LOW");
}

#[test]
fn colour_is_for_terminals() {
    let sink = CapturingSink::new();
    let (logging, subscriber) = Logging::new(options(LogFormat::Console).to(sink.clone()).colour(true));
    tracing::subscriber::with_default(subscriber, || info!("m\u{1b}[31m"));
    assert!(logging.flush());
    assert_eq!(sink.lines(), ["14:30:15.123 [\u{1b}[32mINFO\u{1b}[0m] [boot_0badcafe]: m\\u001b[31m"]);
}

/// A sink that announces each write and waits for leave.
struct Gate(mpsc::Sender<()>, mpsc::Receiver<()>);

impl io::Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(()).ok();
        self.1.recv().ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_costs_lines_and_never_blocks() {
    let (arrived, arrivals) = mpsc::channel();
    let (leave, leaves) = mpsc::channel();
    let (logging, subscriber) = Logging::new(options(LogFormat::Json).to(Gate(arrived, leaves)).capacity(10));
    tracing::subscriber::with_default(subscriber, || {
        info!("in the sink");
        arrivals.recv().unwrap();
        for _ in 0..25 {
            info!("waiting or lost");
        }
        assert_eq!(logging.dropped(), 15);
        assert!(!logging.flush());
        drop(leave);
        assert!(logging.flush());
        info!("goes on");
        assert!(logging.flush());
        assert_eq!((logging.dropped(), logging.write_errors()), (15, 0));
    });
}

struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_counted() {
    let (logging, subscriber) = Logging::new(options(LogFormat::Json).to(Closed));
    tracing::subscriber::with_default(subscriber, || info!("m"));
    assert!(logging.flush());
    assert_eq!((logging.dropped(), logging.write_errors()), (1, 1));
}

#[test]
fn many_threads_write_whole_lines() {
    let sink = CapturingSink::new();
    let (logging, subscriber) = Logging::new(options(LogFormat::Json).to(sink.clone()));
    let dispatch = tracing::Dispatch::new(subscriber);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for line in 0..500 {
                        info!(thread, line, "m");
                    }
                });
            });
        }
    });
    assert!(logging.flush());
    assert_eq!(sink.lines().len() as u64 + logging.dropped(), 4000);
    assert!(sink.lines().iter().all(|line| serde_json::from_str::<Json>(line).is_ok()));
}

#[test]
fn a_boot_id_names_one_process() {
    let id = boot_id(&SystemRng::new());
    assert!(
        id.strip_prefix("boot_").is_some_and(|hex| hex.len() == 8 && u32::from_str_radix(hex, 16).is_ok()),
        "{id}"
    );
}

#[test]
fn security_events_are_written_whatever_the_level() {
    let lines = capture_at(Level::Error, LogFormat::Console, |_| {
        security_event!(Severity::Low, "kept");
        warn!("not kept");
        audit_event!("a", "r", "not kept");
    });
    assert!(lines.len() == 1 && lines[0].ends_with("kept severity=LOW"), "{lines:?}");
}

#[test]
fn audit_and_business_events_carry_their_names() {
    let line = json(|| audit_event!("identity.signed_in", "user", "Signed in", method = "password"));
    assert_eq!(
        (&line["action"], &line["resource"], &line["method"], &line["message"], &line["level"]),
        (
            &"identity.signed_in".into(),
            &"user".into(),
            &"password".into(),
            &"Signed in".into(),
            &"info".into()
        )
    );
    let line = json(|| business_event!(String::from("order_placed"), "Order placed", amount = 1.5,));
    assert_eq!((&line["event"], &line["amount"]), (&"order_placed".into(), &1.5.into()));
    assert_eq!(json(|| business_event!("e", "m"))["event"], "e");
    assert_eq!(json(|| audit_event!("a", "r", "m"))["resource"], "r");
}

#[test]
fn a_child_context_is_on_every_line_inside() {
    let lines = capture(LogFormat::Json, || {
        let auth = child!(module = "auth", tenant_id = "abc");
        auth.in_scope(|| {
            let inner = child!(action = "login");
            futures_util::future::FutureExt::now_or_never(inner.instrument(async { info!("in") }));
        });
        info!("out");
    });
    assert!(lines[0].contains(r#""tenantId":"abc","module":"auth","action":"login""#), "{}", lines[0]);
    assert!(!lines[1].contains("abc"), "{}", lines[1]);
}

#[test]
fn profile_logs_the_duration_however_it_ends() {
    use futures_util::future::FutureExt as _;
    let lines = capture(LogFormat::Json, || {
        assert_eq!(profile("a", async { 7 }).now_or_never(), Some(7));
        assert_eq!(profile("b", std::future::pending::<()>()).now_or_never(), None);
        let panicking = std::panic::AssertUnwindSafe(profile("c", async { panic!("on purpose") }));
        assert!(
            panicking.catch_unwind().now_or_never().is_some_and(|outcome: Result<(), _>| outcome.is_err())
        );
    });
    for (line, (name, outcome)) in lines.iter().zip([("a", "complete"), ("b", "dropped"), ("c", "panicked")])
    {
        let line: Json = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["profile"], &line["outcome"], &line["level"]),
            (&name.into(), &outcome.into(), &"debug".into())
        );
        let duration = line["duration"].to_string();
        let decimals = duration.split_once('.').map(|(_, decimals)| decimals.len());
        assert!(line["duration"].is_number() && decimals <= Some(3), "{line}");
    }
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_log_file_is_appended_to_and_survives_rotation() {
    let folder = std::env::temp_dir().join(boot_id(&SystemRng::new()));
    std::fs::create_dir(&folder).unwrap();
    let (path, rotated) = (folder.join("erp.log"), folder.join("erp.log.1"));
    std::fs::write(&path, "before\n").unwrap();
    let (logging, subscriber) = Logging::new(options(LogFormat::Json).to_file(&path).unwrap());
    tracing::subscriber::with_default(subscriber, || {
        info!("one");
        assert!(logging.flush());
        std::fs::rename(&path, &rotated).unwrap();
        info!("two");
        assert!(logging.flush());
    });
    let (old, new) = (std::fs::read_to_string(&rotated).unwrap(), std::fs::read_to_string(&path).unwrap());
    assert!(old.starts_with("before\n{") && old.contains("one") && !old.contains("two"), "{old}");
    assert!(new.contains("two") && new.lines().count() == 1, "{new}");
    std::fs::remove_dir_all(&folder).unwrap();

    let refused = try_file(&folder.join("erp.log")).unwrap_err();
    assert!(refused.exit == Exit::DataFolder && !folder.exists());
    let refused = options(LogFormat::Json).to_file(&folder.join("erp.log")).err().unwrap();
    assert_eq!(refused.exit, Exit::DataFolder);
    assert!(refused.message.starts_with("LOG_FILE ") && refused.message.lines().count() == 1);
}

#[test]
fn a_line_that_was_torn_is_ended_before_the_next_one() {
    let folder = std::env::temp_dir().join(boot_id(&SystemRng::new()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("erp.log");
    for (before, after) in [("whole\n{\"torn", "whole\n{\"torn\n"), ("whole\n", "whole\n"), ("", "")] {
        std::fs::write(&path, before).unwrap();
        let (logging, subscriber) = Logging::new(options(LogFormat::Json).to_file(&path).unwrap());
        tracing::subscriber::with_default(subscriber, || info!("next"));
        assert!(logging.flush());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("{after}{{")) && text.ends_with("}\n"), "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_log_file_that_would_wait_for_a_reader_is_refused_at_once() {
    let folder = std::env::temp_dir().join(boot_id(&SystemRng::new()));
    std::fs::create_dir(&folder).unwrap();
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for refused in [&pipe, &folder] {
        for error in
            [try_file(refused).unwrap_err(), options(LogFormat::Json).to_file(refused).err().unwrap()]
        {
            assert_eq!(error.exit, Exit::DataFolder, "{error}");
            assert!(error.message.contains(refused.to_str().unwrap()), "{error}");
        }
    }
    assert!(pipe.exists(), "what was there stays");
    // With a reader it is as good as any other.
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let options = loop {
        match options(LogFormat::Json).to_file(&pipe) {
            Ok(options) => break options,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    let (logging, subscriber) = Logging::new(options);
    tracing::subscriber::with_default(subscriber, || info!("heard"));
    assert!(logging.flush());
    drop(logging);
    assert!(reader.join().unwrap().contains("heard"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_panic_is_one_line_with_its_place_and_backtrace() {
    let lines = capture(LogFormat::Json, || {
        let before = std::panic::take_hook();
        panics::log_panics(LogFormat::Json);
        let _span = info_span!("r", tenant_id = "abc").entered();
        let outcome = std::panic::catch_unwind(|| panic!("on {}\n", "purpose"));
        std::panic::set_hook(before);
        assert!(outcome.is_err());
    });
    let line: Json = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((lines.len(), &line["level"], &line["panic"]), (1, &"error".into(), &"on purpose\n".into()));
    assert!(line["location"].as_str().unwrap().contains("logging/tests.rs:"), "{line}");
    assert!(line["backtrace"].as_str().is_some_and(|text| text.contains("0:")), "{line}");
    assert_eq!(line["tenantId"], "abc");
}

#[tokio::test]
async fn tasks_keep_the_context_and_their_panics_are_counted() {
    let sink = CapturingSink::new();
    let (logging, subscriber) = Logging::new(options(LogFormat::Json).to(sink.clone()));
    let _default = tracing::subscriber::set_default(subscriber);
    let lifecycle = Lifecycle::new();
    let request = info_span!("request", tenant_id = "abc");
    let task = request.in_scope(|| {
        lifecycle.spawn("greeter", async {
            tokio::task::yield_now().await;
            info!("hello");
            7
        })
    });
    assert_eq!(task.await.unwrap(), 7);
    let failing = request.in_scope(|| lifecycle.spawn("failing", async { panic!("on purpose") }));
    assert!(failing.await.unwrap_err().is_panic());
    assert_eq!(lifecycle.spawn_blocking("blocking", || 8).await.unwrap(), 8);
    let failing = lifecycle.spawn_blocking("failing", || panic!("on purpose"));
    assert!(failing.await.unwrap_err().is_panic());
    assert_eq!(lifecycle.panics(), [("failing", 2)]);
    assert!(logging.flush());
    for (line, task) in sink.lines().iter().zip(["greeter", "failing"]) {
        assert!(
            line.contains(r#""tenantId":"abc""#) && line.contains(&format!(r#""task":"{task}""#)),
            "{line}"
        );
    }
    assert!(lifecycle.stop(std::time::Duration::from_secs(5)).await);
}
