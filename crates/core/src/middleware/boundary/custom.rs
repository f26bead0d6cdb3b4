//! Middleware of the product's own: ordinary tower layers, around the whole chain.
//!
//! Assumes nothing of the deployment. A layer sees requests before anybody is known or limited, and `Peer` may be a proxy;
//! what it answers itself gets the security headers all the same.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use futures_util::future::BoxFuture;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::outside::Outside;
use crate::error::Error;
use crate::middleware::origin::Peer;
use crate::middleware::representation::security_headers::HeadersSet;
use crate::shared::Rng;

/// What a custom layer wraps: the whole chain, and the custom layers inside it.
pub type Application = BoxCloneSyncService<Request, Response, Infallible>;

/// Puts a layer around the application.
pub(crate) type Wrap = Box<dyn FnOnce(Application) -> Application + Send>;

/// A layer as something that can be kept in a list.
pub(crate) fn wrap<L>(layer: L) -> Wrap
where
    L: Layer<Application> + Send + 'static,
    L::Service: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    Box::new(move |inner| BoxCloneSyncService::new(layer.layer(inner)))
}

/// The chain, as the innermost layer calls it. It must not hold the layers, which hold it.
pub(in crate::middleware) type Innermost =
    Arc<dyn Fn(Peer, Request) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync>;

/// The chain with all layers around it, the first outermost.
pub(in crate::middleware) fn surround(
    chain: Innermost,
    rng: Arc<dyn Rng>,
    layers: Vec<Wrap>,
) -> Option<Application> {
    if layers.is_empty() {
        return None;
    }
    let innermost = BoxCloneSyncService::new(service_fn(move |request: Request| {
        let (chain, rng) = (Arc::clone(&chain), Arc::clone(&rng));
        async move {
            let noted = Outside::note(&request);
            let outcome = match request.extensions().get::<Peer>().copied() {
                Some(peer) => chain(peer, request).await,
                None => Err(Error::internal("a custom layer emptied the extensions of a request")),
            };
            Ok(match outcome {
                Ok(mut response) => {
                    response.extensions_mut().insert(HeadersSet);
                    response
                }
                Err(error) => noted.answer(rng.as_ref(), &error),
            })
        }
    }));
    Some(layers.into_iter().rev().fold(innermost, |inner, wrap| wrap(inner)))
}

/// Sends a request through the layers; their answer, whatever it is.
pub(in crate::middleware) async fn through(
    application: Application,
    peer: Peer,
    mut request: Request,
) -> Result<Response, Error> {
    request.extensions_mut().insert(peer);
    application.oneshot(request).await.map_err(|never| match never {})
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::Body;
    use http::HeaderValue;

    use super::*;
    use crate::shared::SystemRng;

    const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };

    /// Notes in the answer that it came by.
    fn noting(name: &'static str) -> Wrap {
        Box::new(move |inner: Application| {
            BoxCloneSyncService::new(inner.map_response(move |mut response: Response| {
                response.headers_mut().append("x-by", HeaderValue::from_static(name));
                response
            }))
        })
    }

    /// A server that has ended.
    fn gone() -> Innermost {
        Arc::new(|_, _| Box::pin(async { Err(Error::internal("the server has ended")) }))
    }

    #[tokio::test]
    async fn the_first_layer_is_outermost_and_none_is_nothing() {
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        assert!(surround(gone(), Arc::clone(&rng), Vec::new()).is_none());
        let application = surround(gone(), rng, vec![noting("outer"), noting("inner")]).unwrap();
        let response = through(application, PEER, Request::new(Body::empty())).await.unwrap();
        let by: Vec<_> = response.headers().get_all("x-by").iter().collect();
        assert_eq!(by, ["inner", "outer"]);
    }

    #[tokio::test]
    async fn h_04_a_layer_that_outlives_the_server_gets_a_whole_500() {
        let application = surround(gone(), Arc::new(SystemRng::new()), vec![noting("layer")]).unwrap();
        let response = through(application, PEER, Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status().as_u16(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(response.extensions().get::<HeadersSet>().is_none(), "the edge adds its headers");
    }
}
