//! The sources that tests of the house's rules read; those of other crates take this file by its path.

use std::path::{Path, PathBuf};

/// The Rust files of a folder and all folders in it.
///
/// # Panics
/// When there is none: a rule that looks at nothing would hold.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources: it is somewhere else", folder.display());
    found
}
