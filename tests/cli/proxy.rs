//! A program between a command and a node: it writes down what is asked for, and gets in the way where it is told to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What becomes of a request.
#[derive(Clone, Copy)]
pub enum Meddle {
    /// The node answers it.
    Pass,
    /// It is answered as if there were no such route.
    Missing,
    /// The node answers it, and after so many bytes nothing comes any more.
    StallAfter(u64),
}

pub struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    stalled: Receiver<()>,
}

impl Proxy {
    /// Before the node on this port; `meddle` gets the path of each request.
    pub fn start(node: u16, meddle: impl Fn(&str) -> Meddle + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stall, stalled) = mpsc::channel();
        let (seen, meddle) = (Arc::clone(&asked), Arc::new(meddle));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (seen, meddle, stall) = (Arc::clone(&seen), Arc::clone(&meddle), stall.clone());
                // An end that goes away is no fault of the other.
                thread::spawn(move || drop(serve(socket, node, &seen, &*meddle, &stall)));
            }
        });
        Self { port, asked, stalled }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The paths that were asked for since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until an answer stands still.
    pub fn wait_stalled(&self) {
        self.stalled.recv_timeout(super::COMMAND).expect("an answer that stands still");
    }
}

fn serve(
    mut socket: TcpStream,
    node: u16,
    seen: &Mutex<Vec<String>>,
    meddle: &dyn Fn(&str) -> Meddle,
    stall: &Sender<()>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let what = meddle(&path);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    if matches!(what, Meddle::Missing) {
        return socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut node = TcpStream::connect((Ipv4Addr::LOCALHOST, node))?;
    node.write_all(&head)?;
    let (mut from, to) = (socket.try_clone()?, node.try_clone()?);
    thread::spawn(move || {
        // Nothing more comes from the command than the end.
        let _ = io::copy(&mut from, &mut io::sink());
        to.shutdown(Shutdown::Both)
    });
    if let Meddle::StallAfter(bytes) = what {
        io::copy(&mut (&mut node).take(bytes), &mut socket)?;
        let _ = stall.send(());
        return io::copy(&mut node, &mut io::sink()).map(drop);
    }
    io::copy(&mut node, &mut socket).map(drop)
}
