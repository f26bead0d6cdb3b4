//! A mail as bytes: headers and parts (RFC 5322, MIME).

use std::time::SystemTime;

use askama::Template;
use jiff::Timestamp;
use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::address::{MailAddress, Subject, one_line};

/// A mail that is about to be sent.
#[derive(Debug)]
pub struct OutgoingMail {
    /// Who it goes to.
    pub to: MailAddress,
    /// What that person is called.
    pub to_name: Option<String>,
    /// What the tenant calls itself; it stands beside the sender's address.
    pub from_name: Option<String>,
    /// The language that it is in.
    pub locale: String,
    /// What it is about.
    pub subject: Subject,
    /// As plain text.
    pub text: String,
    /// As HTML.
    pub html: Option<String>,
    /// Where its recipient unsubscribes with one click (RFC 8058).
    pub unsubscribe: Option<String>,
    /// The same for each attempt, so that a repetition is known as one.
    pub message_id: String,
    /// When it was enqueued.
    pub date: Timestamp,
}

impl OutgoingMail {
    /// The bytes, sent by `from`; always the same ones for the same mail. They are ASCII, no line is longer than 998 characters,
    /// and the last line has no end.
    pub(super) fn bytes(&self, from: &MailAddress) -> Result<Vec<u8>, lettre::error::Error> {
        let mailbox = |name: &Option<String>, address: &MailAddress| {
            let name = name.as_deref().and_then(|name| one_line(name, 200));
            Mailbox::new(name, address.of_lettre().clone())
        };
        let mut mail = Message::builder()
            .from(mailbox(&self.from_name, from))
            .to(mailbox(&self.to_name, &self.to))
            .subject(self.subject.as_str())
            .date(SystemTime::from(self.date))
            .message_id(Some(format!("<{}>", self.message_id)));
        match &self.unsubscribe {
            Some(url) => {
                mail = mail
                    .raw_header(header("List-Unsubscribe", format!("<{url}>")))
                    .raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
            }
            // So that nobody's note of absence answers it (RFC 3834).
            None => mail = mail.raw_header(header("Auto-Submitted", "auto-generated".to_owned())),
        }
        let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(self.text.clone());
        let mail = match &self.html {
            None => mail.singlepart(text),
            Some(html) => {
                let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(self.document(html));
                let boundary = format!("={}", self.message_id.split('@').next().unwrap_or_default());
                mail.multipart(MultiPart::alternative().boundary(boundary).singlepart(text).singlepart(html))
            }
        };
        let mut bytes = mail?.formatted();
        while bytes.ends_with(b"\r\n") {
            bytes.truncate(bytes.len() - 2); // the end of the mail brings one
        }
        Ok(bytes)
    }
}

#[derive(Template)]
#[template(path = "mail/document.html")]
struct MailDocument<'a> {
    locale: &'a str,
    subject: &'a str,
}

impl OutgoingMail {
    /// What a template says as HTML, as a whole document.
    fn document(&self, body: &str) -> String {
        let head = MailDocument { locale: &self.locale, subject: self.subject.as_str() };
        let head = head.render().unwrap_or_default(); // two texts, which do not fail
        format!("{head}\n<body>\n{body}</body>\n</html>\n")
    }
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}
