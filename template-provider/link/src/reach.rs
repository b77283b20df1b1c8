//! A TCP connection to a name of which not every address may answer.
//!
//! The addresses are tried one after the other, each for its share of the time: one whose packets vanish, as those of IPv6 do
//! on many lines, does not take the time of the next.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Time for an address, though there are many.
const LEAST: Duration = Duration::from_secs(1);
/// Time for an address that is not the last: a lost packet is sent again within it.
const MOST: Duration = Duration::from_secs(3);

/// Connects, resolving the name as well, within this time.
///
/// # Errors
/// The name has no address, or what the last of its addresses said; `TimedOut` when the time was over.
pub async fn reach(place: impl ToSocketAddrs, within: Duration) -> Result<TcpStream> {
    let until = Instant::now() + within;
    let addresses: Vec<_> = timeout_at(until, lookup_host(place)).await.unwrap_or_else(late)?.collect();
    first(&addresses, until).await
}

/// To the first address that takes the connection; else the last one's error.
async fn first(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream> {
    let mut end = Err(Error::new(ErrorKind::NotFound, "the name has no address"));
    for (index, address) in addresses.iter().enumerate() {
        let by = Instant::now() + share(until, addresses.len() - index);
        end = timeout_at(by, TcpStream::connect(address)).await.unwrap_or_else(late);
        if end.is_ok() || until <= Instant::now() {
            break;
        }
    }
    end
}

/// Time for the first of so many addresses.
fn share(until: Instant, addresses: usize) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    if addresses == 1 {
        return left;
    }
    let fair = left / u32::try_from(addresses).unwrap_or(u32::MAX);
    fair.clamp(LEAST, MOST).min(left)
}

fn late<T>(_: impl std::error::Error) -> Result<T> {
    Err(ErrorKind::TimedOut.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    /// An address that takes no more connections, and what keeps it so.
    async fn full() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (address, mut waiting) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
        }
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_whose_packets_vanish_leaves_time_for_the_next() {
        let (silent, _listener, _waiting) = full().await;
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = (there.local_addr().unwrap(), there);
        let by = Instant::now() + Duration::from_secs(20);
        let reached = first(&[silent, there.0], by).await.unwrap();
        assert_eq!(reached.peer_addr().unwrap(), there.0);
        assert!(Instant::now() + Duration::from_secs(10) < by, "it is left before half of the time is over");
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_no_reason_to_wait_and_the_last_has_all_the_time_left() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        assert!(first(&[gone, there.local_addr().unwrap()], until).await.is_ok());
        let (silent, _listener, _waiting) = full().await;
        let begun = Instant::now();
        let until = begun + MOST + Duration::from_millis(500);
        assert_eq!(first(&[silent], until).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() > MOST);
    }

    #[tokio::test]
    async fn a_name_is_resolved() {
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = there.local_addr().unwrap().port();
        assert!(reach(("localhost", port), Duration::from_secs(20)).await.is_ok());
    }
}
