//! The product that this repository builds.

use erp_core::module::Product;

use crate::{ALL, demo};

/// The product that this repository builds.
pub const PRODUCT: Product = Product {
    name: "erp-backend",
    version: env!("CARGO_PKG_VERSION"),
    modules: ALL,
    seed: |seed| Box::pin(demo::seed(seed)),
};

#[cfg(test)]
mod tests {
    use erp_core::module::Module;

    use super::*;

    /// The names of the SQL files in a folder of a module.
    fn files(module: &Module, folder: &str) -> Vec<String> {
        let folder = format!("{}/src/{}/{folder}", env!("CARGO_MANIFEST_DIR"), module.name);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".sql").map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_of_a_module_is_embedded() {
        for module in ALL {
            let listed: Vec<&str> = module.migrations.iter().map(|migration| migration.name).collect();
            assert_eq!(
                listed,
                files(module, "migrations"),
                "name the file in `migrations` of {}",
                module.name
            );
            let mut samples: Vec<&str> = module.samples.iter().map(|sample| sample.table).collect();
            samples.sort_unstable();
            assert_eq!(samples, files(module, "samples"), "name the file in `samples` of {}", module.name);
        }
    }
}
