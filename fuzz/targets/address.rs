//! A peer's address as a stranger may write it, and whether the network address behind it may be dialled.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dolmen::peer::address::PeerAddress;
use dolmen::peer::reach;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u32, u128)| {
    let (text, v4, v6) = input;
    match text.parse::<PeerAddress>() {
        Ok(address) => {
            assert_ne!(address.port(), 0);
            assert!(!address.host().is_empty());
            assert!(!address.host().contains(['/', '@', '?', '#', ' ', '\r', '\n', '\0']), "{address}");
            assert_eq!(address.to_string().parse(), Ok(address), "one spelling");
        }
        Err(error) => assert!(error.to_string().len() < 4096),
    }
    let plain = IpAddr::V4(Ipv4Addr::from(v4));
    let mapped = IpAddr::V6(Ipv4Addr::from(v4).to_ipv6_mapped());
    assert_eq!(reach::judge(plain), reach::judge(mapped), "one address in two spellings");
    let address = IpAddr::V6(Ipv6Addr::from(v6));
    let refused = reach::judge(address).is_err();
    assert!(refused || !(address.is_multicast() || address.is_unspecified()), "{address} names no machine");
});
