//! The protocol's edges, acted out by a server of our own on loopback that says whatever a test wants.

use std::sync::Arc;
use std::time::Duration;

use postgres_types::Type;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{
    Cause, Channel, Config, Connector, Event, Inspection, Plan, TransactionStatus, Wire, WireError, tls,
};

pub(crate) mod fuzz;
mod limits;

const SQL: &str = "select n from numbers";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the server waits to be spoken to.
const SILENCE: Duration = Duration::from_millis(50);

/// One message of a server.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

fn greeting() -> Vec<u8> {
    let keys = [7_u32.to_be_bytes(), 8_u32.to_be_bytes()].concat();
    let setting = b"TimeZone\0UTC\0".as_slice();
    [message(b'R', &[0; 4]), message(b'S', setting), message(b'K', &keys), ready(b'I')].concat()
}

/// What each session must be.
struct Fine;

impl Inspection for Fine {
    fn question(&self) -> (&'static str, Vec<String>) {
        ("select how($1)", vec!["is it".to_owned()])
    }

    fn judge(&self, answer: &[String]) -> Result<(), Cause> {
        if answer == ["fine"] { Ok(()) } else { Err(format!("is {answer:?}").into()) }
    }
}

/// The answer to what a session is asked when it is opened: all is as it must be.
fn looked_at() -> Vec<u8> {
    answering(b"fine")
}

fn answering(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    let row = message(b'D', &[&[0, 1], &length[..], text].concat());
    [message(b'1', &[]), message(b'2', &[]), row, done(), ready(b'I')].concat()
}

/// One column `n` of type `int4`.
fn description() -> Vec<u8> {
    let mut body = b"\0\x01n\0".to_vec();
    body.extend([0; 6]); // of no table
    body.extend(23_u32.to_be_bytes());
    body.extend([0, 4, 0xff, 0xff, 0xff, 0xff, 0, 1]);
    message(b'T', &body)
}

fn row(n: i32) -> Vec<u8> {
    message(b'D', &[&[0, 1, 0, 0, 0, 4], &n.to_be_bytes()[..]].concat())
}

fn error(severity: &str, state: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{state}\0Mwhat happened\0nnumbers_key\0\0");
    message(b'E', fields.as_bytes())
}

fn done() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

/// The answer to a statement that is sent for the first time, up to its rows.
fn begun() -> Vec<u8> {
    [message(b'1', &[]), message(b'2', &[]), description()].concat()
}

/// A server for one connection: says the next of `answers` whenever it hears something, and then, or when it hears nothing
/// for a while, hangs up.
async fn server(mut answers: Vec<Vec<u8>>, piece: usize) -> (Connector, JoinHandle<()>) {
    answers.insert(1, looked_at());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut heard = vec![0; 8192];
        for answer in answers {
            let heard = tokio::time::timeout(SILENCE, stream.read(&mut heard)).await;
            if !matches!(heard, Ok(Ok(1..))) {
                return;
            }
            for piece in answer.chunks(piece) {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    (connector(port), task)
}

fn connector(port: u16) -> Connector {
    let url = format!("postgresql://u:secret@127.0.0.1:{port}/d?sslmode=disable");
    let config = url.parse::<Config>().unwrap();
    let tls = Arc::new(tls::client_config(tls::Verify::Nothing, None).unwrap());
    Connector::new(config, tls).within(PATIENCE).inspected(Arc::new(Fine))
}

fn plan() -> Plan {
    Plan { sql: SQL, types: Vec::new(), operation: "select", table: "numbers" }
}

/// Opens a connection to a server that answers so, and asks it once.
async fn ask(answers: Vec<Vec<u8>>, piece: usize) -> (Wire, Result<Vec<i32>, WireError>) {
    let (connector, _server) = server([vec![greeting()], answers].concat(), piece).await;
    let mut wire = connector.connect().await.unwrap();
    let outcome = exchange(&mut wire).await;
    (wire, outcome)
}

async fn exchange(wire: &mut Wire) -> Result<Vec<i32>, WireError> {
    let work = async {
        wire.begin()?;
        wire.statement(&plan(), &[])?;
        let reply = wire.exchange(&mut false).await?;
        wire.rows(&reply).map(|row| row?.try_get("n")).collect()
    };
    tokio::time::timeout(PATIENCE, work).await.expect("no answer takes so long")
}

#[tokio::test]
async fn an_answer_may_arrive_byte_by_byte() {
    let notice = message(b'N', b"SNOTICE\0Mnever mind\0\0");
    let answer = [begun(), row(1), notice, row(-2), row(i32::MAX), done(), ready(b'I')].concat();
    for piece in [1, 3, 7, answer.len()] {
        let (wire, rows) = ask(vec![answer.clone()], piece).await;
        assert_eq!(rows.unwrap(), [1, -2, i32::MAX], "in pieces of {piece}");
        assert_eq!((wire.status(), wire.is_broken()), (TransactionStatus::Idle, false));
    }
}

#[tokio::test]
async fn a_statement_is_prepared_once_and_described_once() {
    let again = [message(b'2', &[]), row(2), done(), ready(b'I')].concat();
    let first = [begun(), row(1), done(), ready(b'I')].concat();
    let (connector, _server) = server(vec![greeting(), first, again], usize::MAX).await;
    let mut wire = connector.connect().await.unwrap();
    assert_eq!(exchange(&mut wire).await.unwrap(), [1]);
    assert_eq!(exchange(&mut wire).await.unwrap(), [2]);
}

#[tokio::test]
async fn a_huge_row_is_read_whole_and_its_memory_given_back() {
    const LENGTH: usize = 20_000_000;
    let mut body = vec![0, 1];
    body.extend(u32::try_from(LENGTH).unwrap().to_be_bytes());
    body.resize(body.len() + LENGTH, b'x');
    let text = description().into_iter().map(|byte| if byte == 23 { 25 } else { byte }).collect::<Vec<_>>();
    let begun = [message(b'1', &[]), message(b'2', &[]), text].concat();
    let answer = [begun, message(b'D', &body), done(), ready(b'I')].concat();
    let (connector, _server) = server(vec![greeting(), answer], 100_000).await;
    let mut wire = connector.connect().await.unwrap();
    wire.begin().unwrap();
    wire.statement(&plan(), &[]).unwrap();
    let reply = wire.exchange(&mut false).await.unwrap();
    let texts: Vec<usize> =
        wire.rows(&reply).map(|row| row.unwrap().try_get::<&str>("n").unwrap().len()).collect();
    assert_eq!(texts, [LENGTH]);
    wire.begin().unwrap();
    assert!(wire.inbox.bytes.capacity() < 1_000_000);
}

#[tokio::test]
async fn an_error_in_the_middle_leaves_the_connection_in_step() {
    let refused = [begun(), row(1), error("ERROR", "23505"), ready(b'I')].concat();
    let after = [message(b'2', &[]), row(5), done(), ready(b'I')].concat();
    let (connector, _server) = server(vec![greeting(), refused, after], 5).await;
    let mut wire = connector.connect().await.unwrap();
    let refusal = exchange(&mut wire).await.unwrap_err();
    let server = refusal.server().unwrap();
    assert_eq!((server.state.code(), server.constraint.as_deref()), ("23505", Some("numbers_key")));
    assert!(wire.is_quiet());
    assert_eq!(exchange(&mut wire).await.unwrap(), [5], "it is prepared, whatever became of it");
}

#[tokio::test]
async fn a_server_that_leaves_says_why_or_not() {
    let (wire, outcome) = ask(vec![[begun(), row(1), error("FATAL", "57P01")].concat()], 1000).await;
    assert_eq!(outcome.unwrap_err().server().unwrap().state.code(), "57P01");
    assert!(wire.is_broken());
    for cut in [0, 1, 4, 5, 9, begun().len(), begun().len() + 3] {
        let whole = [begun(), row(1), done(), ready(b'I')].concat();
        let (mut wire, outcome) = ask(vec![whole[..cut].to_vec()], 1000).await;
        assert!(
            matches!(outcome, Err(WireError::Closed | WireError::Io(_))),
            "after {cut} bytes: {outcome:?}"
        );
        assert!(wire.is_broken() && wire.begin().is_err() && wire.recover().await.is_err());
    }
}

#[tokio::test]
async fn what_postgresql_would_not_say_is_refused() {
    let huge = |tag: u8, length: u32| [&[tag], &length.to_be_bytes()[..], &[0; 40]].concat();
    for (what, answer) in [
        ("no length", huge(b'D', 3)),
        ("a negative length", huge(b'D', u32::MAX)),
        ("a long end of a command", huge(b'C', 31_000)),
        ("an unknown message", message(b'?', b"what")),
        ("a copy", message(b'H', &[0, 0, 0])),
        ("an impossible state", ready(b'X')),
        ("an authentication", message(b'R', &[0; 4])),
        ("no answer at all", ready(b'I')),
        ("an error without an end", message(b'E', b"SERROR")),
        ("a description cut short", message(b'T', b"\0\x01n")),
    ] {
        let (wire, outcome) = ask(vec![answer], 1000).await;
        assert!(matches!(outcome, Err(WireError::Protocol(_))), "{what}: {outcome:?}");
        assert!(wire.is_broken(), "{what}");
    }
    // A row that contradicts its description, and values that end beyond it.
    let (negative, behind) = (&[0, 1, 0xff, 0xff, 0xff, 0xfe], &[0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0]);
    for bad in
        [&[0, 2, 0, 0, 0, 1, 0][..], &[0, 1, 0, 0, 0, 9, 1], &[0, 1, 0, 0], &[0], &[], negative, behind]
    {
        let answer = [begun(), message(b'D', bad), done(), ready(b'I')].concat();
        let (_, outcome) = ask(vec![answer], 1000).await;
        assert!(matches!(outcome, Err(WireError::Protocol(_))), "{bad:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_sends_nothing() {
    let (connector, _server) =
        server(vec![greeting(), [begun(), row(1), done(), ready(b'I')].concat()], 1000).await;
    let mut wire = connector.connect().await.unwrap();
    let wants = Plan { types: vec![Type::INT4], ..plan() };
    wire.begin().unwrap();
    wire.own("begin", &[]).unwrap();
    assert!(matches!(wire.statement(&wants, &[&"text"]), Err(WireError::Parameter(1, _))));
    assert!(matches!(wire.statement(&wants, &[]), Err(WireError::Parameter(0, _))));
    assert_eq!(exchange(&mut wire).await.unwrap(), [1], "the server has heard nothing of it");
}

#[tokio::test]
async fn a_connection_that_was_left_is_read_to_its_end_or_closed() {
    let slow = [begun(), row(1), done(), ready(b'T')].concat();
    let rolled_back = [message(b'C', b"ROLLBACK\0"), ready(b'I')].concat();
    let (connector, _server) = server(vec![greeting(), slow.clone(), rolled_back], 2).await;
    let mut wire = connector.connect().await.unwrap();
    {
        let mut work = Box::pin(exchange(&mut wire));
        assert!(futures_util::poll!(work.as_mut()).is_pending());
    }
    assert!(wire.begin().is_err(), "its answer is still to come");
    assert!(!wire.is_quiet());
    wire.recover().await.unwrap();
    assert!(wire.status() == TransactionStatus::Idle && wire.is_quiet());
    // A rollback that ends nothing is no recovery.
    let (connector, _server) = server(vec![greeting(), slow, ready(b'E')], 1000).await;
    let mut wire = connector.connect().await.unwrap();
    exchange(&mut wire).await.unwrap();
    assert!(wire.recover().await.is_err());
}

#[tokio::test]
async fn an_idle_connection_tells_news_from_its_end() {
    for (said, fresh) in [
        (message(b'S', b"TimeZone\0CET\0"), true),
        (error("FATAL", "57P01"), false),
        (ready(b'I'), false),
        (b"S\0\0".to_vec(), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = connector(listener.local_addr().unwrap().port());
        let (wire, stream) = tokio::join!(connector.connect(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1000]).await.unwrap();
            stream.write_all(&greeting()).await.unwrap();
            let _ = stream.read(&mut [0; 1000]).await.unwrap();
            stream.write_all(&looked_at()).await.unwrap();
            stream
        });
        let (mut wire, mut stream): (Wire, TcpStream) = (wire.unwrap(), stream);
        assert!(wire.is_quiet());
        stream.write_all(&said).await.unwrap();
        // The runtime must have seen it come.
        if let super::socket::Stream::Tcp(stream) = &wire.socket.0 {
            stream.readable().await.unwrap();
        }
        assert_eq!(wire.is_quiet(), fresh, "{said:?}");
        drop(stream);
    }
}

/// A small generator that repeats itself with its seed: xorshift64.
struct Dice(u64);

impl Dice {
    /// Two numbers that are close give rolls that are not.
    fn of(number: u64) -> Self {
        Self(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn roll(&mut self, sides: usize) -> usize {
        usize::try_from((self.next() >> 11) % sides as u64).unwrap()
    }

    /// Changes, drops or repeats a few bytes.
    fn spoil(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len().max(1));
            match self.roll(4) {
                0 if at < bytes.len() => drop(bytes.remove(at)),
                1 => bytes.truncate(at),
                2 => bytes.insert(at.min(bytes.len()), self.roll(256) as u8),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.0 as u8),
            }
        }
        bytes
    }
}

#[tokio::test]
async fn garbage_is_an_error_and_never_a_panic_or_a_wait() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let whole = [begun(), row(1), row(2), error("ERROR", "22012"), done(), ready(b'I')].concat();
    let (mut failed, rounds) = (0, 300);
    for round in 0..rounds {
        let (greeting, answer) = match round % 3 {
            0 => (dice.spoil(greeting()), whole.clone()),
            1 => (greeting(), dice.spoil(whole.clone())),
            _ => (greeting(), (0..200).map(|_| dice.roll(256) as u8).collect()),
        };
        let (connector, _server) = server(vec![greeting, answer.clone(), answer], 50).await;
        let work = async {
            let mut wire = connector.connect().await?;
            let first = exchange(&mut wire).await;
            let _ = wire.is_quiet();
            let _ = wire.recover().await;
            first
        };
        let outcome = tokio::time::timeout(PATIENCE, work).await;
        failed += usize::from(outcome.unwrap_or_else(|_| panic!("round {round} hangs")).is_err());
    }
    assert!(failed > rounds / 2, "{failed} of {rounds} failed");
}

#[tokio::test]
async fn a_statement_that_is_unknown_or_foreign_condemns_the_connection() {
    for (said, condemns) in [
        (error("ERROR", "26000"), true),
        (error("ERROR", "42P05"), true),
        (error("ERROR", "08P01"), true),
        (mismatched(), true),
        (error("ERROR", "23505"), false),
    ] {
        let (mut wire, outcome) = ask(vec![[said, ready(b'I')].concat()], 1000).await;
        let error = outcome.unwrap_err();
        assert_eq!((wire.is_broken(), wire.begin().is_err()), (condemns, condemns), "{error}");
    }
}

/// The statement of this name is another's, with other parameters.
fn mismatched() -> Vec<u8> {
    message(b'E', b"SERROR\0VERROR\0C08P01\0Mbind message\0Rexec_bind_message\0\0")
}

#[tokio::test]
async fn a_name_stands_for_one_text_with_one_kind_of_parameters_in_every_session() {
    let name = async |sql: &'static str, types: &[Type]| {
        let (connector, _server) = server(vec![greeting()], 1000).await;
        let mut wire = connector.connect().await.unwrap();
        wire.prepare("select 'something before'", &[]).unwrap();
        wire.prepare(sql, types).unwrap().name.to_string()
    };
    let known = name(SQL, &[]).await;
    assert_eq!(known, name(SQL, &[]).await);
    assert_ne!(known, name("select 2", &[]).await);
    assert_ne!(known, name(SQL, &[Type::INT4]).await);
}

#[tokio::test]
async fn a_session_whose_settings_were_dropped_is_not_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = connector(listener.local_addr().unwrap().port());
    let (opened, _stream) = tokio::join!(connector.connect(), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for said in [greeting(), answering(b"dropped")] {
            let _ = stream.read(&mut [0; 1000]).await.unwrap();
            stream.write_all(&said).await.unwrap();
        }
        stream
    });
    let refusal = opened.err().unwrap();
    assert!(refusal.to_string().ends_with("the database is [\"dropped\"]"), "{refusal}");
}

#[tokio::test]
async fn a_connection_that_was_silent_is_asked_before_it_is_used() {
    for answers in [true, false] {
        let more = if answers { vec![ready(b'I')] } else { Vec::new() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = connector(listener.local_addr().unwrap().port());
        let (wire, mut stream) = tokio::join!(connector.connect(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for said in [greeting(), looked_at()] {
                let _ = stream.read(&mut [0; 1000]).await.unwrap();
                stream.write_all(&said).await.unwrap();
            }
            stream
        });
        let mut wire = wire.unwrap();
        assert!(wire.is_fit(&connector).await, "it is new: nothing is asked");
        connector.tell_time(Duration::from_secs(60));
        let fit = tokio::join!(wire.is_fit(&connector), async {
            let heard = stream.read(&mut [0; 1000]).await.unwrap();
            assert_eq!(heard, 5, "a Sync and nothing else");
            for said in more {
                stream.write_all(&said).await.unwrap();
            }
        });
        assert_eq!((fit.0, wire.is_broken()), (answers, !answers));
        drop(stream);
    }
}

#[tokio::test]
async fn who_listens_learns_that_a_silent_server_is_gone() {
    const CHANNEL: Channel = Channel::new("orders").unwrap();
    let said = message(b'A', &[&7_u32.to_be_bytes()[..], b"orders\0", b"late\0"].concat());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = connector(listener.local_addr().unwrap().port());
    let (opened, mut stream) = tokio::join!(connector.listen(&[CHANNEL], 8), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for said in [greeting(), looked_at(), [message(b'C', b"LISTEN\0"), ready(b'I')].concat()] {
            let _ = stream.read(&mut [0; 1000]).await.unwrap();
            stream.write_all(&said).await.unwrap();
        }
        stream
    });
    let (mut notifications, mut listening) = opened.unwrap();
    listening.limits = (SILENCE, SILENCE * 4);
    let running = TaskTracker::new().spawn(listening.run());
    // It asks twice; a notification may come before the answer.
    for _ in 0..2 {
        let mut heard = [0; 100];
        let length = stream.read(&mut heard).await.unwrap();
        assert_eq!(&heard[..length], b"S\0\0\0\x04", "a Sync and nothing else");
        stream.write_all(&[said.clone(), ready(b'I')].concat()).await.unwrap();
        let next = notifications.next().await.unwrap();
        assert!(matches!(next, Event::Notification(heard) if heard.payload == "late"));
    }
    let why = tokio::time::timeout(PATIENCE, notifications.next()).await.unwrap().unwrap_err();
    assert!(matches!(why, WireError::Silent(_)), "{why}");
    running.await.unwrap();
    drop(stream);
}

/// Found by fuzzing: it counted below zero.
#[tokio::test]
async fn who_listens_is_told_the_end_of_nothing() {
    const CHANNEL: Channel = Channel::new("orders").unwrap();
    let begun = [message(b'C', b"LISTEN\0"), ready(b'I'), ready(b'I')].concat();
    let (connector, _server) = server(vec![greeting(), begun], 1000).await;
    let outcome = connector.listen(&[CHANNEL], 8).await;
    assert!(matches!(outcome.err(), Some(WireError::Protocol("an end of nothing"))));
}

/// Found by fuzzing: a length of -2 was NULL, and nothing was said about bytes behind the last value
/// (`what_postgresql_would_not_say_is_refused`); and these.
#[tokio::test]
async fn a_description_that_lies_about_its_length_is_refused() {
    let lies = [
        message(b't', &[0xff, 0xff, 0, 0, 0, 23]),
        message(b'T', b"\xff\xffn\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01"),
    ];
    for lie in lies {
        let answer = [message(b'1', &[]), lie, ready(b'I')].concat();
        let (connector, _server) = server(vec![greeting(), answer], 1000).await;
        let mut wire = connector.connect().await.unwrap();
        let outcome = wire.plan(SQL, None).await;
        assert!(matches!(outcome, Err(WireError::Protocol(_))), "{outcome:?}");
        // That it takes none is held by the fuzzer's bound.
    }
}

#[tokio::test]
async fn a_domain_without_an_end_is_not_followed_for_ever() {
    let parameter = message(b't', &[&[0, 1][..], &99_999_u32.to_be_bytes()].concat());
    let described = [message(b'1', &[]), parameter, message(b'n', &[]), ready(b'I')].concat();
    let mut answers = vec![greeting(), described];
    for base in 100_000..100_100 {
        let values = ["d", "d", "0", &base.to_string(), "public", ""].map(str::to_owned);
        let mut body = vec![0, 6];
        for value in values {
            body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(value.as_bytes());
        }
        let begun = [message(b'1', &[]), message(b'2', &[])].concat();
        answers.push([begun, message(b'D', &body), done(), ready(b'I')].concat());
    }
    let (connector, _server) = server(answers, 1000).await;
    let mut wire = connector.connect().await.unwrap();
    let outcome = wire.plan(SQL, None).await;
    assert!(matches!(outcome, Err(WireError::Protocol("a domain without an end"))), "{outcome:?}");
}
