//! Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint) with Ed25519.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::tree::TreeHash;
use crate::config::{Config, key_bytes};
use crate::lifecycle::{Exit, StartError};
use crate::shared::{Secret, hex};

/// The byte that says Ed25519, before a public key.
const ED25519_NOTE: u8 = 1;
/// What stands before a public key of Ed25519 in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// More signatures than anybody needs; the specification wants 16 at least.
const MOST_SIGNATURES: usize = 64;

/// What a log says about itself at one moment: its name, how many entries it has, and the root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many leaves its tree has.
    pub size: u64,
    /// The root of the tree.
    pub root: TreeHash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }
}

/// That the bytes of entries were removed from a log, and why. Its second line is no number, so that it is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRemoval {
    /// The log's name.
    pub origin: String,
    /// The first entry.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Why, in one line.
    pub why: String,
}

impl fmt::Display for EntryRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nremoved {} {}\n{}", self.origin, self.first, self.last, self.why)
    }
}

/// Why a note is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteFault {
    /// It is not written as the specifications say.
    Malformed,
    /// No known key has signed it.
    UnknownKey,
    /// A known key is named, and the signature is not its.
    WrongSignature,
}

impl fmt::Display for NoteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is no signed checkpoint",
            Self::UnknownKey => "no key that is known has signed it",
            Self::WrongSignature => "its signature is not by the key that it names",
        })
    }
}

impl std::error::Error for NoteFault {}

/// The keys of this installation's logs: one signs, and those before it still verify.
pub struct AuditKeys {
    pair: Ed25519KeyPair,
    /// The public keys, that of `pair` first.
    public: Vec<[u8; 32]>,
}

impl AuditKeys {
    /// The keys of `AUDIT_SIGNING_KEY` and `AUDIT_SIGNING_KEY_PREVIOUS`; none where the first is not set.
    ///
    /// # Errors
    /// `Exit::Configuration` where one is no key.
    pub fn of(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(secret) = &config.audit.signing_key else { return Ok(None) };
        let unfit =
            || StartError::new(Exit::Configuration, "AUDIT_SIGNING_KEY: is not 32 bytes as base64 or hex");
        let pair = |secret: &Secret<String>| {
            let seed = key_bytes(secret.expose()).ok_or_else(unfit)?;
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| unfit())
        };
        let signing = pair(secret)?;
        let mut public = vec![public_key(&signing)];
        if let Some(previous) = &config.audit.signing_key_previous {
            public.push(public_key(&pair(previous)?));
        }
        Ok(Some(Self { pair: signing, public }))
    }

    /// Signs a checkpoint; the key has the name of the log.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        self.sign_text(&checkpoint.origin, &checkpoint.to_string())
    }

    /// Signs that the bytes of entries were removed.
    pub fn sign_removal(&self, removal: &EntryRemoval) -> String {
        self.sign_text(&removal.origin, &removal.to_string())
    }

    /// Signs a statement: lines of text, of which the first names what it is about.
    pub fn sign_statement(&self, statement: &str) -> String {
        let name = statement.lines().next().unwrap_or_default();
        self.sign_text(name, statement)
    }

    /// Reads a statement that one of the keys has signed.
    ///
    /// # Errors
    /// [`NoteFault`].
    pub fn open_statement(&self, note: &str) -> Result<String, NoteFault> {
        let (text, signatures) = parts(note).ok_or(NoteFault::Malformed)?;
        let name = text.lines().next().unwrap_or_default();
        verify(text, signatures, name, &self.public).map(|()| text.to_owned())
    }

    fn sign_text(&self, origin: &str, text: &str) -> String {
        let signed =
            [&key_id(origin, &self.public[0])[..], self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n\u{2014} {origin} {}\n", BASE64_STANDARD.encode(signed))
    }

    /// Reads a checkpoint that one of the keys has signed.
    ///
    /// # Errors
    /// [`NoteFault`].
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteFault> {
        open(note, &self.public)
    }

    /// The public keys, that which signs first.
    pub fn public(&self) -> &[[u8; 32]] {
        &self.public
    }

    /// How the key that signs is told from others.
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.public[0]).as_ref())[..16].to_owned()
    }
}

fn public_key(pair: &Ed25519KeyPair) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(pair.public_key().as_ref());
    key
}

/// The four bytes that name a key beside its name.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let sum = digest(&SHA256, &[name.as_bytes(), b"\n", &[ED25519_NOTE], public].concat());
    let mut id = [0; 4];
    id.copy_from_slice(&sum.as_ref()[..4]);
    id
}

/// A key as verifiers of notes take it: `name+id+base64`.
pub fn verifier_key(name: &str, public: &[u8; 32]) -> String {
    let key = BASE64_STANDARD.encode([&[ED25519_NOTE], &public[..]].concat());
    format!("{name}+{}+{key}", hex(&key_id(name, public)))
}

/// The same key in the form that openssl reads.
pub fn public_pem(public: &[u8; 32]) -> String {
    let der = BASE64_STANDARD.encode([&SPKI[..], public].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// Signatures, each with the name of its key.
type NoteSignatures<'a> = Vec<(&'a str, Vec<u8>)>;

/// The parts of a note: its text and its signatures, each with the name of its key.
fn parts(note: &str) -> Option<(&str, NoteSignatures<'_>)> {
    let at = note.rfind("\n\n")? + 1;
    let (text, signatures) = (&note[..at], &note[at + 1..]);
    if note.chars().any(|c| c < ' ' && c != '\n') || !signatures.ends_with('\n') {
        return None;
    }
    let signatures = signatures.lines().map(|line| {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let signature = BASE64_STANDARD.decode(signature).ok().filter(|bytes| bytes.len() > 4)?;
        (!name.is_empty() && !name.contains('+')).then_some((name, signature))
    });
    let signatures: Option<Vec<_>> = signatures.collect();
    signatures.filter(|all| (1..=MOST_SIGNATURES).contains(&all.len())).map(|all| (text, all))
}

/// Reads a checkpoint that one of these keys has signed under the log's own name.
///
/// # Errors
/// [`NoteFault`].
pub fn open(note: &str, keys: &[[u8; 32]]) -> Result<Checkpoint, NoteFault> {
    let (text, signatures) = parts(note).ok_or(NoteFault::Malformed)?;
    let checkpoint = read(text).ok_or(NoteFault::Malformed)?;
    verify(text, signatures, &checkpoint.origin, keys).map(|()| checkpoint)
}

/// Reads the statement that entries were removed, which one of these keys has signed under the log's own name.
///
/// # Errors
/// [`NoteFault`].
pub fn open_removal(note: &str, keys: &[[u8; 32]]) -> Result<EntryRemoval, NoteFault> {
    let (text, signatures) = parts(note).ok_or(NoteFault::Malformed)?;
    let removal = read_removal(text).ok_or(NoteFault::Malformed)?;
    verify(text, signatures, &removal.origin, keys).map(|()| removal)
}

fn verify(
    text: &str,
    signatures: NoteSignatures<'_>,
    origin: &str,
    keys: &[[u8; 32]],
) -> Result<(), NoteFault> {
    let mut verified = false;
    for (name, signature) in signatures {
        let (id, signature) = signature.split_at(4);
        let known = keys.iter().find(|key| name == origin && key_id(name, key) == id);
        let Some(key) = known else { continue };
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(text.as_bytes(), signature).map_err(|_| NoteFault::WrongSignature)?;
        verified = true;
    }
    verified.then_some(()).ok_or(NoteFault::UnknownKey)
}

fn read_removal(text: &str) -> Option<EntryRemoval> {
    let mut lines = text.lines();
    let (origin, range, why) = (lines.next()?, lines.next()?, lines.next()?);
    let (first, last) = range.strip_prefix("removed ")?.split_once(' ')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let removal = EntryRemoval { origin: origin.to_owned(), first, last, why: why.to_owned() };
    lines.next().is_none().then_some(removal)
}

/// Reads the text of a checkpoint, which ours have no further lines in.
fn read(text: &str) -> Option<Checkpoint> {
    let mut lines = text.lines();
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let is_plain = size == "0" || (!size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit()));
    let root: TreeHash = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
    let is_ours = is_plain && !origin.is_empty() && lines.next().is_none();
    Some(Checkpoint { origin: origin.to_owned(), size: size.parse().ok()?, root }).filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> AuditKeys {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        AuditKeys { public: vec![public_key(&pair)], pair }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "erp.example.com/audit/one".to_owned(), size: 7, root: [3; 32] }
    }

    #[test]
    fn the_note_of_the_specification_has_the_key_that_it_names() {
        let text = "This is an example message.\n";
        let note = format!(
            "{text}\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
        );
        let key = "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let mut public = [0; 32];
        public.copy_from_slice(&BASE64_STANDARD.decode(key).unwrap()[1..]);
        assert_eq!(
            verifier_key("example.com/foo", &public),
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
        );
        let (found, signatures) = parts(&note).unwrap();
        assert_eq!((found, signatures[0].0), (text, "example.com/foo"));
        assert_eq!(signatures[0].1[..4], key_id("example.com/foo", &public));
        UnparsedPublicKey::new(&ED25519, &public).verify(text.as_bytes(), &signatures[0].1[4..]).unwrap();
    }

    #[test]
    fn what_is_signed_is_read_and_nothing_else_is() {
        let (ours, others) = (keys(1), keys(2));
        let note = ours.sign(&checkpoint());
        assert_eq!(ours.open(&note), Ok(checkpoint()));
        assert_eq!(others.open(&note), Err(NoteFault::UnknownKey));
        assert_eq!(ours.open(&note.replace("\n7\n", "\n8\n")), Err(NoteFault::WrongSignature));
        for broken in [
            note.replace("\n7\n", "\n07\n"),
            note.replace("\n7\n", "\n7\nmore\n"),
            note.replace("\n\n", "\n"),
            note.trim_end().to_owned(),
            note.replace('\u{2014}', "-"),
            note.replace("one\n7", "one\t\n7"),
            String::new(),
        ] {
            assert_eq!(ours.open(&broken), Err(NoteFault::Malformed), "{broken:?}");
        }
    }

    #[test]
    fn a_note_of_the_key_before_is_believed_while_that_is_known() {
        let (before, now) = (keys(1), keys(2));
        let ring = AuditKeys { public: [now.public(), before.public()].concat(), pair: now.pair };
        let note = before.sign(&checkpoint());
        assert_eq!(ring.open(&note), Ok(checkpoint()));
        assert_eq!(ring.open(&ring.sign(&checkpoint())), Ok(checkpoint()));
        assert_eq!(before.open(&ring.sign(&checkpoint())), Err(NoteFault::UnknownKey));
    }

    #[test]
    fn a_removal_is_no_checkpoint_and_a_checkpoint_no_removal() {
        let ours = keys(1);
        let removal = EntryRemoval {
            origin: checkpoint().origin,
            first: 3,
            last: 9,
            why: "the tenant was erased".to_owned(),
        };
        let note = ours.sign_removal(&removal);
        assert_eq!(open_removal(&note, ours.public()), Ok(removal));
        assert_eq!(open_removal(&note.replace("3 9", "1 9"), ours.public()), Err(NoteFault::WrongSignature));
        assert_eq!(ours.open(&note), Err(NoteFault::Malformed));
        assert_eq!(open_removal(&ours.sign(&checkpoint()), ours.public()), Err(NoteFault::Malformed));
    }

    #[test]
    fn a_signature_of_another_log_is_not_taken_for_this_one() {
        let ours = keys(1);
        let (one, other) =
            (checkpoint(), Checkpoint { origin: "erp.example.com/audit/two".to_owned(), ..checkpoint() });
        let note = ours
            .sign(&one)
            .replace(&format!("\u{2014} {}", one.origin), &format!("\u{2014} {}", other.origin));
        assert_eq!(ours.open(&note), Err(NoteFault::UnknownKey));
    }
}
