//! D-02: answers that nobody takes are bounded, and what they took is given back.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::super::database::Database;
use super::super::http::Client;
use super::super::process::{Home, Process};
use super::{MIB, Uploads, deaf};

/// The most that they may take over what the idle process has, in MiB, however many ask and for however much.
const BOUND: f64 = 64.0;
/// What an idle process may have more than one that was asked for little, in MiB: more connections to the database and
/// threads, and what lies between blocks that are in use.
const KEPT: f64 = 24.0;
/// By when that must be so.
const SOON: Duration = Duration::from_secs(60);

/// The memory that a process has now, in MiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0 / MIB
}

/// A connection of HTTP/2 that lets no stream send anything.
async fn shut(address: &str) -> SendRequest<Uploads> {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let handshake = Builder::new(TokioExecutor::new()).initial_stream_window_size(0).handshake(stream);
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    client
}

/// Asks so often at once, and takes the heads of the answers only.
async fn ask(
    mut client: SendRequest<Uploads>,
    count: usize,
    path: &str,
    headers: &[(&str, &str)],
) -> Vec<Response<Incoming>> {
    let answers = (0..count).map(|_| {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let nothing = http_body_util::StreamBody::new(futures_util::stream::empty().boxed());
        client.send_request(request.body(nothing).unwrap())
    });
    let answers = join_all(answers.collect::<Vec<_>>()).await;
    answers.into_iter().map(Result::unwrap).collect()
}

/// A server with a page of items of 1.5 KB for two tenants, whose owners they are, and the names of the page's files.
struct Stage {
    server: Process,
    owners: [Client; 2],
    bundle: String,
    _database: Database,
    _home: Home,
}

impl Stage {
    fn new(name: &str) -> Self {
        let (home, database) = (Home::new(), Database::migrated(name));
        let server = Process::serve(&home, &[&database.both()[..], &[("HOST", "127.0.0.1")]].concat());
        let owners = [0, 1].map(|number| Client::signed_in_as(&server.address(), home.path(), number));
        database.run(
            "set session_replication_role = replica; \
             insert into items (tenant_id, id, sku, sku_folded, name, description) \
             select t.id, gen_random_uuid(), 'BULK-' || n, 'bulk-' || n, 'Item ' || n, repeat(md5(n::text), 46) \
             from tenants t, generate_series(1, 100) n",
        );
        let page = Client::new(&server.address()).get("/docs").unwrap().body;
        let bundle = page.split('"').find(|part| part.contains("bundle")).unwrap();
        let bundle = format!("/{}", bundle.trim_start_matches('/'));
        let stage = Self { server, owners, bundle, _database: database, _home: home };
        // What the first of its kind needs for good: code, connections, the unpacked file.
        for owner in &stage.owners {
            assert!(owner.get("/api/v1/items?limit=100").unwrap().body.len() > 150_000);
        }
        assert!(stage.owners[0].get(&stage.bundle).unwrap().body.len() > 1_000_000);
        stage
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    /// Lists that two owners ask for over a connection each; how many were answered.
    async fn lists(&self, count: usize, coding: &str) -> (usize, Vec<Vec<Response<Incoming>>>) {
        let url = self.url("/api/v1/items?limit=100");
        let asked = self.owners.each_ref().map(async |owner| {
            let bearer = format!("Bearer {}", owner.token());
            let headers = [("authorization", &*bearer), ("accept-encoding", coding)];
            ask(shut(&self.server.address()).await, count, &url, &headers).await
        });
        let answers = join_all(asked).await;
        let all = || answers.iter().flatten();
        assert!(all().all(|answer| [200, 503].contains(&answer.status().as_u16())));
        (all().filter(|answer| answer.status() == 200).count(), answers)
    }

    /// A large file that is asked for so often over each of these connections.
    async fn files(&self, connections: usize, count: usize) -> Vec<Vec<Response<Incoming>>> {
        let url = self.url(&self.bundle);
        let asked = (0..connections).map(async |_| {
            ask(shut(&self.server.address()).await, count, &url, &[("accept-encoding", "identity")]).await
        });
        let answers = join_all(asked).await;
        assert!(answers.iter().flatten().all(|answer| answer.status() == 200), "the file is there for all");
        answers
    }

    /// Readers of the same file over HTTP/1, who take none of it.
    fn readers(&self, count: usize) -> Vec<TcpStream> {
        let request = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", self.bundle);
        let readers = (0..count).map(|_| {
            let mut stream = deaf(&self.server.address());
            stream.write_all(request.as_bytes()).unwrap();
            stream
        });
        readers.collect()
    }
}

/// After how long the process has no more than so much; or what it has in the end.
fn given_back(pid: u32, most: f64) -> Result<Duration, f64> {
    let begun = Instant::now();
    while resident(pid) > most {
        if begun.elapsed() > SOON {
            return Err(resident(pid));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(begun.elapsed())
}

#[test]
fn d_02_stress_answers_that_nobody_takes_are_bounded_and_given_back() {
    let stage = Stage::new("untaken");
    let pid = stage.server.pid();
    let idle = resident(pid);
    let (lists, connections, files, readers) =
        if crate::deep() { (100, 5, 200, 300) } else { (90, 2, 50, 20) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut most = 0.0_f64;
    let mut tell = |what: &str| {
        let grown = resident(pid) - idle;
        println!("deep: D-02: {what}: {grown:.1} MiB over {idle:.1}");
        most = most.max(grown);
    };
    runtime.block_on(async {
        // A quick look takes the dearest encoder, and none.
        for coding in if crate::deep() { &["zstd", "br", "identity"][..] } else { &["zstd", "identity"] } {
            let (answered, held) = stage.lists(lists, coding).await;
            tell(&format!("2 × {lists} lists of 170 KB untaken, {coding}, {answered} answered"));
            assert!(answered >= lists, "{answered}");
            // As they are, they find the members' room of 24 MiB full; packed, they do not.
            assert_eq!(answered < 2 * lists, *coding == "identity", "{answered} answered, {coding}");
            drop(held);
        }
        let held = stage.files(connections, files).await;
        tell(&format!("{connections} × {files} files of 1.5 MB untaken"));
        drop(held);
    });
    let held = stage.readers(readers);
    thread::sleep(Duration::from_millis(500)); // for what they are sent
    tell(&format!("{readers} readers of HTTP/1 who read nothing"));
    drop(held);
    drop(runtime);
    assert!(most <= BOUND, "{most:.1} MiB");
    let back = given_back(pid, idle + KEPT);
    let rest = resident(pid) - idle;
    println!("deep: D-02: at most {most:.1} MiB over {idle:.1}; {rest:.1} MiB over it after {back:.1?}");
    assert!(back.is_ok(), "{back:?} of {idle:.1} MiB before");
    assert_eq!(stage.owners[0].create_item("after").unwrap().status, 201);
}
