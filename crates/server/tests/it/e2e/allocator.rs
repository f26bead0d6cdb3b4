//! The build with the feature `jemalloc`: `script/check-deep` makes it.

use super::database::Database;
use super::http::Client;
use super::process::{Home, Process};

#[test]
fn the_allocator_says_what_it_holds() {
    let (home, database) = (Home::new(), Database::migrated("allocator"));
    let server = Process::serve(&home, &database.both());
    let text = Client::new(&server.address()).get("/metrics").unwrap().body;
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    let (allocated, resident) = (value("allocator_allocated_bytes "), value("allocator_resident_bytes "));
    assert!(1e6 < allocated && allocated < resident, "{allocated} of {resident}");
    assert!(resident <= value("process_resident_memory_peak_bytes "), "{resident}");
    println!(
        "deep: allocator: {:.1} of {:.1} MiB allocated",
        allocated / 1_048_576.0,
        resident / 1_048_576.0
    );
    assert_eq!(server.stop("TERM").code, 0);
}
