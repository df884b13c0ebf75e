//! A chain from a node over HTTP. A dolmen node is asked only for what the folder, and an import that was cut off, do not
//! have; a node of the tutorial sends everything, always.

use std::path::Path;

use super::judge::{Judge, Judged, Spool};
use crate::cli::output::{Out, thousands};
use crate::cli::progress::{self, Unit};
use crate::cli::{blocks, chain, talk};
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure, USAGE};
use crate::ledger::hash::BlockHash;
use crate::ledger::keeper::Keeper;
use crate::ledger::storage::Storage;
use crate::ledger::{Height, Tip};
use crate::store::Store;

/// Where the chain of a node is, below its address.
const ROUTE: &str = "/blocks";

/// A node, and the address that was typed.
pub struct Node {
    client: Client,
    whole: Client,
}

impl Node {
    /// The node at an address like `http://old:3000/blocks`, or without the route.
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let client = |url: &str| Client::new(url, None, ca).map_err(|error| Failure::new(USAGE, error));
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix(ROUTE).unwrap_or(base);
        // Behind `//` there is a name and nothing else.
        let bare = base.splitn(4, '/').count() < 4;
        let whole = if bare { format!("{base}{ROUTE}") } else { url.to_owned() };
        Ok(Self { client: client(base)?, whole: client(&whole)? })
    }

    /// Judges the node's chain; what the folder does not have is in the spool then.
    pub async fn read(&self, keeper: &Keeper<Store>, out: &mut Out, spool: &mut Spool) -> Result<Judged, Failure> {
        let Some(tip) = self.tip().await? else { return self.everything(keeper, out, spool).await };
        let begin = self.begin(tip, keeper, spool).await?;
        let from = begin.tip.map_or(0, |after| after.height.0 + 1);
        let wanted = (tip.height.0 + 1).saturating_sub(from);
        let bar = progress::bar("reading", Unit::Blocks, Some(wanted), false);
        let mut judge = Judge::after(keeper, out, spool, begin);
        let read = chain::texts(&self.client, from, wanted, |_, text| {
            bar.inc(1);
            judge.block(text)
        });
        let read = read.await;
        bar.finish_and_clear();
        let judged = judge.end();
        let next = read?;
        if judged.as_ref().map_or(true, |judged| judged.tip != Some(tip))
            && (next <= tip.height.0 || self.hash_at(tip.height).await? != Some(tip.hash))
        {
            return Err(Failure::new(FAILURE, "the node's chain changed while it was read; type the same again"));
        }
        judged
    }

    /// Where a dolmen node's chain ends; `None` if something else answers.
    async fn tip(&self) -> Result<Option<Tip>, Failure> {
        let answer = match self.client.get("/blocks/tip").await {
            Ok(answer) => answer,
            Err(ClientError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(hash) = blocks::hash_of(&answer).and_then(|hash| BlockHash::from_hex(&hash)) else { return Ok(None) };
        let index = self.client.json_of(answer).await?["header"]["index"].as_u64();
        Ok(index.map(|index| Tip { height: Height(index), hash }))
    }

    async fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, Failure> {
        Ok(blocks::hash_at(&self.client, height.0).await?.and_then(|hash| BlockHash::from_hex(&hash)))
    }

    /// What need not be asked for, because the folder has it or the spool does.
    async fn begin(&self, tip: Tip, keeper: &Keeper<Store>, spool: &mut Spool) -> Result<Judged, Failure> {
        let common = self.common(tip, keeper).await?;
        let there = common.map_or(0, |common| common.height.0 + 1);
        if let Some(common) = common.filter(|common| common.height > Height::GENESIS) {
            talk(&format!("dolmen: skipping blocks 0 to {}: the folder has them already", thousands(common.height.0)));
        }
        let kept = spool.resume(keeper)?;
        if let Some(last) = kept.tip
            && common.is_none_or(|common| common.height < last.height)
            && self.hash_at(last.height).await? == Some(last.hash)
        {
            let blocks = thousands(kept.blocks);
            talk(&format!(
                "dolmen: skipping {blocks} more, up to block {last}: they came before the last import was cut off"
            ));
            return Ok(Judged { there, ..kept });
        }
        spool.clear()?;
        Ok(Judged { blocks: 0, there, tip: common })
    }

    /// The highest block that both the node's chain and the folder's have; `None` if not even the first.
    async fn common(&self, tip: Tip, keeper: &Keeper<Store>) -> Result<Option<Tip>, Failure> {
        let both = async |height: Height| {
            let ours = keeper.storage().hash_at(height).map_err(|error| Failure::new(FAILURE, error))?;
            let theirs = if height == tip.height { Some(tip.hash) } else { self.hash_at(height).await? };
            Ok::<_, Failure>(ours.filter(|hash| theirs == Some(*hash)).map(|hash| Tip { height, hash }))
        };
        let highest = tip.height.min(keeper.tip().height);
        if let Some(found) = both(highest).await? {
            return Ok(Some(found));
        }
        let Some(mut found) = both(Height::GENESIS).await? else { return Ok(None) };
        // Below `found` the chains are one; at `above` they are two.
        let mut above = highest.0;
        while found.height.0 + 1 < above {
            let middle = found.height.0 + (above - found.height.0) / 2;
            match both(Height(middle)).await? {
                Some(both) => found = both,
                None => above = middle,
            }
        }
        Ok(Some(found))
    }

    /// The whole chain as one text.
    async fn everything(&self, keeper: &Keeper<Store>, out: &mut Out, spool: &mut Spool) -> Result<Judged, Failure> {
        spool.clear()?;
        let bar = progress::bar("reading", Unit::Bytes, None, false);
        let mut judge = Judge::new(keeper, out, Some(spool));
        let mut answer = self.whole.get("").await?;
        while let Some(chunk) = self.whole.chunk_of(&mut answer).await? {
            bar.inc(chunk.len() as u64);
            judge.piece(&chunk)?;
        }
        bar.finish_and_clear();
        judge.end().inspect(Judged::say_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_address_may_leave_the_route_out() {
        for (typed, base, whole) in [
            ("http://old:3000/blocks", "http://old:3000", "http://old:3000/blocks"),
            ("http://old:3000/blocks/", "http://old:3000", "http://old:3000/blocks"),
            ("http://old:3000/", "http://old:3000", "http://old:3000/blocks"),
            ("http://old", "http://old", "http://old/blocks"),
            ("http://old/below/blocks", "http://old/below", "http://old/below/blocks"),
            ("http://old/chain.json", "http://old/chain.json", "http://old/chain.json"),
        ] {
            let node = Node::new(typed, None).expect("an address");
            assert_eq!((node.client.url(), node.whole.url()), (base, whole), "{typed}");
        }
    }
}
