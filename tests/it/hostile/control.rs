//! Attacks that are none: what the measurement itself, and the machine, make of the figures. Their ratios are near 1 on a
//! machine whose other rows mean anything; nothing here says a word about the gateway.

use std::{net::SocketAddr, sync::mpsc::channel, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    floods::many,
    frames::{PING, frame, hello},
    good::{self, Kind},
    priority::stand_as_gateway,
    rounds::{Rounds, Times},
    scene::Scene,
    slow::{crowd, trickle},
    wire::{Flood, Target},
};

/// How long a connection to nobody lives at most: as in the attack of slow heads.
const LONGEST: Duration = Duration::from_millis(500);

/// Somebody in this process who reads and throws away, at the gateway's priority.
struct Nobody {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Nobody {
    /// `longest`: when it ends a connection, if it does.
    fn start(longest: Option<Duration>) -> Self {
        let (tell, told) = channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            stand_as_gateway();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    loop {
                        let (mut stream, _) = listener.accept().await.unwrap();
                        drop(tokio::spawn(async move {
                            let mut buffer = vec![0; 16 << 10];
                            let read = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
                            match longest {
                                Some(longest) => drop(timeout(longest, read).await),
                                None => read.await,
                            }
                        }));
                    }
                };
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_some_and(|ended| ended.is_ok()), "the sink failed");
        }
    }
}

/// Quiet rounds and rounds beside an attack on somebody else, in turn.
async fn elsewhere<F>(
    scene: &Scene,
    name: &'static str,
    victim: SocketAddr,
    attack: impl FnOnce(Target) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()>,
{
    let mut rounds = Rounds::begin(scene, Kind::Http1).await;
    for _ in 0..Times::of_mode().rounds {
        rounds.quiet().await;
        rounds.beside(victim, attack.clone()).await;
    }
    rounds.end(name).assert_unharmed();
    scene.assert_settled().await;
}

/// Scenario: an attacker that sleeps; a flood of pings, and slow heads on new connections, for a sink that is not the
/// gateway.
/// Guarantees: the gateway is charged with none of it: no memory, no CPU time, no refused export.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control() {
    let scene = Scene::start().await;
    elsewhere(
        &scene,
        "control: no attack",
        scene.address(),
        |target| async move { sleep(target.left()).await },
    )
    .await;
    let nobody = Nobody::start(None);
    elsewhere(&scene, "control: flood elsewhere", nobody.address, |target| {
        let turn = |number| many(number, |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()));
        Flood::USUAL.run(target, hello, turn)
    })
    .await;
    let brief = Nobody::start(Some(LONGEST));
    elsewhere(&scene, "control: slow heads elsewhere", brief.address, |target| async move {
        let opening = good::head("glrt-nobody", "glcbt-nobody", "");
        let opening = opening.trim_end().as_bytes();
        join_all((0..crowd()).map(|place| trickle(&target, place, opening, b"\r\nx-slow: 1"))).await;
    })
    .await;
}
