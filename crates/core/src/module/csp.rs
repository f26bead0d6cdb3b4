use std::fmt;

use http::HeaderValue;

/// A content security policy (CSP level 3), directive by directive.
///
/// ```
/// use erp_core::module::Csp;
///
/// let csp = Csp::new().default_src(["'none'"]).script_src(["'self'", "https://cdn.example.com"]);
/// assert_eq!(csp.value().unwrap(), "default-src 'none'; script-src 'self' https://cdn.example.com");
/// assert!(Csp::new().script_src(["'self'; img-src *"]).value().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Csp {
    directives: Vec<(&'static str, String)>,
    report_only: bool,
    invalid: Option<InvalidCsp>,
}

/// What cannot stand in a policy: it would end its directive, the policy or the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCsp {
    directive: &'static str,
    value: String,
}

impl fmt::Display for InvalidCsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot stand in the policy's directive {:?}", self.value, self.directive)
    }
}

impl std::error::Error for InvalidCsp {}

macro_rules! directives {
    ($($(#[$doc:meta])* $method:ident $name:literal;)*) => {
        impl Csp {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $method<S: AsRef<str>>(self, sources: impl IntoIterator<Item = S>) -> Self {
                    self.directive($name, sources)
                }
            )*
        }
    };
}

directives! {
    /// What has no directive of its own.
    default_src "default-src";
    /// Scripts.
    script_src "script-src";
    /// Scripts in attributes such as `onclick`.
    script_src_attr "script-src-attr";
    /// Styles.
    style_src "style-src";
    /// Images.
    img_src "img-src";
    /// Fonts.
    font_src "font-src";
    /// What scripts may connect to.
    connect_src "connect-src";
    /// Plug-ins.
    object_src "object-src";
    /// Workers.
    worker_src "worker-src";
    /// What may be framed.
    frame_src "frame-src";
    /// Who may frame the page. `default-src` does not stand in for it.
    frame_ancestors "frame-ancestors";
    /// What `<base>` may name. `default-src` does not stand in for it.
    base_uri "base-uri";
    /// Where forms may go. `default-src` does not stand in for it.
    form_action "form-action";
    /// Where breaches are reported to.
    report_uri "report-uri";
    /// The group of `Reporting-Endpoints` that breaches are reported to.
    report_to "report-to";
}

impl Csp {
    /// A policy that says nothing yet: everything is allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any directive; a second one of a name replaces the first. Without sources it stands alone, as
    /// `upgrade-insecure-requests` does.
    #[must_use]
    pub fn directive<S: AsRef<str>>(
        mut self,
        name: &'static str,
        sources: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut text = name.to_owned();
        for source in sources {
            let source = source.as_ref();
            if !is_source(source) {
                self.invalid.get_or_insert(InvalidCsp { directive: name, value: source.to_owned() });
            }
            text.push(' ');
            text.push_str(source);
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            self.invalid.get_or_insert(InvalidCsp { directive: name, value: text.clone() });
        }
        match self.directives.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = text,
            None => self.directives.push((name, text)),
        }
        self
    }

    /// Breaches are reported and not prevented: to try a policy out beside the one that holds.
    #[must_use]
    pub fn report_only(mut self) -> Self {
        self.report_only = true;
        self
    }

    pub(super) fn is_report_only(&self) -> bool {
        self.report_only
    }

    /// The header's value.
    ///
    /// # Errors
    /// The first source with a space, a line break, `;`, `,` or anything else that is not plain text.
    pub fn value(self) -> Result<HeaderValue, InvalidCsp> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        let texts: Vec<&str> = self.directives.iter().map(|(_, text)| text.as_str()).collect();
        let value = texts.join("; ");
        HeaderValue::try_from(&value).map_err(|_| InvalidCsp { directive: "", value })
    }
}

fn is_source(source: &str) -> bool {
    !source.is_empty() && source.bytes().all(|byte| byte.is_ascii_graphic() && !b";,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_02_a_policy_reads_as_it_was_written() {
        let csp = Csp::new().default_src(["'self'"]).img_src(["'self'", "data:"]).default_src(["'none'"]);
        let csp = csp.directive("upgrade-insecure-requests", [""; 0]);
        assert_eq!(
            csp.value().unwrap(),
            "default-src 'none'; img-src 'self' data:; upgrade-insecure-requests"
        );
    }

    #[test]
    fn h_02_nothing_breaks_out_of_its_directive() {
        for bad in [
            "'self'; script-src *",
            "a\r\nSet-Cookie: x",
            "a\nb",
            "a,b",
            "a b",
            "",
            "\u{e9}",
            "\u{7f}",
            "a\0",
        ] {
            let csp = Csp::new().script_src([bad]).default_src(["'none'"]);
            assert_eq!(csp.value().unwrap_err().value, bad);
        }
        assert!(Csp::new().directive("script-src *; img-src", ["x"]).value().is_err());
    }
}
