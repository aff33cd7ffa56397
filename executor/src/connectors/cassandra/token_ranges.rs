//! The ring: which rows live together, and how a whole table is cut into ranges that cover it exactly once.
//!
//! A token is an `i64`; no row has the smallest one. Ranges are `(from, until]`, as Cassandra's are.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Tokens greater than `from`, up to `until`. Never wraps: `from < until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRange {
    /// Excluded.
    pub from: i64,
    /// Included.
    pub until: i64,
}

/// For each token the number of its set of replicas.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplicaMap {
    /// Ends of the ring's ranges, ascending.
    ends: Vec<i64>,
    /// Of each range.
    groups: Vec<u32>,
}

impl ReplicaMap {
    /// From each range's end and its replicas.
    pub fn new(mut owners: Vec<(i64, Vec<u128>)>) -> Self {
        owners.sort_unstable_by_key(|(end, _)| *end);
        let mut numbers: HashMap<Vec<u128>, u32> = HashMap::new();
        let (mut ends, mut groups) = (Vec::with_capacity(owners.len()), Vec::with_capacity(owners.len()));
        for (end, mut replicas) in owners {
            replicas.sort_unstable();
            let next = numbers.len() as u32;
            ends.push(end);
            groups.push(*numbers.entry(replicas).or_insert(next));
        }
        Self { ends, groups }
    }

    /// The number of the token's set of replicas. Tokens past the last end belong to the first range: the ring wraps.
    pub fn group(&self, token: i64) -> u32 {
        let at = self.ends.partition_point(|end| *end < token);
        self.groups.get(if at == self.ends.len() { 0 } else { at }).copied().unwrap_or(0)
    }

    /// Whether all rows live on the same nodes.
    pub fn is_single(&self) -> bool {
        self.groups.iter().all(|group| *group == 0)
    }
}

/// Cuts the whole ring into at most `count` splits of equal width. A split's ranges do not cross an end of the ring's
/// ranges, so that each is served by one set of replicas, unless the ring has far more ranges than splits are wanted.
pub fn splits(ring: &[i64], count: usize) -> Vec<Vec<TokenRange>> {
    /// Requests that a split may cost; each is a round trip even where nothing is stored.
    const RANGES_PER_SPLIT_MAX: usize = 16;
    let count = count.clamp(1, 1 << 20);
    let mut ends: Vec<i64> = ring.iter().copied().filter(|end| *end != i64::MIN && *end != i64::MAX).collect();
    ends.sort_unstable();
    ends.dedup();
    if ends.len() > count.saturating_mul(RANGES_PER_SPLIT_MAX) {
        ends.clear();
    }
    // (MIN, MAX] has 2^64 - 1 tokens.
    let width = (i128::from(i64::MAX) - i128::from(i64::MIN)) / count as i128;
    let mut ends = ends.into_iter().peekable();
    let mut from = i64::MIN;
    (1..=count)
        .map(|split| {
            // The last one takes the remainder of the division.
            let until = if split == count { i64::MAX } else { (i128::from(i64::MIN) + width * split as i128) as i64 };
            let mut ranges = vec![];
            while let Some(end) = ends.next_if(|end| *end <= until) {
                if end > from {
                    ranges.push(TokenRange { from, until: end });
                    from = end;
                }
            }
            if from < until {
                ranges.push(TokenRange { from, until });
                from = until;
            }
            ranges
        })
        .collect()
}

/// How many splits a read of `table_bytes` makes: enough that none is larger than `split_bytes`, and one per target
/// partition at least, so that all slots have work. None known: the latter.
pub fn split_count(table_bytes: Option<u64>, split_bytes: u64, target_partitions: usize) -> usize {
    /// A plan with more partitions costs more than it brings.
    const SPLITS_MAX: usize = 10_000;
    let by_size = table_bytes.map_or(1, |bytes| bytes.div_ceil(split_bytes.max(1)) as usize);
    by_size.max(target_partitions).clamp(1, SPLITS_MAX)
}

/// A row of `system.size_estimates`: the node's share of the ring, the mean size of a partition, and their number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeEstimate {
    /// Start of the range; greater than the end where the range wraps.
    pub from: i64,
    /// Its end.
    pub until: i64,
    /// Bytes of a partition.
    pub partition_bytes: i64,
    /// Number of partitions.
    pub partitions: i64,
}

/// Bytes of the whole table, from what one node knows about its ranges.
pub fn table_bytes(estimates: &[SizeEstimate]) -> Option<u64> {
    let (mut bytes, mut share) = (0.0, 0.0);
    for estimate in estimates {
        bytes += estimate.partition_bytes.max(0) as f64 * estimate.partitions.max(0) as f64;
        let width = i128::from(estimate.until) - i128::from(estimate.from);
        let width = if width <= 0 { width + (1_i128 << 64) } else { width };
        share += width as f64 / 2_f64.powi(64);
    }
    (share > 0.0 && bytes > 0.0).then(|| (bytes / share.min(1.0)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// The ranges touch one another from the smallest token to the largest.
    fn covers_exactly_once(splits: &[Vec<TokenRange>]) {
        let mut at = i64::MIN;
        for range in splits.iter().flatten() {
            assert_eq!(range.from, at);
            assert!(range.from < range.until);
            at = range.until;
        }
        assert_eq!(at, i64::MAX);
    }

    #[test]
    fn splits_cover_the_ring_exactly_once() {
        for (ring, count) in [
            (vec![], 1),
            (vec![], 7),
            (vec![0], 1),
            (vec![0], 2),
            (vec![i64::MIN, i64::MAX], 3),
            (vec![i64::MIN + 1, i64::MAX - 1, -1, 0, 1], 4),
            (vec![5; 3], 2),
        ] {
            covers_exactly_once(&splits(&ring, count));
        }
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..200 {
            let ring: Vec<i64> = (0..random.random_range(0..300)).map(|_| random.random()).collect();
            let count = random.random_range(1..50);
            let splits = splits(&ring, count);
            assert_eq!(splits.len(), count);
            covers_exactly_once(&splits);
        }
    }

    #[test]
    fn ranges_end_where_replicas_change() {
        let splits = splits(&[10, -10], 1);
        let ends: Vec<i64> = splits[0].iter().map(|range| range.until).collect();
        assert_eq!(ends, [-10, 10, i64::MAX]);
    }

    #[test]
    fn too_many_virtual_nodes_are_not_followed() {
        let ring: Vec<i64> = (0..1000).collect();
        assert_eq!(splits(&ring, 4).iter().map(Vec::len).collect::<Vec<_>>(), [1; 4]);
    }

    #[test]
    fn tokens_belong_to_the_next_end() {
        let map = ReplicaMap::new(vec![(100, vec![3, 1]), (-100, vec![1, 2]), (0, vec![2, 1])]);
        let check = |token: i64, same_as: i64| assert_eq!(map.group(token), map.group(same_as), "{token}");
        check(i64::MIN + 1, -100);
        check(-99, 0);
        check(0, -100);
        check(101, -100);
        check(i64::MAX, -100);
        check(1, 100);
        assert_ne!(map.group(1), map.group(0));
        assert!(!map.is_single());
        assert!(ReplicaMap::new(vec![(0, vec![1]), (5, vec![1])]).is_single());
        assert_eq!(ReplicaMap::new(vec![]).group(5), 0);
    }

    #[test]
    fn sizes_decide_how_many() {
        let check = |bytes, split, target, expect| assert_eq!(split_count(bytes, split, target), expect);
        check(None, 10, 4, 4);
        check(Some(5), 10, 4, 4);
        check(Some(95), 10, 4, 10);
        check(Some(u64::MAX), 1, 4, 10_000);
        check(None, 10, 0, 1);
        let half = SizeEstimate { from: i64::MIN, until: 0, partition_bytes: 10, partitions: 5 };
        assert_eq!(table_bytes(&[half]), Some(100));
        let wraps = SizeEstimate { from: 0, until: i64::MIN, partition_bytes: 10, partitions: 5 };
        assert_eq!(table_bytes(&[half, wraps]), Some(100));
        assert_eq!(table_bytes(&[]), None);
    }
}
