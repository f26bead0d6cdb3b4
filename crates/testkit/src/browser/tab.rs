//! A page of Chromium that is worked with: it keeps its cookies, its forms are filled in and sent, and its scripts are asked.
//!
//! By the DevTools protocol over two pipes: Chromium reads from descriptor 3 and writes to descriptor 4 one JSON document after the
//! other, each followed by a zero byte.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::Browser;

const PATIENCE: Duration = Duration::from_secs(60);

/// One tab of a Chromium of its own, which ends with it.
pub struct Tab {
    program: Child,
    folder: PathBuf,
    to: pipe::Sender,
    from: BufReader<pipe::Receiver>,
    session: Option<String>,
    sent: u64,
    /// How many pages have been loaded.
    loaded: u64,
}

impl Browser {
    /// Opens a tab, which shows nothing yet.
    pub async fn tab(&self) -> Tab {
        let folder = super::fresh("tab");
        std::fs::create_dir_all(&folder).expect("a folder for the pipes");
        let [inward, outward] = ["in", "out"].map(|name| folder.join(name));
        for place in [&inward, &outward] {
            let made = Command::new("mkfifo").arg(place).status().await;
            assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        }
        let open = |place: &Path| {
            let mut options = pipe::OpenOptions::new();
            options.read_write(true);
            (options.open_sender(place), options.open_receiver(place))
        };
        let (to, from) = (open(&inward).0.expect("a pipe"), open(&outward).1.expect("a pipe"));
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<\"$IN\" 4>\"$OUT\"", "sh"]).arg(&self.program);
        command.args(super::FLAGS.iter().filter(|flag| !flag.starts_with("--virtual-time")));
        command
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", folder.join("profile").display()));
        command.arg("about:blank").env("IN", &inward).env("OUT", &outward);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let program = command.spawn().expect("chromium can be run");
        let from = BufReader::new(from);
        let mut tab = Tab { program, folder, to, from, session: None, sent: 0, loaded: 0 };
        let target = tab.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = tab.call("Target.attachToTarget", attach).await;
        tab.session = attached["sessionId"].as_str().map(str::to_owned);
        tab.call("Page.enable", json!({})).await;
        tab
    }
}

impl Tab {
    /// Goes to an address, until the page is loaded with all that belongs to it.
    pub async fn go(&mut self, url: &str) {
        let before = self.loaded;
        let gone = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.load(before).await;
    }

    /// Does something that leads to another page, by a script, and waits for that page.
    pub async fn follow(&mut self, script: &str) {
        let before = self.loaded;
        self.run(script).await;
        self.load(before).await;
    }

    /// Fills in fields by their ids, and sends the form of the first one.
    pub async fn send(&mut self, fields: &[(&str, &str)]) {
        let set =
            fields.iter().map(|(id, value)| format!("document.getElementById('{id}').value = '{value}';"));
        let first = fields[0].0;
        let sent = format!("document.getElementById('{first}').form.requestSubmit();");
        self.follow(&format!("{}{sent}", set.collect::<String>())).await;
    }

    /// Signs out by the button of the page.
    pub async fn sign_out(&mut self) {
        self.follow("document.querySelector('form[action=\"/account/sign-out\"]').requestSubmit()").await;
    }

    /// What a script of the page results in, as JSON; a promise is waited for.
    pub async fn run(&mut self, script: &str) -> Value {
        let asked = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Gives it an authenticator, whose owner is there and says yes to all.
    pub async fn authenticator(&mut self) {
        self.call("WebAuthn.enable", json!({})).await;
        let options = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
            "isUserVerified": true, "automaticPresenceSimulation": true
        });
        self.call("WebAuthn.addVirtualAuthenticator", json!({ "options": options })).await;
    }

    /// Where it is, without the server.
    pub async fn path(&mut self) -> String {
        let path = self.run("location.pathname + location.search").await;
        path.as_str().unwrap_or_default().to_owned()
    }

    /// What people read.
    pub async fn text(&mut self) -> String {
        self.run("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    async fn load(&mut self, before: u64) {
        while self.loaded == before {
            self.hear().await;
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await.expect("chromium listens");
        loop {
            let heard = self.hear().await;
            if heard["id"] == self.sent {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
        }
    }

    async fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        let heard = tokio::time::timeout(PATIENCE, self.from.read_until(0, &mut bytes)).await;
        heard.expect("chromium answers in time").expect("chromium answers");
        assert_eq!(bytes.pop(), Some(0), "chromium has ended: {:?}", self.program.try_wait());
        let message: Value = serde_json::from_slice(&bytes).expect("chromium sends JSON");
        if message["method"] == "Page.loadEventFired" {
            self.loaded += 1;
        }
        message
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.program.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
