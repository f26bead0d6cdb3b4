//! `docs/guides/add-a-module.md` is followed: its blocks of code are put where it says, before its commands are typed.
//!
//! A block goes to the file that the page names last before it. Where there is no such file, the block is the file.
//! Else the block's lists take the place of those of the same name, its modules join the others, rows that are indented
//! join the table, and what is left goes to the end. A block of SQL for which no file is named is a migration like any.

use std::fs;
use std::path::{Path, PathBuf};

use super::page::Block;
use super::{MODULE, Typed, blocks, root};
use crate::deep;
use crate::e2e::database::Database;
use crate::e2e::migration_rules::later;
use crate::e2e::process::Home;

/// A block of code, and the file it belongs to.
struct Placed {
    file: Option<PathBuf>,
    block: Block,
}

fn placed(page: &str) -> Vec<Placed> {
    let (mut end, mut last) = (0, None);
    let lines: Vec<&str> = page.lines().collect();
    let mut placed = Vec::new();
    for block in blocks(page) {
        let prose = lines[end..block.line - 1].join("\n");
        end = block.line + block.text.lines().count();
        let is_file = |part: &&str| part.contains('/') && (part.ends_with(".rs") || part.ends_with(".sql"));
        let named = prose.split('`').skip(1).step_by(2).filter(is_file).last().map(PathBuf::from);
        let file = named.or_else(|| last.clone().filter(|_| block.language == "rust"));
        last = file.clone();
        if ["rust", "sql"].contains(&&*block.language) {
            placed.push(Placed { file, block });
        }
    }
    placed
}

/// The file with the block in it.
fn join(text: &str, block: &str) -> String {
    if block.starts_with(' ') {
        assert_eq!(text.matches("\n];").count(), 1, "one table");
        return text.replacen("\n];", &format!("\n{block}];"), 1);
    }
    block.split("\n\n").fold(text.to_owned(), |text, item| {
        if item.lines().all(|line| line.trim_start_matches("pub ").starts_with("mod ")) {
            return item.lines().fold(text, |text, line| with_module(&text, line));
        }
        let is_code = |line: &&str| !line.starts_with("//") && !line.starts_with("#[");
        let list = item.lines().find(is_code).unwrap_or_default();
        match list.split_once(" =").and_then(|(name, _)| Some((text.find(name)?, name))) {
            Some((at, name)) => {
                let rest = &text[at..];
                let (_, after) = rest.split_once(";\n").unwrap();
                let (old, new) = (&rest[..rest.len() - after.len()], &item[item.find(name).unwrap()..]);
                format!("{}{}\n{after}", &text[..at], with_elements(old.trim_end(), new.trim_end()))
            }
            None => format!("{text}\n{}\n", item.trim_end()),
        }
    })
}

/// The list that the page shows; where the product has more by now, its list with what the page adds (F52).
fn with_elements(old: &str, new: &str) -> String {
    fn elements(list: &str) -> Vec<&str> {
        let (_, inner) = list.rsplit_once("&[").unwrap();
        let (inner, _) = inner.split_once(']').unwrap();
        inner.split(',').map(str::trim).filter(|element| !element.is_empty()).collect()
    }
    let (before, shown) = (elements(old), elements(new));
    if before.iter().all(|element| shown.contains(element)) {
        return new.to_owned();
    }
    let added = shown.iter().filter(|element| !before.contains(element));
    let all: Vec<&str> = before.iter().chain(added).copied().collect();
    let (head, _) = old.rsplit_once("&[").unwrap();
    format!("{head}&[{}];", all.join(", "))
}

/// In the order of the alphabet, as rustfmt has them.
fn with_module(text: &str, line: &str) -> String {
    let beginning = &line[..line.find("mod ").unwrap() + 4];
    if text.lines().any(|other| other == line) {
        return text.to_owned();
    }
    let before = text.lines().rfind(|other| other.starts_with(beginning) && *other < line).unwrap();
    text.replacen(&format!("{before}\n"), &format!("{before}\n{line}\n"), 1)
}

/// Puts the block into its file below `folder`.
fn put(folder: &Path, file: &Path, block: &Block) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).ok();
    let joined = text.as_ref().map_or(block.text.clone(), |text| join(text, &block.text));
    assert_ne!(text.as_ref(), Some(&joined), "{MODULE}:{} is in {} already", block.line, file.display());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, joined).unwrap();
}

/// In script/check-deep in a clone, where its commands are typed too.
#[test]
fn the_tutorial_works_as_it_is_followed() {
    let mut page = if deep() { Typed::in_a_clone(MODULE) } else { Typed::placed(MODULE, Home::new()) };
    for Placed { file, block } in placed(&page.text) {
        page.held.push(block.line);
        let Some(file) = file else { continue };
        let copy = page.folder.join(&file);
        if let (false, Ok(text)) = (copy.exists(), fs::read_to_string(root().join(&file))) {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, text).unwrap();
        }
        put(&page.folder, &file, &block);
    }
    if deep() {
        page.holds();
    }
}

#[test]
fn the_tutorials_other_migrations_are_applied() {
    let page = fs::read_to_string(root().join(MODULE)).unwrap();
    let others: Vec<Placed> = placed(&page).into_iter().filter(|placed| placed.file.is_none()).collect();
    assert_eq!(others.len(), 2);
    for (number, Placed { block, .. }) in others.into_iter().enumerate() {
        let database = Database::migrated(&format!("tutorial_{number}"));
        later(&database, block.text.leak()).unwrap();
    }
}

#[test]
fn f52_a_list_keeps_what_the_page_does_not_show() {
    let larger = "const ALL: &[&u8] = &[&1, &3];\n";
    assert_eq!(join(larger, "const ALL: &[&u8] = &[&1, &2];\n"), "const ALL: &[&u8] = &[&1, &3, &2];\n");
}

#[test]
fn a_block_joins_what_is_there() {
    let file = "mod a;\nmod c;\n\n/// All.\nconst ALL: &[u8] = &[1];\n\nfn f() {}\n";
    assert_eq!(
        join(file, "mod b;\n\n/// All.\nconst ALL: &[u8] =\n    &[1, 2];\n\nconst NEW: u8 = 1;\n"),
        "mod a;\nmod b;\nmod c;\n\n/// All.\nconst ALL: &[u8] =\n    &[1, 2];\n\nfn f() {}\n\nconst NEW: u8 = 1;\n"
    );
    assert_eq!(
        join("#[path = \"a\"]\nmod a;\n", "#[path = \"b\"]\nmod b;\n"),
        "#[path = \"a\"]\nmod a;\n\n#[path = \"b\"]\nmod b;\n"
    );
    assert_eq!(
        join("const A: &[u8] = &[\n    1,\n];\n", "    2,\n"),
        "const A: &[u8] = &[\n    1,\n    2,\n];\n"
    );
}
