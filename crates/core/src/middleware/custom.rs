//! Middleware of the product's own: ordinary tower layers, around the whole chain.

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
