//! What can go wrong between us and the mail server, and what becomes of the mail then.

use std::fmt;
use std::io;
use std::time::Duration;

use super::address::one_line;

/// The stages of an exchange with a mail server, in their order (RFC 5321).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SmtpStage {
    /// The server's name is looked up.
    LookUp,
    /// The connection is opened.
    Connect,
    /// The server offers TLS and we take it (RFC 3207).
    StartTls,
    /// TLS begins.
    Tls,
    /// The server greets, and tells what it can.
    Hello,
    /// We sign in.
    Auth,
    /// `NOOP`, `RSET`: whether a connection that was used before is still good.
    Ready,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`.
    Data,
    /// The mail itself, to its last line.
    Content,
}

impl SmtpStage {
    /// The word for it in metrics, in the log, and in what is kept of a mail.
    pub const fn word(self) -> &'static str {
        match self {
            Self::LookUp => "look_up",
            Self::Connect => "connect",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Hello => "hello",
            Self::Auth => "auth",
            Self::Ready => "ready",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Content => "content",
        }
    }

    /// What an operator is to do about a failure there.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::LookUp => "correct SMTP_HOST, or the machine's name servers",
            Self::Connect => "look whether the server runs, and whether a firewall lets SMTP_PORT through",
            Self::StartTls => {
                "where the server speaks TLS from the first byte, set SMTP_TLS=tls and SMTP_PORT=465"
            }
            Self::Tls => {
                "let SMTP_HOST be the name in the server's certificate, and OUTBOUND_CA_PATH its authority"
            }
            Self::Hello => "look whether SMTP_PORT is a mail server's, and SMTP_TLS what it speaks there",
            Self::Auth => "correct SMTP_USER and SMTP_PASSWORD",
            Self::Ready => "look at the server's log",
            Self::Sender => "let SMTP_FROM be an address that the account may send as",
            Self::Recipient => {
                "try another address; where all are refused, the server does not relay for us: set SMTP_USER"
            }
            Self::Data | Self::Content => "look at the server's log for why it refuses the mail",
        }
    }
}

/// Why an exchange came to no good end.
#[derive(Debug)]
pub struct SmtpFault {
    /// Where.
    pub stage: SmtpStage,
    /// What.
    pub what: SmtpFaultKind,
}

/// What went wrong.
#[derive(Debug)]
pub enum SmtpFaultKind {
    /// There was no answer in time.
    TimedOut(Duration),
    /// The connection could not be opened, or was lost.
    Io(io::Error),
    /// The server says no.
    Reply(SmtpReply),
    /// What the server says is no SMTP.
    Nonsense(String),
    /// The server does not offer what the settings ask for.
    Missing(&'static str),
}

/// A reply other than yes (RFC 5321, 4.2; RFC 3463).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpReply {
    /// Three digits.
    pub code: u16,
    /// `5.1.1`, where the server says so much.
    pub enhanced: Option<(u16, u16, u16)>,
    /// Its text: one line, of at most 300 characters.
    pub text: String,
}

impl SmtpReply {
    /// The code, and the one that the text begins with, unless the two contradict each other.
    pub(super) fn new(code: u16, text: &str) -> Self {
        let text = one_line(text, 300).unwrap_or_default();
        let mut numbers =
            text.split(' ').next().unwrap_or_default().split('.').map(|number| number.parse::<u16>().ok());
        let enhanced = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None) if class == code / 100 => {
                Some((class, subject, detail))
            }
            _ => None,
        };
        Self { code, enhanced, text }
    }
}

/// What becomes of a mail that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailFate {
    /// It is tried again.
    Later,
    /// It is not; and whether nothing more is sent to the address, since nobody is there.
    Refused {
        /// Nothing more is sent to the address.
        suppress: bool,
    },
}

impl SmtpFault {
    pub(super) fn new(stage: SmtpStage, what: SmtpFaultKind) -> Self {
        Self { stage, what }
    }

    /// What becomes of the mail.
    ///
    /// Only what the server says for good of this recipient or this mail ends it. That it refuses us, our account or our
    /// sender is for the operator to mend: mails wait for that, and no address is held to be dead because of it. So it is with
    /// `5.7.x` at the recipient, "relaying denied": a wrong setting must not suppress every customer.
    pub fn fate(&self) -> MailFate {
        let SmtpFaultKind::Reply(reply) = &self.what else { return MailFate::Later };
        if reply.code < 500 {
            return MailFate::Later;
        }
        let nobody_there = match reply.enhanced {
            Some((_, 1, detail)) => !matches!(detail, 7 | 8), // those two are about the sender's address
            Some((_, 2, 1)) => true,
            Some(_) => false,
            None => self.stage == SmtpStage::Recipient && matches!(reply.code, 550 | 551 | 553),
        };
        match (self.stage, reply.enhanced) {
            (SmtpStage::Recipient | SmtpStage::Data | SmtpStage::Content, _) if nobody_there => {
                MailFate::Refused { suppress: true }
            }
            (SmtpStage::Recipient, Some((_, 2 | 3 | 6, _))) => MailFate::Refused { suppress: false },
            (SmtpStage::Recipient, None) if reply.code == 552 => MailFate::Refused { suppress: false },
            (SmtpStage::Data | SmtpStage::Content, _) if !matches!(reply.code, 500..=504 | 521 | 530..=538) => {
                MailFate::Refused { suppress: false }
            }
            _ => MailFate::Later,
        }
    }

    /// Whether it says something about the server, so that further mails would meet the same.
    pub fn is_servers(&self) -> bool {
        match &self.what {
            SmtpFaultKind::Reply(reply) => self.stage < SmtpStage::Recipient || reply.code == 421,
            _ => true,
        }
    }

    /// Whether an operator has to mend something before any mail is sent.
    pub fn is_configuration(&self) -> bool {
        match &self.what {
            SmtpFaultKind::Missing(_) => true,
            SmtpFaultKind::Reply(reply) => reply.code >= 500 && self.fate() == MailFate::Later,
            SmtpFaultKind::Io(error) => {
                self.stage == SmtpStage::Tls && error.kind() == io::ErrorKind::InvalidData
            }
            SmtpFaultKind::TimedOut(_) | SmtpFaultKind::Nonsense(_) => false,
        }
    }

    /// The stage and the codes: `recipient 550 5.1.1`. It holds nothing that the server has written.
    pub fn class(&self) -> String {
        let stage = self.stage.word();
        match &self.what {
            SmtpFaultKind::TimedOut(_) => format!("{stage} timed_out"),
            SmtpFaultKind::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("{stage} refused"),
                io::ErrorKind::InvalidData if self.stage == SmtpStage::Tls => format!("{stage} invalid"),
                _ => format!("{stage} broken"),
            },
            SmtpFaultKind::Reply(SmtpReply { code, enhanced: Some((a, b, c)), .. }) => {
                format!("{stage} {code} {a}.{b}.{c}")
            }
            SmtpFaultKind::Reply(SmtpReply { code, enhanced: None, .. }) => format!("{stage} {code}"),
            SmtpFaultKind::Nonsense(_) => format!("{stage} nonsense"),
            SmtpFaultKind::Missing(what) => format!("{stage} no_{what}"),
        }
    }
}

impl fmt::Display for SmtpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at the stage '{}' ", self.stage.word())?;
        match &self.what {
            SmtpFaultKind::TimedOut(limit) => write!(f, "there was no answer within {limit:?}"),
            SmtpFaultKind::Io(error) => write!(f, "the connection failed: {error}"),
            SmtpFaultKind::Reply(reply) => write!(f, "the server said {} {}", reply.code, reply.text),
            SmtpFaultKind::Nonsense(what) => write!(f, "what the server said is no SMTP: {what}"),
            SmtpFaultKind::Missing(what) => write!(f, "the server does not offer {what}"),
        }
    }
}

impl std::error::Error for SmtpFault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(stage: SmtpStage, code: u16, text: &str) -> MailFate {
        SmtpFault::new(stage, SmtpFaultKind::Reply(SmtpReply::new(code, text))).fate()
    }

    #[test]
    fn only_what_is_said_of_the_recipient_ends_a_mail_and_suppresses_its_address() {
        use SmtpStage::{Auth, Content, Data, Hello, Recipient, Sender};
        let later = MailFate::Later;
        let (refused, nobody) = (MailFate::Refused { suppress: false }, MailFate::Refused { suppress: true });
        for (stage, code, text, expected) in [
            (Recipient, 550, "5.1.1 No such user", nobody),
            (Recipient, 550, "No such user", nobody),
            (Recipient, 553, "mailbox name not allowed", nobody),
            (Recipient, 550, "5.1.10 null MX", nobody),
            (Recipient, 550, "5.2.1 mailbox disabled", nobody),
            (Recipient, 552, "5.2.2 mailbox full", refused),
            (Recipient, 552, "too much", refused),
            (Recipient, 554, "5.7.1 Relay access denied", later),
            (Recipient, 554, "Relay access denied", later),
            (Recipient, 550, "5.7.1 we do not relay", later),
            (Recipient, 530, "5.7.0 Authentication required", later),
            (Recipient, 550, "5.1.8 bad sender's system address", later),
            (Recipient, 450, "4.2.0 greylisted", later),
            (Recipient, 452, "4.5.3 too many recipients", later),
            (Recipient, 503, "5.5.1 bad sequence", later),
            (Recipient, 550, "4.1.1 the two contradict each other", nobody),
            (Sender, 553, "5.1.8 sender unknown", later),
            (Sender, 550, "5.7.1 not yours", later),
            (Sender, 550, "No such user", later),
            (Auth, 535, "5.7.8 bad credentials", later),
            (Hello, 554, "5.7.1 you are blocked", later),
            (Content, 554, "5.7.1 it looks like spam", refused),
            (Content, 552, "5.3.4 too large", refused),
            (Content, 550, "5.1.1 nobody", nobody),
            (Content, 550, "rejected", refused),
            (Content, 451, "4.3.0 later", later),
            (Content, 421, "4.3.2 shutting down", later),
            (Data, 503, "5.5.1 bad sequence", later),
            (Data, 554, "no valid recipients", refused),
        ] {
            assert_eq!(fate(stage, code, text), expected, "{stage:?} {code} {text}");
        }
        for kind in [SmtpFaultKind::TimedOut(Duration::from_secs(1)), SmtpFaultKind::Nonsense("?".into())] {
            assert_eq!(SmtpFault::new(Recipient, kind).fate(), later);
        }
    }

    #[test]
    fn what_is_kept_of_a_failure_has_no_words_of_the_servers() {
        let fault = |stage, what| SmtpFault::new(stage, what).class();
        let reply = SmtpFaultKind::Reply(SmtpReply::new(550, "5.1.1 <alice@example.com>: no"));
        assert_eq!(fault(SmtpStage::Recipient, reply), "recipient 550 5.1.1");
        let refused = SmtpFaultKind::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(fault(SmtpStage::Connect, refused), "connect refused");
        let reply = SmtpReply::new(554, "x\r\ny\u{1b}[31m");
        assert_eq!(reply.text, "x y [31m");
    }
}
