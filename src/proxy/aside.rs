//! Work of a millisecond and more on one body: off the runtime's other tasks, and never on all processors at once, so that
//! one is left for everybody else's requests. It decides when such work begins, never what it is.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::body::BodyError;

/// Long work, so many pieces at a time as there are workers but one.
#[derive(Debug)]
pub struct Aside(Option<Semaphore>);

impl Aside {
    /// For the workers of the runtime that this is called on. Without one, and on one of one thread, there is nobody to hand
    /// other tasks to: long work is done at once.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Handle::try_current().ok();
        let runtime = runtime.filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        Self(runtime.map(|runtime| Semaphore::new(runtime.metrics().num_workers().saturating_sub(1).max(1))))
    }

    /// Does the work, at once if it is not long. What is long waits its turn, in the order in which it came.
    ///
    /// # Errors
    /// [`BodyError::Overload`] when its turn did not come until `deadline`.
    pub(super) async fn run<T>(
        &self,
        is_long: bool,
        deadline: Instant,
        work: impl FnOnce() -> T,
    ) -> Result<T, BodyError> {
        let Some(turns) = self.0.as_ref().filter(|_| is_long) else { return Ok(work()) };
        match timeout_at(deadline, turns.acquire()).await {
            Ok(Ok(_turn)) => Ok(tokio::task::block_in_place(work)),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(BodyError::Overload),
        }
    }
}

impl Default for Aside {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread::sleep,
        time::Duration,
    };

    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    fn later(millis: u64) -> Instant {
        Instant::now().checked_add(Duration::from_millis(millis)).unwrap()
    }

    /// Scenario: on three workers, six pieces of long work at once and a short one among them.
    /// Guarantees: never more than two of the long ones run, all are done, and the short one waits for none.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn one_worker_is_left() {
        let aside = Arc::new(Aside::new());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..6).map(|_| {
            let (aside, running, most) = (Arc::clone(&aside), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let work = || {
                    let now = running.fetch_add(1, Ordering::SeqCst).saturating_add(1);
                    most.fetch_max(now, Ordering::SeqCst);
                    sleep(Duration::from_millis(20));
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                aside.run(true, later(5_000), work).await
            })
        });
        let tasks: Vec<_> = tasks.collect();
        assert_eq!(aside.run(false, later(5_000), || 7).now_or_never(), Some(Ok(7)));
        for task in join_all(tasks).await {
            assert_eq!(task.unwrap(), Ok(()));
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    /// Scenario: the only turn is taken for longer than another piece of work may wait.
    /// Guarantees: it is not done and told so in time, and the next one is done.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_in_vain_is_told_so() {
        let aside = Arc::new(Aside::new());
        let turn = aside.0.as_ref().unwrap().acquire().await.unwrap();
        assert_eq!(aside.run(true, later(20), || 7).await, Err(BodyError::Overload));
        drop(turn);
        assert_eq!(aside.run(true, later(5_000), || 7).await, Ok(7));
    }

    /// Scenario: a runtime of one thread.
    /// Guarantees: long work is done at once.
    #[tokio::test]
    async fn one_thread_does_it_at_once() {
        assert_eq!(Aside::new().run(true, later(0), || 7).now_or_never(), Some(Ok(7)));
    }
}
