//! What Rust declares of the states of documents is what PostgreSQL keeps to.

use std::collections::{BTreeMap, BTreeSet};

use erp_core::factory::modules;
use erp_modules::PRODUCT;
use erp_testkit::TestApp;

/// The check on the words, the trigger's first state and transitions, and the pairs of persons, by table.
const KEPT: &str = "select t.tgrelid::regclass::text, encode(t.tgargs, 'escape'), \
    (select pg_get_constraintdef(c.oid) from pg_constraint c where c.conrelid = t.tgrelid \
      and c.conname = t.tgrelid::regclass::text || '_status_check'), \
    array(select c.conname::text from pg_constraint c where c.conrelid = t.tgrelid and c.conname like '%\\_not\\_%') \
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid where p.proname = 'keep_state' and t.tgname = 'moves'";

#[tokio::test]
async fn the_states_that_rust_declares_are_those_of_the_database() {
    let app = TestApp::start().await;
    let declared = modules(&PRODUCT).flat_map(|module| module.states);
    let mut declared: BTreeMap<&str, _> = declared.map(|states| (states.table, *states)).collect();
    for row in app.sql().query(KEPT, &[]).await.unwrap() {
        let (table, arguments, check): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let states =
            declared.remove(&*table).unwrap_or_else(|| panic!("{table}: name its states in its module"));
        let list = check.split('\'').nth(1).unwrap().trim_matches(['{', '}']);
        assert_eq!(list.split(',').collect::<Vec<_>>(), states.words, "{table}: {check}");
        let mut arguments = arguments.split("\\000");
        assert_eq!(arguments.next(), Some(states.words[0]), "{table}: the first state");
        let kept: BTreeSet<&str> = arguments.next().unwrap().trim_matches(['{', '}']).split(',').collect();
        let steps = states.transitions.iter().flat_map(|step| step.from.iter().map(|from| (*from, step.to)));
        let moves: BTreeSet<String> =
            steps.filter(|(from, to)| from != to).map(|(from, to)| format!("{from}>{to}")).collect();
        assert_eq!(
            kept,
            moves.iter().map(String::as_str).collect(),
            "{table}: app.states and states! differ"
        );
        let kept: BTreeSet<String> = row.get::<_, Vec<String>>(3).into_iter().collect();
        let pairs =
            states.transitions.iter().flat_map(|step| step.unlike.iter().map(|other| (step.by, *other)));
        let pairs: BTreeSet<String> = pairs.map(|(by, other)| format!("{table}_{by}_not_{other}")).collect();
        assert_eq!(kept, pairs, "{table}: `separate` of app.states and `unlike` of states! differ");
    }
    assert!(declared.is_empty(), "no app.states in a migration: {:?}", declared.keys());
    app.finish().await;
}

#[tokio::test]
async fn a_transition_between_states_that_are_not_there_is_refused() {
    let app = TestApp::start().await;
    for (transitions, says) in [
        ("{a>c}", "the transition 'a>c' is not one of two of its states"),
        ("{a}", "the transition 'a' is not"),
    ] {
        let sql = format!("begin; select app.states('purchase_orders', '{{a,b}}', '{transitions}')");
        let refused = app.sql().batch_execute(&sql).await.unwrap_err();
        app.sql().batch_execute("rollback").await.unwrap();
        let refused = refused.as_db_error().unwrap();
        assert!(refused.message().contains(says) && refused.hint().is_some(), "{refused:?}");
    }
    app.finish().await;
}
