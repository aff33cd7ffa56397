//! SQL over a [`Remote`]: statements in, record batches out as they come.

use crate::remote::{Error as RemoteError, Remote};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use headwater_proto::engine::sql_response::Kind;
use headwater_proto::engine::{CompletionsRequest, CompletionsResponse, SqlRequest, SqlResponse, StatementEnd};
use std::collections::HashMap;
use std::io::Cursor;
use tonic::Streaming;

/// Why a statement did not give its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What came is no Arrow IPC stream.
    #[error("[MALFORMED_RESULT] statement {statement}: the scheduler sent no Arrow IPC stream: {cause}")]
    Malformed {
        /// 0-based index of the statement.
        statement: u32,
        /// What the decoder said.
        cause: ArrowError,
    },
}

/// A scheduler, and the configuration that statements run under.
#[derive(Debug, Clone)]
pub struct Session {
    remote: Remote,
    conf: HashMap<String, String>,
}

/// One piece of what statements give.
#[derive(Debug)]
pub enum Event {
    /// Rows; possibly none, when only the schema is known so far.
    Rows {
        /// Columns.
        schema: SchemaRef,
        /// Rows of this piece.
        batches: Vec<RecordBatch>,
    },
    /// The statement's rows are all there.
    End,
    /// What a statement without rows did.
    Message(String),
    /// Tasks done of all.
    Progress {
        /// Done.
        done: u32,
        /// Of so many.
        all: u32,
    },
}

impl Session {
    /// Statements on `remote` run under `conf`.
    pub fn new(remote: Remote, conf: HashMap<String, String>) -> Self {
        Self { remote, conf }
    }

    /// The scheduler.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Runs one or more statements. Dropping the results cancels what still runs.
    pub async fn execute(&self, sql: impl Into<String>) -> Result<Results, Error> {
        let request = SqlRequest { sql: sql.into(), conf: self.conf.clone() };
        let mut answer = self.remote.answer(self.remote.sql().execute(request.clone()).await);
        if answer.as_ref().is_err_and(RemoteError::is_away) {
            // Another of several schedulers may lead by now: the next statement goes there. This one may have run,
            // unless a standby refused it.
            let found = self.remote.find_again().await;
            if found.is_ok() && matches!(answer, Err(RemoteError::Standby(_))) {
                answer = self.remote.answer(self.remote.sql().execute(request).await);
            }
        }
        let stream = answer?;
        Ok(Results { stream, remote: self.remote.clone() })
    }

    /// All rows of one statement. For small results.
    pub async fn collect(&self, sql: impl Into<String>) -> Result<Vec<RecordBatch>, Error> {
        let mut results = self.execute(sql).await?;
        let mut rows = Vec::new();
        while let Some((_, event)) = results.next().await? {
            if let Event::Rows { batches, .. } = event {
                rows.extend(batches);
            }
        }
        Ok(rows)
    }

    /// Names that a prompt can complete.
    pub async fn completions(&self) -> Result<CompletionsResponse, Error> {
        Ok(self.remote.answer(self.remote.sql().completions(CompletionsRequest {}).await)?)
    }
}

/// What statements give, as it comes.
pub struct Results {
    stream: Streaming<SqlResponse>,
    remote: Remote,
}

impl Results {
    /// The next piece and the 0-based index of its statement; none at the end.
    pub async fn next(&mut self) -> Result<Option<(u32, Event)>, Error> {
        loop {
            let Some(response) = self.stream.message().await.map_err(|status| self.remote.error(status))? else {
                return Ok(None);
            };
            let statement = response.statement;
            let event = match response.kind {
                Some(Kind::ArrowIpc(bytes)) => decode(&bytes).map_err(|cause| Error::Malformed { statement, cause })?,
                Some(Kind::Message(text)) => Event::Message(text),
                Some(Kind::End(StatementEnd {})) => Event::End,
                Some(Kind::Progress(progress)) => Event::Progress { done: progress.tasks_done, all: progress.tasks },
                // A kind that a newer scheduler knows: nothing that a client of this version could show.
                None => continue,
            };
            return Ok(Some((statement, event)));
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Event, ArrowError> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    let schema = reader.schema();
    Ok(Event::Rows { schema, batches: reader.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::ipc::writer::StreamWriter;
    use std::sync::Arc;

    #[test]
    fn pieces() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("columns fit");
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a schema");
        writer.write(&batch).expect("memory takes it");
        writer.finish().expect("memory takes it");
        drop(writer);
        let Event::Rows { schema, batches } = decode(&bytes).expect("a stream") else { panic!("no rows") };
        assert_eq!(schema, batch.schema());
        assert_eq!(batches[0].column(0).as_any().downcast_ref::<Int64Array>().expect("int64").values(), &[1, 2, 3]);
        assert!(decode(b"no arrow").is_err());
    }
}
