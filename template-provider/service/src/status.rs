//! What a program shows: the status page, the JSON API and the metrics. All of it is pulled: a snapshot is made
//! when somebody looks, and what nobody looks at costs nothing.
//!
//! | module | what for |
//! |---|---|
//! | `page`, `html` | the page as data, and as HTML |
//! | `metrics` | metrics, and their text form |
//! | `painter` | the thread that puts answers together |
//! | `server`, `unread` | HTTP within bounds; who reads nothing is let go of |
//! | `host` | whom a page answers that is for this machine |

mod host;
mod html;
mod metrics;
mod page;
mod painter;
mod server;
mod unread;

pub use metrics::{Kind, Metric, Value};
pub use page::{Cell, Page, Section, Tone};
pub use server::PageServer;

/// What a program shows about itself. Called on the page's own thread: read what is there and return.
pub trait Status: Send + Sync + 'static {
    /// The page at `/`, for people.
    fn page(&self) -> Page;

    /// The paths that [`Status::api`] knows, below `/api/v1/`, without a leading slash.
    fn paths(&self) -> &'static [&'static str];

    /// The JSON at `/api/v1/<path>`; `None` is 404. A path may have more levels than [`Status::paths`] names, as
    /// `workers/ann.1`; what comes after a `?` is not part of it.
    fn api(&self, path: &str) -> Option<serde_json::Value>;

    /// The metrics at `/metrics`, beside the [`crate::Counters`] and `healthy`, which are always there.
    fn metrics(&self) -> Vec<Metric>;

    /// Whether the program can do its work; at `/api/v1/health`, with status 503 if not, and in `healthy`.
    ///
    /// # Errors
    /// What is wrong, in words for a person.
    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}
