//! A page of the documentation as its blocks, and what a block shows against what was said.

use std::fmt::Write as _;

use regex_lite::Regex;

/// What differs from run to run, and what stands for it when two outputs are compared.
const VARIES: [(&str, &str); 8] = [
    (r"\b\d\d:\d\d:\d\d\.\d{3}\b", "<time>"),
    (r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d\S*)?", "<date>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),
    (r"\b(boot|req)_[0-9a-f]+\b", "<id>"),
    (r"\b[0-9a-f]{12,64}\b", "<hash>"),
    (r"\bPostgreSQL \d+(\.\d+)?( \([^)]*\))?", "PostgreSQL <version>"),
    (r"\b(line|pid|gives) \d+\b", "$1 <n>"),
    (r"\b\d+(\.\d+)? (ms|s|relations|answered|applied)\b", "<n> $2"),
];

/// A fenced block: between two lines of three backticks.
pub(super) struct Block {
    /// The number of its first line within the fences, from 1.
    pub(super) line: usize,
    /// What follows the opening fence; empty for what a command prints.
    pub(super) language: String,
    pub(super) text: String,
}

impl Block {
    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Its commands: a line, with those that go on from it, and the number of the first.
    pub(super) fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for (number, line) in (self.line..).zip(self.text.lines()) {
            match commands.last_mut() {
                Some((_, command)) if goes_on => _ = write!(command, "\n{line}"),
                _ => commands.push((number, line.to_owned())),
            }
            goes_on = ["\\", "|", "&&"].iter().any(|end| line.ends_with(end));
        }
        commands.retain(|(_, command)| !command.trim().is_empty() && !command.starts_with('#'));
        commands
    }
}

/// The blocks of a page, in order. A block in a list is indented, and so is its text.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let language = language.to_owned();
                let block = Block { line: number + 1, language, text: String::new() };
                open = Some((block, line.len() - line.trim_start().len()));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), None) => {
                let _ = writeln!(block.text, "{}", line.get(*indent..).unwrap_or_default());
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Whether `said` is what is `shown`: line by line, where `…` stands for anything within a line, and alone for any lines.
pub(super) fn fits(shown: &str, said: &str) -> bool {
    let mut pattern = String::from("^");
    for line in steady(shown).lines() {
        if line.trim() == "…" {
            pattern.push_str("(?:.*\n)*?");
        } else {
            let parts: Vec<String> = line.trim_end().split('…').map(regex_lite::escape).collect();
            let _ = writeln!(pattern, "{}[ ]*", parts.join(".*"));
        }
    }
    pattern.push('$');
    Regex::new(&pattern).unwrap().is_match(&steady(said))
}

fn steady(text: &str) -> String {
    let ends = format!("{}\n", text.trim_end());
    VARIES.iter().fold(ends, |text, (pattern, stands)| {
        Regex::new(pattern).unwrap().replace_all(&text, *stands).into_owned()
    })
}

#[test]
fn what_is_shown_fits_what_is_said_but_for_what_varies() {
    let shown = "ok   url     a\n…\nisolation proven: 10 relations as erp_app, 2b5f24f977bc\n";
    assert!(fits(
        shown,
        "ok   url     a\nok x\nok y\nisolation proven: 11 relations as erp_app, 0123456789ab\n"
    ));
    assert!(fits(shown, "ok   url     a\nisolation proven: 11 relations as erp_app, 0123456789ab"));
    assert!(!fits(shown, "ok   url     b\nisolation proven: 11 relations as erp_app, 0123456789ab\n"));
    assert!(!fits(shown, "ok   url     a\nisolation proven: 11 relations as erp_app\n"));
    assert!(fits("/ping 200 … /x 404\n", "/ping 200 /y 200 /x 404\n"));
    assert!(!fits("/ping 200 … /x 404\n", "/ping 503 /x 404\n"));
}

#[test]
fn a_page_is_its_blocks_and_a_block_its_commands() {
    let page = "text\n```sh\na &&\n  b\n\n# why\nc    # 404\n```\n- a list\n\n  ```\n  said\n  ```\n";
    let found = blocks(page);
    assert_eq!(found[0].commands(), [(3, "a &&\n  b".to_owned()), (7, "c    # 404".to_owned())]);
    assert_eq!((found[1].line, &*found[1].language, &*found[1].text), (12, "", "said\n"));
}
