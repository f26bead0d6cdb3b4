use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Media, file_codes};
use crate::auth::Permission;
use crate::error::Error;

const MIB: u64 = 1024 * 1024;

/// A kind of file: a row of its module's table.
///
/// ```
/// use std::time::Duration;
/// use erp_core::files::{FileKind, Media};
/// use erp_core::module::Module;
///
/// static RECEIPT: FileKind = FileKind::new("billing.receipt", "A receipt that a customer has sent.")
///     .types(&[&Media::PDF, &Media::PNG])
///     .at_most(20 * 1024 * 1024)
///     .kept_for(Duration::from_secs(10 * 365 * 24 * 3600));
///
/// static BILLING: Module = Module { name: "billing", files: &[&RECEIPT], ..Module::BARE };
/// ```
#[derive(Debug)]
pub struct FileKind {
    /// `module.what_it_is`.
    pub name: &'static str,
    /// What it is, in a sentence, for the reference.
    pub about: &'static str,
    /// The most bytes that one may have. Default: 10 MiB.
    pub at_most: u64,
    /// The types that one may have. Default: PDF, PNG and JPEG.
    pub types: &'static [&'static Media],
    /// How long one is kept. Default: until it is deleted.
    pub kept_for: Option<Duration>,
    /// Who may read one by its id under `/api/v1/files`. Default: nobody; the module has routes of its own.
    pub read: Option<&'static Permission>,
}

impl FileKind {
    /// A kind with the defaults of its fields.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        const USUAL: &[&Media] = &[&Media::PDF, &Media::PNG, &Media::JPEG];
        Self { name, about, at_most: 10 * MIB, types: USUAL, kept_for: None, read: None }
    }

    /// See [`FileKind::at_most`].
    pub const fn at_most(self, bytes: u64) -> Self {
        assert!(bytes > 0 && bytes <= 1 << 40, "a file has at most so many bytes, up to 1 TiB");
        Self { at_most: bytes, ..self }
    }

    /// See [`FileKind::types`].
    pub const fn types(self, types: &'static [&'static Media]) -> Self {
        assert!(!types.is_empty(), "a kind of file has a type");
        Self { types, ..self }
    }

    /// See [`FileKind::kept_for`].
    pub const fn kept_for(self, time: Duration) -> Self {
        assert!(time.as_secs() > 0, "a file is kept for a second at least");
        Self { kept_for: Some(time), ..self }
    }

    /// See [`FileKind::read`].
    pub const fn read(self, permission: &'static Permission) -> Self {
        Self { read: Some(permission), ..self }
    }

    /// The type of this name, if a file of this kind may have it. Parameters such as a charset do not count.
    pub fn media(&self, content_type: &str) -> Option<&'static Media> {
        let name = content_type.split(';').next().unwrap_or_default().trim();
        self.types.iter().copied().find(|media| media.name.eq_ignore_ascii_case(name))
    }

    /// The names of its types, for a person: `application/pdf, image/png`.
    pub(crate) fn type_names(&self) -> String {
        self.types.iter().map(|media| media.name).collect::<Vec<_>>().join(", ")
    }
}

/// Every kind of file of every module, by name.
#[derive(Debug, Clone, Default)]
pub struct FileKinds(BTreeMap<&'static str, &'static FileKind>);

impl FileKinds {
    /// Those that the modules declare.
    pub fn new(kinds: impl Iterator<Item = &'static FileKind>) -> Self {
        Self(kinds.map(|kind| (kind.name, kind)).collect())
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<&'static FileKind> {
        self.0.get(name).copied()
    }

    /// Whether there is none: then the product has no use for a store.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn too_large(kind: &FileKind) -> Error {
    let detail = format!("It may have {} at most.", size_words(kind.at_most));
    Error::new(&file_codes::TOO_LARGE).detail(detail)
}

pub(crate) fn type_not_allowed(kind: &FileKind) -> Error {
    Error::new(&file_codes::TYPE_NOT_ALLOWED).detail(format!("It may be {}.", kind.type_names()))
}

/// How large, in words: `10 MiB`.
pub(crate) fn size_words(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        bytes if bytes >= 1024 && bytes.is_multiple_of(1024) => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} bytes"),
    }
}

/// `docs/reference/files.md`, of kinds with the module of each.
pub fn files_markdown(kinds: impl Iterator<Item = (&'static str, &'static FileKind)>) -> String {
    let mut page = String::from(
        "# Files\n\n\
         <!-- Generated from the modules' tables: run the tests with BLESS=1 to write it anew. -->\n\n\
         The kinds of files that tenants have. The type is compared with the first bytes of each file. *Read by* is the permission\n\
         with which a file is read by its id, under `/api/v1/files`; without one only the module's own routes give it out. The name\n\
         is the label `kind` of the metrics `files_…`.\n\n\
         | Kind | Of | What | Types | At most | Kept | Read by |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (module, kind) in kinds {
        let FileKind { name, about, at_most, kept_for, read, .. } = kind;
        let types = kind.type_names();
        let most = size_words(*at_most);
        let kept = kept_for.map_or("until it is deleted".to_owned(), |time| {
            format!("{} days", time.as_secs().div_ceil(24 * 3600))
        });
        let read = read.map_or(String::new(), |permission| format!("`{}`", permission.name));
        let _ = writeln!(page, "| `{name}` | {module} | {about} | {types} | {most} | {kept} | {read} |");
    }
    page
}
