//! Chromium without a window: what a real browser makes of an answer.

mod tab;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::Command;

pub use tab::Tab;

/// What packages call it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// It takes seconds to start on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);
/// It opens no connection but to the page's own machine, and leaves nothing behind.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--virtual-time-budget=10000",
];

/// Chromium, with a profile of its own for each page.
pub struct Browser {
    program: PathBuf,
}

impl Browser {
    /// Chromium, where it is installed. Where it is not, says so and that `what` was not run; on CI that is a failure.
    pub fn find(what: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
        let found = places.find(|program| program.is_file());
        if found.is_none() {
            eprintln!("chromium is not installed: {what} was not run");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test: install chromium");
        }
        found.map(|program| Self { program })
    }

    /// The page as it is once its scripts have run, as HTML.
    pub async fn page(&self, url: &str) -> String {
        self.run(&["--dump-dom", url]).await
    }

    /// A picture of the page, `width` × `height`, in the PNG format.
    pub async fn picture(&self, url: &str, (width, height): (u32, u32)) -> Vec<u8> {
        let file = fresh("picture").with_extension("png");
        let (size, place) =
            (format!("--window-size={width},{height}"), format!("--screenshot={}", file.display()));
        self.run(&[&size, &place, url]).await;
        let picture = std::fs::read(&file).expect("chromium has written the picture");
        let _ = std::fs::remove_file(&file);
        picture
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let profile = fresh("profile");
        let mut command = Command::new(&self.program);
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display())).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let _ = std::fs::remove_dir_all(&profile);
        let output = output.expect("chromium is done in time").expect("chromium can be run");
        assert!(output.status.success(), "chromium: {}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn fresh(what: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("erp-browser-{what}-{}-{number}", std::process::id()))
}
