//! The calls of Spark Connect: a message in, a call of what does it, a message out.

use super::operation::State;
use super::sessions::{Key, Session, Sessions};
use super::{analyze, artifacts, config, error, execute};
use futures::{Stream, StreamExt};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::execute_plan_request::request_option::RequestOption;
use headwater_proto::spark::get_status_response::OperationStatus;
use headwater_proto::spark::get_status_response::operation_status::OperationState;
use headwater_proto::spark::interrupt_request::{Interrupt, InterruptType};
use headwater_proto::spark::release_execute_request::Release;
use headwater_proto::spark::spark_connect_service_server::SparkConnectService;
use headwater_proto::spark::{
    AddArtifactsRequest, AddArtifactsResponse, AnalyzePlanRequest, AnalyzePlanResponse, ArtifactStatusesRequest,
    ArtifactStatusesResponse, CloneSessionRequest, CloneSessionResponse, ConfigRequest, ConfigResponse,
    ExecutePlanRequest, ExecutePlanResponse, FetchErrorDetailsRequest, FetchErrorDetailsResponse, GetStatusRequest,
    GetStatusResponse, InterruptRequest, InterruptResponse, ReattachExecuteRequest, ReleaseExecuteRequest,
    ReleaseExecuteResponse, ReleaseSessionRequest, ReleaseSessionResponse, UserContext, artifact_statuses_response,
};
use std::pin::Pin;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

type Responses = Pin<Box<dyn Stream<Item = Result<ExecutePlanResponse, Status>> + Send>>;

/// Spark Connect over these sessions.
pub struct ConnectService {
    sessions: Sessions,
}

impl ConnectService {
    /// Serves these sessions.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions }
    }

    fn session(
        &self,
        user: Option<&UserContext>,
        session_id: &str,
        observed: Option<&str>,
    ) -> Result<Arc<Session>, Status> {
        self.sessions.get_or_create(&key(user, session_id), observed).map_err(|error| error::status(&error, None))
    }
}

fn key(user: Option<&UserContext>, session_id: &str) -> Key {
    let user_id = user.map(|user| user.user_id.clone()).unwrap_or_default();
    Key { user_id, session_id: session_id.to_string() }
}

#[tonic::async_trait]
impl SparkConnectService for ConnectService {
    type ExecutePlanStream = Responses;
    type ReattachExecuteStream = Responses;

    async fn execute_plan(&self, request: Request<ExecutePlanRequest>) -> Result<Response<Responses>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let mut reattachable = false;
        let mut chunk_bytes = None;
        for option in request.request_options.iter().filter_map(|option| option.request_option.as_ref()) {
            match option {
                RequestOption::ReattachOptions(options) => reattachable = options.reattachable,
                RequestOption::ResultChunkingOptions(options) if options.allow_arrow_batch_chunking => {
                    chunk_bytes = Some(execute::chunk_bytes(options.preferred_arrow_chunk_size));
                }
                // Others are hints of extensions that we have none of.
                RequestOption::ResultChunkingOptions(_) | RequestOption::Extension(_) => {}
            }
        }
        let fail = |error: Error| session.status(&error);
        let plan = request.plan.ok_or_else(|| fail(missing("ExecutePlanRequest.plan")))?;
        let operation = session.operation(request.operation_id, request.tags, reattachable).map_err(fail)?;
        // Attached before it runs: an operation that is not reattachable ends when nobody listens.
        let responses = operation.attach(None).map_err(fail)?;
        execute::start(&session, &operation, plan, chunk_bytes);
        if !reattachable {
            // Nobody will release it.
            let (session, id) = (Arc::downgrade(&session), operation.id().to_string());
            let release = ReleaseOnDrop(move || {
                if let Some(session) = session.upgrade() {
                    session.release_operation(&id);
                }
            });
            let stream = responses.into_stream().inspect(move |_| {
                // Moved in so that it lives as long as the stream.
                let _ = &release;
            });
            return Ok(Response::new(stream.boxed()));
        }
        Ok(Response::new(responses.into_stream().boxed()))
    }

    async fn reattach_execute(&self, request: Request<ReattachExecuteRequest>) -> Result<Response<Responses>, Status> {
        let request = request.into_inner();
        let key = key(request.user_context.as_ref(), &request.session_id);
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.sessions.get(&key, observed).map_err(|error| error::status(&error, None))?;
        let fail = |error: Error| session.status(&error);
        let operation = session.find_operation(&request.operation_id).map_err(fail)?;
        if !operation.reattachable() {
            return Err(fail(Error::invalid("INVALID_CURSOR.NOT_REATTACHABLE", "the cursor is not reattachable")));
        }
        let last = request.last_response_id.as_deref().filter(|id| !id.is_empty());
        let responses = operation.attach(last).map_err(fail)?;
        Ok(Response::new(responses.into_stream().boxed()))
    }

    async fn release_execute(
        &self,
        request: Request<ReleaseExecuteRequest>,
    ) -> Result<Response<ReleaseExecuteResponse>, Status> {
        let request = request.into_inner();
        let key = key(request.user_context.as_ref(), &request.session_id);
        let observed = request.client_observed_server_side_session_id.as_deref();
        let mut response = ReleaseExecuteResponse { session_id: request.session_id, ..Default::default() };
        // Releases race with everything: what is not there needs none.
        let Ok(session) = self.sessions.get(&key, observed) else { return Ok(Response::new(response)) };
        response.server_side_session_id = session.server_side_id().into();
        if let Ok(operation) = session.find_operation(&request.operation_id) {
            response.operation_id = Some(operation.id().into());
            match request.release {
                Some(Release::ReleaseUntil(until)) => operation.release_until(&until.response_id),
                Some(Release::ReleaseAll(_)) | None => session.release_operation(operation.id()),
            }
        }
        Ok(Response::new(response))
    }

    async fn analyze_plan(
        &self,
        request: Request<AnalyzePlanRequest>,
    ) -> Result<Response<AnalyzePlanResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let analyzed = match request.analyze {
            Some(analyze) => analyze::analyze(&session, analyze).await,
            None => Err(missing("AnalyzePlanRequest.analyze")),
        };
        let result = analyzed.map_err(|error| session.status(&error))?;
        Ok(Response::new(AnalyzePlanResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            result: Some(result),
        }))
    }

    async fn config(&self, request: Request<ConfigRequest>) -> Result<Response<ConfigResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let done = match request.operation.and_then(|operation| operation.op_type) {
            Some(operation) => config::apply(&session, operation),
            None => Err(missing("ConfigRequest.operation")),
        };
        let (pairs, warnings) = done.map_err(|error| session.status(&error))?;
        Ok(Response::new(ConfigResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            pairs,
            warnings,
        }))
    }

    async fn add_artifacts(
        &self,
        request: Request<Streaming<AddArtifactsRequest>>,
    ) -> Result<Response<AddArtifactsResponse>, Status> {
        let mut requests = request.into_inner();
        let mut receiving: Option<(Arc<Session>, artifacts::Upload)> = None;
        while let Some(request) = requests.message().await? {
            let (session, upload) = match &mut receiving {
                Some(receiving) => receiving,
                None => {
                    let observed = request.client_observed_server_side_session_id.as_deref();
                    let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
                    let upload = session.artifacts().upload();
                    receiving.insert((session, upload))
                }
            };
            let Some(payload) = request.payload else {
                return Err(session.status(&missing("AddArtifactsRequest.payload")));
            };
            upload.receive(session.artifacts(), payload).await.map_err(|error| session.status(&error))?;
        }
        let Some((session, upload)) = receiving else {
            return Err(error::status(&missing("AddArtifactsRequest"), None));
        };
        let artifacts = upload.finish().map_err(|error| session.status(&error))?;
        Ok(Response::new(AddArtifactsResponse {
            session_id: session.id().into(),
            server_side_session_id: session.server_side_id().into(),
            artifacts,
        }))
    }

    async fn artifact_status(
        &self,
        request: Request<ArtifactStatusesRequest>,
    ) -> Result<Response<ArtifactStatusesResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let statuses = request.names.into_iter().map(|name| {
            let exists = session.artifacts().exists(&name);
            (name, artifact_statuses_response::ArtifactStatus { exists })
        });
        Ok(Response::new(ArtifactStatusesResponse {
            statuses: statuses.collect(),
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
        }))
    }

    async fn interrupt(&self, request: Request<InterruptRequest>) -> Result<Response<InterruptResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let all = session.operations();
        let chosen: Vec<_> = match (request.interrupt_type(), request.interrupt) {
            (InterruptType::All, _) => all,
            (InterruptType::Tag, Some(Interrupt::OperationTag(tag))) => {
                all.into_iter().filter(|operation| operation.tags().contains(&tag)).collect()
            }
            (InterruptType::OperationId, Some(Interrupt::OperationId(id))) => {
                all.into_iter().filter(|operation| operation.id() == id).collect()
            }
            _ => return Err(session.status(&missing("InterruptRequest.interrupt"))),
        };
        let interrupted = chosen.iter().filter(|operation| operation.cancel());
        let interrupted_ids = interrupted.map(|operation| operation.id().to_string()).collect();
        Ok(Response::new(InterruptResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            interrupted_ids,
        }))
    }

    async fn release_session(
        &self,
        request: Request<ReleaseSessionRequest>,
    ) -> Result<Response<ReleaseSessionResponse>, Status> {
        let request = request.into_inner();
        let key = key(request.user_context.as_ref(), &request.session_id);
        let server_side_session_id = self.sessions.release(&key, request.allow_reconnect).unwrap_or_default();
        Ok(Response::new(ReleaseSessionResponse { session_id: request.session_id, server_side_session_id }))
    }

    async fn fetch_error_details(
        &self,
        request: Request<FetchErrorDetailsRequest>,
    ) -> Result<Response<FetchErrorDetailsResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let mut response = FetchErrorDetailsResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            ..Default::default()
        };
        if let Some(error) = session.error(&request.error_id) {
            response.root_error_idx = Some(0);
            response.errors = vec![error::whole(&error)];
        }
        Ok(Response::new(response))
    }

    async fn clone_session(
        &self,
        request: Request<CloneSessionRequest>,
    ) -> Result<Response<CloneSessionResponse>, Status> {
        let request = request.into_inner();
        let key = key(request.user_context.as_ref(), &request.session_id);
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.sessions.get(&key, observed).map_err(|error| error::status(&error, None))?;
        let clone = self
            .sessions
            .duplicate(&session, request.new_session_id.filter(|id| !id.is_empty()))
            .map_err(|error| session.status(&error))?;
        Ok(Response::new(CloneSessionResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            new_session_id: clone.id().into(),
            new_server_side_session_id: clone.server_side_id().into(),
        }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let request = request.into_inner();
        let observed = request.client_observed_server_side_session_id.as_deref();
        let session = self.session(request.user_context.as_ref(), &request.session_id, observed)?;
        let status = |operation_id: String, state: Option<State>| OperationStatus {
            operation_id,
            state: state.map_or(OperationState::Unknown, OperationState::from).into(),
            extensions: vec![],
        };
        let operation_statuses = match request.operation_status {
            None => vec![],
            Some(asked) if asked.operation_ids.is_empty() => {
                session.operation_states().into_iter().map(|(id, state)| status(id, Some(state))).collect()
            }
            Some(asked) => {
                let states = asked.operation_ids.into_iter().map(|id| {
                    let state = session.operation_state(&id);
                    status(id, state)
                });
                states.collect()
            }
        };
        Ok(Response::new(GetStatusResponse {
            session_id: request.session_id,
            server_side_session_id: session.server_side_id().into(),
            operation_statuses,
            extensions: vec![],
        }))
    }
}

struct ReleaseOnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for ReleaseOnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A message that lacks what it is for.
pub fn missing(field: &str) -> Error {
    Error::invalid(
        "CONNECT_INVALID_PLAN.INVALID_ONE_OF_FIELD_NOT_SET",
        format!("the Spark Connect plan is invalid: {field} is not set"),
    )
}
