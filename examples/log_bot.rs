//! A bot that mines what a program writes: `journalctl -f | cargo run --example log_bot -- http://127.0.0.1:3000`.
//!
//! Each line becomes an entry with the time at which it was read; lines that come together share a block. Every block is
//! sent under an idempotency key, so one whose answer got lost is sent again without being mined twice. `dolmen mine` does
//! the same and more; this shows how few lines it takes with any HTTP client.

use std::io::BufRead;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dolmen::client::{Client, ClientError};

/// Entries in a block at most.
const BATCH: usize = 1_000;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000".to_owned());
    let client = Client::new(&url, None, None)?;
    let (to, lines) = mpsc::sync_channel(BATCH);
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| to.send(line))
    });
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let mut number = 0;
    while let Ok(first) = lines.recv() {
        let mut entries = vec![stamped(&first)?];
        entries.extend(lines.try_iter().take(BATCH - 1).map(|line| stamped(&line)).collect::<Result<Vec<_>, _>>()?);
        number += 1;
        let key = format!("log-bot-{run}-{number}");
        let body = serde_json::json!({ "data": entries });
        let block = loop {
            match client.post_once("/mineBlock", &body, &key).await {
                Ok(answer) => break client.json_of(answer).await?,
                Err(error @ (ClientError::Refused { .. } | ClientError::Url { .. })) => return Err(error.into()),
                Err(error) => eprintln!("{error}; trying again"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        println!("block {}: {} lines", block["header"]["index"], entries.len());
    }
    Ok(())
}

fn stamped(line: &str) -> Result<String, std::time::SystemTimeError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:03} {line}", now.as_secs(), now.subsec_millis()))
}
