//! gRPC health checking, answered from the agent's own health at the moment it is asked.

use std::pin::Pin;

use claviger_runtime::health::Health;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as Service;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The answers.
#[derive(Clone, Debug)]
pub(crate) struct GrpcHealth {
    /// How the agent is.
    pub(crate) health: Health,
    /// Fires when streams are to end.
    pub(crate) stop: CancellationToken,
}

#[async_trait]
impl Service for GrpcHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !service.is_empty() {
            return Err(Status::not_found("ask for the agent as a whole: leave `service` empty"));
        }
        Ok(Response::new(response(self.health.report().is_ready())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !request.into_inner().service.is_empty() {
            return Err(Status::not_found("ask for the agent as a whole: leave `service` empty"));
        }
        let changes = unfold((self.clone(), None), |(agent, last)| async move {
            let ready = agent.next_other_than(last).await?;
            Some((Ok(response(ready)), (agent, Some(ready))))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

impl GrpcHealth {
    /// Whether the agent is ready, as soon as that is not `last`; `None` when the process ends.
    async fn next_other_than(&self, last: Option<bool>) -> Option<bool> {
        let mut report = self.health.report();
        while Some(report.is_ready()) == last {
            report = self.stop.run_until_cancelled(self.health.changed_from(&report)).await?;
        }
        Some(report.is_ready())
    }
}

fn response(ready: bool) -> HealthCheckResponse {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use claviger_runtime::health::State;
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_watched_changes_when_the_agent_does() {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let part = health.part("server");
        let service = GrpcHealth { health, stop: stop.clone() };
        let request = || Request::new(HealthCheckRequest::default());
        let mut watched = service.watch(request()).await.unwrap().into_inner();
        let mut next = async || watched.next().await.map(|next| next.unwrap());

        assert_eq!(next().await, Some(response(false)));
        part.set(State::Ready);
        assert_eq!(next().await, Some(response(true)));
        assert_eq!(service.check(request()).await.unwrap().into_inner(), response(true));
        part.set(State::Degraded("still works".to_owned()));
        part.set(State::Failed("does not".to_owned()));
        assert_eq!(next().await, Some(response(false)));
        stop.cancel();
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn a_part_alone_has_no_health() {
        let service = GrpcHealth { health: Health::default(), stop: CancellationToken::new() };
        let request = HealthCheckRequest { service: "SpiffeWorkloadAPI".to_owned() };
        let status = service.check(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound);
    }
}
