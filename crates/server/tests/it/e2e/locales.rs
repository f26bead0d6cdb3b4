//! Databases of other locales and encodings: served alike, or refused before anything is made in them.

use serde_json::json;

use super::database::Database;
use super::http::Client;
use super::process::{Home, Process, run};

/// Makes a database of a locale, and goes from migrating to searching in any case.
fn serves(name: &str, options: &str) {
    let (home, database) = (Home::new(), Database::made_with(name, options));
    let migrated = run(&home, &["db", "migrate"], &database.both());
    assert_eq!(migrated.code, 0, "{migrated:#?}");
    let check = run(&home, &["db", "check"], &database.both());
    assert_eq!(check.code, 0, "{check:#?}");
    let server = Process::serve(&home, &database.both());
    let client = Client::signed_in(&server.address(), home.path());
    let made = client.post("/api/v1/items", &json!({ "sku": "TITLE-I", "name": "\u{c4}PFEL" })).unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    for q in ["%C3%A4pfel", "title-i"] {
        let found = client.get(&format!("/api/v1/items?q={q}")).unwrap().json();
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "{q}: {found}");
    }
    let again = client.post("/api/v1/items", &json!({ "sku": "title-i", "name": "x" })).unwrap();
    assert_eq!(again.status, 409, "{again:?}");
}

#[test]
fn a_database_of_a_turkish_locale_is_served_as_any_other() {
    let turkish =
        "template template0 encoding 'UTF8' locale 'C.UTF-8' locale_provider icu icu_locale 'tr-TR'";
    serves("turkish", turkish);
}

#[test]
fn a_search_knows_upper_and_lower_case_in_a_database_of_locale_c() {
    serves("plain", "template template0 encoding 'UTF8' locale 'C'");
}

#[test]
fn another_encoding_than_utf8_is_refused_before_the_first_migration() {
    for encoding in ["SQL_ASCII", "LATIN1", "WIN1252"] {
        let name = format!("in_{}", encoding.to_ascii_lowercase());
        let options = format!("template template0 encoding '{encoding}' locale 'C'");
        let (home, database) = (Home::new(), Database::made_with(&name, &options));
        for arguments in [&["db", "migrate"][..], &[]] {
            let refused = run(&home, arguments, &database.both());
            assert_eq!((refused.code, refused.err.len()), (78, 1), "{refused:#?}");
            for part in [encoding, "createdb --template=template0 --encoding=UTF8"] {
                assert!(refused.err[0].contains(part), "{refused:#?}");
            }
        }
        assert_eq!(database.value("select to_regnamespace('app') is null"), "true", "{encoding}");
        let check = run(&home, &["db", "check"], &database.both());
        assert_eq!(check.code, 1, "{check:#?}");
        assert!(check.out.iter().any(|line| line.starts_with("FAIL encoding")), "{check:#?}");
    }
}
