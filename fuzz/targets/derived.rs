//! A data folder whose derived files were spoiled: tables, heights, checkpoint, marks. The log is whole, so whatever is
//! served is what was written. A checkpoint that somebody gave a fitting checksum must only not bring the program down.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use dolmen::folder::{folder, is_log, open_and_read};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Edit {
    Flip { file: u8, at: u16, bits: u8 },
    Cut { file: u8, at: u16 },
    Gone(u8),
    Swap(u8, u8),
    Put { file: u8, at: u16, bytes: [u8; 4] },
}

fuzz_target!(|input: (bool, Vec<Edit>)| {
    let (forged, edits) = input;
    let mut files = folder().files.clone();
    let derived: Vec<usize> = (0..files.len())
        .filter(|at| !is_log(&files[*at].0) && !files[*at].0.ends_with("FORMAT") && !files[*at].0.ends_with("LOCK"))
        .collect();
    // Which way is read follows from the edits.
    let mut way = 0;
    let pick = |file: u8| derived[file as usize % derived.len()];
    let mut gone = vec![false; files.len()];
    for edit in edits.iter().take(8) {
        way += match *edit {
            Edit::Flip { at, .. } | Edit::Cut { at, .. } | Edit::Put { at, .. } => usize::from(at),
            Edit::Gone(file) | Edit::Swap(file, _) => usize::from(file),
        };
        match *edit {
            Edit::Flip { file, at, bits } => {
                let bytes = Arc::make_mut(&mut files[pick(file)].1);
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at as usize % len) {
                    *byte ^= bits;
                }
            }
            Edit::Cut { file, at } => {
                let bytes = Arc::make_mut(&mut files[pick(file)].1);
                bytes.truncate(at as usize % (bytes.len() + 1));
            }
            Edit::Gone(file) => gone[pick(file)] = true,
            Edit::Swap(one, other) => {
                let (one, other) = (pick(one), pick(other));
                let kept = files[one].1.clone();
                files[one].1 = std::mem::replace(&mut files[other].1, kept);
            }
            Edit::Put { file, at, bytes: new } => {
                let bytes = Arc::make_mut(&mut files[pick(file)].1);
                let at = at as usize % bytes.len().max(1);
                new.iter().zip(bytes.iter_mut().skip(at)).for_each(|(new, old)| *old = *new);
            }
        }
    }
    let mut kept = Vec::with_capacity(files.len());
    for (place, (path, mut bytes)) in files.into_iter().enumerate() {
        if forged && path.ends_with("CHECKPOINT") && bytes.len() > 16 {
            let crc = crc32fast::hash(&bytes[16..]);
            Arc::make_mut(&mut bytes)[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        if !gone[place] {
            kept.push((path, bytes));
        }
    }
    open_and_read(kept, !forged, way);
});
