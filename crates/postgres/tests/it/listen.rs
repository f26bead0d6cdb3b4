//! LISTEN and NOTIFY, and what the server says in the middle of an exchange.

use std::future::Future;

use erp_postgres::{Channel, Event, Notifications, TransactionStatus, Wire, WireError};
use tokio::time::timeout;

use super::{PATIENCE, ask, connector};

const NOTIFY: &str = "select pg_notify($1, $2)";

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("nothing takes so long")
}

async fn notify(wire: &mut Wire, channel: Channel, payload: &str) {
    ask(wire, NOTIFY, &[&channel.name(), &payload], |_| Ok(())).await.unwrap();
}

/// What comes next, which is a notification.
async fn payload(notifications: &mut Notifications) -> (Channel, String) {
    match within(notifications.next()).await.unwrap() {
        Event::Notification(notification) => (notification.channel, notification.payload),
        Event::Lost(lost) => panic!("{lost} were lost"),
    }
}

#[tokio::test]
async fn what_others_say_arrives_in_order_with_its_payload() {
    const ORDERS: Channel = Channel::new("it_orders").unwrap();
    const ITEMS: Channel = Channel::new("it_items").unwrap();
    const OTHER: Channel = Channel::new("it_nobody").unwrap();
    let connector = connector();
    let (mut notifications, listening) = connector.listen(&[ORDERS, ITEMS], 100).await.unwrap();
    let running = tokio::spawn(listening.run());
    let mut speaker = connector.connect().await.unwrap();
    let longest = "€".repeat(2666); // 7998 bytes: PostgreSQL takes less than 8000
    notify(&mut speaker, OTHER, "nobody hears it").await;
    for (channel, text) in [(ORDERS, "1"), (ITEMS, ""), (ORDERS, "ünï\u{1F600}\n\"'\\"), (ORDERS, &longest)]
    {
        notify(&mut speaker, channel, text).await;
        assert_eq!(payload(&mut notifications).await, (channel, text.to_owned()));
    }
    // What one transaction says arrives at its end, once for each text.
    const MANY: &str = "select pg_notify('it_orders', n::text) from generate_series(1, 50) n";
    ask(&mut speaker, MANY, &[], |_| Ok(())).await.unwrap();
    for number in 1..=50 {
        assert_eq!(payload(&mut notifications).await, (ORDERS, number.to_string()));
    }
    drop(notifications);
    within(running).await.unwrap();
}

#[tokio::test]
async fn who_takes_nothing_holds_up_nobody_and_is_told_what_was_lost() {
    const BUSY: Channel = Channel::new("it_busy").unwrap();
    const FLOOD: &str = "select pg_notify('it_busy', n || repeat('x', 4000)) from generate_series(1, 5000) n";
    let connector = connector();
    let (mut notifications, listening) = connector.listen(&[BUSY], 10).await.unwrap();
    let _running = tokio::spawn(listening.run());
    let mut speaker = connector.connect().await.unwrap();
    ask(&mut speaker, FLOOD, &[], |_| Ok(())).await.unwrap();
    // 20 MB, more than any socket holds: they were read, though nobody took them.
    let usage = "select pg_notification_queue_usage() as used";
    let all_read = async {
        while ask(&mut speaker, usage, &[], |row| row.try_get::<f64>("used")).await.unwrap() != [0.0] {
            tokio::task::yield_now().await;
        }
    };
    within(all_read).await;
    let mut seen = 0;
    loop {
        match within(notifications.next()).await.unwrap() {
            Event::Notification(_) => seen += 1,
            Event::Lost(lost) => {
                assert_eq!((seen, lost), (10, 4990));
                break;
            }
        }
    }
    notify(&mut speaker, BUSY, "again").await;
    assert_eq!(payload(&mut notifications).await.1, "again");
}

#[tokio::test]
async fn the_end_of_the_connection_is_told_with_its_reason() {
    const ENDED: Channel = Channel::new("it_ended").unwrap();
    const KILL: &str =
        "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen it_ended'";
    let connector = connector();
    let (mut notifications, listening) = connector.listen(&[ENDED], 10).await.unwrap();
    let running = tokio::spawn(listening.run());
    let mut speaker = connector.connect().await.unwrap();
    notify(&mut speaker, ENDED, "the last").await;
    assert_eq!(payload(&mut notifications).await.1, "the last");
    ask(&mut speaker, KILL, &[], |_| Ok(())).await.unwrap();
    let why = within(notifications.next()).await.unwrap_err();
    assert_eq!(why.server().unwrap().state.code(), "57P01", "{why}");
    assert!(matches!(within(notifications.next()).await, Err(WireError::Closed)));
    within(running).await.unwrap();
    // A task that was aborted leaves nobody waiting either.
    let (mut notifications, listening) = connector.listen(&[ENDED], 10).await.unwrap();
    drop(listening);
    assert!(matches!(within(notifications.next()).await, Err(WireError::Closed)));
}

#[tokio::test]
async fn notices_notifications_and_changed_settings_disturb_no_exchange() {
    const LISTEN: &str = "listen it_middle";
    const LOUD: &str =
        "create or replace function pg_temp.loud(n int) returns int language plpgsql as $$ begin
        raise notice 'row %', n; perform set_config('application_name', 'it ' || n, false);
        perform set_config('TimeZone', 'Etc/GMT+' || n % 10, false); return n; end $$";
    const ROWS: &str = "select pg_temp.loud(n) as n from generate_series(1, 2000) n";
    const FAILS: &str = "select pg_temp.loud(n) / (n - 1500) as n from generate_series(1, 2000) n";
    let connector = connector();
    let (mut wire, mut speaker) = (connector.connect().await.unwrap(), connector.connect().await.unwrap());
    for sql in [LISTEN, LOUD, "set client_min_messages = notice"] {
        wire.begin().unwrap();
        wire.own(sql, &[]).unwrap();
        wire.exchange(&mut false).await.unwrap();
    }
    let all: Vec<i32> = (1..=2000).collect();
    for round in 0..5 {
        notify(&mut speaker, Channel::new("it_middle").unwrap(), &"x".repeat(5000)).await;
        let rows = ask(&mut wire, ROWS, &[], |row| row.try_get::<i32>("n")).await.unwrap();
        assert_eq!(rows, all, "round {round}");
        assert_eq!((wire.status(), wire.is_broken()), (TransactionStatus::Idle, false));
        let refusal = ask(&mut wire, FAILS, &[], |row| row.try_get::<i32>("n")).await.unwrap_err();
        assert_eq!(refusal.server().unwrap().state.code(), "22012");
        assert!(wire.is_fit(&connector).await);
    }
    // The same in pieces, with a notification between two of them.
    let plan = wire.plan(ROWS, None).await.unwrap();
    wire.begin().unwrap();
    wire.own("begin", &[]).unwrap();
    let mut portal = wire.streamed(&plan, &[]).unwrap();
    let mut rows = Vec::new();
    while let Some(message) = wire.next_row(&mut portal).await.unwrap() {
        rows.push(wire.row(&message).unwrap().try_get::<i32>("n").unwrap());
        if rows.len() % 500 == 0 {
            notify(&mut speaker, Channel::new("it_middle").unwrap(), "").await;
        }
    }
    assert_eq!((rows, wire.status()), (all, TransactionStatus::Open));
    wire.recover().await.unwrap();
}
