use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::lifecycle::{Exit, StartError};
use crate::shared::{Rng, Secret, SystemRng};

const STRONG: &str = "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa";
const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";
const URL: &str = "postgresql://app:hunter2-of-app@db.internal:5432/erp?sslmode=require";
const SYSTEM_URL: &str = "postgresql://system:hunter2-of-system@db.internal:5432/erp?sslmode=require";

fn load<const N: usize>(values: [(&str, &str); N]) -> Result<Config, Problems> {
    Config::load(&MapSource::environment(values).into())
}

fn production<const N: usize>(values: [(&str, &str); N]) -> Result<Config, Problems> {
    let base = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", URL),
        ("DATABASE_SYSTEM_URL", SYSTEM_URL),
        ("JWT_SECRET", STRONG),
        ("ENCRYPTION_KEY", KEY),
        ("AUDIT_SIGNING_KEY", KEY),
    ];
    let kept = base.into_iter().filter(|(name, _)| !values.iter().any(|(other, _)| other == name));
    Config::load(&MapSource::environment(kept.chain(values)).into())
}

fn messages(result: Result<Config, Problems>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

fn folder(name: &str) -> PathBuf {
    let mut suffix = [0; 8];
    SystemRng::new().fill(&mut suffix);
    let path = std::env::temp_dir().join(format!("erp-config-{name}-{:x}", u64::from_le_bytes(suffix)));
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn every_row_is_unique_documented_and_has_defaults_that_are_accepted() {
    let mut names = BTreeSet::new();
    for setting in SETTINGS {
        for name in [Some(setting.name.to_owned()), setting.alias.map(str::to_owned), setting.file_name()] {
            assert!(
                name.as_ref().is_none_or(|name| names.insert(name.clone())),
                "{name:?} stands for two rows"
            );
        }
        assert!(
            setting.doc().len() > 20 && setting.doc().ends_with('.'),
            "{} is not documented",
            setting.name
        );
        assert!(!setting.group.is_empty());
        assert!(setting.alias.is_none() || !setting.secret, "a secret's other name is its file");
        assert!(!setting.secret || setting.default == Defaults::NONE, "{} ships a secret", setting.name);
    }
    for environment in Environment::ALL {
        load([
            ("APP_ENV", environment.as_str()),
            ("DATABASE_URL", URL),
            ("DATABASE_SYSTEM_URL", SYSTEM_URL),
            ("JWT_SECRET", STRONG),
            ("ENCRYPTION_KEY", KEY),
            ("AUDIT_SIGNING_KEY", KEY),
        ])
        .unwrap();
    }
}

#[test]
fn every_field_has_the_end_of_its_rows_name() {
    let shown = format!("{:?}", load([]).unwrap());
    for setting in SETTINGS {
        assert!(setting.name.to_lowercase().ends_with(setting.field), "{}", setting.name);
        assert!(shown.contains(&format!(" {}: ", setting.field)), "{}", setting.name);
    }
}

#[test]
fn an_empty_environment_is_a_working_development_setup() {
    let config = load([]).unwrap();
    assert_eq!(config.process.app_env, Environment::Development);
    assert_eq!((config.process.port, config.process.host.as_str()), (3001, "localhost"));
    assert_eq!((config.logging.level, config.logging.format), (Level::Http, LogFormat::Console));
    assert_eq!(config.lifecycle.shutdown_drain_delay, Duration::ZERO);
    assert_eq!(config.database.timeout, Duration::from_secs(30));
    assert_eq!(config.jwt.expires_in, Duration::from_secs(900));
    assert!(config.jwt.secret.is_none() && config.database.url.is_none());
}

#[test]
fn production_has_its_own_defaults_and_requirements() {
    let config = production([]).unwrap();
    assert_eq!((config.logging.level, config.logging.format), (Level::Info, LogFormat::Json));
    assert_eq!(config.lifecycle.shutdown_drain_delay, Duration::from_secs(5));
    for environment in ["staging", "production"] {
        let missing = messages(load([("NODE_ENV", environment)]));
        assert!(missing.contains(&format!("DATABASE_URL: is required in {environment}")), "{missing}");
        assert!(
            missing.contains("JWT_SECRET: is required") && missing.contains("JWT_SECRET_FILE"),
            "{missing}"
        );
        assert!(missing.contains("ENCRYPTION_KEY: is required"), "{missing}");
        assert!(missing.contains("DATABASE_SYSTEM_URL: is required"), "{missing}");
        assert_eq!(missing.lines().count(), 5);
    }
}

#[test]
fn all_problems_come_in_one_message() {
    let problems = load([
        ("PORT", "65536"),
        ("LOG_LEVEL", "loud"),
        ("DATABASE_MAX_CONNECTIONS", "0"),
        ("METRICS_ENABLED", "maybe"),
        ("REQUEST_TIMEOUT", "soon\n\u{1b}[31m"),
        ("JWT_EXPIRES_IN", "16m"),
        ("DATABASE_URL", "mysql://app:hunter2@db/erp"),
        ("APP_ENV", "prod"),
        ("DATABASE_TIMOUT", "1"),
    ])
    .unwrap_err();
    let text = problems.to_string();
    assert_eq!((problems.len(), text.lines().count()), (8, 9), "{text}");
    assert!(text.contains("PORT: \"65536\" is not accepted. PORT takes: number from 0 to 65535."), "{text}");
    assert!(text.contains(
        "warning: DATABASE_TIMOUT is no setting of ours (found in: environment). Did you mean DATABASE_TIMEOUT?"
    ));
    assert!(!text.contains("?."), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("hunter2"), "{text}");
    assert_eq!(problems.to_json()["problems"].as_array().unwrap().len(), 8);
    assert_eq!(problems.to_json()["warnings"].as_array().unwrap().len(), 1);
    let start = StartError::from(problems);
    assert_eq!(start.exit, Exit::Configuration);
    assert!(start.message.starts_with("8 settings are not right:\n  "), "{}", start.message);
    assert_eq!(start.message.lines().count(), 10);
}

#[test]
fn s_03_lines_settings_and_rules_between_them_come_in_one_message() {
    let file = EnvFile::parse(".env", "PORT\nDATABASE_URL=postgresql://app:hunter2-of-app@db.internal/erp\n");
    let layers = Layers::new()
        .with(MapSource::environment([("APP_ENV", "production"), ("LOG_LEVEL", "loud")]))
        .with(file);
    let text = messages(Config::load(&layers));
    for problem in [
        ".env:1: ",
        "LOG_LEVEL: ",
        "DATABASE_SYSTEM_URL: is required",
        "JWT_SECRET: is required",
        "ENCRYPTION_KEY: is required",
        "AUDIT_SIGNING_KEY: is required",
        "DATABASE_URL: reaches another machine",
    ] {
        assert_eq!(text.lines().filter(|line| line.starts_with(problem)).count(), 1, "{problem} in {text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// What the system may do, requests must not: with one role for both, nothing would keep them apart.
#[test]
fn t_17_the_system_and_requests_do_not_come_as_one_user() {
    let same = "postgresql://app:another-password@db.internal:5432/erp?sslmode=require";
    let told = messages(production([("DATABASE_SYSTEM_URL", same)]));
    assert!(told.contains("DATABASE_SYSTEM_URL: names the same user as DATABASE_URL"), "{told}");
    assert!(!told.contains("another-password"), "{told}");
}

#[test]
fn require_tls_refuses_another_machine_without_it_and_lets_this_one_be() {
    let exposed = "postgresql://here:hunter2-of-app@db.internal:5432/erp";
    for name in ["DATABASE_URL", "DATABASE_SYSTEM_URL", "DATABASE_OWNER_URL"] {
        for url in
            [exposed.to_owned(), format!("{exposed}?sslmode=prefer"), format!("{exposed}?sslmode=disable")]
        {
            let text = messages(production([(name, &url)]));
            assert!(text.starts_with(&format!("{name}: reaches another machine")), "{text}");
            assert!(text.contains("sslmode=verify-full") && !text.contains("hunter2"), "{text}");
            production([(name, &url), ("REQUIRE_TLS", "false")]).unwrap();
            assert!(load([(name, &url), ("REQUIRE_TLS", "true")]).is_err());
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            production([(name, &format!("{exposed}?sslmode={mode}"))]).unwrap();
        }
        production([(name, "postgresql://here:hunter2-of-app@127.0.0.1/erp")]).unwrap();
    }
}

#[test]
fn a_mark_that_cuts_the_url_of_redis_is_refused_by_its_code_and_not_shown() {
    for (whom, code) in [
        (":pa/ss", "%2F"),
        ("orders:63/79", "%2F"),
        ("or/ders:hunter", "%2F"),
        ("orders:63?79", "%3F"),
        ("orders:63#79", "%23"),
        ("orders:pa@cache/79", "%2F"),
    ] {
        for scheme in ["redis", "rediss"] {
            let text = messages(load([("REDIS_URL", &format!("{scheme}://{whom}@cache.example:6379/0"))]));
            assert!(text.starts_with("REDIS_URL: ") && text.contains(code), "{whom}: {text}");
            assert!(!text.contains("79") && !text.contains("ss@") && !text.contains("hunter"), "{text}");
        }
    }
    for fine in [
        "redis://orders:pa%2Fss@cache:6379/0",
        "redis://:p@ss-of-ours@cache/1?protocol=resp3",
        "redis://cache",
    ] {
        load([("REDIS_URL", fine)]).unwrap();
    }
}

#[test]
fn example_passwords_are_refused_outside_development_only_and_not_shown() {
    for weak in ["pass", "password", "Changeme", "postgres", "change_me!", "app", "your-password", "short7x"]
    {
        let postgres = format!("postgresql://app:{weak}@db/erp?sslmode=require");
        let redis = format!("redis://:{weak}@cache:6379/0");
        for (name, value) in [
            ("DATABASE_URL", postgres.as_str()),
            ("DATABASE_OWNER_URL", &postgres),
            ("REDIS_URL", &redis),
            ("SMTP_PASSWORD", weak),
        ] {
            let text = messages(production([(name, value)]));
            assert!(text.starts_with(&format!("{name}: ")) && text.lines().count() == 1, "{weak}: {text}");
            assert!(weak.len() < 9 || !text.contains(weak), "{text}");
            load([(name, value)]).unwrap();
        }
    }
    let same = "postgresql://orders-of-erp:orders-of-erp@db/erp?sslmode=require";
    assert!(messages(production([("DATABASE_URL", same)])).contains("name of its user"));
    let same = "rediss://orders-of-erp:orders-of-erp@cache/0";
    assert!(messages(production([("REDIS_URL", same)])).contains("name of its user"));
    production([("REDIS_URL", "redis://cache:6379")]).unwrap();
    production([("REDIS_URL", "rediss://app:kR4-vX9_mT2@cache:6379"), ("SMTP_PASSWORD", "kR4-vX9_mT2")])
        .unwrap();
    production([("DATABASE_URL", "postgresql://%2Ftmp%2Fpg/erp?user=app")]).unwrap();
}

#[test]
fn the_environment_may_hold_what_is_not_ours_and_a_file_may_not() {
    load([("HOME", "/"), ("PATH", "/bin"), ("PWD", "/"), ("LANG", "C"), ("RUST_LOG", "x"), ("PGHOST", "y")])
        .unwrap();
    for (stranger, ours) in [("PROT", "PORT"), ("jwt_secret", "JWT_SECRET"), ("\u{feff}PORT", "PORT")] {
        let warnings = load([(stranger, "1")]).unwrap().warnings();
        assert!(
            warnings.len() == 1 && warnings[0].ends_with(&format!("Did you mean {ours}?")),
            "{warnings:?}"
        );
        let text = messages(Config::load(&MapSource::flags([(stranger, "1")]).into()));
        assert!(text.contains(&format!("Did you mean {ours}?")), "{text}");
    }
    let file = EnvFile::parse(".env", "RUST_LOG=debug\nPORTT=1");
    let text = messages(Config::load(&file.into()));
    assert!(text.contains("RUST_LOG: is no setting of ours (found in: .env file). Remove it."), "{text}");
    assert!(text.contains("Did you mean PORT?"), "{text}");
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let layers = || {
        Layers::new()
            .with(MapSource::flags([("PORT", "1")]))
            .with(MapSource::environment([
                ("PORT", "2"),
                ("HOST", "env"),
                ("NODE_ENV", "staging"),
                ("LOG_LEVEL", ""),
            ]))
            .with(EnvFile::parse(".env", "PORT=3\nHOST=file\nLOG_LEVEL=debug\nAPP_ENV=production"))
    };
    let explained = SettingsSchema::core().explain(&layers());
    let row = |name: &str| {
        let row = explained.iter().find(|row| row.name == name).unwrap();
        (row.value.clone().unwrap_or_default(), row.source.clone())
    };
    assert_eq!(row("PORT"), ("1".into(), "flag".into()));
    assert_eq!(row("HOST"), ("env".into(), "environment".into()));
    assert_eq!(row("LOG_LEVEL"), ("debug".into(), ".env file".into()));
    assert_eq!(row("APP_ENV"), ("staging".into(), "environment (NODE_ENV)".into()));
    assert_eq!(row("LOG_FORMAT"), ("json".into(), "default".into()));
    assert_eq!(row("DATABASE_URL"), (String::new(), "default".into()));
}

#[test]
fn two_names_that_disagree_are_a_problem() {
    load([
        ("APP_ENV", "staging"),
        ("NODE_ENV", "staging"),
        ("DATABASE_URL", URL),
        ("DATABASE_SYSTEM_URL", SYSTEM_URL),
        ("JWT_SECRET", STRONG),
        ("ENCRYPTION_KEY", KEY),
        ("AUDIT_SIGNING_KEY", KEY),
    ])
    .unwrap();
    assert!(
        messages(load([("APP_ENV", "staging"), ("NODE_ENV", "production")]))
            .contains("Keep one of APP_ENV and NODE_ENV")
    );
    assert!(messages(load([("JWT_SECRET", STRONG), ("JWT_SECRET_FILE", "/x")])).contains("Keep one of"));
}

#[test]
fn weak_secrets_are_refused_outside_development_only() {
    for weak in [
        "your-jwt-secret",
        "your-jwt-secret-your-jwt-secret-your-jwt-secret",
        "changeme",
        "please-CHANGE_ME-before-production-1234567890",
        "secret",
        "secret-0123456789-abcdefghijklmnopqrstuvwxyz",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcdefghabcdefghabcdefghabcdefghabcdefgh",
        "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0",
    ] {
        for name in ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "METRICS_TOKEN"] {
            let text = messages(production([(name, weak)]));
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
            assert!(weak.len() < 9 || !text.contains(weak), "{text}");
        }
        load([("JWT_SECRET", weak)]).unwrap();
    }
    production([("JWT_SECRET_PREVIOUS", STRONG)]).unwrap();
}

#[test]
fn database_urls_are_checked_and_never_shown() {
    for good in [URL, "postgres://u@h/d?sslmode=require", "postgresql://%2Ftmp%2Fpg/erp?user=app"] {
        load([("DATABASE_URL", good)]).unwrap();
    }
    load([("DATABASE_URL", "postgresql://app:pw@db/erp?sslmode=verify-full")]).unwrap();
    for bad in [
        "host=db password=hunter2",
        "postgresql://app:hunter2@db:port/erp",
        "postgresql://app:hunter2@db/erp?hunter2=1",
        "postgresql://app:hunter2@db/erp?sslmode=allow",
        "postgresql://",
    ] {
        let text = messages(load([("DATABASE_URL", bad), ("DATABASE_OWNER_URL", bad)]));
        assert!(text.lines().count() == 2 && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_secret_is_in_no_rendering() {
    let layers = MapSource::environment([
        ("JWT_SECRET", STRONG),
        ("DATABASE_URL", URL),
        ("DATABASE_SYSTEM_URL", SYSTEM_URL),
        ("METRICS_TOKEN", "hunter2"),
    ])
    .into();
    let config = Config::load(&layers).unwrap();
    let shown = format!("{config:?}{:?}", SettingsSchema::core().explain(&layers));
    assert!(!shown.contains(STRONG) && !shown.contains("hunter2"), "{shown}");
    assert_eq!(config.jwt.secret.unwrap().expose(), STRONG);
}

#[test]
fn a_secret_comes_from_a_file_without_its_last_line_break() {
    let folder = folder("file");
    let path = folder.join("jwt");
    for text in [format!("{STRONG}\n"), format!("{STRONG}\r\n"), STRONG.to_owned()] {
        std::fs::write(&path, text).unwrap();
        let config = load([("JWT_SECRET_FILE", path.to_str().unwrap())]).unwrap();
        assert_eq!(config.jwt.secret.unwrap().expose(), STRONG);
    }
    let text = messages(load([("JWT_SECRET_FILE", STRONG)]));
    assert!(text.contains("JWT_SECRET_FILE") && !text.contains(STRONG), "{text}");
    let text = messages(load([("PORT_FILE", "/x"), ("PORT", "x")]));
    assert!(text.contains("PORT: \"x\""), "{text}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn c_06_every_secret_comes_from_a_file_and_is_in_no_text() {
    let folder = folder("c06");
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let secret = match setting.check {
            Check::PostgresUrl => URL.to_owned(),
            Check::RedisUrl => "redis://:hunter2@cache:6379/0".to_owned(),
            Check::EncryptionKey => KEY.to_owned(),
            Check::HttpUrl => "https://cdn.example".to_owned(),
            Check::Host | Check::Email => "erp@example.com".to_owned(),
            Check::Key | Check::Token | Check::Password | Check::Nothing => STRONG.to_owned(),
        };
        let file = folder.join(setting.name);
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let name = setting.file_name().unwrap();
        // One that comes with another.
        let beside = match setting.name {
            "FILES_SECRET_KEY" => Some(("FILES_ACCESS_KEY", "an access key")),
            "FILES_ACCESS_KEY" => Some(("FILES_SECRET_KEY", "k3Qk8vZp1sXw7Rt5Yb2L")),
            "METRICS_TOKEN_PREVIOUS" => Some(("METRICS_TOKEN", "k3Qk8vZp1sXw7Rt5Yb2L")),
            _ => None,
        };
        let given = [(name.as_str(), file.to_str().unwrap())];
        let layers = Layers::from(MapSource::environment(given.into_iter().chain(beside)));
        let config = Config::load(&layers).unwrap();
        let rows = SettingsSchema::core().explain(&layers);
        let row = rows.iter().find(|row| row.name == setting.name).unwrap();
        assert_eq!(row.source, format!("environment ({name})"));
        assert_eq!(row.value.as_deref(), Some("[secret]"));
        let debug = format!("{config:?}");
        let unset = format!("{:?}", load([]).unwrap());
        let nones = |text: &str| text.matches("None").count();
        assert_eq!(nones(&debug) + 1 + beside.iter().count(), nones(&unset), "{name} is not read: {debug}");
        let panicked = std::panic::catch_unwind(|| panic!("unexpected: {config:?}")).unwrap_err();
        let panicked = panicked.downcast_ref::<String>().unwrap();
        std::fs::write(&file, format!("{secret}\u{1}")).unwrap();
        let refused = Config::load(&layers).map(drop).map_err(|problems| format!("{problems:?} {problems}"));
        for text in [&debug, &format!("{rows:?}"), panicked, &refused.err().unwrap_or_default()] {
            assert!(!text.contains(&secret) && !text.contains("hunter2"), "{name}: {text}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn development_makes_a_secret_once_and_keeps_it() {
    let folder = folder("dev");
    let data = folder.join("data");
    let fresh = || load([("DATA_DIR", data.to_str().unwrap())]).unwrap();
    let (mut first, mut second) = (fresh(), fresh());
    dev_secrets(&mut first, &SystemRng::new()).unwrap();
    dev_secrets(&mut second, &SystemRng::new()).unwrap();
    let secret = first.jwt.secret.unwrap();
    assert_eq!(secret.expose(), second.jwt.secret.unwrap().expose());
    let key = first.encryption.key.unwrap();
    let key = key.expose().as_str();
    production([("JWT_SECRET", secret.expose()), ("ENCRYPTION_KEY", key), ("AUDIT_SIGNING_KEY", key)])
        .unwrap();

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.join("jwt-secret")), 0o600);
    assert_eq!(
        std::fs::read_dir(&data).unwrap().count(),
        4,
        "those of tokens, encryption, webhooks and the audit log"
    );

    std::fs::write(data.join("jwt-secret"), "short").unwrap();
    let error = dev_secrets(&mut fresh(), &SystemRng::new()).unwrap_err();
    assert_eq!(error.exit, Exit::DataFolder);
    let mut set = load([
        ("JWT_SECRET", "mine"),
        ("ENCRYPTION_KEY", KEY),
        ("AUDIT_SIGNING_KEY", KEY),
        ("WEBHOOK_SECRET", STRONG),
        ("DATA_DIR", "/nonexistent"),
    ])
    .unwrap();
    dev_secrets(&mut set, &SystemRng::new()).unwrap();
    assert_eq!(set.jwt.secret.unwrap().expose(), "mine");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_encryption_key_is_32_bytes() {
    let hex = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
    production([("ENCRYPTION_KEY", hex)]).unwrap();
    for bad in ["your-encryption-key", &hex[2..], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        assert!(messages(production([("ENCRYPTION_KEY", bad)])).starts_with("ENCRYPTION_KEY: "), "{bad}");
    }
    assert!(messages(load([("ENCRYPTION_KEY", "short")])).starts_with("ENCRYPTION_KEY: "));
}

#[test]
fn feature_switches_are_read_and_checked() {
    let config = load([("FEATURE_NEW_LIST", "25%")]).unwrap();
    assert_eq!(config.features.rollout("new_list"), Rollout::Percent(25));
    assert!(messages(load([("FEATURE_X", "perhaps")])).starts_with("FEATURE_X: "));
}

/// Every cell of the rendered table: a default holds where nothing is set, `required` is missed and `optional` is not.
#[test]
fn every_cell_of_the_table_of_differences_holds() {
    let page = SettingsSchema::core().render_markdown();
    let table =
        page.split("## What differs between environments").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (settings, words): (Vec<_>, Vec<_>) = rows
        .iter()
        .skip(2)
        .partition(|row| SETTINGS.iter().any(|known| row[0] == format!("`{}`", known.name)));
    assert!(settings.len() >= 5, "{table}");
    assert_eq!(words.len(), 9, "what_differs_between_environments tests the others: {words:?}");
    for row in settings {
        let name = row[0].trim_matches('`');
        for (environment, cell) in Environment::ALL.iter().zip(&row[1..]) {
            let needed = [
                ("DATABASE_URL", URL),
                ("DATABASE_SYSTEM_URL", SYSTEM_URL),
                ("JWT_SECRET", STRONG),
                ("ENCRYPTION_KEY", KEY),
                ("AUDIT_SIGNING_KEY", KEY),
            ];
            let rest = needed.into_iter().filter(|(other, _)| *other != name);
            let layers: Layers =
                MapSource::environment(rest.chain([("APP_ENV", environment.as_str())])).into();
            let loaded = Config::load(&layers).map(drop);
            let held = SettingsSchema::core()
                .explain(&layers)
                .into_iter()
                .find(|row| row.name == name)
                .unwrap()
                .value;
            match *cell {
                "required" => {
                    let said = loaded.unwrap_err().to_string();
                    assert!(said.starts_with(&format!("{name}: is required in {environment}")), "{said}");
                }
                "optional" => assert_eq!((loaded, held), (Ok(()), None), "{name} in {environment}"),
                default => {
                    assert_eq!((loaded, held.as_deref()), (Ok(()), Some(default)), "{name} in {environment}");
                }
            }
        }
    }
}

#[test]
fn what_differs_between_environments() {
    let of = Profile::of;
    let (development, staging, production) =
        (of(Environment::Development), of(Environment::Staging), of(Environment::Production));
    assert!(development.error_detail && !staging.error_detail && !production.error_detail);
    assert!(development.request_details && !staging.request_details && !production.request_details);
    assert!(development.local_origins && !staging.local_origins && !production.local_origins);
    assert!(development.weak_secrets && !staging.weak_secrets && !production.weak_secrets);
    assert!(development.open_management && !staging.open_management && !production.open_management);
    assert!(development.generates_secrets && !staging.generates_secrets && !production.generates_secrets);
    assert!(development.migrates_at_start && !staging.migrates_at_start && !production.migrates_at_start);
    assert!(development.demo_tenants && staging.demo_tenants && !production.demo_tenants);
    assert!(development.banner && !staging.banner && !production.banner);
}

#[test]
fn the_mail_server_and_the_sender_are_checked_everywhere() {
    load([("SMTP_HOST", "mail.example.com"), ("SMTP_FROM", "erp@example.com")]).unwrap();
    let text =
        messages(load([("SMTP_HOST", "smtp://mail.example.com"), ("SMTP_FROM", "erp at example.com")]));
    assert!(
        text.contains("SMTP_HOST: is no host") && text.contains("SMTP_FROM: is no e-mail address"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
    let text = messages(load([("SMTP_HOST", "mail.example.com")]));
    assert!(text.contains("SMTP_FROM"), "{text}");
}

#[test]
fn the_password_of_the_mail_server_crosses_no_network_in_the_clear() {
    let settings = |host, tls| {
        let account =
            [("SMTP_FROM", "erp@example.com"), ("SMTP_USER", "erp"), ("SMTP_PASSWORD", "kR4-vX9_mT2")];
        let [from, user, password] = account;
        [from, user, password, ("SMTP_HOST", host), ("SMTP_TLS", tls)]
    };
    assert!(messages(production(settings("mail.example", "none"))).contains("SMTP_TLS: is none"));
    load(settings("mail.example", "none")).unwrap();
    production(settings("127.0.0.1", "none")).unwrap();
    production(settings("mail.example", "starttls")).unwrap();
}

#[test]
fn groups_show_the_same_values() {
    let settings = [
        ("REDIS_URL", "rediss://cache:6380"),
        ("SMTP_HOST", "mail.example"),
        ("SMTP_FROM", "erp@mail.example"),
    ];
    let config = production(settings).unwrap();
    assert_eq!(config.security().jwt.expires_in, config.jwt.expires_in);
    assert_eq!(config.security().rbac.role_valid_for, config.jwt.expires_in);
    assert_eq!(config.database.max_connections, 20);
    assert_eq!(config.process.port, 3001);
    assert_eq!(config.logging.format, LogFormat::Json);
    assert_eq!((config.mail.host.as_deref(), config.mail.tls), (Some("mail.example"), SmtpTls::StartTls));
    assert!(config.redis.url.is_some() && config.transport.certificate().is_none());
}

#[test]
fn the_example_file_sets_nothing_and_names_everything() {
    let example = SettingsSchema::core().render_env_example();
    assert!(EnvFile::parse(".env.example", &example).names().is_empty());
    let uncommented = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or("#"));
    let all = EnvFile::parse(".env", &uncommented.collect::<Vec<_>>().join("\n"));
    assert_eq!(all.names().len(), SETTINGS.len());
    assert!(
        example.contains("FEATURE_<NAME>")
            && SettingsSchema::core().render_markdown().contains("| `FEATURE_<NAME>` |")
    );
    Config::load(&all.into()).unwrap();
}

/// Settings as a module would bring them.
mod of_a_module {
    use super::*;

    crate::settings! {
        /// How invoices are sent.
        pub(super) struct BillingSettings in "Billing", rules no_late_reminder;

        /// How many days a customer has to pay.
        BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("30"), range: Some(("1", "365")) };

        /// How many days before that a reminder is sent.
        BILLING_REMINDER_DAYS reminder_days: u32 { default: Defaults::all("7") };

        /// Who signs reminders, with `BILLING_SIGN_KEY`.
        BILLING_SIGNER signer: Option<String> { along_with: &["BILLING_SIGN_KEY"] };

        /// Key that signs reminders.
        BILLING_SIGN_KEY sign_key: Option<Secret<String>> { check: Check::Key, along_with: &["BILLING_SIGNER"] };
    }

    crate::settings! {
        /// Of another module, which has not looked around.
        #[allow(dead_code)] // its rows are refused before they are read
        pub(super) struct GreedySettings in "Greedy";

        /// A name that another module has already.
        BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("1") };

        /// The file of a secret of the core.
        JWT_SECRET_FILE secret_file: Option<PathBuf> {};
    }

    fn no_late_reminder(reader: &Reader<'_>) -> Vec<SettingProblem> {
        let [term, reminder] =
            ["BILLING_TERM_DAYS", "BILLING_REMINDER_DAYS"].map(|name| reader.glance::<u32>(name));
        let late = SettingProblem {
            name: "BILLING_REMINDER_DAYS".into(),
            message: "is not less than BILLING_TERM_DAYS".into(),
            fix: "Lower it".into(),
        };
        (reminder >= term).then_some(late).into_iter().collect()
    }
}

fn with_billing() -> SettingsSchema {
    SettingsSchema::core().with("billing", &[Section::of::<of_a_module::BillingSettings>()])
}

#[test]
fn a_modules_settings_are_read_like_the_cores() {
    let layers = MapSource::environment([("BILLING_TERM_DAYS", "14"), ("FEATURE_X", "on")]).into();
    let config = with_billing().load(&layers).unwrap();
    let billing = config.of_module::<of_a_module::BillingSettings>().unwrap();
    assert_eq!((billing.term_days, billing.reminder_days), (14, 7));
    assert!(billing.signer.is_none() && billing.sign_key.is_none());
    assert!(Config::load(&layers).unwrap().of_module::<of_a_module::BillingSettings>().is_none());

    let explained = with_billing().explain(&layers);
    let row = explained.iter().find(|row| row.name == "BILLING_TERM_DAYS").unwrap();
    assert_eq!((row.value.as_deref(), &*row.source, row.default), (Some("14"), "environment", Some("30")));
    let page = with_billing().render_markdown();
    assert!(
        page.contains("\n## Billing\n")
            && page.contains("| `BILLING_TERM_DAYS` | number from 1 to 365 | 30 |")
    );
    assert!(with_billing().render_env_example().contains("\n# --- Billing ---\n"));
    // A name that the product does not know is refused in a file.
    let file = || EnvFile::parse(".env", "BILLING_TERM_DAYS=14");
    with_billing().load(&file().into()).unwrap();
    assert!(messages(Config::load(&file().into())).contains("BILLING_TERM_DAYS: is no setting of ours"));
}

#[test]
fn problems_of_modules_come_along_with_the_cores() {
    let layers = Layers::new()
        .with(MapSource::environment([
            ("PORT", "65536"),
            ("BILLING_TERM_DAYS", "0"),
            ("BILLING_REMINDER_DAYS", "31"),
            ("BILLING_SIGNER", "erp"),
        ]))
        .with(EnvFile::parse(".env", "BILLING_SINGER=erp"));
    let text = messages(with_billing().load(&layers));
    for problem in [
        "PORT: \"65536\" is not accepted",
        "BILLING_TERM_DAYS: \"0\" is not accepted. BILLING_TERM_DAYS takes: number from 1 to 365",
        "BILLING_REMINDER_DAYS: is not less than BILLING_TERM_DAYS. Lower it.",
        "BILLING_SIGN_KEY: is not set, and BILLING_SIGNER is. Set both or neither.",
        "BILLING_SINGER: is no setting of ours (found in: .env file). Did you mean BILLING_SIGNER?",
    ] {
        assert_eq!(text.lines().filter(|line| line.starts_with(problem)).count(), 1, "{problem} in {text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn a_name_that_two_modules_claim_is_refused() {
    let schema = with_billing().with("greedy", &[Section::of::<of_a_module::GreedySettings>()]);
    let text = messages(schema.load(&Layers::new()));
    assert!(
        text.contains("BILLING_TERM_DAYS: is declared twice: by billing and by greedy. Rename one"),
        "{text}"
    );
    assert!(text.contains("JWT_SECRET_FILE: is declared twice: by the core and by greedy."), "{text}");
}

#[test]
fn h_03_forcing_https_blindly_is_warned_of() {
    let config = production([]).unwrap();
    assert!(config.http.force_https && !config.enforces_https());
    assert!(config.warnings()[0].contains("TRUSTED_PROXIES"));
    for (name, value) in [("TRUSTED_PROXIES", "10.0.0.0/8"), ("FORCE_HTTPS", "false")] {
        assert!(
            production([(name, value), ("METRICS_ENABLED", "false")]).unwrap().warnings().is_empty(),
            "{name}"
        );
    }
    assert!(production([("TRUSTED_PROXIES", "10.0.0.0/8")]).unwrap().enforces_https());
    assert!(load([]).unwrap().warnings().is_empty());
}

/// What files, shells and container runtimes put around a value, for each setting and source there is.
#[test]
fn what_stands_around_a_value_is_dropped_whatever_its_kind_and_source() {
    let folder = folder("around");
    let path = folder.join("value");
    let values = [
        ("METRICS_TOKEN", STRONG),
        ("JWT_SECRET", STRONG),
        ("ENCRYPTION_KEY", KEY),
        ("AUDIT_SIGNING_KEY", KEY),
        ("DATABASE_URL", URL),
        ("DATABASE_SYSTEM_URL", SYSTEM_URL),
        ("LOG_FILE", "/var/log/x.log"),
        ("DATA_DIR", "/var/lib/erp"),
        ("HOST", "192.0.2.1"),
        ("PORT", "80"),
        ("LOG_LEVEL", "warn"),
        ("CORS_ORIGINS", "https://app.example.com"),
    ];
    for (name, value) in values {
        let expected = format!("{:?}", load([(name, value)]).unwrap());
        let exposed = |config: Config| {
            let secrets =
                [config.metrics.token, config.jwt.secret, config.encryption.key, config.database.url];
            secrets.map(|secret| secret.map(|secret| secret.expose().clone()))
        };
        let expected_secrets = exposed(load([(name, value)]).unwrap());
        for around in [
            format!("{value}\n"),
            format!("\u{feff}{value}\r\n"),
            format!(" \t{value}\n\n"),
            format!("{value}\u{200b}"),
        ] {
            let mut sources: Vec<Layers> = vec![
                MapSource::flags([(name, around.as_str())]).into(),
                MapSource::environment([(name, around.as_str())]).into(),
                EnvFile::parse(".env", &format!("{name}={around}")).into(),
            ];
            if SETTINGS.iter().any(|setting| setting.name == name && setting.secret) {
                std::fs::write(&path, &around).unwrap();
                let file = format!(" {}\n", path.display());
                sources.push(MapSource::environment([(format!("{name}_FILE"), file)]).into());
            }
            for layers in sources {
                // Where a secret was read from is told, too, and is another thing.
                let config = Config { secret_files: BTreeMap::new(), ..Config::load(&layers).unwrap() };
                assert_eq!(format!("{config:?}"), expected, "{around:?}");
                assert_eq!(exposed(config), expected_secrets, "{around:?}");
            }
        }
        for quoted in [format!("\"{value}\""), format!("'{value}' "), format!("\u{feff}“{value}”\n")] {
            for layers in [
                MapSource::flags([(name, quoted.as_str())]),
                MapSource::environment([(name, quoted.as_str())]),
            ] {
                let text = messages(Config::load(&layers.into()));
                assert!(text.starts_with(&format!("{name}: stands in quotes")), "{text}");
                assert!(text.lines().count() == 1 && !text.contains(value), "{text}");
            }
        }
        let broken = format!("{value}\n{value}");
        assert!(messages(load([(name, &broken)])).starts_with(&format!("{name}: holds a line break")));
    }
    std::fs::write(&path, "\u{feff}\n").unwrap();
    assert!(messages(load([("JWT_SECRET_FILE", path.to_str().unwrap())])).contains("the file is empty"));
    std::fs::write(&path, STRONG.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    let text = messages(load([("JWT_SECRET_FILE", path.to_str().unwrap())]));
    assert!(text.contains("UTF-16") && !text.contains(STRONG), "{text}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_metrics_token_and_a_host_are_checked_before_they_are_used() {
    for bad in ["with a space", "zähler-token", "token\u{a0}x"] {
        let text = messages(load([("METRICS_TOKEN", bad)]));
        assert!(text.starts_with("METRICS_TOKEN: holds other characters") && !text.contains(bad), "{text}");
    }
    for bad in ["http://localhost", "localhost:3001", "[::1]", "*", "a b", "256.0.0.1"] {
        let text = messages(load([("HOST", bad)]));
        assert!(text.starts_with("HOST: is no host") && text.lines().count() == 1, "{text}");
    }
    for good in ["0.0.0.0", "::", "localhost", "api.example.com", "fe80::1%eth0"] {
        load([("HOST", good)]).unwrap();
    }
}

#[test]
fn a_secret_from_a_pipe_is_read_once_and_counts_each_time() {
    let folder = folder("pipe");
    let pipe = folder.join("secret");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let layers: Layers = MapSource::environment([("JWT_SECRET_FILE", pipe.to_str().unwrap())]).into();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, format!("{STRONG}\n")).unwrap()
    });
    for _ in 0..2 {
        assert_eq!(Config::load(&layers).unwrap().jwt.secret.unwrap().expose(), STRONG);
    }
    assert_eq!(
        SettingsSchema::core()
            .explain(&layers)
            .iter()
            .find(|row| row.name == "JWT_SECRET")
            .unwrap()
            .value
            .as_deref(),
        Some("[secret]")
    );
    writer.join().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn links_of_kubernetes_are_ignored_with_a_warning() {
    let config = load([
        ("METRICS_PORT", "tcp://10.96.0.7:9464"),
        ("METRICS_PORT_9464_TCP_PROTO", "tcp"),
        ("METRICS_SERVICE_HOST", "10.96.0.7"),
        ("METRIC_PORT", "tcp://10.96.0.7:9464"),
        ("FEATURE_X_PORT", "udp://10.96.0.8:53"),
        ("FEATURE_X_SERVICE_PORT", "53"),
        ("FEATURE_X_PORT_53_UDP_ADDR", "10.96.0.8"),
    ])
    .unwrap();
    assert_eq!(config.process.metrics_port, None);
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].starts_with("METRICS_PORT is ignored: Kubernetes"), "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("enableServiceLinks: false")), "{warnings:?}");
    let file = EnvFile::parse(".env", "METRICS_PORT=tcp://10.96.0.7:9464");
    assert!(messages(Config::load(&file.into())).contains("METRICS_PORT takes: number"));
    // A weaker source still has its say.
    let layers = Layers::new()
        .with(MapSource::environment([("METRICS_PORT", "tcp://10.96.0.7:9464")]))
        .with(EnvFile::parse(".env", "METRICS_PORT=9100"));
    assert_eq!(Config::load(&layers).unwrap().process.metrics_port, Some(9100));
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let warns = |config: Result<Config, Problems>, part: &str| {
        config.unwrap().warnings().iter().filter(|warning| warning.contains(part)).count() == 1
    };
    assert!(warns(
        production([("METRICS_ENABLED", "true")]),
        "set METRICS_TOKEN to a bearer token for it, or METRICS_PORT"
    ));
    for (name, value) in [("METRICS_PORT", "9464"), ("METRICS_TOKEN", STRONG), ("METRICS_ENABLED", "false")] {
        assert!(!warns(production([(name, value)]), "METRICS_ENABLED"), "{name}");
    }
    for everybody in ["0.0.0.0/0", "::/0", "0.0.0.0/1, 128.0.0.0/1"] {
        assert!(warns(production([("TRUSTED_PROXIES", everybody)]), "can claim any address"), "{everybody}");
    }
    assert!(!warns(production([("TRUSTED_PROXIES", "10.0.0.0/8, fc00::/7")]), "can claim any address"));
    for open in ["0.0.0.0", "::", "192.0.2.1", "erp.example.com"] {
        assert!(warns(load([("HOST", open)]), "APP_ENV is development"), "{open}");
        assert!(!warns(production([("HOST", open)]), "APP_ENV is development"), "{open}");
    }
    assert!(!warns(load([("HOST", "127.0.0.1")]), "APP_ENV is development"));
}

#[test]
fn a_file_of_secrets_that_everybody_may_write_to_is_warned_of() {
    let folder = folder("open");
    let (secret, env) = (folder.join("secret"), folder.join("env"));
    std::fs::write(&secret, STRONG).unwrap();
    std::fs::write(&env, "LOG_LEVEL=warn\n").unwrap();
    let layers = || {
        let named = MapSource::environment([("JWT_SECRET_FILE", secret.to_str().unwrap())]);
        Layers::new().with(named).with(EnvFile::named(&env))
    };
    let mode = |mode| {
        for path in [&secret, &env] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Config::load(&layers()).unwrap().warnings()
    };
    for closed in [0o600, 0o644, 0o440] {
        assert!(mode(closed).is_empty(), "{closed:o}");
    }
    let warnings = mode(0o666);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings.iter().all(|warning| warning.contains("chmod 600 /") && !warning.contains(STRONG)),
        "{warnings:?}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_generated_secret_that_others_could_have_put_there_is_refused() {
    let folder = folder("others");
    let fresh = || load([("DATA_DIR", folder.to_str().unwrap())]).unwrap();
    dev_secrets(&mut fresh(), &SystemRng::new()).unwrap();
    let secret = folder.join("jwt-secret");
    let refused = |part: &str| {
        let error = dev_secrets(&mut fresh(), &SystemRng::new()).unwrap_err();
        assert!(error.exit == Exit::DataFolder && error.message.contains(part), "{}", error.message);
    };
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o666)).unwrap();
    refused("others may write to it");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    dev_secrets(&mut fresh(), &SystemRng::new()).unwrap();
    // Only root can give a file away.
    if std::os::unix::fs::chown(&secret, Some(12_345), None).is_ok() {
        refused("it belongs to user 12345");
    }
    std::fs::remove_file(&secret).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &secret).unwrap();
    refused("no regular file");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_of_several_instances_are_in_a_bucket_with_keys_and_tls() {
    let folder = ("FILES_URL", "file:///var/lib/erp/files");
    assert!(production([folder]).is_ok() && production([("INSTANCES", "3")]).is_ok());
    assert!(load([folder, ("INSTANCES", "3")]).is_ok(), "a developer's machine has one disk");
    let text = messages(production([folder, ("INSTANCES", "3")]));
    assert!(text.contains("FILES_URL") && text.contains("Name a bucket, s3://"), "{text}");
    let bucket = ("FILES_URL", "s3://erp-files?endpoint=http://store.example:9000");
    let text = messages(production([bucket]));
    for problem in
        ["FILES_ACCESS_KEY: is not set, and FILES_URL names a bucket", "Begin its endpoint with https://"]
    {
        assert!(text.contains(problem), "{problem}: {text}");
    }
    let text = messages(production([("FILES_URL", "s3://key:hunter2hunter2@erp-files")]));
    assert!(text.contains("FILES_URL") && text.contains("file:///absolute/path"), "{text}");
    let keys = [("FILES_ACCESS_KEY", "erp"), ("FILES_SECRET_KEY", "k3Qk8vZp1sXw7Rt5Yb2L")];
    let secure = ("FILES_URL", "s3://erp-files/one?endpoint=https://store.example");
    let config = production([secure, keys[0], keys[1], ("INSTANCES", "3")]).unwrap();
    assert!(!format!("{config:?}").contains("k3Qk8vZp1sXw7Rt5Yb2L"));
}

#[test]
fn t_17_the_servers_own_name_is_no_tenants() {
    let with = |url, domain| load([("PUBLIC_URL", url), ("TENANT_DOMAIN", domain)]);
    for (url, domain) in [
        ("https://erp.example.com", "erp.example.com"),
        ("https://erp.example.com:8443", "erp.example.com"),
        ("https://api.example.com", "tenants.example.com"),
        ("https://evilerp.example.com", "erp.example.com"),
    ] {
        assert_eq!(with(url, domain).unwrap().http.tenant_domain.unwrap().as_str(), domain, "{url}");
    }
    for (url, domain) in [
        ("https://api.example.com", "example.com"),
        ("https://api.example.com:8443", "example.com"),
        ("https://a.b.example.com", "example.com"),
    ] {
        let text = messages(with(url, domain));
        assert!(text.contains("TENANT_DOMAIN: is above the name in PUBLIC_URL"), "{text}");
    }
}

#[test]
fn passkeys_are_for_a_name_that_browsers_let_the_pages_use() {
    let with = |url, name| load([("PUBLIC_URL", url), ("PASSKEY_RP_ID", name)]);
    for (url, name) in [
        ("https://erp.example.com", "erp.example.com"),
        ("https://erp.example.com:8443", "example.com"),
        ("https://localhost:8443", "localhost"),
    ] {
        assert_eq!(with(url, name).unwrap().http.passkey_rp_id.as_deref(), Some(name), "{url}");
    }
    for (url, name) in [
        ("https://erp.example.com", "com"),
        ("https://erp.example.com", "xample.com"),
        ("https://erp.example.com", "crm.example.com"),
        ("https://erp.example.com", "www.erp.example.com"),
        ("https://192.0.2.1", "192.0.2.1"),
        ("https://[2001:db8::1]:8443", "2001:db8::1"),
    ] {
        let text = messages(with(url, name));
        let said = "PASSKEY_RP_ID: is neither the host of PUBLIC_URL nor a domain above it";
        assert!(text.contains(said), "{url} {name}: {text}");
    }
    let text = messages(with("https://erp.example.com", "https://erp.example.com"));
    assert!(text.contains("PASSKEY_RP_ID: "), "{text}");
    let text = messages(load([("PASSKEY_RP_ID", "erp.example.com")]));
    assert!(text.contains("PASSKEY_RP_ID") && text.contains("PUBLIC_URL"), "{text}");
}
