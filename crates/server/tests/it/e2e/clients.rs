//! The contract in others' hands: its official schema, a typed client, and a browser on the documentation page.
//!
//! The programs come with `script/bootstrap tests`. On CI they must be there; elsewhere a test without its own says so.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::database::Database;
use super::process::{Home, PATIENCE, Process, path, run};

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program, if it is there.
pub(super) fn program(name: &str, candidates: &[PathBuf]) -> Option<PathBuf> {
    let found = candidates.iter().find(|candidate| candidate.is_file()).cloned();
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is missing: script/bootstrap tests");
        println!("{name} is missing, nothing is tested: script/bootstrap tests installs it");
    }
    found
}

/// Programs of this name that are in `PATH`.
pub(super) fn installed(names: &[&str]) -> Vec<PathBuf> {
    let path = path();
    let folders = std::env::split_paths(&path);
    folders.flat_map(|folder| names.iter().map(move |name| folder.join(name))).collect()
}

/// Runs a program to its end, or kills it.
pub(super) fn finish(command: &mut Command) -> Output {
    finish_within(PATIENCE * 2, command)
}

pub(super) fn finish_within(limit: Duration, command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begin, id) = (Instant::now(), child.id());
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut stream: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            bytes
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > limit {
            let _ = child.kill();
            panic!("{command:?}, process {id}, does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Output { status: child.wait().unwrap(), stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// A server with the two demo tenants.
pub(super) fn demo(name: &str, variables: &[(&str, &str)]) -> (Home, Database, Process) {
    let (home, database) = (Home::new(), Database::migrated(name));
    let seeded = run(&home, &["db", "seed"], &database.both());
    assert_eq!(seeded.code, 0, "{seeded:#?}");
    let mut all = vec![("DATABASE_URL", &*database.runtime_url), ("HOST", "127.0.0.1")];
    all.extend(variables);
    let server = Process::serve(&home, &all);
    (home, database, server)
}

#[test]
fn openapi_prints_the_committed_document_without_configuration_or_database() {
    let home = Home::new();
    let printed = run(&home, &["openapi"], &[("PORT", "none")]);
    assert_eq!(printed.code, 0, "{printed:#?}");
    let printed: Value = serde_json::from_str(&printed.out.join("\n")).unwrap();
    let committed = std::fs::read_to_string(root().join("docs/reference/openapi.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&committed).unwrap());
}

#[test]
fn the_document_is_openapi_3_1_by_its_official_schema() {
    let place = root().join("target/tools/contract/bin/openapi-spec-validator");
    let Some(validator) = program("openapi-spec-validator", &[place]) else { return };
    let output = finish(Command::new(validator).arg(root().join("docs/reference/openapi.json")));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(": OK\n"), "{output:?}");
}

#[test]
fn a_typed_client_is_made_from_the_contract_and_works() {
    let folder = root().join("clients/typescript");
    let modules = folder.join("node_modules");
    if program("The TypeScript compiler", &[modules.join(".bin/tsc")]).is_none() {
        return;
    }
    let [node] = ["node"].map(|name| installed(&[name]).into_iter().find(|node| node.is_file()));
    let node = node.unwrap();
    let make = |script: &str, arguments: &[&str]| {
        let mut command = Command::new(&node);
        let output = finish(command.arg(modules.join(script)).args(arguments).current_dir(&folder));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let document = root().join("docs/reference/openapi.json");
    let document = document.to_str().unwrap();
    make(
        "openapi-typescript/bin/cli.js",
        &[document, "--default-non-nullable=false", "--output", "src/api.ts"],
    );
    make("typescript/bin/tsc", &[]);
    let (home, _database, server) = demo("typed_client", &[]);
    let url = format!("http://{}", server.address());
    let mut client = Command::new(&node);
    client.arg(folder.join("dist/try.js")).arg(url).arg(home.path().join("demo-credentials.json"));
    let output = finish(&mut client);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the typed client works\n", "{output:?}");
}

/// A proxy that shows the server below `/erp/`, as crudely as a browser's requests allow.
fn below_a_prefix(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let Ok(upstream) = TcpStream::connect(&server) else { return };
            let (mut back, mut there) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut back, &mut there));
            std::thread::spawn(move || forward(client, upstream));
        }
    });
    address
}

/// Passes requests on without the prefix; those that are not below it lead nowhere.
fn forward(mut client: TcpStream, mut upstream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = client.read(&mut bytes)?;
        if read == 0 {
            return upstream.shutdown(std::net::Shutdown::Both);
        }
        let text = String::from_utf8_lossy(&bytes[..read]).replace("GET /", "GET /outside/");
        upstream.write_all(text.replace("GET /outside/erp/", "GET /").as_bytes())?;
    }
}

#[test]
fn a_browser_shows_the_documentation_page_without_the_internet() {
    let Some(chromium) = program("Chromium", &installed(&["chromium", "chromium-browser", "google-chrome"]))
    else {
        return;
    };
    let (home, _database, server) = demo("browser", &[]);
    let proxy = below_a_prefix(server.address());
    for page in [format!("http://{}/docs", server.address()), format!("http://{proxy}/erp/docs")] {
        show(&chromium, &home, &page);
    }
}

fn show(chromium: &Path, home: &Home, page: &str) {
    let mut browser = Command::new(chromium);
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            "--v=0",
        ])
        .arg(format!("--user-data-dir={}", home.path().join("browser").display()))
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(page);
    let output = finish(&mut browser);
    let (page, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for shown in ["listItems", "createItem", "signIn", "healthDetailed", "Authorize"] {
        assert!(page.contains(shown), "{shown} is not shown: {page} {said}");
    }
    // What a policy forbids, a script that fails and a file that cannot be had are all told on the console.
    let console: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:#?}");
}
