//! The code that `docs/guides/platform-services.md` shows is compiled here, a file for each section, and runs. That of imports
//! is the catalogue's.

mod cache;
mod events;
mod files;
mod jobs;
mod mail;
mod outbound;
mod schedules;
mod webhooks;

/// Without white space.
fn bare(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_guide_to_services_shows_the_code_that_is_compiled_here() {
    let guide = super::file("docs/guides/platform-services.md");
    let ours = [
        include_str!("cache.rs"),
        include_str!("events.rs"),
        include_str!("files.rs"),
        include_str!("jobs.rs"),
        include_str!("mail.rs"),
        include_str!("dunning/overdue.en.html"),
        include_str!("outbound.rs"),
        include_str!("schedules.rs"),
        include_str!("webhooks.rs"),
        include_str!("../../../../../modules/src/catalog/imports.rs"),
    ]
    .map(bare);
    let shown = super::blocks(&guide);
    assert!(shown.len() >= ours.len());
    for block in shown {
        assert!(ours.iter().any(|file| file.contains(&bare(block))), "this is not compiled:\n{block}");
    }
}
