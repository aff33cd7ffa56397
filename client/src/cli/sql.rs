//! `headwater sql`: statements from the command line, a file, stdin or a prompt.

use super::args::SqlArgs;
use super::output::Results;
use super::{Error, interrupted, prompt, read_text, script, unless_interrupted};
use crate::remote::Remote;
use crate::session::{Event, Session};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal};
use tokio::sync::mpsc;

/// Lines of stdin that wait for the statement before them to end.
const LINES_MAX: usize = 1024;

/// Runs the command.
pub async fn run(args: SqlArgs) -> Result<(), Error> {
    let variables: BTreeMap<_, _> = args.set.iter().cloned().collect();
    let fill = |sql: &str| script::fill(sql, &variables).map_err(|unset| Error::Usage(unset.to_string()));
    let text = match (&args.text, &args.file) {
        (Some(text), _) => Some(fill(text)?),
        (None, Some(file)) => Some(fill(&read_text(file).await?)?),
        (None, None) => None,
    };
    if text.as_deref().is_some_and(script::is_blank) {
        return Err(Error::Usage("[EMPTY_STATEMENT] there is no statement".into()));
    }
    let remote = unless_interrupted(async { Ok(Remote::connect(&args.client.scheduler).await?) }).await?;
    let session = Session::new(remote, args.conf.iter().cloned().collect());
    match text {
        Some(text) => finish(execute(&session, text, &args).await?),
        None if io::stdin().is_terminal() => prompt::run(&session, &args, &variables).await,
        None => stdin(&session, &args, &variables).await,
    }
}

/// How statements ended.
pub enum Outcome {
    /// All of them ran; rows of the last result.
    Done(u64),
    /// ctrl-C; the scheduler has been told to stop.
    Cancelled,
}

fn finish(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Done(_) => Ok(()),
        Outcome::Cancelled => Err(Error::Interrupted),
    }
}

/// Runs statements, prints what they give.
pub async fn execute(session: &Session, sql: String, args: &SqlArgs) -> Result<Outcome, Error> {
    let mut out = Results::new(io::BufWriter::new(io::stdout()), args.format);
    let interrupt = interrupted();
    tokio::pin!(interrupt);
    let mut bar: Option<ProgressBar> = None;
    let outcome = tokio::select! {
        outcome = async {
            let mut results = session.execute(sql).await?;
            while let Some((statement, event)) = results.next().await? {
                match event {
                    Event::Progress { done, all } => {
                        let bar = bar.get_or_insert_with(new_bar);
                        bar.set_length(all.into());
                        bar.set_position(done.into());
                    }
                    Event::Rows { schema, batches } => {
                        if let Some(bar) = bar.take() {
                            bar.finish_and_clear();
                        }
                        out.write(statement, &schema, &batches)?;
                    }
                    Event::End => out.finish()?,
                    Event::Message(text) => {
                        out.finish()?;
                        eprintln!("{text}");
                    }
                }
            }
            out.finish()?;
            Ok(Outcome::Done(out.rows))
        } => outcome,
        pressed = &mut interrupt => {
            pressed?;
            Ok(Outcome::Cancelled)
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    // What came is kept back until its widths are known.
    if matches!(outcome, Ok(Outcome::Cancelled) | Err(Error::Failed(_) | Error::NoScheduler(_))) {
        out.cut()?;
    }
    outcome
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks").expect("the template is well formed");
    // indicatif draws on stderr, and only if that is a terminal.
    ProgressBar::new(0).with_style(style)
}

/// Runs each statement as soon as stdin has all of it; the first that fails ends the rest.
async fn stdin(session: &Session, args: &SqlArgs, variables: &BTreeMap<String, String>) -> Result<(), Error> {
    let (send, mut lines) = mpsc::channel(LINES_MAX);
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lock().lines() {
            if send.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    loop {
        let line = unless_interrupted(async { Ok(lines.recv().await.transpose()?) }).await?;
        let last = line.is_none();
        match line {
            Some(line) => {
                text.push_str(&line);
                text.push('\n');
                // Only a line with a semicolon can complete a statement.
                if !line.contains(';') {
                    continue;
                }
            }
            None if !script::is_blank(&text) => text.push(';'),
            None => {}
        }
        let (statements, rest) = script::split(&text);
        for statement in statements {
            let statement = script::fill(&statement, variables).map_err(|unset| Error::Usage(unset.to_string()))?;
            finish(execute(session, statement, args).await?)?;
        }
        if last {
            // A quote or a comment that never ends leaves a rest: the scheduler says what is wrong with it.
            if !script::is_blank(&rest) {
                finish(execute(session, rest, args).await?)?;
            }
            return Ok(());
        }
        text = rest;
    }
}
