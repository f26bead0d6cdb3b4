use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::{body, query};
use crate::app::App;
use crate::auth::Caller;
use crate::error::{Error, codes};

/// What a page's form sends: `application/x-www-form-urlencoded`. The struct derives `Deserialize` with `deny_unknown_fields`.
///
/// Any page of the web can send one in its visitor's name: take it where a secret in it, or a token of the session, says that it
/// was ours.
pub struct FormBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for FormBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Error::new(&codes::UNSUPPORTED_MEDIA_TYPE));
        }
        let sender = request.extensions().get::<Caller>().map(Caller::tenant);
        let body = body::read(request.into_body(), sender, app).await?;
        let text = std::str::from_utf8(&body).map_err(|_| Error::new(&codes::INVALID))?;
        query::check_characters(text)?;
        query::read(text)
            .map(FormBody)
            .map_err(|fault| Error::new(&codes::INVALID).because(fault.to_string()))
    }
}
