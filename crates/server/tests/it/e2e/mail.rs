//! Mails from the outside: a worker that is killed while it sends, and what an operator does at a terminal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erp_testkit::MailServer;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::database::Database;
use super::process::{Ended, Home, Process, eventually, run};

const ACME: &str = "0190163d-8694-739b-aea5-966c26f8ad01";
const GLOBEX: &str = "0190163d-8694-739b-aea5-966c26f8ad02";

fn scene(name: &str) -> (Home, Database) {
    let (home, database) = (Home::new(), Database::migrated(name));
    database
        .run(&format!("insert into tenants (id, slug) values ('{ACME}', 'acme'), ('{GLOBEX}', 'globex')"));
    (home, database)
}

/// Writes so many mails of a tenant in a state, with their jobs where they are queued.
fn write(database: &Database, tenant: &str, state: &str, count: u32) {
    database.run(&format!(
        "with new as (insert into mails (id, tenant_id, template, recipient, locale, subject, text, promotional, confidential, \
         message_id, state, ended_at) select id, '{tenant}', 'tests.letter', 'to-' || n || '@example.com', 'en', 'Letter ' || n, \
         'It is salary day.', false, false, replace(id::text, '-', '') || '@example.com', '{state}', \
         case when '{state}' <> 'queued' then now() end \
         from (select n, gen_random_uuid() as id from generate_series(1, {count}) n) x returning id) \
         insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, system, origin, args, enqueued_at) \
         select '{tenant}', id, 'mail.send', 1, 0, 12, 'mail', 'req_test', jsonb_build_object('mail', id), now() from new \
         where '{state}' = 'queued'"
    ));
}

fn worker(home: &Home, database: &Database, port: &str) -> Process {
    let settings = [
        database.both()[0],
        ("PORT", "0"),
        ("HOST", "127.0.0.1"),
        ("LOG_FORMAT", "json"),
        ("JOB_WORKERS", "4"),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", port),
        ("SMTP_TLS", "none"),
        ("SMTP_FROM", "erp@example.com"),
    ];
    let process = Process::start(home, &["worker"], &settings);
    process.line("Worker started");
    process
}

#[test]
fn of_a_hundred_mails_each_arrives_though_its_worker_is_killed_and_twice_only_as_the_same_one() {
    if !MailServer::is_installed("mails of a worker that is killed") {
        return;
    }
    let (home, database) = scene("killed_mailer");
    let mut server = MailServer::with(json!({ "tls": "none", "pause": 0.02 }));
    let port = server.port().to_string();
    write(&database, ACME, "queued", 100);
    let killed = worker(&home, &database, &port);
    eventually("some are sent", || {
        database.value("select count(*) >= 30 from mails where state = 'sent'") == "true"
    });
    killed.signal("KILL");
    drop(killed.wait());
    let before = database.value("select count(*) from mails where state = 'sent'");
    assert_ne!(before, "100", "it was killed while it sent");
    let second = worker(&home, &database, &port);
    eventually("all are sent", || database.value("select count(*) from mails where state = 'sent'") == "100");
    let arrived = server.mails_so_far();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for mail in &arrived {
        let content = String::from_utf8(STANDARD.decode(mail["content"].as_str().unwrap()).unwrap()).unwrap();
        let id = content.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().to_owned();
        ids.entry(mail["to"][0].as_str().unwrap().to_owned()).or_default().insert(id);
    }
    assert_eq!(ids.len(), 100, "each arrives");
    assert!(ids.values().all(|ids| ids.len() == 1), "a repetition is known by its Message-ID: {ids:?}");
    assert!(arrived.len() <= 104, "no more than were under way come twice: {}", arrived.len());
    println!("{} of 100 mails came twice", arrived.len() - 100);
    assert_eq!(second.stop("TERM").code, 0);
}

fn mail(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["mail"], arguments].concat(), &database.both()[..1])
}

#[test]
fn an_operator_lists_mails_and_lets_them_be_sent_again() {
    let (home, database) = scene("mail_operator");
    write(&database, ACME, "held", 3);
    write(&database, GLOBEX, "failed", 2);
    write(&database, GLOBEX, "sent", 1);
    let listed = mail(&home, &database, &["list"]);
    assert_eq!((listed.code, listed.out.len()), (0, 6), "{listed:#?}");
    assert!(!listed.out.join("\n").contains("salary"), "what they say is the tenants'");
    let listed = mail(&home, &database, &["list", "--tenant", "globex", "--state", "failed", "--json"]);
    let rows: Value = serde_json::from_str(&listed.out.join("\n")).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let id = rows[0]["id"].as_str().unwrap();
    assert_eq!(mail(&home, &database, &["show", id]).code, 0);
    assert_eq!(mail(&home, &database, &["show", ACME]).code, 1, "there is none of that id");
    assert_eq!(mail(&home, &database, &["retry"]).code, 2, "which ones?");
    assert_eq!(mail(&home, &database, &["list", "--tenant", "nobody"]).code, 2);
    let retried = mail(&home, &database, &["retry", "--state", "held", "--json"]);
    assert_eq!(retried.out, [r#"{"retried":3}"#], "{retried:#?}");
    assert_eq!(mail(&home, &database, &["retry", id, "--json"]).out, [r#"{"retried":1}"#]);
    assert_eq!(
        mail(&home, &database, &["retry", id, "--json"]).out,
        [r#"{"retried":0}"#],
        "it is queued already"
    );
    let queued = "select count(*) from mails m join job_ready j using (tenant_id, id) where m.state = 'queued' and j.system = 'mail'";
    assert_eq!(database.value(queued), "4");
    let audited = "select string_agg(action || ' ' || (details ->> 'mails'), ', ' order by details ->> 'mails') from audit_log \
        where action = 'mail.retried'";
    assert_eq!(database.value(audited), "mail.retried 1, mail.retried 3");
    database.run(&format!(
        "insert into mail_suppressions (id, tenant_id, address, reason, mail) values \
         (gen_random_uuid(), '{ACME}', 'a@example.com', 'bounced', gen_random_uuid())"
    ));
    let listed = mail(&home, &database, &["suppressions", "--tenant", "acme"]);
    assert!(listed.out[0].contains("bounced") && listed.out[0].contains("a@example.com"), "{listed:#?}");
    assert_eq!(
        mail(&home, &database, &["suppressions", "--tenant", "globex"]).out,
        ["Every address gets mail."]
    );
}

#[test]
fn an_operator_tries_the_settings_of_mail_out_and_is_told_where_they_fail() {
    let home = Home::new();
    let test = |settings: &[(&str, &str)]| run(&home, &["mail", "test", "--to", "bob@example.com"], settings);
    let ended = test(&[]);
    assert_eq!(ended.code, 78, "{ended:#?}");
    assert!(ended.err[0].contains("SMTP_HOST is not set"), "{ended:#?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let ended = test(&[("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", &free), ("SMTP_FROM", "erp@example.com")]);
    assert_eq!(ended.code, 69, "{ended:#?}");
    assert!(
        ended.err[0].contains("at the stage 'connect'") && ended.err[0].contains("firewall"),
        "{ended:#?}"
    );
    let ended = run(&home, &["mail", "test", "--to", "nobody"], &[]);
    assert_eq!(ended.code, 2, "{ended:#?}");
    if !MailServer::is_installed("mail test against a real server") {
        return;
    }
    let server = MailServer::start();
    let port = server.port().to_string();
    let settings =
        [("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", port.as_str()), ("SMTP_FROM", "erp@example.com")];
    let ended = test(&settings);
    assert_eq!(ended.code, 69, "{ended:#?}");
    assert!(ended.err[0].contains("does not offer starttls"), "{ended:#?}");
    let clear = [settings[0], settings[1], settings[2], ("SMTP_TLS", "none")];
    let ended = test(&clear);
    assert_eq!(
        (ended.code, ended.out.as_slice()),
        (0, &["The mail server has taken a mail to bob@example.com.".to_owned()][..])
    );
    let ended = run(&home, &["mail", "test", "--to", "550@example.com", "--json"], &clear);
    let said: Value = serde_json::from_str(&ended.out[0]).unwrap();
    assert_eq!((ended.code, &said["sent"]), (69, &json!(false)));
    assert!(said["failure"].as_str().unwrap().contains("550 5.1.1"), "{said}");
    let staging = [clear.as_slice(), &[("APP_ENV", "staging")]].concat();
    assert_eq!(test(&staging).code, 78, "staging wants its settings, and lists nobody");
}
