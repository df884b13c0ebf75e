//! What requests carry: entries to mine, peers to link with, bans.
#![no_main]

use std::net::IpAddr;

use dolmen::bodies::{Entries, Peers, Wish, read};
use dolmen::ledger::rules::check_body;
use dolmen::peer::address::PeerAddress;
use dolmen::second::{self, Json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let entries = read::<Entries>(body);
    if let Ok(entries) = &entries {
        let _ = check_body(&entries.data);
    }
    if let Ok(text) = std::str::from_utf8(body) {
        assert_eq!(entries.ok().map(|entries| entries.data), second_entries(text), "read another way");
    }
    if let Ok(peers) = read::<Peers>(body) {
        for peer in peers.peers {
            let _ = peer.parse::<PeerAddress>();
        }
    }
    if let Ok(wish) = read::<Wish>(body) {
        let _ = wish.address.parse::<IpAddr>();
    }
});

fn second_entries(text: &str) -> Option<Vec<String>> {
    let Json::Map(map) = second::json(text)? else { return None };
    if map.iter().any(|(key, _)| key.is_none()) {
        return None;
    }
    let mut found = map.iter().filter(|(key, _)| key.as_deref() == Some("data"));
    let (Some((_, Json::List(list))), None) = (found.next(), found.next()) else { return None };
    list.iter().map(|entry| if let Json::Text(text) = entry { text.clone() } else { None }).collect()
}
