//! The proxy, as its binary runs it but in this process.

use link::key::{AuthorityKey, AuthorityPublicKey};
use proxy::Proxy;
use proxy::program::Listeners;
use proxy::tls::Port;
use serde_json::Value;
use service::{Context, Program};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub struct Farm {
    /// For SV1 miners.
    pub miners: SocketAddr,
    /// For SV1 miners over TLS, if the configuration has `tls.listen`.
    pub tls: Option<SocketAddr>,
    /// For SV2 miners.
    pub sv2: SocketAddr,
    /// What SV2 miners must be shown.
    pub key: AuthorityPublicKey,
    pub page: SocketAddr,
    toml: String,
    context: Context,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Keys that suit tests, before the tables of upstreams.
pub fn toml(mode: &str, data: &Path, more: &str) -> String {
    format!(
        "mode = \"{mode}\"\ndata_dir = \"{}\"\npage.listen = \"127.0.0.1:0\"\n\
         failover.return_seconds = 1\nfailover.retry_seconds = 1\n\
         miners.hash_rate = 1.0\nminers.minimum_difficulty = 1e-12\nauthority_secret_key = \"{}\"\n{more}\n",
        data.display(),
        AuthorityKey::generate(&mut rand::thread_rng()),
    )
}

impl Farm {
    pub async fn start(toml: &str) -> Self {
        let (operation, _) = service::config_from_text::<Proxy>(toml).unwrap();
        let context = Context::open(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
        Self::run(toml, context)
    }

    /// Another one that takes over from this one, as a new version of the program does.
    pub async fn successor(&self) -> Self {
        self.successor_with(&self.toml).await
    }

    /// The same, with another configuration.
    pub async fn successor_with(&self, toml: &str) -> Self {
        let (operation, _) = service::config_from_text::<Proxy>(toml).unwrap();
        let context = Context::take_over(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
        assert!(context.is_taking_over());
        Self::run(toml, context)
    }

    fn run(toml: &str, context: Context) -> Self {
        let (operation, config) = service::config_from_text::<Proxy>(toml).unwrap();
        let listen = |name| context.listen(name, "127.0.0.1:0".parse().unwrap()).unwrap();
        let files = config.tls.as_ref().map(|tls| tls.files.clone());
        let port = |files| Port::open(files, &operation.data_dir, listen("miners_tls")).unwrap();
        let listeners =
            Listeners { miners: listen("miners"), tls: files.map(port), sv2: Some(listen("sv2")) };
        let tls = listeners.tls.as_ref().map(Port::address);
        let (miners, sv2) = (listeners.miners.local_addr(), listeners.sv2.as_ref().unwrap().local_addr());
        let (page, key) = (context.page.address(), config.sv2.as_ref().unwrap().authority.public());
        let task = tokio::spawn(proxy::program::run(config, context.clone(), listeners));
        Self { miners, tls, sv2, key, page, toml: toml.to_owned(), context, task }
    }

    /// An `[[upstream]]` table for it: a proxy may be below a proxy.
    pub fn upstream(&self, user_identity: &str) -> String {
        let (address, key) = (self.sv2, self.key);
        format!(
            "[[upstream]]\naddress = \"{address}\"\nauthority_public_key = \"{key}\"\nuser_identity = \"{user_identity}\"\n"
        )
    }

    /// Waits until it has ended by itself.
    pub async fn ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("an end in time").unwrap()
    }

    /// Ends it, and waits until it has.
    pub async fn stop(self) {
        self.context.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .expect("an end in time")
            .unwrap()
            .unwrap();
    }

    pub async fn api(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(&format!("/api/v1/{path}")).await).unwrap()
    }

    /// What the page's server says at `path`.
    pub async fn text(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.page).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Waits until the API says so.
    pub async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..500 {
            last = self.api(path).await;
            if holds(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} stays {last}");
    }
}
