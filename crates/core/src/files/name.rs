//! What files are called: a name that is safe to show, to log and to save under.

use unicode_normalization::UnicodeNormalization as _;

use super::Media;

/// The longest, in bytes: what file systems take.
const LONGEST: usize = 255;

/// A file's name, made safe: without a path, without characters that cannot be seen or that turn the order of others around,
/// with the ending of its type, and of at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// Makes a name of what somebody calls a file. It never fails: of a name in which nothing is of use `file` and the ending
    /// of the type remain.
    pub fn new(given: &str, media: &Media) -> Self {
        let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
        let shown = last.nfc().filter(|c| !is_hidden(*c)).map(plain).collect::<String>();
        let words: Vec<&str> = shown.split_whitespace().collect();
        let name = words.join(" ");
        let name = name.trim_matches(['.', ' ']);
        let (stem, ending) = parts(name, media);
        let stem = if stem.is_empty() { "file" } else { stem };
        let most = LONGEST - ending.len() - 1;
        let end =
            (0..=most.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or_default();
        Self(format!("{}.{ending}", stem.get(..end).unwrap_or_default().trim_end_matches(['.', ' '])))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name's stem, and its ending where that is one of the type's; else all of it, and the type's usual ending.
fn parts<'a>(name: &'a str, media: &Media) -> (&'a str, &'a str)
where
    'static: 'a,
{
    let usual = media.extensions.first().copied().unwrap_or("bin");
    match name.rsplit_once('.') {
        Some((stem, ending)) if media.extensions.iter().any(|one| one.eq_ignore_ascii_case(ending)) => {
            (stem, ending)
        }
        _ => (name, usual),
    }
}

/// Characters that are not shown, or that turn the order of others around.
fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}');
    c.is_control() && !c.is_whitespace()
        || turns
        || matches!(c, '\u{ad}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// What file systems do not take in a name is a low line.
fn plain(c: char) -> char {
    if matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '%' | ';') { '_' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_path_no_hidden_characters_and_the_ending_of_its_type() {
        for (given, expected) in [
            ("report.pdf", "report.pdf"),
            ("REPORT.PDF", "REPORT.PDF"),
            ("../../etc/passwd", "passwd.pdf"),
            ("C:\\Users\\me\\a.pdf", "a.pdf"),
            ("..", "file.pdf"),
            ("", "file.pdf"),
            (".pdf", "pdf.pdf"),
            ("a/", "file.pdf"),
            ("invoice.pdf.exe", "invoice.pdf.exe.pdf"),
            ("page.html", "page.html.pdf"),
            ("a\u{202e}fdp.exe", "afdp.exe.pdf"),
            ("a\r\nSet-Cookie: x=1.pdf", "a Set-Cookie_ x=1.pdf"),
            ("a\0b.pdf", "ab.pdf"),
            ("Rechnung  Zürich 2026.pdf", "Rechnung Zürich 2026.pdf"),
            ("Zu\u{308}rich.pdf", "Zürich.pdf"),
            ("CON.pdf", "CON.pdf"),
            ("what?.pdf ", "what_.pdf"),
        ] {
            assert_eq!(FileName::new(given, &Media::PDF).as_str(), expected, "{given:?}");
        }
        for long in ["x".repeat(400), "ü".repeat(200), format!("{}.pdf", "漢".repeat(100))] {
            let name = FileName::new(&long, &Media::PDF);
            assert!(name.as_str().len() <= 255 && name.as_str().ends_with(".pdf"), "{}", name.as_str().len());
        }
    }
}
