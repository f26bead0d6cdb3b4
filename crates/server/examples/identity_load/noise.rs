//! What a tenant notices of another one that sends ten times what it may.

use std::io;
use std::time::Duration;

use erp_testkit::Measurement;
use http::StatusCode;

use super::Bench;
use super::traffic::open;

/// 50 requests a second, of each of two tenants.
const PLAN: &str = "insert into plans (name, rate_limit_max) values ('measured', 3000); begin; \
     set local app.tenant_id = '{one}'; insert into tenant_plans (plan) values ('measured'); set constraints all immediate; \
     set local app.tenant_id = '{other}'; insert into tenant_plans (plan) values ('measured'); commit";
/// A plan counts within five seconds.
const FOLLOWED: Duration = Duration::from_secs(6);
const TIME: Duration = Duration::from_secs(10);

pub(super) async fn measure(bench: &Bench<'_>) -> io::Result<Vec<Measurement>> {
    let (one, other) = (bench.person("acme")?, bench.person("globex")?);
    let plan =
        PLAN.replace("{one}", &one.tenant_id.to_string()).replace("{other}", &other.tenant_id.to_string());
    bench.database.superuser().await.batch_execute(&plan).await.map_err(io::Error::other)?;
    tokio::time::sleep(FOLLOWED).await;
    let noisy = bench.token(one)?;
    let other = bench.token(other)?;
    let edge = &bench.context.edge;
    let send = |rate: f64, token: &str, from: [u8; 4]| {
        let (edge, token) = (edge.clone(), token.to_owned());
        open(rate, TIME, move |_| super::sign_ins::read(edge.clone(), token.clone(), from))
    };
    let quiet = send(25.0, &other, [127, 0, 0, 3]).await;
    let (flood, beside) =
        tokio::join!(send(500.0, &noisy, [127, 0, 0, 2]), send(25.0, &other, [127, 0, 0, 3]));
    let refused = |status: StatusCode| {
        status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
    };
    let row = |name, value, unit| Measurement { name, value, unit, bound: None };
    Ok(vec![
        row("of a tenant at ten times its quota, refused", flood.count(refused) as f64, ""),
        Measurement::at_most("of the other one's, refused", beside.count(refused) as f64, "", 0.0),
        Measurement::at_most(
            "p95 of the other one, in times",
            beside.percentile(95) / quiet.percentile(95),
            "x",
            2.0,
        ),
    ])
}
