//! Why a database could not be used: at which step, whether waiting may help, and what to do. `db check` shows it step
//! by step, and the start in one line.

use std::error::Error as StdError;
use std::io;

use erp_postgres::tls::Unreadable;
use erp_postgres::{Fault, ServerError, SqlState, WireError};
use rustls::CertificateError;
use tokio_postgres::config::SslMode;

use crate::db::{Connection, Deviation};
use crate::lifecycle::{Exit, StartError};

/// The steps from a URL to a session that will do, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Something that speaks PostgreSQL's language answers at the URL's host and port.
    Address,
    /// It encrypts as `sslmode` asks, and shows a certificate that will do.
    Tls,
    /// It lets the user in.
    Credentials,
    /// There is such a database.
    Database,
    /// The user may connect to it.
    Privileges,
    /// The session is what it was asked to be, and takes writes.
    Session,
}

/// Why a server could not be used, and whether waiting may help.
pub struct Refusal {
    /// Where it ended.
    pub step: Step,
    /// For a person, with the exit code.
    pub error: StartError,
    /// True while it may be coming up; false when it would answer the same again.
    pub may_pass: bool,
    /// True when it takes no writes by default, and serves reads.
    pub serves_reads: bool,
}

/// What happened, goes on after "PostgreSQL at …"; and what to do.
type Told = (String, String);

impl Refusal {
    /// Reads `error`, which came of opening a session over `connection` or of asking on it. Shows no password.
    pub(in crate::db) fn new(connection: &Connection, error: WireError) -> Self {
        let WireError::Opening(mut faults) = error else {
            return Self::one(connection, &connection.place(), error);
        };
        // The address where it got farthest tells most; the others are named after it.
        let Some(best) =
            (0..faults.len()).rev().max_by_key(|at| faults.get(*at).map(|fault| step(&fault.error)))
        else {
            return Self::one(
                connection,
                &connection.place(),
                WireError::Session("the URL names no host".into()),
            );
        };
        let best = faults.swap_remove(best);
        let others: Vec<String> = faults
            .iter()
            .map(|fault| format!("at {} it {}", fault.place, tell(connection, &fault.error).0))
            .collect();
        let mut refusal = Self::one(connection, &best.place, best.error);
        refusal.may_pass |= faults.iter().any(|fault| may_pass(&fault.error));
        if !others.is_empty() {
            let what = refusal.error.what();
            let fix = refusal.error.fix().unwrap_or_default();
            let what = format!("{what}; {}", others.join("; "));
            refusal.error = StartError::with_fix(Exit::Unavailable, what, fix);
        }
        refusal
    }

    /// Of a server at `place` whose transactions are read-only by default.
    pub(in crate::db) fn read_only(connection: &Connection, place: String) -> Self {
        let fault = Fault { place, error: WireError::Unfit(Deviation::ReadOnly.into()) };
        Self::new(connection, WireError::Opening(vec![fault]))
    }

    fn one(connection: &Connection, place: &str, error: WireError) -> Self {
        let (what, fix) = tell(connection, &error);
        let step = step(&error);
        let may_pass = may_pass(&error);
        let serves_reads = deviation(&error) == Some(&Deviation::ReadOnly);
        let error = StartError::with_fix(Exit::Unavailable, format!("PostgreSQL at {place} {what}"), fix)
            .because(error);
        Self { step, error, may_pass, serves_reads }
    }
}

fn step(error: &WireError) -> Step {
    match error {
        WireError::Tls(_) | WireError::NoTls => Step::Tls,
        WireError::Session(_) => Step::Credentials,
        WireError::Unfit(_) => Step::Session,
        WireError::Server(server) => match server.state.code() {
            "3D000" => Step::Database,
            "42501" => Step::Privileges,
            "08P01" => Step::Session,
            state if state.starts_with("28") => Step::Credentials,
            _ => Step::Address,
        },
        _ => Step::Address,
    }
}

/// What answers once may answer otherwise the next time: while it starts, while it is full, while a standby takes over.
fn may_pass(error: &WireError) -> bool {
    let passing = [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
    ];
    match error {
        WireError::Server(server) => passing.contains(&server.state),
        WireError::Unfit(_) => matches!(deviation(error), Some(Deviation::Target { .. })),
        WireError::Tls(_) | WireError::NoTls | WireError::Session(_) => false,
        _ => true,
    }
}

/// How a session differed from what it must be.
fn deviation(error: &WireError) -> Option<&Deviation> {
    let WireError::Unfit(cause) = error else { return None };
    cause.downcast_ref()
}

fn told(what: &str, fix: &str) -> Told {
    (what.to_owned(), fix.to_owned())
}

/// Who connects to which database.
fn parties(connection: &Connection) -> (&str, &str) {
    let whom = connection.user().unwrap_or("?");
    (whom, connection.driver.get_dbname().unwrap_or(whom))
}

fn tell(connection: &Connection, error: &WireError) -> Told {
    let (whom, database) = parties(connection);
    match error {
        WireError::Name(cause) => (
            format!("cannot be found: its name leads nowhere ({cause})"),
            "check the host in the URL, and this machine's name service".to_owned(),
        ),
        WireError::Silent(limit) => (
            format!("does not answer within {} s", limit.as_secs_f64()),
            "check that it is PostgreSQL, and not hung or overloaded, and that no firewall swallows what is sent".to_owned(),
        ),
        WireError::Tls(cause) => certificate(connection, cause.as_ref()),
        WireError::NoTls => told(
            "has no TLS, and sslmode asks for it",
            "turn on ssl in its postgresql.conf; or, on a network that you trust, say sslmode=disable",
        ),
        WireError::Unfit(cause) => {
            let fix = deviation(error).map(|deviation| deviation.fix(whom, database));
            (cause.to_string(), fix.unwrap_or_default())
        }
        WireError::Session(cause) => (
            format!("does not let user '{whom}' in ({cause})"),
            "check the user and password in the URL, and its channel_binding".to_owned(),
        ),
        WireError::Server(server) => refused(connection, server),
        WireError::Closed => told(
            "hangs up",
            "check that it is PostgreSQL, and that it takes connections from this machine",
        ),
        WireError::Protocol(what) => (
            format!("does not speak PostgreSQL's language: it sent {what}"),
            "check that the URL's host and port are PostgreSQL's".to_owned(),
        ),
        error => {
            let cause = error.source().map(ToString::to_string).unwrap_or_else(|| error.to_string());
            (
                format!("cannot be reached ({cause})"),
                "check that it runs and that the URL's host and port are right".to_owned(),
            )
        }
    }
}

/// What the server refuses us for.
fn refused(connection: &Connection, server: &ServerError) -> Told {
    let (whom, database) = parties(connection);
    match server.state.code() {
        "28P01" => told(
            &format!("refused user '{whom}': the password is wrong"),
            "check the user and password in the URL",
        ),
        "28000" if server.message().contains("pg_hba") => {
            admission(connection, whom, database, server.message())
        }
        "28000" => (
            format!("refused user '{whom}' ({})", server.message()),
            "make the role, or let it log in: migrations/roles.sql does both".to_owned(),
        ),
        "3D000" => (format!("has no database '{database}'"), "create it, or correct the URL".to_owned()),
        "42501" => (
            format!("does not let user '{whom}' use database '{database}' ({})", server.message()),
            "give it the rights that migrations/roles.sql and 'erp-backend db migrate' give".to_owned(),
        ),
        "53300" => told("has no connection left", "raise max_connections or lower DATABASE_MAX_CONNECTIONS"),
        "08P01" => (
            format!("does not take our start-up options ({server})"),
            "behind a pooler set DATABASE_PREPARED_STATEMENTS=off".to_owned(),
        ),
        _ => (format!("refused what was asked of it ({server})"), "see PostgreSQL's log".to_owned()),
    }
}

/// No line of pg_hba.conf lets the user in from here, in this way.
fn admission(connection: &Connection, whom: &str, database: &str, said: &str) -> Told {
    let (kind, or) = match connection.driver.get_ssl_mode() {
        SslMode::Disable => ("host", ", or say sslmode=verify-full where its lines begin with hostssl"),
        SslMode::Prefer => ("host", ", or say sslmode=disable where they begin with hostnossl"),
        _ => ("hostssl", ""),
    };
    let fix = format!(
        "add a line to its pg_hba.conf, such as \"{kind} {database} {whom} ADDRESS scram-sha-256\", and reload it{or}"
    );
    (format!("does not admit user '{whom}' ({said})"), fix)
}

/// What is wrong with the certificate, or with the handshake.
fn certificate(connection: &Connection, cause: &(dyn StdError + 'static)) -> Told {
    let host = connection.place();
    let told = |what: String, fix: &str| (what, fix.to_owned());
    let Some(fault) = rustls_fault(cause) else {
        return told(format!("breaks off the TLS handshake ({cause})"), "see PostgreSQL's log");
    };
    let rustls::Error::InvalidCertificate(fault) = fault else {
        return told(
            format!("does not agree on TLS ({fault})"),
            "it must speak TLS 1.2 or later (ssl_min_protocol_version) and want no certificate of its clients",
        );
    };
    match fault {
        CertificateError::UnknownIssuer => told(
            "shows a certificate of an authority that is not trusted".to_owned(),
            "name the PEM file with the authority's certificate in sslrootcert",
        ),
        CertificateError::NotValidForName => told(
            format!("shows a certificate that does not name the host of the URL, {host}"),
            "connect by a name that it shows, or issue it for this one (subjectAltName)",
        ),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => (
            "shows a certificate without a subjectAltName".to_owned(),
            format!(
                "issue it again with subjectAltName=DNS:{}; unlike libpq this server does not read the common name",
                expected.to_str()
            ),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => told(
            format!("shows a certificate for {}, and not for {}", names(presented), expected.to_str()),
            "connect by a name that it shows, or issue it for this one; sslmode=verify-ca asks for no name",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => told(
            "shows a certificate that has expired".to_owned(),
            "renew it, and look at the clocks of both machines",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => told(
            "shows a certificate that is not valid yet".to_owned(),
            "look at the clocks of both machines",
        ),
        CertificateError::Other(other) if other.0.is::<Unreadable>() => told(
            format!("shows {}", other.0),
            "issue it again as version 3, with a subjectAltName (openssl x509 -req -extfile); unlike libpq this server \
             takes no other, except in sslrootcert itself",
        ),
        fault => told(
            format!("shows a certificate that will not do ({fault})"),
            "issue it as a server's (CA:FALSE), or name this certificate itself in sslrootcert",
        ),
    }
}

/// `DnsName("db.example")`, as the verifier writes it, is `db.example` to people.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    presented.iter().map(plain).collect::<Vec<_>>().join(", ")
}

fn rustls_fault<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let io = cause.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref()
}
