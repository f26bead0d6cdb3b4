use super::{METRICS, Metric, MetricTable};

/// `docs/reference/metrics.md`, with a chapter for each module that has metrics of its own.
pub fn render_markdown(modules: &[(&str, &[MetricTable])]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Generated from crates/core/src/metrics/table.rs: run the tests with BLESS=1 to write it anew. -->\n\n\
         `/metrics` answers in Prometheus' text format 0.0.4, or in OpenMetrics 1.0 where `Accept` prefers it. A metric has at\n\
         most 1000 series, and 4000 more of single tenants; what is beyond is counted under the tenant `other`, then in one\n\
         series whose labels all say `other`. A label without a value is left out.\n\n\
         The label `tenant` is the UUID of one of the `METRICS_TENANT_LIMIT` busiest tenants, or `other`. The first tenants\n\
         take a place each; later, at the first scrape after a minute, one that recorded more than twice as much as the least\n\
         busy place takes it over, and the series of the one that leaves disappear a minute later. What has no tenant, such\n\
         as a probe, has no such label.\n\n\
         Metrics that code records by name register themselves: 500 names, and together as many series as one metric has.\n\
         A counter's name ends in `_total`, a timer's in `_duration_seconds`; `business_<name>` is the sum of a figure since\n\
         the start.\n\n\
         ",
    );
    page.push_str(&rows(METRICS));
    for (module, tables) in modules.iter().filter(|(_, tables)| !tables.is_empty()) {
        let all: Vec<_> = tables.iter().flat_map(|table| table.rows).copied().collect();
        page.push_str(&format!("\n## Of the module `{module}`\n\n{}", rows(&all)));
    }
    page
}

fn rows(metrics: &[&Metric]) -> String {
    let mut page = String::from(
        "| Metric | Kind | Labels | Unit | Meaning | Look at it when |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        page.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            dash(&labels.join(", ")),
            metric.unit,
            metric.help(),
            dash(metric.alert),
        ));
    }
    page
}
