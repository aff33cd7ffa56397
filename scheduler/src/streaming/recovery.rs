//! Where a query goes on after a stop, a crash or a failure: a pure function of the ends of its two logs.
//!
//! ```text
//! offsets    commits     decision
//! none       none        Start: nothing has been decided yet
//! N          N-1, none   Rerun N: from offsets/N-1 to offsets/N, as before (none: only for N = 0)
//! N          N           Advance to N+1: from offsets/N
//! others                 Corrupt: files are missing, and going on could skip rows
//! ```
//!
//! Spark goes on with a warning when commits trail by more than one; here that is corrupt, because a batch between
//! may never have run, and the way out, which skips nothing, is told.

use crate::streaming::checkpoint::{CommitEntry, OffsetEntry, OffsetMetadata};

/// Offsets of all sources of a query; none for a source that has no offset yet: it begins at its initial offset.
pub type Offsets = Vec<Option<String>>;

/// Where a query goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A new query: decide batch 0 from the sources' initial offsets.
    Start,
    /// Batch `batch_id` was decided and may have run in part: run it again.
    Rerun {
        /// The batch.
        batch_id: u64,
        /// Where it begins.
        start: Offsets,
        /// Where it ends.
        end: Offsets,
        /// Its watermark, in milliseconds.
        watermark_ms: i64,
        /// Its timestamp and the confs that it ran with.
        metadata: OffsetMetadata,
    },
    /// All batches that were decided are complete: decide the next.
    Advance {
        /// The next batch.
        batch_id: u64,
        /// Where it begins.
        start: Offsets,
        /// Its watermark, in milliseconds.
        watermark_ms: i64,
        /// Of the batch before: the confs that the next one keeps.
        metadata: OffsetMetadata,
    },
    /// The logs contradict each other or the query.
    Corrupt {
        /// How, and what to do.
        reason: Corruption,
    },
}

/// How the logs contradict each other or the query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The query was changed, or an entry was cut short.
    #[error(
        "there are [{logged}] sources in the checkpoint offsets and now there are [{queried}] sources requested by the \
         query, cannot continue: restore the query's sources or use a new checkpoint location"
    )]
    SourcesChanged {
        /// In the offset log.
        logged: usize,
        /// In the query.
        queried: usize,
    },
    /// Two entries of the offset log differ in their number of sources.
    #[error(
        "offsets/{batch_id} has {latest} sources and the entry before it {previous}: restore both from a copy, or use \
         a new checkpoint location"
    )]
    SourcesDiffer {
        /// The latest batch.
        batch_id: u64,
        /// Sources in the entry before.
        previous: usize,
        /// Sources in its entry.
        latest: usize,
    },
    /// A commit without the offsets that it commits.
    #[error(
        "commits/{committed} exists but the latest entry of the offset log is {}: restore the missing files of \
         offsets from a copy, or delete the commits above it to run those batches again",
        latest.map_or_else(|| "none".to_string(), |id| format!("offsets/{id}"))
    )]
    CommitWithoutOffsets {
        /// The latest commit.
        committed: u64,
        /// The latest entry of the offset log.
        latest: Option<u64>,
    },
    /// More than one batch was decided and not committed, which the protocol cannot produce.
    #[error(
        "the latest entry of the offset log is offsets/{latest} but that of the commit log is {}: restore the missing \
         files of commits from a copy, or delete the files of offsets above {} to run those batches again",
        committed.map_or_else(|| "none".to_string(), |id| format!("commits/{id}")),
        committed.map_or(0, |id| id.saturating_add(1))
    )]
    CommitsMissing {
        /// The latest entry of the offset log.
        latest: u64,
        /// The latest commit.
        committed: Option<u64>,
    },
    /// Where the batch to be run again begins is not known.
    #[error(
        "batch {missing} doesn't exist in the offset log, and batch {latest} begins where it ends: restore \
         offsets/{missing} from a copy"
    )]
    PreviousMissing {
        /// The batch to be run again.
        latest: u64,
        /// The one before.
        missing: u64,
    },
    /// Batch ids are used up.
    #[error("the latest batch has the highest id there is: use a new checkpoint location")]
    IdsExhausted,
}

/// Decides. `sources`: how many the query has now. `previous_offset`: the entry before `latest_offset`, if it is there.
pub fn decide(
    sources: usize,
    latest_offset: Option<(u64, OffsetEntry)>,
    latest_commit: Option<(u64, CommitEntry)>,
    previous_offset: Option<OffsetEntry>,
) -> Decision {
    decide_or_fail(sources, latest_offset, latest_commit, previous_offset)
        .unwrap_or_else(|reason| Decision::Corrupt { reason })
}

fn decide_or_fail(
    sources: usize,
    latest_offset: Option<(u64, OffsetEntry)>,
    latest_commit: Option<(u64, CommitEntry)>,
    previous_offset: Option<OffsetEntry>,
) -> Result<Decision, Corruption> {
    let (latest, entry) = match (latest_offset, &latest_commit) {
        (Some(latest), _) => latest,
        (None, None) => return Ok(Decision::Start),
        (None, Some((committed, _))) => {
            return Err(Corruption::CommitWithoutOffsets { committed: *committed, latest: None });
        }
    };
    if let Some(previous) = previous_offset.as_ref().filter(|previous| previous.offsets.len() != entry.offsets.len()) {
        let previous = previous.offsets.len();
        return Err(Corruption::SourcesDiffer { batch_id: latest, previous, latest: entry.offsets.len() });
    }
    if entry.offsets.len() != sources {
        return Err(Corruption::SourcesChanged { logged: entry.offsets.len(), queried: sources });
    }
    let OffsetEntry { metadata, offsets: end } = entry;
    match latest_commit {
        Some((committed, _)) if committed > latest => {
            Err(Corruption::CommitWithoutOffsets { committed, latest: Some(latest) })
        }
        Some((committed, commit)) if committed == latest => Ok(Decision::Advance {
            batch_id: latest.checked_add(1).ok_or(Corruption::IdsExhausted)?,
            start: carry(previous_offset, end),
            watermark_ms: metadata.batch_watermark_ms.max(commit.next_batch_watermark_ms),
            metadata,
        }),
        commit => {
            let committed = commit.map(|(id, _)| id);
            if committed != latest.checked_sub(1) {
                return Err(Corruption::CommitsMissing { latest, committed });
            }
            let start = match (committed, previous_offset) {
                (None, _) => vec![None; sources],
                (Some(_), Some(previous)) => previous.offsets,
                (Some(missing), None) => return Err(Corruption::PreviousMissing { latest, missing }),
            };
            let end = end.into_iter().zip(&start).map(|(end, start)| end.or_else(|| start.clone())).collect();
            Ok(Decision::Rerun { batch_id: latest, start, end, watermark_ms: metadata.batch_watermark_ms, metadata })
        }
    }
}

/// A source that has no offset in an entry has not moved since the one before.
fn carry(previous: Option<OffsetEntry>, end: Offsets) -> Offsets {
    let mut previous = previous.map(|previous| previous.offsets).unwrap_or_default().into_iter();
    end.into_iter()
        .map(|end| {
            let before = previous.next().flatten();
            end.or(before)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(watermark: i64, offsets: &[&str]) -> OffsetEntry {
        OffsetEntry {
            metadata: OffsetMetadata { batch_watermark_ms: watermark, batch_timestamp_ms: 9, ..Default::default() },
            offsets: offsets.iter().map(|text| (*text != "-").then(|| text.to_string())).collect(),
        }
    }

    fn offsets(texts: &[&str]) -> Offsets {
        entry(0, texts).offsets
    }

    fn commit(id: u64, watermark: i64) -> Option<(u64, CommitEntry)> {
        Some((id, CommitEntry { next_batch_watermark_ms: watermark }))
    }

    /// A log of batches 0..=latest with one source, batch N ending at offset N+1; `lost` entries are not there.
    fn log(latest: Option<u64>, previous: bool) -> (Option<(u64, OffsetEntry)>, Option<OffsetEntry>) {
        let at = |id: u64| entry(0, &[&(id + 1).to_string()]);
        let previous = latest.and_then(|id| id.checked_sub(1)).filter(|_| previous).map(at);
        (latest.map(|id| (id, at(id))), previous)
    }

    #[test]
    fn all_small_logs() {
        for latest in [None, Some(0), Some(1), Some(2), Some(3)] {
            for committed in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
                for previous in [true, false] {
                    let (latest_offset, previous_offset) = log(latest, previous);
                    let had_previous = previous_offset.is_some();
                    let latest_commit = committed.and_then(|id| commit(id, 0));
                    let decision = decide(1, latest_offset, latest_commit, previous_offset);
                    let case =
                        format!("offsets {latest:?} commits {committed:?} previous {had_previous}: {decision:?}");
                    match (latest, committed) {
                        (None, None) => assert_eq!(decision, Decision::Start, "{case}"),
                        (Some(n), Some(c)) if c == n => {
                            let Decision::Advance { batch_id, start, .. } = decision else { panic!("{case}") };
                            assert_eq!((batch_id, start), (n + 1, offsets(&[&(n + 1).to_string()])), "{case}");
                        }
                        (Some(0), None) => {
                            let Decision::Rerun { batch_id, start, end, .. } = decision else { panic!("{case}") };
                            assert_eq!((batch_id, start, end), (0, vec![None], offsets(&["1"])), "{case}");
                        }
                        (Some(n), Some(c)) if c + 1 == n && had_previous => {
                            let Decision::Rerun { batch_id, start, end, .. } = decision else { panic!("{case}") };
                            let range = (offsets(&[&n.to_string()]), offsets(&[&(n + 1).to_string()]));
                            assert_eq!((batch_id, (start, end)), (n, range), "{case}");
                        }
                        (Some(n), Some(c)) if c + 1 == n => {
                            let reason = Corruption::PreviousMissing { latest: n, missing: c };
                            assert_eq!(decision, Decision::Corrupt { reason }, "{case}");
                        }
                        (latest, Some(c)) if latest.is_none_or(|n| c > n) => {
                            let reason = Corruption::CommitWithoutOffsets { committed: c, latest };
                            assert_eq!(decision, Decision::Corrupt { reason }, "{case}");
                        }
                        (Some(latest), committed) => {
                            let reason = Corruption::CommitsMissing { latest, committed };
                            assert_eq!(decision, Decision::Corrupt { reason }, "{case}");
                        }
                        (None, Some(_)) => unreachable!("covered by the commit without offsets"),
                    }
                }
            }
        }
    }

    #[test]
    fn watermarks_never_go_back() {
        #[track_caller]
        fn check(logged: i64, committed: Option<i64>, expect: i64) {
            let latest = Some((0, entry(logged, &["1"])));
            let decision = decide(1, latest, committed.and_then(|watermark| commit(0, watermark)), None);
            let (Decision::Advance { watermark_ms, .. } | Decision::Rerun { watermark_ms, .. }) = decision else {
                panic!("{decision:?}")
            };
            assert_eq!(watermark_ms, expect);
        }
        check(5, None, 5);
        check(5, Some(7), 7);
        check(5, Some(0), 5);
    }

    #[test]
    fn a_source_without_offset_stays_where_it_was() {
        let (previous, latest) = (entry(0, &["1", "-", "3"]), entry(0, &["-", "-", "4"]));
        let rerun = decide(3, Some((1, latest.clone())), commit(0, 0), Some(previous.clone()));
        assert_eq!(
            rerun,
            Decision::Rerun {
                batch_id: 1,
                start: offsets(&["1", "-", "3"]),
                end: offsets(&["1", "-", "4"]),
                watermark_ms: 0,
                metadata: latest.metadata.clone(),
            }
        );
        let advance = decide(3, Some((1, latest.clone())), commit(1, 0), Some(previous));
        assert_eq!(
            advance,
            Decision::Advance {
                batch_id: 2,
                start: offsets(&["1", "-", "4"]),
                watermark_ms: 0,
                metadata: latest.metadata,
            }
        );
    }

    #[test]
    fn another_number_of_sources_is_refused_in_sparks_words() {
        let latest = || Some((1, entry(0, &["1", "2"])));
        let changed = decide(3, latest(), commit(1, 0), None);
        let Decision::Corrupt { reason } = changed else { panic!("{changed:?}") };
        assert!(
            reason.to_string().starts_with(
                "there are [2] sources in the checkpoint offsets and now there are [3] sources requested by the query, \
                 cannot continue"
            ),
            "{reason}"
        );
        let differ = decide(2, latest(), commit(0, 0), Some(entry(0, &["1"])));
        let reason = Corruption::SourcesDiffer { batch_id: 1, previous: 1, latest: 2 };
        assert_eq!(differ, Decision::Corrupt { reason });
    }

    #[test]
    fn the_last_id_has_no_successor() {
        let decision = decide(1, Some((u64::MAX, entry(0, &["1"]))), commit(u64::MAX, 0), None);
        assert_eq!(decision, Decision::Corrupt { reason: Corruption::IdsExhausted });
    }

    #[test]
    fn reasons_say_what_to_do() {
        #[track_caller]
        fn check(reason: Corruption, expect: &str) {
            let text = reason.to_string();
            assert!(text.contains(expect), "{text}");
        }
        check(Corruption::CommitsMissing { latest: 7, committed: Some(4) }, "delete the files of offsets above 5");
        check(Corruption::CommitsMissing { latest: 7, committed: None }, "commit log is none");
        check(Corruption::CommitWithoutOffsets { committed: 3, latest: None }, "offset log is none");
        check(Corruption::PreviousMissing { latest: 3, missing: 2 }, "restore offsets/2");
    }
}
