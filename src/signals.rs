//! SIGINT and SIGTERM: the first stops cleanly, the second at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that was told twice, as shells count: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// Both signals.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which is to end the process.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// From now on one of them ends the process.
    pub fn exit_on_second(mut self) {
        actix_web::rt::spawn(async move {
            self.first().await;
            std::process::exit(INTERRUPTED);
        });
    }
}
