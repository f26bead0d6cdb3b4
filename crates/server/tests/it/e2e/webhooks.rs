//! What an operator sees of webhooks at a terminal, and does about them.

use serde_json::{Value, json};

use super::database::Database;
use super::process::{Ended, Home, run};

const ACME: &str = "0190163d-8694-739b-aea5-966c26f8ad01";
const GLOBEX: &str = "0190163d-8694-739b-aea5-966c26f8ad02";
const WELL: &str = "0190163d-8694-739b-aea5-966c26f8ae01";
const FAILING: &str = "0190163d-8694-739b-aea5-966c26f8ae02";
const GONE: &str = "0190163d-8694-739b-aea5-966c26f8ae03";

/// Two endpoints of one tenant, one of them failing, and a disabled one of another; each with deliveries.
fn scene(name: &str) -> (Home, Database) {
    let (home, database) = (Home::new(), Database::migrated(name));
    database
        .run(&format!("insert into tenants (id, slug) values ('{ACME}', 'acme'), ('{GLOBEX}', 'globex')"));
    let add = |tenant: &str, webhooks: &str, health: &str| {
        database.run(&format!(
            "set app.tenant_id = '{tenant}'; set app.actor = 'test'; \
             insert into webhooks (id, url, events, enabled, disabled_reason, disabled_at) values {webhooks}; \
             insert into webhook_health (webhook_id, failures, failing_since, rests_until) values {health}; \
             insert into webhook_deliveries (id, webhook_id, number, name, aggregate_id, status, next_at) \
             select gen_random_uuid(), id, n, 'a.b', id, s, case s when 'pending' then now() + interval '1 hour' end \
             from webhooks, unnest('{{succeeded,failed,held,pending}}'::text[]) with ordinality x (s, n) where tenant_id = '{tenant}'"
        ));
    };
    let webhooks = format!(
        "('{WELL}', 'https://hooks.acme.example/secret-path', '{{a.b}}', true, null, null), \
         ('{FAILING}', 'https://slow.acme.example:8443/secret-path', '{{a.b}}', true, null, null)"
    );
    let health = format!("('{WELL}', 0, null, null), ('{FAILING}', 7, now(), now() + interval '1 hour')");
    add(ACME, &webhooks, &health);
    let webhooks = format!("('{GONE}', 'https://hooks.globex.example', '{{a.b}}', false, 'gone', now())");
    add(GLOBEX, &webhooks, &format!("('{GONE}', 1, now(), null)"));
    (home, database)
}

fn webhooks(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["webhooks"], arguments].concat(), &database.both()[..1])
}

fn rows(ended: &Ended) -> Vec<Value> {
    let parsed: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    parsed.as_array().unwrap().clone()
}

#[test]
fn an_operator_lists_and_shows_webhooks_without_what_is_secret() {
    let (home, database) = scene("webhook_list");
    let asked = |arguments: &[&str]| webhooks(&home, &database, arguments);
    let listed = asked(&["list"]);
    assert_eq!((listed.code, listed.out.len()), (0, 3), "{listed:#?}");
    let text = listed.out.join("\n");
    assert!(text.contains("https://slow.acme.example:8443") && !text.contains("secret-path"), "{text}");
    assert!(listed.out[0].contains("gone") && listed.out[1].contains("failing"), "{text}");
    for (narrowed, id) in [
        (&["list", "--state", "failing", "--json"][..], FAILING),
        (&["list", "--state", "disabled", "--json"], GONE),
        (&["list", "--tenant", "globex", "--json"], GONE),
        (&["list", "--tenant", "acme", "--limit", "1", "--json"], FAILING),
    ] {
        let listed = rows(&asked(narrowed));
        assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(id)), "{narrowed:?}");
    }
    assert_eq!(asked(&["list", "--tenant", "acme", "--state", "disabled"]).out, ["No webhook matches."]);
    let shown = asked(&["show", FAILING]);
    let row = &rows(&shown)[0];
    assert_eq!((shown.code, &row["failures"], &row["pending"]), (0, &json!(7), &json!(1)));
    assert_eq!(row["deliveries"].as_array().unwrap().len(), 4);
    assert!(!shown.out.join("\n").contains("secret-path"));
    assert_eq!(asked(&["show", ACME]).code, 1, "there is none of that id");
    for wrong in [&["list", "--tenant", "nobody"][..], &["list", "--state", "odd"], &["show"], &["show", "7"]]
    {
        assert_eq!(asked(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn an_operator_switches_webhooks_and_lets_deliveries_be_sent_again() {
    let (home, database) = scene("webhook_steer");
    let asked = |arguments: &[&str]| webhooks(&home, &database, arguments);
    assert_eq!(asked(&["retry"]).code, 2, "which ones?");
    let unsure = asked(&["retry", "--tenant", "acme"]);
    assert_eq!(unsure.code, 2, "{unsure:#?}");
    assert!(unsure.err[0].contains("2 webhooks match, and nothing was done"), "{unsure:#?}");
    let retried = asked(&["retry", FAILING, "--json"]);
    assert_eq!(retried.code, 0, "{retried:#?}");
    assert_eq!(retried.out, [r#"{"deliveries":3,"matched":1,"retried":1}"#]);
    let due = "select count(*) from webhook_deliveries where status = 'pending' and next_at <= now()";
    assert_eq!(database.value(due), "3");
    assert_eq!(database.value("select count(*) from webhook_health where rests_until is not null"), "0");
    let jobs = "select string_agg(kind || ' ' || unique_key || ' ' || system, ', ') from job_ready";
    assert_eq!(database.value(jobs), format!("webhooks.deliver {FAILING} webhooks"));
    let disabled = asked(&["disable", "--tenant", "acme", "--yes"]);
    assert_eq!((disabled.code, &disabled.out[0][..]), (0, "Of 2 webhooks that match 2 are disabled."));
    let retried = asked(&["retry", WELL, "--json"]);
    assert_eq!((retried.code, &retried.out[0][..]), (1, r#"{"deliveries":0,"matched":0,"retried":0}"#));
    let enabled = asked(&["enable", FAILING, GONE, "--json"]);
    assert_eq!(enabled.out, [r#"{"deliveries":null,"enabled":2,"matched":2}"#], "{enabled:#?}");
    let state = "select string_agg(enabled::text || ' ' || coalesce(disabled_reason, '-') || ' ' || failures, ', ' order by id) \
        from webhooks w join webhook_health h on h.webhook_id = w.id";
    assert_eq!(database.value(state), "false switched_off 0, true - 0, true - 0");
    let audited = "select string_agg(t.slug || ' ' || action || ' ' || actor, ', ' order by t.slug, a.seq) \
        from audit_log a join tenants t on t.id = a.tenant_id where action like 'webhook.%' and actor like 'system:%'";
    let by = "system:webhook-operators";
    assert_eq!(
        database.value(audited),
        format!(
            "acme webhook.deliveries_retried {by}, acme webhook.updated {by}, acme webhook.updated {by}, acme webhook.updated {by}, \
             globex webhook.updated {by}"
        )
    );
}
