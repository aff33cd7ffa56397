//! Runs that have ended, remembered for whoever still holds one: a Spark client's `StreamingQuery` is one run of a query.

use super::progress::{Explained, Monitor};
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::Error;
use headwater_proto::progress::StreamingQueryProgress;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long: Spark keeps ended queries for an hour as well.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// And how many: each has up to a hundred reports.
const RUNS_MAX: usize = 500;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Of what it failed; none when it was stopped or had nothing more to do.
    pub error: Option<Error>,
    /// Counts the runs that have ended: later ones have greater numbers.
    pub number: u64,
}

/// A run, active or ended.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Of the query.
    pub id: String,
    /// Of the run.
    pub run_id: String,
    /// Given by a user.
    pub name: Option<String>,
    /// The query's, as it was when the run ended.
    pub status: QueryStatus,
    /// Reports of the run's batches, oldest first.
    pub batches: Vec<Arc<StreamingQueryProgress>>,
    /// What it computes, once planned.
    pub explained: Option<Arc<Explained>>,
    /// None: it goes on.
    pub ended: Option<Ended>,
}

impl RunView {
    /// What a monitor knows of a run.
    pub fn of(monitor: &Monitor, run_id: &str, named: bool, ended: Option<Ended>) -> Self {
        let status = monitor.status();
        Self {
            id: status.id.clone(),
            run_id: run_id.to_string(),
            name: named.then(|| status.name.clone()),
            batches: monitor.batches(run_id),
            explained: monitor.explained(),
            status,
            ended,
        }
    }
}

/// An ended run and when that was.
#[derive(Debug)]
struct Past {
    owner: Option<Arc<str>>,
    at: Instant,
    view: RunView,
}

/// Runs that have ended, the newest last.
#[derive(Debug, Default)]
pub struct EndedRuns {
    runs: VecDeque<Past>,
    count: u64,
}

impl EndedRuns {
    /// Remembers the end of a run, and forgets old ones.
    pub fn add(&mut self, owner: Option<Arc<str>>, mut view: RunView, error: Option<Error>, now: Instant) {
        self.count += 1;
        view.ended = Some(Ended { error, number: self.count });
        self.runs.push_back(Past { owner, at: now, view });
        while self.runs.len() > RUNS_MAX
            || self.runs.front().is_some_and(|run| now.saturating_duration_since(run.at) > REMEMBERED)
        {
            self.runs.pop_front();
        }
    }
    /// How many have ended so far.
    pub fn count(&self) -> u64 {
        self.count
    }
    /// A run of a query.
    pub fn get(&self, id: &str, run_id: &str) -> Option<&RunView> {
        self.runs.iter().map(|run| &run.view).find(|view| view.id == id && view.run_id == run_id)
    }
    /// The newest end of a run of `owner` that is numbered above `after`.
    pub fn latest_of(&self, owner: &str, after: u64) -> Option<&RunView> {
        let of_owner = self.runs.iter().rev().filter(|run| run.owner.as_deref() == Some(owner));
        let mut of_owner = of_owner.map(|run| &run.view);
        of_owner.find(|view| view.ended.as_ref().is_some_and(|ended| ended.number > after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str) -> RunView {
        let status = QueryStatus { id: id.into(), ..QueryStatus::default() };
        RunView::of(&Monitor::new(status), "run", false, None)
    }

    #[test]
    fn runs_are_forgotten_after_an_hour_or_many_others() {
        let begin = Instant::now();
        let mut runs = EndedRuns::default();
        runs.add(Some("s".into()), view("a"), None, begin);
        runs.add(Some("t".into()), view("b"), Some(Error::fatal("X", "gone")), begin + REMEMBERED);
        assert!(runs.get("a", "run").is_some() && runs.get("a", "other").is_none());
        assert_eq!(runs.latest_of("s", 0).map(|view| view.id.as_str()), Some("a"));
        assert!(runs.latest_of("s", 1).is_none() && runs.latest_of("t", 1).is_some());
        runs.add(None, view("c"), None, begin + REMEMBERED + Duration::from_secs(1));
        assert!(runs.get("a", "run").is_none() && runs.get("b", "run").is_some());
        for _ in 0..RUNS_MAX {
            runs.add(None, view("d"), None, begin + REMEMBERED);
        }
        assert!(runs.get("b", "run").is_none());
        assert_eq!(runs.count(), 3 + RUNS_MAX as u64);
    }
}
