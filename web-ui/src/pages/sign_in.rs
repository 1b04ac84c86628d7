//! Signing in by token, and out.

use std::time::Duration;

use axum::extract::{Form, Query};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use crate::api::Api;
use crate::failure::Failure;
use crate::page::{self, Frame};
use crate::server::Visitor;
use crate::visit::Visit;

/// Whoever guesses tokens waits this long for each answer.
const GUESS_PAUSE: Duration = Duration::from_millis(500);
/// Tokens are shorter, or nobody's.
const MAX_TOKEN_BYTES: usize = 2_048;

#[derive(askama::Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    frame: &'a Frame,
    to: &'a str,
    failure: Option<&'a str>,
}

/// Where to go on.
#[derive(Debug, Deserialize)]
pub struct Ask {
    #[serde(default)]
    to: String,
}

/// What was typed.
#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    form_token: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    to: String,
}

/// What signs out.
#[derive(Debug, Deserialize)]
pub struct Out {
    #[serde(default)]
    form_token: String,
}

/// `GET /sign-in`
pub async fn show(visit: Visit, Query(ask): Query<Ask>) -> Response {
    page(visit, StatusCode::OK, &ask.to, None)
}

fn page(visit: Visit, status: StatusCode, to: &str, failure: Option<&str>) -> Response {
    let frame = Frame::quiet(&visit, "Sign in");
    let made = askama::Template::render(&Page { frame: &frame, to: page::own_path(to), failure });
    page::html(visit, status, made)
}

/// `POST /sign-in`
pub async fn sign_in(
    visit: Visit,
    axum::Extension(visitor): axum::Extension<Visitor>,
    Form(typed): Form<Typed>,
) -> Response {
    if !visit.is_own_form(&typed.form_token) {
        let why = "This form was out of date. Please try again.";
        return page(visit, StatusCode::FORBIDDEN, &typed.to, Some(why));
    }
    let token = typed.token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return page(visit, StatusCode::BAD_REQUEST, &typed.to, Some("Type the token that you were given."));
    }
    match Api::new(visitor.backend, Some(token)).who().await {
        Ok(who) => {
            tracing::info!(name = %who.name, is_operator = who.is_operator, address = ?visit.address, "signed in to the web pages");
            let mut cookies = visit.cookies;
            cookies.keep_token(token);
            page::go(cookies.into_jar(), &typed.to)
        }
        Err(failure) => {
            tokio::time::sleep(GUESS_PAUSE).await;
            let Failure { status, message, .. } = failure;
            let why = match status {
                StatusCode::UNAUTHORIZED => "Nobody has this token.".to_owned(),
                StatusCode::FORBIDDEN => {
                    "This token is for nodes. The web pages need one of a viewer or an operator.".to_owned()
                }
                _ => message,
            };
            page(visit, status, &typed.to, Some(&why))
        }
    }
}

/// `POST /sign-out`
pub async fn sign_out(visit: Visit, Form(out): Form<Out>) -> Response {
    if !visit.is_own_form(&out.form_token) {
        return page::failed(visit, "", Failure::forged()).await;
    }
    let mut cookies = visit.cookies;
    cookies.drop_token();
    page::go(cookies.into_jar(), "/sign-in")
}
