//! Routes that are deprecated say so (RFC 9745, RFC 8594): on every answer, in the contract and in the reference.

use erp_core::extract::Json;
use erp_core::factory::{self, AppOptions};
use erp_core::module::{Access, Module, Operation, Routes, routes_markdown};
use erp_modules::PRODUCT;
use erp_testkit::{Answer, TestApp};
use http::{Method, Request, StatusCode};

const SINCE: &str = "@1798761600";
const SUNSET: &str = "Sat, 01 Jan 2028 00:00:00 GMT";

async fn hello() -> &'static str {
    "hello"
}

async fn number() -> Json<i64> {
    Json(7)
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

async fn unchanged() -> StatusCode {
    StatusCode::NOT_MODIFIED
}

fn old(routes: Routes) -> Routes {
    routes
        .get("/old", Access::SignedIn, number)
        .doc(Operation::new("oldNumber", "Read a number"))
        .deprecated("2027-01-01", "2028-01-01")
        .get("/old/panics", Access::Public, panics)
        .deprecated("2027-01-01", "2028-01-01")
        .get("/old/unchanged", Access::Public, unchanged)
        .deprecated("2027-01-01", "2028-01-01")
        .get("/old/open", Access::Public, hello)
        .deprecated("2027-01-01", None)
        .get("/old/operators", Access::Management, hello)
        .deprecated("2027-01-01", "2028-01-01")
        .get("/new", Access::Public, hello)
}

fn said(answer: &Answer) -> (Option<&str>, Option<&str>) {
    let header = |name| answer.headers.get(name).map(|value| value.to_str().unwrap());
    (header("deprecation"), header("sunset"))
}

#[tokio::test]
async fn a_deprecated_route_says_so_on_every_answer_and_no_other_route_does() {
    let app = TestApp::builder().options(AppOptions::new().custom_routes(old)).start().await;
    app.expect_errors(); // of the route that panics
    let all = (Some(SINCE), Some(SUNSET));
    assert_eq!(said(&app.alice().get("/old").await.assert(200)), all);
    assert_eq!(said(&app.anonymous().get("/old").await.assert(401)), all);
    assert_eq!(said(&app.anonymous().get("/old/panics").await.assert(500)), all);
    assert_eq!(said(&app.anonymous().get("/old/unchanged").await.assert(304)), all);
    let head = Request::builder().method(Method::HEAD).uri("/old/unchanged").body("").unwrap();
    assert_eq!(said(&app.anonymous().request(head).await.assert(304)), all);
    assert_eq!(said(&app.anonymous().get("/old/open").await.assert(200)), (Some(SINCE), None));
    for (path, status) in [("/new", 200), ("/ping", 200), ("/nowhere", 404)] {
        assert_eq!(said(&app.anonymous().get(path).await.assert(status)), (None, None), "{path}");
    }
    let page =
        Request::builder().uri("/old/open").header("origin", "http://localhost:5173").body("").unwrap();
    let exposed = app.anonymous().request(page).await.assert(200);
    assert!(exposed.header("access-control-expose-headers").contains("Deprecation, Sunset"));
    app.finish().await;
}

#[tokio::test]
async fn a_deprecated_route_of_operators_is_not_betrayed_by_its_headers() {
    let token = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let options = AppOptions::new().custom_routes(old);
    let production = TestApp::builder().setting("APP_ENV", "production").setting("METRICS_TOKEN", token);
    let app = production.options(options).start().await;
    let operator = app.anonymous().with_token(token).get("/old/operators").await.assert(200);
    assert_eq!(said(&operator), (Some(SINCE), Some(SUNSET)));
    let stranger = app.anonymous().get("/old/operators").await.assert(404);
    assert_eq!(said(&stranger), (None, None));
    app.finish().await;
}

#[test]
fn the_contract_and_the_reference_name_the_deprecation() {
    let document = factory::contract(&PRODUCT, old(Routes::new())).document();
    let operation = &document["paths"]["/old"]["get"];
    assert_eq!(operation["deprecated"], true);
    assert_eq!(operation["x-sunset"], "2028-01-01");
    let about = operation["description"].as_str().unwrap();
    assert!(about.contains("It is deprecated since 2027-01-01, gone from 2028-01-01 on."), "{about}");
    for status in ["200", "401", "500"] {
        let mut response = &operation["responses"][status];
        if let Some(target) = response["$ref"].as_str() {
            response = document.pointer(&target[1..]).unwrap();
        }
        for name in ["Deprecation", "Sunset"] {
            let reference = response["headers"][name]["$ref"].as_str();
            assert_eq!(reference, Some(format!("#/components/headers/{name}").as_str()), "{status}");
            assert!(document["components"]["headers"][name].is_object());
        }
    }
    let others = &document["paths"]["/api/v1/items"]["get"];
    assert!(others.get("deprecated").is_none());
    assert!(others["responses"]["200"]["headers"].get("Deprecation").is_none());
    assert!(document["components"]["responses"]["core.internal"]["headers"].get("Deprecation").is_none());

    static OLD: Module = Module { name: "old", routes: || old(Routes::new()), ..Module::BARE };
    let page = routes_markdown([&OLD].into_iter());
    let row = "| GET | `/old` | any member of a tenant; deprecated since 2027-01-01, gone from 2028-01-01 on | old |";
    assert!(page.contains(row), "{page}");
    assert!(page.contains("| GET | `/new` | everybody | old |"), "{page}");
}
