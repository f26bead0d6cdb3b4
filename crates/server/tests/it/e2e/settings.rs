//! Settings, their sources and the log file as they really arrive, and the signals that nobody thinks of.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::database::Database;
use super::http::Client;
use super::process::{Ended, Home, Process, command, eventually, run, runs};

const KEY: &str = "q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd0Fg_unseen";
const ENCRYPTION_KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";

fn pipe(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.display().to_string()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `erp-backend` as a shell starts it: `script` gets the binary as `$0`.
fn in_a_shell(home: &Home, shell: &str, script: &str, variables: &[(&str, &str)]) -> Command {
    let plain = command(home, &[], variables);
    let mut started = Command::new(shell);
    started
        .arg("-c")
        .arg(script)
        .arg(plain.get_program())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .env_clear();
    started.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    started
}

#[test]
fn a_terminal_that_closes_stops_the_server_in_order_and_leaves_no_postgres_behind() {
    let home = Home::new();
    let log = home.path().join("erp.log");
    let shell = "exec script -qfec \"exec $0\" /dev/null";
    let variables = [("PORT", "0"), ("LOG_FORMAT", "json"), ("LOG_FILE", "erp.log"), ("SHELL", "/bin/sh")];
    let mut terminal = in_a_shell(&home, "/bin/sh", shell, &variables);
    let mut terminal = terminal.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it has started", || text(&log).contains("Server started"));
    let postmaster = home.postmaster().unwrap();
    terminal.kill().unwrap(); // and with it the terminal
    terminal.wait().unwrap();
    eventually("it has stopped", || text(&log).contains("shutdown complete"));
    let written = text(&log);
    let stopping = written.lines().find(|line| line.contains("Stopping")).unwrap();
    assert!(stopping.contains("SIGHUP") && written.contains("\"clean\":true"), "{written}");
    eventually("PostgreSQL has ended", || !runs(postmaster));
}

#[test]
fn a_hangup_without_a_terminal_reads_the_log_file_anew_and_stops_nothing() {
    let (home, database) = (Home::new(), Database::migrated("hangup"));
    let (log, rotated) = (home.path().join("erp.log"), home.path().join("erp.log.1"));
    let mut server = command(&home, &[], &[("PORT", "0"), ("LOG_FORMAT", "json"), ("LOG_FILE", "erp.log")]);
    server.env("DATABASE_URL", &database.runtime_url);
    let server = Process::spawn(server);
    eventually("it has started", || text(&log).contains("Server started"));
    fs::rename(&log, &rotated).unwrap();
    server.signal("HUP");
    eventually("the file is found anew", || {
        text(&log).contains("Reading the TLS certificate and the log file anew")
    });
    server.signal("HUP");
    server.signal("TERM");
    server.signal("HUP"); // is no hurry
    let ended = server.wait();
    assert_eq!(ended.code, 0, "{ended:#?}\n{}", text(&log));
}

/// Ends with `code` soon, and says what it is about.
fn refused(home: &Home, code: i32, arguments: &[&str], variables: &[(&str, &str)], part: &str) -> Ended {
    let begun = Instant::now();
    let ended = run(home, arguments, &[&[("PORT", "0")], variables].concat());
    assert!(begun.elapsed() < Duration::from_secs(8), "{arguments:?} {variables:?}: {:?}", begun.elapsed());
    let said = ended.err.join("\n");
    assert!(ended.code == code && said.contains(part), "{arguments:?} {variables:?}: {ended:#?}");
    ended
}

#[test]
fn no_file_that_a_setting_names_makes_a_start_hang() {
    let home = Home::new();
    let pipe = pipe(&home, "pipe");
    let folder = home.path().display().to_string();
    for verb in [&["serve"][..], &["serve", "--rehearse"]] {
        for file in [&pipe, &folder] {
            refused(&home, 73, verb, &[("LOG_FILE", file)], &format!("LOG_FILE {file} cannot be written"));
        }
        for file in [&pipe, "/dev/null", &folder] {
            let tls = [("TLS_CERT_PATH", file), ("TLS_KEY_PATH", file)];
            refused(&home, 78, verb, &tls, "TLS_CERT_PATH");
            let url = format!("postgresql://app@localhost/erp?sslmode=verify-full&sslrootcert={file}");
            refused(&home, 78, verb, &[("DATABASE_URL", &url)], "sslrootcert");
        }
        for file in ["/dev/zero", "/dev/null", &folder] {
            refused(&home, 78, verb, &[("JWT_SECRET_FILE", file)], "JWT_SECRET_FILE");
        }
        for file in [&pipe, "/dev/null"] {
            refused(&home, 73, verb, &[("DATA_DIR", file)], file);
        }
        refused(&home, 78, &[verb, &["--env-file", "/dev/zero"]].concat(), &[], "/dev/zero: cannot be read");
    }
}

#[test]
fn a_signal_ends_a_start_that_waits_for_a_secret() {
    let home = Home::new();
    let pipe = pipe(&home, "secret");
    let server = Process::start(&home, &[], &[("PORT", "0"), ("JWT_SECRET_FILE", &pipe)]);
    let begun = Instant::now();
    let ended = server.stop("TERM");
    assert!(ended.code == -15 && begun.elapsed() < Duration::from_secs(5), "{ended:#?}");
}

#[test]
fn a_log_that_cannot_be_written_is_told_of_on_standard_error() {
    let (home, database) = (Home::new(), Database::migrated("log_full"));
    let variables = [("PORT", "0"), ("LOG_FILE", "/dev/full"), ("DATABASE_URL", &*database.runtime_url)];
    let server = Process::start(&home, &[], &variables);
    let said = server.said("log lines are lost");
    assert!(said.contains("No space left on device"), "{said}");
    server.said("Ctrl-C"); // the banner: it serves nevertheless
    let ended = server.stop("TERM");
    let told = ended.err.iter().filter(|line| line.contains("log lines are lost")).count();
    assert_eq!((ended.code, told), (0, 1), "{ended:#?}");
}

#[test]
fn a_log_file_at_its_limit_does_not_end_the_server() {
    let (home, database) = (Home::new(), Database::migrated("log_limit"));
    let variables =
        [("PORT", "0"), ("LOG_FORMAT", "json"), ("LOG_FILE", "erp.log"), ("METRICS_ENABLED", "true")];
    let mut server = in_a_shell(&home, "/bin/sh", "ulimit -f 8 && exec \"$0\"", &variables);
    server.env("DATABASE_URL", &database.runtime_url);
    let server = Process::spawn(server);
    let banner = server.said("http://");
    let port = banner.trim().rsplit(':').next().unwrap().to_owned();
    let client = Client::new(&format!("127.0.0.1:{port}"));
    let lost = || {
        client.get("/ping").unwrap(); // a line each
        server.said_so_far().iter().any(|line| line.contains("log lines are lost"))
    };
    eventually("the file is at its limit", lost);
    let failed = || {
        let metrics = client.get("/metrics").unwrap();
        metrics.body.lines().any(|line| line.starts_with("log_write_errors_total ") && !line.ends_with(" 0"))
    };
    eventually("writes fail, and it lives", failed);
    let detailed = client.get("/health/detailed").unwrap().json();
    let log = detailed["checks"].as_array().unwrap().iter().find(|check| check["name"] == "log").unwrap();
    assert_eq!((&log["passed"], &detailed["status"]), (&false.into(), &"degraded".into()), "{detailed:#}");
    assert_eq!(server.stop("TERM").code, 0);
    let written = text(&home.path().join("erp.log"));
    assert!(written.len() <= 4096, "{}", written.len());
}

#[test]
fn an_env_file_that_was_named_must_be_there() {
    let home = Home::new();
    for verb in
        [&["serve"][..], &["config", "check"], &["config", "explain"], &["db", "check"], &["healthcheck"]]
    {
        let arguments = [verb, &["--env-file", "/etc/erp/typo.env"]].concat();
        refused(&home, 78, &arguments, &[], "/etc/erp/typo.env: does not exist");
    }
    assert!(!home.path().join("postgres").exists());
    std::os::unix::fs::symlink("/nonexistent/.env", home.path().join(".env")).unwrap();
    refused(&home, 78, &["config", "check"], &[], ".env: does not exist, or is a link that leads nowhere");
}

#[test]
fn secrets_may_come_from_a_pipe() {
    let (home, database) = (Home::new(), Database::migrated("secrets_piped"));
    let variables = [
        ("APP_ENV", "production"),
        ("PORT", "0"),
        ("DATABASE_URL", &*database.runtime_url),
        ("ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("AUDIT_SIGNING_KEY", ENCRYPTION_KEY),
        ("SHUTDOWN_DRAIN_DELAY", "0s"),
        ("STARTUP_TIMEOUT", "30s"),
    ];
    let mut server = command(&home, &["--jwt-secret-file", "/dev/stdin"], &variables);
    server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = server.spawn().unwrap();
    server.stdin.take().unwrap().write_all(format!("{KEY}\n").as_bytes()).unwrap();
    let log = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(log).map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Server started")));
    assert!(super::process::signal(server.id(), "TERM"));
    assert_eq!(server.wait().unwrap().code(), Some(0));

    if Path::new("/bin/bash").exists() {
        let script = format!(
            "exec \"$0\" config check --jwt-secret-file <(echo {KEY}) --encryption-key-file <(echo wrong)"
        );
        let ended = Process::spawn(in_a_shell(&home, "/bin/bash", &script, &variables[..3])).wait();
        let said = ended.err.join("\n");
        assert!(ended.code == 78 && said.contains("ENCRYPTION_KEY: is not 32 bytes"), "{ended:#?}");
        assert!(!said.contains("JWT_SECRET") && !said.contains(KEY), "{said}");
    }
}

#[test]
fn a_check_warns_of_what_is_hardly_meant() {
    let home = Home::new();
    fs::write(home.path().join(".env"), format!("JWT_SECRET={KEY}\n")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(home.path().join(".env"), open).unwrap();
    let variables = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", "postgresql://erp_app:kR4-vX9_mT2@127.0.0.1/erp"),
        ("ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("AUDIT_SIGNING_KEY", ENCRYPTION_KEY),
        ("METRICS_ENABLED", "true"),
        ("METRICS_PORT", "tcp://10.96.0.7:9464"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("HTTP_PORT", "8080"),
        ("VHOST", "erp"),
    ];
    let ended = run(&home, &["config", "check", "--json"], &variables);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let answer: serde_json::Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let warnings: Vec<&str> =
        answer["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for part in [
        "METRICS_PORT is ignored: Kubernetes",
        "set METRICS_TOKEN to a bearer token for it, or METRICS_PORT",
        "can claim any address",
        "HTTP_PORT is no setting of ours",
        "Did you mean HOST?",
        "chmod 600",
    ] {
        assert_eq!(
            warnings.iter().filter(|warning| warning.contains(part)).count(),
            1,
            "{part}: {warnings:#?}"
        );
    }
    let shown = run(&home, &["config", "check"], &variables);
    assert!(
        shown.code == 0 && shown.out.iter().filter(|line| line.starts_with("warning: ")).count() == 6,
        "{shown:#?}"
    );
    assert!(!format!("{ended:?}{shown:?}").contains(KEY));
}
