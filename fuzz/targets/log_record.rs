//! Records that carry anything, in groups with the right checksums, behind a log that is good: everything that a replay
//! reads of a record is reached.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use dolmen::folder::{folder, forge, is_log, open_and_read};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Group<'a> {
    fork: Option<u8>,
    records: Vec<(u8, &'a [u8])>,
    /// What the sequence number is off by; zero follows.
    off: i8,
}

fuzz_target!(|groups: Vec<Group<'_>>| {
    let mut files = folder().files.clone();
    // The derived files know nothing of what is appended.
    let last = (0..files.len()).rev().find(|at| is_log(&files[*at].0)).expect("a segment");
    let log = Arc::make_mut(&mut files[last].1);
    let (mut sequence, mut at) = (0, 128);
    while at + 36 <= log.len() {
        let number = |from: usize| u64::from_le_bytes(log[from..from + 8].try_into().expect("eight bytes"));
        sequence = number(at + 16);
        at += 36 + (number(at + 8) & 0xffff_ffff) as usize;
    }
    let salt = log[16..24].to_vec();
    for group in groups.iter().take(4) {
        let mut records = Vec::new();
        for (kind, payload) in group.records.iter().take(8) {
            records.extend_from_slice(&[0; 4]);
            records.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            records.push(kind % 16);
            records.extend_from_slice(payload);
        }
        sequence = sequence.wrapping_add(1).wrapping_add_signed(group.off.into());
        log.extend_from_slice(&salt);
        log.extend_from_slice(&(records.len() as u32).to_le_bytes());
        log.extend_from_slice(&(group.records.len().min(8) as u32).to_le_bytes());
        log.extend_from_slice(&sequence.to_le_bytes());
        log.extend_from_slice(&group.fork.map_or(u64::MAX, u64::from).to_le_bytes());
        log.extend_from_slice(&[0; 4]);
        log.extend_from_slice(&records);
    }
    forge(log);
    let way =
        groups.iter().flat_map(|group| &group.records).map(|(kind, payload)| usize::from(*kind) + payload.len()).sum();
    open_and_read(files, false, way);
});
