use super::METRICS;

/// `docs/reference/metrics.md`.
pub fn render_markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Generated from crates/core/src/metrics/table.rs: run the tests with BLESS=1 to write it anew. -->\n\n\
         `/metrics` answers in Prometheus' text format 0.0.4, or in OpenMetrics 1.0 where `Accept` prefers it. A metric has at\n\
         most 1000 series; what is beyond is counted in one whose labels all say `other`.\n\n\
         | Metric | Kind | Labels | Unit | Meaning | Look at it when |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for metric in METRICS {
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
