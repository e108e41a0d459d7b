//! Drives the deliveries to each sink: one task a sink, which reads the journal, delivers, and tells the sink's aggregate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{self, JoinHandle, JoinSet};

use super::{Engine, EventBatch, EventStream, Inner, ask_from_inside, start};
use crate::actors::system::System;
use crate::api::DeliveryProgress;
use crate::domain::sink::{Command, Destination, Registration, Response, SAID_BYTES_MAX, Signing, Sink};
use crate::domain::{EventFilter, EventId, SinkId, Timestamp};
use crate::error::Error;
use crate::relay::dispatch::{Attempt, Content, Dispatch};
use crate::relay::{Delivery, Failure, Outcome, Receiver, Settings, breaker};

/// Events that are read at once.
const READ_EVENTS: usize = 512;
/// How long new events are gathered before they are read: each read costs a hop between threads.
const GATHER: Duration = Duration::from_millis(10);
/// How long before an attempt begins this node must still have owned the log, for certain: a deposed owner may not
/// know that it is one, and what it delivers comes late, and beside what the next one does.
const OWNED_WITHIN: Duration = Duration::from_secs(1);
/// The least time before deliveries that broke off begin anew.
const BEGIN_ANEW: Duration = Duration::from_millis(100);

/// Makes the receiver of a webhook.
pub(crate) type Connect = Arc<dyn Fn(&Registration) -> Arc<dyn Receiver> + Send + Sync>;

/// What an operator wants to be tried at once.
#[derive(Default)]
struct Urgent {
    all: bool,
    events: BTreeSet<EventId>,
}

/// The deliveries to one sink.
struct Running {
    progress: Arc<Mutex<DeliveryProgress>>,
    urgent: Arc<Mutex<Urgent>>,
    /// An operator has changed something.
    changed: Arc<Notify>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

/// All deliveries that are under way.
#[derive(Default)]
pub(crate) struct Deliveries {
    running: Mutex<BTreeMap<SinkId, Running>>,
    /// Held by whoever registers a sink.
    pub(super) registering: tokio::sync::Mutex<()>,
    /// How webhooks are served, once somebody does.
    webhooks: Mutex<Option<(Settings, Connect)>>,
}

impl Deliveries {
    pub(super) fn progress(&self, sink: SinkId) -> Option<DeliveryProgress> {
        self.running.lock().get(&sink).map(|running| running.progress.lock().clone())
    }

    /// An operator has changed something about a sink.
    pub(super) fn changed(&self, sink: SinkId) {
        if let Some(running) = self.running.lock().get(&sink) {
            running.changed.notify_one();
        }
    }

    /// An operator has redriven one event of a sink, or all.
    pub(super) fn redriven(&self, sink: SinkId, event: Option<EventId>) {
        if let Some(running) = self.running.lock().get(&sink) {
            let mut urgent = running.urgent.lock();
            match event {
                Some(event) => drop(urgent.events.insert(event)),
                None => urgent.all = true,
            }
            running.changed.notify_one();
        }
    }

    /// Ends the deliveries to a sink, and waits until its cursor is written down.
    pub(super) async fn stop(&self, sink: SinkId) {
        let running = self.running.lock().remove(&sink);
        if let Some(running) = running {
            running.stop.notify_one();
            // A panic in there has been reported, and the cursor stays where it was.
            let _ = running.task.await;
        }
    }

    /// Ends all deliveries, and begins no more webhooks'.
    pub(super) async fn stop_all(&self) {
        *self.webhooks.lock() = None;
        let sinks: Vec<_> = self.running.lock().keys().copied().collect();
        for sink in sinks {
            self.stop(sink).await;
        }
    }
}

impl Engine {
    /// Serves all webhooks, those that are registered later too.
    #[cfg(feature = "server")]
    pub(crate) async fn serve_webhooks(&self, settings: Settings, connect: Connect) -> Result<(), Error> {
        *self.0.deliveries.webhooks.lock() = Some((settings, connect));
        let (inner, mut terms) = (Arc::downgrade(&self.0), self.0.terms.changes());
        self.0.serve_webhooks().await?;
        // Others may have registered some while they owned.
        self.0.host.blocking.spawn(async move {
            while terms.changed().await.is_ok() {
                let Some(inner) = inner.upgrade() else { return };
                if inner.terms.look(|_| ()).is_none() {
                    continue;
                }
                if let Err(error) = inner.serve_webhooks().await {
                    tracing::error!(%error, "webhooks that other nodes have registered are not served");
                }
            }
        });
        Ok(())
    }
}

impl Inner {
    /// Returns once this node may begin an attempt: it has owned the log within the last second.
    async fn owned_just_now(&self, system: &System) -> Result<(), Error> {
        while !system.env.writer.has_owned_within(OWNED_WITHIN) {
            if system.env.writer.is_over() {
                return Err(self.no_owner());
            }
            // A log that takes nothing is waited for, as long as this is the term.
            let asked = self.certain().await;
            if !matches!(asked, Err(Error::OutcomeUnknown(_))) {
                asked?;
            }
        }
        Ok(())
    }

    /// Starts the deliveries to all webhooks that have none yet.
    #[cfg(feature = "server")]
    async fn serve_webhooks(self: &Arc<Self>) -> Result<(), Error> {
        let (sinks, _) = self.look_at_sinks(|id, sink| (id, sink.clone())).await?;
        for (id, sink) in sinks {
            self.serve_webhook(id, &sink);
        }
        Ok(())
    }

    /// Starts the deliveries to a sink, if it is a webhook and those are served here.
    pub(super) fn serve_webhook(self: &Arc<Self>, id: SinkId, sink: &Sink) {
        let Some(registration) = sink.registration() else { return };
        if !matches!(registration.receiver, Destination::Webhook { .. }) {
            return;
        }
        let webhooks = self.deliveries.webhooks.lock().clone();
        if let Some((settings, connect)) = webhooks {
            self.deliver_to(id, sink, connect(registration), settings);
        }
    }

    /// Starts the deliveries to a sink; false if they are under way, or the sink is gone.
    pub(super) fn deliver_to(
        self: &Arc<Self>,
        id: SinkId,
        sink: &Sink,
        receiver: Arc<dyn Receiver>,
        settings: Settings,
    ) -> bool {
        if sink.registration().is_none() {
            return false;
        }
        let mut running = self.deliveries.running.lock();
        if running.get(&id).is_some_and(|running| !running.task.is_finished()) {
            return false;
        }
        let progress = Arc::new(Mutex::new(DeliveryProgress {
            passed: sink.cursor(),
            breaker: breaker::State::Closed,
            pause: None,
            delivered: 0,
            failed: 0,
            last_failure: None,
            last_delivered_at: None,
        }));
        let (changed, stop) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let urgent = Arc::<Mutex<Urgent>>::default();
        let deliveries = Keeper {
            engine: Engine(self.clone()),
            id,
            receiver,
            settings,
            progress: progress.clone(),
            urgent: urgent.clone(),
            changed: changed.clone(),
            stop: stop.clone(),
        };
        let task = self.host.blocking.spawn(deliveries.keep());
        running.insert(id, Running { progress, urgent, changed, stop, task });
        true
    }
}

/// Keeps the deliveries to one sink going.
struct Keeper {
    engine: Engine,
    id: SinkId,
    receiver: Arc<dyn Receiver>,
    settings: Settings,
    progress: Arc<Mutex<DeliveryProgress>>,
    urgent: Arc<Mutex<Urgent>>,
    changed: Arc<Notify>,
    stop: Arc<Notify>,
}

impl Keeper {
    /// Delivers until it is stopped, the sink is removed or the engine ends, in each term anew: only the owner delivers. What
    /// breaks off otherwise (there was no file handle left to read with, there is a mistake in here) is said, and begins anew after
    /// a while.
    async fn keep(self) {
        let mut terms = self.engine.0.terms.changes();
        loop {
            terms.mark_unchanged();
            let Some(system) = self.engine.0.terms.look(Arc::clone) else {
                tokio::select! {
                    () = self.stop.notified() => return,
                    changed = terms.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            };
            // Looked for here, where nothing that an operator changes from now on goes unnoticed.
            let ended = match self.engine.0.settled_sink(self.id).await {
                Ok(sink) => self.deliver(&sink, system.clone(), terms.clone()).await,
                Err(Error::Rejected(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            let Err(why) = ended else { return };
            let is_over = !self.engine.0.terms.is_current(&system);
            drop(system);
            if !is_over && !self.pause(&why).await {
                return;
            }
        }
    }

    /// Delivers until there is nothing more to be delivered or the term is over, or tells why it broke off.
    async fn deliver(&self, sink: &Sink, system: Arc<System>, terms: watch::Receiver<()>) -> Result<(), String> {
        let mut one = JoinSet::new();
        one.spawn(self.courier(sink, system).run(terms, self.changed.clone(), self.stop.clone()));
        match one.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.to_string()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// Waits until it is time to begin anew; false if there is nothing to be delivered any more.
    async fn pause(&self, why: &str) -> bool {
        if self.engine.0.is_over() {
            return false;
        }
        self.say(why);
        tokio::select! {
            () = self.stop.notified() => false,
            // An operator who has changed something does not want to wait for it.
            () = self.changed.notified() => true,
            () = tokio::time::sleep(self.settings.breaker.pause.max(BEGIN_ANEW)) => true,
        }
    }

    fn say(&self, why: &str) {
        tracing::error!(sink = %self.id, why, "deliveries broke off");
        let text = cut(format!("deliveries broke off, and will begin anew: {why}"));
        self.progress.lock().last_failure = Some(Response { status: None, text, at: self.engine.now() });
    }

    fn courier(&self, sink: &Sink, system: Arc<System>) -> Courier {
        Courier {
            engine: self.engine.clone(),
            system,
            id: self.id,
            filter: sink.registration().map_or(EventFilter::NONE, |registration| registration.filter),
            dispatch: Dispatch::new(sink, self.settings.clone(), self.receiver.batch().max(1)),
            signing: sink.signing(),
            receiver: self.receiver.clone(),
            progress: self.progress.clone(),
            urgent: self.urgent.clone(),
            under_way: JoinSet::new(),
            attempts: HashMap::new(),
            parked: Arc::new(tokio::sync::Mutex::new(self.engine.events(EventId::default(), EventFilter::ALL))),
        }
    }
}

/// Reads events ahead of the deliveries, and tells also how far it has come without any.
async fn read(mut events: EventStream, batches: mpsc::Sender<EventBatch>) -> Result<(), Error> {
    loop {
        let batch = events.available(READ_EVENTS).await?;
        let few = batch.events.len() < READ_EVENTS;
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
        if few {
            tokio::time::sleep(GATHER).await;
            events.more().await?;
        }
    }
}

/// Delivers to one sink.
struct Courier {
    engine: Engine,
    /// Of the term in which it delivers.
    system: Arc<System>,
    id: SinkId,
    filter: EventFilter,
    dispatch: Dispatch,
    signing: Signing,
    receiver: Arc<dyn Receiver>,
    progress: Arc<Mutex<DeliveryProgress>>,
    urgent: Arc<Mutex<Urgent>>,
    under_way: JoinSet<Outcome>,
    /// The numbers of the attempts that are under way.
    attempts: HashMap<task::Id, u64>,
    /// Reads parked events again, one after the other: many that are redriven are one walk through the journal.
    parked: Arc<tokio::sync::Mutex<EventStream>>,
}

impl Courier {
    /// Delivers until it is stopped, the sink is removed, the term is over or the engine ends.
    async fn run(mut self, terms: watch::Receiver<()>, changed: Arc<Notify>, stop: Arc<Notify>) -> Result<(), Error> {
        let ended = self.deliver(terms, &changed, &stop).await;
        self.under_way.abort_all();
        for command in self.dispatch.stop(self.engine.now()) {
            // Each waits until it is durable.
            if self.ask(command).await.is_err() {
                break;
            }
        }
        ended
    }

    async fn deliver(&mut self, mut terms: watch::Receiver<()>, changed: &Notify, stop: &Notify) -> Result<(), Error> {
        // Reading is a task of its own: what it is in the middle of would be lost each time that something else happens.
        let (sender, mut batches) = mpsc::channel(1);
        let mut reading = JoinSet::new();
        reading.spawn(read(self.engine.events(self.dispatch.read(), self.filter), sender));
        loop {
            let now = self.engine.now();
            self.hurry(now);
            let step = self.dispatch.step(now);
            for command in step.commands {
                self.system.command::<Sink>(&self.id, command);
            }
            for attempt in step.attempts {
                self.start(attempt, now);
            }
            self.note(now);
            let room = self.dispatch.has_room(now);
            let idle = step.wake_at.map(|at| self.system.env.clock.until(at));
            tokio::select! {
                biased;
                () = stop.notified() => return Ok(()),
                _ = terms.changed() => return Err(self.engine.0.no_owner()),
                () = changed.notified() => {
                    if !self.refresh().await? {
                        return Ok(());
                    }
                }
                Some(ended) = self.under_way.join_next_with_id() => self.finish(ended),
                batch = batches.recv(), if room => {
                    let Some(batch) = batch else { return reading.join_next().await.map_or(Ok(()), flatten) };
                    self.dispatch.take(batch.events.into_iter().map(Arc::new).collect(), batch.position);
                }
                () = tokio::time::sleep(idle.unwrap_or_default()), if idle.is_some() => {}
            }
        }
    }

    fn start(&mut self, attempt: Attempt, now: Timestamp) {
        let (signing, engine, system) = (self.signing, self.engine.clone(), self.system.clone());
        let (parked, receiver) = (self.parked.clone(), self.receiver.clone());
        let task = self.under_way.spawn(async move {
            let events = match attempt.what {
                Content::Events(events) => events,
                Content::Parked(id) => match parked.lock().await.find(id).await {
                    Ok(Some(event)) => vec![Arc::new(event)],
                    Ok(None) => return failed("the event cannot be found".into()),
                    Err(error) => return failed(format!("the event cannot be read: {error}")),
                },
            };
            if let Err(error) = engine.0.owned_just_now(&system).await {
                // None was made, and the next owner will.
                return Outcome::Unreachable(Failure { text: error.to_string(), ..Failure::default() });
            }
            let at = engine.now().max(now);
            let secrets = signing.secrets(at).collect();
            receiver.deliver(&Delivery { events, secrets, at }).await
        });
        self.attempts.insert(task.id(), attempt.no);
    }

    fn finish(&mut self, ended: Result<(task::Id, Outcome), task::JoinError>) {
        let (task, mut outcome) = ended.unwrap_or_else(|error| {
            tracing::error!(sink = %self.id, %error, "a receiver panicked");
            (error.id(), failed("the receiver panicked".into()))
        });
        let Some(no) = self.attempts.remove(&task) else { return };
        if let Outcome::Failed(failure)
        | Outcome::Undeliverable(failure)
        | Outcome::Unreachable(failure)
        | Outcome::Gone(failure) = &mut outcome
        {
            failure.text = cut(std::mem::take(&mut failure.text));
        }
        let now = self.engine.now();
        let mut progress = self.progress.lock();
        match &outcome {
            Outcome::Delivered => {
                progress.delivered += 1;
                progress.last_delivered_at = Some(now);
            }
            Outcome::Failed(failure)
            | Outcome::Undeliverable(failure)
            | Outcome::Unreachable(failure)
            | Outcome::Gone(failure) => {
                progress.failed += 1;
                progress.last_failure = Some(failure.response(now));
            }
        }
        drop(progress);
        self.dispatch.finished(now, no, outcome, &mut start::entropy);
    }

    /// Waits no longer for what an operator has redriven.
    fn hurry(&mut self, now: Timestamp) {
        let urgent = std::mem::take(&mut *self.urgent.lock());
        if urgent.all {
            self.dispatch.hurry(None, now);
        }
        for event in urgent.events {
            self.dispatch.hurry(Some(event), now);
        }
    }

    fn note(&self, now: Timestamp) {
        let mut progress = self.progress.lock();
        progress.passed = self.dispatch.passed();
        progress.breaker = self.dispatch.breaker(now);
        progress.pause = self.dispatch.pause(now);
    }

    /// Takes over what an operator has changed; false if the sink is gone.
    async fn refresh(&mut self) -> Result<bool, Error> {
        let sink = match self.engine.0.settled_sink(self.id).await {
            Ok(sink) => sink,
            Err(Error::Rejected(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.signing = sink.signing();
        self.dispatch.refresh(&sink, self.engine.now());
        Ok(true)
    }

    async fn ask(&self, command: Command) -> Result<(), Error> {
        self.engine.0.answer::<Sink>(ask_from_inside::<Sink>(&self.system, &self.id, command)).await.map(|_| ())
    }
}

fn flatten(ended: Result<Result<(), Error>, task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::Internal(error.to_string())))
}

/// What is kept of a text.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(SAID_BYTES_MAX));
    text
}

fn failed(text: String) -> Outcome {
    Outcome::Failed(Failure { text, ..Failure::default() })
}
