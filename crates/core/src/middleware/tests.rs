//! What every layer's file has.

use std::path::Path;

/// The wings, in the order of the chain's documentation.
const WINGS: [&str; 5] = ["origin", "admission", "representation", "boundary", "idempotency"];
/// The files that are no layer: what layers share.
const NO_LAYERS: [&str; 4] =
    ["origin/forwarded.rs", "representation/encoder.rs", "idempotency/claim.rs", "idempotency/sealed.rs"];

#[test]
fn every_layer_says_what_it_assumes_of_the_deployment_and_has_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/middleware");
    for file in NO_LAYERS {
        assert!(folder.join(file).is_file(), "{file} is no more: take it off the list");
    }
    let files = WINGS.iter().flat_map(|wing| std::fs::read_dir(folder.join(wing)).unwrap());
    let layers = files.map(|entry| entry.unwrap().path()).filter(|path| {
        let introduces_a_wing = path.ends_with("mod.rs") && !path.ends_with("idempotency/mod.rs");
        !introduces_a_wing && !NO_LAYERS.iter().any(|file| path.ends_with(file))
    });
    let mut seen = 0;
    for path in layers {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
        let header = lines.collect::<String>();
        let name = path.display();
        assert!(
            header.contains(" Assumes ") || header.contains(" It assumes "),
            "{name}: what does it assume?"
        );
        // What needs a whole app, or a database, names the test that shows it.
        let tested = text.contains("#[cfg(test)]") || header.contains("crates/server/tests/it/");
        assert!(tested, "{name} has no tests");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} layers");
}
