//! A closed cluster: both ends of a link prove that they hold one key, before anything else is said or heard.
//!
//! Owns the [`ClusterKey`] and the [`Handshake`] of one link. Refuses to know sockets, clocks and randomness: HELLOs and
//! proofs come in, what to say next goes out.
//!
//! | who | says | when |
//! | --- | --- | --- |
//! | both | HELLO with a fresh challenge of 32 random bytes | the link opens |
//! | dialler | its PROOF | it has the listener's HELLO |
//! | listener | its PROOF | it has judged the dialler's |
//!
//! A proof is HMAC-SHA-256 under the cluster's key over a label, the prover's role, and both HELLOs, the prover's first:
//! protocol, node id, link nonce, challenge, genesis, port and tip of each, all of fixed length. So it holds for this link
//! in this direction and for no other: the other side's challenge keeps an old one from being played again, the role keeps
//! one from being sent back to who made it. The listener proves nothing to strangers, so that nobody who only reaches the
//! port gets a hash to try keys on.
//!
//! What this does not do: it does not encrypt, and what follows on the link is not signed. Whoever can change packets
//! between two nodes can take a link over once it is proven; TLS closes that.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::message::{Challenge, Hello, PROTOCOL, Proof};

/// Says what the hash is for, so that no other use of the key can give the same one.
const LABEL: &[u8] = b"dolmen cluster proof 1";

/// Bytes of a key at least: as many as the hash has, which nobody guesses.
pub const MIN_KEY: usize = 32;

/// Bytes of a key's file at most: more is some other file.
pub const MAX_KEY_TEXT: usize = 4096;

/// What all nodes of a closed cluster share. Never shown.
#[derive(Clone)]
pub struct ClusterKey(Arc<[u8]>);

/// Why a text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KeyError {
    /// Nothing in it.
    #[error("it is empty; make a key with: dolmen keygen")]
    Empty,
    /// Hex, but too little.
    #[error("it holds {got} bytes in hex, and a key has at least {MIN_KEY}; make one with: dolmen keygen")]
    ShortHex {
        /// Bytes that the hex stands for.
        got: usize,
    },
    /// Hex, but half a byte of it.
    #[error("it has an odd number of hex digits: one is missing, or one too many")]
    OddHex,
    /// Text, but too little.
    #[error(
        "it holds {got} characters, and a key that is not hex has at least {MIN_KEY}; make one with: dolmen keygen"
    )]
    ShortText {
        /// Bytes of the text.
        got: usize,
    },
    /// Some other file.
    #[error("it is longer than {MAX_KEY_TEXT} bytes, which no key is")]
    Long,
}

impl ClusterKey {
    /// The key in a file's text: hex digits, or any other text. White space around it does not count.
    ///
    /// # Errors
    /// It is too short to be safe, or too long to be a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > MAX_KEY_TEXT {
            return Err(KeyError::Long);
        }
        if text.bytes().all(|c| c.is_ascii_hexdigit()) {
            let bytes = hex::decode(text).map_err(|_| KeyError::OddHex)?;
            return if bytes.len() >= MIN_KEY {
                Ok(Self(bytes.into()))
            } else {
                Err(KeyError::ShortHex { got: bytes.len() })
            };
        }
        if text.len() < MIN_KEY {
            return Err(KeyError::ShortText { got: text.len() });
        }
        Ok(Self(text.as_bytes().into()))
    }

    /// What who holds the key says in this role, having said `prover` and heard `verifier`. `None` if one of them did not
    /// come with a challenge.
    fn mac(&self, role: Role, prover: &Hello, verifier: &Hello) -> Option<Hmac<Sha256>> {
        // A key of any length is allowed: the error is never met.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(LABEL);
        mac.update(&[role as u8]);
        for hello in [prover, verifier] {
            mac.update(&hello.protocol.to_be_bytes());
            mac.update(&hello.node.0.to_be_bytes());
            mac.update(&hello.nonce.0.to_be_bytes());
            mac.update(&hello.challenge?.0);
            mac.update(&hello.genesis.0);
            mac.update(&hello.port.to_be_bytes());
            mac.update(&hello.tip.height.0.to_be_bytes());
            mac.update(&hello.tip.hash.0);
        }
        Some(mac)
    }
}

impl PartialEq for ClusterKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ClusterKey {}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(not shown)")
    }
}

/// Who dialled; part of what is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// This end dialled.
    Dialler = 1,
    /// The other end dialled.
    Listener = 2,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Wait for the peer's proof.
    Wait,
    /// Say this, and wait for the peer's proof.
    Prove(Proof),
    /// The peer holds the key. Say the proof first, if there is one; then the link is open.
    Proven {
        /// Our own proof, if the peer does not have it yet.
        answer: Option<Proof>,
        /// What the peer said of itself, which its proof covers.
        peer: Hello,
    },
}

/// Why a peer does not get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// A node without a key, or a tutorial peer that says HELLO.
    #[error("it says HELLO without a challenge: it was not started with --cluster-key-file")]
    Open,
    /// It speaks another version, with which a closed cluster has nothing to say.
    #[error("it speaks version {got} of the native protocol, and this node speaks {PROTOCOL}")]
    Protocol {
        /// Its version.
        got: u32,
    },
    /// Our own challenge came back.
    #[error("it sends our own challenge back")]
    Reflected,
    /// Another key, or none.
    #[error("its proof is wrong: it holds another cluster key")]
    Wrong,
    /// Something else than HELLO and PROOF, or in another order.
    #[error("it says {0} before it has proven that it holds the cluster key")]
    Early(&'static str),
    /// Nothing in time.
    #[error("it has not proven in time that it holds the cluster key")]
    Late,
}

/// One link's way to being open.
#[derive(Debug)]
pub struct Handshake {
    key: ClusterKey,
    role: Role,
    /// What this end has said.
    own: Hello,
    /// What the other end has said; HELLO comes once.
    peer: Option<Hello>,
}

impl Handshake {
    /// A link on which `own` was said, with a challenge that no other link had.
    #[must_use]
    pub fn new(key: ClusterKey, role: Role, own: Hello) -> Self {
        Self { key, role, own, peer: None }
    }

    /// The challenge that this end has sent.
    #[must_use]
    pub fn challenge(&self) -> Option<Challenge> {
        self.own.challenge
    }

    /// The peer has said HELLO.
    ///
    /// # Errors
    /// Why it does not get in.
    pub fn hello(&mut self, peer: Hello) -> Result<Step, Refused> {
        if self.peer.is_some() {
            return Err(Refused::Early("HELLO again"));
        }
        if peer.protocol != PROTOCOL {
            return Err(Refused::Protocol { got: peer.protocol });
        }
        if peer.challenge.is_none() {
            return Err(Refused::Open);
        }
        if peer.challenge == self.own.challenge {
            return Err(Refused::Reflected);
        }
        let step = match self.role {
            Role::Dialler => Step::Prove(self.prove(&peer).ok_or(Refused::Open)?),
            Role::Listener => Step::Wait,
        };
        self.peer = Some(peer);
        Ok(step)
    }

    /// The peer has said PROOF.
    ///
    /// # Errors
    /// Why it does not get in.
    pub fn proof(&mut self, proof: &Proof) -> Result<Step, Refused> {
        let Some(peer) = &self.peer else { return Err(Refused::Early("PROOF without HELLO")) };
        let wanted = self.key.mac(self.role.other(), peer, &self.own).ok_or(Refused::Open)?;
        // The comparison takes the same time wherever the two differ.
        wanted.verify_slice(&proof.0).map_err(|_| Refused::Wrong)?;
        let answer = match self.role {
            Role::Dialler => None,
            Role::Listener => Some(self.prove(peer).ok_or(Refused::Open)?),
        };
        Ok(Step::Proven { answer, peer: peer.clone() })
    }

    fn prove(&self, peer: &Hello) -> Option<Proof> {
        Some(Proof(self.key.mac(self.role, &self.own, peer)?.finalize().into_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;
    use crate::peer::message::{NodeId, Nonce};

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn key(text: &str) -> ClusterKey {
        ClusterKey::parse(text).expect("a key")
    }

    fn hello(node: u128, challenge: u8) -> Hello {
        Hello {
            protocol: PROTOCOL,
            node: NodeId(node),
            nonce: Nonce(7),
            genesis: genesis::tip().hash,
            port: 6005,
            tip: genesis::tip(),
            agent: "dolmen/0".into(),
            challenge: Some(Challenge([challenge; 32])),
        }
    }

    fn ends(dialler: &str, listener: &str) -> (Handshake, Handshake) {
        let dialler = Handshake::new(key(dialler), Role::Dialler, hello(1, 0xd1));
        (dialler, Handshake::new(key(listener), Role::Listener, hello(2, 0x12)))
    }

    /// The dialler's proof, after both HELLOs.
    fn greet(dialler: &mut Handshake, listener: &mut Handshake) -> Proof {
        assert_eq!(listener.hello(dialler.own.clone()), Ok(Step::Wait), "a listener says nothing to strangers");
        match dialler.hello(listener.own.clone()) {
            Ok(Step::Prove(proof)) => proof,
            other => panic!("the dialler proves first, not {other:?}"),
        }
    }

    #[test]
    fn two_that_hold_one_key_let_each_other_in() {
        let (mut dialler, mut listener) = ends(KEY, &format!("  {}\n", KEY.to_uppercase()));
        let proof = greet(&mut dialler, &mut listener);
        let Ok(Step::Proven { answer: Some(answer), peer }) = listener.proof(&proof) else { panic!("not let in") };
        assert_eq!(peer, dialler.own);
        let peer = listener.own.clone();
        assert_eq!(dialler.proof(&answer), Ok(Step::Proven { answer: None, peer }));
        assert_ne!(proof, answer, "the two directions differ");
    }

    /// Made with an independent HMAC (Python's hmac module) over the documented bytes.
    #[test]
    fn the_proof_is_the_documented_hash() {
        let (mut dialler, mut listener) = ends(KEY, KEY);
        let proof = greet(&mut dialler, &mut listener);
        assert_eq!(hex::encode(proof.0), "087b354803bbe8af8d00de226e4d35ebc3bea3b43c524342406bb87a4063ab91");
    }

    #[test]
    fn another_key_is_refused_by_both_ends() {
        let other = "another key that nobody in this cluster has";
        let (mut dialler, mut listener) = ends(other, KEY);
        let proof = greet(&mut dialler, &mut listener);
        assert_eq!(listener.proof(&proof), Err(Refused::Wrong));
        assert_eq!(dialler.proof(&proof), Err(Refused::Wrong), "its own proof sent back");
        let forged = Handshake::new(key(KEY), Role::Listener, listener.own.clone()).prove(&dialler.own);
        assert_eq!(dialler.proof(&forged.expect("a proof")), Err(Refused::Wrong));
    }

    #[test]
    fn a_proof_holds_for_one_link_in_one_direction() {
        let (mut dialler, mut listener) = ends(KEY, KEY);
        let proof = greet(&mut dialler, &mut listener);
        // Whatever of the two HELLOs differs, an old proof is worth nothing.
        let changes: [fn(&mut Hello); 6] = [
            |hello| hello.challenge = Some(Challenge([9; 32])),
            |hello| hello.nonce = Nonce(8),
            |hello| hello.node = NodeId(3),
            |hello| hello.port = 1,
            |hello| hello.tip.height.0 += 1,
            |hello| hello.tip.hash.0[31] ^= 1,
        ];
        for (number, change) in changes.iter().enumerate() {
            for own in [true, false] {
                let (mut ours, mut theirs) = (hello(2, 0x12), hello(1, 0xd1));
                change(if own { &mut ours } else { &mut theirs });
                let mut replayed = Handshake::new(key(KEY), Role::Listener, ours);
                assert_eq!(replayed.hello(theirs), Ok(Step::Wait));
                assert_eq!(replayed.proof(&proof), Err(Refused::Wrong), "change {number}, own {own}");
            }
        }
        for byte in 0..32 {
            let mut broken = proof;
            broken.0[byte] ^= 1;
            assert_eq!(listener.proof(&broken), Err(Refused::Wrong), "byte {byte}");
        }
        assert!(matches!(listener.proof(&proof), Ok(Step::Proven { .. })), "the right one still holds");
    }

    #[test]
    fn what_comes_in_another_order_or_back_is_refused() {
        let (mut dialler, mut listener) = ends(KEY, KEY);
        let proof = Proof([0; 32]);
        assert_eq!(listener.proof(&proof), Err(Refused::Early("PROOF without HELLO")));
        assert_eq!(dialler.hello(dialler.own.clone()), Err(Refused::Reflected));
        assert_eq!(listener.hello(Hello { challenge: None, ..hello(1, 1) }), Err(Refused::Open));
        assert_eq!(listener.hello(Hello { protocol: 2, ..hello(1, 1) }), Err(Refused::Protocol { got: 2 }));
        assert_eq!(listener.hello(hello(1, 1)), Ok(Step::Wait));
        assert_eq!(listener.hello(hello(1, 1)), Err(Refused::Early("HELLO again")));
    }

    #[test]
    fn a_key_is_long_enough_and_never_shown() {
        let parse = |text: &str| ClusterKey::parse(text).expect_err("no key");
        assert_eq!(parse(" \n"), KeyError::Empty);
        assert_eq!(parse("0123456789abcdef0123456789abcdef"), KeyError::ShortHex { got: 16 }, "32 digits are 16 bytes");
        assert_eq!(parse(&KEY[2..]), KeyError::ShortHex { got: 31 });
        assert_eq!(parse(&KEY[1..]), KeyError::OddHex);
        assert_eq!(parse("a password"), KeyError::ShortText { got: 10 });
        assert_eq!(parse(&"x".repeat(4097)), KeyError::Long);
        assert_eq!(key(KEY), key(&KEY.to_uppercase()));
        assert_eq!(format!("{:?}", key(KEY)), "ClusterKey(not shown)");
    }
}
