//! What an operator asks for: a branch taken over, a lost node's entries mined again.

use super::{Keeper, MineError, MineRequest, Mined, OperatorError, Update};
use crate::ledger::block::UnixTime;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::{Storage, TipChange};

impl<S: Storage> Keeper<S> {
    /// Makes a kept branch that ends in this block the best chain, whatever it undoes.
    ///
    /// # Errors
    /// There is no such side block, the branch does not beat the tip, or the store did not do its part.
    pub fn adopt_side(&mut self, hash: &BlockHash) -> Result<Update, OperatorError> {
        let tip = self.chain.side_tip(hash).ok_or(OperatorError::NoSideBlock { hash: *hash })?;
        let best = self.tip();
        if !tip.beats(&best) {
            return Err(OperatorError::NotBetter { tip, best });
        }
        let (fork, revived) = self.chain.path_down(tip, &self.storage)?;
        Ok(self.change(&[], TipChange { fork, revived, tip })?)
    }

    /// Mines the entries of another node's side blocks again, from where they leave the best chain up to this block: for a
    /// node that is gone for good and will not do so itself. A block is requeued once, however often this is asked; should
    /// the other node come back after all, its entries are there twice.
    ///
    /// # Errors
    /// There is no such side block, or it cannot be mined.
    pub fn requeue(&mut self, hash: &BlockHash, now: UnixTime) -> Result<(Vec<Mined>, Option<Update>), OperatorError> {
        let tip = self.chain.side_tip(hash).ok_or(OperatorError::NoSideBlock { hash: *hash })?;
        let (_, path) = self.chain.path_down(tip, &self.storage)?;
        let mut requests = Vec::new();
        for block in self.blocks_of(&path)? {
            // What this node has placed there comes back by itself.
            if self.storage.placed_in(&block.hash())?.is_empty() {
                // No caller's key begins with NUL, which no header can hold.
                let key = Some(format!("\0requeue {}", block.hash()));
                requests.push(MineRequest { entries: block.body().to_vec(), key });
            }
        }
        let (answers, update) = self.mine(requests, now);
        let mined: Result<Vec<Mined>, MineError> = answers.into_iter().collect();
        Ok((mined?, update))
    }
}
