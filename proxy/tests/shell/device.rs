//! A native SV2 miner on a socket: opens channels, hears jobs, grinds.

use crate::farm::Farm;
use crate::hub::{Hub, now};
use link::{Client, Device as Described, Limits, Link, LinkError};
use mining::Target;
use mining::client::{Event, Job, OpenRequest, Session};
use mining::share::Choice;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stratum_core::common_messages_sv2::Protocol;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Device {
    pub link: Link,
    pub session: Session,
    pub jobs: BTreeMap<u32, Arc<Job>>,
    /// Everything but jobs, oldest first.
    pub events: Vec<Event>,
    /// Types of the messages that came.
    pub heard: Vec<u8>,
    seed: u64,
}

pub fn client(farm: &Farm, flags: u32) -> Client {
    Client {
        authority: Some(farm.key),
        protocol: Protocol::MiningProtocol,
        flags,
        device: Described { vendor: "bitaxe".into(), firmware: "v2.14".into(), ..Described::default() },
        extensions: vec![2],
        limits: Limits::default(),
    }
}

pub fn request(user_identity: &str) -> OpenRequest<'_> {
    let max_target = Target::from_le_bytes([0xff; 32]);
    OpenRequest { user_identity, nominal_hash_rate: 1.0, max_target, min_extranonce_size: 2 }
}

impl Device {
    pub async fn connect(farm: &Farm, flags: u32) -> Result<Self, LinkError> {
        Self::connect_on(TcpStream::connect(farm.sv2).await?, farm, flags).await
    }

    /// On a socket that is connected already.
    pub async fn connect_on(socket: TcpStream, farm: &Farm, flags: u32) -> Result<Self, LinkError> {
        let link = Link::connect_on(socket, &farm.sv2.ip().to_string(), &client(farm, flags)).await?;
        let session = Session::new(link.extensions());
        Ok(Self { link, session, jobs: BTreeMap::new(), events: Vec::new(), heard: Vec::new(), seed: 0 })
    }

    /// Connects and opens an extended channel, with its first job.
    pub async fn extended(farm: &Farm, user_identity: &str) -> Self {
        let mut device = Self::connect(farm, 0).await.unwrap();
        device.session.open_extended(&request(user_identity)).unwrap();
        device.until(|device| !device.jobs.is_empty()).await;
        device
    }

    /// Connects and opens a standard channel, with its first job.
    pub async fn standard(farm: &Farm, user_identity: &str, flags: u32) -> Self {
        let mut device = Self::connect(farm, flags).await.unwrap();
        device.session.open_standard(&request(user_identity)).unwrap();
        device.until(|device| !device.jobs.is_empty()).await;
        device
    }

    /// Sends what is to be sent and hears what comes until that holds.
    pub async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let waited = async {
            while !holds(self) {
                self.hear().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("it holds in time");
    }

    /// Sends, and takes in one message.
    pub async fn hear(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame)?;
        }
        self.link.try_flush()?;
        let mut received = self.link.recv().await?;
        self.heard.push(received.message_type());
        self.session.handle(now(), &mut received).unwrap();
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Job(job) => drop(self.jobs.insert(job.channel_id(), job)),
                other => self.events.push(other),
            }
        }
        Ok(())
    }

    /// Finds a share of the channel's job and hands it in; its sequence number.
    pub fn submit(&mut self, channel_id: u32, worker: Option<&str>) -> u32 {
        let job = self.jobs[&channel_id].clone();
        self.seed += 1;
        let mut extranonce = vec![0; job.extranonce_size()];
        extranonce.iter_mut().zip(self.seed.to_le_bytes()).for_each(|(to, from)| *to = from);
        // A standard channel has no extranonce, so its shares have times of their own.
        let ntime = job.tip().min_ntime() + u32::try_from(self.seed % 1000).unwrap();
        let choice = |nonce| Choice { nonce, ntime, version: job.version(), extranonce: &extranonce };
        let nonce = job.header(&choice(0)).grinder().find(job.target(), 0..u32::MAX).unwrap();
        self.session.submit(channel_id, job.id(), &choice(nonce), worker).unwrap()
    }

    /// A share and its answer: the error code if it was refused.
    pub async fn mine(&mut self, channel_id: u32, worker: Option<&str>) -> Result<(), String> {
        let sent = self.submit(channel_id, worker);
        self.events.clear();
        self.until(|device| device.answer(channel_id, sent).is_some()).await;
        self.answer(channel_id, sent).unwrap()
    }

    /// Mines until this hub has credited one more share.
    pub async fn mine_credited(&mut self, channel_id: u32, hub: &Hub) {
        let before = hub.credited();
        for _ in 0..1000 {
            let _ = self.mine(channel_id, None).await;
            if hub.credited() > before {
                return;
            }
        }
        panic!("a thousand shares, and none is credited");
    }

    /// What was said to this share, if anything was.
    pub fn answer(&self, of: u32, sent: u32) -> Option<Result<(), String>> {
        self.events.iter().find_map(|event| match event {
            Event::ShareAccepted { channel_id, sequence_number }
                if (*channel_id, *sequence_number) == (of, sent) =>
            {
                Some(Ok(()))
            }
            Event::ShareRejected { channel_id, sequence_number, code }
                if (*channel_id, *sequence_number) == (of, sent) =>
            {
                Some(Err(code.clone()))
            }
            _ => None,
        })
    }
}
