//! The connection to one template provider: kept up, told what the coinbase needs, listened to.

use std::time::Duration;

use distribution::Constraints;
use distribution::client::{Client, Event};
use link::{AuthorityPublicKey, Device, Limits, Link};
use service::Backoff;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::template_distribution_sv2::SubmitSolutionOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Requests and solutions that may wait for a provider.
pub const MAX_COMMANDS: usize = 256;

/// What the hub asks of a provider; `connection` is the one that the template came over.
#[derive(Clone, Debug)]
pub enum Command {
    /// Send the transactions of this template.
    Fetch {
        /// Number of the connection.
        connection: u16,
        /// The template.
        template_id: u64,
    },
    /// A block was found.
    Solution {
        /// Number of the connection.
        connection: u16,
        /// What was found.
        solution: SubmitSolutionOwned,
    },
    /// End this connection and make another.
    Redial {
        /// Number of the connection.
        connection: u16,
        /// Why.
        reason: String,
    },
}

/// What the hub learns from a provider.
#[derive(Debug)]
pub enum Report {
    /// Connected.
    Up,
    /// It said something.
    Said(Event),
    /// Not connected any more, or not reached, and why.
    Down(String),
}

/// One provider as configured, and the ends of its two queues.
#[derive(Debug)]
pub struct Provider {
    /// Its place in the operator's order.
    pub index: usize,
    /// Host and port.
    pub address: String,
    /// The key it must prove.
    pub authority: Option<AuthorityPublicKey>,
    /// What we add to the coinbase.
    pub constraints: Constraints,
    /// (index, connection, report)
    pub reports: mpsc::Sender<(usize, u16, Report)>,
    /// From the hub.
    pub commands: mpsc::Receiver<Command>,
}

/// First and longest wait before another try to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// From one connection's number to the next.
#[allow(clippy::cast_possible_truncation)] // 16
const STEP: u16 = crate::config::MAX_PROVIDERS as u16;

impl Provider {
    /// Connects again and again until `shutdown`.
    pub async fn run(mut self, first_connection: u16, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut connection = first_connection;
        loop {
            let reason = tokio::select! {
                biased; // what it was handed before leaves first, a block's solution above all
                reason = self.serve(connection, &mut backoff) => reason,
                () = shutdown.cancelled() => return,
            };
            if self.reports.send((self.index, connection, Report::Down(reason))).await.is_err() {
                return;
            }
            // Providers count apart, and a number comes back after 4096 connections only.
            connection = connection.wrapping_add(STEP);
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Connects, and stays until the connection ends; says why it did.
    async fn serve(&mut self, connection: u16, backoff: &mut Backoff) -> String {
        let link = match Link::connect(&self.address, &client(self.authority)).await {
            Ok(link) => link,
            Err(error) => return error.to_string(),
        };
        backoff.reset();
        match self.drive(link, connection).await {
            Ok(()) => "the hub is closing".into(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Ends without error only when the hub no longer listens.
    async fn drive(&mut self, mut link: Link, connection: u16) -> anyhow::Result<()> {
        let mut session = Client::new();
        session.constraints(self.constraints)?;
        if self.reports.send((self.index, connection, Report::Up)).await.is_err() {
            return Ok(());
        }
        loop {
            while let Some(frame) = session.poll_send() {
                link.queue(&frame)?;
            }
            link.try_flush()?;
            tokio::select! {
                received = link.recv() => {
                    session.handle(&mut received?)?;
                    while let Some(mut more) = link.try_recv()? {
                        session.handle(&mut more)?;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(&mut session, command, connection)?,
                    None => return Ok(()),
                },
            }
            while let Some(event) = session.poll_event() {
                if self.reports.send((self.index, connection, Report::Said(event))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// What was meant for an earlier connection is dropped: its template ids mean nothing on this one.
    fn obey(&self, session: &mut Client, command: Command, present: u16) -> anyhow::Result<()> {
        match command {
            Command::Fetch { connection, template_id } if connection == present => {
                session.request_transaction_data(template_id)?;
            }
            Command::Solution { connection, solution } if connection == present => {
                session.submit_solution(solution)?;
            }
            Command::Redial { connection, reason } if connection == present => anyhow::bail!(reason),
            Command::Solution { .. } => {
                let provider = &*self.address;
                tracing::warn!(provider, "a template provider went away before it was handed a found block");
            }
            Command::Fetch { .. } | Command::Redial { .. } => {}
        }
        Ok(())
    }
}

/// How the hub presents itself to a template provider.
pub fn client(authority: Option<AuthorityPublicKey>) -> link::Client {
    link::Client {
        authority,
        protocol: Protocol::TemplateDistributionProtocol,
        flags: 0,
        device: Device {
            vendor: "Sluice".into(),
            hardware_version: "sluice-hub".into(),
            firmware: concat!("sluice-hub ", env!("CARGO_PKG_VERSION")).into(),
            device_id: String::new(),
        },
        extensions: Vec::new(),
        limits: Limits::default(),
    }
}
