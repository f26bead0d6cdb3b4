use std::fmt::Write as _;

pub use super::core as codes;

/// One row of the table of errors: what a client can rely on.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// `module.snake_name`; never reused for something else.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A short name, the same for every occurrence.
    pub title: &'static str,
    /// What happened.
    pub what: &'static str,
    /// What the client can do.
    pub fix: &'static str,
    /// The constraints of the database whose breach this code tells.
    pub constraints: &'static [Constraint],
}

/// A constraint of a table, named where the code for its breach is declared.
#[derive(Debug, PartialEq, Eq)]
pub struct Constraint {
    /// The table that has it.
    pub table: &'static str,
    /// Its name, unique among all that are declared.
    pub name: &'static str,
    /// The JSON pointer of the value in the body that breaks it, if there is one; with `*` for the index in a list.
    pub pointer: Option<&'static str>,
}

/// One or several error codes, as a type: [`error_codes!`](crate::error_codes) makes one of the same name for each code.
pub trait Refused: 'static {
    /// The codes.
    const CODES: &'static [&'static ErrorCode];
}

/// Declares a table of error codes: `NAME = "module.code", status, "Title"; "what happened"; "what to do";`.
///
/// A code that tells of the breach of constraints names them after its title, with their table: `, on items
/// [items_sku_key]`. Whatever statement breaks one is then answered with this code, and the contract says so of each
/// operation that changes a record of that table. `[orders_supplier_fkey at "/supplierId"]` also names the value in the
/// body that is wrong, and `at "/lines/*/itemId"` one of a list (`Call::locate`).
///
/// Makes a module with one static per code, a type of the same name ([`Refused`]), and a slice of them all for the
/// reference and the tests.
#[macro_export]
macro_rules! error_codes {
    (@pointer) => { None };
    (@pointer $pointer:literal) => { Some($pointer) };
    ($(#[$doc:meta])* $vis:vis $table:ident in $module:ident {
        $($name:ident = $code:literal, $status:literal, $title:literal
            $(, on $relation:ident [$($constraint:ident $(at $pointer:literal)?),+ $(,)?])*;
            $what:literal; $fix:literal;)+
    }) => {
        $(#[$doc])*
        $vis static $table: &[&$crate::error::ErrorCode] = &[$(&$module::$name),+];

        $(#[$doc])*
        $vis mod $module {
            $(
                #[doc = $what]
                #[allow(non_camel_case_types)]
                #[derive(Debug)]
                pub enum $name {}

                impl $crate::error::Refused for $name {
                    const CODES: &'static [&'static $crate::error::ErrorCode] = &[&$name];
                }

                #[doc = $what]
                pub static $name: $crate::error::ErrorCode = $crate::error::ErrorCode {
                    code: $code,
                    status: $status,
                    title: $title,
                    what: $what,
                    fix: $fix,
                    constraints: &[$($($crate::error::Constraint {
                        table: stringify!($relation),
                        name: stringify!($constraint),
                        pointer: $crate::error_codes!(@pointer $($pointer)?),
                    },)+)*],
                };
            )+
        }
    };
}

/// `docs/reference/errors.md`: the specification's Appendix B.
pub fn render_markdown(tables: &[&[&'static ErrorCode]]) -> String {
    let mut out = String::from(
        "# Errors\n\n<!-- Generated from the tables of error codes: BLESS=1 script/test integration the_reference_of_errors writes it. -->\n\n\
         Every error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `instance`, \
         `code` and `correlationId`. Validation errors add `errors: [{pointer, code, detail, params}]`, limits \
         `violated-policies`, and in development what has a cause `debug`. `params` holds the numbers and words of \
         the detail, for a client that says it in another language: `min`, `max`, `actual`, `allowed`, `expected`.\n\n\
         What is no HTTP request gets one too, and the connection is closed. Two answers are bare: plain HTTP on the \
         port of TLS, and an HTTP/2 head of more than 32 KiB. An HTTP/2 connection that breaks the protocol is closed \
         with GOAWAY.\n\n\
         | code | status | title | what happened | what to do |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in tables.iter().copied().flatten() {
        let ErrorCode { code, status, title, what, fix, .. } = row;
        let _ = writeln!(out, "| `{code}` | {status} | {title} | {what} | {fix} |");
    }
    out
}
