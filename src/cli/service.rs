//! What a service manager is told, if one asks for it: that the node is ready, and that it is about to end; and whether it
//! keeps the log.
//!
//! The form is systemd's (`Type=notify`): a datagram to the socket that the variable `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self as unix, UnixDatagram};

use tracing::warn;

/// The node answers, and where: `systemctl status` shows the second line.
#[must_use]
pub fn ready(http: SocketAddr, peers: SocketAddr) -> String {
    format!("READY=1\nSTATUS=HTTP on {http}, peers on {peers}")
}

/// The node is ending in good order.
pub const STOPPING: &str = "STOPPING=1";

/// Whether stderr leads to the journal, which says by which file it does.
#[must_use]
pub fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Tells the service manager. One that cannot be told will find out by itself, later.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        warn!(%error, state, "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A name that is in no file system.
        [b'@', name @ ..] => unix::SocketAddr::from_abstract_name(name)?,
        _ => unix::SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
