//! A connection holds so much of what a server sends, and no more.

use allocation_counter::measure;

use super::*;
use crate::{DESCRIPTION, Excess, KEPT, MemoryLimits, READ_AHEAD};

/// A server that answers what it hears with `answers`, and then goes on saying `endless` until nobody listens. Tells how
/// many bytes of it were taken.
async fn flood(answers: Vec<Vec<u8>>, endless: Vec<u8>) -> (Connector, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = connector(listener.local_addr().unwrap().port());
    let task = TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in answers {
            let _ = stream.read(&mut [0; 8192]).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
        let mut taken = 0;
        while stream.write_all(&endless).await.is_ok() {
            taken += endless.len();
        }
        taken
    });
    (connector, task)
}

const SMALL: MemoryLimits = MemoryLimits { row: 1024 * 1024, answer: 4 * 1024 * 1024 };

fn long_row(length: usize) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(u32::try_from(length).unwrap().to_be_bytes());
    body.resize(body.len() + length, b'x');
    message(b'D', &body)
}

/// It is left, and the server learns of it, having sent little more than the limit and what lies in sockets.
async fn left(wire: Wire, server: JoinHandle<usize>, limit: usize) {
    assert!(wire.is_broken() && wire.inbox.bytes.capacity() <= limit + READ_AHEAD);
    drop(wire);
    let taken = tokio::time::timeout(PATIENCE, server).await.expect("the connection is closed").unwrap();
    assert!(taken <= limit + 16 * 1024 * 1024, "{taken} bytes were taken");
}

#[tokio::test]
async fn an_endless_answer_is_left_at_the_limit() {
    for (limits, endless) in
        [(SMALL, long_row(1000)), (SMALL, row(1)), (MemoryLimits::default(), long_row(1_000_000))]
    {
        let first = [begun(), row(1)].concat();
        let (connector, server) = flood(vec![greeting(), looked_at(), first], endless).await;
        let mut wire = connector.limits(limits).connect().await.unwrap();
        let error = exchange(&mut wire).await.unwrap_err();
        assert!(
            matches!(error, WireError::TooLarge { what: Excess::Answer, limit } if limit == limits.answer),
            "{error:?}"
        );
        assert!(error.is_lost() && !error.is_broken(), "what became of the transaction is not known");
        assert!(error.to_string().contains("read them as a stream"), "{error}");
        left(wire, server, limits.answer).await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_left_before_it_is_read() {
    let text = |tag: u8, length: usize| message(tag, &vec![b'S'; length]);
    for (said, expected) in [
        (long_row(SMALL.row), Excess::Row),
        (text(b'E', DESCRIPTION), Excess::Description),
        (text(b'N', DESCRIPTION), Excess::Description),
        (text(b'T', DESCRIPTION), Excess::Description),
    ] {
        let (connector, server) = flood(vec![greeting(), looked_at(), begun()], said).await;
        let mut wire = connector.limits(SMALL).connect().await.unwrap();
        let error = exchange(&mut wire).await.unwrap_err();
        assert!(matches!(error, WireError::TooLarge { what, .. } if what == expected), "{error:?}");
        left(wire, server, KEPT).await;
    }
}

#[tokio::test]
async fn rows_that_are_taken_one_by_one_and_what_is_thrown_away_take_no_memory() {
    let notices = message(b'N', b"SNOTICE\0Mnever mind\0\0").repeat(100);
    let endless = [notices.clone(), long_row(1000).repeat(20)].concat();
    let begin = [message(b'1', &[]), message(b'2', &[]), message(b'C', b"BEGIN\0")].concat();
    let (connector, server) = flood(vec![greeting(), looked_at(), [begin, begun()].concat()], endless).await;
    let mut wire = connector.limits(SMALL).connect().await.unwrap();
    wire.begin().unwrap();
    wire.own("begin", &[]).unwrap();
    let mut portal = wire.streamed(&plan(), &[]).unwrap();
    let stream = async {
        for _ in 0..20_000 {
            assert!(wire.next_row(&mut portal).await.unwrap().is_some());
        }
    };
    tokio::time::timeout(PATIENCE, stream).await.expect("20 MB do not take so long");
    assert!(wire.inbox.bytes.capacity() <= KEPT, "{}", wire.inbox.bytes.capacity());
    // It is read to its end, which never comes, for as long as somebody waits for that.
    let recovering = tokio::time::timeout(SILENCE * 4, wire.recover()).await;
    assert!(recovering.is_err() && wire.inbox.bytes.capacity() <= KEPT);
    drop(wire);
    assert!(tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap() > 20_000_000);
}

#[test]
fn a_server_that_has_not_let_us_in_gets_little_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mechanisms = message(b'R', &[&[0, 0, 0, 10][..], &b"SCRAM\0".repeat(1000)].concat());
    for endless in [
        message(b'S', b"TimeZone\0UTC\0").repeat(1000),
        mechanisms,
        message(b'N', &[b'S'; 60_000]),
        message(b'E', &[b'S'; 200_000]),
        [message(b'R', &[0; 4]), message(b'K', &[0; 8]).repeat(1000)].concat(),
        vec![b'D'; 200_000],
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connector = connector(listener.local_addr().unwrap().port()).within(SILENCE * 6);
        let server = std::thread::spawn(move || {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&endless).is_ok() {}
        });
        let mut outcome = None;
        let taken = measure(|| outcome = Some(runtime.block_on(connector.connect()).err().unwrap()));
        assert!(matches!(outcome, Some(WireError::Opening(_))), "{outcome:?}");
        assert!(taken.bytes_max < 512 * 1024, "{} bytes for {outcome:?}", taken.bytes_max);
        server.join().unwrap();
    }
}
