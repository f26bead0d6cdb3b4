use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::{body, query};
use crate::app::App;
use crate::auth::Caller;
use crate::error::{Error, codes};

/// The field of a form by which it shows that its page is of the session that sends it: [`CsrfKeys::token`](crate::auth::CsrfKeys::token).
const CSRF: &str = "csrf";

/// What a page's form sends: `application/x-www-form-urlencoded`. The struct derives `Deserialize` with `deny_unknown_fields`.
///
/// The chain has seen to it that it comes from a page of this server, if a browser has sent it. One that comes with the cookie of a
/// session has the session's token in its field `csrf`, too, which is checked and taken out here.
pub struct FormBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for FormBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Error::new(&codes::UNSUPPORTED_MEDIA_TYPE));
        }
        let caller = request.extensions().get::<Caller>().cloned();
        let body = body::read(request.into_body(), caller.as_ref().map(Caller::tenant), app).await?;
        let text = std::str::from_utf8(&body).map_err(|_| Error::new(&codes::INVALID))?;
        query::check_characters(text)?;
        let (token, fields) = without_token(text);
        if let Some(caller) = caller.filter(Caller::by_cookie) {
            let session = caller.signed_in().map(|known| known.session);
            app.authenticator.csrf_keys().check(token, session)?;
        }
        query::read(&fields)
            .map(FormBody)
            .map_err(|fault| Error::new(&codes::INVALID).because(fault.to_string()))
    }
}

/// The token, whose letters need no escape, and what the form says beside it.
fn without_token(text: &str) -> (Option<&str>, String) {
    let token_of = |pair: &'_ str| pair.strip_prefix(CSRF).is_some_and(|rest| rest.starts_with('='));
    let token = text.split('&').find(|pair| token_of(pair)).and_then(|pair| pair.split_once('='));
    let fields: Vec<&str> = text.split('&').filter(|pair| !token_of(pair)).collect();
    (token.map(|(_, token)| token), fields.join("&"))
}
