//! Follows a node and prints what happens; goes on where it was cut off, also after the node was restarted.
//!
//!     cargo run --example follow -- http://127.0.0.1:3000

use std::time::Duration;

use dolmen::client::Client;
use dolmen::text;

/// Time between two attempts to reach the node.
const PAUSE: Duration = Duration::from_secs(1);

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000".to_owned());
    let client = Client::new(&url, None, None)?;
    let mut last: Option<String> = None;
    loop {
        let path = last.as_ref().map_or_else(|| "/events".to_owned(), |id| format!("/events?lastEventId={id}"));
        if let Ok(mut answer) = client.get(&path).await {
            let mut held = Vec::new();
            while let Ok(Some(piece)) = client.chunk_of(&mut answer).await {
                held.extend_from_slice(&piece);
                // An empty line ends an event.
                while let Some(end) = held.windows(2).position(|two| two == b"\n\n") {
                    let event: Vec<u8> = held.drain(..end + 2).collect();
                    last = show(&String::from_utf8_lossy(&event)).or(last);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints an event; its id, if it has one.
fn show(event: &str) -> Option<String> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let (kind, data) = (field("event")?, field("data")?);
    println!("{kind} {}", text::plain(data));
    field("id").map(str::to_owned)
}
