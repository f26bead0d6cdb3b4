//! Types of files, and how their first bytes tell them.

use super::file_codes;
use crate::error::{Error, Result};

/// So many of the first bytes are looked at; those that tell a type apart stand in them.
pub(crate) const HEAD: usize = 8 * 1024;

/// A type of file.
#[derive(Debug, PartialEq, Eq)]
pub struct Media {
    /// Its name, as `Content-Type` has it.
    pub name: &'static str,
    /// What names of such files end in, the usual one first.
    pub extensions: &'static [&'static str],
    /// What the first bytes may say; nothing for a text, which begins in any way.
    says: &'static [&'static str],
}

macro_rules! media {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal, [$($extension:literal),+], [$($says:literal),*];)+) => {
        impl Media {
            $($(#[doc = $doc])+
            pub const $constant: Self = Self { name: $name, extensions: &[$($extension),+], says: &[$($says),*] };)+
        }
    };
}

media! {
    /// A PDF document.
    PDF = "application/pdf", ["pdf"], ["application/pdf"];
    /// A picture.
    PNG = "image/png", ["png"], ["image/png"];
    /// A picture.
    JPEG = "image/jpeg", ["jpg", "jpeg"], ["image/jpeg"];
    /// A picture.
    WEBP = "image/webp", ["webp"], ["image/webp"];
    /// A scan.
    TIFF = "image/tiff", ["tif", "tiff"], ["image/tiff"];
    /// A document of Word.
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ["docx"],
        ["application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip"];
    /// A table of Excel.
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ["xlsx"],
        ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/zip"];
    /// An archive.
    ZIP = "application/zip", ["zip"], ["application/zip"];
    /// A table of commas (RFC 4180).
    CSV = "text/csv", ["csv"], [];
    /// A text.
    TEXT = "text/plain", ["txt", "log", "md"], [];
    /// One JSON value.
    JSON = "application/json", ["json"], [];
    /// JSON values, one a line.
    NDJSON = "application/x-ndjson", ["ndjson", "jsonl"], [];
}

impl Media {
    /// Whether it is a text: any part of it is looked at, since its beginning says nothing.
    pub(crate) fn is_text(&self) -> bool {
        self.says.is_empty()
    }

    /// Compares the first bytes of a file, [`HEAD`] of them or all, with what it is said to be.
    ///
    /// # Errors
    /// `files.not_what_it_says`, with what it looks like.
    pub(crate) fn check(&self, head: &[u8]) -> Result<()> {
        let found = infer::get(head).map(|kind| kind.mime_type());
        let fits = match found {
            None => self.is_text(),
            Some(found) => self.says.contains(&found),
        };
        if fits {
            return Ok(());
        }
        let looks = found.map_or("no type that is known".to_owned(), |found| format!("'{found}'"));
        let detail = format!("It is sent as '{}', and its first bytes are those of {looks}.", self.name);
        Err(Error::new(&file_codes::NOT_WHAT_IT_SAYS).detail(detail))
    }
}

/// Looks at all parts of a text, as they come: no text holds a control character but tabs and ends of lines and pages.
pub(crate) struct TextCheck(bool);

impl TextCheck {
    /// Of a file of this type; what is no text passes.
    pub(crate) fn of(media: &Media) -> Self {
        Self(media.is_text())
    }

    /// # Errors
    /// `files.not_what_it_says` for a part that is binary.
    pub(crate) fn check(&self, part: &[u8]) -> Result<()> {
        let is_binary = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
        if !self.0 || !part.iter().any(is_binary) {
            return Ok(());
        }
        let detail =
            "It is sent as a text, and holds bytes that no text has; one in UTF-16 has to be saved in UTF-8.";
        Err(Error::new(&file_codes::NOT_WHAT_IT_SAYS).detail(detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    #[test]
    fn the_first_bytes_have_to_be_of_the_type() {
        assert!(Media::PNG.check(PNG).is_ok());
        assert!(Media::PDF.check(b"%PDF-1.7\n").is_ok());
        assert!(Media::CSV.check(b"sku,name\nBOLT,Bolt\n").is_ok() && Media::CSV.check(b"").is_ok());
        for (media, head) in [
            (&Media::PNG, b"<!DOCTYPE html><script>alert(1)</script>".as_slice()),
            (&Media::PNG, b"\xff\xd8\xff\xe0"),
            (&Media::PNG, b""),
            (&Media::PDF, PNG),
            (&Media::TEXT, b"%PDF-1.7\n"),
            (&Media::TEXT, b"<html><script>"),
            (&Media::CSV, PNG),
            (&Media::JSON, b"PK\x03\x04"),
        ] {
            let refused = media.check(head).unwrap_err();
            assert_eq!(refused.code().code, "files.not_what_it_says", "{} {head:?}", media.name);
        }
    }

    #[test]
    fn a_text_has_no_binary_bytes_anywhere() {
        let text = TextCheck::of(&Media::CSV);
        for fine in ["a,b\r\n", "\u{feff}sku\tname\x0c", "Zürich,№ 5"] {
            assert!(text.check(fine.as_bytes()).is_ok(), "{fine:?}");
        }
        assert!(text.check(b"Z\xfcrich").is_ok(), "another charset is for the reader to judge");
        for binary in [b"a\0b".as_slice(), b"\x1b[31m", b"a\0,\0b\0"] {
            assert!(text.check(binary).is_err(), "{binary:?}");
        }
        assert!(TextCheck::of(&Media::PDF).check(b"\0").is_ok());
    }
}
