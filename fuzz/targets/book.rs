//! The address book's file, and the book and the record of conduct that live on what it says.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use arbitrary::Arbitrary;
use dolmen::book_page;
use dolmen::peer::address::PeerAddress;
use dolmen::peer::book::{Book, Source};
use dolmen::peer::conduct::{Offence, Verdict};
use dolmen::peer::limits::{MAX_LEARNED, MAX_OUTBOUND};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Debug, Arbitrary)]
enum Step {
    Add { host: u8, learned: bool },
    Remove(u8),
    Due { links: u8 },
    Linked(u8),
    Lost(u8),
    Note { address: u8, how: u8 },
    Ban { address: u8, seconds: u64 },
    Forgive(u8),
    Time(u32),
}

fuzz_target!(|input: (&str, u64, Vec<Step>)| {
    let (text, mut now, steps) = input;
    let mut rng = StdRng::seed_from_u64(1);
    let mut book = Book::default();
    let mut conduct = Default::default();
    if let Some((lines, record, written)) = book_page(text) {
        let (_, again, twice) = book_page(&written).expect("what was written is read");
        assert_eq!((&again, &twice), (&record, &written));
        for line in lines {
            book.add(line.address, line.source, 0);
        }
        conduct = record;
    }
    // Unix milliseconds: beyond the end of time nobody lives.
    now %= 1 << 48;
    for step in steps {
        let peer = |host: u8| PeerAddress::new(&format!("10.0.0.{host}"), 6005);
        let ip = |host: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, host));
        let seconds = now / 1000;
        match step {
            Step::Add { host, learned } => {
                book.add(peer(host), if learned { Source::Learned } else { Source::Configured }, now);
            }
            Step::Remove(host) => assert!(!book.remove(&peer(host)) || !book.remove(&peer(host))),
            Step::Due { links } => assert!(book.due(now, links.into(), |_| false).len() <= MAX_OUTBOUND),
            Step::Linked(host) => book.linked(&peer(host)),
            Step::Lost(host) => book.lost(&peer(host), now, &mut rng),
            Step::Note { address, how } => {
                let offence = [Offence::Framing, Offence::NotReading, Offence::Flood][how as usize % 3].clone();
                if let Verdict::Banned(until) = conduct.note(ip(address), &offence, seconds) {
                    assert_eq!(conduct.banned(ip(address), seconds), Some(until));
                }
            }
            Step::Ban { address, seconds: length } => {
                let until = conduct.ban(ip(address), length, seconds);
                assert_eq!(conduct.banned(ip(address), seconds), Some(until).filter(|until| *until > seconds));
            }
            Step::Forgive(address) => {
                conduct.forgive(ip(address));
                assert_eq!(conduct.banned(ip(address), seconds), None);
            }
            Step::Time(millis) => now += u64::from(millis),
        }
    }
    let learned = book.lines().iter().filter(|line| line.source == Source::Learned).count();
    assert!(learned <= MAX_LEARNED);
    assert!(conduct.bans(now / 1000).count() <= 4096);
});
