//! A data folder whose log was spoiled: opened and read. What is served is what was written; a folder whose checksums were
//! made to fit may hold anything, and must only not bring the program down.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use dolmen::folder::{folder, forge, is_log, open_and_read};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    edits: Vec<Edit>,
    forged: bool,
}

#[derive(Debug, Arbitrary)]
struct Edit {
    file: u8,
    at: u16,
    how: How,
}

#[derive(Debug, Arbitrary)]
enum How {
    Flip(u8),
    Put([u8; 4]),
    Insert(u8),
    Remove,
    Cut,
    /// Bytes of the same file, from elsewhere.
    Copy {
        from: u16,
        count: u8,
    },
    Gone,
}

fuzz_target!(|input: Input| {
    let mut files = folder().files.clone();
    let logs: Vec<usize> = (0..files.len()).filter(|at| is_log(&files[*at].0)).collect();
    for Edit { file, at, how } in input.edits.iter().take(8) {
        let bytes = Arc::make_mut(&mut files[logs[*file as usize % logs.len()]].1);
        if bytes.is_empty() {
            continue;
        }
        let at = *at as usize % bytes.len();
        match how {
            How::Flip(bits) => bytes[at] ^= bits,
            How::Put(four) => four.iter().zip(&mut bytes[at..]).for_each(|(new, old)| *old = *new),
            How::Insert(byte) => bytes.insert(at, *byte),
            How::Remove => drop(bytes.remove(at)),
            How::Cut => bytes.truncate(at),
            How::Copy { from, count } => {
                let from = *from as usize % bytes.len();
                let part: Vec<u8> = bytes[from..].iter().copied().take((*count).into()).collect();
                part.iter().zip(&mut bytes[at..]).for_each(|(new, old)| *old = *new);
            }
            How::Gone => bytes.clear(),
        }
    }
    if input.forged {
        files
            .iter_mut()
            .filter(|(path, _)| is_log(path))
            .for_each(|(_, bytes)| forge(Arc::make_mut(bytes).as_mut_slice()));
    }
    let way = input.edits.iter().map(|edit| usize::from(edit.at)).sum();
    open_and_read(files, !input.forged, way);
});
