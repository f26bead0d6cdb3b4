//! What a token says of the session that it belongs to, and the refresh tokens that a session lasts by.
//!
//! Of a session's refresh tokens one is good. The next one's secret follows from it and from a key of the server's: all who
//! use one token at the same time get the same next one, nothing that could be used is stored, and an old token can be told
//! from garbage, since it leads to the one that is good now (decision 0027).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::shared::{Rng, Secret, SessionId, TenantId, derived, derived_key};

/// Whose session a token is of, and how its person has signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIn {
    /// The session.
    pub session: SessionId,
    /// When the person has last proven who it is, in seconds since 1970.
    pub at: i64,
    /// By what.
    pub methods: Methods,
}

/// One way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A password.
    Password,
    /// A code that changes with the time.
    Totp,
    /// A passkey.
    Passkey,
    /// One of the codes for those who have lost the rest.
    Recovery,
    /// Two at once: a passkey that has asked its owner for a PIN or a finger, and stands alone.
    MultiFactor,
}

/// The ways by which somebody has proven who it is: `amr` of a token (RFC 8176).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Methods(u8);

/// The token by which a session gets its next access token.
///
/// As text it is `ert_` and 91 letters of base64url: tenant, session, generation and secret.
pub struct RefreshToken {
    /// The session's tenant: where it is looked for.
    pub tenant: TenantId,
    /// The session.
    pub session: SessionId,
    /// How many tokens of the session there were before.
    pub generation: i32,
    secret: Secret<[u8; SECRET]>,
}

/// The keys that lead from one refresh token to the next: the first is used, all are known.
pub struct RefreshKeys(Vec<RefreshKey>);

/// One of them.
pub struct RefreshKey {
    id: String,
    key: hmac::Key,
}

const SECRET: usize = 32;
const PREFIX: &str = "ert_";
const BYTES: usize = 16 + 16 + 4 + SECRET;
/// Older tokens than so many generations are not told from garbage: it would cost too much.
const MOST_STEPS: i32 = 10_000;

impl Method {
    const ALL: [Self; 5] = [Self::Password, Self::Totp, Self::Passkey, Self::Recovery, Self::MultiFactor];

    /// Its word in `amr`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::Totp => "otp",
            Self::Passkey => "hwk",
            Self::Recovery => "recovery",
            Self::MultiFactor => "mfa",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Methods {
    /// These and one more.
    #[must_use]
    pub const fn and(self, method: Method) -> Self {
        Self(self.0 | method.bit())
    }

    /// These and those.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether `method` is one of them.
    pub const fn has(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    /// Whether a second factor is among them; a passkey, which asks for the owner, is one by itself.
    pub const fn has_second_factor(self) -> bool {
        self.has(Method::Totp) || self.has(Method::Passkey) || self.has(Method::Recovery)
    }

    /// Their words, as they are stored.
    pub fn words(self) -> Vec<&'static str> {
        Method::ALL.into_iter().filter(|method| self.has(*method)).map(Method::as_str).collect()
    }

    /// The methods of these words; what is not known is left out.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let known = |word: &str| Method::ALL.into_iter().find(|method| method.as_str() == word);
        words.into_iter().filter_map(known).fold(Self::default(), Self::and)
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        Ok(Self::of_words(words.iter().map(String::as_str)))
    }
}

impl RefreshToken {
    /// The first one of a session.
    pub fn first(tenant: TenantId, session: SessionId, rng: &dyn Rng) -> Self {
        let mut secret = [0; SECRET];
        rng.fill(&mut secret);
        Self { tenant, session, generation: 0, secret: Secret::new(secret) }
    }

    /// Reads what a client has sent; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let bytes: &[u8; BYTES] = bytes.as_slice().try_into().ok()?;
        let (tenant, rest) = bytes.split_first_chunk::<16>()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (generation, secret) = rest.split_first_chunk::<4>()?;
        Some(Self {
            tenant: TenantId::from_uuid(Uuid::from_bytes(*tenant)),
            session: SessionId::from_uuid(Uuid::from_bytes(*session)),
            generation: i32::from_be_bytes(*generation),
            secret: Secret::new(secret.try_into().ok()?),
        })
    }

    /// The token as its client gets it.
    pub fn expose(&self) -> String {
        let generation = self.generation.to_be_bytes();
        let parts: [&[u8]; 4] = [
            self.tenant.as_uuid().as_bytes(),
            self.session.as_uuid().as_bytes(),
            &generation,
            self.secret.expose(),
        ];
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(parts.concat()))
    }

    /// What is stored of it: it can be recognised by that, and not be made of it.
    pub fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.secret.expose()).as_ref().to_vec()
    }

    /// The one that comes after it.
    pub fn next(&self, key: &RefreshKey) -> Self {
        let mut context = hmac::Context::with_key(&key.key);
        context.update(self.session.as_uuid().as_bytes());
        context.update(&self.generation.to_be_bytes());
        context.update(self.secret.expose());
        let tag = context.sign();
        let mut secret = [0; SECRET];
        secret.iter_mut().zip(tag.as_ref()).for_each(|(byte, tag)| *byte = *tag);
        let generation = self.generation.saturating_add(1);
        Self { tenant: self.tenant, session: self.session, generation, secret: Secret::new(secret) }
    }

    /// Whether it leads to the token of this generation that is stored so: it was good once. `key` tells the key by which
    /// each generation was left.
    pub fn leads_to<'k>(
        &self,
        generation: i32,
        stored: &[u8],
        key: impl Fn(i32) -> Option<&'k RefreshKey>,
    ) -> bool {
        let steps = generation.saturating_sub(self.generation);
        if !(1..=MOST_STEPS).contains(&steps) || self.generation < 0 {
            return false;
        }
        let Some(mut token) = key(self.generation).map(|key| self.next(key)) else { return false };
        while token.generation < generation {
            let Some(key) = key(token.generation) else { return false };
            token = token.next(key);
        }
        verify_slices_are_equal(&token.hash(), stored).is_ok()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({} of {})", self.generation, self.session)
    }
}

impl RefreshKeys {
    /// Of the secrets that sign access tokens, the current one first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret<String>>) -> Self {
        Self(secrets.into_iter().map(RefreshKey::of).collect())
    }

    /// The one that is used.
    pub fn current(&self) -> Option<&RefreshKey> {
        self.0.first()
    }

    /// The one of this name, if it is known (any more).
    pub fn by_id(&self, id: &str) -> Option<&RefreshKey> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl RefreshKey {
    fn of(secret: &Secret<String>) -> Self {
        let id = derived(secret, "erp-backend refresh tokens, name of the key");
        let id = id.as_ref().iter().take(6).copied().collect::<Vec<_>>();
        Self { id: URL_SAFE_NO_PAD.encode(id), key: derived_key(secret, "erp-backend refresh tokens") }
    }

    /// Its name, which says nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    fn keys(secrets: &[&str]) -> RefreshKeys {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        RefreshKeys::new(&secrets)
    }

    fn token() -> RefreshToken {
        let (tenant, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
        RefreshToken::first(TenantId::from_uuid(tenant), SessionId::from_uuid(session), &SystemRng::new())
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let (keys, token) = (keys(&["a"]), token());
        let next = token.next(keys.current().unwrap());
        let text = next.expose();
        assert!(text.starts_with("ert_") && text.len() == 95, "{text}");
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.tenant, read.session, read.generation), (token.tenant, token.session, 1));
        assert_eq!(read.hash(), next.hash());
        assert!(!format!("{next:?}").contains(&text[60..]));
        for bad in
            ["", "ert_", &text[4..], &text[..94], &format!("{text}A"), "ert_é", &text.replace("ert_", "ERT_")]
        {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn r_02_all_who_use_one_token_get_the_same_next_one() {
        let (here, there, token) = (keys(&["a"]), keys(&["a", "b"]), token());
        let next = |keys: &RefreshKeys| token.next(keys.current().unwrap()).hash();
        assert_eq!(next(&here), next(&there));
        assert_ne!(next(&here), next(&keys(&["b"])));
    }

    #[test]
    fn r_01_an_old_token_leads_to_the_one_that_is_good_and_garbage_does_not() {
        let (keys, first) = (keys(&["new", "old"]), token());
        let (new, old) = (keys.current().unwrap(), &keys.0[1]);
        let second = first.next(old);
        let fourth = second.next(new).next(new);
        let key = |generation| Some(if generation < 1 { old } else { new });
        for token in [&first, &second] {
            assert!(token.leads_to(3, &fourth.hash(), key), "{token:?}");
        }
        assert!(!fourth.leads_to(3, &fourth.hash(), key), "it is the one itself");
        assert!(!token().leads_to(3, &fourth.hash(), key), "of another secret");
        assert!(!first.leads_to(2, &fourth.hash(), key), "of another generation");
        assert!(!first.leads_to(3, &fourth.hash(), |_| Some(new)), "by another key");
        assert!(!first.leads_to(3, &fourth.hash(), |_| None), "by a key that is gone");
        assert!(!first.leads_to(MOST_STEPS + 1, &fourth.hash(), key));
    }

    #[test]
    fn methods_are_their_words() {
        let methods = Methods::default().and(Method::Password).and(Method::Totp);
        assert_eq!(serde_json::to_string(&methods).unwrap(), r#"["pwd","otp"]"#);
        let read: Methods = serde_json::from_str(r#"["otp","sms","pwd"]"#).unwrap();
        assert_eq!(read, methods);
        assert!(read.has_second_factor() && !Methods::default().and(Method::Password).has_second_factor());
    }
}
