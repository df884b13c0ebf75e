//! A node inside another program: `cargo run --example embed`.
//!
//! Starts a node on free ports, mines an entry through it, reads it back, and stops.

use dolmen::actors::chain::Mine;
use dolmen::config::Config;
use dolmen::ledger::keeper::MineRequest;
use dolmen::node::Node;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("dolmen-embed-{}", std::process::id()));
    let any = "127.0.0.1:0".parse()?;
    let node = Node::start(&Config { http: any, p2p: any, data_dir: dir.clone(), ..Config::default() }).await?;
    println!("the explorer: http://{}/", node.http_address());

    let entries = vec!["from inside another program".to_owned()];
    let mined = node.chain().send(Mine(MineRequest { entries, key: None })).await??;
    println!("durable in block {}", mined.block.tip());

    // Readers work beside the writer, from any thread.
    let snapshot = node.reader().snapshot();
    for block in snapshot.blocks(dolmen::ledger::Height::GENESIS, 10, 1 << 20)? {
        println!("{}: {:?}", block.height(), block.body());
    }
    node.stop().await;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
