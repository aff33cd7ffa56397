//! `headwater submit`: starts the flows of a file, then follows them. A script of Python is run instead: see
//! [`submit_python`].

use super::args::SubmitArgs;
use super::follow::{Display, Event, Follower, is_active, status_json};
use super::{Error, Interrupts, output, read_text, script, submit_python};
use crate::remote::Remote;
use headwater_proto::engine::{QueryStatus, SubmitRequest};
use std::io::{self, Write};
use std::path::Path;

/// Runs the command.
pub async fn run(args: SubmitArgs) -> Result<(), Error> {
    if submit_python::is_python(&args.file) {
        return submit_python::run(args).await;
    }
    check_file(&args)?;
    let text = read_text(&args.file).await?;
    let variables = args.set.iter().cloned().collect();
    let sql =
        script::fill(&text, &variables).map_err(|unset| Error::Usage(format!("{}: {unset}", args.file.display())))?;
    if script::is_blank(&sql) {
        return Err(Error::Usage(format!("[EMPTY_FILE] {} has no statement", args.file.display())));
    }
    let request = SubmitRequest {
        sql,
        name: args.name.clone().unwrap_or_default(),
        trigger: args.trigger.clone(),
        checkpoint: args.checkpoint.clone().unwrap_or_default(),
        conf: args.conf.iter().cloned().collect(),
    };
    let mut interrupts = Interrupts::new()?;
    let submitting = async {
        let remote = Remote::connect(&args.client.scheduler).await?;
        let submitted = remote.submit(request).await?;
        Ok((remote, submitted))
    };
    let (remote, submitted) = interrupts.unless(submitting).await?;
    for message in &submitted.messages {
        eprintln!("{message}");
    }
    {
        let mut out = io::stdout().lock();
        for query in &submitted.queries {
            if args.json {
                writeln!(out, "{}", status_json(query))?;
            } else {
                writeln!(out, "{}\t{}", query.id, query.name)?;
            }
        }
        out.flush()?;
    }
    if submitted.queries.is_empty() {
        eprintln!("{} starts no query: CREATE FLOW or CREATE STREAMING TABLE does", args.file.display());
        return Ok(());
    }
    if args.detach {
        return Ok(());
    }
    follow(&remote, submitted.queries, &args, interrupts).await
}

/// What a file of SQL cannot be told.
fn check_file(args: &SubmitArgs) -> Result<(), Error> {
    let python = (!args.py_files.is_empty()).then_some("--py-files").or(args.connect.as_ref().map(|_| "--connect"));
    if let Some(flag) = python {
        return Err(Error::Usage(format!(
            "[UNEXPECTED_ARGUMENT] {} is SQL, and {flag} is for Python: leave it out",
            args.file.display()
        )));
    }
    if let Some(argument) = args.args.first() {
        return Err(Error::Usage(format!(
            "[UNEXPECTED_ARGUMENT] {} is SQL and takes no argument {argument:?}: use --set NAME=VALUE and ${{NAME}}",
            args.file.display()
        )));
    }
    if args.file == Path::new("") {
        return Err(Error::Usage("[UNREADABLE_FILE] the file's name is empty".into()));
    }
    Ok(())
}

async fn follow(
    remote: &Remote,
    queries: Vec<QueryStatus>,
    args: &SubmitArgs,
    mut interrupts: Interrupts,
) -> Result<(), Error> {
    let mut display = Display::new(args.json, &queries);
    let mut follower = Follower::new(remote, queries.iter().map(|query| query.id.clone()));
    let mut failed = false;
    loop {
        tokio::select! {
            event = follower.next() => match event? {
                Some(event) => {
                    display.show(&event)?;
                    failed |= matches!(event, Event::Ended(status) if status.state == "FAILED");
                }
                None => break,
            },
            pressed = interrupts.next() => {
                pressed?;
                display.end()?;
                leave(remote, &queries, args).await?;
                return Err(Error::Interrupted);
            }
        }
    }
    display.end()?;
    // Each was told of when it failed: others may have gone on for long.
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}

/// The user stops watching: says what becomes of the queries.
async fn leave(remote: &Remote, queries: &[QueryStatus], args: &SubmitArgs) -> Result<(), Error> {
    for query in queries {
        let name = if query.name.is_empty() { &query.id } else { &query.name };
        if args.stop_on_exit {
            let status = remote.stop(&query.id).await?;
            eprintln!("{name}: {}", output::state(&status.state, false));
        } else if is_active(&remote.get(&query.id).await?.state) {
            eprintln!("stopped following {name}, which goes on; stop it with: headwater query stop {name}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn check(line: &[&str], expect: Result<(), &str>) {
        let Command::Submit(args) = Cli::parse_from([&["headwater", "submit"], line].concat()).command else {
            panic!("not submit")
        };
        match (check_file(&args), expect) {
            (Ok(()), Ok(())) => {}
            (Err(Error::Usage(text)), Err(part)) => assert!(text.contains(part), "{text}"),
            (outcome, _) => panic!("{line:?}: {outcome:?}"),
        }
    }

    #[test]
    fn files() {
        check(&["a.sql"], Ok(()));
        check(&["-"], Ok(()));
        check(&["a.sql", "--py-files", "b.py"], Err("--py-files is for Python"));
        check(&["a.sql", "--connect", "h:1"], Err("--connect is for Python"));
        check(&["a.sql", "--", "x"], Err("--set"));
    }
}
