//! Follows a node and prints what happens; goes on where it was cut off, also after the node was restarted.
//!
//!     cargo run --example follow -- http://127.0.0.1:3000

use dolmen::client::Client;
use dolmen::client::events::{Followed, Follower};
use dolmen::text;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000".to_owned());
    let client = Client::new(&url, None, None)?;
    // A program that keeps the last event's id begins here where it ended.
    let mut follower = Follower::new(&client, None, None);
    loop {
        match follower.next().await? {
            Followed::Event(event) => println!("{} {}", event.kind, text::plain(&event.data)),
            Followed::Away(error) => eprintln!("{error}; trying again"),
            Followed::Back => eprintln!("going on after {}", follower.last()),
        }
    }
}
