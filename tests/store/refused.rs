//! What is not ours, not for us, or in use, on a real disk: refused in one sentence, and left as it was.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dolmen::ledger::genesis;
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::Storage;
use dolmen::store::{OpenError, OpenReport, Options, RealDisk, Store};
use tempfile::TempDir;

use crate::blocks::{branch, extend};

fn open(dir: &Path) -> Result<(Store, OpenReport), OpenError> {
    Store::open(dir, Arc::new(RealDisk), Options { reserve_bytes: 4096, ..Options::default() })
}

fn refused(dir: &Path) -> OpenError {
    match open(dir) {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(error) => error,
    }
}

fn with_three_blocks(dir: &Path) {
    let (mut store, _) = open(dir).expect("opens");
    let blocks = branch(genesis::tip(), 3, "a");
    store.commit(&extend(genesis::tip(), &blocks)).expect("commits");
    store.close().expect("closes");
}

#[test]
fn a_new_directory_and_those_above_it_are_made() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("a/b/c");
    let (store, report) = open(&path).expect("opens");
    assert_eq!(store.tip(), genesis::tip());
    assert_eq!((report.clean, report.rebuilt, report.replayed), (true, None, 0));
    let format = fs::read_to_string(path.join("FORMAT")).expect("is text");
    assert!(format.starts_with("dolmen data directory\nformat 1\ngenesis f087ad9b"), "{format}");
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let dir = TempDir::new().expect("a folder");
    let first = open(dir.path()).expect("opens");
    let holder = format!("process {}", std::process::id());
    assert_eq!(refused(dir.path()), OpenError::Locked { path: dir.path().to_owned(), holder: holder.clone() });
    let text = refused(dir.path()).to_string();
    assert!(text.contains(&format!("is in use by {holder}: stop that node first")), "{text}");
    drop(first);
    open(dir.path()).expect("is free again");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("thesis.txt"), "years of work").expect("writes");
    let found = "it holds \"thesis.txt\" and no file FORMAT".to_owned();
    assert_eq!(refused(dir.path()), OpenError::Foreign { path: dir.path().to_owned(), found });
    fs::write(dir.path().join("FORMAT"), "PDF").expect("writes");
    let found = "its file FORMAT says something else".to_owned();
    assert_eq!(refused(dir.path()), OpenError::Foreign { path: dir.path().to_owned(), found });
    assert_eq!(fs::read_to_string(dir.path().join("thesis.txt")).expect("is there"), "years of work");
    assert!(!dir.path().join("log").exists());
}

/// The text of `FORMAT` with a right check.
fn format(number: u32, genesis: &str) -> String {
    let text = format!("dolmen data directory\nformat {number}\ngenesis {genesis}\n");
    format!("{text}check {:08x}\n", crc32fast::hash(text.as_bytes()))
}

#[test]
fn a_newer_directory_is_refused() {
    let dir = TempDir::new().expect("a folder");
    with_three_blocks(dir.path());
    let path = dir.path().join("FORMAT");
    fs::write(&path, format(2, &genesis::tip().hash.to_string())).expect("writes");
    assert_eq!(refused(dir.path()), OpenError::Newer { path, found: 2, known: 1 });
}

#[test]
fn a_directory_of_another_chain_is_refused() {
    let dir = TempDir::new().expect("a folder");
    with_three_blocks(dir.path());
    let path = dir.path().join("FORMAT");
    let other = BlockHash([7; 32]);
    fs::write(&path, format(1, &other.to_string())).expect("writes");
    assert_eq!(refused(dir.path()), OpenError::OtherGenesis { path, found: other, wanted: genesis::tip().hash });
}

#[test]
fn a_broken_format_file_is_written_again_where_the_log_is_ours() {
    let dir = TempDir::new().expect("a folder");
    with_three_blocks(dir.path());
    let path = dir.path().join("FORMAT");
    let good = fs::read(&path).expect("is there");
    for broken in [b"".to_vec(), good[..good.len() - 3].to_vec(), [&b"X"[..], &good[1..]].concat()] {
        fs::write(&path, &broken).expect("writes");
        let (store, _) = open(dir.path()).expect("opens");
        assert_eq!(store.tip().height.0, 3);
        drop(store);
        assert_eq!(fs::read(&path).expect("is there"), good);
    }
    fs::remove_file(&path).expect("removes");
    open(dir.path()).expect("opens");
    assert_eq!(fs::read(&path).expect("is there"), good);
}

/// Changes a field of both copies of a segment's header, with right checksums.
fn change_header(path: &Path, at: usize, field: &[u8]) {
    let mut bytes = fs::read(path).expect("is there");
    bytes[at..at + field.len()].copy_from_slice(field);
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes.copy_within(..64, 64);
    fs::write(path, bytes).expect("writes");
}

/// Makes a segment somebody else's.
type Change = fn(&Path);

/// What is said of it then.
type Refusal = fn(std::path::PathBuf) -> OpenError;

#[test]
fn segments_that_are_not_ours_are_refused() {
    let wanted = genesis::tip().hash;
    let change: [(Change, Refusal); 3] = [
        (|path| change_header(path, 8, &9u32.to_le_bytes()), |path| OpenError::Newer { path, found: 9, known: 1 }),
        (
            |path| change_header(path, 24, &[7; 32]),
            |path| OpenError::OtherGenesis { path, found: BlockHash([7; 32]), wanted: genesis::tip().hash },
        ),
        (
            |path| fs::write(path, vec![b'#'; 4096]).expect("writes"),
            |path| OpenError::Foreign { path, found: "it does not begin as a segment of the log".to_owned() },
        ),
    ];
    for (change, error) in change {
        let dir = TempDir::new().expect("a folder");
        with_three_blocks(dir.path());
        let path = dir.path().join("log/00000001.seg");
        change(&path);
        // Without an index, so that nothing says where the log ended.
        fs::remove_dir_all(dir.path().join("index")).expect("removes");
        let before = fs::read(&path).expect("is there");
        assert_eq!(refused(dir.path()), error(path.clone()), "{wanted}");
        assert_eq!(fs::read(&path).expect("is there"), before, "is left as it was");
    }
}

#[test]
fn what_a_real_disk_keeps_is_there_again() {
    let dir = TempDir::new().expect("a folder");
    with_three_blocks(dir.path());
    let (store, report) = open(dir.path()).expect("opens");
    assert_eq!((store.tip().height.0, report.clean, report.replayed, report.rebuilt), (3, true, 0, None));
    drop(store);
    fs::remove_file(dir.path().join("heights")).expect("removes");
    fs::remove_dir_all(dir.path().join("index")).expect("removes");
    let (store, report) = open(dir.path()).expect("opens");
    assert_eq!((store.tip().height.0, report.clean, report.replayed), (3, true, 2));
    assert_eq!(report.rebuilt.as_deref(), Some("there is no checkpoint"));
    assert_eq!(store.snapshot().blocks(dolmen::ledger::Height(1), 9, 9999).expect("reads").len(), 3);
}
