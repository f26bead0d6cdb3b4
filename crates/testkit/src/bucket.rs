//! A store of a test's own that speaks S3: real, on a free port, and as unwell as the test wants it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const BUCKET: &str = "erp-files";
const SECRET: &str = "a-secret-key-of-the-tests";

/// A running s3s-fs with one bucket, which dropping this ends and removes.
pub struct BucketServer {
    process: Child,
    program: PathBuf,
    port: u16,
    folder: PathBuf,
}

impl BucketServer {
    /// Whether s3s-fs is there. Where it is not, says so and that `what` was not run; on CI that is a failure.
    pub fn is_installed(what: &str) -> bool {
        let found = program().is_some();
        if !found {
            eprintln!("s3s-fs is not installed: {what} was not run");
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI runs every test: script/bootstrap tests"
            );
        }
        found
    }

    /// Starts one on a free port, whose objects are in `folder`.
    pub fn start(folder: &Path) -> Self {
        let program = program().expect("asked before: BucketServer::is_installed");
        std::fs::create_dir_all(folder.join(BUCKET)).expect("a folder for the bucket");
        // Somebody else may take the port in between: then it ends, and another one is tried.
        for _ in 0..20 {
            let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
            let port = free.expect("a port").port();
            let process = spawn(&program, port, folder);
            let mut server = Self { process, program: program.clone(), port, folder: folder.to_owned() };
            if server.comes_up() {
                return server;
            }
        }
        panic!("s3s-fs does not come up");
    }

    /// What `FILES_URL`, `FILES_ACCESS_KEY` and `FILES_SECRET_KEY` are.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        let url = format!("s3://{BUCKET}/tests?endpoint=http://127.0.0.1:{}", self.port);
        [("FILES_URL", url), ("FILES_ACCESS_KEY", "erp".to_owned()), ("FILES_SECRET_KEY", SECRET.to_owned())]
    }

    /// Where its objects are.
    pub fn folder(&self) -> PathBuf {
        self.folder.join(BUCKET)
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again where it was, with what it had.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.program, self.port, &self.folder);
        assert!(self.comes_up(), "s3s-fs does not come up again");
    }

    /// Leaves its connections open and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends the pause.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    fn comes_up(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return self.process.try_wait().is_ok_and(|ended| ended.is_none());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where `script/bootstrap tests` has put it, or wherever it is in PATH.
fn program() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let ours = target.join("tools/s3s-fs");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(ours)
        .chain(std::env::split_paths(&path).map(|folder| folder.join("s3s-fs")))
        .find(|file| file.is_file())
}

fn spawn(program: &Path, port: u16, folder: &Path) -> Child {
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--access-key", "erp", "--secret-key", SECRET]).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("asked before: BucketServer::is_installed")
}
