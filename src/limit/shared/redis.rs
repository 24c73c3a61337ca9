//! A store that is Redis or Valkey: one server, a cluster, or a master that sentinels tell of. It decides names of
//! keys and which calls they go into; scripts run on the server, by the server's clock.

mod address;

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script,
    ScriptInvocation, aio::MultiplexedConnection, cluster::ClusterClient, cluster_async::ClusterConnection,
    cmd, sentinel::SentinelClient,
};
use futures_util::future::{BoxFuture, select_ok, try_join, try_join_all};
use tokio::{sync::Mutex, time::sleep};

use crate::{config, limit::Level, validate::credentials::Mark};

use super::{
    StoreError,
    line::{Dial, Line, Row, Seen, Trouble},
    pending::Slot,
};

/// Most rows in one call: others wait while a script runs, and this many take up to 2 ms.
const ROWS: usize = 100;

/// A state can be ahead of the present by this much at most: a server whose clock is set back must not keep anybody
/// out for longer. Debts above it, and bursts, are each replica's own.
const MAX_AHEAD: Duration = Duration::from_mins(5);

/// How long what a job spent of its budget is remembered after its last export: an hour is GitLab's default
/// timeout of a job, which may say something at its start and its end only.
const BUDGET_LIFE: Duration = Duration::from_mins(70);

/// So long a sentinel has to itself before the next one is asked too. While the first one serves, all replicas go by
/// its word; the last of sixteen still has its turn within the time for a connection.
const HEAD_START: Duration = Duration::from_millis(50);

/// Parts that a cluster can lay on different servers; keys of one part go into one call.
const PARTS: u64 = 16;

static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("charge.lua")));
static REGISTER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("register.lua")));

/// A store that nobody has spoken to yet.
pub(super) struct Redis {
    way: Way,
    prefix: Arc<str>,
}

/// How a connection is made. Each holds addresses and passwords.
enum Way {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    /// A client for each sentinel, in order, at least one: whoever hangs must not use up the time of the others.
    Sentinels(Vec<Mutex<SentinelClient>>),
}

impl Redis {
    /// Reads addresses and certificates.
    pub(super) fn open(config: &config::Store) -> Result<Self, StoreError> {
        Ok(Self { way: address::way(config)?, prefix: config.key_prefix.as_str().into() })
    }

    async fn connect(&self) -> RedisResult<Connection> {
        // Whoever calls sets the time.
        let settings = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        Ok(match &self.way {
            Way::Single(client) => {
                Connection::One(client.get_multiplexed_async_connection_with_config(&settings).await?)
            }
            Way::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
            Way::Sentinels(clients) => {
                let tries = clients.iter().zip(0..).map(|(client, place)| {
                    let settings = settings.clone();
                    Box::pin(async move {
                        sleep(HEAD_START.saturating_mul(place)).await;
                        client.lock().await.get_async_connection_with_config(&settings).await
                    })
                });
                Connection::One(select_ok(tries).await?.0)
            }
        })
    }
}

impl Dial for Redis {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Line>, Trouble>> {
        Box::pin(async move {
            let connection = self.connect().await.map_err(|error| trouble(&error))?;
            let line: Arc<dyn Line> = Arc::new(Spoken { connection, prefix: Arc::clone(&self.prefix) });
            Ok(line)
        })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Calls that are made while others wait for their answers go out one after the other on one connection.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection, and what keys on it are called.
struct Spoken {
    connection: Connection,
    prefix: Arc<str>,
}

impl Spoken {
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Trouble> {
        match self.connection.clone() {
            Connection::One(mut one) => command.query_async(&mut one).await,
            Connection::Cluster(mut cluster) => command.query_async(&mut cluster).await,
        }
        .map_err(|error| trouble(&error))
    }

    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Trouble> {
        match self.connection.clone() {
            Connection::One(mut one) => script.invoke_async(&mut one).await,
            Connection::Cluster(mut cluster) => script.invoke_async(&mut cluster).await,
        }
        .map_err(|error| trouble(&error))
    }

    /// The braces say by what part of a name a cluster finds its server.
    fn name(&self, part: u64, rest: impl fmt::Display) -> String {
        format!("{}:{{{part:x}}}:{rest}", self.prefix)
    }

    fn name_of(&self, Slot { level, key }: Slot) -> String {
        let level = match level {
            Level::Job => "job",
            Level::Runner => "runner",
            Level::Project => "project",
            Level::Listener => "listener",
            Level::Global => "global",
        };
        self.name(part(key), format_args!("{level}:{key:016x}"))
    }

    fn name_of_mark(&self, Mark(mark): Mark) -> String {
        self.name(part(u64::from(mark[0])), format_args!("denied:{:032x}", u128::from_be_bytes(mark)))
    }

    /// Fails unless each part of a cluster answers. A life sign comes from one of them; whoever took it for all would be
    /// alone again at the next flush, and again after the next pause, and what it told of budgets then would be lost.
    async fn find_parts(&self) -> Result<(), Trouble> {
        let parts = match self.connection {
            Connection::One(_) => 0..0,
            Connection::Cluster(_) => 0..PARTS,
        };
        let finds = parts.map(|part| async move {
            let mut ask = cmd("GETRANGE");
            self.ask::<Vec<u8>>(ask.arg(self.name(part, "part")).arg(0).arg(0)).await
        });
        try_join_all(finds).await.map(drop)
    }

    async fn charge_some(&self, rows: &[Row]) -> Result<Vec<Seen>, Trouble> {
        let mut call = CHARGE.prepare_invoke();
        call.arg(millis(MAX_AHEAD).saturating_mul(1_000)).arg(millis(BUDGET_LIFE));
        for row in rows {
            call.key(self.name_of(row.slot)).arg(&row.rates[..]).arg(row.budget);
        }
        let answer: Vec<u64> = self.run(&call).await?;
        let (numbers, rest) = answer.as_chunks::<4>();
        if numbers.len() != rows.len() || !rest.is_empty() {
            return Err(Trouble::Failed("an answer of another length than the question's".into()));
        }
        let seen = rows.iter().zip(numbers);
        Ok(seen
            .map(|(row, [requests, spans, bytes, spent])| Seen {
                slot: row.slot,
                ahead: [*requests, *spans, *bytes],
                spent: *spent,
            })
            .collect())
    }
}

impl Line for Spoken {
    fn charge(&self, mut rows: Vec<Row>) -> BoxFuture<'_, Result<Vec<Seen>, Trouble>> {
        Box::pin(async move {
            let calls: Vec<&[Row]> = match &self.connection {
                Connection::One(_) => rows.chunks(ROWS).collect(),
                Connection::Cluster(_) => {
                    rows.sort_unstable_by_key(|row| part(row.slot.key));
                    let parts = rows.chunk_by(|one, next| part(one.slot.key) == part(next.slot.key));
                    parts.flat_map(|part| part.chunks(ROWS)).collect()
                }
            };
            let seen = try_join_all(calls.into_iter().map(|rows| self.charge_some(rows))).await?;
            Ok(seen.into_iter().flatten().collect())
        })
    }

    fn register<'a>(&'a self, replica: &'a str, life: Duration) -> BoxFuture<'a, Result<u32, Trouble>> {
        Box::pin(async move {
            let mut call = REGISTER.key(self.name(0, "replicas"));
            call.arg(replica).arg(millis(life));
            let (replicas, ()) = try_join(self.run(&call), self.find_parts()).await?;
            Ok(replicas)
        })
    }

    fn remember(&self, mark: Mark, word: Vec<u8>, life: Duration) -> BoxFuture<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let life = millis(life).max(1);
            self.ask(cmd("SET").arg(self.name_of_mark(mark)).arg(word).arg("PX").arg(life)).await
        })
    }

    fn recall(&self, mark: Mark) -> BoxFuture<'_, Result<Option<Vec<u8>>, Trouble>> {
        // No more than a word and a byte, whatever stands there; nothing there is an empty answer.
        Box::pin(async move {
            let mut ask = cmd("GETRANGE");
            let word: Vec<u8> = self.ask(ask.arg(self.name_of_mark(mark)).arg(0).arg(LONGEST_WORD)).await?;
            Ok(Some(word).filter(|word| !word.is_empty()))
        })
    }
}

impl fmt::Debug for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spoken").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A sealed word is shorter; what is longer is none.
const LONGEST_WORD: usize = 63;

fn part(key: u64) -> u64 {
    key.rem_euclid(PARTS)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The kind of an error, and the system's own words where it is about a connection. What else an error says may
/// repeat a command.
fn trouble(error: &RedisError) -> Trouble {
    if error.is_timeout() {
        return Trouble::Timeout;
    }
    Trouble::Failed(match error.kind() {
        ErrorKind::Io => error.to_string(),
        _ => error
            .code()
            .map_or_else(|| error.category().to_owned(), |code| format!("{}: {code}", error.category())),
    })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests;
