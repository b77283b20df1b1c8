//! The thread that puts together what is shown. A farm's page has a line for each miner, and whoever asks for it again and
//! again must not take the core from the miners: one answer at a time, at a low priority, and each kept for a while.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Mutex, oneshot};

/// An answer is kept so many times as long as it kept the core: whoever asks without end has a tenth of one.
const REST: u32 = 10;
/// As `nice` has it: beside a busy thread on the same core this one has a tenth of it.
const NICE: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// Puts answers together, one after the other.
#[derive(Debug)]
pub(super) struct Painter {
    work: Sender<Work>,
    /// By path, and by form where a path has several.
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    until: Instant,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Painter {
    /// Its thread ends with it.
    pub(super) fn start() -> std::io::Result<Self> {
        let (work, orders) = channel::<Work>();
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::Builder::new().name("page".into()).spawn(move || {
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            let _ = rustix::process::setpriority_process(None, NICE); // of this thread; else it is as the others
            // A mistake in one answer is that answer's: whoever waits for it hears that it has failed.
            orders.into_iter().for_each(|work| drop(catch_unwind(AssertUnwindSafe(work))));
        })?;
        Ok(Self { work, kept: Mutex::default() })
    }

    /// What `paint` shows at this path, or what it showed a moment ago. `None`: it has failed.
    pub(super) async fn answer(
        &self,
        path: &str,
        paint: impl FnOnce() -> Response + Send + 'static,
    ) -> Option<Response> {
        let mut kept = self.kept.lock().await;
        kept.retain(|_, kept| kept.until > Instant::now());
        if let Some(kept) = kept.get(path) {
            return Some(kept.response());
        }
        let (done, painted) = oneshot::channel();
        let work = move || {
            let begun = cpu_time();
            let response = paint();
            let _ = done.send((response, cpu_time().saturating_sub(begun))); // nobody waits for it any more
        };
        self.work.send(Box::new(work)).ok()?;
        let (response, took): (Response, Duration) = painted.await.ok()?;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        let until = Instant::now() + took * REST;
        let answer = Kept { until, status: parts.status, headers: parts.headers, body };
        let response = answer.response();
        kept.insert(path.to_owned(), answer);
        Some(response)
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

impl Kept {
    fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::response::IntoResponse as _;

    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_put_together_once_for_all_who_ask_meanwhile() {
        let (painter, painted) = (Arc::new(Painter::start().unwrap()), Arc::new(AtomicU32::new(0)));
        let ask = |path: &'static str| {
            let (painter, painted) = (Arc::clone(&painter), Arc::clone(&painted));
            async move {
                let paint = move || {
                    let until = cpu_time() + Duration::from_millis(200);
                    while cpu_time() < until {}
                    painted.fetch_add(1, Ordering::Relaxed);
                    (StatusCode::NOT_FOUND, "text").into_response()
                };
                painter.answer(path, paint).await.unwrap()
            }
        };
        let (first, second, other) = tokio::join!(ask("/"), ask("/"), ask("/metrics"));
        assert_eq!(painted.load(Ordering::Relaxed), 2);
        for answer in [first, second, other] {
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
            assert!(answer.headers().contains_key("content-type"));
            assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.unwrap(), "text");
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        ask("/").await;
        assert_eq!(painted.load(Ordering::Relaxed), 3, "it was kept ten times as long as it took");
    }

    #[tokio::test]
    async fn a_failure_costs_only_its_own_answer() {
        let painter = Painter::start().unwrap();
        assert!(painter.answer("/", || panic!("a mistake")).await.is_none());
        assert!(painter.answer("/", || "text".into_response()).await.is_some());
    }
}
