//! Middleware of the product's own: ordinary tower layers, around the whole chain.
//!
//! Assumes nothing of the deployment. A layer sees requests before anybody is known or limited, and `Peer` may be a proxy;
//! what it answers itself gets the security headers all the same.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use axum::extract::Request;
use axum::response::Response;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::Edge;
use super::outside::Outside;
use super::security_headers::Dressed;
use crate::error::Error;
use crate::shared::Rng;

/// What a custom layer wraps: the whole chain, and the custom layers inside it.
pub type Application = BoxCloneSyncService<Request, Response, Infallible>;

/// The other end of the connection, in the extensions of a request that custom middleware sees. It may be a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Whether the connection is encrypted, and ends here.
    pub tls: bool,
}

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

/// The chain with all layers around it, the first outermost. The chain holds its layers, so they must not hold it.
pub(super) fn surround(edge: Weak<Edge>, rng: Arc<dyn Rng>, layers: Vec<Wrap>) -> Option<Application> {
    if layers.is_empty() {
        return None;
    }
    let chain = BoxCloneSyncService::new(service_fn(move |request: Request| {
        let (edge, rng) = (edge.upgrade(), Arc::clone(&rng));
        async move {
            let peer = request.extensions().get::<Peer>().copied();
            let noted = Outside::note(&request);
            let outcome = match (edge, peer) {
                (Some(edge), Some(peer)) => {
                    edge.detach(edge.proxies.client(peer, request.headers()), request).await
                }
                _ => Err(Error::internal(
                    "a custom layer kept a request beyond the server's end, or emptied its extensions",
                )),
            };
            Ok(match outcome {
                Ok(mut response) => {
                    response.extensions_mut().insert(Dressed);
                    response
                }
                Err(error) => noted.answer(rng.as_ref(), &error),
            })
        }
    }));
    Some(layers.into_iter().rev().fold(chain, |inner, wrap| wrap(inner)))
}

/// Sends a request through the layers; their answer, whatever it is.
pub(super) async fn through(
    application: Application,
    peer: Peer,
    mut request: Request,
) -> Result<Response, Error> {
    request.extensions_mut().insert(peer);
    application.oneshot(request).await.map_err(|never| match never {})
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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

    #[tokio::test]
    async fn the_first_layer_is_outermost_and_none_is_nothing() {
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        assert!(surround(Weak::new(), Arc::clone(&rng), Vec::new()).is_none());
        let application = surround(Weak::new(), rng, vec![noting("outer"), noting("inner")]).unwrap();
        let response = through(application, PEER, Request::new(Body::empty())).await.unwrap();
        let by: Vec<_> = response.headers().get_all("x-by").iter().collect();
        assert_eq!(by, ["inner", "outer"]);
    }

    #[tokio::test]
    async fn h_04_a_layer_that_outlives_the_server_gets_a_whole_500() {
        let application = surround(Weak::new(), Arc::new(SystemRng::new()), vec![noting("layer")]).unwrap();
        let response = through(application, PEER, Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status().as_u16(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(response.extensions().get::<Dressed>().is_none(), "the edge adds its headers");
    }
}
