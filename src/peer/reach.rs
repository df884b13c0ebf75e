//! Which network addresses a node may dial at somebody else's word.
//!
//! `/addPeers` and other peers name addresses; a name resolves to whatever its owner likes. Loopback and private networks
//! are where nodes live and stay allowed. Refused is what no node lives on, and what answers requests with secrets: the
//! link-local addresses on which clouds serve their metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// The metadata service of one cloud, outside the link-local range.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Why an address is not dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OutOfReach {
    /// Nobody's address.
    #[error("the unspecified address names no machine")]
    Unspecified,
    /// Everybody's address.
    #[error("a multicast or broadcast address names no machine")]
    Many,
    /// Where clouds serve secrets.
    #[error("link-local addresses are not dialled: clouds serve their metadata there")]
    LinkLocal,
    /// Not in use.
    #[error("a reserved address names no machine")]
    Reserved,
}

/// Judges an address that is about to be dialled.
///
/// # Errors
/// Why it is not.
pub fn judge(address: IpAddr) -> Result<(), OutOfReach> {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => judge_v4(inner),
            None => judge_v6(address),
        },
    }
}

fn judge_v4(address: Ipv4Addr) -> Result<(), OutOfReach> {
    if address.is_unspecified() {
        Err(OutOfReach::Unspecified)
    } else if address.is_multicast() || address.is_broadcast() {
        Err(OutOfReach::Many)
    } else if address.is_link_local() {
        Err(OutOfReach::LinkLocal)
    } else if address.octets()[0] == 0 || address.octets()[0] >= 240 {
        Err(OutOfReach::Reserved)
    } else {
        Ok(())
    }
}

fn judge_v6(address: Ipv6Addr) -> Result<(), OutOfReach> {
    if address.is_unspecified() {
        Err(OutOfReach::Unspecified)
    } else if address.is_multicast() {
        Err(OutOfReach::Many)
    } else if address.is_unicast_link_local() || address == METADATA_V6 {
        Err(OutOfReach::LinkLocal)
    } else {
        Ok(())
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, or behind the translators' well-known prefix and
/// 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let low = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(low(g, h)),
        // `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0] if g != 0 || h > 1 => Some(low(g, h)),
        [0x2002, ..] => Some(low(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_live_on_loopback_private_and_public_addresses() {
        for text in [
            "127.0.0.1",
            "127.8.9.10",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "8.8.8.8",
            "::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(judge(text.parse().expect(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_no_node_lives_on_is_refused_in_every_spelling() {
        use OutOfReach::{LinkLocal, Many, Reserved, Unspecified};
        for (text, why) in [
            ("0.0.0.0", Unspecified),
            ("::", Unspecified),
            ("::ffff:0.0.0.0", Unspecified),
            ("0.1.2.3", Reserved),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Many),
            ("224.0.0.1", Many),
            ("ff02::1", Many),
            ("169.254.169.254", LinkLocal),
            ("169.254.0.1", LinkLocal),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::169.254.169.254", LinkLocal),
            ("64:ff9b::169.254.169.254", LinkLocal),
            ("2002:a9fe:a9fe::1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("fd00:ec2::254", LinkLocal),
        ] {
            assert_eq!(judge(text.parse().expect(text)), Err(why), "{text}");
        }
    }
}
