//! What the product is compared with: `peers bare|bare-ping|usual`, told the rest by its environment
//! (`PORT`, `DATABASE_URL`, `DATABASE_MAX_CONNECTIONS`, `JWT_SECRET`), as the product is.

mod bare;
mod token;
mod usual;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use tokio::net::TcpListener;

/// The product's statement for one item.
const READ: &str =
    "select id, sku, name, description, quantity, created_at, updated_at, version from items where id = $1";

/// An item, and its audit row as a service would write it that has none numbered: `seq` is as good as unique.
const CREATE: &str = "insert into items (id, sku, name, description, quantity) values (gen_random_uuid(), $1, $2, $3, $4) \
     returning id, sku, name, description, quantity, created_at, updated_at, version";
const TELL: &str = "insert into audit_log (seq, at, actor, action, resource, resource_id, after, correlation_id, client_ip) \
     values ((random() * 9007199254740991)::bigint, clock_timestamp(), 'somebody', 'item.created', 'item', $1::uuid::text, $2, \
     'req_0123456789abcdef', '127.0.0.1')";

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("bare") => serve(bare::router()?).await,
        Some("bare-ping") => serve(bare::ping()).await,
        Some("usual") => {
            let (router, _writer) = usual::router()?;
            serve(router).await
        }
        _ => bail!("usage: peers bare|bare-ping|usual"),
    }
}

async fn serve(router: Router) -> Result<()> {
    use axum::serve::ListenerExt as _;
    let port = variable("PORT")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

fn variable(name: &'static str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

fn max_connections() -> Result<u32> {
    Ok(variable("DATABASE_MAX_CONNECTIONS")?.parse()?)
}
