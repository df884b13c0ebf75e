//! What is counted for Prometheus, and how: plain atomics that whoever does the work adds to.
//!
//! Owns names, units and help texts, and the histogram. Nothing here locks or allocates when it counts, but for what is
//! rare and has a name of its own: a rule that was broken. A registry is passed in; many nodes fit in one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

/// Seconds of a durable write, from a fast disk's cache to a disk that is about to fail.
const COMMIT_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Seconds of an HTTP answer.
const HTTP_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Blocks in one durable write, and blocks undone by a reorg.
const BLOCKS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10_000.0];

/// What a histogram's sum is kept in: millionths, so that an integer can be added to atomically.
const MILLIONTHS: f64 = 1e6;

/// A histogram of atomics: one observation is three additions. A reader may see an observation in the sum and not yet in
/// the buckets; the next reading has both.
#[derive(Clone)]
pub struct Histogram(Arc<Inner>);

struct Inner {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("bounds", &self.0.bounds).finish_non_exhaustive()
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0) }))
    }

    /// Counts a number of blocks.
    pub fn observe_count(&self, count: u64) {
        // Blocks are below 2^53, where a float is exact.
        self.observe(count as f64, count.saturating_mul(MILLIONTHS as u64));
    }

    /// Counts a duration.
    pub fn observe_time(&self, time: Duration) {
        // Microseconds fit into 64 bits for 500,000 years.
        self.observe(time.as_secs_f64(), time.as_micros() as u64);
    }

    fn observe(&self, value: f64, millionths: u64) {
        let Inner { bounds, buckets, sum } = &*self.0;
        let place = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        buckets[place].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(millionths, Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Inner { bounds, buckets, sum } = &*self.0;
        let counts = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / MILLIONTHS;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

/// How blocks came onto the best chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockSource {
    /// Mined for a request.
    Mined,
    /// Mined again for a submission that lost its place.
    Outbox,
    /// From a peer.
    Peer,
    /// By an operator's word.
    Operator,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RuleLabel {
    rule: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct MessageLabel {
    direction: &'static str,
    r#type: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PeerLabel {
    kind: &'static str,
    direction: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StatusLabel {
    route: &'static str,
    status: u16,
}

/// Blocks and entries of one source.
#[derive(Debug)]
struct Came {
    blocks: Counter,
    entries: Counter,
}

/// Messages and bytes of one type and direction.
#[derive(Debug)]
struct Carried {
    messages: Counter,
    bytes: Counter,
}

/// Types of messages between nodes, by what stands at the beginning of each: the number of a text message, the first byte of a
/// native frame. What stands for no type of ours is the last.
const MESSAGE_TYPES: [&str; 15] = [
    "query_last",
    "query_all",
    "response_block",
    "hello",
    "proof",
    "tip",
    "push",
    "locate",
    "located",
    "fetch",
    "more",
    "batch",
    "gone",
    "addresses",
    "unknown",
];

/// Place in [`MESSAGE_TYPES`] of the first native frame.
const FIRST_FRAME: usize = 5;

/// The type of a text message, from its first bytes: dolmen and the tutorial both write the type first.
fn text_type(text: &[u8]) -> usize {
    let number = text.strip_prefix(br#"{"type":"#).unwrap_or_default();
    match number {
        [b'0', b',' | b'}', ..] => 0,
        [b'1', b',' | b'}', ..] => 1,
        [b'2', b',' | b'}', ..] => 2,
        [b'1', b'6', b',' | b'}', ..] => 3,
        [b'1', b'7', b',' | b'}', ..] => 4,
        _ => MESSAGE_TYPES.len() - 1,
    }
}

fn frame_type(frame: &[u8]) -> usize {
    let unknown = MESSAGE_TYPES.len() - 1;
    let kind = frame.first().map_or(unknown, |kind| FIRST_FRAME + usize::from(*kind));
    kind.min(unknown)
}

/// Messages of one direction.
#[derive(Debug)]
pub struct Traffic([Carried; MESSAGE_TYPES.len()]);

impl Traffic {
    /// Counts a text message.
    pub fn text(&self, text: &[u8]) {
        self.count(text_type(text), text.len());
    }

    /// Counts a binary message.
    pub fn frame(&self, frame: &[u8]) {
        self.count(frame_type(frame), frame.len());
    }

    fn count(&self, kind: usize, bytes: usize) {
        let carried = &self.0[kind];
        carried.messages.inc();
        carried.bytes.inc_by(bytes as u64);
    }
}

/// One route's answers.
#[derive(Debug)]
struct Route {
    seconds: Histogram,
}

/// What is read from the actors when somebody asks, not counted as it happens.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Height of the best chain.
    pub height: u64,
    /// Submissions that wait to be mined again.
    pub outbox: u64,
    /// Blocks kept off the best chain.
    pub side_blocks: u64,
    /// Branches that wait for an operator.
    pub parked: u64,
    /// Blocks on disk that are not what was written, and have not come again yet.
    pub damaged: u64,
    /// Whether entries can be taken.
    pub writable: bool,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of what is derived from it.
    pub index_bytes: u64,
    /// Links by kind and direction.
    pub peers: HashMap<(&'static str, &'static str), u64>,
    /// Addresses that are banned.
    pub banned: u64,
    /// Blocks that a branch which is being fetched still lacks; 0 when none is.
    pub sync_left: u64,
    /// Seconds since the start.
    pub uptime: u64,
}

/// Everything that a node counts.
#[derive(Debug)]
pub struct Metrics {
    mined: Came,
    outbox: Came,
    peer: Came,
    operator: Came,
    reorgs: Counter,
    reorg_blocks: Histogram,
    requeued: Counter,
    /// Durable writes: how long each took.
    pub commit_seconds: Histogram,
    /// Durable writes: how many blocks each held.
    pub commit_blocks: Histogram,
    /// From the first request of a group to its write.
    pub mailbox_wait: Histogram,
    /// Blocks written beside the chain while catching up.
    pub staged_blocks: Counter,
    /// Messages from peers.
    pub received: Traffic,
    /// Messages to peers.
    pub sent: Traffic,
    /// Bans that were imposed by conduct.
    pub bans: Counter,
    refusals: Family<RuleLabel, Counter>,
    peers: Family<PeerLabel, Gauge>,
    routes: HashMap<&'static str, Route>,
    answers: Family<StatusLabel, Counter>,
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Gauges {
    height: Gauge,
    outbox: Gauge,
    side_blocks: Gauge,
    parked: Gauge,
    damaged: Gauge,
    writable: Gauge,
    log_bytes: Gauge,
    index_bytes: Gauge,
    banned: Gauge,
    sync_left: Gauge,
    uptime: Gauge,
}

/// The name under which requests to no route are counted.
pub const NO_ROUTE: &str = "none";

impl Metrics {
    /// Registers everything under names that begin with `dolmen_`. `routes` are the patterns of HTTP's routes.
    #[must_use]
    pub fn register(registry: &mut Registry, routes: impl IntoIterator<Item = &'static str>) -> Self {
        let registry = registry.sub_registry_with_prefix("dolmen");
        let blocks = Family::<SourceLabel, Counter>::default();
        let entries = Family::<SourceLabel, Counter>::default();
        registry.register("chain_blocks", "Blocks that entered the best chain, by how they came", blocks.clone());
        registry.register(
            "chain_entries",
            "Entries of blocks that entered the best chain, by how they came",
            entries.clone(),
        );
        let came = |source| {
            let label = SourceLabel { source };
            Came { blocks: blocks.get_or_create_owned(&label), entries: entries.get_or_create_owned(&label) }
        };
        let messages = Family::<MessageLabel, Counter>::default();
        let bytes = Family::<MessageLabel, Counter>::default();
        registry.register("peer_messages", "Messages exchanged with peers, by type", messages.clone());
        registry.register_with_unit(
            "peer",
            "Bytes exchanged with peers, by type of message",
            Unit::Bytes,
            bytes.clone(),
        );
        let traffic = |direction| {
            Traffic(MESSAGE_TYPES.map(|r#type| {
                let label = MessageLabel { direction, r#type };
                Carried { messages: messages.get_or_create_owned(&label), bytes: bytes.get_or_create_owned(&label) }
            }))
        };
        let seconds =
            Family::<RouteLabel, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(HTTP_SECONDS));
        registry.register_with_unit(
            "http_request",
            "Time until an answer began, by route",
            Unit::Seconds,
            seconds.clone(),
        );
        let route = |route| (route, Route { seconds: seconds.get_or_create_owned(&RouteLabel { route }) });
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let timer = |registry: &mut Registry, name: &str, help: &str| {
            let histogram = Histogram::new(COMMIT_SECONDS);
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let sizes = |registry: &mut Registry, name: &str, help: &str| {
            let histogram = Histogram::new(BLOCKS);
            registry.register_with_unit(name, help, Unit::Other("blocks".into()), histogram.clone());
            histogram
        };
        let metrics = Self {
            mined: came("mined"),
            outbox: came("outbox"),
            peer: came("peer"),
            operator: came("operator"),
            reorgs: counter(registry, "reorgs", "Changes of the best chain in which blocks left it"),
            reorg_blocks: sizes(registry, "reorg", "Blocks that left the best chain in one reorg"),
            requeued: counter(registry, "requeued_submissions", "Submissions that lost their place in a reorg"),
            commit_seconds: timer(registry, "commit", "Time of one durable write, with what it took to judge it"),
            commit_blocks: sizes(registry, "commit", "Blocks in one durable write"),
            mailbox_wait: timer(
                registry,
                "mailbox_wait",
                "Time that the first request of a group waited until all that stood in the mailbox was taken with it",
            ),
            staged_blocks: counter(registry, "sync_blocks", "Blocks written beside the chain while catching up"),
            received: traffic("received"),
            sent: traffic("sent"),
            bans: counter(registry, "bans", "Bans imposed for breaking the protocol"),
            refusals: Family::default(),
            peers: Family::default(),
            routes: routes.into_iter().chain([NO_ROUTE]).map(route).collect(),
            answers: Family::default(),
            gauges: Gauges::default(),
        };
        registry.register(
            "refusals",
            "Blocks and requests that were refused, by the rule that they broke",
            metrics.refusals.clone(),
        );
        registry.register("peers", "Links, by kind and by who dialled", metrics.peers.clone());
        registry.register("http_responses", "Answers, by route and status", metrics.answers.clone());
        metrics.gauges.register(registry);
        metrics
    }

    /// Counts a change of the best chain: `blocks` and `entries` entered, `left` blocks left it.
    pub fn changed(&self, source: BlockSource, blocks: u64, entries: u64, left: u64, requeued: u64) {
        let came = match source {
            BlockSource::Mined => &self.mined,
            BlockSource::Outbox => &self.outbox,
            BlockSource::Peer => &self.peer,
            BlockSource::Operator => &self.operator,
        };
        came.blocks.inc_by(blocks);
        came.entries.inc_by(entries);
        if left > 0 {
            self.reorgs.inc();
            self.reorg_blocks.observe_count(left);
            self.requeued.inc_by(requeued);
        }
    }

    /// Counts a refusal by its rule's fixed name.
    pub fn refused(&self, rule: &'static str) {
        self.refusals.get_or_create(&RuleLabel { rule }).inc();
    }

    /// Counts an answer of a route, by its pattern.
    pub fn answered(&self, pattern: &str, status: u16, time: Duration) {
        let known = self.routes.get_key_value(pattern).or_else(|| self.routes.get_key_value(NO_ROUTE));
        let Some((route, Route { seconds })) = known else { return };
        seconds.observe_time(time);
        self.answers.get_or_create(&StatusLabel { route, status }).inc();
    }

    /// Takes over what was read from the actors.
    pub fn read(&self, reading: &Reading) {
        // None of these comes near 2^63.
        let set = |gauge: &Gauge, value: u64| {
            let _ = gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        let gauges = &self.gauges;
        set(&gauges.height, reading.height);
        set(&gauges.outbox, reading.outbox);
        set(&gauges.side_blocks, reading.side_blocks);
        set(&gauges.parked, reading.parked);
        set(&gauges.damaged, reading.damaged);
        set(&gauges.writable, u64::from(reading.writable));
        set(&gauges.log_bytes, reading.log_bytes);
        set(&gauges.index_bytes, reading.index_bytes);
        set(&gauges.banned, reading.banned);
        set(&gauges.sync_left, reading.sync_left);
        set(&gauges.uptime, reading.uptime);
        for kind in ["native", "tutorial"] {
            for direction in ["inbound", "outbound"] {
                let links = reading.peers.get(&(kind, direction)).copied().unwrap_or_default();
                set(&self.peers.get_or_create(&PeerLabel { kind, direction }), links);
            }
        }
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("chain_height", "Index of the last block of the best chain", &self.height),
            ("outbox_submissions", "Submissions that wait to be mined again", &self.outbox),
            ("side_blocks", "Blocks kept off the best chain", &self.side_blocks),
            ("parked_branches", "Branches that wait for an operator", &self.parked),
            ("damaged_blocks", "Blocks on disk that are broken and were not fetched again yet", &self.damaged),
            ("writable", "1 while entries can be taken, 0 after the store failed", &self.writable),
            ("banned_addresses", "Addresses that may not link", &self.banned),
            ("sync_left_blocks", "Blocks that the branch which is being fetched still lacks", &self.sync_left),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register_with_unit("log", "Size of the log", Unit::Bytes, self.log_bytes.clone());
        registry.register_with_unit(
            "index",
            "Size of what is derived from the log",
            Unit::Bytes,
            self.index_bytes.clone(),
        );
        registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, self.uptime.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_beginning() {
        use crate::peer::message;
        for (text, wanted) in [
            (message::query_last(), "query_last"),
            (message::query_all(), "query_all"),
            (message::response_text("[]"), "response_block"),
            (r#"{"type":16,"data":{}}"#.to_owned(), "hello"),
            (r#"{"type":17,"data":"ab"}"#.to_owned(), "proof"),
            (r#"{"type":18,"data":null}"#.to_owned(), "unknown"),
            ("nonsense".to_owned(), "unknown"),
        ] {
            assert_eq!(MESSAGE_TYPES[text_type(text.as_bytes())], wanted, "{text}");
        }
        use crate::ledger::genesis;
        use crate::peer::native::{Frame, encode};
        let tip = genesis::tip();
        for (frame, wanted) in [
            (Frame::Tip(tip), "tip"),
            (Frame::Locate(vec![tip]), "locate"),
            (Frame::More { batches: 1 }, "more"),
            (Frame::Gone, "gone"),
            (Frame::Addresses(Vec::new()), "addresses"),
        ] {
            assert_eq!(MESSAGE_TYPES[frame_type(&encode(&frame))], wanted);
        }
        assert_eq!(MESSAGE_TYPES[frame_type(&[])], "unknown");
        assert_eq!(MESSAGE_TYPES[frame_type(&[255])], "unknown");
    }

    #[test]
    fn a_histogram_counts_each_value_once() {
        let mut registry = Registry::default();
        let histogram = Histogram::new(&[1.0, 10.0]);
        registry.register("h", "H", histogram.clone());
        [0, 1, 2, 11].iter().for_each(|count| histogram.observe_count(*count));
        histogram.observe_time(Duration::from_millis(500));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let wanted = "# HELP h H.\n# TYPE h histogram\nh_sum 14.5\nh_count 5\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"10.0\"} 4\n\
                      h_bucket{le=\"+Inf\"} 5\n# EOF\n";
        assert_eq!(text, wanted);
    }
}
