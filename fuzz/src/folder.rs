//! A data folder with a little of everything in it, to be broken: own blocks, keys, reorgs, side blocks, adopted branches,
//! several segments, a checkpoint with a tail behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::ledger::block::BlockView;
use crate::ledger::storage::Storage;
use crate::ledger::{BlockHash, Height, SharedBlock, genesis};
use crate::scenario::{Op, Scenario};
use crate::sim_disk::SimDisk;
use crate::store::{Checkpoints, Options, Store};

/// The folder's path.
pub const DIR: &str = "/data";

/// A file of the folder. Its contents are shared until somebody breaks them.
pub type File = (PathBuf, Arc<Vec<u8>>);

/// A folder and what was ever put into it.
pub struct Folder {
    /// Its files, in a fixed order.
    pub files: Vec<File>,
    /// Every block that it was ever given.
    pub known: BTreeMap<BlockHash, SharedBlock>,
}

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let disk = SimDisk::default();
    let mut scenario = Scenario::new(7);
    let mut known = vec![genesis::block()];
    let (mut store, _) = Store::open(DIR, Arc::new(disk.clone()), options()).expect("an empty disk");
    for step in 0..9 {
        if step == 6 {
            store.close().expect("a disk without faults");
            store = Store::open(DIR, Arc::new(disk.clone()), options()).expect("what was closed").0;
        }
        let op = scenario.op();
        match &op {
            Op::Commit(batch) => known.extend(batch.blocks.iter().map(|block| block.block.clone())),
            Op::Stage { blocks, .. } => known.extend(blocks.iter().cloned()),
        }
        op.ask(&mut store).expect("a disk without faults");
        scenario.accept(&op);
    }
    drop(store);
    disk.kill();
    let read = |path: PathBuf| {
        let bytes = disk.read(&path).expect("a file that is there");
        (path, Arc::new(bytes))
    };
    let known = known.into_iter().map(|block| (block.hash(), block)).collect();
    Folder { files: disk.files().into_iter().map(read).collect(), known }
});

/// The folder.
pub fn folder() -> &'static Folder {
    &FOLDER
}

/// As small as everything still happens.
pub fn options() -> Options {
    Options {
        segment_bytes: 1200,
        checkpoint_blocks: 6,
        checkpoint_bytes: 1 << 20,
        reserve_bytes: 100,
        copied_bytes: 300,
        checkpoints: Checkpoints::Inline,
    }
}

/// Whether the truth, and not what is derived from it.
pub fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

/// Opens a folder of these files and reads it in one of several ways; whatever is read must be what was written. Any number
/// chooses a way: each costs as much as the open, and every way meets every damage sooner or later.
pub fn open_and_read(files: impl IntoIterator<Item = File>, honest: bool, way: usize) {
    let disk = SimDisk::default();
    for (path, bytes) in files {
        disk.put(&path, bytes);
    }
    let Ok((store, report)) = Store::open(DIR, Arc::new(disk), options()) else { return };
    let _ = format!("{report:?}");
    let snapshot = store.snapshot();
    match way % 5 {
        0 => {
            for height in 0..=store.tip().height.0.min(64) + 1 {
                if let Ok(Some(block)) = snapshot.block_at(Height(height))
                    && honest
                {
                    assert_eq!(
                        FOLDER.known.get(&block.hash()),
                        Some(&block),
                        "a block is served that was never written"
                    );
                    assert_eq!(block.height(), Height(height), "a block in another's place");
                }
            }
        }
        1 => {
            let _ = snapshot.views(Height(0), 64, 1 << 20, &mut |hash, view| {
                let wanted = FOLDER.known.get(&hash).map(|block| BlockView::from(block.block()));
                assert!(!honest || wanted == Some(view), "a block is shown that was never written");
            });
            let _ = snapshot.hashes(Height(0), 64);
        }
        2 => drop(snapshot.scrub(Height(0), 64, u64::MAX)),
        3 => {
            for (hash, known) in &FOLDER.known {
                let found = store.block(hash);
                assert!(!honest || !matches!(found, Ok(Some(block)) if block != *known), "another block is found");
            }
        }
        _ => {
            for hash in FOLDER.known.keys() {
                let _ = (store.height_of(hash), store.placed_in(hash));
            }
        }
    }
    let _ = (store.side_blocks(), store.pending(), store.sizes(), store.damage());
}

/// Gives a segment's headers, groups and records the checksums of what they hold now, by the table in `segment.rs`; what is
/// not framed like a group ends it.
pub fn forge(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    for copy in [0, 64] {
        let crc = crc32fast::hash(&bytes[copy..copy + 60]);
        bytes[copy + 60..copy + 64].copy_from_slice(&crc.to_le_bytes());
    }
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
    };
    // A segment's checksums are seeded by its salt.
    let seed = crc32fast::hash(&bytes[16..24]);
    let mut at = 128;
    while at + 36 <= bytes.len() {
        let crc = crc32fast::hash(&bytes[at..at + 32]);
        bytes[at + 32..at + 36].copy_from_slice(&crc.to_le_bytes());
        let Some(length) = number(bytes, at + 8).filter(|length| *length <= bytes.len() - at - 36) else { return };
        let end = at + 36 + length;
        let mut record = at + 36;
        while record + 9 <= end {
            let Some(payload) = number(bytes, record + 4).filter(|payload| *payload <= end - record - 9) else { break };
            let mut crc = crc32fast::Hasher::new_with_initial(seed);
            crc.update(&bytes[record + 4..record + 9 + payload]);
            bytes[record..record + 4].copy_from_slice(&crc.finalize().to_le_bytes());
            record += 9 + payload;
        }
        at = end;
    }
}
