//! Templates of mails: files that a module brings, compiled into the product and checked there.

use std::fmt::Write as _;

use askama::Error as TemplateError;

use super::address::{Locale, Subject};
use crate::shared::is_same_text;

/// The language that every template has, for people whose own it has not.
const FALL_BACK: &str = "en";

/// One kind of mail: a row of its module's table, filled with data of the type `D`. [`mail_template!`](crate::mail_template) makes
/// one.
///
/// A recipient who speaks `de-CH` gets the variant `de-CH`, or else `de`, or else `en`, which every template has. It is
/// transactional unless it says that it is [promotional](Self::promotional).
pub struct MailTemplate<D: 'static> {
    facts: MailFacts,
    variants: &'static [MailVariant<D>],
}

/// What the table says of a template, whatever its data are.
#[derive(Debug, Clone, Copy)]
pub struct MailFacts {
    /// `module.what_it_tells`. The label `template` of metrics.
    pub name: &'static str,
    /// A sentence on what it tells, for the reference.
    pub about: &'static str,
    /// Whether its recipients can unsubscribe with one click (RFC 8058), and get no more of this kind then. Default: no.
    pub promotional: bool,
    /// Whether what it says is for the recipient only, such as a link to set a password: nobody is shown it, and it is removed
    /// once it is sent. Default: no.
    pub confidential: bool,
}

/// A template in one language.
pub struct MailVariant<D: 'static> {
    /// `en`, `de`, `de-CH`.
    pub locale: &'static str,
    /// The line on what it is about.
    pub subject: MailPart<D>,
    /// The mail as plain text, which each mail has.
    pub text: MailPart<D>,
    /// The mail as HTML, what is within `body`.
    pub html: Option<MailPart<D>>,
}

/// Fills a part of a template.
pub type MailPart<D> = fn(&D) -> Result<String, TemplateError>;

/// A template that was filled in.
#[derive(Debug)]
pub struct RenderedMail {
    /// The language that was found.
    pub locale: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// As plain text.
    pub text: String,
    /// As HTML, what is within `body`.
    pub html: Option<String>,
}

impl<D> MailTemplate<D> {
    /// A template with the defaults of [`MailFacts`]; see [`mail_template!`](crate::mail_template).
    ///
    /// # Panics
    /// When it is compiled: where no variant is English.
    pub const fn new(name: &'static str, about: &'static str, variants: &'static [MailVariant<D>]) -> Self {
        let (mut at, mut falls_back) = (0, false);
        while at < variants.len() {
            falls_back = falls_back || is_same_text(variants[at].locale, FALL_BACK);
            at += 1;
        }
        assert!(falls_back, "a template has a variant \"en\", for people whose language it has not");
        Self { facts: MailFacts { name, about, promotional: false, confidential: false }, variants }
    }

    /// See [`MailFacts::promotional`].
    #[must_use]
    pub const fn promotional(self) -> Self {
        Self { facts: MailFacts { promotional: true, ..self.facts }, ..self }
    }

    /// See [`MailFacts::confidential`].
    #[must_use]
    pub const fn confidential(self) -> Self {
        Self { facts: MailFacts { confidential: true, ..self.facts }, ..self }
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// As the template's filters do.
    pub fn render(&self, locale: &Locale, data: &D) -> Result<RenderedMail, TemplateError> {
        let named = |tag: &str| self.variants.iter().find(|variant| variant.locale.eq_ignore_ascii_case(tag));
        let found = locale.and_wider().find_map(named).or_else(|| named(FALL_BACK));
        let variant = found.ok_or(TemplateError::Fmt)?;
        Ok(RenderedMail {
            locale: variant.locale,
            subject: Subject::of(&(variant.subject)(data)?),
            text: plain((variant.text)(data)?),
            html: variant.html.map(|html| html(data)).transpose()?.map(plain),
        })
    }
}

impl RenderedMail {
    /// Adds the way out to the end of both parts. `url` is one of ours.
    pub(crate) fn add_unsubscribe(&mut self, url: &str) {
        let word = match self.locale.split('-').next() {
            Some("de") => "Keine weiteren Mails dieser Art",
            Some("fr") => "Se désabonner",
            Some("it") => "Annulla l’iscrizione",
            _ => "Unsubscribe",
        };
        let _ = write!(self.text, "\n-- \n{word}: {url}\n");
        if let Some(html) = &mut self.html {
            let _ = write!(html, "<hr>\n<p><a href=\"{url}\">{word}</a></p>\n");
        }
    }
}

/// A text whose lines end with `\n`, without characters that neither a mail nor PostgreSQL takes.
fn plain(text: String) -> String {
    let odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(odd) {
        return text;
    }
    text.replace("\r\n", "\n").replace('\r', "\n").replace(odd, "")
}

/// A template, whatever the type of its data.
pub trait AnyMailTemplate: Sync {
    /// What the table says of it.
    fn facts(&self) -> &MailFacts;

    /// The languages that it has.
    fn locales(&self) -> Vec<&'static str>;
}

impl<D: 'static> AnyMailTemplate for MailTemplate<D> {
    fn facts(&self) -> &MailFacts {
        &self.facts
    }

    fn locales(&self) -> Vec<&'static str> {
        self.variants.iter().map(|variant| variant.locale).collect()
    }
}

/// Declares a [`MailTemplate`]: its name, what it tells, the type of its data, and its variants. A variant has a subject, a file
/// with the mail as text, and if it is to look better a file with the mail as HTML, what is within `body`.
///
/// The files are askama templates: `{{ mail.number }}` is the data's field `number`, and a field that is not there does not
/// compile. In HTML what is filled in is escaped. They are looked for in the folders that the crate's `askama.toml` names, which is
/// `src` for modules; a path is `billing/mails/overdue.en.txt`.
///
/// ```
/// use erp_core::mail::MailTemplate;
/// use erp_core::module::Module;
///
/// pub struct Overdue {
///     invoice: String,
/// }
///
/// static OVERDUE: MailTemplate<Overdue> = erp_core::mail_template!(
///     "billing.overdue", "Reminds a customer of an invoice.", Overdue,
///     "en": { subject: "Invoice {{ mail.invoice }}", text: "mail/example/overdue.en.txt", html: "mail/example/overdue.en.html" },
///     "de": { subject: "Rechnung {{ mail.invoice }}", text: "mail/example/overdue.de.txt" },
/// );
///
/// static BILLING: Module = Module { name: "billing", mails: &[&OVERDUE], ..Module::BARE };
/// ```
///
/// A mail that is HTML only is not read by everybody, and does not compile:
///
/// ```compile_fail
/// # pub struct Overdue { invoice: String }
/// # use erp_core::mail::MailTemplate;
/// static OVERDUE: MailTemplate<Overdue> = erp_core::mail_template!(
///     "billing.overdue", "Reminds a customer of an invoice.", Overdue,
///     "en": { subject: "Invoice", html: "mail/example/overdue.en.html" },
/// );
/// ```
#[macro_export]
macro_rules! mail_template {
    ($name:literal, $about:literal, $data:ty,
     $($locale:literal: { subject: $subject:tt, text: $text:tt $(, html: $html:tt)? $(,)? }),+ $(,)?) => {
        $crate::mail::MailTemplate::<$data>::new($name, $about, &[$($crate::mail::MailVariant::<$data> {
            locale: $locale,
            subject: $crate::mail_template!(@part $data, "none", source = $subject, ext = "txt"),
            text: $crate::mail_template!(@part $data, "none", path = $text),
            html: $crate::mail_template!(@html $data $(, $html)?),
        }),+])
    };
    ($name:literal, $about:literal, $data:ty,
     $($locale:literal: { subject: $subject:tt, html: $html:tt $(,)? }),+ $(,)?) => {
        compile_error!("a mail has a text part: add `text: \"….txt\"` before `html`")
    };
    (@html $data:ty) => { None };
    (@html $data:ty, $html:tt) => { Some($crate::mail_template!(@part $data, "html", path = $html)) };
    (@part $data:ty, $escape:tt, $($from:tt)+) => {{
        fn fill(mail: &$data) -> ::core::result::Result<::std::string::String, $crate::mail::askama::Error> {
            #[derive($crate::mail::askama::Template)]
            #[template(askama = $crate::mail::askama, escape = $escape, $($from)+)]
            struct Part<'a> {
                #[allow(dead_code)] // a part may say the same to everybody
                mail: &'a $data,
            }
            $crate::mail::askama::Template::render(&Part { mail })
        }
        fill
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Note {
        invoice: String,
    }

    static NOTE: MailTemplate<Note> = crate::mail_template!(
        "tests.note", "Says something.", Note,
        "en": { subject: "{{ mail.invoice }}", text: "mail/example/overdue.en.txt", html: "mail/example/overdue.en.html" },
        "de": { subject: "Hallo", text: "mail/example/overdue.de.txt" },
        "de-CH": { subject: "Grüezi", text: "mail/example/overdue.de.txt" },
    );

    fn subject(tag: &str) -> String {
        NOTE.render(&Locale::of(tag), &Note { invoice: "Hello".into() }).unwrap().subject.as_str().to_owned()
    }

    #[test]
    fn a_language_that_a_template_has_not_falls_back() {
        for (tag, expected) in [
            ("de-CH", "Grüezi"),
            ("DE-ch", "Grüezi"),
            ("de-AT", "Hallo"),
            ("de", "Hallo"),
            ("fr-CH", "Hello"),
            ("?", "Hello"),
        ] {
            assert_eq!(subject(tag), expected, "{tag}");
        }
    }

    #[test]
    fn what_is_filled_in_is_escaped_in_html_and_nowhere_else() {
        let invoice = "<b>&\"'</b>\r\n\0\u{7}".to_owned();
        let mail = NOTE.render(&Locale::of("en"), &Note { invoice }).unwrap();
        assert_eq!(mail.subject.as_str(), "<b>&\"'</b>");
        assert!(mail.text.contains("<b>&\"'</b>\n"), "{}", mail.text);
        let html = mail.html.unwrap();
        assert!(!html.contains("&\"") && html.contains("&#60;b&#62;"), "{html}");
        assert!(!mail.text.contains(['\0', '\r', '\u{7}']) && !html.contains(['\0', '\r', '\u{7}']));
    }
}
