//! People from another system, brought into a tenant by an operator, with the hashes of their passwords.

use std::fs;

use serde_json::{Value, json};

use super::database::Database;
use super::http::Client;
use super::process::{Ended, Home, Process, run};

const OLD: &str = "correct horse battery stäple";
/// Of that password.
const BCRYPT: &str = "$2b$04$L9.euXYCCUt0SvyyCNl/HOTCzN.1mhJb5daYBCnIJ0RIhFiDqXt5C";
const DJANGO: &str = "pbkdf2_sha256$1000$seasalt$603ieDNyKJZNvuZOW7/jEm04THNxl4bN9ChJnetSntI=";

fn say(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, arguments, &database.both()[..1])
}

/// With the demo tenants.
fn seeded(name: &str) -> (Home, Database) {
    let (home, database) = (Home::new(), Database::migrated(name));
    let data = home.path().join("data");
    let settings = [database.both().as_slice(), &[("DATA_DIR", data.to_str().unwrap())]].concat();
    let seeded = run(&home, &["db", "seed"], &settings);
    assert_eq!(seeded.code, 0, "{seeded:#?}");
    (home, database)
}

fn told(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out.join("\n")).unwrap_or_else(|_| panic!("{ended:#?}"))
}

#[test]
fn people_come_with_hashes_of_another_system_and_those_who_are_there_keep_their_own() {
    let (home, database) = (Home::new(), Database::migrated("users"));
    for slug in ["initech", "globex"] {
        let owner = format!("owner@{slug}.example");
        let create = ["tenant", "create", slug, "--name", slug, "--owner", &owner, "--json"];
        assert_eq!(say(&home, &database, &create).code, 0);
    }
    let file = home.path().join("people.csv");
    let rows = format!(
        "email;name;role;passwordHash;changePassword\n\
         Milton@Initech.example;Milton Waddams;;{BCRYPT};\n\
         samir@initech.example;Samir;administrator;{DJANGO};true\n\
         peter@initech.example;Peter Gibbons;;;\n\
         not an address;X;;;\n\
         joanna@initech.example;Joanna;no-such-role;;\n\
         drew@initech.example;Drew;;5f4dcc3b5aa765d61d8327deb882cf99;\n"
    );
    fs::write(&file, rows).unwrap();
    let file = file.to_str().unwrap();
    let import = |tenant: &str, extra: &[&str]| {
        let ended = say(&home, &database, &[&["user", "import", tenant, file, "--json"], extra].concat());
        let told = told(&ended);
        let counts = ["rows", "created", "joined", "unchanged"].map(|name| told[name].as_u64().unwrap());
        let rejected: Vec<u64> =
            told["rejected"].as_array().unwrap().iter().map(|row| row["row"].as_u64().unwrap()).collect();
        (ended.code, counts, rejected)
    };
    assert_eq!(import("initech", &["--dry-run"]), (1, [6, 3, 0, 0], vec![5, 6, 7]));
    assert_eq!(
        database.value("select count(*)::text from auth.people where email like '%@initech.example'"),
        "0"
    );
    assert_eq!(import("initech", &[]), (1, [6, 3, 0, 0], vec![5, 6, 7]));
    assert_eq!(import("initech", &[]), (1, [6, 0, 0, 3], vec![5, 6, 7]), "again, it changes nothing");
    // Another tenant's file cannot take an account over: the password that is there stays.
    let other = fs::read_to_string(file).unwrap().replace(BCRYPT, DJANGO);
    fs::write(file, other).unwrap();
    assert_eq!(import("globex", &["--role", "read-only"]), (1, [6, 0, 3, 0], vec![5, 6, 7]));
    let kept = "select phc from auth.passwords join auth.people on id = person_id where email = 'milton@initech.example'";
    assert_eq!(database.value(kept), BCRYPT);
    assert_eq!(say(&home, &database, &["user", "import", "nobody", file]).code, 2);

    let settings = [database.both()[0], ("PORT", "0"), ("HOST", "127.0.0.1")];
    let server = Process::serve(&home, &settings);
    let client = Client::new(&server.address());
    let sign_in = |tenant: &str, email: &str, password: &str| {
        let body = json!({ "tenant": tenant, "email": email, "password": password });
        client.post("/api/v1/auth/login", &body).unwrap().status
    };
    assert_eq!(sign_in("initech", "milton@initech.example", OLD), 200);
    assert!(database.value(kept).starts_with("$argon2id$v=19$m=19456"), "and is hashed as ours are");
    assert_eq!(sign_in("globex", "milton@initech.example", OLD), 200);
    assert_eq!(sign_in("initech", "samir@initech.example", OLD), 200);
    let demanded = "select string_agg(email || ' ' || demanded::text, ' ') from auth.people where cardinality(demanded) > 0";
    assert_eq!(database.value(demanded), "samir@initech.example {change-password}");
    assert_eq!(sign_in("initech", "peter@initech.example", ""), 401, "who has no password asks for a link");
    let roles = "select string_agg(built_in, ' ' order by built_in) from grants g join tenants t on t.id = g.tenant_id \
        where t.slug = 'initech'";
    assert_eq!(database.value(roles), "administrator member member");
    let audit = "select count(*)::text from audit_log where action = 'identity.imported'";
    assert_eq!(database.value(audit), "6");
    server.stop("TERM");
}

#[test]
fn operators_find_people_keep_them_out_and_erase_them_by_command() {
    let (home, database) = seeded("people_moved");
    let person = "member@acme.example";
    let say = |arguments: &[&str]| say(&home, &database, arguments);
    let listed = told(&say(&["user", "list", "--tenant", "acme", "--json"]));
    let emails: Vec<&str> = listed.as_array().unwrap().iter().map(|p| p["email"].as_str().unwrap()).collect();
    assert!(emails.contains(&person) && !emails.iter().any(|email| email.contains("globex")), "{emails:?}");
    let status =
        |who: &str| told(&say(&["user", "show", who, "--json"]))["status"].as_str().unwrap().to_owned();
    for (verb, after) in [("disable", "disabled"), ("enable", "active"), ("sign-out", "active")] {
        assert_eq!(say(&["user", verb, person, "--why", "Asked for"]).code, 0, "{verb}");
        assert_eq!(status(person), after, "{verb}");
    }
    let demand = |more: &[&str]| {
        say(&[&["user", "demand", person, "change-password", "--why", "Seen elsewhere"], more].concat()).code
    };
    let demanded =
        || database.value("select demanded::text from auth.people where email = 'member@acme.example'");
    assert_eq!((demand(&[]), demanded()), (0, "{change-password}".to_owned()));
    assert_eq!((demand(&["--withdraw"]), demanded()), (0, "{}".to_owned()));
    assert_eq!(say(&["user", "demand", person, "dance", "--why", "x"]).code, 2);
    assert_eq!(say(&["user", "remove-factor", person, "--why", "Lost"]).code, 1, "there is none");
    assert_eq!(say(&["user", "disable", "nobody@acme.example", "--why", "x"]).code, 2);
    assert_eq!(say(&["user", "disable", person, "--why", " "]).code, 2);
    let id = told(&say(&["user", "show", person, "--json"]))["id"].as_str().unwrap().to_owned();
    assert_eq!(say(&["user", "erase", person, "--why", "Asked for"]).code, 2, "nobody said yes");
    assert_eq!(say(&["user", "erase", person, "--why", "Asked for", "--yes"]).code, 0);
    assert_eq!(status(&id), "erased");
    assert_eq!(say(&["user", "show", person]).code, 2);
    assert_eq!(say(&["user", "erase", "owner@acme.example", "--why", "Asked for", "--yes"]).code, 1);
}

#[test]
fn operators_revoke_keys_and_give_and_take_roles_by_command() {
    let (home, database) = seeded("access_moved");
    let say = |arguments: &[&str]| say(&home, &database, &[arguments, &["--tenant", "acme"]].concat());
    let member = "member@acme.example";
    let roles = || {
        let listed = told(&say(&["role", "list", "--json"]));
        let holders = |name: &str| {
            listed.as_array().unwrap().iter().find(|role| role["name"] == name).unwrap()["holders"]
                .as_u64()
                .unwrap()
        };
        (holders("owner"), holders("auditor"))
    };
    assert_eq!(roles(), (1, 0));
    assert_eq!(
        say(&["role", "give", member, "Auditor", "--why", "The audit", "--until", "2099-01-01T00:00Z"]).code,
        0
    );
    assert_eq!(say(&["role", "give", member, "auditor", "--why", "Again"]).code, 1);
    assert_eq!(roles(), (1, 1));
    assert_eq!(say(&["role", "take", member, "auditor", "--why", "Done"]).code, 0);
    assert_eq!(say(&["role", "take", member, "auditor", "--why", "Done"]).code, 1);
    assert_eq!(say(&["role", "give", member, "no-such-role", "--why", "x"]).code, 2);
    assert_eq!(say(&["role", "give", "nobody@acme.example", "owner", "--why", "x"]).code, 2);
    assert_eq!(
        say(&["role", "take", "owner@acme.example", "owner", "--why", "x"]).code,
        1,
        "the last owner stays"
    );
    let told_roles = database.value(
        "select string_agg(action, ' ' order by seq) from audit_log where action like 'identity.role\\_%'",
    );
    assert_eq!(told_roles, "identity.role_given identity.role_taken_back");

    database.run(
        "insert into api_keys (tenant_id, id, principal_id, name, scopes, hash, created_by) \
           select m.tenant_id, '0190163d-8694-739b-aea5-966c26f8ad91', m.user_id, 'Script', '{catalog.item.read}', sha256('x'), m.user_id \
           from memberships m where m.email = 'member@acme.example'",
    );
    let keys = told(&say(&["key", "list", "--json"]));
    assert_eq!((&keys[0]["name"], &keys[0]["holder"]), (&json!("Script"), &json!(member)), "{keys}");
    let id = keys[0]["id"].as_str().unwrap();
    assert_eq!(say(&["key", "revoke", id, "--why", "Found in public"]).code, 0);
    assert_eq!(say(&["key", "revoke", id, "--why", "Found in public"]).code, 2);
    assert_eq!(told(&say(&["key", "list", "--json"])), json!([]));
    let review = say(&["access", "review", "--json"]);
    assert_eq!((review.code, told(&review)), (0, json!([])));
}

#[test]
fn a_shell_completes_verbs_and_flags() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&home, &["completions", shell], &[]);
        let text = script.out.join("\n");
        assert_eq!(script.code, 0, "{shell}");
        for part in ["remove-factor", "jwt-secret-file"] {
            assert!(text.contains(part), "{shell}: {part}");
        }
    }
    assert_eq!(run(&home, &["completions", "cobol"], &[]).code, 2);
}
