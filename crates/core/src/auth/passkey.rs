//! Passkeys: what an authenticator says is verified here (WebAuthn Level 3, sections 7.1 and 7.2), by ES256, EdDSA and RS256.
//!
//! Whose make an authenticator is, is not asked: an attestation may be there, and says nothing to us. So all of it is a few lines of
//! JSON, some CBOR, and one signature (decision 0047).

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::cbor::{CborReader, CborValue};
use crate::config::{Config, Environment, host_of, is_site_of};
use crate::shared::Rng;

/// The algorithms that a passkey may have, the preferred one first (RFC 9053).
pub const PASSKEY_ALGORITHMS: [i32; 3] = [-7, -8, -257];

const ES256: i64 = -7;
const ED_DSA: i64 = -8;
const RS256: i64 = -257;
/// What a public key of COSE is about (RFC 9052, 7): its type and algorithm, and what stands under the labels that types share.
const KEY_TYPE: i64 = 1;
const ALGORITHM: i64 = 3;
const CURVE_OR_MODULUS: i64 = -1;
const X_OR_EXPONENT: i64 = -2;
const Y: i64 = -3;

/// The bits of an authenticator's flags.
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const MAY_BE_BACKED_UP: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const HAS_KEY: u8 = 0x40;
const HAS_EXTENSIONS: u8 = 0x80;

/// So long is a public key at most: one of RSA with 8192 bits, and some more.
const LONGEST_KEY: usize = 2048;

/// For which name passkeys are made, and which pages may use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeySite {
    name: String,
    /// Those of our pages; none in development, where any port of this machine is ours.
    origins: Vec<String>,
}

/// What a passkey is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeyAct {
    /// To be made.
    Create,
    /// To prove that it is there.
    Prove,
}

/// What a passkey is to answer, once.
#[derive(Debug, PartialEq, Eq)]
pub struct PasskeyChallenge([u8; 32]);

/// What a browser says that it was asked.
#[derive(Debug)]
pub struct PasskeyRequest {
    /// The challenge, which must be one of ours.
    pub challenge: PasskeyChallenge,
    hash: digest::Digest,
}

/// A passkey that was made a moment ago.
#[derive(Debug, PartialEq, Eq)]
pub struct NewPasskey {
    /// By which its authenticator finds it.
    pub credential: Vec<u8>,
    /// Its public key, as COSE.
    pub public_key: Vec<u8>,
    /// How often it has signed.
    pub sign_count: u32,
}

/// A passkey that has signed.
#[derive(Debug, PartialEq, Eq)]
pub struct ProvenPasskey {
    /// How often it has signed; an authenticator that does not count says zero.
    pub sign_count: u32,
    /// Whether the authenticator has asked its owner, by a PIN or a finger.
    pub user_verified: bool,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPasskey(pub &'static str);

impl std::fmt::Display for InvalidPasskey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidPasskey {}

/// What it says of other things is ignored: the specification wants that (5.8.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasskeyClientData {
    #[serde(rename = "type")]
    act: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

/// What an authenticator says, and signs.
struct AuthenticatorData<'a> {
    flags: u8,
    sign_count: u32,
    rest: &'a [u8],
}

impl PasskeyChallenge {
    /// A new one.
    pub fn new(rng: &dyn Rng) -> Self {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        Self(bytes)
    }

    /// Of bytes that are one already.
    pub(super) const fn of(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As a browser gets it: base64url.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is stored of it, for whom alone it is good: a session, say.
    pub fn bound_to(&self, whom: &[u8]) -> Vec<u8> {
        digest::digest(&digest::SHA256, &[&self.0, whom].concat()).as_ref().to_vec()
    }
}

impl PasskeySite {
    /// That of `PASSKEY_RP_ID`, or else of the host of `PUBLIC_URL`; in development without one, this machine's. None where no
    /// browser would make one.
    pub fn of(config: &Config) -> Option<Self> {
        let Some(url) = &config.http.public_url else {
            let here = config.process.app_env == Environment::Development;
            return here.then(|| Self { name: "localhost".to_owned(), origins: Vec::new() });
        };
        let host = host_of(url.as_str())?;
        let name = config.http.passkey_rp_id.clone().unwrap_or_else(|| host.to_owned());
        is_site_of(&name, host).then(|| Self { name, origins: vec![url.as_str().to_owned()] })
    }

    /// The same with the pages that the tenant of this slug has below `TENANT_DOMAIN`, at the port of `PUBLIC_URL`. Those of other
    /// tenants are not ours: what one is asked there is not for this one.
    #[must_use]
    pub fn and_of_tenant(mut self, config: &Config, slug: &str) -> Self {
        let names = config.http.public_url.as_ref().zip(config.http.tenant_domain.as_ref());
        let own = names.and_then(|(url, domain)| {
            let port = url.as_str().strip_prefix("https://")?.strip_prefix(host_of(url.as_str())?)?;
            let host = format!("{slug}.{domain}");
            is_site_of(&self.name, &host).then(|| format!("https://{host}{port}"))
        });
        self.origins.extend(own);
        self
    }

    /// The name: `rp.id`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what the browser says that it was asked, which must be `act`, by a page of ours.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn asked(&self, act: PasskeyAct, client_data: &[u8]) -> Result<PasskeyRequest, InvalidPasskey> {
        let data: PasskeyClientData =
            serde_json::from_slice(client_data).map_err(|_| InvalidPasskey("the client data is not JSON"))?;
        let wanted = match act {
            PasskeyAct::Create => "webauthn.create",
            PasskeyAct::Prove => "webauthn.get",
        };
        check(data.act == wanted, "the passkey was asked for something else")?;
        check(self.is_ours(&data.origin) && !data.cross_origin, "the page is not ours")?;
        let challenge = URL_SAFE_NO_PAD.decode(&data.challenge).ok().and_then(|bytes| bytes.try_into().ok());
        let challenge =
            PasskeyChallenge(challenge.ok_or(InvalidPasskey("the challenge is not one of this server"))?);
        Ok(PasskeyRequest { challenge, hash: digest::digest(&digest::SHA256, client_data) })
    }

    /// The passkey that an authenticator has made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn made(&self, attestation_object: &[u8]) -> Result<NewPasskey, InvalidPasskey> {
        let malformed = InvalidPasskey("the attestation object cannot be read");
        let mut reader = CborReader::new(attestation_object);
        let data = reader.text_map().and_then(|map| match map.get("authData") {
            Some(CborValue::Bytes(data)) if reader.is_empty() => Some(*data),
            _ => None,
        });
        let data = self.authenticator_data(data.ok_or(malformed)?)?;
        check(data.flags & HAS_KEY != 0, "there is no key")?;
        let key = data.rest.get(16..).and_then(|rest| {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let (credential, rest) = key.ok_or(malformed)?;
        let mut reader = CborReader::new(rest);
        reader.skip().ok_or(malformed)?;
        let public_key = rest.get(..rest.len() - reader.left()).ok_or(malformed)?;
        if data.flags & HAS_EXTENSIONS != 0 {
            reader.skip().ok_or(malformed)?;
        }
        check(reader.is_empty(), "something follows the key")?;
        check((16..=1023).contains(&credential.len()), "the passkey's id is too short or too long")?;
        check(public_key.len() <= LONGEST_KEY, "the key is too long")?;
        PasskeyKey::read(public_key).ok_or(InvalidPasskey("the key is of another kind"))?;
        let (credential, public_key) = (credential.to_vec(), public_key.to_vec());
        Ok(NewPasskey { credential, public_key, sign_count: data.sign_count })
    }

    /// Whether the passkey of this public key has signed what it was asked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn proven(
        &self,
        request: &PasskeyRequest,
        (authenticator_data, signature): (&[u8], &[u8]),
        public_key: &[u8],
    ) -> Result<ProvenPasskey, InvalidPasskey> {
        let data = self.authenticator_data(authenticator_data)?;
        let key = PasskeyKey::read(public_key).ok_or(InvalidPasskey("the key is of another kind"))?;
        let signed = [authenticator_data, request.hash.as_ref()].concat();
        check(key.has_signed(&signed, signature), "the signature is wrong")?;
        Ok(ProvenPasskey { sign_count: data.sign_count, user_verified: data.flags & VERIFIED != 0 })
    }

    /// Reads what an authenticator says, which must be for our name and with somebody there.
    fn authenticator_data<'a>(&self, bytes: &'a [u8]) -> Result<AuthenticatorData<'a>, InvalidPasskey> {
        let parts = bytes.split_at_checked(32).and_then(|(name, rest)| {
            let (flags, rest) = rest.split_first()?;
            let (count, rest) = rest.split_first_chunk::<4>()?;
            Some((name, *flags, u32::from_be_bytes(*count), rest))
        });
        let (name, flags, sign_count, rest) =
            parts.ok_or(InvalidPasskey("the authenticator's data is too short"))?;
        let ours = digest::digest(&digest::SHA256, self.name.as_bytes());
        check(ours.as_ref() == name, "the passkey is for another name")?;
        check(flags & PRESENT != 0, "nobody was there")?;
        let copied = flags & (MAY_BE_BACKED_UP | BACKED_UP);
        check(copied != BACKED_UP, "the passkey is backed up, and cannot be")?;
        Ok(AuthenticatorData { flags, sign_count, rest })
    }

    fn is_ours(&self, origin: &str) -> bool {
        if self.origins.is_empty() {
            return origin.starts_with("http://") && host_of(origin) == Some("localhost");
        }
        self.origins.iter().any(|ours| ours == origin)
    }
}

/// A public key, by the algorithm that it is for.
enum PasskeyKey {
    Es256([u8; 65]),
    EdDsa([u8; 32]),
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PasskeyKey {
    fn read(cose: &[u8]) -> Option<Self> {
        let map = CborReader::new(cose).integer_map()?;
        let number = |label| match map.get(&label) {
            Some(CborValue::Integer(number)) => Some(*number),
            _ => None,
        };
        let bytes = |label| match map.get(&label) {
            Some(CborValue::Bytes(bytes)) => Some(*bytes),
            _ => None,
        };
        match (number(KEY_TYPE)?, number(ALGORITHM)?) {
            (2, ES256) if number(CURVE_OR_MODULUS) == Some(1) => {
                let (x, y): ([u8; 32], [u8; 32]) =
                    (bytes(X_OR_EXPONENT)?.try_into().ok()?, bytes(Y)?.try_into().ok()?);
                Some(Self::Es256([&[4][..], &x, &y].concat().try_into().ok()?))
            }
            (1, ED_DSA) if number(CURVE_OR_MODULUS) == Some(6) => {
                Some(Self::EdDsa(bytes(X_OR_EXPONENT)?.try_into().ok()?))
            }
            (3, RS256) => {
                let (modulus, exponent) = (bytes(CURVE_OR_MODULUS)?.to_vec(), bytes(X_OR_EXPONENT)?.to_vec());
                (256..=1024).contains(&modulus.len()).then_some(Self::Rs256 { modulus, exponent })
            }
            _ => None,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified =
            match self {
                Self::Es256(point) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
                }
                Self::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
                Self::Rs256 { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            };
        verified.is_ok()
    }
}

fn check(holds: bool, otherwise: &'static str) -> Result<(), InvalidPasskey> {
    if holds { Ok(()) } else { Err(InvalidPasskey(otherwise)) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    };

    use super::*;
    use crate::config::{Layers, MapSource};

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn site() -> PasskeySite {
        PasskeySite { name: "example.org".to_owned(), origins: vec!["https://example.org".to_owned()] }
    }

    /// The vectors of WebAuthn Level 3, 16.2: "ES256 Credential with No Attestation".
    const CREATED: &str = "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a2241\
        4d4d507434557878475453746e63647134313759447742466938767049612d7077386f4f75565734\
        5441222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73\
        734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a53\
        4f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c64\
        7320696e20746865206675747572652c207375636820617320746869733a20426b5165446a646354\
        427258426941774a544c453551227d";
    const ATTESTATION: &str = "a363666d74646e6f6e656761747453746d74a068617574684461746158a4bfabc37432958b063360\
        d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b559000000008446ccb9ab1db374750b2367ff\
        6f3a1f0020f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4a50102\
        03262001215820afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df6122\
        5820930a56b87a2fca66334b03458abf879717c12cc68ed73290af2e2664796b9220";
    const CREDENTIAL: &str = "f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4";
    const DATA: &str = "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b51900000000";
    const ASKED: &str = "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a224f63446e\
        55685158756c5455506f334a5558543049393770767a7a59425039745a6368587961763031416722\
        2c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f72\
        6967696e223a66616c73657d";
    const SIGNATURE: &str = "3046022100f50a4e2e4409249c4a853ba361282f09841df4dd4547a13a87780218deffcd38022100\
        8480ac0f0b93538174f575bf11a1dd5d78c6e486013f937295ea13653e331e87";

    #[test]
    fn the_vectors_of_the_specification_hold() {
        let asked = site().asked(PasskeyAct::Create, &bytes(CREATED)).unwrap();
        let challenge = "00c30fb78531c464d2b6771dab8d7b603c01162f2fa486bea70f283ae556e130";
        assert_eq!(asked.challenge.0.to_vec(), bytes(challenge));
        let made = site().made(&bytes(ATTESTATION)).unwrap();
        assert_eq!((&made.credential, made.sign_count), (&bytes(CREDENTIAL), 0));
        let asked = site().asked(PasskeyAct::Prove, &bytes(ASKED)).unwrap();
        let challenge = "39c0e7521417ba54d43e8dc95174f423dee9bf3cd804ff6d65c857c9abf4d408";
        assert_eq!(asked.challenge.0.to_vec(), bytes(challenge));
        let said = (&*bytes(DATA), &*bytes(SIGNATURE));
        let proven = site().proven(&asked, said, &made.public_key).unwrap();
        assert_eq!(proven, ProvenPasskey { sign_count: 0, user_verified: false });
    }

    #[test]
    fn what_was_said_elsewhere_or_of_something_else_is_refused() {
        let reason = |outcome: Result<PasskeyRequest, InvalidPasskey>| outcome.unwrap_err().0;
        let asked = |site: &PasskeySite, act| site.asked(act, &bytes(ASKED));
        assert_eq!(reason(asked(&site(), PasskeyAct::Create)), "the passkey was asked for something else");
        for origin in ["https://example.org:8443", "http://example.org", "https://www.example.org", "null"] {
            let elsewhere = PasskeySite { origins: vec![origin.to_owned()], ..site() };
            assert_eq!(reason(asked(&elsewhere, PasskeyAct::Prove)), "the page is not ours", "{origin}");
        }
        let framed = String::from_utf8(bytes(ASKED)).unwrap().replace("false", "true");
        assert_eq!(reason(site().asked(PasskeyAct::Prove, framed.as_bytes())), "the page is not ours");
        let (request, key) = (
            asked(&site(), PasskeyAct::Prove).unwrap(),
            site().made(&bytes(ATTESTATION)).unwrap().public_key,
        );
        let refused = |site: &PasskeySite, data: &[u8], signature: &[u8]| {
            site.proven(&request, (data, signature), &key).unwrap_err().0
        };
        let (data, signature) = (bytes(DATA), bytes(SIGNATURE));
        let other = PasskeySite { name: "example.com".to_owned(), ..site() };
        assert_eq!(refused(&other, &data, &signature), "the passkey is for another name");
        for at in 0..signature.len() {
            let mut forged = signature.clone();
            forged[at] ^= 1;
            assert_eq!(refused(&site(), &data, &forged), "the signature is wrong", "byte {at}");
        }
        let mut counted = data.clone();
        counted[36] = 1;
        assert_eq!(refused(&site(), &counted, &signature), "the signature is wrong");
        counted[32] = VERIFIED;
        assert_eq!(refused(&site(), &counted, &signature), "nobody was there");
        counted[32] = PRESENT | BACKED_UP;
        assert_eq!(refused(&site(), &counted, &signature), "the passkey is backed up, and cannot be");
    }

    /// Whatever bytes come, they are read or refused.
    #[test]
    fn what_is_cut_off_or_altered_does_no_harm() {
        let whole = bytes(ATTESTATION);
        for end in 0..whole.len() {
            assert!(site().made(&whole[..end]).is_err(), "{end}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut altered = whole.clone();
                altered[at] ^= 1 << bit;
                let _ = site().made(&altered);
            }
        }
        for bomb in [&[0x81; 10_000][..], &[0xa1; 10_000], &[0xbb; 20], &[0x9b; 20], &[0xff], &[]] {
            assert!(site().made(bomb).is_err());
        }
        assert!(site().asked(PasskeyAct::Prove, &[b'['; 100_000]).is_err());
        let request = site().asked(PasskeyAct::Prove, &bytes(ASKED)).unwrap();
        let key = site().made(&whole).unwrap().public_key;
        let (data, signature) = (bytes(DATA), bytes(SIGNATURE));
        for end in 0..data.len() {
            assert!(site().proven(&request, (&data[..end], &signature), &key).is_err(), "{end}");
        }
        for end in 0..signature.len() {
            assert!(site().proven(&request, (&data, &signature[..end]), &key).is_err(), "{end}");
        }
        for end in 0..key.len() {
            assert!(site().proven(&request, (&data, &signature), &key[..end]).is_err(), "{end}");
        }
    }

    /// A key is stored as it came, so there is no room in it for anything else.
    #[test]
    fn a_key_that_is_padded_is_refused() {
        let whole = bytes(ATTESTATION);
        let at = whole.windows(2).position(|pair| pair == [0x58, 0xa4]).unwrap();
        let padded = |length: u16| {
            let mut data = whole[at + 2..].to_vec();
            let key = data.len() - 77;
            data[key] = 0xa6;
            data.extend([0x38, 0x63, 0x59]);
            data.extend(length.to_be_bytes());
            data.extend(vec![0; usize::from(length)]);
            let size = u16::try_from(data.len()).unwrap().to_be_bytes();
            let parts: [&[u8]; 4] = [&whole[..at], &[0x59], &size, &data];
            parts.concat()
        };
        site().made(&padded(1900)).unwrap();
        assert_eq!(site().made(&padded(2000)).unwrap_err().0, "the key is too long");
    }

    /// A key of COSE, whose numbers and texts are short.
    fn cose(parts: &[(i64, CborValue<'_>)]) -> Vec<u8> {
        let mut out = vec![0xa0 | u8::try_from(parts.len()).unwrap()];
        let head = |out: &mut Vec<u8>, major: u8, value: usize| match value {
            0..24 => out.push(major << 5 | u8::try_from(value).unwrap()),
            _ => {
                out.push(major << 5 | 25);
                out.extend(u16::try_from(value).unwrap().to_be_bytes());
            }
        };
        let integer = |out: &mut Vec<u8>, number: i64| match usize::try_from(number) {
            Ok(number) => head(out, 0, number),
            Err(_) => head(out, 1, usize::try_from(-1 - number).unwrap()),
        };
        for (label, value) in parts {
            integer(&mut out, *label);
            match value {
                CborValue::Integer(number) => integer(&mut out, *number),
                CborValue::Bytes(bytes) => {
                    out.push(0x59);
                    out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(bytes);
                }
                CborValue::Other => unreachable!("keys have none"),
            }
        }
        out
    }

    #[test]
    fn keys_of_the_three_algorithms_are_read_and_no_others() {
        use CborValue::{Bytes, Integer};
        let (random, message) = (SystemRandom::new(), b"what was signed");
        let good = |key: &[u8], signature: &[u8]| {
            PasskeyKey::read(key).is_some_and(|key| key.has_signed(message, signature))
        };
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let es256 = |curve| {
            cose(&[(1, Integer(2)), (3, Integer(-7)), (-1, Integer(curve)), (-2, Bytes(x)), (-3, Bytes(y))])
        };
        let signature = pair.sign(&random, message).unwrap();
        assert!(good(&es256(1), signature.as_ref()) && !good(&es256(2), signature.as_ref()));
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = pair.public_key().as_ref();
        let ed =
            |algorithm| cose(&[(1, Integer(1)), (3, Integer(algorithm)), (-1, Integer(6)), (-2, Bytes(x))]);
        let signature = pair.sign(message);
        assert!(good(&ed(-8), signature.as_ref()) && !good(&ed(-7), signature.as_ref()));
        assert!(!good(&ed(-8), &[0; 64]));
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // As DER: two integers, of 257 bytes, the first of them zero, and of three.
        let (n, e) = match pair.public_key().as_ref() {
            [0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0, rest @ ..] => (rest[..256].to_vec(), rest[258..].to_vec()),
            other => panic!("{other:x?}"),
        };
        assert_eq!(e, [1, 0, 1]);
        let rsa = cose(&[(1, Integer(3)), (3, Integer(-257)), (-1, Bytes(&n)), (-2, Bytes(&e))]);
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
        assert!(good(&rsa, &signature));
        let short = cose(&[(1, Integer(3)), (3, Integer(-257)), (-1, Bytes(&n[..128])), (-2, Bytes(&e))]);
        assert!(PasskeyKey::read(&short).is_none(), "1024 bits are too few");
        let mut even = n.clone();
        even[n.len() - 1] &= 0xfe;
        let all: [(&[u8], &[u8]); 7] = [
            (&*n, &[][..]),
            (&n, &[0]),
            (&n, &[1]),
            (&n, &[2]),
            (&n, &[0xff; 600]),
            (&even, &e),
            (&[0; 256], &e),
        ];
        for (n, e) in all {
            let odd = cose(&[(1, Integer(3)), (3, Integer(-257)), (-1, Bytes(n)), (-2, Bytes(e))]);
            assert!(!good(&odd, &signature), "{e:?}");
        }
    }

    #[test]
    fn in_development_any_port_of_this_machine_is_ours() {
        let here = PasskeySite { name: "localhost".to_owned(), origins: Vec::new() };
        for (origin, ours) in [
            ("http://localhost:3001", true),
            ("http://localhost", true),
            ("https://localhost:3001", false),
            ("http://localhost.evil.example", false),
            ("http://127.0.0.1:3001", false),
        ] {
            assert_eq!(here.is_ours(origin), ours, "{origin}");
        }
    }

    #[test]
    fn t_17_a_tenants_own_pages_are_ours_where_its_name_is_of_the_site() {
        let site = |settings: &[(&str, &str)]| {
            let settings = MapSource::environment(settings.iter().copied());
            let config = Config::load(&Layers::from(settings)).unwrap();
            PasskeySite::of(&config).unwrap().and_of_tenant(&config, "acme")
        };
        let url = ("PUBLIC_URL", "https://erp.example.com:8443");
        let both = site(&[url, ("TENANT_DOMAIN", "erp.example.com")]);
        for (origin, ours) in [
            ("https://erp.example.com:8443", true),
            ("https://acme.erp.example.com:8443", true),
            ("https://globex.erp.example.com:8443", false),
            ("https://acme.erp.example.com", false),
            ("http://acme.erp.example.com:8443", false),
            ("https://x.acme.erp.example.com:8443", false),
            ("https://acme.erp.example.com:8443.evil.example", false),
        ] {
            assert_eq!(both.is_ours(origin), ours, "{origin}");
        }
        let elsewhere = ("TENANT_DOMAIN", "tenants.example.com");
        for (name, ours) in [("erp.example.com", false), ("example.com", true)] {
            let site = site(&[url, elsewhere, ("PASSKEY_RP_ID", name)]);
            assert!(site.is_ours("https://erp.example.com:8443"));
            assert_eq!(site.is_ours("https://acme.tenants.example.com:8443"), ours, "{name}");
        }
        assert!(!site(&[url]).is_ours("https://acme.erp.example.com:8443"));
    }
}
