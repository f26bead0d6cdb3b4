use std::fs;
use std::io;
use std::path::Path;

use crate::lifecycle::{Exit, StartError};

use super::binaries::Binaries;
use super::place::{ClusterPlace, SUPERUSER, unusable};

/// The folder initdb works in, followed by our process id, until it is done.
const UNFINISHED: &str = "data.new-";

/// Makes the cluster where there is none: in a folder aside that is renamed when it is complete, so that one killed
/// midway is never taken for a cluster.
pub(super) async fn unless_done(place: &ClusterPlace, binaries: &Binaries) -> Result<(), StartError> {
    let failed = |error: io::Error| unusable(&place.home, error);
    remove_unfinished(&place.home).map_err(failed)?; // holding the lock, any we find is of a dead process
    if place.made_by().is_some() {
        return Ok(());
    }
    let unfinished = place.home.join(format!("{UNFINISHED}{}", std::process::id()));
    let mut complaint = String::new();
    for locale in ["C.UTF-8", "C"] {
        place.account.own(&unfinished).map_err(failed)?;
        match initdb(place, binaries, &unfinished, locale).await? {
            None => {
                return fs::rename(&unfinished, &place.data).map_err(|error| unusable(&place.data, error));
            }
            Some(said) => complaint = said,
        }
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    let message = format!("initdb failed in {}: {complaint}", place.home.display());
    Err(match mend(&complaint) {
        Some(fix) => StartError::with_fix(Exit::Unavailable, message, fix),
        None => StartError::new(Exit::Unavailable, message),
    })
}

/// What helps against a complaint of initdb whose words do not tell.
fn mend(complaint: &str) -> Option<&'static str> {
    // A container may run as any number; initdb wants a name.
    let nameless = complaint.contains("could not look up effective user ID");
    nameless.then_some(
        "run as an account that /etc/passwd names, or set DATABASE_URL to a PostgreSQL of your own",
    )
}

/// Runs initdb; returns what it complained of, if it failed.
async fn initdb(
    place: &ClusterPlace,
    binaries: &Binaries,
    folder: &Path,
    locale: &str,
) -> Result<Option<String>, StartError> {
    let program = binaries.initdb();
    let output = place
        .account
        .command(&program, &place.home)
        .arg("--pgdata")
        .arg(folder)
        .args(["--username", SUPERUSER, "--encoding", "UTF8", "--locale", locale])
        // Without a password: an account that gets to the socket, in a folder of mode 700, could as well read the data.
        .args(["--auth", "trust", "--no-sync", "--no-instructions"])
        .output()
        .await
        .map_err(|error| {
            StartError::new(Exit::Unavailable, format!("{} cannot be run: {error}", program.display()))
        })?;
    let failed = !output.status.success();
    Ok(failed.then(|| String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ")))
}

fn remove_unfinished(home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn an_account_without_a_name_is_told_what_helps() {
        let complaint = "initdb: could not look up effective user ID 12345: user does not exist";
        assert!(mend(complaint).unwrap().contains("/etc/passwd"));
        assert_eq!(mend("initdb: error: could not create directory"), None);
    }
}
