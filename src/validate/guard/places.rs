//! How many questions may be in flight, and how many may wait for a place. It sheds what could not be
//! answered in time at once, in place of letting it wait for nothing. It never asks anybody anything.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::validate::Undetermined;

/// Places for questions in flight; their number may change at any time.
#[derive(Debug)]
pub(super) struct Places {
    free: Semaphore,
    size: Mutex<Size>,
    waiting: AtomicUsize,
    /// Time from taking a place to giving it back, in nanoseconds, as a moving average; 0: not known yet.
    service: AtomicU64,
}

#[derive(Debug)]
struct Size {
    /// Places that there should be.
    wanted: usize,
    /// Places that there are, taken ones included. Above `wanted` while taken ones have not come back.
    made: usize,
}

/// A place among the questions in flight.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    permit: Option<SemaphorePermit<'a>>,
    taken: Instant,
}

/// Counts one that waits, however its wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Places {
    pub(super) fn new() -> Self {
        Self {
            free: Semaphore::new(0),
            size: Mutex::new(Size { wanted: 0, made: 0 }),
            waiting: AtomicUsize::new(0),
            service: AtomicU64::new(0),
        }
    }

    /// Takes one of `wanted` places, at once or after a wait until `end` at most, behind fewer than `max_queue`
    /// others.
    pub(super) async fn take(
        &self,
        wanted: usize,
        max_queue: usize,
        end: Instant,
    ) -> Result<Place<'_>, Undetermined> {
        self.resize(wanted);
        if let Ok(permit) = self.free.try_acquire() {
            return Ok(self.place(permit));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= max_queue
            || self.expected_wait(ahead, wanted) > end.saturating_duration_since(Instant::now())
        {
            return Err(Undetermined::Busy);
        }
        match timeout_at(end, self.free.acquire()).await {
            Ok(Ok(permit)) => Ok(self.place(permit)),
            _ => Err(Undetermined::Busy),
        }
    }

    /// The number that wait for a place.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn place<'a>(&'a self, permit: SemaphorePermit<'a>) -> Place<'a> {
        Place { places: self, permit: Some(permit), taken: Instant::now() }
    }

    fn expected_wait(&self, ahead: usize, places: usize) -> Duration {
        let turns = ahead.saturating_add(1).checked_div(places.max(1)).unwrap_or(0) as u64;
        Duration::from_nanos(self.service.load(Ordering::Relaxed).saturating_mul(turns))
    }

    /// More places are there at once; fewer as they come back.
    fn resize(&self, wanted: usize) {
        let wanted = wanted.clamp(1, Semaphore::MAX_PERMITS);
        let mut size = self.size();
        size.wanted = wanted;
        if size.made < wanted {
            self.free.add_permits(wanted.saturating_sub(size.made));
            size.made = wanted;
        } else if size.made > wanted {
            let gone = self.free.forget_permits(size.made.saturating_sub(wanted));
            size.made = size.made.saturating_sub(gone);
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.taken.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Lost updates of two that end at once don't matter to an average.
        let before = self.places.service.load(Ordering::Relaxed);
        let average =
            if before == 0 { took } else { (before / 8).saturating_mul(7).saturating_add(took / 8) };
        self.places.service.store(average, Ordering::Relaxed);
        let mut size = self.places.size();
        if size.made > size.wanted
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            size.made = size.made.saturating_sub(1);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests {
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;

    fn end(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    /// Scenario: two places, a queue of one; four come; then the places are given back.
    /// Guarantees: two get in, one waits and gets in, one is shed at once; a wait ends with the budget.
    #[tokio::test(start_paused = true)]
    async fn places_and_queue_are_bounded() {
        let places = Arc::new(Places::new());
        let first = places.take(2, 1, end(100)).await.unwrap();
        let second = places.take(2, 1, end(100)).await.unwrap();
        let waiter = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(2, 1, end(100)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert_eq!(places.waiting(), 1);
        let before = Instant::now();
        assert_eq!(places.take(2, 1, end(100)).await.unwrap_err(), Undetermined::Busy);
        assert_eq!(before.elapsed(), Duration::ZERO);
        drop(first);
        assert_eq!(waiter.await.unwrap(), Ok(()));

        let third = places.take(2, 1, end(100)).await.unwrap();
        let before = Instant::now();
        assert_eq!(places.take(2, 1, end(100)).await.unwrap_err(), Undetermined::Busy);
        assert!(
            before.elapsed() >= Duration::from_millis(100) && before.elapsed() < Duration::from_millis(110)
        );
        drop((second, third));
        assert_eq!(places.waiting(), 0);
    }

    /// Scenario: places are known to be held for a second each; one with half a second left comes to a full house. It comes
    /// again when places have been held for a moment only for a while.
    /// Guarantees: it is shed at once, because it would wait for nothing; later it waits.
    #[tokio::test(start_paused = true)]
    async fn a_wait_for_nothing_is_refused_at_once() {
        let places = Places::new();
        let place = places.take(1, 100, end(100)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        drop(place);
        let held = places.take(1, 100, end(100)).await.unwrap();
        let before = Instant::now();
        assert_eq!(places.take(1, 100, end(500)).await.unwrap_err(), Undetermined::Busy);
        assert_eq!(before.elapsed(), Duration::ZERO);
        drop(held);
        for _ in 0..16 {
            drop(places.take(1, 100, end(100)).await.unwrap());
        }
        let _held = places.take(1, 100, end(100)).await.unwrap();
        assert_eq!(places.take(1, 100, end(500)).await.unwrap_err(), Undetermined::Busy);
        assert!(before.elapsed() >= Duration::from_millis(500), "{:?}", before.elapsed());
    }

    /// Scenario: the number of places falls from eight to two while eight are taken, then rises to three.
    /// Guarantees: none is given out until enough came back; never more than the number wanted are out afterwards.
    #[tokio::test(start_paused = true)]
    async fn the_number_of_places_follows() {
        let places = Places::new();
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(places.take(8, 0, end(10)).await.unwrap());
        }
        for left in (2..8).rev() {
            assert!(places.take(2, 0, end(10)).await.is_err(), "{left}");
            held.pop();
        }
        assert!(places.take(2, 0, end(10)).await.is_err());
        let third = places.take(3, 0, end(10)).await.unwrap();
        assert!(places.take(3, 0, end(10)).await.is_err());
        drop((held, third));
        assert_eq!(places.size().made, 3);
    }
}
