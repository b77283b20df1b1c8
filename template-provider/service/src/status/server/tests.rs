#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Value;
use super::*;

struct Shown {
    counters: Counters,
    health: Result<(), String>,
}

impl Status for Shown {
    fn page(&self) -> Page {
        Page::new("A test")
    }
    fn paths(&self) -> &'static [&'static str] {
        &["workers"]
    }
    fn api(&self, path: &str) -> Option<serde_json::Value> {
        path.starts_with("workers").then(|| json!({ "path": path, "shares": self.counters.total("shares") }))
    }
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::gauge("height", "Height of the tip").sample(&[], Value::Count(7))]
    }
    fn health(&self) -> Result<(), String> {
        self.health.clone()
    }
}

struct World {
    dir: tempfile::TempDir,
    counters: Counters,
    server: PageServer,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("sluice-test", dir.path()).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let sockets = Sockets::default();
        let server = PageServer::bind("sluice-test", "1.2.3", address, counters.clone(), &sockets).unwrap();
        server.open();
        Self { dir, counters, server }
    }

    fn show(&self, health: Result<(), String>) {
        self.server.serve(Arc::new(Shown { counters: self.counters.clone(), health }));
    }

    async fn fetch(&self, path: &str) -> String {
        self.fetch_with(path, "Host: localhost").await
    }

    /// With this header, or several.
    async fn fetch_with(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn before_the_program_has_something_to_show_it_says_that_it_is_starting() {
    let world = World::new().await;
    assert!(world.fetch("/").await.contains("sluice-test is starting"));
    assert!(world.fetch("/api/v1/health").await.starts_with("HTTP/1.1 503"));
    assert!(world.fetch("/api/v1/workers").await.starts_with("HTTP/1.1 503"));
    let metrics = world.fetch("/metrics").await;
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nsluice_test_healthy 0\n"), "{metrics}");
}

#[tokio::test]
async fn page_api_and_metrics_show_the_status() {
    let world = World::new().await;
    world.show(Ok(()));
    let page = world.fetch("/").await;
    assert!(
        page.contains("<h1>A test</h1>") && page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(world.fetch("/api/v1/").await.ends_with(r#"["/api/v1/health","/api/v1/workers"]"#));
    assert!(
        world.fetch("/api/v1/workers/ann.1?x=1").await.ends_with(r#"{"path":"workers/ann.1","shares":0}"#)
    );
    let metrics = world.fetch("/metrics").await;
    assert!(metrics.contains("\nsluice_test_height 7\n"), "{metrics}");
    assert!(metrics.contains("\nsluice_test_healthy 1\n"), "{metrics}");
    let health = world.fetch("/api/v1/health").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains(r#""healthy":true"#), "{health}");
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let world = World::new().await;
    world.show(Ok(()));
    let prometheus = "Host: localhost\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
    for _ in 0..2 {
        let open = world.fetch_with("/metrics", prometheus).await;
        assert!(
            open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"),
            "{open}"
        );
        let plain = world.fetch_with("/metrics", "Host: localhost\r\nAccept: */*").await;
        assert!(plain.contains("text/plain; version=0.0.4") && !plain.contains("# EOF"), "{plain}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_work_is_unhealthy_and_says_why_everywhere() {
    let world = World::new().await;
    world.show(Err("the node is away".to_owned()));
    let health = world.fetch("/api/v1/health").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("the node is away"), "{health}");
    assert!(world.fetch("/").await.contains("the node is away"));
    assert!(world.fetch("/metrics").await.contains("\nsluice_test_healthy 0\n"));
}

#[tokio::test]
async fn a_local_page_is_not_shown_to_whoever_asks_for_another_site() {
    let world = World::new().await;
    world.show(Ok(()));
    for path in ["/", "/metrics", "/api/v1/workers", "/none"] {
        let answer = world.fetch_with(path, "Host: rebind.example:8403").await;
        assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("as localhost"), "{path}: {answer}");
    }
    let by_address = format!("Host: {}", world.server.address());
    assert!(world.fetch_with("/", &by_address).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_unknown_path_is_404_and_names_the_known_ones() {
    let world = World::new().await;
    world.show(Ok(()));
    let answer = world.fetch("/api/v1/wrokers").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains(r#""paths":["workers"]"#), "{answer}");
    assert!(world.fetch("/favicon.ico").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_total_is_on_disk_before_anybody_sees_it() {
    let world = World::new().await;
    world.show(Ok(()));
    let file = world.dir.path().join("counters.jsonl");
    let shares = world.counters.counter("shares", &[]);
    for (total, path) in [(1, "/api/v1/workers"), (2, "/metrics"), (3, "/")] {
        shares.add(1);
        world.fetch(path).await;
        let saved = std::fs::read_to_string(&file).unwrap();
        assert!(saved.ends_with(&format!("[\"shares\",{{}},{total}]\n")), "after {path}: {saved}");
    }
}

#[tokio::test]
async fn where_totals_cannot_be_saved_the_page_stays_readable_says_so_and_shows_what_is_saved() {
    let world = World::new().await;
    world.show(Ok(()));
    let shares = world.counters.counter("shares", &[]);
    shares.add(5);
    assert!(world.fetch("/api/v1/workers").await.contains("\"shares\":5"));
    world.counters.break_for_test(true);
    shares.add(2);
    assert!(world.fetch("/api/v1/workers").await.contains("\"shares\":5"), "7 is on no disk");
    let page = world.fetch("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("cannot be written"), "{page}");
    assert!(world.fetch("/metrics").await.starts_with("HTTP/1.1 200"));
    let health = world.fetch("/api/v1/health").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("cannot be written"), "{health}");
    world.counters.break_for_test(false);
    assert!(world.fetch("/api/v1/workers").await.contains("\"shares\":7"));
    assert!(world.fetch("/api/v1/health").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let world = World::new().await;
    let taken = world.server.address();
    let error = PageServer::bind("sluice-test", "1", taken, world.counters, &Sockets::default()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains(&taken.to_string()) && error.contains("set page.listen"), "{error}");
}

#[tokio::test]
async fn the_address_is_free_again_when_the_server_is_dropped() {
    let World { server, counters, dir } = World::new().await;
    let address = server.address();
    drop(server);
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = tokio::net::TcpListener::bind(address).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop((counters, dir));
}

#[tokio::test]
async fn who_sends_no_request_is_named_and_who_asks_nothing_more_is_not() {
    let world = World::new().await;
    world.show(Ok(()));
    let mut connections = Vec::new();
    for said in ["\x01\x02\r\n\r\n", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(world.server.address()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        connections.push(stream);
    }
    for mut stream in connections {
        let _ = stream.read_to_end(&mut Vec::new()).await; // reset, or ended
    }
    let metrics = world.fetch("/metrics").await;
    let named = |reason| format!("sluice_test_peers_dropped_total{{reason=\"{reason}\"}} 1\n");
    for reason in ["page-no-http", "page-slow-request"] {
        assert!(metrics.contains(&named(reason)), "{reason}: {metrics}");
    }
}

#[tokio::test]
async fn silent_connections_do_not_lock_others_out_for_ever() {
    let world = World::new().await;
    world.show(Ok(()));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(world.server.address()).await.unwrap());
    }
    let answer = tokio::time::timeout(2 * HEADER, world.fetch("/api/v1/health")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn who_reads_no_answer_is_named() {
    let world = World::new().await;
    world.show(Ok(()));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.server.address()).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let asking = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(3 * UNREAD, asking).await.unwrap();
    let named = "sluice_test_peers_dropped_total{reason=\"page-slow-reader\"} 1\n";
    let metrics = world.fetch("/metrics").await;
    assert!(metrics.contains(named), "{metrics}");
}

#[tokio::test]
async fn connections_that_come_to_nothing_keep_their_places_for_a_second() {
    let world = World::new().await;
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(world.server.address()).await.unwrap();
        stream.write_all(b"\x16\x03\x01\r\n\r\n").await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    assert!(world.fetch("/").await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() >= REST, "{:?}", begun.elapsed());
}
