//! Tenants from the outside: made by an operator at a terminal, brought to life by their first owner, suspended and closed.

use serde_json::{Value, json};

use super::database::Database;
use super::http::Client;
use super::process::{Ended, Home, Process, run};

const PASSWORD: &str = "correct horse battery staple";

fn tenant(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["tenant"], arguments].concat(), &database.both()[..1])
}

fn told(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:#?}");
    serde_json::from_str(&ended.out.join("\n")).unwrap()
}

#[test]
fn a_company_comes_on_board_and_is_suspended_and_resumed() {
    let (home, database) = (Home::new(), Database::migrated("tenants"));
    let empty = tenant(&home, &database, &["list"]);
    assert!(empty.out[0].starts_with("There is no tenant yet"), "{empty:#?}");
    let create = ["create", "initech", "--name", "Initech", "--owner", "bill@initech.example", "--json"];
    let first = told(&tenant(&home, &database, &create));
    assert_eq!((&first["created"], &first["slug"]), (&json!(true), &json!("initech")));
    // Said again, it gives another link, and the one before ends.
    let second = told(&tenant(&home, &database, &create));
    assert_eq!((&second["created"], &second["id"]), (&json!(false), &first["id"]));

    let settings = [database.both()[0], ("PORT", "0"), ("HOST", "127.0.0.1"), ("RATE_LIMIT_AUTH_MAX", "100")];
    let server = Process::serve(&home, &settings);
    let client = Client::new(&server.address());
    let post = |path: &str, body: &Value| {
        let answer = client.post(path, body).unwrap();
        (answer.status, answer.json())
    };
    let accept = |made: &Value| {
        let link = made["invitation"].as_str().unwrap();
        let token = link.split_once("/invitation?token=").unwrap().1;
        let body = json!({ "token": token, "name": "Bill Lumbergh", "password": PASSWORD });
        post("/api/v1/invitations/accept", &body).0
    };
    assert_eq!((accept(&first), accept(&second)), (410, 200));
    let sign_in = || {
        let body = json!({ "tenant": "initech", "email": "bill@initech.example", "password": PASSWORD });
        post("/api/v1/auth/login", &body)
    };
    let (status, tokens) = sign_in();
    assert_eq!(status, 200, "{tokens}");
    let taken = tenant(&home, &database, &create);
    assert_eq!((taken.code, taken.err.len()), (1, 1), "{taken:#?}");

    let suspended = tenant(&home, &database, &["suspend", "initech", "--why", "unpaid"]);
    assert_eq!(suspended.code, 0, "{suspended:#?}");
    assert_eq!(sign_in().0, 401);
    let again = tenant(&home, &database, &["suspend", "initech", "--why", "unpaid"]);
    assert_eq!(again.code, 1, "{again:#?}");
    assert_eq!(tenant(&home, &database, &["resume", "initech", "--why", "paid"]).code, 0);
    assert_eq!(sign_in().0, 200);
    let audit =
        "select string_agg(action, ' ' order by seq) from audit_log where action like 'identity.tenant%'";
    let audit = database.value(audit);
    assert_eq!(
        audit,
        "identity.tenant_created identity.tenant_created identity.tenant_suspended identity.tenant_resumed"
    );
    assert_eq!(tenant(&home, &database, &["close", "nobody", "--why", "x"]).code, 2);
    for bad in ["Initech", "-x", "x-", "", "canary_one"] {
        let refused = tenant(&home, &database, &["create", bad, "--name", "X", "--owner", "x@example.com"]);
        assert_eq!(refused.code, 2, "{bad}: {refused:#?}");
    }
    let reserved = tenant(&home, &database, &["suspend", "canary-one", "--why", "x"]);
    assert_eq!(reserved.code, 1, "{reserved:#?}");
    server.stop("TERM");
}
