//! Every spawned task has a name, a stage and an owner: the end of any is an event, and on shutdown each stage's tasks
//! are waited for, with a bound.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What ends together, in the order of the shutdown (design section 4.2): a stage begins to end when the one before
/// has ended. The drain delay lies between the session's end and the answers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Leader writes: flushed while the lead still stands.
    Writes,
    /// The session: hands the lead over and gives its lease back.
    Session,
    /// The web server: answers until then, and drains.
    Answers,
    /// Feed and controller: answers stay true to the last.
    State,
    /// Asked to end with the writes, waited for last: nothing depends on them (Graphite, the catalog file).
    Aside,
}

impl Stage {
    /// What is given up at once when a node is told to end.
    const HAND_OVER: [Self; 2] = [Self::Writes, Self::Session];
    /// What ends after the drain delay.
    const REST: [Self; 3] = [Self::Answers, Self::State, Self::Aside];

    /// Longest wait for its tasks; beyond it they are cut.
    const fn bound(self) -> Duration {
        match self {
            Self::Writes | Self::Session | Self::State | Self::Aside => Duration::from_secs(3),
            // The server's own bound on open requests is below this.
            Self::Answers => Duration::from_secs(10),
        }
    }
}

/// The tokens that end the stages.
#[derive(Clone, Debug, Default)]
pub struct Stops([CancellationToken; 4]);

impl Stops {
    /// The token of a stage.
    #[must_use]
    pub const fn of(&self, stage: Stage) -> &CancellationToken {
        let [writes, session, answers, state] = &self.0;
        match stage {
            Stage::Writes | Stage::Aside => writes,
            Stage::Session => session,
            Stage::Answers => answers,
            Stage::State => state,
        }
    }
}

struct Named {
    name: &'static str,
    stage: Stage,
    task: AbortHandle,
}

/// The process's tasks.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    running: Vec<Named>,
}

/// A task that ended although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} ended: {reason}")]
pub struct TaskEnded {
    /// Its name.
    pub task: String,
    /// What it said.
    pub reason: String,
}

type Joined = Result<(tokio::task::Id, Result<(), String>), JoinError>;

impl Tasks {
    /// Owns a task that can fail.
    pub fn spawn<E: Display>(
        &mut self,
        stage: Stage,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task = self.set.spawn(async move { task.await.map_err(|e| e.to_string()) });
        self.running.push(Named { name, stage, task });
    }

    /// Waits until one ends: before the shutdown every end is a failure. Never returns where there is no task.
    pub async fn first_end(&mut self) -> TaskEnded {
        match self.set.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => std::future::pending().await,
        }
    }

    /// Flushes the leader's writes and gives lead and lease back; returns the names of those that had to be cut.
    pub async fn hand_over(&mut self, stops: &Stops) -> Vec<&'static str> {
        self.end_stages(&Stage::HAND_OVER, stops).await
    }

    /// Waits until `end`, while answers and what they are made of go on; earlier when one of these ends, which is named.
    pub async fn drain(&mut self, end: tokio::time::Instant) -> Option<TaskEnded> {
        let lost = async {
            while self.running.iter().any(|t| Stage::REST.contains(&t.stage) && t.stage != Stage::Aside)
                && let Some(ended) = self.set.join_next_with_id().await
            {
                let stage = self.stage_of(&ended);
                let ended = self.ended(ended);
                // What is aside was asked to end with the writes.
                if stage.is_some_and(|s| s != Stage::Aside) {
                    return Some(ended);
                }
            }
            None
        };
        tokio::time::timeout_at(end, lost).await.ok().flatten()
    }

    /// Ends all, stage after stage; returns the names of those that had to be cut.
    pub async fn shutdown(mut self, stops: &Stops) -> Vec<&'static str> {
        let mut cut = self.hand_over(stops).await;
        cut.extend(self.end_stages(&Stage::REST, stops).await);
        self.set.shutdown().await;
        cut
    }

    async fn end_stages(&mut self, stages: &[Stage], stops: &Stops) -> Vec<&'static str> {
        let mut cut = Vec::new();
        for &stage in stages {
            stops.of(stage).cancel();
            let all = async {
                while self.running.iter().any(|t| t.stage == stage)
                    && let Some(ended) = self.set.join_next_with_id().await
                {
                    let ended = self.ended(ended);
                    tracing::debug!(task = %ended.task, reason = %ended.reason, "ended");
                }
            };
            if tokio::time::timeout(stage.bound(), all).await.is_err() {
                for stuck in self.running.iter().filter(|t| t.stage == stage) {
                    stuck.task.abort();
                    cut.push(stuck.name);
                }
            }
        }
        cut
    }

    fn stage_of(&self, ended: &Joined) -> Option<Stage> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        self.running.iter().find(|t| t.task.id() == id).map(|t| t.stage)
    }

    fn ended(&mut self, ended: Joined) -> TaskEnded {
        let (id, reason) = match ended {
            Ok((id, Ok(()))) => (id, "it returned".to_owned()),
            Ok((id, Err(reason))) => (id, reason),
            // A panic: it must not end unseen.
            Err(error) => (error.id(), error.to_string()),
        };
        let found = self.running.iter().position(|t| t.task.id() == id);
        let name = found.map_or("a task", |index| self.running.swap_remove(index).name);
        TaskEnded { task: name.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn an_early_end_is_an_event_that_names_the_task() {
        let mut tasks = Tasks::default();
        tasks.spawn(Stage::State, "waiting", std::future::pending::<Result<(), &str>>());
        tasks.spawn(Stage::State, "feed", async { Err::<(), _>("cut") });
        assert_eq!(tasks.first_end().await.to_string(), "feed ended: cut");
        tasks.spawn(Stage::State, "writer", async { Ok::<(), &str>(()) });
        assert_eq!(tasks.first_end().await.to_string(), "writer ended: it returned");
        tasks.spawn(Stage::State, "session", async {
            assert!(tokio::task::try_id().is_none(), "a bug");
            Ok::<(), &str>(())
        });
        let ended = tasks.first_end().await;
        assert!(ended.task == "session" && ended.reason.contains("a bug"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn stages_end_in_order_and_none_waits_for_ever() {
        let stops = Stops::default();
        let order: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let mut tasks = Tasks::default();
        let all = [
            (Stage::State, "controller"),
            (Stage::Answers, "web"),
            (Stage::Session, "session"),
            (Stage::Writes, "writer"),
        ];
        for (stage, name) in all {
            let (stop, order) = (stops.of(stage).clone(), Arc::clone(&order));
            tasks.spawn(stage, name, async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                order.lock().unwrap().push(name);
                Ok::<(), &str>(())
            });
        }
        tasks.spawn(Stage::Writes, "stuck", std::future::pending::<Result<(), &str>>());
        tasks.spawn(Stage::Aside, "graphite", std::future::pending::<Result<(), &str>>());
        let began = tokio::time::Instant::now();
        assert_eq!(tasks.shutdown(&stops).await, ["stuck", "graphite"]);
        assert_eq!(*order.lock().unwrap(), ["writer", "session", "web", "controller"]);
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_lasts_its_time_and_ends_with_the_answers() {
        let stops = Stops::default();
        let mut tasks = Tasks::default();
        let waiting = |stop: &CancellationToken| {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                Ok::<(), &str>(())
            }
        };
        tasks.spawn(Stage::Session, "session", waiting(stops.of(Stage::Session)));
        tasks.spawn(Stage::Aside, "graphite", waiting(stops.of(Stage::Aside)));
        tasks.spawn(Stage::Answers, "web", waiting(stops.of(Stage::Answers)));
        let began = tokio::time::Instant::now();
        assert!(tasks.hand_over(&stops).await.is_empty());
        assert!(began.elapsed() < Duration::from_millis(10), "at once");
        assert_eq!(tasks.drain(began + Duration::from_secs(5)).await, None, "what was asked to end is no loss");
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        tasks.spawn(Stage::State, "feed", async { Err::<(), _>("cut") });
        let lost = tasks.drain(began + Duration::from_secs(60)).await.unwrap();
        assert_eq!((lost.to_string().as_str(), began.elapsed()), ("feed ended: cut", Duration::from_secs(5)));
        assert!(tasks.shutdown(&stops).await.is_empty());
    }
}
