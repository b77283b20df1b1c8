//! The HTTP server of the status page. It bounds its connections and their time: the page is for a few people and one
//! Prometheus, and must never cost a program its memory.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;

use super::painter::Painter;
use super::unread::Impatient;
use super::{Metric, Page, Section, Status, host, html, metrics};
use crate::complaints::Complaints;
use crate::counters::Counters;
use crate::listener::{Listener, cannot_listen};
use crate::sockets::Sockets;

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Longest header of a request, in bytes. hyper's own bound of 400 kB costs the miners beside more where headers come without end
/// (`integration/docs/abuse.md`).
const HEADER_BYTES: usize = 16 * 1024;
/// A place is kept so long by a connection that came to nothing: 64 of those a second cost the miners beside nothing, thousands do.
const REST: Duration = Duration::from_secs(1);
/// A request's header must be whole after this; also how long an idle connection is kept.
const HEADER: Duration = Duration::from_secs(5);
/// A peer that reads nothing of its answer for so long is let go.
const UNREAD: Duration = Duration::from_secs(20);
/// No connection lives longer than this; browsers and Prometheus open a new one.
const CONNECTION: Duration = Duration::from_secs(120);

/// The status page of a running program. Cheap to clone; it is served as long as one clone lives.
#[derive(Clone)]
pub struct PageServer(Arc<Shared>);

struct Shared {
    program: &'static str,
    version: &'static str,
    address: SocketAddr,
    started: Instant,
    status: OnceLock<Arc<dyn Status>>,
    counters: Counters,
    complaints: Complaints,
    listener: Listener,
    painter: Painter,
    closed: AtomicBool,
}

impl PageServer {
    /// Takes the address; [`Self::open`] serves.
    pub(crate) fn bind(
        program: &'static str,
        version: &'static str,
        address: SocketAddr,
        counters: Counters,
        sockets: &Sockets,
    ) -> anyhow::Result<Self> {
        let listener =
            sockets.listen("page", address).map_err(|error| cannot_listen("page.listen", error))?;
        let address = listener.local_addr();
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the status page has no password and other machines may reach it; page.listen sets its address");
        }
        let started = Instant::now();
        let status = OnceLock::new();
        let (closed, complaints) = (AtomicBool::new(false), Complaints::new(&counters));
        let painter = Painter::start().context("no thread for the status page")?;
        Ok(Self(Arc::new(Shared {
            program,
            version,
            address,
            started,
            status,
            counters,
            complaints,
            listener,
            painter,
            closed,
        })))
    }

    /// Answers from now on; that the program is starting, until there is something to show.
    pub(crate) fn open(&self) {
        tokio::spawn(accept(self.0.listener.clone(), Arc::downgrade(&self.0)));
    }

    /// Shows nothing any more: a successor does, and its totals are newer.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Shows this from now on. Called once; a second call changes nothing.
    pub fn serve(&self, status: Arc<dyn Status>) {
        drop(self.0.status.set(status));
    }

    /// Where the page is; the real port if the config says 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl std::fmt::Debug for PageServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PageServer").field(&self.0.address).finish()
    }
}

/// Accepts until the last [`PageServer`] is gone.
async fn accept(listener: Listener, shared: Weak<Shared>) {
    const LOOK: Duration = Duration::from_secs(1);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    while shared.strong_count() > 0 {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, address)) = tokio::time::timeout(LOOK, listener.accept()).await else { continue };
        let shared = Weak::clone(&shared);
        tokio::spawn(async move {
            let (seen, since) = (Seen::default(), tokio::time::Instant::now());
            let served = connection(stream, Weak::clone(&shared), &seen);
            let served = tokio::time::timeout(CONNECTION, served).await;
            tracing::trace!(?served, "a connection to the status page ended");
            let Some(reason) = fault(&served, &seen) else { return drop(permit) };
            if let Some(shared) = shared.upgrade() {
                shared.complaints.say(reason, address, "at the status page");
            }
            tokio::time::sleep_until(since + REST).await;
            drop(permit);
        });
    }
}

/// What was seen of a connection.
#[derive(Default)]
struct Seen {
    /// A request came in whole.
    answered: AtomicBool,
    /// A write waits for the peer.
    unread: AtomicBool,
}

/// What the peer did wrong, if the connection ended so. That a browser asks nothing more is no fault.
fn fault(served: &Result<hyper::Result<()>, Elapsed>, seen: &Seen) -> Option<&'static str> {
    match served {
        Err(_) => Some("page-kept-too-long"),
        Ok(Err(error)) if error.is_parse() => Some("page-no-http"),
        // Also where hyper wants the next request before it is done with the last.
        Ok(Err(error)) if seen.unread.load(Ordering::Relaxed) && took_too_long(error) => {
            Some("page-slow-reader")
        }
        Ok(Err(error)) if error.is_timeout() && !seen.answered.load(Ordering::Relaxed) => {
            Some("page-slow-request")
        }
        Ok(_) => None,
    }
}

/// By hyper's measure or by [`Impatient`]'s.
fn took_too_long(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    error.is_timeout() || cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// Serves a connection.
async fn connection(stream: TcpStream, shared: Weak<Shared>, seen: &Seen) -> hyper::Result<()> {
    let router = Router::new()
        .route("/", get(page))
        .route("/metrics", get(show_metrics))
        .route("/api/v1/health", get(health))
        .route("/api/v1", get(paths))
        .route("/api/v1/", get(paths))
        .route("/api/v1/{*path}", get(api))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /, /metrics and /api/v1/\n") });
    let is_local = shared.upgrade().is_none_or(|shared| shared.address.ip().is_loopback());
    let router = if is_local { router.layer(axum::middleware::from_fn(host::local_only)) } else { router };
    let router = router.with_state(shared);
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(|request| {
        seen.answered.store(true, Ordering::Relaxed);
        router.call(request)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Impatient::new(stream, UNREAD, &seen.unread)), service)
        .await
}

type Site = State<Weak<Shared>>;

async fn page(State(site): Site) -> Response {
    show(&site, "/", |shared| {
        let (title, page) = match shared.status.get() {
            Some(status) => (shared.program, status.page()),
            None => (shared.program, Page::new(format!("{} is starting", shared.program))),
        };
        let page = match shared.health() {
            Ok(()) => page,
            Err(reason) => {
                let mut page = page;
                page.sections.insert(0, Section::pairs("Trouble").pair("what", super::Cell::bad(reason)));
                page
            }
        };
        // Names on the page come from peers: even a mistake in escaping must not let one run a script.
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        let headers = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)), NO_STORE];
        (headers, Html(html::render(&page, title, shared.version, shared.started.elapsed()))).into_response()
    })
    .await
}

async fn show_metrics(State(site): Site, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT);
    let format = metrics::Format::asked(accepts.iter().filter_map(|accept| accept.to_str().ok()));
    let at = format!("/metrics as {}", format.content_type());
    show(&site, &at, move |shared| {
        let mut all = shared.counters.metrics();
        let healthy = Metric::gauge("healthy", "Whether the program can do its work, as /api/v1/health says");
        all.push(healthy.sample(&[], shared.health().is_ok()));
        all.extend(shared.status.get().map(|status| status.metrics()).unwrap_or_default());
        match metrics::render(shared.program, all, format) {
            Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    })
    .await
}

async fn health(State(site): Site) -> Response {
    show(&site, "/api/v1/health", |shared| {
        let health = shared.health();
        let code = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "program": shared.program,
            "version": shared.version,
            "healthy": health.is_ok(),
            "reason": health.err(),
            "uptime_seconds": shared.started.elapsed().as_secs(),
        });
        (code, axum::Json(body)).into_response()
    })
    .await
}

async fn paths(State(site): Site) -> Response {
    show(&site, "/api/v1", |shared| {
        let paths = shared.status.get().map(|status| status.paths()).unwrap_or_default();
        let paths: Vec<_> = ["health"].iter().chain(paths).map(|path| format!("/api/v1/{path}")).collect();
        axum::Json(paths).into_response()
    })
    .await
}

async fn api(State(site): Site, Path(path): Path<String>) -> Response {
    let at = format!("/api/v1/{path}");
    show(&site, &at, move |shared| match shared.status.get() {
        None => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "error": "starting" }))).into_response(),
        Some(status) => match status.api(&path) {
            Some(value) => axum::Json(value).into_response(),
            None => {
                let error = json!({ "error": "no such path", "paths": status.paths() });
                (StatusCode::NOT_FOUND, axum::Json(error)).into_response()
            }
        },
    })
    .await
}

/// Saves the totals, and makes a snapshot of what is saved. Both on a thread that may wait: a program's snapshot may read
/// its store. Where saving fails the totals stand still, and [`Shared::health`] says why.
async fn show(
    site: &Weak<Shared>,
    path: &str,
    snapshot: impl FnOnce(&Shared) -> Response + Send + 'static,
) -> Response {
    let Some(shared) = site.upgrade().filter(|shared| !shared.closed.load(Ordering::Relaxed)) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    };
    let of = Arc::clone(&shared);
    let paint = move || {
        drop(of.counters.save()); // its failure is kept and shown
        of.counters.for_people(|| snapshot(&of))
    };
    match shared.painter.answer(path, paint).await {
        Some(mut response) => {
            response.headers_mut().entry(NO_STORE.0).or_insert(NO_STORE.1);
            response
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "its answer could not be put together\n").into_response(),
    }
}

const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

impl Shared {
    fn health(&self) -> Result<(), String> {
        self.status.get().map_or_else(|| Err("starting".to_owned()), |status| status.health())?;
        match self.counters.failing() {
            Some(failing) => Err(format!("{failing}; totals are shown as they were saved last")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
