//! Clients of others: what curl, httpx, Node, Python's own and nghttp see is what the contract says, over HTTP/1.1 and
//! HTTP/2, for bodies around every limit, refusals and streams. One table of cases, one short test a client. The typed
//! client is in `clients.rs`.
//!
//! Where a case is new for one client it is new for all of them: each has its own way to send ahead, to read while it
//! writes, and to open its windows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::clients::{demo, finish, installed, program, root};
use super::http::Client;

/// Most of a body, in bytes.
const LIMIT: usize = 1024 * 1024;
/// Items that lie there for the streams: several windows of 64 KiB.
const FILLED: usize = 1_500;
/// Around each of what a server or a client may count by: nothing, what takes no room (4 KiB), a frame, the bodies' own
/// window, the window a client begins with (RFC 9113, 6.9.2), several of those, and the limit.
const SIZES: [usize; 19] = [
    100,
    4 * 1024,
    4 * 1024 + 1,
    16 * 1024 - 1,
    16 * 1024,
    16 * 1024 + 1,
    24 * 1024,
    24 * 1024 + 1,
    65_534,
    65_535,
    65_536,
    65_537,
    2 * 65_535 + 1,
    256 * 1024 - 1,
    256 * 1024 + 1,
    512 * 1024,
    900_000,
    LIMIT - 1,
    LIMIT,
];

/// What is asked, and what is right.
struct Case {
    name: String,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    status: u16,
    /// How many lines the answer has, beside one for each item that the client has made.
    lines: Option<usize>,
}

/// An item whose JSON takes so many bytes: white space after it is part of the body.
fn item(client: &str, size: usize) -> Vec<u8> {
    let mut body = json!({ "sku": format!("{client}-{size}"), "name": "An item" }).to_string().into_bytes();
    body.resize(size, b' ');
    body
}

/// In this order: the items are made before they are streamed.
fn cases(client: &str, token: &str, items: usize) -> Vec<Case> {
    let json = ("content-type", "application/json".to_owned());
    let bearer = ("authorization", format!("Bearer {token}"));
    let case = |name: &str, method, path, status| Case {
        name: name.to_owned(),
        method,
        path,
        headers: vec![bearer.clone()],
        body: None,
        status,
        lines: None,
    };
    let post = |name: &str, path, body: Vec<u8>, status| Case {
        headers: vec![bearer.clone(), json.clone()],
        body: Some(body),
        ..case(name, "POST", path, status)
    };
    let items_path = "/api/v1/items";
    let sign_in =
        json!({ "tenant": "acme", "email": "nobody@acme.example", "password": "wrong, and long enough" });
    let sign_in = sign_in.to_string().into_bytes();
    let mut all: Vec<Case> = SIZES
        .iter()
        .map(|size| post(&format!("{size} bytes"), items_path, item(client, *size), 201))
        .collect();
    all.extend([
        post("nothing", items_path, Vec::new(), 400),
        post("one byte", items_path, b"{".to_vec(), 400),
        post("one more than the limit", items_path, item(client, LIMIT + 1), 413),
        post("twice the limit", items_path, item(client, 2 * LIMIT), 413),
        post("20 MB", items_path, item(client, 20_000_000), 413),
        post("a wrong value", items_path, br#"{"sku": " ", "name": "x"}"#.to_vec(), 422),
        Case {
            headers: vec![bearer.clone(), ("content-type", "text/plain".to_owned())],
            ..post("another type", items_path, item(client, 100), 415)
        },
        Case { headers: vec![json.clone()], ..post("nobody", items_path, item(client, 70_000), 401) },
        case("another method", "DELETE", items_path, 405),
        case("no such path", "GET", "/api/v1/nowhere", 404),
        case("no such item", "GET", "/api/v1/items/00000000-0000-7000-8000-000000000000", 404),
        case("a page", "GET", "/api/v1/items?limit=200", 200),
        Case {
            lines: Some(items),
            ..streamed(case("NDJSON", "GET", items_path, 200), "application/x-ndjson")
        },
        Case { lines: Some(items + 1), ..streamed(case("CSV", "GET", items_path, 200), "text/csv") },
        Case {
            headers: vec![json.clone()],
            ..post("a wrong password", "/api/v1/auth/login", sign_in.clone(), 401)
        },
        Case { headers: vec![json.clone()], ..post("one too many", "/api/v1/auth/login", sign_in, 429) },
    ]);
    all
}

fn streamed(mut case: Case, media_type: &str) -> Case {
    case.headers.push(("accept", media_type.to_owned()));
    case
}

/// A client: takes the cases as a list of JSON, and says for each which status came and how many lines.
type Tries<'a> = dyn Fn(&Path, &[Value]) -> Vec<Value> + 'a;

/// Has `client` try every case on a server of its own.
fn sees_what_is_right(client: &str, tries: &Tries<'_>) {
    let one_wrong_password = [("RATE_LIMIT_AUTH_MAX", "1")];
    let (home, database, server) = demo(&format!("foreign_{client}"), &one_wrong_password);
    let url = format!("http://{}", server.address());
    let owner = Client::signed_in(&server.address(), home.path());
    database.run(&format!(
        "set session_replication_role = replica; \
         insert into items (tenant_id, id, sku, sku_folded, name, description) \
         select (select id from tenants where slug = 'acme'), gen_random_uuid(), 'BULK-' || n, 'bulk-' || n, 'Item', repeat('text ', 40) \
         from generate_series(1, {FILLED}) n; \
         set session_replication_role = origin"
    ));
    let items = database
        .value("select count(*) from items where tenant_id = (select id from tenants where slug = 'acme')");
    let cases = cases(client, owner.token(), items.parse().unwrap());
    let asked: Vec<Value> =
        cases.iter().enumerate().map(|(number, case)| asked(home.path(), &url, number, case)).collect();
    let seen = tries(home.path(), &asked);
    let made = seen.iter().filter(|seen| seen["status"] == 201).count();
    let mut wrong = Vec::new();
    for (case, seen) in cases.iter().zip(&seen) {
        let lines = case.lines.map(|lines| lines + made);
        let is_right = seen["status"] == case.status && lines.is_none_or(|lines| seen["lines"] == lines);
        if !is_right {
            wrong.push(format!("{}: {seen} and not {} with {lines:?} lines", case.name, case.status));
        }
    }
    assert_eq!(seen.len(), cases.len(), "{seen:#?}");
    assert!(wrong.is_empty(), "{client} of {} cases: {wrong:#?}", cases.len());
}

/// A case as a client reads it; its body is in a file.
fn asked(folder: &Path, url: &str, number: usize, case: &Case) -> Value {
    let body = case.body.as_ref().map(|body| {
        let file = folder.join(format!("body-{number}"));
        fs::write(&file, body).unwrap();
        file
    });
    let headers: Value = case
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({ "method": case.method, "url": format!("{url}{}", case.path), "headers": headers, "body": body })
}

/// Runs a script of this folder, which reads the cases from a file and prints a line for each.
fn script(interpreter: &Path, name: &str, arguments: &[&str], folder: &Path, cases: &[Value]) -> Vec<Value> {
    let list = folder.join("cases.json");
    fs::write(&list, serde_json::to_vec(cases).unwrap()).unwrap();
    let mut command = Command::new(interpreter);
    command.arg(root().join("crates/server/tests/it/e2e/foreign").join(name)).arg(list).args(arguments);
    let output = finish(&mut command);
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    assert!(output.status.success(), "{output:?}");
    lines
}

fn httpx() -> Option<PathBuf> {
    program("httpx", &[root().join("target/tools/httpx/bin/python")])
}

fn node() -> Option<PathBuf> {
    program("Node.js", &installed(&["node"]))
}

fn lines_of(file: &Path) -> usize {
    fs::read(file).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

fn curl(folder: &Path, cases: &[Value], version: &str) -> Vec<Value> {
    let answer = folder.join("answer");
    let one = |case: &Value| {
        let mut command = Command::new("curl");
        command
            .args([
                "-sv",
                "--compressed",
                "-w",
                "%{http_code} %{errormsg}",
                version,
                "-X",
                case["method"].as_str().unwrap(),
                "-o",
            ])
            .arg(&answer);
        for (name, value) in case["headers"].as_object().unwrap() {
            command.args(["-H", &format!("{name}: {}", value.as_str().unwrap())]);
        }
        if let Some(body) = case["body"].as_str() {
            command.args(["--data-binary", &format!("@{body}")]);
        }
        let _ = fs::remove_file(&answer);
        let output = finish(command.arg(case["url"].as_str().unwrap()));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = said.get(..3).and_then(|status| status.parse::<u16>().ok());
        let is_right = output.status.success() || has_ended_short(&output);
        let status = if is_right { json!(status) } else { json!(said) };
        json!({ "status": status, "lines": lines_of(&answer) })
    };
    cases.iter().map(one).collect()
}

/// Whether curl was reset for a fault of its own, behind the head of a refusal.
///
/// Before 8.11 it stops sending as soon as it reads a status of 400 or more, and ends its body there, short of the length
/// that it has declared (<https://github.com/curl/curl/issues/15316>). Over HTTP/2 that makes the request malformed, and
/// malformed requests are answered with a stream error of PROTOCOL_ERROR; the server may answer before (RFC 9113, 8.1.1). h2
/// drops with it what of the answer has not gone out yet. Mostly head and body go out together, so that curl has both; one
/// time in some hundreds, they do not. That a client which sends its whole body is never reset, is tried by
/// `d_03_whoever_sends_what_nobody_reads_over_http2_gets_the_answer_and_window`.
fn has_ended_short(output: &Output) -> bool {
    const STREAM_ERROR: i32 = 92; // CURLE_HTTP2_STREAM
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.code() == Some(STREAM_ERROR)
        && said.ends_with("was not closed cleanly: PROTOCOL_ERROR (err 1)")
        && told.contains("HTTP error before end of send, stop sending")
}

/// `nghttp -v` tells every frame, among them the status; without, it prints the answer as it is.
fn nghttp(cases: &[Value]) -> Vec<Value> {
    let one = |case: &Value| {
        let ask = |how: &[&str]| {
            let mut command = Command::new("nghttp");
            command.args(how).args([
                "--no-dep",
                "-H",
                &format!(":method: {}", case["method"].as_str().unwrap()),
            ]);
            for (name, value) in case["headers"].as_object().unwrap() {
                command.args(["-H", &format!("{name}: {}", value.as_str().unwrap())]);
            }
            if let Some(body) = case["body"].as_str().filter(|body| fs::metadata(body).unwrap().len() > 0) {
                command.args(["-d", body]);
            }
            String::from_utf8_lossy(&finish(command.arg(case["url"].as_str().unwrap())).stdout).into_owned()
        };
        let said = ask(&["-v"]);
        let status = said.lines().filter_map(|line| line.rsplit_once(":status: ")).next_back();
        let status =
            status.and_then(|(_, status)| status.trim_end_matches("\u{1b}[0m").trim().parse::<u16>().ok());
        let lines = if case["method"] == "GET" { ask(&[]).lines().count() } else { 0 };
        json!({ "status": status, "lines": lines })
    };
    cases.iter().map(one).collect()
}

#[test]
fn curl_over_http_1_1_sees_what_is_right() {
    sees_what_is_right("curl1", &|folder, cases| curl(folder, cases, "--http1.1"));
}

#[test]
fn curl_over_http_2_sees_what_is_right() {
    sees_what_is_right("curl2", &|folder, cases| curl(folder, cases, "--http2-prior-knowledge"));
}

#[test]
fn httpx_over_http_1_1_sees_what_is_right() {
    let Some(python) = httpx() else { return };
    sees_what_is_right("httpx1", &|folder, cases| {
        script(&python, "client.py", &["httpx", "1"], folder, cases)
    });
}

#[test]
fn httpx_over_http_2_sees_what_is_right() {
    let Some(python) = httpx() else { return };
    sees_what_is_right("httpx2", &|folder, cases| {
        script(&python, "client.py", &["httpx", "2"], folder, cases)
    });
}

#[test]
fn pythons_own_client_sees_what_is_right() {
    let Some(python) = program("Python", &installed(&["python3"])) else { return };
    sees_what_is_right("python", &|folder, cases| {
        script(&python, "client.py", &["http.client"], folder, cases)
    });
}

#[test]
fn nodes_fetch_sees_what_is_right() {
    let Some(node) = node() else { return };
    sees_what_is_right("node", &|folder, cases| script(&node, "client.mjs", &[], folder, cases));
}

#[test]
fn nghttp_sees_what_is_right() {
    if program("nghttp", &installed(&["nghttp"])).is_none() {
        return;
    }
    sees_what_is_right("nghttp", &|_, cases| nghttp(cases));
}
