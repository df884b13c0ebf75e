//! A handle to a connection's socket, put aside when it opens, so that the connection can be ended from outside: while its
//! other end does not read, nothing that is done inside is.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream as TcpSocket;

/// A connection's socket, put aside so that it can be shut from outside.
#[derive(Clone, Debug)]
pub struct Socket(Arc<TcpStream>);

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }
}

impl Socket {
    /// The socket itself.
    #[must_use]
    pub fn tcp(&self) -> &Arc<TcpStream> {
        &self.0
    }

    /// Ends the connection, whatever its other end does.
    pub fn shut(&self) {
        // A socket that is closed already needs no shutting.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A second handle to a connection's socket. Without a spare file descriptor there is none, and the connection works all the
/// same; only who never reads stays until it goes.
pub fn duplicate(connection: &dyn Any) -> Option<TcpStream> {
    let plain = connection.downcast_ref::<TcpSocket>();
    let tls = || connection.downcast_ref::<TlsStream<TcpSocket>>().map(|stream| stream.get_ref().0);
    let stream = plain.or_else(tls)?;
    stream.as_fd().try_clone_to_owned().ok().map(TcpStream::from)
}
