//! What every layer's file has.

use std::path::Path;

/// The files that are no layer: the chain itself, this file, and what layers share.
const NO_LAYERS: [&str; 6] =
    ["mod.rs", "tests.rs", "encoder.rs", "forwarded.rs", "header_value.rs", "vary.rs"];

#[test]
fn every_layer_says_what_it_assumes_of_the_deployment_and_has_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/middleware");
    for file in NO_LAYERS {
        assert!(folder.join(file).is_file(), "{file} is no more: take it off the list");
    }
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let layers = entries.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        path.is_file() && !NO_LAYERS.contains(&name)
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
