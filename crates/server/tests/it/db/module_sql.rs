//! A module's SQL must not touch the transaction it runs in: it could otherwise leave its tenant.

use std::path::Path;

use crate::sources::rust_files;

/// Words that no statement of a module begins with. They are ours, or end the transaction, or run other text as SQL.
const NOT_FIRST: [&str; 14] = [
    "set",
    "reset",
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "do",
    "copy",
    "prepare",
    "execute",
];
/// What appears nowhere.
const NOWHERE: [&str; 4] = ["set_config", "app.tenant_id", "app.actor", "app.action"];

/// What opens a tenant's data without a [`Caller`](erp_core::auth::Caller), and the files that may: they make callers, or
/// tenants. This list may only shrink.
const BEYOND_THE_CALLER: [(&str, &[&str]); 3] = [
    (
        "app.authenticator",
        &[
            "identity/session.rs",
            "identity/passkey_login.rs",
            "identity/authentication.rs",
            "identity/step_up.rs",
        ],
    ),
    (".owner", &["demo.rs"]),
    ("Owner::", &[]),
];

/// Why a string literal is refused as SQL, if it is. Sentences begin with a capital letter and pass.
fn refusal(literal: &str) -> Option<&'static str> {
    let lower = literal.to_ascii_lowercase();
    let first =
        literal.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
    let is_sql = !literal.contains(". ")
        && (first == first.to_ascii_lowercase() || first == first.to_ascii_uppercase());
    let starts = NOT_FIRST
        .into_iter()
        .find(|word| is_sql && first.eq_ignore_ascii_case(word) && literal.contains(' '));
    let bare = NOT_FIRST.into_iter().find(|word| lower.trim_end_matches(';') == *word);
    starts.or(bare).or_else(|| NOWHERE.into_iter().find(|word| lower.contains(word)))
}

/// The string literals of Rust source, with the line on which each begins.
fn literals(source: &str) -> Vec<(usize, String)> {
    let (mut found, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            rest[2..].find('\'').map_or(rest.len(), |end| end + 3)
        } else if next == '"' {
            let end = end_of_string(&rest[1..]);
            found.push((line, rest[1..=end].replace("\\\n", "")));
            end + 2
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").unwrap_or(raw.len());
            found.push((line, raw[..end].to_owned()));
            end + 5
        } else {
            next.len_utf8()
        };
        let (passed, remaining) = rest.split_at(length.min(rest.len()));
        line += passed.matches('\n').count();
        rest = remaining;
    }
    found
}

/// The offset of the quote that ends a string.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

#[test]
fn t_04_no_module_touches_its_transaction_or_tenant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/src");
    let mut seen = 0;
    for file in rust_files(&folder) {
        for (line, literal) in literals(&std::fs::read_to_string(&file).unwrap()) {
            seen += 1;
            if let Some(word) = refusal(&literal) {
                panic!("{}:{line}: '{word}' has no place in a module's SQL: {literal}", file.display());
            }
        }
    }
    assert!(seen > 50, "{seen} literals were read");
}

#[test]
fn t_17_only_the_sign_in_issues_tokens_and_only_the_demo_works_as_the_owner() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/src");
    for file in rust_files(&folder) {
        let source = std::fs::read_to_string(&file).unwrap();
        for (word, may) in BEYOND_THE_CALLER {
            let allowed = may.iter().any(|name| file.ends_with(name));
            assert!(
                allowed || !source.contains(word),
                "{}: '{word}' opens any tenant; take the Caller as an argument",
                file.display()
            );
        }
    }
}

#[test]
fn what_must_not_pass_does_not() {
    for bad in [
        "set local app.tenant_id = 'x'",
        "SET ROLE owner",
        "select set_config('a', 'b', true)",
        "commit",
        "ROLLBACK;",
        "begin; select 1",
        "do $$ begin end $$",
        "COPY items to stdout",
        " reset all",
        "savepoint a",
        "prepare p as select 1",
        "\nset search_path to public",
        "select current_setting('app.tenant_id')",
    ] {
        assert!(refusal(bad).is_some(), "{bad}");
    }
    for good in ["update items set sku = $2", "select 1", "Set the ETag it has now.", "Do not.", "sku"] {
        assert_eq!(refusal(good), None, "{good}");
    }
    let source = "let a = \"one\\\" still\"; // \"no\"\n let c = '\"'; let b = r#\"two \"x\"\"#;";
    assert_eq!(literals(source), [(1, "one\\\" still".to_owned()), (2, "two \"x\"".to_owned())]);
}
