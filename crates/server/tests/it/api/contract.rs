//! The OpenAPI document: complete, true, valid, and the one that is committed.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use erp_core::extract::violations;
use erp_core::factory::contract;
use erp_core::module::{Access, Routes};
use erp_core::shared::LARGEST_EXACT;
use erp_modules::PRODUCT;
use erp_testkit::{Actor, Answer, TestApp};
use http::Request;
use serde_json::Value;

use crate::api::fixtures::sweeps;

pub(crate) fn document() -> Value {
    contract(&PRODUCT, Routes::new()).document()
}

/// Every operation: its method, its path and what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
        .collect()
}

pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value.get("$ref").and_then(Value::as_str);
    reference.map_or(value, |path| document.pointer(path.strip_prefix('#').unwrap()).expect(path))
}

#[test]
fn the_openapi_document_is_up_to_date() {
    let rendered = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &rendered).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == rendered,
        "run BLESS=1 script/test integration the_openapi_document and commit the difference"
    );
}

#[tokio::test]
async fn every_route_is_documented_and_the_document_is_served() {
    let app = TestApp::start().await;
    let served = app.anonymous().get("/openapi.json").await.assert(200);
    assert_eq!(served.header("content-type"), "application/json");
    let document = served.json();
    assert_eq!(document, self::document(), "what is served is what the verb prints");
    for route in app.edge().routes.iter() {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&method];
        let name = format!("{method} {}", route.path);
        assert!(
            operation.is_object(),
            "{name} is not documented: add .doc(Operation::new(…)) after its route"
        );
        assert!(operation["summary"].as_str().is_some_and(|text| !text.ends_with('.')), "{name}");
        assert_eq!(operation["tags"][0], route.module, "{name}");
        let open = operation["security"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one.get("accessToken").is_none() && one.get("operatorToken").is_none());
        assert_eq!(open, matches!(route.access, Access::Public | Access::Management), "{name}");
    }
    app.finish().await;
}

/// A generated client would otherwise demand what the server does not.
#[test]
fn i_01_a_parameter_with_a_default_may_be_left_out() {
    let document = document();
    let operations = operations(&document);
    let parameters = operations.iter().flat_map(|(_, _, operation)| operation["parameters"].as_array());
    let with_default: Vec<&Value> =
        parameters.flatten().filter(|one| !one["schema"]["default"].is_null()).collect();
    assert!(with_default.iter().any(|one| one["name"] == "limit"), "the list of items has one");
    assert!(with_default.iter().all(|one| one["required"] != true), "{with_default:#?}");
}

#[test]
fn operations_have_names_of_their_own_and_links_lead_to_them() {
    let document = document();
    let ids: Vec<&str> = operations(&document)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    let mut links = 0;
    for (_, _, operation) in operations(&document) {
        for response in operation["responses"].as_object().unwrap().values() {
            let Some(all) = response.get("links").and_then(Value::as_object) else { continue };
            let body = &response["content"]["application/json"];
            for link in all.values() {
                let all = operations(&document);
                let target = all.iter().find(|(_, _, other)| other["operationId"] == link["operationId"]);
                let (_, _, target) = target.unwrap_or_else(|| panic!("{link}"));
                for (parameter, source) in link["parameters"].as_object().unwrap() {
                    let known = target["parameters"].as_array().unwrap().iter();
                    assert!(known.into_iter().any(|one| one["name"] == *parameter), "{link}");
                    links += 1;
                    let source = source.as_str().unwrap();
                    if let Some(asked) = source.strip_prefix("$request.path.") {
                        assert_eq!(asked, parameter, "{link}");
                        continue;
                    }
                    let pointer = source.strip_prefix("$response.body#").unwrap();
                    assert!(body["example"].pointer(pointer).is_some(), "{link}");
                }
            }
        }
    }
    assert!(links >= 5, "an item leads to its operations, a page to the next");
}

/// The integers of a value that is a schema or holds some, each with its place.
fn integers(value: &Value, place: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str).unwrap_or_default();
            if ["int64", "uint64"].contains(&format) {
                found.push((place.to_owned(), value.clone()));
            }
            members.iter().for_each(|(name, member)| integers(member, &format!("{place}/{name}"), found));
        }
        Value::Array(members) => members.iter().for_each(|member| integers(member, place, found)),
        _ => {}
    }
}

#[test]
fn every_integer_is_one_that_javascript_reads_exactly() {
    let mut found = Vec::new();
    integers(&document(), "", &mut found);
    assert!(found.len() > 4, "{found:?}");
    for (place, schema) in found {
        let bounds = [&schema["minimum"], &schema["maximum"]].map(Value::as_i64);
        let exact = bounds.iter().all(|bound| bound.is_some_and(|bound| bound.abs() <= LARGEST_EXACT));
        assert!(
            exact,
            "{place}: {schema}: write #[schemars(range(min = 0, max = LARGEST_EXACT))], or a string"
        );
    }
}

#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let mut checked = 0;
    let mut check = |what: &str, schema: &Value, example: &Value| {
        let found = violations(&document, schema, example);
        assert!(found.is_empty(), "{what}: {example} {found:?}");
        checked += 1;
    };
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            if let Some(example) = parameter.get("example") {
                check(&name, &parameter["schema"], example);
            }
        }
        let responses = operation["responses"].as_object().unwrap().values();
        for part in responses.chain(operation.get("requestBody")) {
            let content = resolve(&document, part).get("content").and_then(Value::as_object);
            for media in content.into_iter().flat_map(|content| content.values()) {
                if let Some(example) = media.get("example") {
                    check(&name, &media["schema"], example);
                }
                let examples = media.get("examples").and_then(Value::as_object);
                for example in examples.into_iter().flat_map(|examples| examples.values()) {
                    check(&name, &media["schema"], &resolve(&document, example)["value"]);
                }
            }
        }
    }
    for header in document["components"]["headers"].as_object().unwrap().values() {
        check("header", &header["schema"], &header["example"]);
    }
    assert!(checked > 100, "only {checked} examples were found");
}

/// The declared headers are there, unless they may be missing, and fit their schemas.
pub(crate) fn check_headers(document: &Value, declared: &Value, answer: &Answer) {
    let declared = declared.get("headers").and_then(Value::as_object).into_iter().flatten();
    for (name, header) in declared {
        let header = resolve(document, header);
        let Some(value) = answer.headers.get(name).map(|value| value.to_str().unwrap()) else {
            assert_ne!(header["required"], true, "{name} is missing: {answer}");
            continue;
        };
        let is_number = header["schema"]["type"] == "integer";
        let value = if is_number { value.parse::<u64>().unwrap().into() } else { Value::from(value) };
        let found = violations(document, &header["schema"], &value);
        assert!(found.is_empty(), "{name}: {value}: {found:?}");
    }
}

/// Forbids what is not declared: only so is a test of an answer one.
fn close(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        if fields.contains_key("properties") && fields.get("type") == Some(&"object".into()) {
            fields.entry("additionalProperties").or_insert(false.into());
        }
        fields.values_mut().for_each(close);
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(close);
    }
}

#[tokio::test]
async fn i_03_answers_have_the_declared_fields_and_no_others() {
    let app = TestApp::start().await;
    let mut document = document();
    close(&mut document);
    let mut checked = 0;
    let sweeps = sweeps(&app).await;
    for route in sweeps.routes() {
        let ready = sweeps.ready(route, "acme").await;
        let answer = ready.send_as(&ready.actor, route).await.assert(ready.success);
        let method = route.method.as_str().to_ascii_lowercase();
        let declared = &document["paths"][route.path][&method]["responses"][ready.success.to_string()];
        assert!(declared.is_object(), "{method} {} answers {}, undeclared", route.path, ready.success);
        check_headers(&document, declared, &answer);
        if let Some(schema) = declared.pointer("/content/application~1json/schema") {
            let found = violations(&document, schema, &answer.json());
            assert!(found.is_empty(), "{answer}: {found:?}");
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} answers were checked");
    app.finish().await;
}

#[tokio::test]
async fn h_08_the_page_and_its_files_come_from_here_and_are_the_operators() {
    let token = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let app =
        TestApp::builder().setting("APP_ENV", "production").setting("METRICS_TOKEN", token).start().await;
    let operator = app.anonymous().with_token(token);
    let page = operator.get("/docs").await.assert(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let text = page.text();
    assert!(!text.contains("://"), "nothing from elsewhere: {text}");
    // Relative to the page: a proxy may show all of it below a prefix.
    let referred =
        text.split(r#"src=""#).chain(text.split(r#"href=""#)).filter_map(|rest| rest.split('"').next());
    let paths: Vec<&str> =
        referred.filter(|path| path.starts_with("docs/") || path.ends_with(".json")).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    for path in paths.iter().map(|path| format!("/{path}")) {
        let path = &*path;
        let file = operator.get(path).await.assert(200);
        assert!(!file.body.is_empty(), "{path}");
        if path.contains("swagger-ui") {
            assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
            packed_for_who_takes_it_so(&operator, path, &file).await;
        }
        app.anonymous().get(path).await.assert(404);
    }
    operator.get("/docs/swagger-ui.00000000.css").await.assert(404);
    app.finish().await;
}

/// The file lies packed: it goes out so to clients that take gzip, and plain to all others (RFC 9110, 12.5.3).
async fn packed_for_who_takes_it_so(operator: &Actor<'_>, path: &str, plain: &Answer) {
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        ("", "Accept-Encoding, Origin"),
        "{path}"
    );
    for (accepts, coding) in [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("*", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("identity", ""),
        ("", ""),
        ("identity, gzip;q=0.5", ""),
        ("*;q=0", ""),
        ("gzip;q=0, br", "br"),
    ] {
        let ask =
            |method| Request::builder().method(method).uri(path).header("accept-encoding", accepts).body("");
        let file = operator.request(ask("GET").unwrap()).await.assert(200);
        assert_eq!(file.header("content-encoding"), coding, "{path} for {accepts:?}");
        assert_eq!(file.header("vary"), plain.header("vary"), "{path} for {accepts:?}");
        match coding {
            "" => assert!(file.body == plain.body, "{path} for {accepts:?}"),
            "gzip" => {
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(&file.body[..]).read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == plain.body, "{path} for {accepts:?}");
            }
            _ => assert!(file.body.len() < plain.body.len() / 2, "{path} for {accepts:?}"),
        }
        let head = operator.request(ask("HEAD").unwrap()).await.assert(200);
        assert_eq!(head.header("content-encoding"), coding, "{path} for {accepts:?}");
    }
}
