//! The places for connections: how many there are, how many one client has, and which connections can be asked to leave
//! when places get scarce. It never cuts a request; a connection that is asked ends before its first one or between two.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{limit::failures::Prefix, metrics::Metrics};

use super::watch::Activity;

/// A place for one connection; free again when dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// The places of a group of listeners.
pub struct Connections {
    places: Arc<Semaphore>,
    most: usize,
    /// 0: as many as there are.
    most_per_client: usize,
    table: Mutex<Table>,
}

/// Touched when a connection begins and ends, never by a request.
#[derive(Default)]
struct Table {
    clients: HashMap<Prefix, usize>,
    newcomers: HashMap<u64, (Instant, CancellationToken)>,
    open: HashMap<u64, (Arc<Activity>, CancellationToken)>,
    next: u64,
}

impl Table {
    fn key(&mut self) -> u64 {
        let key = self.next;
        self.next = key.wrapping_add(1);
        key
    }
}

impl Connections {
    /// `most` places, of which one client (/32, /64) gets at most `most_per_client`; 0: all.
    #[must_use]
    pub fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        let most = most.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        Arc::new(Self { places, most, most_per_client, table: Mutex::default() })
    }

    /// How many places there are.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many of them are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    /// A place, if one is free.
    pub(super) fn try_take(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place, waited for; `None` when there will be none any more.
    pub(super) async fn take(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Counts a connection for its client; `None` when the client has all that it gets.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Entered> {
        if self.most_per_client == 0 {
            return Some(Entered { of: None });
        }
        let prefix = Prefix::from(client);
        let mut table = self.table();
        let count = table.clients.entry(prefix).or_default();
        if *count >= self.most_per_client {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Entered { of: Some((Arc::clone(self), prefix)) })
    }

    /// Begins a connection, whose protocol is to be known by `deadline`.
    pub(super) fn arrive(self: &Arc<Self>, deadline: Instant) -> Newcomer {
        let leave = CancellationToken::new();
        let mut table = self.table();
        let key = table.key();
        table.newcomers.insert(key, (Instant::now(), leave.clone()));
        Newcomer { connections: Arc::clone(self), key, leave, deadline }
    }

    /// Makes a connection one that can be asked to leave through `leave`.
    pub(super) fn register(
        self: &Arc<Self>,
        activity: &Arc<Activity>,
        leave: &CancellationToken,
    ) -> Registered {
        let mut table = self.table();
        let key = table.key();
        table.open.insert(key, (Arc::clone(activity), leave.clone()));
        Registered { connections: Arc::clone(self), key }
    }

    /// Asks connections to leave until no more than `left` would be taken: first those on which no request was let in yet,
    /// newcomers with them, the longest idle first and the busy last; idle ones of known senders after them, and only if
    /// `known` says so. Returns how many were asked.
    pub fn ask_to_leave(&self, left: usize, known: bool) -> usize {
        let mut wanted = self.taken().saturating_sub(left);
        if wanted == 0 {
            return 0;
        }
        let mut idle = Vec::new();
        let table = self.table();
        // Without them, a crowd that says nothing could push out every sender that is known.
        for (since, leave) in table.newcomers.values() {
            if leave.is_cancelled() {
                wanted = wanted.saturating_sub(1);
            } else {
                let time = Some(since.elapsed());
                idle.push(Idle { known: false, time, activity: None, leave: leave.clone() });
            }
        }
        for (activity, leave) in table.open.values() {
            let (time, is_known) = (activity.idle_for(), activity.is_known());
            if leave.is_cancelled() && (time.is_some() || !is_known) {
                // On its way out already, for this or another reason.
                wanted = wanted.saturating_sub(1);
            } else if !is_known || (known && time.is_some()) {
                // A stranger that is busy may be so for good; a busy sender that is known is left alone.
                let activity = Some(Arc::clone(activity));
                idle.push(Idle { known: is_known, time, activity, leave: leave.clone() });
            }
        }
        drop(table);
        idle.sort_unstable_by_key(|idle| (idle.known, std::cmp::Reverse(idle.time)));
        idle.truncate(wanted);
        for Idle { activity, leave, .. } in &idle {
            if let Some(activity) = activity {
                activity.is_in_the_way();
            }
            leave.cancel();
        }
        idle.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("most", &self.most)
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

struct Idle {
    known: bool,
    /// `None`: busy; such ones come last.
    time: Option<Duration>,
    /// `None`: nothing of it is known yet.
    activity: Option<Arc<Activity>>,
    leave: CancellationToken,
}

/// One connection of a client's share.
pub(super) struct Entered {
    of: Option<(Arc<Connections>, Prefix)>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((connections, prefix)) = &self.of
            && let Entry::Occupied(mut count) = connections.table().clients.entry(*prefix)
        {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A connection of which nothing is known yet, until its protocol is.
pub(super) struct Newcomer {
    connections: Arc<Connections>,
    key: u64,
    leave: CancellationToken,
    deadline: Instant,
}

impl Newcomer {
    /// A step on the way to the first request; `None` when the time for all of them is over, or the place is needed.
    pub(super) async fn step<F: Future>(&self, step: F) -> Option<F::Output> {
        timeout_at(self.deadline, self.leave.run_until_cancelled(step)).await.ok().flatten()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.connections.table().newcomers.remove(&self.key);
    }
}

/// A connection that can be asked to leave, until it has ended.
pub(super) struct Registered {
    connections: Arc<Connections>,
    key: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.key);
    }
}

/// Counts a connection for as long as it lives, whatever way it ends.
pub(super) struct Open {
    metrics: Arc<Metrics>,
    listener: Arc<str>,
}

impl Open {
    pub(super) fn new(metrics: &Arc<Metrics>, listener: &Arc<str>) -> Self {
        metrics.connections(listener, 1);
        Self { metrics: Arc::clone(metrics), listener: Arc::clone(listener) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections(&self.listener, -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::server::{
        Peer,
        trouble::End,
        watch::{Bounds, attend},
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Scenario: newcomers fill all places, one after another; room is to be made, twice, then one of them gets on.
    /// Guarantees: those that wait longest are asked first, none twice; who was asked waits no more; nothing stays behind.
    #[tokio::test(start_paused = true)]
    async fn newcomers_are_asked_in_their_order() {
        let connections = Connections::new(4, 0);
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push((connections.try_take().unwrap(), connections.arrive(deadline)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(connections.ask_to_leave(3, false), 1);
        assert_eq!(connections.ask_to_leave(3, false), 0);
        assert_eq!(connections.ask_to_leave(2, true), 1);
        let asked: Vec<_> = held.iter().map(|(_, newcomer)| newcomer.leave.is_cancelled()).collect();
        assert_eq!(asked, [true, true, false, false]);
        assert_eq!(held[0].1.step(std::future::pending::<()>()).await, None);
        assert!(Instant::now() < deadline);
        assert_eq!(held[3].1.step(async { 7 }).await, Some(7));
        assert_eq!(held[3].1.step(std::future::pending::<()>()).await, None);
        assert!(Instant::now() >= deadline);
        held.clear();
        assert!(connections.table().newcomers.is_empty());
    }

    fn quiet(connections: &Arc<Connections>) -> (Place, Arc<Activity>, CancellationToken, Registered) {
        let address = (ip("192.0.2.1"), 1).into();
        let peer = Peer { listener: "a".into(), address, client: None, admitted: false.into() };
        let activity = Activity::expecting_heads(Arc::new(peer), BOUNDS);
        let leave = CancellationToken::new();
        let registered = connections.register(&activity, &leave);
        (connections.try_take().unwrap(), activity, leave, registered)
    }

    const BOUNDS: Bounds = Bounds {
        head: Duration::from_secs(5),
        idle: Duration::from_mins(2),
        stranger: Duration::from_secs(15),
        age: None,
    };

    /// Scenario: a connection never sends a whole first request; a younger one is still in its handshake; two places are needed, one
    /// after the other. Another such connection is only to drain.
    /// Guarantees: the older one goes first, and at once; on a drain its first request is awaited.
    #[tokio::test(start_paused = true)]
    async fn who_never_asks_goes_before_who_just_came() {
        let connections = Connections::new(4, 0);
        let (_place, old, leave, _registered) = quiet(&connections);
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(100)).await;
        let newcomer = (connections.try_take().unwrap(), connections.arrive(began + BOUNDS.head));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(connections.ask_to_leave(1, false), 1);
        assert_eq!([&leave, &newcomer.1.leave].map(CancellationToken::is_cancelled), [true, false]);
        let nothing = || Box::pin(std::future::pending::<hyper::Result<()>>());
        let end = attend(nothing(), |_| (), &old, BOUNDS, &leave).await;
        assert!(matches!(end, End::Good) && began.elapsed() < Duration::from_millis(200));
        let (_place, other, leave, _registered) = quiet(&connections);
        leave.cancel();
        let began = Instant::now();
        let end = attend(nothing(), |_| (), &other, BOUNDS, &leave).await;
        assert!(matches!(end, End::TooSlow) && began.elapsed() >= BOUNDS.head);
    }

    /// Scenario: clients take more connections than one gets, over addresses of one network and of others, and end some.
    /// Guarantees: a share is one of /32 and /64, it is free again at once, and nothing of a client stays behind.
    #[test]
    fn a_client_has_a_share() {
        let connections = Connections::new(10, 2);
        let first = connections.enter(ip("192.0.2.1")).unwrap();
        let second = connections.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(connections.enter(ip("192.0.2.1")).is_none());
        assert!(connections.enter(ip("192.0.2.2")).is_some());
        let six = [connections.enter(ip("2001:db8::1")), connections.enter(ip("2001:db8::2"))];
        assert!(connections.enter(ip("2001:db8::ffff:3")).is_none());
        drop(first);
        assert!(connections.enter(ip("192.0.2.1")).is_some());
        drop((second, six));
        assert!(connections.table().clients.is_empty());
        let all = Connections::new(10, 0);
        let many: Vec<_> = (0..100).map(|_| all.enter(ip("192.0.2.1"))).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
