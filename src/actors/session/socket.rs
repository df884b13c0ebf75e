//! What is asked of the operating system for a link's socket.

use std::os::fd::AsFd;

use tracing::debug;

/// Has the system end the connection when the other end acknowledges nothing for [`UNACKNOWLEDGED`]: a peer whose machine
/// is gone says no goodbye, and the system by itself would wait for a quarter of an hour.
///
/// [`UNACKNOWLEDGED`]: crate::peer::limits::UNACKNOWLEDGED
#[cfg(target_os = "linux")]
pub(super) fn notice_silence(socket: impl AsFd) {
    // Seconds, in milliseconds: fits.
    let millis = crate::peer::limits::UNACKNOWLEDGED.as_millis() as u32;
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(socket, millis) {
        // The link works all the same; only a dead one is noticed later, by what is not heard.
        debug!(%error, "no limit for unacknowledged data");
    }
}

/// Other systems have no such limit: a dead link is noticed later, by what is not heard.
#[cfg(not(target_os = "linux"))]
pub(super) fn notice_silence(_: impl AsFd) {
    debug!("no limit for unacknowledged data on this system");
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_system_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&socket).expect("a socket"), 0);
        notice_silence(&socket);
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&socket).expect("a socket"), 10_000);
    }
}
