//! THE LINE: what happens to one request, from its head to its answer, in order. Each step may
//! refuse through a [`Rejection`]; none knows which authority, limit store or collector it talks to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};
use tower::ServiceExt as _;

use crate::{
    config::{AttributesMode, Config, Mode},
    limit::{Cost, Limit, LimitStore, failures::Failures},
    metrics::{ItemRecord, Metrics},
    otlp::{
        compression::{self, Encoding, InflateCaps, InflateError},
        inspect::{self, Inspection, Rules},
        json,
        rewrite::{self, Policy},
        signal::Signal,
        status::PartialSuccess,
    },
    telemetry::RateCap,
    validate::{
        Identity, Question, Validator, Verdict,
        credentials::{Credentials, Digester, HeaderNames},
    },
};

use super::{
    body::{self, InFlight, Permit},
    charge::Charge,
    grpc, headers,
    rejection::Rejection,
    route::{self, Protocol, Route},
    server::Peer,
    upstream::{Outgoing, Upstream, UpstreamError},
};

/// Everything that the line needs, built once by the composition root.
#[derive(Debug)]
pub struct Gateway {
    /// Who says yes or no.
    pub validator: Arc<dyn Validator>,
    /// Rates and budgets.
    pub limits: Arc<dyn LimitStore>,
    /// Failed attempts per client.
    pub failures: Arc<Failures>,
    /// The collector.
    pub upstream: Upstream,
    /// Body bytes in flight, over all requests.
    pub in_flight: InFlight,
    /// Digests credentials.
    pub digester: Arc<Digester>,
    /// Where credentials stand.
    pub names: HeaderNames,
    /// How resources are rewritten.
    pub policy: Policy,
    /// What the configuration says, as the line reads it.
    pub settings: Settings,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Keeps refusals from flooding the log.
    pub log_cap: Arc<RateCap>,
}

/// The settings of the line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    deadline: Duration,
    body_timeout: Duration,
    max_request_size: usize,
    inflate: InflateCaps,
    trace_id: Mode,
    attributes: AttributesMode,
    compression: Encoding,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            deadline: config.intake.deadline,
            body_timeout: config.intake.body_timeout,
            max_request_size: config.intake.max_request_size.as_usize(),
            inflate: InflateCaps {
                max_size: config.intake.max_inflated_size.as_usize(),
                max_ratio: config.intake.max_ratio,
            },
            trace_id: config.traces.trace_id,
            attributes: config.attributes.mode,
            compression: config.collector.compression,
        }
    }
}

/// What the layers around the line want to know of a request afterwards, refused or not.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) route: Option<Route>,
    pub(super) body_bytes: Option<u64>,
    pub(super) items: ItemRecord,
}

/// One request on the line.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) peer: &'a Peer,
    pub(super) head: &'a Parts,
    pub(super) signals: &'a [Signal],
    pub(super) correlation_id: &'a Arc<str>,
    pub(super) at: Instant,
}

/// A request whose sender is known.
struct Admitted<'a> {
    arrival: &'a Arrival<'a>,
    route: Route,
    deadline: Instant,
    identity: Arc<Identity>,
    charge: Charge<'a>,
}

/// A body, read and inflated, ready for inspection.
struct Payload {
    /// Protobuf.
    message: Bytes,
    /// The message as it came over the wire, where it can be passed on so; `None` for JSON.
    wire: Option<(Bytes, Encoding)>,
    /// Holds the body's share of memory until the collector has answered.
    _permit: Permit,
}

/// What leaves for the collector, and what the sender is told of the rest.
struct Departure {
    pieces: Vec<Bytes>,
    encoding: Encoding,
    partial: PartialSuccess,
    kept: u64,
}

/// Compressed bodies from this size on are inflated aside.
const LONG_INFLATION: usize = 64 << 10;

/// JSON from this size on is decoded aside: about a millisecond.
const LONG_JSON: usize = 128 << 10;

/// Memory that the JSON decoder takes at the most, in times of its input: measured 6.6 in the worst
/// document found, the output, which is counted by itself, included.
const JSON_SCRATCH: usize = 6;

fn bytes_of(len: usize) -> Cost {
    Cost { bytes: u64::try_from(len).unwrap_or(u64::MAX), ..Cost::default() }
}

/// Runs long work where the other tasks of this thread need not wait for it.
fn aside<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    // A runtime of one thread has nobody to hand its other tasks to.
    if is_long && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

impl Gateway {
    /// The line. The body is left where it stands, so that a refused upload can be read on.
    ///
    /// # Errors
    /// A [`Rejection`] from any step.
    pub(super) async fn line(
        &self,
        arrival: &Arrival<'_>,
        body: &mut Incoming,
        notes: &mut Notes,
    ) -> Result<(Route, PartialSuccess), Rejection> {
        let deadline = arrival.at.checked_add(self.settings.deadline).unwrap_or(arrival.at);
        let route = route::route(arrival.head, arrival.signals)?;
        notes.route = Some(route);
        let identity = self.identify(arrival, deadline).await?;
        let charge = Charge::new(&*self.limits, identity.as_ref().into());
        let mut admitted = Admitted { arrival, route, deadline, identity, charge };
        admitted.charge.take(Cost { requests: 1, ..Cost::default() }).await?;

        let (payload, departure) = match self.take_in(&mut admitted, body, notes).await {
            Ok(taken) => taken,
            Err(rejection) => {
                if rejection.keeps_intake() {
                    admitted.charge.keep_intake();
                }
                return Err(rejection);
            }
        };
        let partial = self.forward(&mut admitted, departure, notes).await?;
        // Only now does the collector have no more need of its bytes.
        drop(payload);
        Ok((route, partial))
    }

    /// Steps 2 to 4: before one byte of the body is read.
    async fn identify(&self, arrival: &Arrival<'_>, deadline: Instant) -> Result<Arc<Identity>, Rejection> {
        let client = arrival.peer.address.ip();
        let credentials = Credentials::from_headers(&arrival.head.headers, &self.names, &self.digester)
            .inspect_err(|_| self.failures.record(client))
            .map_err(Rejection::Credentials)?;

        // Before the authority is asked, so that guessing costs it nothing; after a look into the cache, so
        // that a bad neighbour behind the same address does not lock out a runner that is known.
        self.failures
            .check_unless(client, || self.validator.known(&credentials))
            .map_err(Rejection::Failures)?;

        let question = Question {
            credentials: Arc::new(credentials),
            client,
            correlation_id: Arc::clone(arrival.correlation_id),
            deadline,
        };
        match self.validator.validate(&question).await {
            Ok(Verdict::Allow(allowed)) => Ok(allowed.identity),
            Ok(Verdict::Deny(denial)) => {
                self.failures.record(client);
                Err(Rejection::Denied(denial))
            }
            Err(undetermined) => Err(Rejection::Undetermined(undetermined)),
        }
    }

    /// Steps 6 to 9: the body in, judged, charged and rewritten.
    async fn take_in(
        &self,
        admitted: &mut Admitted<'_>,
        body: &mut Incoming,
        notes: &mut Notes,
    ) -> Result<(Payload, Departure), Rejection> {
        let payload = self.read(admitted, body, notes).await?;
        let route = admitted.route;

        let rules = Rules {
            trace_id: (self.settings.trace_id != Mode::Off).then(|| admitted.identity.trace_id()),
            max_item_size: self.policy.max_item_size,
            refuse_unknown: self.settings.attributes == AttributesMode::Transparent,
        };
        let inspection = inspect::inspect(route.signal, &payload.message, &rules)
            .map_err(|malformed| Rejection::Malformed(malformed.to_string()))?;
        notes.items.foreign = inspection.foreign;
        // Until the collector has them, all items count as refused with their request.
        notes.items.refused = inspection.items;
        if inspection.foreign > 0 && self.settings.trace_id == Mode::Enforce {
            return Err(Rejection::ForeignTrace);
        }

        // The budget comes first: only what it grants is charged to the rates.
        let fitting = inspection.items.saturating_sub(inspection.oversize);
        let granted = admitted.charge.take_budget(fitting).await;
        admitted.charge.take(Cost { spans: granted, ..Cost::default() }).await?;

        let departure = match self.settings.attributes {
            AttributesMode::Inject => self.rewrite(route, &payload, &admitted.identity, granted, notes)?,
            AttributesMode::Transparent => Self::pass_on(&payload, &inspection, granted, notes)?,
        };
        Ok((payload, departure))
    }

    /// Step 6: permits, caps, inflation. Bytes are charged as soon as they are known: what a job
    /// makes us inflate and parse costs it the same, whether or not anything comes of it.
    async fn read(
        &self,
        admitted: &mut Admitted<'_>,
        body: &mut Incoming,
        notes: &mut Notes,
    ) -> Result<Payload, Rejection> {
        let Admitted { route, deadline, charge, .. } = admitted;
        let deadline = *deadline;
        let body_end = Instant::now().checked_add(self.settings.body_timeout).unwrap_or(deadline);
        let collected =
            body::collect(body, self.settings.max_request_size, deadline.min(body_end), &self.in_flight)
                .await
                .map_err(Rejection::Body)?;
        notes.body_bytes = u64::try_from(collected.bytes.len()).ok();
        let mut permit = collected.permit;
        let wire_len = collected.bytes.len();
        charge.take(bytes_of(wire_len)).await?;

        let (wire, encoding) = match route.protocol {
            Protocol::Grpc => {
                let (compressed, message) = grpc::deframe(&collected.bytes)
                    .map_err(|error| Rejection::Malformed(error.to_string()))?;
                let encoding = match (compressed, route.encoding) {
                    (false, _) => Encoding::Identity,
                    (true, None) => return Err(Rejection::UnnamedCompression),
                    (true, Some(encoding)) => encoding,
                };
                (message, encoding)
            }
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                (collected.bytes, route.encoding.unwrap_or(Encoding::Identity))
            }
        };
        let is_compressed = encoding != Encoding::Identity;
        let inflated = aside(is_compressed && wire.len() >= LONG_INFLATION, || {
            compression::inflate(encoding, &wire, self.settings.inflate)
        })
        .map_err(|error| match error {
            InflateError::TooLarge | InflateError::Ratio => Rejection::InflatedTooLarge,
            InflateError::Corrupt => Rejection::Malformed(error.to_string()),
        })?;
        if is_compressed {
            permit.grow(inflated.len()).map_err(Rejection::Body)?;
            charge.take(bytes_of(inflated.len().saturating_sub(wire_len))).await?;
        }
        if route.protocol == Protocol::HttpJson {
            let mut scratch = self.in_flight.permit();
            scratch.grow(inflated.len().saturating_mul(JSON_SCRATCH)).map_err(Rejection::Body)?;
            let message = aside(inflated.len() >= LONG_JSON, || json::to_protobuf(route.signal, &inflated))
                .map_err(|error| Rejection::Malformed(error.to_string()))?;
            permit.grow(message.len()).map_err(Rejection::Body)?;
            return Ok(Payload { message: message.into(), wire: None, _permit: permit });
        }
        Ok(Payload { message: inflated, wire: Some((wire, encoding)), _permit: permit })
    }

    /// Step 9, `inject`: the identity into every resource, what does not fit left out.
    fn rewrite(
        &self,
        route: Route,
        payload: &Payload,
        identity: &Identity,
        granted: u64,
        notes: &mut Notes,
    ) -> Result<Departure, Rejection> {
        let rewritten =
            rewrite::rewrite(route.signal, &payload.message, &self.policy, identity.stamp(), granted)
                .map_err(|malformed| Rejection::Malformed(malformed.to_string()))?;
        self.metrics.attributes_stripped(rewritten.stripped);
        self.metrics.unknown_fields_dropped(rewritten.unknown_dropped);
        notes.items.oversize = rewritten.oversize;
        notes.items.over_budget = rewritten.over_budget;
        notes.items.refused = rewritten.kept;
        let pieces = match self.settings.compression {
            Encoding::Identity => rewritten.pieces,
            encoding => compression::deflate(encoding, &rewritten.pieces),
        };
        Ok(Departure {
            pieces,
            encoding: self.settings.compression,
            partial: self.left_out(route.signal, rewritten.oversize, rewritten.over_budget),
            kept: rewritten.kept,
        })
    }

    /// Step 9, `transparent`: byte for byte or not at all.
    fn pass_on(
        payload: &Payload,
        inspection: &Inspection,
        granted: u64,
        notes: &mut Notes,
    ) -> Result<Departure, Rejection> {
        if inspection.oversize > 0 {
            return Err(Rejection::CannotDropOversize);
        }
        if granted < inspection.items {
            return Err(Rejection::CannotDrop(Limit::JobSpanBudget));
        }
        notes.items.refused = inspection.items;
        let (body, encoding) = payload.wire.clone().unwrap_or((payload.message.clone(), Encoding::Identity));
        Ok(Departure {
            pieces: vec![body],
            encoding,
            partial: PartialSuccess::default(),
            kept: inspection.items,
        })
    }

    /// The sentence of a partial success.
    fn left_out(&self, signal: Signal, oversize: u64, over_budget: u64) -> PartialSuccess {
        let rejected = oversize.saturating_add(over_budget);
        let items = signal.items();
        let mut reasons = Vec::new();
        if oversize > 0 {
            let bytes = self.policy.max_item_size;
            reasons.push(format!("{items} longer than {bytes} bytes: {oversize}"));
        }
        if over_budget > 0 {
            reasons.push(format!("{items} past what the job may send in all: {over_budget}"));
        }
        PartialSuccess {
            rejected: i64::try_from(rejected).unwrap_or(i64::MAX),
            message: if reasons.is_empty() {
                String::new()
            } else {
                format!("left out {}", reasons.join(", "))
            },
        }
    }

    /// Steps 10 and 11: to the collector and back.
    async fn forward(
        &self,
        admitted: &mut Admitted<'_>,
        departure: Departure,
        notes: &mut Notes,
    ) -> Result<PartialSuccess, Rejection> {
        let Admitted { arrival, route, deadline, identity, charge } = admitted;
        let Departure { pieces, encoding, mut partial, kept } = departure;
        if kept == 0 {
            charge.keep_intake();
            notes.items.refused = 0;
            return Ok(partial);
        }
        let shown = (self.settings.attributes == AttributesMode::Transparent).then_some(&**identity);
        let outgoing = Outgoing {
            signal: route.signal,
            len: pieces.iter().fold(0, |sum, piece| piece.len().saturating_add(sum)),
            pieces,
            encoding,
            headers: headers::outgoing(&arrival.head.headers, arrival.correlation_id, shown),
            deadline: *deadline,
        };
        // From here on the collector may have the spans: a sender that hangs up now gets nothing back, or
        // hanging up would be a way around its limits.
        let deferred = charge.defer();
        match self.upstream.clone().oneshot(outgoing).await {
            Ok(theirs) => {
                notes.items.refused = u64::try_from(theirs.rejected).unwrap_or(0).min(kept);
                notes.items.forwarded = kept.saturating_sub(notes.items.refused);
                partial.merge(theirs);
                Ok(partial)
            }
            Err(error) => {
                self.tell_operator(arrival, &error);
                let rejection = Rejection::Upstream(error);
                deferred.restore(charge);
                if rejection.keeps_intake() {
                    charge.keep_intake();
                }
                Err(rejection)
            }
        }
    }

    fn tell_operator(&self, arrival: &Arrival<'_>, error: &UpstreamError) {
        if let Some(suppressed) = self.log_cap.allow(error.label()) {
            tracing::warn!(
                correlation_id = %arrival.correlation_id,
                error_message = %error,
                suppressed,
                "the collector did not take an export"
            );
        }
    }
}
