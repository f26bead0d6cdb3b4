//! `db reset`: the private database of development goes, and nothing else does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::process::{Home, Process, run};

#[test]
fn the_private_database_is_reset_where_it_lies() {
    let home = Home::new();
    // A folder that PostgreSQL's account cannot reach, where we are root: the data then lie elsewhere.
    let locked = home.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    let data = locked.join("data");
    let settings = [("DATA_DIR", data.to_str().unwrap())];

    let server = Process::serve(&home, &settings);
    if fs::metadata(home.path()).unwrap().uid() == 0 {
        let line = server.line("The private database lies in ");
        assert!(line.contains("/tmp/erp-backend-") && line.contains("cannot reach"), "{line}");
    }
    let busy = run(&home, &["db", "reset", "--yes"], &settings);
    assert_eq!((busy.code, busy.err.len()), (73, 1), "a server is using it: {busy:#?}");
    assert_eq!(server.stop("TERM").code, 0);

    let unconfirmed = run(&home, &["db", "reset"], &settings);
    assert_eq!((unconfirmed.code, unconfirmed.err.len()), (2, 1), "{unconfirmed:#?}");
    assert!(unconfirmed.err[0].contains("--yes"), "{unconfirmed:#?}");
    let reset = run(&home, &["db", "reset", "--yes"], &settings);
    assert_eq!(reset.code, 0, "{reset:#?}");
    let place = reset.out[0].strip_prefix("The private database in ").unwrap().split(' ').next().unwrap();
    assert!(place.ends_with("/data") && !fs::exists(place).unwrap(), "{reset:#?}");
    let server = Process::serve(&home, &settings);
    server.line("Migration applied");
    assert_eq!(server.stop("TERM").code, 0);
    assert_eq!(run(&home, &["db", "reset", "--yes"], &settings).code, 0);
}

#[test]
fn a_database_that_is_not_private_is_never_reset() {
    let home = Home::new();
    let production = [
        ("APP_ENV", "production"),
        ("JWT_SECRET", "kX9v-2mQ7r-Tz4w_L8pYs3-Nf6b-Hd1c-Jg5a"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("DATABASE_URL", "postgresql://erp_app@localhost/erp"),
    ];
    let own = [("DATABASE_URL", "postgresql://erp_app@localhost/erp")];
    for (settings, why) in [(&production[..], "in development only"), (&own, "of your own")] {
        let refused = run(&home, &["db", "reset", "--yes"], settings);
        assert_eq!((refused.code, refused.err.len()), (2, 1), "{refused:#?}");
        assert!(refused.err[0].contains(why), "{refused:#?}");
    }
}
