//! The threads that answer requests: a runtime of their own, as many threads as there are cores. Nothing else that the node does
//! delays an answer, and on one core one thread answers all (two would only hand the core to each other). What is long in an
//! answer is left to `web`, which does it beside these threads.

use std::{future::Future, io};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

/// Most threads; a request takes microseconds.
const MAX_THREADS: usize = 8;

/// The threads; they end with this, whatever they do then.
#[derive(Debug)]
pub struct Answering {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Answering {
    /// Starts them.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name("answers").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Does something, such as opening a listener, as a part of them.
    pub fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _within = self.handle.enter();
        make()
    }

    /// Runs a task on them; it ends with the future that is returned, at the latest.
    pub fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Result<(), JoinError>> + Send + 'static {
        AbortOnDropHandle::new(self.handle.spawn(task))
    }
}

impl Drop for Answering {
    /// Waits for nothing: it may be called where waiting is not allowed, and look-ups may hang.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_runs_beside_and_ends_with_who_waits_for_it() {
        let answering = Answering::start().unwrap();
        let (say, said) = oneshot::channel();
        let thread = answering.spawn(async move { drop(say.send(std::thread::current().name().map(str::to_owned))) });
        thread.await.unwrap();
        assert_eq!(said.await.unwrap().as_deref(), Some("answers"));
        // Cut off: what it held is dropped, and its end is seen.
        let (held, ended) = oneshot::channel::<()>();
        drop(answering.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it goes on").unwrap_err();
        let broken = answering.spawn(async { panic!("on purpose") });
        assert!(broken.await.unwrap_err().is_panic());
    }
}
