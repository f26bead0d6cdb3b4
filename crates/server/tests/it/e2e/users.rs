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
        "email;name;role;passwordHash\n\
         Milton@Initech.example;Milton Waddams;;{BCRYPT}\n\
         samir@initech.example;Samir;administrator;{DJANGO}\n\
         peter@initech.example;Peter Gibbons;;\n\
         not an address;X;;\n\
         joanna@initech.example;Joanna;no-such-role;\n\
         drew@initech.example;Drew;;5f4dcc3b5aa765d61d8327deb882cf99\n"
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
    assert_eq!(sign_in("initech", "peter@initech.example", ""), 401, "who has no password asks for a link");
    let roles = "select string_agg(built_in, ' ' order by built_in) from grants g join tenants t on t.id = g.tenant_id \
        where t.slug = 'initech'";
    assert_eq!(database.value(roles), "administrator member member");
    let audit = "select count(*)::text from audit_log where action = 'identity.imported'";
    assert_eq!(database.value(audit), "6");
    server.stop("TERM");
}
