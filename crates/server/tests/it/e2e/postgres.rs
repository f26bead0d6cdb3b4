//! A PostgreSQL of a test's own, which it may kill, hang, restart and fill.

use std::process::Command;

use erp_core::db::cluster::{Cluster, ClusterOptions, Roles};
use tokio::runtime::Runtime;

use super::database::Session;
use super::process::{Home, eventually, path, postmaster, runs, signal};

/// Few, so that they can be used up.
const MAX_CONNECTIONS: u32 = 40;

/// The cluster, which dropping this stops.
pub(super) struct Postgres {
    cluster: Option<Cluster>,
    pub(super) roles: Roles,
    runtime: Runtime,
    home: Home,
}

impl Postgres {
    pub(super) fn start() -> Self {
        let home = Home::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = runtime.block_on(Cluster::start(options(&home))).unwrap();
        let roles = runtime.block_on(cluster.provision("erp")).unwrap();
        Self { cluster: Some(cluster), roles, runtime, home }
    }

    /// A session as the superuser.
    pub(super) fn admin(&self) -> Session {
        Session::open(&self.admin_url())
    }

    pub(super) fn admin_url(&self) -> String {
        self.cluster.as_ref().unwrap().url("postgres", "erp")
    }

    fn postmaster(&self) -> u32 {
        postmaster(&self.home.path().join("postgres")).unwrap()
    }

    /// kill -9 of the postmaster; its children end when they notice.
    pub(super) fn kill(&mut self) {
        let children = self.children();
        signal(self.postmaster(), "KILL");
        self.cluster = None;
        eventually("its children end", || !children.iter().any(|pid| runs(*pid)));
    }

    /// An orderly end of all sessions.
    pub(super) fn stop(&mut self) {
        self.runtime.block_on(self.cluster.take().unwrap().stop()).unwrap();
    }

    /// After `kill` or `stop`; returns when it answers.
    pub(super) fn start_again(&mut self) {
        self.cluster = Some(self.runtime.block_on(Cluster::start(options(&self.home))).unwrap());
    }

    /// Stops every process where it stands: connections stay open, and nothing answers.
    pub(super) fn hang(&self) {
        signal(self.postmaster(), "STOP"); // first, so that it forks no more
        for child in self.children() {
            signal(child, "STOP");
        }
    }

    /// The end of `hang`.
    pub(super) fn resume(&self) {
        for child in self.children() {
            signal(child, "CONT");
        }
        signal(self.postmaster(), "CONT");
    }

    fn children(&self) -> Vec<u32> {
        let postmaster = self.postmaster().to_string();
        let output = Command::new("ps").args(["-e", "-o", "ppid=,pid="]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
        pairs
            .filter(|(parent, _)| *parent == postmaster)
            .map(|(_, pid)| pid.trim().parse().unwrap())
            .collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if postmaster(&self.home.path().join("postgres")).is_some() {
            self.resume(); // a test that failed may have left it hung; the folder's drop then stops it
        }
    }
}

fn options(home: &Home) -> ClusterOptions {
    // Durable: what was acknowledged must outlive a kill -9.
    let folder = home.path().join("postgres");
    ClusterOptions { folder, durable: true, max_connections: MAX_CONNECTIONS, path: path().into() }
}
