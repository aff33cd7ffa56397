//! `headwater ingest`: users from an API through PostgreSQL to Kafka.

use super::args::{IngestArgs, IngestCommand, IngestStart};
use super::output::{self, thousands};
use super::{Error, unless_interrupted};
use crate::remote::Remote;
use headwater_proto::engine::{IngestRun, IngestState, StartIngestRequest};
use headwater_proto::ingest::{is_active, json, state_name};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a scheduler may be away while a run is watched: long enough for a restart.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Between attempts to reach it, growing.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// Runs the command.
pub async fn run(args: IngestArgs) -> Result<(), Error> {
    let remote = unless_interrupted(async { Ok(Remote::connect(&args.scheduler).await?) }).await?;
    match args.command {
        IngestCommand::Start(start) => self::start(&remote, *start, args.json).await,
        IngestCommand::List { limit } => {
            unless_interrupted(async { list(&remote.ingest_list(limit).await?, args.json) }).await
        }
        IngestCommand::Status { run } => {
            unless_interrupted(async { one(&remote.ingest_get(&run).await?, args.json) }).await
        }
        IngestCommand::Watch { run } => watch(&remote, &run, args.json).await,
        IngestCommand::Cancel { run } => {
            unless_interrupted(async { one(&remote.ingest_cancel(&run).await?, args.json) }).await
        }
    }
}

/// What the flags ask for. The run's id is made up here, so that it is known whatever becomes of the answer.
fn request(args: IngestStart) -> StartIngestRequest {
    StartIngestRequest {
        run_id: args.run_id.filter(|id| !id.is_empty()).unwrap_or_else(|| Uuid::new_v4().to_string()),
        source: args.source,
        users: args.users.unwrap_or_default(),
        topic: args.topic,
        postgres: args.postgres.map(|address| address.expose().to_string()).unwrap_or_default(),
        kafka: args.kafka,
        seed: args.seed.unwrap_or_default(),
        nat: args.nat.unwrap_or_default(),
        page_size: args.page_size.unwrap_or_default(),
        format: args.format.to_string(),
        schema_registry: args.schema_registry.unwrap_or_default(),
        publish_only: args.publish_only,
        keep_raw: args.keep_raw,
        options: args.option.into_iter().collect::<HashMap<_, _>>(),
        owner: String::new(),
    }
}

async fn start(remote: &Remote, args: IngestStart, as_json: bool) -> Result<(), Error> {
    let detach = args.detach;
    let request = request(args);
    let id = request.run_id.clone();
    let run = match unless_interrupted(async { Ok(remote.ingest_start(request).await?) }).await {
        Ok(run) => run,
        Err(error) => {
            if matches!(error, Error::Interrupted | Error::NoScheduler(_)) {
                eprintln!(
                    "no answer, but the run may have begun: headwater ingest status '{id}'; start it again with \
                     --run-id '{id}'"
                );
            }
            return Err(error);
        }
    };
    if detach {
        let mut out = io::stdout().lock();
        return Ok(if as_json { writeln!(out, "{}", json(&run)) } else { writeln!(out, "{}", run.run_id) }?);
    }
    if !as_json {
        writeln!(io::stdout().lock(), "{}", run.run_id)?;
    }
    watch(remote, &run.run_id, as_json).await
}

fn list(runs: &[IngestRun], as_json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", Value::from(runs.iter().map(json).collect::<Vec<_>>()))?;
        return Ok(());
    }
    let colours = output::colours();
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            vec![
                run.run_id.clone(),
                output::state(state_name(run.state()), colours),
                run.topic.clone(),
                thousands(run.requested),
                thousands(run.fetched),
                thousands(run.staged),
                thousands(run.published),
                thousands(run.rejected),
                thousands(run.duplicates),
                run.message.lines().next().unwrap_or_default().chars().take(80).collect(),
            ]
        })
        .collect();
    let header =
        ["RUN", "STATE", "TOPIC", "ASKED", "FETCHED", "STAGED", "PUBLISHED", "REJECTED", "DUPLICATE", "MESSAGE"];
    output::columns(&mut out, &header, &rows)?;
    Ok(())
}

fn one(run: &IngestRun, as_json: bool) -> Result<(), Error> {
    let shown = json(run);
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    let text = |key: &str| match &shown[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let reasons: Vec<_> =
        shown["rejectedByReason"].as_object().into_iter().flatten().map(|(why, n)| format!("{why}: {n}")).collect();
    let ends: Vec<_> = shown["endOffsets"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(partition, end)| format!("{partition}: {end}"))
        .collect();
    for (name, value) in [
        ("run", text("runId")),
        ("state", output::state(state_name(run.state()), output::colours())),
        ("source", text("source")),
        ("seed", text("seed")),
        ("topic", format!("{} ({})", run.topic, run.format)),
        ("asked", thousands(run.requested)),
        ("fetched", thousands(run.fetched)),
        ("staged", thousands(run.staged)),
        ("published", thousands(run.published)),
        ("rejected", thousands(run.rejected)),
        ("", reasons.join(", ")),
        ("duplicates", thousands(run.duplicates)),
        ("offsets", ends.join(", ")),
        ("started", text("startedAt")),
        ("ended", text("endedAt")),
        ("error", text("errorClass")),
        ("message", run.message.clone()),
    ] {
        if !value.is_empty() {
            writeln!(out, "{name:<12}{value}")?;
        }
    }
    Ok(())
}

/// Shows a run until it has ended; ctrl-C ends the watching alone.
async fn watch(remote: &Remote, id: &str, as_json: bool) -> Result<(), Error> {
    let mut display = Display::new(as_json);
    let watched = unless_interrupted(follow(remote, id, &mut display)).await;
    display.end();
    match watched {
        Ok(run) => end(&run, as_json),
        Err(Error::Interrupted) => {
            eprintln!("no longer watching; the run goes on: headwater ingest watch {id}, headwater ingest cancel {id}");
            Err(Error::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// The run at its end. A scheduler that goes away is waited for, since it resumes its runs.
async fn follow(remote: &Remote, id: &str, display: &mut Display) -> Result<IngestRun, Error> {
    let (mut away_since, mut pause) = (None, RETRY_FIRST);
    loop {
        let watched = async {
            let mut changes = remote.ingest_watch(id).await?;
            while let Some(run) = changes.message().await.map_err(|status| remote.error(status))? {
                (away_since, pause) = (None, RETRY_FIRST);
                display.show(&run)?;
                if !is_active(run.state()) {
                    return Ok::<_, Error>(Some(run));
                }
            }
            Ok(None)
        };
        match watched.await {
            Ok(Some(run)) => return Ok(run),
            Ok(None) => {}
            Err(Error::NoScheduler(cause)) => {
                let since = *away_since.get_or_insert_with(|| {
                    display.say(&format!("{cause}; waiting up to {} s for it", AWAY_MAX.as_secs()));
                    Instant::now()
                });
                if since.elapsed() > AWAY_MAX {
                    return Err(Error::NoScheduler(cause));
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
        if away_since.is_some() {
            // Another of several may lead by now; when none does, the next attempt says why.
            let _ = remote.find_again().await;
        }
    }
}

fn end(run: &IngestRun, as_json: bool) -> Result<(), Error> {
    match run.state() {
        IngestState::Failed => {
            let class = Some(&run.error_class).filter(|class| !class.is_empty());
            let class = class.map(|class| format!("[{class}] ")).unwrap_or_default();
            Err(Error::Failed(format!("{class}ingest run {} failed: {}", run.run_id, run.message)))
        }
        IngestState::Cancelled => Err(Error::Failed(format!("ingest run {} was cancelled", run.run_id))),
        _ => {
            if !as_json {
                eprintln!("{}", summary(run));
            }
            Ok(())
        }
    }
}

/// One line on how far a run is.
fn summary(run: &IngestRun) -> String {
    let mut text = format!(
        "{}: {} fetched, {} staged, {} published",
        state_name(run.state()),
        thousands(run.fetched),
        thousands(run.staged),
        thousands(run.published)
    );
    for (users, what) in [(run.rejected, "rejected"), (run.duplicates, "duplicates")] {
        if users > 0 {
            text.push_str(&format!(", {} {what}", thousands(users)));
        }
    }
    text
}

/// How far a run is, of two steps for each user: fetched, and published or not to be.
fn steps(run: &IngestRun) -> (u64, u64) {
    let fetched = run.fetched.max(run.staged);
    let asked = run.requested.max(fetched);
    let settled = run.published + run.rejected + run.duplicates;
    (fetched + settled.min(asked), 2 * asked)
}

/// Users a second between two looks, of the step that moves.
fn rate(before: &IngestRun, now: &IngestRun, seconds: f64) -> Option<u64> {
    let fetched = now.fetched.saturating_sub(before.fetched);
    let published = now.published.saturating_sub(before.published);
    let users = fetched.max(published);
    (users > 0 && seconds > 0.0).then(|| (users as f64 / seconds) as u64)
}

/// A bar on a terminal, a line a change elsewhere, JSON lines when asked for.
struct Display {
    json: bool,
    bar: Option<ProgressBar>,
    /// The run when its counts last moved, and when that was.
    moved: Option<(IngestRun, Instant)>,
    rate: Option<u64>,
    said: String,
}

impl Display {
    fn new(json: bool) -> Self {
        let bar = (!json && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_bar} {percent}% {msg}");
            let bar = ProgressBar::new(1).with_style(style.expect("the template is well formed"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { json, bar, moved: None, rate: None, said: String::new() }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn show(&mut self, run: &IngestRun) -> Result<(), Error> {
        if self.json {
            writeln!(io::stdout().lock(), "{}", json(run))?;
            return Ok(());
        }
        let counts = |run: &IngestRun| (run.fetched, run.staged, run.published);
        match &self.moved {
            Some((before, _)) if counts(before) == counts(run) => {}
            Some((before, at)) => {
                self.rate = rate(before, run, at.elapsed().as_secs_f64()).or(self.rate);
                self.moved = Some((run.clone(), Instant::now()));
            }
            None => self.moved = Some((run.clone(), Instant::now())),
        }
        let rate = self.rate.map(|rate| format!(", {} users/s", thousands(rate))).unwrap_or_default();
        let text = format!("{}{rate}: {}", summary(run), run.message);
        match &self.bar {
            Some(bar) => {
                let (done, all) = steps(run);
                bar.set_length(all.max(1));
                bar.set_position(done);
                bar.set_message(text);
            }
            None if self.said == text => {}
            None => {
                eprintln!("{text}");
                self.said = text;
            }
        }
        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(fetched: u64, staged: u64, published: u64, rejected: u64) -> IngestRun {
        let mut run = IngestRun { requested: 2000, fetched, staged, published, rejected, ..IngestRun::default() };
        run.set_state(IngestState::Publishing);
        run
    }

    #[test]
    fn ids_are_made_up_here() {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            start: IngestStart,
        }
        let id = |more: &[&str]| {
            let flags = ["headwater", "--users", "1", "--topic", "t"].iter().chain(more);
            request(<Flags as clap::Parser>::parse_from(flags).start).run_id
        };
        assert_eq!(id(&["--run-id", "mine"]), "mine");
        assert!(Uuid::parse_str(&id(&[])).is_ok());
        assert_ne!(id(&[]), id(&[]));
    }

    #[test]
    fn how_far() {
        let check = |run: IngestRun, expect| assert_eq!(steps(&run), expect);
        check(run(0, 0, 0, 0), (0, 4000));
        check(run(1000, 990, 0, 10), (1010, 4000));
        check(run(2000, 1990, 1990, 10), (4000, 4000));
        // One that publishes alone.
        check(IngestRun { staged: 50, published: 20, ..IngestRun::default() }, (70, 100));
    }

    #[test]
    fn lines() {
        let expect = "PUBLISHING: 2,000 fetched, 1,990 staged, 500 published, 10 rejected";
        assert_eq!(summary(&run(2000, 1990, 500, 10)), expect);
        assert_eq!(rate(&run(0, 0, 0, 0), &run(1000, 1000, 0, 0), 0.5), Some(2000));
        assert_eq!(rate(&run(9, 9, 0, 0), &run(9, 9, 0, 0), 0.5), None);
    }

    #[test]
    fn ends() {
        assert!(end(&run(1, 1, 1, 0), true).is_ok());
        let mut failed = run(1, 1, 0, 0);
        failed.set_state(IngestState::Failed);
        (failed.run_id, failed.message, failed.error_class) = ("r".into(), "m".into(), "C".into());
        let error = end(&failed, true).expect_err("it failed");
        assert_eq!((error.to_string().as_str(), error.code()), ("[C] ingest run r failed: m", 1));
    }
}
