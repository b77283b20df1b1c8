//! One of our own programs: its config as `init` writes it plus what the world sets, restarts, and its status page.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::metrics::Metrics;
use super::ports::Port;
use super::process::Process;
use super::programs;
use super::wait::until;

/// A program with its own directory, a port to serve on and a port for its page. Killed when dropped.
#[derive(Debug)]
pub struct Part {
    /// The process.
    pub process: Process,
    config: PathBuf,
    listen: Port,
    /// By config key.
    others: Vec<(&'static str, Port)>,
    page: Port,
    http: reqwest::Client,
}

/// Ours in detail, other crates' only what matters.
const LOG: &str =
    "info,template_provider=debug,channel_hub=debug,proxy=debug,link=debug,store=debug,service=debug";
const START: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

impl Part {
    /// Prepares `program` in `directory/name`: runs its `init`, sets the two addresses (`listen_key` is the config key of
    /// the first), and writes `settings` (key path, value) over it. Nothing runs yet.
    ///
    /// # Errors
    /// The program has not been built, or its `init` fails.
    pub fn prepare(
        program: &str,
        name: &str,
        directory: &Path,
        listen_key: &str,
        settings: Vec<(&str, toml::Value)>,
    ) -> anyhow::Result<Self> {
        let (own, binary) = (directory.join(name), programs::ours(program)?);
        let init = Command::new(&binary).arg("init").arg(&own).stdin(Stdio::null()).output()?;
        ensure!(init.status.success(), "{program} init: {}", String::from_utf8_lossy(&init.stderr));
        let config = own.join(format!("{program}.toml"));
        let arguments = [Path::new("--config"), &config];
        let process = Process::new(name, binary, arguments, directory.join(format!("{name}.log")));
        let http = reqwest::Client::builder().timeout(ANSWER).build()?;
        let part =
            Self { process, config, listen: Port::take()?, others: Vec::new(), page: Port::take()?, http };
        part.set("data_dir", own.join("data").display().to_string())?;
        part.set(listen_key, part.listen.address())?;
        part.set("page.listen", part.page.address())?;
        part.set("log.level", LOG)?;
        for (key, value) in settings {
            part.set(key, value)?;
        }
        Ok(part)
    }

    /// Gives it another port of its own, the one of this config key.
    ///
    /// # Errors
    /// See [`Self::set`].
    pub fn also_listen(&mut self, key: &'static str) -> anyhow::Result<()> {
        let port = Port::take()?;
        self.set(key, port.address())?;
        self.others.push((key, port));
        Ok(())
    }

    /// The port of a config key that [`Self::also_listen`] set.
    ///
    /// # Errors
    /// There is none.
    pub fn other_port(&self, key: &str) -> anyhow::Result<u16> {
        let port = self.others.iter().find(|(known, _)| *known == key);
        port.map(|(_, port)| port.number()).with_context(|| format!("{key} has no port of its own"))
    }

    /// Starts it and waits until it says that it can do its work.
    ///
    /// # Errors
    /// It ends, or does not come up.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.process.start()?;
        self.wait_healthy(START).await
    }

    /// Waits until it says that it can do its work.
    ///
    /// # Errors
    /// It ends, or does not say so within `deadline`.
    pub async fn wait_healthy(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let url = self.url("api/v1/health");
        let healthy = async || {
            self.process.ensure_running()?;
            let answer = self.http.get(&url).send().await?;
            let status = answer.status();
            ensure!(status.is_success(), "{status} {}", answer.text().await?);
            Ok(())
        };
        until(&format!("{url} says that all is well"), deadline, healthy).await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sets one key of the config file; holds from the next start on.
    ///
    /// # Errors
    /// The file cannot be read or written, or the path leads through something that is no table.
    pub fn set(&self, key: &str, value: impl Into<toml::Value>) -> anyhow::Result<()> {
        let mut config = self.config()?;
        let (above, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut config;
        for level in above.split('.').filter(|level| !level.is_empty()) {
            let next = table.entry(level).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = next.as_table_mut().with_context(|| format!("{level} of {key} is no table"))?;
        }
        table.insert(name.to_owned(), value.into());
        Ok(std::fs::write(&self.config, toml::to_string(&config)?)?)
    }

    /// The config file as it stands.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config(&self) -> anyhow::Result<toml::Table> {
        Ok(std::fs::read_to_string(&self.config)?.parse()?)
    }

    /// Path of the config file.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// `host:port` on which it serves its protocol.
    pub fn address(&self) -> String {
        self.listen.address()
    }

    /// The port of [`Self::address`].
    pub fn port(&self) -> u16 {
        self.listen.number()
    }

    /// URL of a path of its page.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.page.address())
    }

    /// `/api/v1/<path>`
    ///
    /// # Errors
    /// No answer, not 200, or not JSON.
    pub async fn api(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.read(&format!("api/v1/{path}")).await?;
        serde_json::from_str(&text).with_context(|| format!("api/v1/{path}: {text}"))
    }

    /// `/metrics`
    ///
    /// # Errors
    /// No answer, or lines that are not in the text format of Prometheus.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::parse(&self.read("metrics").await?)
    }

    /// The text at a path of its page.
    ///
    /// # Errors
    /// No answer, or not 200.
    pub async fn read(&self, path: &str) -> anyhow::Result<String> {
        let url = self.url(path);
        let answer = self.http.get(&url).send().await?;
        ensure!(answer.status().is_success(), "{url}: {}", answer.status());
        Ok(answer.text().await?)
    }
}
