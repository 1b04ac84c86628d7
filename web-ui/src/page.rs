//! A view, in the form that was asked for: as a page, as JSON, or as the page's moving part whenever it changes.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::{Api, Who};
use crate::assets::{ASSETS, Assets};
use crate::failure::Failure;
use crate::pages::encoded;
use crate::visit::{Form, Visit};

/// A page is made again at most this often for somebody who follows it.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// And it takes at most this part of the time: a page that takes a while is made again less often.
const FOLLOW_REST: u32 = 10;
/// A stream ends after this time; browsers begin another.
const FOLLOW_LIMIT: Duration = Duration::from_secs(600);
/// A follower that hears nothing for so long may think that we are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a page shows.
pub trait View: Serialize + Send + Sync + 'static {
    /// The page follows what happens. False where each look costs something.
    const MOVES: bool;

    /// Of the page.
    fn title(&self) -> String;

    /// The whole page.
    ///
    /// # Errors
    /// When a template fails.
    fn html(&self, frame: &Frame) -> Result<String, askama::Error>;

    /// Its moving part: what is inside of the element with the id `live`.
    ///
    /// # Errors
    /// When a template fails.
    fn live(&self, frame: &Frame) -> Result<String, askama::Error>;
}

/// A view and its template, whose block `live` is the part that moves. Templates know `frame` and `view`.
#[macro_export]
macro_rules! templates {
    ($view:ty, $path:literal, $title:expr) => {
        $crate::templates!($view, $path, true, $title);
    };
    ($view:ty, $path:literal, $moves:literal, $title:expr) => {
        const _: () = {
            #[derive(askama::Template)]
            #[template(path = $path)]
            struct Page<'a> {
                frame: &'a $crate::page::Frame,
                view: &'a $view,
            }

            #[derive(askama::Template)]
            #[template(path = $path, block = "live")]
            #[allow(dead_code, reason = "not every part needs both")]
            struct Live<'a> {
                frame: &'a $crate::page::Frame,
                view: &'a $view,
            }

            impl $crate::page::View for $view {
                const MOVES: bool = $moves;

                fn title(&self) -> String {
                    let title: fn(&Self) -> String = $title;
                    title(self)
                }

                fn html(&self, frame: &$crate::page::Frame) -> Result<String, askama::Error> {
                    askama::Template::render(&Page { frame, view: self })
                }

                fn live(&self, frame: &$crate::page::Frame) -> Result<String, askama::Error> {
                    askama::Template::render(&Live { frame, view: self })
                }
            }
        };
    };
}

/// What is around every page.
#[derive(Debug)]
pub struct Frame {
    /// Of the page.
    pub title: String,
    /// The path of the page in the menu that is shown.
    pub active: &'static str,
    /// What was asked for, with its query.
    pub target: String,
    /// Who is signed in. `None`: nobody could be asked.
    pub who: Option<Who>,
    /// What forms carry.
    pub form_token: String,
    /// There is something to sign out of.
    pub has_token: bool,
    /// Told once after a change.
    pub notice: Option<String>,
    /// Of the control plane.
    pub version: &'static str,
    /// Style, script and charts.
    pub assets: &'static Assets,
    /// The page moves.
    pub is_live: bool,
}

impl Frame {
    fn new(visit: &Visit, active: &'static str, title: String, who: Option<Who>) -> Self {
        Self {
            title,
            active,
            target: visit.target.clone(),
            who,
            form_token: visit.form_token.clone(),
            has_token: visit.has_token,
            notice: visit.notice.clone(),
            version: visit.options.version,
            assets: &ASSETS,
            is_live: true,
        }
    }

    /// Around a page that does not move, for somebody who need not be known.
    #[must_use]
    pub fn quiet(visit: &Visit, title: &str) -> Self {
        Self { is_live: false, ..Self::new(visit, "", title.to_owned(), None) }
    }

    /// May change something.
    #[must_use]
    pub fn can_act(&self) -> bool {
        self.who.as_ref().is_some_and(|who| who.is_operator)
    }

    /// Is this the page in the menu that is shown?
    #[must_use]
    pub fn is_active(&self, path: &str) -> bool {
        self.active == path
    }
}

/// Fills a view.
pub type Loader<V> = Box<dyn Fn(Api) -> BoxFuture<'static, Result<V, Failure>> + Send + Sync>;

/// Answers with the view that `load` gives, in the form that was asked for.
pub async fn show<V: View>(visit: Visit, active: &'static str, load: Loader<V>) -> Response {
    match visit.form {
        Form::Json => match load(visit.api.clone()).await {
            Ok(view) => json(StatusCode::OK, &view),
            Err(failure) => json(failure.status, &failure),
        },
        Form::Html => match load_for(&visit, &load).await {
            Ok((who, view)) => {
                let mut frame = Frame::new(&visit, active, view.title(), Some(who));
                frame.is_live = V::MOVES;
                html(visit, StatusCode::OK, view.html(&frame))
            }
            Err(failure) => failed(visit, active, failure).await,
        },
        Form::Events if V::MOVES => match visit.who().await {
            Ok(_) => follow(visit, active, load),
            Err(failure) => bare(&failure),
        },
        Form::Events => bare(&Failure::new(
            StatusCode::NOT_ACCEPTABLE,
            "Not followed",
            "this page does not follow what happens",
        )),
    }
}

/// Strangers are known by the first question, which costs nothing.
async fn load_for<V>(visit: &Visit, load: &Loader<V>) -> Result<(Who, V), Failure> {
    let who = visit.who().await?;
    Ok((who, load(visit.api.clone()).await?))
}

/// The same page again, with what went wrong told above what was typed.
pub async fn show_again<V: View>(
    visit: Visit,
    active: &'static str,
    status: StatusCode,
    view: V,
) -> Response {
    if visit.form == Form::Json {
        return json(status, &view);
    }
    match visit.who().await {
        Ok(who) => {
            let mut frame = Frame::new(&visit, active, view.title(), Some(who));
            frame.is_live = false;
            html(visit, status, view.html(&frame))
        }
        Err(failure) => failed(visit, active, failure).await,
    }
}

/// After a change: tells what was done, on the page `to`.
pub fn done(visit: Visit, to: &str, notice: &str) -> Response {
    if visit.form == Form::Json {
        return json(StatusCode::OK, &serde_json::json!({ "done": notice }));
    }
    let mut cookies = visit.cookies;
    cookies.keep_notice(notice);
    (cookies.into_jar(), Redirect::to(own_path(to))).into_response()
}

/// A path on this server: never another site, whoever made it up.
#[must_use]
pub fn own_path(path: &str) -> &str {
    let is_own = path.starts_with('/')
        && !path.starts_with("//")
        && !path.starts_with("/\\")
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own { path } else { "/" }
}

/// What went wrong, as a page. Strangers are asked to sign in.
pub async fn failed(visit: Visit, active: &'static str, failure: Failure) -> Response {
    if visit.form != Form::Html {
        return json(failure.status, &failure);
    }
    if failure.is_stranger() {
        let to = encoded(&visit.target);
        let mut cookies = visit.cookies;
        // It is nobody's any more, and would stand in the way of a certificate.
        cookies.drop_token();
        return (cookies.into_jar(), Redirect::to(&format!("/sign-in?to={to}"))).into_response();
    }
    let who = visit.who().await.ok();
    let mut frame = Frame::new(&visit, active, failure.title.to_owned(), who);
    frame.is_live = false;
    let page = askama::Template::render(&FailurePage { frame: &frame, failure: &failure });
    html(visit, failure.status, page)
}

#[derive(askama::Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: &'a Frame,
    failure: &'a Failure,
}

/// What went wrong before anything is known of the visitor.
#[must_use]
pub fn bare(failure: &Failure) -> Response {
    let text = format!("{}\n\n{}\n", failure.title, failure.message);
    (failure.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// A page that was made.
pub fn html(visit: Visit, status: StatusCode, page: Result<String, askama::Error>) -> Response {
    let has_told = visit.notice.is_some();
    let mut cookies = visit.cookies;
    match page {
        Ok(page) => {
            if has_told {
                cookies.drop_notice();
            }
            (status, cookies.into_jar(), Html(page)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            bare(&Failure::internal(error.to_string()))
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => bare(&Failure::internal(error.to_string())),
    }
}

/// What a follower is sent.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum News {
    /// The moving part is this now.
    Html(String),
    /// It cannot be told now.
    Trouble(String),
    /// The page must be loaded again: the visitor is not signed in any more.
    Reload(()),
}

struct Follower<V: View> {
    visit: Visit,
    active: &'static str,
    load: Loader<V>,
    /// A digest of what was sent last.
    last: u64,
    /// When to end, so that the browser comes again with the cookies that it has then.
    until: Instant,
    rest: Duration,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// The moving part now and whenever it changes.
fn follow<V: View>(visit: Visit, active: &'static str, load: Loader<V>) -> Response {
    let Ok(permit) = std::sync::Arc::clone(&visit.options.followers).try_acquire_owned() else {
        let failure = Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many followers",
            "too many pages follow this server; this one is not updated by itself",
        );
        return bare(&failure);
    };
    let stopping = visit.options.stopping.clone();
    let follower = Follower {
        visit,
        active,
        load,
        last: 0,
        until: Instant::now() + FOLLOW_LIMIT,
        rest: Duration::ZERO,
        has_ended: false,
        _permit: permit,
    };
    let news = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let news = futures_util::StreamExt::take_until(news, stopping.cancelled_owned());
    let mut response = Sse::new(news).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies such as nginx would keep it back otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<V: View> Follower<V> {
    async fn next(&mut self) -> Option<Event> {
        while !self.has_ended && Instant::now() < self.until {
            tokio::time::sleep(self.rest).await;
            let making = self.visit.options.making.acquire().await;
            let began = Instant::now();
            let news = match load_for(&self.visit, &self.load).await {
                Ok((who, view)) => {
                    let frame = Frame::new(&self.visit, self.active, view.title(), Some(who));
                    match view.live(&frame) {
                        Ok(html) => News::Html(html),
                        Err(error) => News::Trouble(error.to_string()),
                    }
                }
                Err(failure) if failure.is_stranger() => {
                    self.has_ended = true;
                    News::Reload(())
                }
                Err(failure) => News::Trouble(failure.to_string()),
            };
            drop(making);
            self.rest = (began.elapsed() * FOLLOW_REST).max(FOLLOW_INTERVAL);
            let Ok(text) = serde_json::to_string(&news) else { return None };
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            if hasher.finish() != self.last {
                self.last = hasher.finish();
                return Some(Event::default().data(text));
            }
        }
        None
    }
}

/// Cookies that a sign-in or a sign-out leaves, and where to go on.
pub fn go(jar: CookieJar, to: &str) -> Response {
    (jar, Redirect::to(own_path(to))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for (path, expected) in [
            ("/nodes?state=stale", "/nodes?state=stale"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_path(path), expected);
        }
    }
}
