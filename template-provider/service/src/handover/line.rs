//! A line between two processes of one machine: packets of JSON, with open files beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg,
    sendmsg, socket_with,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Longest packet, in bytes; fits the kernel's usual buffer of 208 KiB.
pub(super) const MAX_PACKET: usize = 160 * 1024;
/// Most files beside one packet; the kernel's bound is 253.
pub(super) const MAX_FILES: usize = 64;

/// One end.
#[derive(Debug)]
pub(crate) struct Line {
    /// Of type SEQPACKET, which keeps packets apart; the runtime does not care.
    socket: UnixStream,
    packet: Vec<u8>,
}

impl Line {
    fn new(socket: UnixStream) -> Self {
        Self { socket, packet: vec![0; MAX_PACKET] }
    }

    /// Connects to the program that listens at `path`.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::new(UnixStream::from_std(socket.into())?))
    }

    /// Whose process the other end is, by user id.
    pub(super) fn user(&self) -> io::Result<u32> {
        Ok(self.socket.peer_cred()?.uid())
    }

    /// Sends one packet.
    pub(super) async fn send(&self, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = serde_json::to_vec(message)?;
        if packet.len() > MAX_PACKET || files.len() > MAX_FILES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the packet is too long"));
        }
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files"));
            }
            Ok(sendmsg(&self.socket, &[IoSlice::new(&packet)], &mut beside, SendFlags::NOSIGNAL)?)
        };
        self.socket.async_io(Interest::WRITABLE, send).await?;
        Ok(())
    }

    /// Waits for one packet. Cancel-safe.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone; a packet that is no such message.
    pub(super) async fn recv<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        let Self { socket, packet } = self;
        let recv = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let got =
                recvmsg(&*socket, &mut [IoSliceMut::new(packet)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let mut files = Vec::new();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    files.extend(received);
                }
            }
            // Files are cut off when this process has no descriptor left for them.
            if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
                return Err(io::Error::other("a packet was cut off; are there enough file descriptors?"));
            }
            Ok((got.bytes, files))
        };
        let (bytes, files) = socket.async_io(Interest::READABLE, recv).await?;
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other program is gone"));
        }
        Ok((serde_json::from_slice(&self.packet[..bytes])?, files))
    }

    /// Waits for one packet, and leaves it unread.
    #[cfg(test)]
    pub(super) async fn heard(&self) -> io::Result<()> {
        let peek = || -> io::Result<()> {
            let mut beside = RecvAncillaryBuffer::new(&mut []);
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut [0])], &mut beside, RecvFlags::PEEK)?;
            Ok(())
        };
        self.socket.async_io(Interest::READABLE, peek).await
    }
}

/// Where lines are taken.
#[derive(Debug)]
pub(super) struct Exchange(UnixListener);

impl Exchange {
    /// Listens at `path`, in the place of whatever is there; only this user may connect.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Who connects in between is asked for the user anyway.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&socket, 4)?;
        Ok(Self(UnixListener::from_std(socket.into())?))
    }

    /// The next line. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Line> {
        Ok(Line::new(self.0.accept().await?.0))
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
