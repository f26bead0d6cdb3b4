//! What is put into the database, and what is read there.

use std::io;
use std::time::{Duration, Instant};

use erp_testkit::Database;
use tokio_postgres::Client;

/// How long jobs may take to come to an end.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Jobs that are there already, of `tenants` tenants. They are for the owner of the first demo tenant's permissions, so
/// that there is somebody on whose behalf they run.
pub(crate) async fn fill(
    root: &Client,
    database: &Database,
    kind: &str,
    tenants: u32,
    each: u32,
) -> io::Result<()> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?.user_id;
    let sql = format!(
        "insert into tenants (id, slug) select gen_random_uuid(), 'bench-' || n from generate_series(1, {tenants}) n;
         insert into memberships (tenant_id, user_id, email)
           select t.id, '{person}'::uuid, 'bench@example.com' from tenants t where t.slug like 'bench-%';
         insert into grants (tenant_id, id, principal_id, built_in)
           select t.id, gen_random_uuid(), '{person}'::uuid, 'owner' from tenants t where t.slug like 'bench-%';
         insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, origin, args, enqueued_at)
           select t.id, gen_random_uuid(), '{kind}', 1, 0, 1000, '{person}'::uuid, 'bench', 'null', now()
           from generate_series(1, {each}) n, tenants t where t.slug like 'bench-%';"
    );
    // The tenants with their triggers, which make the heads of their audit logs; the rest, which is much, without.
    let (tenants, rest) = sql.split_once(';').unwrap_or((&sql, ""));
    let sql = format!(
        "{tenants}; set session_replication_role = replica; {rest} set session_replication_role = default; analyze;"
    );
    root.batch_execute(&sql).await.map_err(io::Error::other)
}

pub(crate) async fn number(root: &Client, sql: &str) -> io::Result<f64> {
    let row = root.query_one(sql, &[]).await.map_err(io::Error::other)?;
    Ok(row.get::<_, Option<f64>>(0).unwrap_or(f64::NAN))
}

/// Waits until so many jobs are done.
pub(crate) async fn done(root: &Client, count: u32) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while number(root, "select count(*)::float8 from job_done").await? < f64::from(count) {
        if Instant::now() > deadline {
            return Err(io::Error::other("the jobs have not come to an end"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
