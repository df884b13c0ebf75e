//! A small tree of blocks above genesis that inputs choose from, so that a fuzzer need not find hashes.

use std::sync::LazyLock;

use arbitrary::Arbitrary;

use crate::blocks::branch;
use crate::ledger::{BlockHash, Height, SharedBlock, Tip, genesis};

/// Blocks of each branch.
pub const LENGTH: usize = 24;

/// Branches: one from genesis, two that leave it low and high, one that leaves the second, and a stranger from genesis.
pub const BRANCHES: usize = 5;

static TREE: LazyLock<[Vec<SharedBlock>; BRANCHES]> = LazyLock::new(|| {
    let trunk = grow(&[], 0, "trunk");
    let low = grow(&trunk, 3, "low");
    let high = grow(&trunk, 19, "high");
    let twig = grow(&low, 12, "twig");
    let stranger = grow(&[], 0, "stranger");
    [trunk, low, high, twig, stranger]
});

/// A branch of [`LENGTH`] blocks that shares the first `shared` of another.
fn grow(from: &[SharedBlock], shared: usize, name: &str) -> Vec<SharedBlock> {
    let mut blocks = from[..shared].to_vec();
    let fork = blocks.last().map_or_else(genesis::tip, |block| block.tip());
    blocks.extend(branch(fork, LENGTH - shared, name));
    blocks
}

/// All of it.
pub fn tree() -> &'static [Vec<SharedBlock>; BRANCHES] {
    &TREE
}

/// A place in the tree, or one that is not.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Place {
    branch: u8,
    height: u8,
}

impl Place {
    /// As the end of a chain. Some places have a height or a hash that no block has.
    pub fn tip(self) -> Tip {
        let branch = &TREE[self.branch as usize % BRANCHES];
        match self.height {
            0 => genesis::tip(),
            height if (height as usize) <= LENGTH => branch[height as usize - 1].tip(),
            255 => Tip { height: Height((1 << 53) - 1), hash: BlockHash([self.branch; 32]) },
            height => Tip { height: Height(height.into()), hash: BlockHash([self.branch; 32]) },
        }
    }
}

/// A run of the tree's blocks.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Run {
    branch: u8,
    from: u8,
    count: u8,
}

impl Run {
    /// Its blocks, at least one, each the child of the one before.
    pub fn blocks(self) -> Vec<SharedBlock> {
        let branch = &TREE[self.branch as usize % BRANCHES];
        let from = self.from as usize % LENGTH;
        let count = 1 + self.count as usize % (LENGTH - from);
        branch[from..from + count].to_vec()
    }

    /// What the first of them stands on.
    pub fn parent(self) -> Tip {
        let branch = &TREE[self.branch as usize % BRANCHES];
        match self.from as usize % LENGTH {
            0 => genesis::tip(),
            from => branch[from - 1].tip(),
        }
    }
}

impl Place {
    /// The blocks of its branch from genesis on, as far as it goes.
    pub fn chain(self) -> Vec<SharedBlock> {
        let branch = &TREE[self.branch as usize % BRANCHES];
        let above = branch[..LENGTH.min(self.height.into())].iter().cloned();
        std::iter::once(genesis::block()).chain(above).collect()
    }
}

impl Run {
    /// Some blocks of a branch above one that is on it.
    pub fn above(choice: u8, parent: Tip) -> Option<Vec<SharedBlock>> {
        let branch = &TREE[choice as usize % BRANCHES];
        let from = match parent == genesis::tip() {
            true => 0,
            false => branch.iter().position(|block| block.tip() == parent)? + 1,
        };
        let count = 1 + usize::from(choice) / BRANCHES % 6;
        let blocks = &branch[from..branch.len().min(from + count)];
        (!blocks.is_empty()).then(|| blocks.to_vec())
    }
}
