//! `access` from the outside: questions of operators, and expectations that CI compares.

use std::fs;

use serde_json::Value;

use super::database::Database;
use super::process::{Ended, Home, run};

#[test]
fn an_operator_asks_who_may_do_what_and_compares_it_with_a_file() {
    let (home, database) = (Home::new(), Database::migrated("access_cli"));
    let data = home.path().join("data");
    let seed = [database.both().as_slice(), &[("DATA_DIR", data.to_str().unwrap())]].concat();
    assert_eq!(run(&home, &["db", "seed"], &seed).code, 0);
    let access = |arguments: &[&str], tenant: &str| -> Ended {
        let arguments = [&["access"], arguments, &["--tenant", tenant]].concat();
        run(&home, &arguments, &database.both()[..1])
    };
    let may = access(&["explain", "member@acme.example", "catalog.item.write"], "acme");
    assert_eq!(may.code, 0, "{may:?}");
    assert!(
        may.out[0].contains("Max Member <member@acme.example>") && may.out[1].contains("by member since")
    );
    let may_not = access(&["explain", "reader@acme.example", "catalog.item.write", "--json"], "acme");
    let told: Value = serde_json::from_str(&may_not.out.join("\n")).unwrap();
    assert_eq!((may_not.code, &told["because"]), (1, &"not_granted".into()));
    let who = access(&["who", "identity.tenant.own"], "globex");
    assert_eq!((who.code, who.out.len()), (0, 2), "{who:?}");
    for (arguments, tenant) in [
        (&["explain", "owner@globex.example", "catalog.item.read"][..], "acme"),
        (&["who", "catalog.item.read"], "nobody"),
        (&["test", "/no/such/file"], "acme"),
    ] {
        assert_eq!(access(arguments, tenant).code, 2, "{arguments:?}");
    }

    let file = home.path().join("expected.json");
    let test = |text: &str| {
        fs::write(&file, text).unwrap();
        access(&["test", file.to_str().unwrap()], "acme")
    };
    let good =
        r#"{"member@acme.example": {"allow": ["catalog.item.write"], "deny": ["identity.user.manage"]}}"#;
    let good = test(good);
    assert_eq!((good.code, good.out.join(" ").as_str()), (0, "All is as expected."), "{good:?}");
    // What cannot be refused is no refusal: a typing mistake would pass for one.
    for (bad, because) in [
        (r#"{"reader@acme.example": {"allow": ["catalog.item.write"]}}"#, "not_granted"),
        (r#"{"member@acme.example": {"deny": ["catalog.item.write"]}}"#, "granted"),
        (r#"{"member@acme.example": {"deny": ["catalog.items.write"]}}"#, "undeclared"),
        (r#"{"nobody@acme.example": {"deny": ["catalog.item.write"]}}"#, "no_such_principal"),
    ] {
        let bad = test(bad);
        assert_eq!((bad.code, bad.out.len()), (1, 2), "{bad:?}");
        assert!(bad.out[1].ends_with(because), "{bad:?}");
    }
    for odd in ["", "[]", r#"{"a": {"allowed": []}}"#] {
        assert_eq!(test(odd).code, 2, "{odd}");
    }
}
