//! The prompt of `headwater sql`: history, completion, statements over several lines.
//!
//! The editor blocks, so it runs on a thread of its own, which hands over one text at a time and waits to be asked for
//! the next.

use super::args::SqlArgs;
use super::sql::{Outcome, execute};
use super::{Error, output, script};
use crate::session::Session;
use headwater_proto::engine::CompletionsResponse;
use rustyline::completion::{Completer, Pair};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

const HELP: &str = "\
statements end with `;` and may take several lines; tab completes
\\q   leave (ctrl-D too)
\\l   list tables
\\?   this";
/// Entries of the history file.
const HISTORY_MAX: usize = 10_000;

/// Runs the prompt until the user leaves.
pub async fn run(session: &Session, args: &SqlArgs, variables: &BTreeMap<String, String>) -> Result<(), Error> {
    eprintln!("headwater {} on {}; \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"), session.remote().address());
    let history = history_file();
    let mut editor = editor(history.as_ref())?;
    set_completions(&mut editor, session).await;
    let outcome = loop {
        let (returned, line) = read(editor).await?;
        editor = returned;
        let text = match line {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(Error::Failed(format!("failed to read the prompt: {error}"))),
        };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if let Err(error) = editor.add_history_entry(text) {
            eprintln!("failed to keep the history: {error}");
        }
        let sql = match text {
            "\\q" | "quit" | "exit" | "quit;" | "exit;" => break Ok(()),
            "\\?" | "\\h" | "help" | "help;" => {
                eprintln!("{HELP}");
                continue;
            }
            "\\l" => "SHOW TABLES".to_string(),
            command if command.starts_with('\\') => {
                eprintln!("error: there is no {command}\n{HELP}");
                continue;
            }
            sql => match script::fill(sql, variables) {
                Ok(sql) => sql,
                Err(unset) => {
                    eprintln!("error: {unset}");
                    continue;
                }
            },
        };
        let start = Instant::now();
        match execute(session, sql, args).await {
            Ok(Outcome::Done(rows)) => {
                eprintln!("{} in {:.3} s", output::count(rows, "row"), start.elapsed().as_secs_f64());
            }
            Ok(Outcome::Cancelled) => eprintln!("cancelled after {:.3} s", start.elapsed().as_secs_f64()),
            Err(Error::Closed) => break Err(Error::Closed),
            // The prompt outlives a statement that failed, and a scheduler that is away for a while.
            Err(error) => eprintln!("error: {error}"),
        }
        set_completions(&mut editor, session).await;
    };
    if let Some(path) = history
        && let Err(error) = editor.save_history(&path)
    {
        eprintln!("failed to keep the history in {}: {error}", path.display());
    }
    outcome
}

type Prompt = Editor<Names, DefaultHistory>;

async fn read(mut editor: Prompt) -> Result<(Prompt, rustyline::Result<String>), Error> {
    let read = tokio::task::spawn_blocking(move || {
        let line = editor.readline("headwater> ");
        (editor, line)
    });
    read.await.map_err(|error| Error::Failed(format!("the prompt ended: {error}")))
}

fn editor(history: Option<&PathBuf>) -> Result<Prompt, Error> {
    let failed = |error| Error::Failed(format!("failed to open the prompt: {error}"));
    let mut editor = Prompt::new().map_err(failed)?;
    editor.set_helper(Some(Names::default()));
    editor.set_auto_add_history(false);
    editor.set_max_history_size(HISTORY_MAX).map_err(failed)?;
    if let Some(path) = history
        && path.exists()
        && let Err(error) = editor.load_history(path)
    {
        eprintln!("failed to read the history in {}: {error}", path.display());
    }
    Ok(editor)
}

/// `~/.local/state/headwater/history`; none when the folder cannot be had.
fn history_file() -> Option<PathBuf> {
    let state = match std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()) {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/state"),
    };
    let folder = state.join("headwater");
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("no history is kept: failed to create {}: {error}", folder.display());
        return None;
    }
    Some(folder.join("history"))
}

async fn set_completions(editor: &mut Prompt, session: &Session) {
    match session.completions().await {
        Ok(names) => editor.set_helper(Some(Names::new(names))),
        // Completion is a comfort: the prompt works without.
        Err(error) => tracing::debug!(%error, "no completions"),
    }
}

/// What can be completed, sorted.
#[derive(Debug, Default)]
struct Names {
    names: Vec<String>,
}

impl Names {
    fn new(response: CompletionsResponse) -> Self {
        let functions = response.functions.into_iter().map(|function| format!("{function}("));
        let mut names: Vec<_> = response.tables.into_iter().chain(functions).chain(response.keywords).collect();
        names.sort_by_key(|name| name.to_ascii_lowercase());
        names.dedup();
        Self { names }
    }

    /// Where the word that ends at `at` begins, and what it could become: in the case that the user writes in.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let start = line[..at]
            .char_indices()
            .rev()
            .take_while(|(_, letter)| letter.is_alphanumeric() || matches!(letter, '_' | '.'))
            .last()
            .map_or(at, |(start, _)| start);
        let word = &line[start..at];
        if word.is_empty() {
            return (start, Vec::new());
        }
        let lower = word.chars().any(char::is_lowercase);
        let found = self
            .names
            .iter()
            .filter(|name| name.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word)))
            .map(|name| if lower { name.to_ascii_lowercase() } else { name.clone() });
        (start, found.collect())
    }
}

impl Helper for Names {}
impl Highlighter for Names {}
impl Hinter for Names {
    type Hint = String;
}
impl Completer for Names {
    type Candidate = Pair;
    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(line, at);
        Ok((start, found.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}
impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Whether enter runs the text rather than beginning a new line.
fn is_whole(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.starts_with('\\') || matches!(trimmed, "quit" | "exit" | "help") || script::is_complete(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter() {
        fn check(text: &str, expect: bool) {
            assert_eq!(is_whole(text), expect, "{text:?}");
        }
        check("SELECT 1", false);
        check("SELECT 1\n;", true);
        check("\\q", true);
        check("quit", true);
        check("", true);
    }

    #[test]
    fn completion() {
        let names = Names::new(CompletionsResponse {
            tables: vec!["users_created".into(), "Users".into()],
            functions: vec!["upper".into()],
            keywords: vec!["SELECT".into(), "USING".into()],
        });
        let check = |line: &str, start: usize, expect: &[&str]| {
            assert_eq!(names.candidates(line, line.len()), (start, expect.iter().map(ToString::to_string).collect()));
        };
        check("SEL", 0, &["SELECT"]);
        check("select * from us", 14, &["users", "users_created", "using"]);
        check("SELECT US", 7, &["Users", "users_created", "USING"]);
        check("select (up", 8, &["upper("]);
        check("select ", 7, &[]);
        check("ü.us", 0, &[]);
    }
}
