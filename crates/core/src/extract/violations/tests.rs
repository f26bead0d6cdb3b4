use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::shared::{Day, Id, Int, List, Money, Tenant, Text};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Order {
    sku: Text<1, 5>,
    note: Option<Text<0, 5>>,
    tenant: Id<Tenant>,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Line {
    quantity: u16,
    code: Text<2, 3>,
    gift: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// By us.
    #[default]
    Delivered,
    /// By them.
    Fetched,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Search {
    q: Option<Text<1, 5>>,
    most: Option<u16>,
    open: Option<bool>,
}

const TENANT: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

fn found(value: &Value) -> Vec<(String, &'static str)> {
    of_body::<Order>(value).into_iter().map(|one| (one.pointer, one.code)).collect()
}

#[test]
fn i_01_all_violations_come_at_once_each_with_its_place() {
    let order = json!({
        "sku": "toolong", "note": "a\u{7}", "tenant": "x", "kind": "lost", "tenant_id": 1, "a/b~": 2,
        "lines": [{ "quantity": 70_000, "code": " a " }, { "quantity": 1e3, "code": 7, "gift": null }, 5],
    });
    let expected = [
        ("/a~1b~0", "unknown"),
        ("/kind", "unknown"),
        ("/lines/0/code", "length"),
        ("/lines/0/quantity", "range"),
        ("/lines/1/code", "type"),
        ("/lines/1/quantity", "type"),
        ("/lines/2", "type"),
        ("/note", "character"),
        ("/sku", "length"),
        ("/tenant", "invalid"),
        ("/tenant_id", "unknown"),
    ];
    let mut all = found(&order);
    all.sort();
    assert_eq!(all, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    assert_eq!(
        found(&json!({ "lines": {} })),
        [("/lines".to_owned(), "type"), ("/sku".to_owned(), "missing"), ("/tenant".to_owned(), "missing")]
    );
}

#[test]
fn i_02_a_violation_tells_back_no_more_than_is_bearable() {
    let name = "x".repeat(50_000);
    let many: Vec<Value> = (0..5000).map(|_| Value::Null).collect();
    let order = json!({ name: 1, "lines": many, "sku": "a", "tenant": TENANT });
    let all = of_body::<Order>(&order);
    assert_eq!(all.len(), MOST);
    assert!(all.iter().all(|one| one.pointer.chars().count() <= LONGEST + 1));
}

#[test]
fn a_query_is_told_all_its_violations() {
    let pairs = form_urlencoded::parse(b"q=&most=70000&open=maybe&Q=1&most=x");
    let mut all: Vec<_> = of_query::<Search>(pairs).into_iter().map(|one| (one.pointer, one.code)).collect();
    all.sort();
    let expected =
        [("?Q", "unknown"), ("?most", "duplicate"), ("?most", "type"), ("?open", "type"), ("?q", "length")];
    assert_eq!(all, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

/// Text as it may come: of letters, marks that compose, spaces of several kinds, control characters.
fn text() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        6 => proptest::char::range('a', 'c'),
        1 => Just('\u{301}'),
        1 => Just('e'),
        2 => prop_oneof![Just(' '), Just('\u{a0}'), Just('\u{2003}'), Just('\u{3000}'), Just('\u{feff}')],
        1 => prop_oneof![Just('\0'), Just('\n'), Just('\u{85}'), Just('\u{7f}')],
        1 => any::<char>(),
    ];
    vec(one, 0..7).prop_map(String::from_iter)
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ]
}

fn mostly(good: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![9 => good, 1 => anything()]
}

fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            (prop_oneof![8 => Just(name), 1 => Just("other")], proptest::option::weighted(0.9, value))
        })
        .collect();
    fields.prop_map(|fields| {
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn order() -> impl Strategy<Value = Value> {
    let string = || mostly(text().prop_map(Value::from)).boxed();
    let word = prop_oneof![Just(json!("delivered")), Just(json!("fetched")), Just(json!("Fetched"))];
    let id = prop_oneof![
        Just(json!(TENANT)),
        Just(json!(TENANT.to_uppercase())),
        Just(json!(TENANT.replace('-', "")))
    ];
    let line = object(vec![
        ("quantity", mostly((-2_i64..70_000).prop_map(Value::from)).boxed()),
        ("code", string()),
        ("gift", mostly(any::<bool>().prop_map(Value::from)).boxed()),
    ]);
    let lines = vec(mostly(line), 0..3).prop_map(Value::from);
    object(vec![
        ("sku", string()),
        ("note", string()),
        ("tenant", mostly(id).boxed()),
        ("kind", mostly(word).boxed()),
        ("lines", mostly(lines).boxed()),
    ])
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Payment {
    total: Money,
    price: Option<Money<0>>,
    paid_on: Option<Day>,
}

/// Texts that are amounts of some currency, of another or of none.
fn amount() -> impl Strategy<Value = Value> {
    let shaped =
        ("-?", "(0|[1-9][0-9]{0,17})", r"(\.[0-9]{1,4})?").prop_map(|parts| parts.0 + &parts.1 + &parts.2);
    prop_oneof![6 => shaped, 1 => "[-+ 0-9.eE]{0,6}", 1 => text()].prop_map(Value::from)
}

fn money() -> impl Strategy<Value = Value> {
    let currency = prop_oneof![Just("EUR"), Just("JPY"), Just("BHD"), Just("CLF"), Just("eur"), Just("XXX")];
    object(vec![
        ("amount", mostly(amount()).boxed()),
        ("currency", mostly(currency.prop_map(Value::from)).boxed()),
    ])
}

fn payment() -> impl Strategy<Value = Value> {
    let day = prop_oneof![9 => r"(0000|0001|2024|9998|9999)-0[0-3]-(28|29|30)", 1 => r"[0-9-]{8,11}"];
    object(vec![
        ("total", mostly(money()).boxed()),
        ("price", mostly(money()).boxed()),
        ("paid_on", mostly(day.prop_map(Value::from)).boxed()),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i_01_serde_and_the_schema_refuse_the_same_bodies(value in order()) {
        let accepted = serde_json::from_value::<Order>(value.clone());
        let violations = of_body::<Order>(&value);
        prop_assert_eq!(accepted.is_ok(), violations.is_empty(), "{:?} {:?} {}", accepted, violations, value);
    }

    #[test]
    fn i_01_serde_and_the_schema_refuse_the_same_amounts_and_days(value in payment()) {
        let accepted = serde_json::from_value::<Payment>(value.clone());
        let violations = of_body::<Payment>(&value);
        prop_assert_eq!(accepted.is_ok(), violations.is_empty(), "{:?} {:?} {}", accepted, violations, value);
    }

    #[test]
    fn i_01_a_text_fits_its_type_when_it_fits_the_pattern_and_bounds_of_the_schema(text in text()) {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Text<2, 5>>();
        let pattern = regex_lite::Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap();
        let fits = pattern.is_match(&text)
            && (2..=5).contains(&text.chars().count())
            && crate::shared::Form::Text.refuses(&text).is_none();
        let parsed = Text::<2, 5>::parse(&text);
        // Composition may make a text shorter, and rarely longer, than its schema can say.
        let changed = crate::shared::normalise(&text).0 != text.trim();
        prop_assert!(fits == parsed.is_ok() || (fits && changed), "{:?}: {:?}", text, parsed);
    }

    #[test]
    fn i_01_serde_and_the_schema_refuse_the_same_queries(
        pairs in vec((prop_oneof![Just("q"), Just("most"), Just("open"), Just("Q")],
            prop_oneof![text(), any::<i64>().prop_map(|n| n.to_string()), (0..9_u8).prop_map(|n| format!("+0{n}")),
                Just("true".to_owned())]), 0..4)
    ) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let accepted = serde_urlencoded::from_str::<Search>(&query);
        let violations = of_query::<Search>(form_urlencoded::parse(query.as_bytes()));
        prop_assert_eq!(accepted.is_ok(), violations.is_empty(), "{:?} {:?} {}", accepted, violations, query);
    }
}

/// What a client needs to say it in another language.
#[test]
fn i_01_violations_carry_the_numbers_and_words_of_their_details() {
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        name: Text<1, 5>,
        quantity: Int<0, 9>,
        kind: Kind,
        at: jiff::Timestamp,
        lines: List<Line, 1, 2>,
    }
    let line = json!({ "quantity": 1, "code": "ab" });
    let body = json!({
        "name": "too long", "quantity": 10, "kind": "lost", "at": "now", "lines": [line, line, { "quantity": "1" }], "x": 1,
    });
    let found = of_body::<Body>(&body);
    let told = |pointer: &str| {
        let one = found.iter().find(|one| one.pointer == pointer).unwrap_or_else(|| panic!("{found:?}"));
        (one.code, serde_json::to_value(&one.params).unwrap())
    };
    assert_eq!(told("/name"), ("length", json!({ "min": 1, "max": 5, "actual": 8 })));
    assert_eq!(told("/quantity"), ("range", json!({ "min": 0, "max": 9 })));
    assert_eq!(told("/kind"), ("unknown", json!({ "allowed": ["delivered", "fetched"] })));
    assert_eq!(told("/at"), ("invalid", json!({ "expected": ["date-time"] })));
    assert_eq!(told("/lines"), ("length", json!({ "min": 1, "max": 2, "actual": 3 })));
    assert_eq!(told("/lines/2/quantity"), ("type", json!({ "expected": ["integer"] })));
    assert_eq!(told("/lines/2/code"), ("missing", json!({})));
    assert_eq!(told("/x"), ("unknown", json!({ "allowed": ["at", "kind", "lines", "name", "quantity"] })));
    assert!(
        serde_json::from_value::<List<u8, 1, 2>>(json!([])).is_err(),
        "serde refuses what the schema does"
    );
}
