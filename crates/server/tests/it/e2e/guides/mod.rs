//! The pages for people are true: every command of README.md and of the guides is run in order, as it stands, in one
//! shell a page, and what it prints is what the page shows.
//!
//! A block without a language, after one with commands, is what these print (`page.rs` says what may differ). A comment
//! that begins with a status, as in `# 404`, says that this status is in the answer; a command that fails must have a
//! comment. A block of SQL goes to the command before it. What a page takes from other machines is replaced, in
//! [`STAND_INS`]; what is not run is listed, with its reason. `BLESS=1` writes what was printed into the page, where
//! nothing of it is left out.
//!
//! What builds or tests the project is run by `script/check-deep guides` only, where README.md is typed into a clone, and
//! add-a-module.md is followed in one (`tutorial.rs`). The code of a-document-module.md is that of the module which it leads
//! through.

mod page;
mod tutorial;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use erp_core::config::SETTINGS;
use erp_core::db::cluster::{Cluster, ClusterOptions};
use erp_testkit::Pooler;
use page::{Block, blocks, fits};
use regex_lite::Regex;

use super::clients::{finish, finish_within, installed, program};
use super::database::{Database, PASSWORD};
use super::process::{Home, path, run};
use super::relay::{Authority, Relay};
use super::versions::socket_file;
use crate::deep;

/// What is not run, by page and beginning, and what holds it instead. It may only shrink.
const NOT_RUN: [(&str, &str, &str); 6] = [
    ("README.md", "script/                  server", "the_map_of_the_readme_names_what_is_there holds it"),
    (OPERATE, "[databases]", "behind_the_poolers_settings_the_page_is_true runs one with them"),
    (OPERATE, "scrape_configs:", "prometheus_takes_the_scrape_configuration holds it"),
    (EDGE, "let options = AppOptions", "guide::edge compiles it from a copy, and runs it"),
    (EDGE, "static EXPORT: Policy", "so does it with this one"),
    (EDGE, ".get(\"/api/v1/parts\"", "the tests of deprecated routes have such ones"),
];

const MODULE: &str = "docs/guides/add-a-module.md";
const DOCUMENT: &str = "docs/guides/a-document-module.md";
const OPERATE: &str = "docs/guides/operate.md";
const EDGE: &str = "docs/guides/http-edge.md";
const PLATFORM: &str = "docs/guides/platform-services.md";
const ONBOARD: &str = "docs/guides/onboard-a-tenant.md";
const ACCESS: &str = "docs/guides/access.md";
const EVIDENCE: &str = "docs/guides/evidence.md";
const INCIDENTS: &str = "docs/guides/incident-response.md";
const TENANTS: &str = "docs/guides/tenants.md";
const PRIVACY: &str = "docs/guides/privacy.md";
const ROTATE: &str = "docs/guides/rotate-secrets.md";

/// What builds or tests the project: left to script/check-deep.
const BUILDS: [&str; 3] = ["script/test", "BLESS=1 script/test", "script/lint"];

/// How much is told of what a failed command has printed: its end, in bytes.
const LONGEST: usize = 8 * 1024;

/// What a page names and a test has elsewhere.
const STAND_INS: [(&str, &str); 1] = [("tail -f", "cat")];

/// What the pages' shells have: a server that a page starts runs in the background until it starts the next, and what it
/// said until it was ready is what its command has printed, unless the page puts it into the background.
const PRELUDE: &str = r#"exec </dev/null 2>&1
served=
stop() { [[ -z $served ]] || { kill "$served" 2>/dev/null; wait "$served"; served=; } }
trap stop EXIT
serve() {
    stop
    rm -f app.log "$SERVED"
    "$@" >"$SERVED" 2>&1 &
    served=$!
    for _ in $(seq "$PATIENCE"); do
        ! grep -qs "Server started" "$SERVED" app.log || break
        kill -0 "$served" 2>/dev/null || break
        sleep 0.1
    done
    kill -0 "$served" && cat "$SERVED"
}
ended() { local status=$?; printf '\036%s %s\n' "$1" "$status"; }
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A page, with the folder in which its commands are typed.
struct Typed {
    name: &'static str,
    text: String,
    home: Home,
    folder: PathBuf,
    /// What stands in for what, beside [`STAND_INS`].
    stand_ins: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
    /// The lines of blocks that are no commands, and are held all the same.
    held: Vec<usize>,
}

/// How a command ended, and what it printed.
struct Printed {
    code: i32,
    text: String,
}

impl Typed {
    /// A clone of what is committed, which builds into a folder that stays. It always lies in the same place, since that
    /// is a part of what cargo knows its builds by; `script/check-deep` runs one test at a time.
    fn in_a_clone(name: &'static str) -> Self {
        let (root, folder) = (root().canonicalize().unwrap(), std::env::temp_dir().join("erp-guide"));
        let _ = fs::remove_dir_all(&folder);
        let cloned = finish(Command::new("git").args(["clone", "--quiet"]).arg(&root).arg(&folder));
        assert!(cloned.status.success(), "{cloned:?}");
        let target = root.join("target/guides");
        fs::create_dir_all(&target).unwrap();
        // What script/bootstrap has installed.
        let _ = symlink(root.join("target/tools"), target.join("tools"));
        symlink(target, folder.join("target")).unwrap();
        Self { folder, ..Self::placed(name, Home::new()) }
    }

    /// A fresh folder in which the built binary is what the scripts of the project would build.
    fn new(name: &'static str) -> Self {
        let (root, home) = (root().canonicalize().unwrap(), Home::new());
        let folder = home.path();
        for part in ["script", "target/debug", "bin"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        symlink(root.join("migrations"), folder.join("migrations")).unwrap();
        for place in ["script/server", "target/debug/erp-backend", "bin/erp-backend"] {
            symlink(env!("CARGO_BIN_EXE_erp-backend"), folder.join(place)).unwrap();
        }
        Self::placed(name, home)
    }

    fn placed(name: &'static str, home: Home) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tenths = limit().as_secs() * 10;
        let variables = [("PORT", port.to_string()), ("SHUTDOWN_DRAIN_DELAY", "0s".to_owned())];
        let variables = variables.into_iter().chain([("PATIENCE", tenths.to_string())]).collect();
        let stand_ins = vec![("localhost:3001", format!("localhost:{port}"))];
        let folder = home.path().to_owned();
        Self { name, text, folder, home, stand_ins, variables, held: Vec::new() }
    }

    fn stands_in(mut self, shown: &'static str, is: impl Into<String>) -> Self {
        self.stand_ins.push((shown, is.into()));
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs the page and compares; all that is wrong is told at once.
    fn holds(self) {
        let blocks = blocks(&self.text);
        let printed = self.run(&blocks);
        let mut wrong = String::new();
        let mut said: Option<String> = None;
        let mut blessed = self.text.clone();
        for block in &blocks {
            match &*block.language {
                "sh" => said = Some(self.check(block, &printed, &mut wrong)),
                "" => match said.take() {
                    Some(said) if !fits(&block.text, &said) => {
                        blessed = bless(&blessed, block, &said);
                        let _ = writeln!(
                            wrong,
                            "{}:{} shows\n{}\nand gets\n{said}",
                            self.name, block.line, block.text
                        );
                    }
                    Some(_) => {}
                    None => self.must_be_listed(block, &mut wrong),
                },
                "sql" if said.is_some() => {}
                _ => self.must_be_listed(block, &mut wrong),
            }
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(root().join(self.name), blessed).unwrap();
        }
        assert!(wrong.is_empty(), "\n{wrong}");
    }

    /// What the block's commands printed, one after the other; finds those that failed.
    fn check(&self, block: &Block, printed: &BTreeMap<usize, Printed>, wrong: &mut String) -> String {
        let mut said = String::new();
        for (line, command) in block.commands() {
            let Some(Printed { code, text }) = printed.get(&line) else {
                if !self.is_left_out(&command) {
                    let _ = writeln!(wrong, "{}:{line} was not reached: {command}", self.name);
                }
                continue;
            };
            let comment = command.rsplit_once("# ").map(|(_, comment)| comment);
            let status =
                comment.and_then(|comment| comment.get(..3)).filter(|status| status.parse::<u16>().is_ok());
            let may_fail = comment.is_some() && !builds(&command);
            if (*code != 0 && !may_fail) || status.is_some_and(|status| !text.contains(status)) {
                let from = text.len().saturating_sub(LONGEST);
                let end = text.get(text.ceil_char_boundary(from)..).unwrap_or_default();
                let _ = writeln!(wrong, "{}:{line} ends with {code}: {command}\n{end}", self.name);
            }
            said.push_str(text);
        }
        said
    }

    fn must_be_listed(&self, block: &Block, wrong: &mut String) {
        if !self.held.contains(&block.line) && not_run(self.name, block.first_line()).is_none() {
            let (name, line, language) = (self.name, block.line, &block.language);
            let _ = writeln!(wrong, "{name}:{line} is neither run nor in NOT_RUN: ```{language}");
        }
    }

    fn is_left_out(&self, command: &str) -> bool {
        not_run(self.name, command).is_some() || (!deep() && builds(command))
    }

    /// One shell for the whole page; by line, what each command printed.
    fn run(&self, blocks: &[Block]) -> BTreeMap<usize, Printed> {
        let script = self.home.path().join("page.sh");
        fs::write(&script, self.script(blocks)).unwrap();
        let mut shell = Command::new("bash");
        shell.arg(script).current_dir(&self.folder).env_clear();
        shell.env("PATH", format!("{}:{}", self.home.path().join("bin").display(), path()));
        // cargo's own folder is found by HOME.
        shell.env("HOME", if deep() { home_folder() } else { self.home.path().to_owned() });
        shell.env("SERVED", self.home.path().join("served"));
        // A statement that fails fails its psql.
        let settings = self.home.path().join("psqlrc");
        fs::write(&settings, "\\set ON_ERROR_STOP 1\n").unwrap();
        shell.env("PSQLRC", settings);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = String::from_utf8_lossy(&finish_within(limit(), &mut shell).stdout).into_owned();
        let mut printed = BTreeMap::new();
        let mut rest = &*output;
        while let Some((text, after)) = rest.split_once('\u{1e}') {
            let (end, after) = after.split_once('\n').unwrap();
            let (line, code) = end.split_once(' ').unwrap();
            let text = self.as_shown(text);
            printed.insert(line.parse().unwrap(), Printed { code: code.parse().unwrap(), text });
            rest = after;
        }
        assert!(rest.trim().is_empty(), "the page's shell ended with {rest}");
        printed
    }

    fn script(&self, blocks: &[Block]) -> String {
        let mut script = PRELUDE.to_owned();
        for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
            let commands = block.commands();
            for (number, (line, command)) in commands.iter().enumerate() {
                if self.is_left_out(command) {
                    continue;
                }
                let input =
                    blocks.get(at + 1).filter(|next| next.language == "sql" && number + 1 == commands.len());
                let input = input.map_or(String::new(), |next| format!(" <<'SQL'\n{}SQL", next.text));
                let _ = writeln!(script, "{}{input}\nended {line}", self.as_run(command));
            }
        }
        script
    }

    fn as_run(&self, command: &str) -> String {
        let mut run = command.to_owned();
        for (shown, is) in &self.stand_ins {
            run = run.replace(shown, is);
        }
        for (shown, is) in STAND_INS {
            run = run.replace(shown, is);
        }
        let without_comment = run.split("    #").next().unwrap().trim_end();
        let serves = without_comment.trim_end_matches('&').trim_end();
        let program = serves.split(' ').find(|word| !word.contains('='));
        if program == Some("script/server")
            || (program == Some("erp-backend") && serves.ends_with("erp-backend"))
        {
            let hidden = if serves.len() < without_comment.len() { " >/dev/null" } else { "" };
            return format!("serve env {serves}{hidden}");
        }
        if serves.len() < without_comment.len() { serves.to_owned() } else { run }
    }

    /// The reverse of `as_run`, for what is printed.
    fn as_shown(&self, text: &str) -> String {
        let mut shown = text.replace('\r', "");
        for (is_shown, is) in self.stand_ins.iter().filter(|(_, is)| !is.is_empty()) {
            shown = shown.replace(is, is_shown);
        }
        shown
    }
}

fn builds(command: &str) -> bool {
    BUILDS.iter().any(|build| command.starts_with(build))
}

fn not_run(page: &str, text: &str) -> Option<&'static str> {
    let mut all = NOT_RUN.iter();
    let found = all.find(|(of, beginning, _)| *of == page && text.trim_start().starts_with(beginning));
    found.map(|(_, _, reason)| *reason)
}

/// The page with what was said in the place of what was shown, unless a part of that is left out.
fn bless(page: &str, block: &Block, said: &str) -> String {
    if block.text.contains('…') {
        page.to_owned()
    } else {
        page.replacen(&block.text, &format!("{}\n", said.trim_end()), 1)
    }
}

/// How long a page may take: where it builds, an hour and a half.
fn limit() -> Duration {
    Duration::from_secs(if deep() { 5_400 } else { 60 })
}

#[allow(clippy::disallowed_methods)] // a test has no settings
fn home_folder() -> PathBuf {
    std::env::var_os("HOME").unwrap_or_default().into()
}

#[test]
fn the_readme_works_as_it_is_typed() {
    let page = if deep() { Typed::in_a_clone("README.md") } else { Typed::new("README.md") };
    page.holds();
}

/// On a database that is there, since it starts many servers.
#[test]
fn the_http_edge_works_as_it_is_typed() {
    let (page, database) = (Typed::new(EDGE), Database::migrated("edge"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, and empty but for the demo tenants.
#[test]
fn onboarding_works_as_it_is_typed() {
    let (page, database) = (Typed::new(ONBOARD), Database::migrated("onboard"));
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, with the demo tenants.
#[test]
fn who_may_do_what_is_decided_as_it_is_typed() {
    let (page, database) = (Typed::new(ACCESS), Database::migrated("access"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, with the demo tenants.
#[test]
fn what_tenants_have_is_as_it_is_typed() {
    let (page, database) = (Typed::new(TENANTS), Database::migrated("tenants_have"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, with the demo tenants.
#[test]
fn an_audit_log_is_verified_as_it_is_typed() {
    let (page, database) = (Typed::new(EVIDENCE), Database::migrated("evidence_page"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, with the demo tenants.
#[test]
fn an_incident_is_found_contained_and_proven_as_it_is_typed() {
    let (page, database) = (Typed::new(INCIDENTS), Database::migrated("incident_page"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there, with its demo tenants.
#[test]
fn what_is_held_of_people_is_as_it_is_typed() {
    let (page, database) = (Typed::new(PRIVACY), Database::migrated("privacy_page"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

/// On a database that is there. Its code is that of the module, which the next test compares.
#[test]
fn a_document_module_works_as_it_is_typed() {
    let (mut page, database) = (Typed::new(DOCUMENT), Database::migrated("document"));
    let seed = [database.both().as_slice(), &[("DATA_DIR", ".data")]].concat();
    assert_eq!(run(&page.home, &["db", "seed"], &seed).code, 0);
    page.held = code_of(&page.text).into_iter().map(|block| block.line).collect();
    let page = page.variable("DATABASE_URL", &*database.runtime_url);
    page.variable("DATABASE_OWNER_URL", &*database.owner_url).holds();
}

#[test]
fn a_document_modules_code_is_that_of_the_module() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let folders =
        ["crates/modules/src/purchasing", "crates/modules/src/catalog", "crates/server/tests/it/purchasing"];
    let mut files = Vec::new();
    for folder in folders {
        for part in ["", "migrations"] {
            let entries = fs::read_dir(root().join(folder).join(part)).into_iter().flatten();
            files.extend(entries.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok()));
        }
    }
    let code = code_of(&text);
    assert!(code.len() > 10, "{} blocks", code.len());
    for block in code {
        let found = files.iter().any(|file| file.contains(&block.text));
        assert!(found, "{DOCUMENT}:{} is not in {folders:?}: copy it from there\n{}", block.line, block.text);
    }
}

/// The blocks of Rust and SQL.
fn code_of(page: &str) -> Vec<Block> {
    blocks(page).into_iter().filter(|block| ["rust", "sql"].contains(&&*block.language)).collect()
}

/// On a cluster of its own, since roles belong to the whole server; reached over TLS, as the page's is.
#[test]
fn operating_works_as_it_is_typed() {
    let home = Home::new();
    let folder = home.path().join("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = ClusterOptions { folder, durable: false, max_connections: 40, path: path().into() };
    let cluster = runtime.block_on(Cluster::start(options)).unwrap();
    let socket = socket_file(&cluster.admin_url());
    let authority = Authority::new(home.path(), "authority");
    let (certificate, key) = authority.certificate("127.0.0.1");
    let relay = Relay::tls(socket.clone(), certificate, key);
    let page = Typed::new(OPERATE)
        .variable("PGHOST", socket.parent().unwrap().to_str().unwrap())
        .variable("PGPORT", "5432")
        .variable("PGUSER", "postgres")
        .stands_in("db.example:5432", relay.address.to_string())
        .stands_in(":PASSWORD@", ":Qf7ZkL2m9XwVb3TsRt5a@")
        .stands_in("HOST=0.0.0.0", "HOST=127.0.0.1");
    let etc = page.home.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::copy(&authority.file, etc.join("ca.pem")).unwrap();
    page.stands_in("/etc/erp", etc.display().to_string()).holds();
    runtime.block_on(cluster.stop()).unwrap();
}

/// What its steps are good for is held by `e2e::rotations`.
#[test]
fn rotating_secrets_works_as_it_is_typed() {
    Typed::new(ROTATE).holds();
    let text = fs::read_to_string(root().join(ROTATE)).unwrap();
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let name = setting.name.trim_end_matches("_PREVIOUS").trim_end_matches("_NEXT");
        assert!(text.contains(name), "nobody learns how {name} is rotated");
    }
}

/// What "Behind PgBouncer" says, of a PgBouncer with the settings that it shows.
#[test]
fn behind_the_poolers_settings_the_page_is_true() {
    if !Pooler::is_installed("the page's PgBouncer") {
        return;
    }
    let (home, database) = (Home::new(), Database::migrated("page_pooler"));
    let text = fs::read_to_string(root().join(OPERATE)).unwrap();
    let block = blocks(&text).into_iter().find(|block| block.language == "ini").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = database.value("current_database()");
    let _pooler = Pooler::configured(&database.runtime_url, |server, folder| {
        [
            ("host=db.example port=5432", server),
            ("dbname=erp", &format!("dbname={name}")),
            ("/etc/pgbouncer/userlist.txt", &format!("{folder}/users")),
            ("listen_port = 6432", &format!("listen_port = {port}")),
        ]
        .iter()
        .fold(block.text.clone(), |settings, (shown, is)| {
            assert!(settings.contains(shown), "{shown}");
            settings.replace(shown, is)
        })
    });
    let url = format!("postgresql://{}:{PASSWORD}@127.0.0.1:{port}/erp?sslmode=disable", database.app());
    let (through, off) = (("DATABASE_URL", &*url), ("DATABASE_PREPARED_STATEMENTS", "off"));
    let checked = run(&home, &["db", "check"], &[through, off]);
    assert_eq!(checked.code, 0, "{checked:#?}");
    let refused = run(&home, &["serve"], &[through, ("PORT", "0")]);
    assert_eq!(refused.code, 69, "{refused:#?}");
    assert!(refused.err[0].contains("unsupported startup parameter: options"), "{refused:#?}");
    let migrated = run(&home, &["db", "migrate"], &[("DATABASE_OWNER_URL", &url), off]);
    assert_eq!(migrated.code, 78, "{migrated:#?}");
}

#[test]
fn every_page_is_typed_or_listed() {
    for page in fs::read_dir(root().join("docs/guides")).unwrap() {
        let page = page.unwrap();
        let name = format!("docs/guides/{}", page.file_name().to_string_lossy());
        // The page of platform services has no commands: guide::services compiles and runs its code. That of evidence is typed by
        // e2e::evidence.
        assert!(
            [
                MODULE, DOCUMENT, OPERATE, EDGE, PLATFORM, ONBOARD, ACCESS, TENANTS, EVIDENCE, INCIDENTS,
                PRIVACY, ROTATE
            ]
            .contains(&&*name),
            "{name} has no test"
        );
        let text = fs::read_to_string(page.path()).unwrap();
        let indented = text.lines().find(|line| line.starts_with("    $ "));
        assert_eq!(indented, None, "{name}: a block wants its fences");
    }
}

/// The first code of each row: its parts between `…`, behind the name of a setting, are in the source.
#[test]
fn the_messages_that_operate_explains_are_those_of_the_code() {
    let text = fs::read_to_string(root().join(OPERATE)).unwrap();
    let (_, table) = text.split_once("## What a message means").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let messages: Vec<&str> =
        table.lines().filter_map(|row| row.strip_prefix("| ")?.split('`').nth(1)).collect();
    assert!(messages.len() > 15, "{messages:?}");
    let broken = Regex::new(r"\\\n\s*").unwrap();
    let source = sources(&root().join("crates")).concat();
    let source = broken.replace_all(&source, "").replace("\\\"", "\"");
    for message in messages {
        let message = message.split_once(": ").map_or(message, |(_, message)| message);
        for part in
            message.split(['…', '\'']).map(|part| part.trim_matches([' ', '.', '(', ')', ';', ',', ':', '"']))
        {
            assert!(source.contains(part), "nothing says {part:?}: {message}");
        }
    }
}

/// Every source file that is no test's.
fn sources(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(fs::read_to_string(path).unwrap());
        }
    }
    all
}

/// What a reader copies is what `script/lint` would leave as it is. Whole files are linted where `crate::guide` compiles
/// them.
#[test]
fn the_tutorials_code_is_formatted() {
    let (home, text) = (Home::new(), fs::read_to_string(root().join(MODULE)).unwrap());
    let names_files =
        |block: &Block| block.text.lines().any(|line| line.trim_start_matches("pub ").starts_with("mod "));
    let of_rust = |block: &&Block| block.language == "rust" && !names_files(block);
    for block in blocks(&text).iter().filter(of_rust) {
        let is_part = block.text.starts_with(' ');
        let code = if is_part {
            format!("const PART: &[Sample] = &[\n{}];\n", block.text)
        } else {
            block.text.clone()
        };
        let file = home.path().join("block.rs");
        fs::write(&file, code).unwrap();
        let mut rustfmt = Command::new("rustfmt");
        rustfmt
            .args(["--check", "--edition", "2024", "--config-path"])
            .arg(root().join("rustfmt.toml"))
            .arg(file);
        let checked = finish(&mut rustfmt);
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{MODULE}:{}: {said}{checked:?}", block.line);
    }
}

#[test]
fn prometheus_takes_the_scrape_configuration() {
    let installed = installed(&["promtool"]).into_iter();
    let places: Vec<PathBuf> = installed.chain([root().join("target/tools/promtool")]).collect();
    let Some(promtool) = program("promtool", &places) else { return };
    let (home, text) = (Home::new(), fs::read_to_string(root().join(OPERATE)).unwrap());
    let block = blocks(&text).into_iter().find(|block| block.language == "yaml").unwrap();
    let (token, file) = (home.path().join("token"), home.path().join("prometheus.yml"));
    fs::write(&token, "x").unwrap();
    fs::write(&file, block.text.replace("/etc/erp/metrics", token.to_str().unwrap())).unwrap();
    let checked = finish(Command::new(promtool).args(["check", "config"]).arg(file));
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn the_map_of_the_readme_names_what_is_there() {
    let (text, mut folder) = (fs::read_to_string(root().join("README.md")).unwrap(), String::new());
    let map = blocks(&text).into_iter().find(|block| block.text.starts_with("script/")).unwrap();
    for line in map.text.lines() {
        let named = line.split_whitespace().next().unwrap();
        let nested = line.starts_with(' ');
        let path = if nested { format!("{folder}{named}") } else { named.to_owned() };
        assert!(root().join(&path).exists(), "{path}");
        folder = if nested { folder } else { path };
    }
}

#[test]
fn what_is_not_run_is_in_its_page() {
    for (page, beginning, _) in NOT_RUN {
        let text = fs::read_to_string(root().join(page)).unwrap();
        assert!(text.lines().any(|line| line.starts_with(beginning)), "{page}: {beginning}");
    }
}
