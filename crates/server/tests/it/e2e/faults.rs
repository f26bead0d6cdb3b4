//! S-01 and S-04: whatever happens to PostgreSQL, clients get an answer soon, and the server recovers by itself.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use erp_testkit::Redis;

use super::database::Session;
use super::http::Client;
use super::load::{Kind, Load, Seen, summary};
use super::postgres::Postgres;
use super::process::{Home, Process, eventually, signal};

/// The longest that any answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest until readiness follows an outage.
const UNREADY: Duration = Duration::from_secs(3);
/// The longest until readiness follows the end of an outage.
const READY: Duration = Duration::from_secs(5);
/// The longest until every request succeeds again.
const RECOVERY: Duration = Duration::from_secs(10);

/// A server under load on a PostgreSQL of its own.
struct Scene {
    load: Load,
    server: Process,
    postgres: Postgres,
    home: Home,
}

impl Scene {
    fn set() -> Self {
        Self::with(&[])
    }

    fn with(more: &[(&str, &str)]) -> Self {
        let (home, postgres) = (Home::new(), Postgres::start());
        let roles = &postgres.roles;
        let urls = [("DATABASE_URL", roles.runtime_url.as_str()), ("DATABASE_OWNER_URL", &roles.owner_url)];
        let server = Process::serve(&home, &[&urls[..], more].concat());
        let load = Load::start(&Client::signed_in(&server.address(), home.path()));
        Self { load, server, postgres, home }
    }

    /// Breaks something, leaves it broken, mends it, and judges what the clients saw meanwhile.
    fn suffer<T>(
        &mut self,
        fault: &str,
        lasting: Duration,
        harm: impl FnOnce(&mut Postgres) -> T,
        mend: impl FnOnce(&mut Postgres, T),
    ) -> Vec<Seen> {
        recovered(&self.load, Instant::now());
        self.load.take();
        let harmed = harm(&mut self.postgres);
        let outage = Instant::now(); // doing the harm takes a moment, too
        std::thread::sleep(lasting);
        mend(&mut self.postgres, harmed);
        let mended = Instant::now();
        recovered(&self.load, mended);
        let seen = self.load.take();
        judge(fault, &seen, outage, mended);
        seen
    }

    /// Nothing that was acknowledged is lost, and the server is the one that was started.
    fn end(self) {
        let created = self.load.created();
        assert!(created.len() > 10, "the load wrote next to nothing");
        let list = created.iter().map(|sku| format!("'{sku}'")).collect::<Vec<_>>().join(",");
        let kept = self.postgres.admin().value(&format!("select count(*) from items where sku in ({list})"));
        assert_eq!(kept, created.len().to_string(), "acknowledged writes were lost");
        drop(self.load);
        let ended = self.server.stop("TERM");
        assert_eq!(ended.code, 0, "{ended:#?}");
        assert!(self.home.path().exists());
    }
}

fn recovered(load: &Load, since: Instant) {
    eventually("every request succeeds", || load.is_well(since));
}

/// The rules that hold in every fault; prints the maxima.
fn judge(fault: &str, seen: &[Seen], broken: Instant, mended: Instant) {
    let slowest = |live: bool| seen.iter().filter(|s| (s.kind == Kind::Live) == live).map(Seen::took).max();
    let unready = seen.iter().find(|s| s.kind == Kind::Ready && s.is(503));
    let unready = unready.map(|s| s.end.saturating_duration_since(broken));
    let last = |failure: &dyn Fn(&&Seen) -> bool| {
        let end = seen.iter().filter(failure).map(|s| s.end).max();
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(mended))
    };
    let ready = last(&|s| s.kind == Kind::Ready && !s.is(200));
    let recovery = last(&|s| !s.succeeded());
    let report = format!(
        "{fault}: slowest answer {:?}, /livez {:?}, unready after {unready:?}, ready after {ready:?}, recovered after \
         {recovery:?}; {}",
        slowest(false).unwrap(),
        slowest(true).unwrap(),
        summary(seen)
    );
    println!("{report}; broken for {:?}", mended - broken);
    for answer in seen {
        let fine = match answer.kind {
            Kind::Live => answer.is(200),
            Kind::Ready => answer.is(200) || answer.is(503),
            Kind::Read | Kind::Write => answer.succeeded() || (answer.is(503) && answer.retry_after),
        };
        assert!(fine && answer.took() <= ANSWER, "{answer:?} in {report}");
    }
    assert!(ready <= READY && recovery <= RECOVERY, "{report}");
    assert!(unready.is_none_or(|unready| unready <= UNREADY), "{report}");
}

const CHECKPOINTER: &str = "backend_type = 'checkpointer'";

fn pid_where(condition: &str) -> String {
    format!("select pid from pg_stat_activity where {condition} limit 1")
}

fn was_unready(seen: &[Seen]) -> bool {
    seen.iter().any(|seen| seen.kind == Kind::Ready && seen.is(503))
}

fn failed(seen: &[Seen], kind: Kind) -> bool {
    seen.iter().any(|seen| seen.kind == kind && !seen.succeeded())
}

#[test]
fn s_04_postgres_is_killed_and_restarted() {
    let mut scene = Scene::set();
    scene.suffer(
        "a backend is killed",
        Duration::ZERO,
        |postgres| {
            let of_ours = "usename = 'erp_app' and application_name = ''";
            let pid = postgres.admin().value(&pid_where(of_ours)).parse().unwrap();
            let checkpointer = postgres.admin().value(&pid_where(CHECKPOINTER));
            assert!(signal(pid, "KILL"));
            checkpointer
        },
        // PostgreSQL starts all of itself again.
        |postgres, former| {
            eventually("PostgreSQL answers again", || {
                let found = Session::try_open(&postgres.admin_url())
                    .and_then(|admin| admin.try_value(&pid_where(CHECKPOINTER)));
                found.is_ok_and(|pid| !pid.is_empty() && pid != former)
            });
        },
    );
    let seen =
        scene.suffer("the postmaster is killed", Duration::from_secs(3), Postgres::kill, |postgres, ()| {
            postgres.start_again();
        });
    assert!(was_unready(&seen));
    let harm = Postgres::stop;
    scene.suffer("it is restarted", Duration::ZERO, harm, |postgres, ()| postgres.start_again());
    scene.end();
}

#[test]
fn s_01_while_postgres_and_redis_are_down_liveness_stays_and_readiness_says_no() {
    let redis = Redis::is_installed("Redis that is down together with PostgreSQL (S-01)");
    let redis = RefCell::new(redis.then(|| Redis::start(&[])));
    let url = redis.borrow().as_ref().map(Redis::url);
    let mut scene = Scene::with(&url.iter().map(|url| ("REDIS_URL", url.as_str())).collect::<Vec<_>>());
    let (address, pid) = (scene.server.address(), scene.server.pid());
    let lasting = Duration::from_secs(if crate::deep() { 61 } else { 5 });
    let begun = Instant::now();
    let harm = |postgres: &mut Postgres| {
        redis.borrow_mut().iter_mut().for_each(Redis::kill);
        postgres.stop();
    };
    let seen = scene.suffer("both are down", lasting, harm, |postgres, ()| {
        redis.borrow_mut().iter_mut().for_each(Redis::restart);
        postgres.start_again();
    });
    let of = |kind| seen.iter().filter(move |seen| seen.kind == kind);
    let refused: Vec<&Seen> = of(Kind::Ready).filter(|seen| seen.is(503)).collect();
    let (first, last) = (refused.first().unwrap().end, refused.last().unwrap().begin);
    assert!(last - first > lasting - UNREADY - Duration::from_secs(1), "unready for {:?} only", last - first);
    let between = of(Kind::Ready).filter(|seen| seen.begin > first && seen.end < last);
    assert!(between.clone().count() > 5 && between.clone().all(|seen| seen.is(503)), "all the while");
    assert!(of(Kind::Live).filter(|seen| seen.begin > first && seen.end < last).count() > 5);
    println!(
        "deep: S-01: PostgreSQL and Redis down for {:.0} s: {} times live, {} times not ready, no restart",
        (last - first).as_secs_f64(),
        of(Kind::Live).count(),
        refused.len()
    );
    let health = Client::new(&address).get("/health").unwrap().json();
    assert!(health["uptime"].as_u64().unwrap() >= begun.elapsed().as_secs() - 1, "restarted: {health}");
    assert_eq!(scene.server.pid(), pid);
    scene.end();
}

#[test]
fn s_04_postgres_hangs() {
    let mut scene = Scene::set();
    let harm = |postgres: &mut Postgres| postgres.hang();
    let seen = scene.suffer("it hangs", Duration::from_secs(6), harm, |postgres, ()| postgres.resume());
    assert!(was_unready(&seen));
    scene.end();
}

#[test]
fn s_04_postgres_is_read_only_or_full() {
    let mut scene = Scene::set();
    let read_only = |postgres: &Postgres, state: &str| {
        let admin = postgres.admin();
        admin.run(&format!("alter system set default_transaction_read_only = {state}"));
        admin.run("select pg_reload_conf()");
    };
    let seen = scene.suffer(
        "it is read-only",
        Duration::from_secs(3),
        |postgres| read_only(postgres, "on"),
        |postgres, ()| {
            let admin = postgres.admin();
            admin.run("set default_transaction_read_only = off");
            admin.run("alter system set default_transaction_read_only = off");
            admin.run("select pg_reload_conf()");
        },
    );
    assert!(failed(&seen, Kind::Write) && !failed(&seen, Kind::Read), "{}", summary(&seen));
    let seen = scene.suffer("it is full", Duration::from_secs(3), fill, |_, others| drop(others));
    assert!(was_unready(&seen) && failed(&seen, Kind::Read), "{}", summary(&seen));
    scene.end();
}

/// Others take every connection, the server's included. Each place is counted: were one left, the server could serve all
/// over it.
fn fill(postgres: &mut Postgres) -> Vec<Session> {
    let admin = postgres.admin();
    let reserved = ["superuser_reserved_connections", "reserved_connections"];
    let [first, second] = reserved.map(|name| format!("coalesce(current_setting('{name}', true), '0')::int"));
    let places = admin.value(&format!("current_setting('max_connections')::int - {first} - {second}"));
    let places: usize = places.parse().unwrap();
    let mut others = vec![admin];
    while others.len() < places {
        match Session::try_open(&postgres.roles.owner_url) {
            Ok(session) => others.push(session),
            Err(_) => {
                others[0]
                    .run("select pg_terminate_backend(pid) from pg_stat_activity where usename in ('erp_app', 'erp_system')");
            }
        }
    }
    others
}

/// Waits until a session can be opened.
fn answers(url: &str) {
    eventually("PostgreSQL answers", || Session::try_open(url).is_ok());
}

/// The URL of the private cluster, from the banner.
fn private_url(server: &Process) -> String {
    server.said("(psql '").split('\'').nth(1).unwrap().to_owned()
}

#[test]
fn the_private_cluster_is_started_again_when_it_dies() {
    let home = Home::new();
    let server = Process::serve(&home, &[]);
    let load = Load::start(&Client::signed_in(&server.address(), home.path()));
    recovered(&load, Instant::now());
    load.take();
    let (postmaster, broken) = (home.postmaster().unwrap(), Instant::now());
    assert!(signal(postmaster, "KILL"));
    eventually("another is started", || home.postmaster().is_some_and(|pid| pid != postmaster));
    answers(&private_url(&server));
    let mended = Instant::now();
    recovered(&load, mended);
    judge("the private cluster is killed", &load.take(), broken, mended);
    drop(load);

    // And a stop that comes while it is being started again leaves none behind.
    let postmaster = home.postmaster().unwrap();
    assert!(signal(postmaster, "KILL"));
    eventually("another is started", || home.postmaster().is_some_and(|pid| pid != postmaster));
    let ended = server.stop("TERM");
    assert_eq!((ended.code, home.postmaster()), (0, None), "{ended:#?}");
}
