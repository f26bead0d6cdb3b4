//! The states that a decoder can be in, and what is tried in each.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::ClientConfig;

use super::super::{Dice, message, plan, ready};
use super::answers::{columns, description, greeting, news, piece, query, row, spoil, spoil_if, texts};
use super::server::{PASSWORD, Server, Stage};
use super::{drive, reference};
use crate::connect::asks_for_tls;
use crate::listen::Listening;
use crate::socket::{Socket, Stream};
use crate::{
    Cancel, Channel, Config, Connector, Notifications, Target, TransactionStatus, Wire, WireError, tls,
};

/// What became of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
}

/// One server, and what is done with it.
pub(super) struct Case {
    stages: Vec<Stage>,
    dice: Dice,
    run: fn(Given) -> Verdict,
    connector: Connector,
}

/// What a case is run with.
pub(super) struct Given {
    server: Server,
    stages: Vec<Vec<u8>>,
    bytes: usize,
    dice: Dice,
    connector: Connector,
}

thread_local! {
    /// It takes long to make, and is not spoken.
    static TLS: Arc<ClientConfig> = Arc::new(tls::client_config(tls::Verify::Nothing, None).unwrap());
}

/// A state by its name, and what makes a case of it.
type State = (&'static str, fn(&mut Dice) -> Case);

pub(super) const STATES: &[State] = &[
    ("startup and SASL", startup),
    ("query", two_queries),
    ("COPY, which is not spoken", copy),
    ("portal", portal),
    ("description and types", types),
    ("recovery", recovery),
    ("idle", idle),
    ("listening", listening),
    ("TLS question", question),
    ("cancel", cancel),
];

impl Case {
    fn new(stages: Vec<Stage>, dice: &mut Dice, run: fn(Given) -> Verdict) -> Self {
        let mut config = Config::new();
        config.user("u").password(PASSWORD).host("127.0.0.1");
        let connector = Connector::new(config, TLS.with(Arc::clone));
        Self { stages, dice: Dice::of(dice.next()), run, connector }
    }

    /// How long all that the server says is, about.
    pub(super) fn bytes(&self) -> usize {
        let length = |stage: &Stage| match stage {
            Stage::Say(bytes) => bytes.len(),
            Stage::Challenge(_) | Stage::Proof(_) => 200,
        };
        self.stages.iter().map(length).sum()
    }

    pub(super) fn run(self) -> Verdict {
        (self.run)(self.given())
    }

    fn given(self) -> Given {
        let (bytes, Self { stages, mut dice, connector, .. }) = (self.bytes(), self);
        let said = |stage: &Stage| match stage {
            Stage::Say(bytes) => bytes.clone(),
            Stage::Challenge(_) | Stage::Proof(_) => Vec::new(),
        };
        let known = stages.iter().map(said).collect();
        let server = Server::new(stages, &mut dice);
        Given { server, stages: known, bytes, dice, connector }
    }
}

impl Given {
    fn socket(server: Server) -> Socket {
        Socket(Stream::Acted(Box::new(server)))
    }

    /// A session that was let in, whatever comes then.
    fn session(self) -> (Wire, Self) {
        let Self { server, stages, bytes, dice, connector } = self;
        let opened = drive(
            Wire::start(Self::socket(server), &connector, nowhere(), connector.config.get_password(), None),
            bytes,
        );
        let rest = Self { server: Server::new(Vec::new(), &mut Dice::of(1)), stages, bytes, dice, connector };
        (opened.expect("it was let in"), rest)
    }
}

fn nowhere() -> Target {
    Target::tcp(None, IpAddr::V4(Ipv4Addr::LOCALHOST), 1)
}

fn verdict(accepted: bool) -> Verdict {
    if accepted { Verdict::Accepted } else { Verdict::Refused }
}

/// Something is left as it is at times.
fn maybe(bytes: Vec<u8>, dice: &mut Dice) -> Stage {
    Stage::Say(spoil_if(dice.roll(8) > 0, bytes, dice))
}

fn welcome() -> Stage {
    Stage::Say([message(b'R', &[0; 4]), message(b'K', &[1; 8]), ready(b'I')].concat())
}

fn startup(dice: &mut Dice) -> Case {
    let stages = greeting(dice.roll(8) > 0, dice);
    Case::new(stages, dice, |Given { server, bytes, mut dice, connector, .. }| {
        let binding = (dice.roll(2) == 0).then(|| vec![7; 32]);
        let opened = drive(
            Wire::start(
                Given::socket(server),
                &connector,
                nowhere(),
                connector.config.get_password(),
                binding,
            ),
            bytes,
        );
        let Ok(wire) = opened else { return Verdict::Refused };
        if let Stream::Acted(server) = &wire.socket.0 {
            assert_ne!(
                server.proven,
                Some(false),
                "a server that does not know the password was taken for ours"
            );
        }
        verdict(wire.status() == TransactionStatus::Idle && !wire.is_broken())
    })
}

/// One that may be spoilt; and, where nothing is left of it, another that must be understood.
fn two_queries(dice: &mut Dice) -> Case {
    let (kinds, again) = (columns(dice), columns(dice));
    let first = maybe(query(&kinds, dice).concat(), dice);
    let second = loop {
        let second = query(&again, dice).concat();
        let read = reference::exchange(&second, 1);
        if read.is_some_and(|read| !read.refused) {
            break second;
        }
    };
    Case::new(vec![welcome(), first, Stage::Say(second)], dice, |given| {
        let (mut wire, given) = given.session();
        let accepted = exchange(&mut wire, &given.stages[1], given.bytes).is_ok();
        let clean = reference::exchange(&given.stages[1], 1).is_some_and(|read| read.rest == 0);
        if clean && !wire.is_broken() && wire.status() == TransactionStatus::Idle {
            assert!(wire.is_quiet(), "nothing is left of the first");
            exchange(&mut wire, &given.stages[2], given.bytes).expect("it is in step");
        }
        verdict(accepted)
    })
}

fn exchange(wire: &mut Wire, said: &[u8], bytes: usize) -> Result<(), WireError> {
    wire.begin()?;
    wire.own("begin", &[])?;
    wire.statement(&plan(), &[])?;
    let mut sent = false;
    let outcome = drive(wire.exchange(&mut sent), bytes);
    assert_eq!(outcome.is_err(), outcome.is_err() || wire.is_broken(), "what is broken has failed");
    let reply = outcome?;
    let read = reference::exchange(said, 1).expect("an answer has an end");
    assert!(!read.refused && !read.foreign && read.steps == 2, "an answer of {} steps", read.steps);
    let columns = reply.columns().len();
    let mut rows = wire.rows(&reply);
    for body in read.rows {
        let row = rows.next().expect("each row that was sent is read");
        reference::compare(row, body, columns);
    }
    assert!(rows.next().is_none(), "no other is read");
    Ok(())
}

/// A statement that turns out to be a COPY.
fn copy(dice: &mut Dice) -> Case {
    let mut said = query(&columns(dice), dice);
    let begins = message(b"GHW"[dice.roll(3)], &[0, 0, 1, 0, 1]);
    let data = (0..dice.roll(4)).flat_map(|_| message(b'd', b"1\t2\n")).collect();
    let at = dice.roll(said.len());
    said.splice(at..at, [begins, data, message(b'c', &[])]);
    Case::new(vec![welcome(), maybe(said.concat(), dice)], dice, |given| {
        let (mut wire, given) = given.session();
        let outcome = exchange(&mut wire, &given.stages[1], given.bytes);
        verdict(matches!(outcome, Err(WireError::Protocol("a message out of turn"))))
    })
}

fn portal(dice: &mut Dice) -> Case {
    let kinds = columns(dice);
    let pieces = 1 + dice.roll(4);
    let mut stages = vec![welcome()];
    for at in 0..pieces {
        let said = piece(&kinds, at == 0, at + 1 == pieces, dice);
        stages.push(Stage::Say(spoil_if(dice.roll(4) == 0, said, dice)));
    }
    Case::new(stages, dice, |given| {
        let (mut wire, given) = given.session();
        let all = given.stages[1..].concat();
        let mut expected = reference::portal(&all, 1).into_iter();
        wire.begin().unwrap();
        wire.own("begin", &[]).unwrap();
        let mut portal = wire.streamed(&plan(), &[]).unwrap();
        loop {
            match drive(wire.next_row(&mut portal), given.bytes) {
                Ok(Some(message)) => {
                    let body = expected.next().expect("no more rows than were sent");
                    reference::compare(wire.row(&message), body, wire.columns().len());
                }
                Ok(None) => return Verdict::Accepted,
                Err(_) => return Verdict::Refused,
            }
        }
    })
}

/// The parameters and columns of a statement, and the types that nobody knows yet.
fn types(dice: &mut Dice) -> Case {
    let kinds = columns(dice);
    let mut parameters = u16::try_from(kinds.len()).unwrap().to_be_bytes().to_vec();
    parameters.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
    let said = [message(b'1', &[]), message(b't', &parameters), description(&kinds), ready(b'I')].concat();
    let mut stages = vec![welcome(), maybe(said, dice)];
    for _ in 0..dice.roll(4) {
        let of = [("e", "0", "0"), ("d", "0", "23"), ("d", "0", "16385"), ("b", "25", "0")][dice.roll(4)];
        let found = texts(&["mood", of.0, of.1, of.2, "public", "sad\nhappy"]);
        let said = [message(b'1', &[]), message(b'2', &[]), found, message(b'C', b"SELECT 1\0"), ready(b'I')];
        stages.push(Stage::Say(spoil_if(dice.roll(3) == 0, said.concat(), dice)));
    }
    Case::new(stages, dice, |given| {
        let (mut wire, given) = given.session();
        verdict(drive(wire.plan("select $1", None), given.bytes).is_ok())
    })
}

/// The connection's holder has gone in the middle.
fn recovery(dice: &mut Dice) -> Case {
    let kinds = columns(dice);
    let rollback = [message(b'C', b"ROLLBACK\0"), ready(b'I')].concat();
    let stages = vec![welcome(), maybe(query(&kinds, dice).concat(), dice), maybe(rollback, dice)];
    Case::new(stages, dice, |given| {
        let (mut wire, mut given) = given.session();
        wire.begin().unwrap();
        wire.own("begin", &[]).unwrap();
        wire.statement(&plan(), &[]).unwrap();
        {
            let mut sent = false;
            let mut work = std::pin::pin!(wire.exchange(&mut sent));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..given.dice.roll(20) {
                if work.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
            }
        }
        let recovered = drive(wire.recover(), given.bytes).is_ok();
        assert!(!recovered || (wire.status() == TransactionStatus::Idle && wire.awaited == 0));
        verdict(recovered)
    })
}

/// Nobody uses it, and something arrives.
fn idle(dice: &mut Dice) -> Case {
    let said = match dice.roll(3) {
        0 => Vec::new(),
        1 => news(dice),
        _ => [news(dice), spoil(row(2, dice), dice), spoil(ready(b'I'), dice)].concat(),
    };
    Case::new(vec![Stage::Say(spoil_if(dice.roll(2) == 0, said, dice))], dice, |given| {
        let Given { server, bytes, connector, mut dice, stages } = given;
        let (mut wire, _) = Case::new(vec![welcome()], &mut dice, |_| Verdict::Refused).given().session();
        wire.socket = Given::socket(server.uncalled());
        let quiet = (0..4 * bytes + 200).all(|_| wire.is_quiet() && wire.is_fresh(&connector));
        assert!(!quiet, "a server that hangs up is noticed, after {:?}", stages);
        let only_news = reference::messages(&stages[0]).iter().all(|(tag, ..)| b"NSA".contains(tag));
        verdict(only_news)
    })
}

fn listening(dice: &mut Dice) -> Case {
    let notification = |dice: &mut Dice| {
        let text = [&b"orders\0"[..], b"others\0", b"orders"][dice.roll(3)];
        message(b'A', &[&[0, 0, 0, 7], text, b"what\0"].concat())
    };
    let begun = [message(b'C', b"LISTEN\0"), notification(dice), ready(b'I')].concat();
    let mut later = Vec::new();
    for _ in 0..dice.roll(10) {
        later.extend(if dice.roll(3) == 0 { news(dice) } else { notification(dice) });
    }
    let said = spoil_if(dice.roll(2) == 0, [begun, later].concat(), dice);
    Case::new(vec![welcome(), Stage::Say(said)], dice, |given| {
        const CHANNEL: Channel = Channel::new("orders").unwrap();
        let (wire, given) = given.session();
        let (queue, mut notifications) = Notifications::new(3);
        let limits = (super::STUCK, super::STUCK);
        let mut listening = Listening { wire, channels: [CHANNEL].into(), queue, limits };
        if drive(listening.begin(), given.bytes).is_err() {
            return Verdict::Refused;
        }
        drive(listening.run(), given.bytes);
        while drive(notifications.next(), 1).is_ok() {}
        Verdict::Accepted
    })
}

fn question(dice: &mut Dice) -> Case {
    let said = [&b"S"[..], b"N", b"E", b"", b"Sx", b"\0"][dice.roll(6)].to_vec();
    Case::new(vec![Stage::Say(said)], dice, |mut given| {
        let outcome = drive(asks_for_tls(&mut given.server), given.bytes);
        let first = given.stages[0].first();
        assert_eq!(
            outcome.as_ref().ok(),
            [(b'S', true), (b'N', false)].iter().find(|(byte, _)| Some(byte) == first).map(|(_, yes)| yes)
        );
        verdict(outcome.is_ok())
    })
}

fn cancel(dice: &mut Dice) -> Case {
    let length = dice.roll(3) * dice.roll(200);
    let said = (0..length).map(|_| dice.next() as u8).collect();
    Case::new(vec![Stage::Say(said)], dice, |given| {
        let cancel = Cancel { target: nowhere(), process_id: 1, secret_key: 2 };
        verdict(drive(cancel.send_on(Given::socket(given.server)), given.bytes).is_ok() && given.bytes < 100)
    })
}
