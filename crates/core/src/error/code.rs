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
}

/// Declares a table of error codes: `NAME = "module.code", status, "Title"; "what happened"; "what to do";`.
///
/// Makes a module with one static per code, and a slice of them all for the reference and the tests.
#[macro_export]
macro_rules! error_codes {
    ($(#[$doc:meta])* $vis:vis $table:ident in $module:ident {
        $($name:ident = $code:literal, $status:literal, $title:literal; $what:literal; $fix:literal;)+
    }) => {
        $(#[$doc])*
        $vis static $table: &[&$crate::error::ErrorCode] = &[$(&$module::$name),+];

        $(#[$doc])*
        $vis mod $module {
            $(
                #[doc = $what]
                pub static $name: $crate::error::ErrorCode = $crate::error::ErrorCode {
                    code: $code,
                    status: $status,
                    title: $title,
                    what: $what,
                    fix: $fix,
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
         `code` and `correlationId`. Validation errors add `errors: [{pointer, code, detail}]`, limits \
         `violated-policies`, and in development what has a cause `debug`.\n\n\
         What is no HTTP request gets one too, and the connection is closed. Two answers are bare: plain HTTP on the \
         port of TLS, and an HTTP/2 head of more than 32 KiB. An HTTP/2 connection that breaks the protocol is closed \
         with GOAWAY.\n\n\
         | code | status | title | what happened | what to do |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in tables.iter().copied().flatten() {
        let ErrorCode { code, status, title, what, fix } = row;
        let _ = writeln!(out, "| `{code}` | {status} | {title} | {what} | {fix} |");
    }
    out
}
