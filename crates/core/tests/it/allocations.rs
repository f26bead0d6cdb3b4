//! What recording a metric takes from the allocator: nothing, with a held handle.

use std::time::Duration;

use allocation_counter::measure;
use erp_core::metrics::Metrics;
use erp_core::shared::{SystemClock, SystemRng, TenantId};

#[test]
fn a_held_handle_records_without_allocation() {
    let metrics = Metrics::new(true);
    let counter = metrics.http_requests_total.with(&["GET", "/api/v1/items/{id}", "200", ""]);
    let histogram = metrics.http_request_duration_ms.with(&["GET", "/api/v1/items/{id}", ""]);
    let gauge = metrics.db_pool_connections.with(&["used"]);
    let record = || {
        for _ in 0..1000 {
            counter.inc();
            histogram.observe(1.5);
            gauge.set(3.0);
        }
    };
    assert_eq!(measure(record).count_total, 0);
    assert_eq!((counter.get(), gauge.get()), (1000, 3.0));
    assert!(measure(|| drop(vec![1_u8])).count_total > 0, "the counter counts");
}

#[test]
fn a_request_whose_series_are_there_is_recorded_without_allocation() {
    let metrics = Metrics::new(true);
    let tenant = Some(TenantId::new(&SystemClock, &SystemRng::new()));
    let record = || {
        metrics.record_request("GET", "/api/v1/items/{id}", 200, Duration::from_millis(1), tenant);
        metrics.record_database("select", "items", Duration::from_millis(1), true, tenant);
    };
    record();
    assert_eq!(measure(record).count_total, 0);
}
