use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An authenticator with one passkey, and the browser before it, made by the book and not of the product's parts.
pub struct SoftwarePasskey {
    pair: EcdsaKeyPair,
    credential: [u8; 16],
    /// The page that asks.
    pub origin: String,
    /// How often it has signed.
    pub count: u32,
    /// Whether it counts; those that several devices share do not.
    pub counts: bool,
    /// Whether its owner is asked, by a PIN or a finger.
    pub verifies: bool,
    /// Whose it is, as it was told when it was made.
    owner: Mutex<Value>,
}

impl SoftwarePasskey {
    /// A new one.
    ///
    /// # Panics
    /// Where there is no randomness.
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key can be made");
        let mut credential = [0; 16];
        aws_lc_rs::rand::fill(&mut credential).expect("there is randomness");
        let origin = "http://localhost:3001".to_owned();
        Self { pair, credential, origin, count: 0, counts: true, verifies: true, owner: Mutex::default() }
    }

    /// What it answers when it is to be made: the body of `POST /api/v1/auth/passkeys`.
    ///
    /// # Panics
    /// When it is asked otherwise.
    pub fn made(&self, options: &Value) -> Value {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if owner.is_null() {
            *owner = options["userId"].clone();
        }
        drop(owner);
        let key = self.pair.public_key().as_ref();
        let cose: [&[u8]; 4] = [
            &[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20],
            &key[1..33],
            &[0x22, 0x58, 0x20],
            &key[33..],
        ];
        let key: [&[u8]; 4] = [&[0; 16], &[0, 16], &self.credential, &cose.concat()];
        let data = [self.data(options, 0x45), key.concat()].concat();
        let length = u8::try_from(data.len()).expect("it is short");
        let object =
            [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".as_slice(), &[length], &data].concat();
        json!({
            "name": "Software",
            "clientData": encoded(&self.client_data("webauthn.create", options)),
            "attestationObject": encoded(&object),
        })
    }

    /// What it answers when it is to be proven.
    ///
    /// # Panics
    /// When it is asked otherwise.
    pub fn proven(&mut self, question: &Value) -> Value {
        self.count += u32::from(self.counts);
        let flags = if self.verifies { 0x05 } else { 0x01 };
        let (client, data) = (self.client_data("webauthn.get", question), self.data(question, flags));
        let signed = [&data, digest(&SHA256, &client).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).expect("it signs");
        let mut answer = json!({
            "credential": encoded(&self.credential),
            "clientData": encoded(&client),
            "authenticatorData": encoded(&data),
            "signature": encoded(signature.as_ref()),
        });
        // Who was not named is found by it.
        if question["credentials"].as_array().is_some_and(Vec::is_empty) {
            answer["userHandle"] = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        answer
    }

    fn client_data(&self, act: &str, asked: &Value) -> Vec<u8> {
        let said = json!({ "type": act, "challenge": asked["challenge"], "origin": self.origin, "crossOrigin": false });
        said.to_string().into_bytes()
    }

    fn data(&self, asked: &Value, flags: u8) -> Vec<u8> {
        let name = digest(&SHA256, asked["rpId"].as_str().expect("it says for which name").as_bytes());
        [name.as_ref(), &[flags], &self.count.to_be_bytes()].concat()
    }
}

impl Default for SoftwarePasskey {
    fn default() -> Self {
        Self::new()
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
