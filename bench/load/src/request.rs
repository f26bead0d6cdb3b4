//! The requests that are sent, as bytes: made beforehand, so that the client costs little.

use std::rc::Rc;

use anyhow::Result;

use crate::client::FRESH;
use crate::data::{self, ITEMS, TENANTS, USERS_PER_TENANT};
use crate::token::Signer;

/// Enough that neither tenants nor items repeat in an order that a cache would like.
const REQUESTS: u64 = 20_000;

/// A request without a credential.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: application/json\r\n\r\n")
        .into_bytes()
}

/// Reads one item with a token.
pub fn read_item(token: &str, item: uuid::Uuid) -> Vec<u8> {
    format!(
        "GET /api/v1/items/{item} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: application/json\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// Creates items, each under an article number of its own, by one person of each of so many tenants.
pub fn creates(signer: &Signer, tenants: u64) -> Result<Rc<Vec<Vec<u8>>>> {
    let fresh = String::from_utf8_lossy(FRESH);
    let body = format!(
        "{{\"sku\":\"N-{fresh}\",\"name\":\"Bolt M8\",\"description\":\"An item of middling length, as they are\",\"quantity\":7}}"
    );
    let length = body.len();
    let create = |tenant| {
        let token = signer.sign(data::tenant(tenant), data::user(tenant, 1))?;
        Ok(format!(
            "POST /api/v1/items HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: application/json\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes())
    };
    Ok(Rc::new((1..=tenants).map(create).collect::<Result<_>>()?))
}

/// Signs in to a tenant of the product.
pub fn sign_in(tenant: &str, email: &str, password: &str) -> Vec<u8> {
    let body = serde_json::json!({ "tenant": tenant, "email": email, "password": password }).to_string();
    let length = body.len();
    format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Point reads of random items by random people of random tenants, with fresh tokens.
pub fn point_reads(signer: &Signer) -> Result<Rc<Vec<Vec<u8>>>> {
    point_reads_of(signer, TENANTS, USERS_PER_TENANT)
}

/// The same by one of each of ten tenants: under a profiler, where everything takes fifty times as long, what is
/// remembered of them for seconds is then found as often as it is without one.
pub fn point_reads_of_few(signer: &Signer) -> Result<Rc<Vec<Vec<u8>>>> {
    point_reads_of(signer, 10, 1)
}

fn point_reads_of(signer: &Signer, tenants: u64, people: u64) -> Result<Rc<Vec<Vec<u8>>>> {
    let mut tokens = Vec::new();
    for tenant in 1..=tenants {
        for user in 1..=people {
            tokens.push((tenant, signer.sign(data::tenant(tenant), data::user(tenant, user))?));
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let requests = (0..REQUESTS).map(|_| {
        let (tenant, token) = &tokens[random.below(tokens.len() as u64) as usize];
        read_item(token, data::item(*tenant, random.below(ITEMS) + 1))
    });
    Ok(Rc::new(requests.collect()))
}

/// xorshift64*: the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
