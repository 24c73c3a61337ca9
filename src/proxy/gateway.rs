//! THE LINE: what happens to one request, from its head to its answer, in order. Each step may
//! refuse through a [`Rejection`]; none knows which authority, limit store or collector it talks to.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{Version, request::Parts};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::{
    config::{AttributesMode, Mode},
    limit::{
        Cost, Limit, LimitStore, Refusal, Subject, Unit,
        failures::{Attempt, Failures},
    },
    metrics::{ItemRecord, Metrics},
    otlp::{
        compression::{self, Encoding},
        inspect::{self, Inspection, Rules},
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
    aside::Aside,
    asking::Asking,
    body::{InFlight, Permit},
    charge::Charge,
    forward::Departure,
    overload::Overload,
    payload::Payload,
    rejection::Rejection,
    route::{self, Route},
    server::{Peer, STREAM_WINDOW},
    trust,
    upstream::Upstream,
};

pub use super::settings::{ListenerRules, Settings};

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
    /// Where long work on bodies is done.
    pub aside: Arc<Aside>,
    /// Whether strangers are refused for now.
    pub overload: Arc<Overload>,
    /// Digests credentials.
    pub digester: Arc<Digester>,
    /// Where credentials stand.
    pub names: HeaderNames,
    /// How resources are rewritten, and how long a span may be.
    pub policy: Policy,
    /// What the configuration says, as the line reads it.
    pub settings: Settings,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Keeps refusals from flooding the log.
    pub log_cap: Arc<RateCap>,
}

/// What the layers around the line want to know of a request afterwards, refused or not.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) route: Option<Route>,
    pub(super) body_bytes: Option<u64>,
    pub(super) items: ItemRecord,
    /// The sender's name, where it is known by one.
    pub(super) client: Option<Arc<str>>,
    /// The sender's address had used up its failures before this request.
    pub(super) fails_too_often: bool,
}

/// One request on the line.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) peer: &'a Peer,
    /// The sender's address: the peer's, or the one that a trusted hop forwards for.
    pub(super) client: IpAddr,
    pub(super) head: &'a Parts,
    pub(super) rules: &'a ListenerRules,
    pub(super) correlation_id: &'a Arc<str>,
    pub(super) at: Instant,
}

/// A request whose sender is known.
pub(super) struct Admitted<'a> {
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) route: Route,
    pub(super) deadline: Instant,
    pub(super) identity: &'a Identity,
    pub(super) charge: Charge<'a>,
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
        let route = route::route(arrival.head, &arrival.rules.signals)?;
        notes.route = Some(route);
        route::host(arrival.head)?;
        let identity = self.identify(arrival, body, deadline, notes).await?;
        arrival.peer.admit();
        notes.client = trust::name(&identity);
        let subject = Subject::new(arrival.rules.key, &identity);
        // The verdict may have taken its time.
        let now = Instant::now();
        let charge = Charge::new(&*self.limits, subject, now);
        let mut admitted = Admitted { arrival, route, deadline, identity: &identity, charge };
        admitted.charge.take(Cost { requests: 1, ..Cost::default() }, now).await?;

        let (payload, departure) = match self.take_in(&mut admitted, body, now, notes).await {
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
    async fn identify(
        &self,
        arrival: &Arrival<'_>,
        body: &Incoming,
        deadline: Instant,
        notes: &mut Notes,
    ) -> Result<Arc<Identity>, Rejection> {
        let client = arrival.client;
        let credentials = match arrival.rules.trust {
            Some(trust) => trust.credentials(arrival.peer, &self.digester),
            None => self.tokens(arrival, notes)?,
        };
        let question = Question {
            credentials: Arc::new(credentials),
            client,
            correlation_id: Arc::clone(arrival.correlation_id),
            deadline,
        };
        if let Some(allowed) = self.validator.recall(&question) {
            return Ok(allowed.identity);
        }
        // Both before the question: what is refused here must not cost the authority anything.
        let is_known = arrival.rules.trust.is_some() || self.validator.known(&question.credentials);
        let attempt = self.attempt(&question, is_known, notes)?;
        let unread = self.unread(arrival, body, is_known)?;
        let asking = Asking::begin(self, &question, attempt);
        let answer = self.validator.validate(&question).await;
        let attempt = asking.ended();
        drop(unread);
        match answer {
            Ok(Verdict::Allow(allowed)) => Ok(allowed.identity),
            Ok(Verdict::Deny(denial)) => {
                match attempt {
                    Some(attempt) => attempt.fail(),
                    None if arrival.rules.trust.is_none() => {
                        self.failures.record(client);
                    }
                    None => {}
                }
                Err(Rejection::Denied(denial, question.credentials.kind()))
            }
            Err(undetermined) => Err(Rejection::Undetermined(undetermined)),
        }
    }

    /// What a stranger may send while it waits for its verdict: HTTP/2 takes it in, read or not. The last of the memory is
    /// not for strangers.
    fn unread(&self, arrival: &Arrival<'_>, body: &Incoming, is_known: bool) -> Result<Permit, Rejection> {
        let mut permit = self.in_flight.permit();
        if !is_known && arrival.head.version == Version::HTTP_2 {
            let window = u64::from(STREAM_WINDOW);
            let bytes = body.size_hint().upper().map_or(window, |length| length.min(window));
            if self.overload.sheds_unread(bytes) {
                return Err(Rejection::Shed);
            }
            permit.grow(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(Rejection::Body)?;
        }
        Ok(permit)
    }

    /// Step 2, where senders show tokens.
    fn tokens(&self, arrival: &Arrival<'_>, notes: &mut Notes) -> Result<Credentials, Rejection> {
        let (headers, accepts) = (&arrival.head.headers, arrival.rules.accepts);
        Credentials::from_headers(headers, &self.names, accepts, &self.digester)
            .inspect_err(|_| notes.fails_too_often = self.failures.record(arrival.client))
            .map_err(Rejection::Credentials)
    }

    /// Step 3: before the authority is asked, so that guessing costs it nothing; after a look into the cache, so that a
    /// bad neighbour behind the same address does not lock out a runner that is known. `None`: nobody counts. Without a
    /// token there is none to guess and nobody to be asked, so such senders count as known.
    fn attempt(
        &self,
        question: &Question,
        is_known: bool,
        notes: &mut Notes,
    ) -> Result<Option<Attempt<'_>>, Rejection> {
        let attempt = (!is_known).then(|| self.failures.admit(question.client)).transpose();
        notes.fails_too_often = matches!(attempt, Err(Refusal { limit: Limit::ClientFailures, .. }));
        let attempt = attempt.map_err(Rejection::Limited)?;
        if self.overload.sheds(|| is_known) {
            return Err(Rejection::Shed);
        }
        Ok(attempt)
    }

    /// Steps 6 to 9: the body in, judged, charged and rewritten.
    async fn take_in(
        &self,
        admitted: &mut Admitted<'_>,
        body: &mut Incoming,
        began: Instant,
        notes: &mut Notes,
    ) -> Result<(Payload, Departure), Rejection> {
        let payload = Payload::read(self, admitted, body, began, notes).await?;
        let now = payload.at;
        let route = admitted.route;

        let policy = self.policy(route.signal, admitted.identity);
        let inspection = match self.inspect(admitted, &payload, policy.max_item_size, notes) {
            Ok(inspection) => inspection,
            Err(rejection) => {
                admitted.charge.take(payload.due, now).await?;
                return Err(rejection);
            }
        };
        let mut granted = inspection.items.saturating_sub(inspection.oversize);
        if route.signal.limits_items() {
            // The budget comes first: only what it grants is charged to the rates.
            let taken = admitted.charge.take_spans(Cost { spans: granted, ..payload.due }, now).await;
            if let Err(Rejection::Limited(refusal)) = &taken
                && refusal.limit.unit() != Unit::Bytes
            {
                // The spans were too many, but their bytes have come.
                drop(admitted.charge.take(payload.due, now).await);
            }
            granted = taken?;
        } else {
            admitted.charge.take(payload.due, now).await?;
        }

        let departure = match self.settings.attributes {
            AttributesMode::Inject => {
                self.rewrite((route, &policy), &payload, admitted.identity, granted, notes)?
            }
            AttributesMode::Transparent => Self::pass_on(&payload, &inspection, granted, notes)?,
        };
        Ok((payload, departure))
    }

    /// Step 7: what is in it, and whether its sender may say it.
    fn inspect(
        &self,
        admitted: &Admitted<'_>,
        payload: &Payload,
        max_item_size: usize,
        notes: &mut Notes,
    ) -> Result<Inspection, Rejection> {
        let signal = admitted.route.signal;
        let rules = Rules {
            trace_id: admitted.identity.trace_id().filter(|_| self.settings.trace_id != Mode::Off),
            max_item_size,
            refuse_unknown: self.settings.attributes == AttributesMode::Transparent,
            depth: self.settings.depth,
        };
        let inspection = inspect::inspect(signal, &payload.message, &rules)
            .map_err(|malformed| Rejection::Malformed(malformed.to_string()))?;
        notes.items.foreign = inspection.foreign;
        // Until the collector has them, all items count as refused with their request.
        notes.items.refused = inspection.items;
        if inspection.foreign > 0 && self.settings.trace_id == Mode::Enforce {
            return Err(Rejection::ForeignTrace(signal));
        }
        trust::check(admitted.identity, signal, &payload.message)?;
        Ok(inspection)
    }

    /// How a request of this signal and sender is rewritten: only spans have a longest size, and a trusted sender's
    /// resources stay.
    fn policy(&self, signal: Signal, identity: &Identity) -> Cow<'_, Policy> {
        let max_item_size = if signal.limits_items() { self.policy.max_item_size } else { usize::MAX };
        if identity.trusted().is_some() {
            Cow::Owned(Policy::keep_all(max_item_size))
        } else if max_item_size == self.policy.max_item_size {
            Cow::Borrowed(&self.policy)
        } else {
            Cow::Owned(Policy { max_item_size, ..self.policy.clone() })
        }
    }

    /// Step 9, `inject`: the identity into every resource, what does not fit left out.
    fn rewrite(
        &self,
        (route, policy): (Route, &Policy),
        payload: &Payload,
        identity: &Identity,
        granted: u64,
        notes: &mut Notes,
    ) -> Result<Departure, Rejection> {
        let rewritten = rewrite::rewrite(route.signal, &payload.message, policy, identity.stamp(), granted)
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
            partial: PartialSuccess::of_left_out(
                route.signal,
                (rewritten.oversize, policy.max_item_size),
                rewritten.over_budget,
            ),
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
}
