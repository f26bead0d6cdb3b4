//! The ports of a process: of the API, of operators, and of plain HTTP that is led to HTTPS.

use std::sync::Arc;

use super::Context;
use crate::lifecycle::StartError;
use crate::middleware::{self, Edge};
use crate::server::{self, ConnectionLimits, Proxies, Server, Tls};

/// What is bound, and does not answer yet.
pub(super) struct Listeners {
    pub(super) api: Server,
    /// With `METRICS_PORT`.
    pub(super) management: Option<Server>,
    /// With `HTTP_REDIRECT_PORT`.
    pub(super) redirect: Option<(Server, Tls)>,
}

impl Listeners {
    pub(super) async fn bind(context: &Context, port: u16, host: &str) -> Result<Self, StartError> {
        let config = &context.edge.app.config;
        let proxies = Proxies::new(config);
        let api = Server::bind("PORT", host, port)
            .await?
            .secured(context.tls.clone())
            .behind(proxies.clone())
            .counted(Arc::clone(&context.edge.app.connections));
        let management = match config.process.metrics_port {
            Some(port) => Some(Server::bind("METRICS_PORT", host, port).await?),
            None => None,
        };
        let redirect = match config.transport.http_redirect_port.zip(context.tls.clone()) {
            Some((port, tls)) => {
                Some((Server::bind("HTTP_REDIRECT_PORT", host, port).await?.behind(proxies), tls))
            }
            None => None,
        };
        Ok(Self { api, management, redirect })
    }

    /// They do not share their limits: an operator gets through to a server that is full.
    pub(super) fn answer(self, edge: &Arc<Edge>, serves_api: bool) {
        let Self { api, management, redirect } = self;
        let config = &edge.app.config;
        let lifecycle = &edge.app.lifecycle;
        let limits = ConnectionLimits::from(config);
        if let Some((server, tls)) = redirect {
            let port = api.address().port();
            let edge = Arc::clone(edge);
            server.start(lifecycle, limits, move |peer, request| {
                let location = match &edge.app.config.http.public_url {
                    Some(url) => middleware::location(url, request.uri()),
                    None => server::https(&tls, port, &request),
                };
                Arc::clone(&edge).redirect(peer, request, location)
            });
        }
        if let Some(server) = management {
            let edge = Arc::clone(edge);
            server.start(lifecycle, limits, move |peer, request| Arc::clone(&edge).manage(peer, request));
        }
        let edge = Arc::clone(edge);
        if serves_api {
            api.start(lifecycle, limits, move |peer, request| Arc::clone(&edge).handle(peer, request));
        } else {
            api.start(lifecycle, limits, move |peer, request| Arc::clone(&edge).probe(peer, request));
        }
    }
}
