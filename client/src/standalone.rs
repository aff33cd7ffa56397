//! Scheduler and executors in this process: what `headwater standalone`, `demo` and `bench` run on.

use anyhow::{Context, Result};
use futures::future::{join_all, select_all};
use headwater_executor::process::{self as executor, ExecutorHandle, ExecutorOptions};
use headwater_scheduler::process::{self as scheduler, SchedulerHandle, SchedulerOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How to run a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scheduler.
    pub scheduler: SchedulerOptions,
    /// Executors to run.
    pub executors: usize,
    /// Tasks that each runs at once.
    pub task_slots: usize,
    /// Folder for what executors keep between stages: one below for each. A temporary one when absent.
    pub work_dir: Option<PathBuf>,
    /// What operators of each executor may hold, in bytes; as much as there is when absent.
    pub memory_limit: Option<u64>,
}

impl Options {
    /// A cluster for this process alone: on the loopback address, at ports that are free.
    pub fn private(state_dir: String, executors: usize, task_slots: usize) -> Self {
        let scheduler = SchedulerOptions {
            state_dir,
            bind: Ipv4Addr::LOCALHOST.into(),
            grpc_port: 0,
            connect_port: 0,
            connect: Default::default(),
            http_port: 0,
            postgres: None,
            ha: None,
            advertise: None,
            secrets_dir: headwater_executor::connectors::secrets::DEFAULT_FOLDER.into(),
            drain_timeout: executor::DRAIN_TIMEOUT,
        };
        let memory_limit = headwater_executor::memory::default_limit(executors);
        Self { scheduler, executors, task_slots, work_dir: None, memory_limit }
    }
}

/// A running cluster.
pub struct Cluster {
    scheduler: SchedulerHandle,
    executors: Vec<ExecutorHandle>,
}

impl Cluster {
    /// Starts the scheduler, then the executors; returns once all have registered.
    pub async fn start(options: Options) -> Result<Self> {
        let bind = options.scheduler.bind;
        let scheduler = scheduler::start(options.scheduler.clone()).await.context("failed to start the scheduler")?;
        let mut cluster = Self { scheduler, executors: Vec::with_capacity(options.executors) };
        let address = reachable(cluster.scheduler.grpc_addr());
        for number in 0..options.executors {
            let executor = executor::start(ExecutorOptions {
                schedulers: vec![address.to_string()],
                task_slots: options.task_slots,
                work_dir: options.work_dir.as_ref().map(|dir| dir.join(format!("executor-{number}"))),
                bind,
                advertise: Some(reachable(SocketAddr::new(bind, 0)).ip().to_string()),
                // The scheduler's page has what this process counts.
                http_port: None,
                memory_limit: options.memory_limit,
                drain_timeout: options.scheduler.drain_timeout,
            });
            cluster.executors.push(executor.await.with_context(|| format!("failed to start executor {number}"))?);
        }
        Ok(cluster)
    }

    /// Where clients reach the scheduler.
    pub fn address(&self) -> String {
        reachable(self.scheduler.grpc_addr()).to_string()
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &SchedulerHandle {
        &self.scheduler
    }

    /// Ids of the executors.
    pub fn executors(&self) -> Vec<String> {
        self.executors.iter().map(ExecutorHandle::id).collect()
    }

    /// Returns when a part has ended by itself, with the reason.
    pub async fn wait_failed(&mut self) -> anyhow::Error {
        if self.executors.is_empty() {
            return self.scheduler.wait_failed().await;
        }
        let executors = select_all(self.executors.iter_mut().map(|executor| Box::pin(executor.wait_failed())));
        tokio::select! {
            failure = self.scheduler.wait_failed() => failure.context("the scheduler failed"),
            (failure, number, _) = executors => failure.context(format!("executor {number} failed")),
        }
    }

    /// Lets running batches end, on executors that are still there; then the executors leave, as long as the scheduler
    /// hears it; then it ends.
    pub async fn shutdown(self) -> Result<()> {
        self.scheduler.stop_queries().await;
        let drained = join_all(self.executors.into_iter().map(ExecutorHandle::drain)).await;
        self.scheduler.shutdown().await.context("failed to stop the scheduler")?;
        for (number, drained) in drained.into_iter().enumerate() {
            drained.with_context(|| format!("failed to stop executor {number}"))?;
        }
        Ok(())
    }

    /// Runs `work` on the cluster, then ends the cluster, whether it went well or not. `interrupt` resolves when the
    /// user wants to stop: the work is dropped, and a second time nothing is waited for.
    ///
    /// # Errors
    /// The work's, [`Interrupted`], or why a part of the cluster failed.
    pub async fn run<T>(
        mut self,
        work: impl Future<Output = Result<T>>,
        interrupt: impl AsyncFn() -> io::Result<()>,
    ) -> Result<T> {
        let outcome = tokio::select! {
            outcome = work => outcome,
            failure = self.wait_failed() => return Err(failure),
            pressed = interrupt() => match pressed {
                Ok(()) => Err(Interrupted.into()),
                Err(error) => Err(error.into()),
            },
        };
        let ended = tokio::select! {
            ended = self.shutdown() => ended,
            _ = again(&interrupt) => return Err(Interrupted.into()),
        };
        match (outcome, ended) {
            (Ok(outcome), ended) => ended.map(|()| outcome),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(ended)) => {
                tracing::warn!(error = format!("{ended:#}"), "failed to stop the cluster");
                Err(error)
            }
        }
    }
}

/// Wrappers such as `timeout` send a signal to the process and to its group: two that come together are one.
const ONE_SIGNAL: Duration = Duration::from_millis(300);

/// Resolves when `interrupt` does for the second time.
pub async fn again(interrupt: &impl AsyncFn() -> io::Result<()>) -> io::Result<()> {
    tokio::time::sleep(ONE_SIGNAL).await;
    interrupt().await
}

/// The user wanted to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Where this machine reaches what listens on `address`: nobody connects to "any address".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_addresses() {
        fn check(bound: &str, expect: &str) {
            let bound: SocketAddr = bound.parse().expect("an address");
            assert_eq!(reachable(bound).to_string(), expect);
        }
        check("0.0.0.0:5", "127.0.0.1:5");
        check("[::]:5", "[::1]:5");
        check("10.0.0.7:5", "10.0.0.7:5");
    }
}
