//! What is promised, and how it is looked at.

use std::collections::HashMap;

use dolmen::ledger::keeper::{MineError, MineRequest, Whereabouts};
use dolmen::ledger::limits::{MAX_SIDE_BLOCKS, MAX_SIDE_BRANCHES};
use dolmen::ledger::storage::Storage;
use dolmen::ledger::{BlockHash, Height, SharedBlock};

use super::world::World;

/// Every block that was ever mined by anybody: all chains there ever were.
#[derive(Debug, Default)]
pub struct Registry {
    blocks: HashMap<BlockHash, SharedBlock>,
    /// Where each entry stands.
    entries: HashMap<String, Vec<(Height, BlockHash)>>,
    /// Placements beyond an entry's first.
    pub again: u64,
}

impl Registry {
    /// Adds a block. No entry may be in an ancestor already.
    ///
    /// # Errors
    /// One is.
    pub fn add(&mut self, block: &SharedBlock) -> Result<(), String> {
        if self.blocks.insert(block.hash(), block.clone()).is_some() {
            return Ok(());
        }
        for entry in block.body() {
            let earlier = self.entries.get(entry).cloned().unwrap_or_default();
            self.again += u64::from(!earlier.is_empty());
            for (height, hash) in earlier {
                if self.ancestor_at(block, height) == Some(hash) {
                    return Err(format!("{entry:?} is in {} and in its ancestor {} {hash}", block.tip(), height.0));
                }
            }
            self.entries.entry(entry.clone()).or_default().push((block.height(), block.hash()));
        }
        Ok(())
    }

    fn ancestor_at(&self, block: &SharedBlock, height: Height) -> Option<BlockHash> {
        let mut at = block;
        while at.height() > height {
            at = self.blocks.get(&at.parent())?;
        }
        (at.height() == height).then(|| at.hash())
    }
}

/// Looks at everything once all is quiet.
pub fn after_healing(world: &mut World) {
    if world.violation.is_none()
        && let Err(text) = chains_are_equal(world)
            .and_then(|()| acknowledged_are_there_once(world))
            .and_then(|()| bounds_hold(world))
            .and_then(|()| repeats_are_answered_alike(world))
    {
        world.violate(text);
    }
}

fn chains_are_equal(world: &World) -> Result<(), String> {
    let mut first: Option<&[SharedBlock]> = None;
    for (slot, native) in world.natives() {
        let chain = native.keeper().storage().chain();
        for pair in chain.windows(2) {
            if pair[1].parent() != pair[0].hash() || pair[1].height() != pair[0].height().next() {
                return Err(format!("on n{slot} {} does not follow {}", pair[1].tip(), pair[0].tip()));
            }
        }
        if **first.get_or_insert(chain) != *chain {
            return Err(format!("n{slot} has another chain"));
        }
    }
    Ok(())
}

fn acknowledged_are_there_once(world: &World) -> Result<(), String> {
    let Some((_, any)) = world.natives().next() else { return Ok(()) };
    let chain = any.keeper().storage().chain();
    let mut found: HashMap<&str, u32> = HashMap::new();
    for entry in chain.iter().flat_map(|block| block.body()) {
        *found.entry(entry).or_default() += 1;
    }
    for (id, request) in world.requests.iter().enumerate() {
        let Some(receipt) = &request.receipt else { continue };
        for entry in &request.entries {
            let times = found.get(entry.as_str()).copied().unwrap_or_default();
            if times != 1 {
                return Err(format!("n{} acknowledged {entry:?} and the chain has it {times} times", request.node));
            }
        }
        let Some((_, native)) = world.natives().find(|(slot, _)| *slot == request.node) else { continue };
        let keeper = native.keeper();
        let place = keeper.whereabouts(&receipt.submission).map_err(|error| error.to_string())?;
        let Some(Whereabouts::Included { block, height, position, depth }) = place else {
            return Err(format!("the receipt of request {id} says {place:?}, though it is on the chain"));
        };
        let index = usize::try_from(height.0).map_err(|error| error.to_string())?;
        let start = position as usize;
        let told = chain.get(index).filter(|found| found.hash() == block);
        let body = told.and_then(|block| block.body().get(start..start + request.entries.len()));
        let right_depth = keeper.tip().height.0 - height.0 + 1 == depth;
        if body != Some(&request.entries[..]) || !right_depth {
            return Err(format!("the receipt of request {id} points to {block} {position}, where something else is"));
        }
        let placements = keeper.storage().placements_of(&receipt.submission).map_err(|error| error.to_string())?;
        let on_chain = placements.iter().filter(|(hash, _)| matches!(keeper.storage().height_of(hash), Ok(Some(_))));
        if on_chain.count() != 1 {
            return Err(format!("request {id} has several placements on the best chain"));
        }
    }
    Ok(())
}

fn bounds_hold(world: &World) -> Result<(), String> {
    for (slot, native) in world.natives() {
        let keeper = native.keeper();
        let branches = keeper.branches().map_err(|error| format!("n{slot}: {error}"))?;
        if keeper.side_blocks() > MAX_SIDE_BLOCKS || branches.len() > MAX_SIDE_BRANCHES {
            return Err(format!("n{slot} keeps {} side blocks in {} branches", keeper.side_blocks(), branches.len()));
        }
        let kept = keeper.storage().side_blocks().map_err(|error| format!("n{slot}: {error}"))?.len();
        if kept != keeper.side_blocks() {
            return Err(format!("n{slot} knows {} side blocks, its storage {kept}", keeper.side_blocks()));
        }
    }
    Ok(())
}

/// A key says the same for ever, and takes no other entries.
fn repeats_are_answered_alike(world: &mut World) -> Result<(), String> {
    for id in 0..world.requests.len() {
        let request = &world.requests[id];
        let (Some(receipt), Some(key)) = (request.receipt.clone(), request.key.clone()) else { continue };
        let (node, entries) = (request.node, request.entries.clone());
        let repeat = MineRequest { entries, key: Some(key.clone()) };
        match world.mine_now(node, repeat) {
            Some(Ok(mined)) if mined.submission == receipt.submission => {}
            None => {}
            other => return Err(format!("the repeat of request {id} was answered {other:?}")),
        }
        let conflict = MineRequest { entries: vec!["other".to_owned()], key: Some(key) };
        match world.mine_now(node, conflict) {
            Some(Err(MineError::KeyReused)) | None => {}
            other => return Err(format!("other entries under the key of request {id} were answered {other:?}")),
        }
    }
    Ok(())
}
