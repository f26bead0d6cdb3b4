//! Gives every request a correlation id and a place in a trace, or takes the client's when they are well-formed (O-03).
//!
//! Assumes nothing of the deployment: both are names for the log, and nothing is decided by them. A request that brings
//! neither gets one number for both, so that `req_…` is also the id of its trace.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::Trace;
use crate::shared::{Rng, TraceContext, put_hex};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a `tracestate` may have at most, together and in entries: what the recommendation asks to be passed on.
const MOST_STATE: (usize, usize) = (512, 32);

/// Notes the request's trace, and puts it into the request for handlers.
pub(in crate::middleware) fn enter(rng: &dyn Rng, request: &mut Request, client: IpAddr) -> Trace {
    let headers = request.headers();
    let (number, span_id) = random(rng);
    let parent = parent(headers);
    let trace = Trace {
        correlation_id: given(headers).map_or_else(|| name(number), Arc::from),
        client_ip: Some(client),
        context: Some(TraceContext {
            trace_id: parent.map_or(number, |parent| parent.trace_id),
            span_id,
            sampled: parent.is_some_and(|parent| parent.sampled),
        }),
        state: parent.and_then(|_| state(headers)),
    };
    request.extensions_mut().insert(trace.clone());
    trace
}

/// Echoes the id under both names, and says where in the trace the request was.
pub(in crate::middleware) fn leave(trace: &Trace, response: &mut Response) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&trace.correlation_id) {
        headers.insert(REQUEST_ID.clone(), value.clone());
        headers.insert(CORRELATION_ID.clone(), value);
    }
    if let Some(value) = trace.context.and_then(|context| HeaderValue::from_bytes(&context.text()).ok()) {
        headers.insert(TRACEPARENT.clone(), value);
    }
}

/// The trace's id and the request's own in it, unless the correlation id says the first already.
pub(in crate::middleware) fn shown(trace: &Trace) -> Option<TraceContext> {
    let digits = trace.correlation_id.strip_prefix(PREFIX).filter(|digits| digits.len() == 32);
    let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    trace.context.filter(|context| number != Some(context.trace_id))
}

const PREFIX: &str = "req_";

/// The id that the client sent, whatever it is worth.
pub(in crate::middleware) fn sent(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID).or_else(|| headers.get(&CORRELATION_ID))
}

fn given(headers: &HeaderMap) -> Option<&str> {
    let value = sent(headers)?.to_str().ok()?;
    let well_formed = (1..=128).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    well_formed.then_some(value)
}

/// The one `traceparent`; of two, neither.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    let line = lines.next()?;
    if lines.next().is_some() { None } else { TraceContext::parse(line.as_bytes()) }
}

/// All lines of `tracestate` as one; too much of it, or what is no plain text, is dropped.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let lines: Option<Vec<&str>> =
        headers.get_all(&TRACESTATE).iter().map(|line| line.to_str().ok()).collect();
    let state = lines?.join(",");
    let fits = (1..=MOST_STATE.0).contains(&state.len()) && state.split(',').count() <= MOST_STATE.1;
    fits.then(|| state.into())
}

/// A number for the request, or for its trace, and one for its span; neither is zero.
fn random(rng: &dyn Rng) -> (u128, u64) {
    let mut bytes = [0; 24];
    rng.fill(&mut bytes);
    let number = bytes.first_chunk().map_or(1, |number| u128::from_be_bytes(*number));
    let span_id = bytes.last_chunk().map_or(1, |span_id| u64::from_be_bytes(*span_id));
    (number.max(1), span_id.max(1))
}

fn name(number: u128) -> Arc<str> {
    let mut id = *b"req_00000000000000000000000000000000";
    put_hex(&number.to_be_bytes(), &mut id[PREFIX.len()..]);
    String::from_utf8_lossy(&id).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(lines: &[(&HeaderName, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn trace(lines: &[(&HeaderName, &[u8])]) -> Trace {
        let mut request = Request::default();
        *request.headers_mut() = with(lines);
        enter(&SystemRng::new(), &mut request, IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn either_name_is_taken_and_the_first_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(CORRELATION_ID.clone(), HeaderValue::from_static("order-9"));
        assert_eq!(given(&headers), Some("order-9"));
        headers.insert(REQUEST_ID.clone(), HeaderValue::from_static("order-8"));
        assert_eq!(given(&headers), Some("order-8"));
    }

    #[test]
    fn o_03_only_well_formed_ids_are_taken() {
        assert_eq!(given(&with(&[(&REQUEST_ID, b"order-7_a.b")])), Some("order-7_a.b"));
        for bad in [b"".as_slice(), b"a b", b"a'b", b"a\"b", b"a;b", "\u{e9}".as_bytes(), &[b'x'; 129]] {
            assert_eq!(given(&with(&[(&REQUEST_ID, bad)])), None);
        }
    }

    #[test]
    fn o_03_a_request_is_a_new_part_of_its_parents_trace() {
        let context = trace(&[(&TRACEPARENT, PARENT.as_bytes())]).context.unwrap();
        assert_eq!(context.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert!(context.sampled && context.span_id != 0xb7ad_6b71_6920_3331);
        for lines in [
            &[(&TRACEPARENT, b"00-broken".as_slice())][..],
            &[(&TRACEPARENT, PARENT.as_bytes()), (&TRACEPARENT, PARENT.as_bytes())],
            &[],
        ] {
            let trace = trace(lines);
            let context = trace.context.unwrap();
            assert!(context.trace_id != 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c && !context.sampled);
            assert_eq!(*trace.correlation_id, format!("req_{:032x}", context.trace_id));
            assert_eq!(shown(&trace), None, "the id says it already");
        }
    }

    #[test]
    fn o_03_the_trace_is_shown_where_the_id_does_not_tell_it() {
        assert!(shown(&trace(&[(&TRACEPARENT, PARENT.as_bytes())])).is_some());
        assert!(shown(&trace(&[(&REQUEST_ID, b"order-7")])).is_some());
    }

    #[test]
    fn o_03_tracestate_is_passed_along_and_bounded() {
        let parent = (&TRACEPARENT, PARENT.as_bytes());
        let state = |lines: &[&[u8]]| {
            let lines = lines.iter().map(|line| (&TRACESTATE, *line));
            let lines: Vec<_> = std::iter::once(parent).chain(lines).collect();
            trace(&lines).state
        };
        assert_eq!(state(&[b"a=1", b"b=2,c=3"]).as_deref(), Some("a=1,b=2,c=3"));
        for dropped in [&b""[..], &[b'x'; 513], b"a=\xff", ",".repeat(32).as_bytes()] {
            assert_eq!(state(&[dropped]), None);
        }
        assert_eq!(trace(&[(&TRACESTATE, b"a=1")]).state, None, "without a parent it means nothing");
    }
}
