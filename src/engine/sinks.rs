//! Sinks: who receives events, how far they have got, and what they would not take.

use std::sync::Arc;

use super::concerts::check_name;
use super::{Engine, Inner, check_limit, page};
use crate::api::{DeadLetter, Page, PageRequest, Sink as View};
use crate::domain::sink::{Command, Parked, Receiver as Address, Registration, Reply, Secret, Sink};
use crate::domain::{EventFilter, EventId, Rejection, SinkId, Timestamp};
use crate::error::Error;
use crate::relay::{Event, Receiver, Settings};

/// Where a new sink begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With what happens from now on.
    #[default]
    Now,
    /// With the oldest event.
    Beginning,
    /// After this event.
    After(EventId),
}

impl Engine {
    /// Delivers events to a receiver of the host app's, from where it left off when it was attached under this name
    /// before; `start` and `filter` count the first time only. It ends with [`detach`](Self::detach) or with the engine,
    /// which such deliveries keep open until it is shut down.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] if there are as many sinks as may be; [`Error::Invalid`], also if the name is attached.
    pub async fn attach(
        &self,
        name: &str,
        filter: EventFilter,
        start: Start,
        receiver: Arc<dyn Receiver>,
        settings: Settings,
    ) -> Result<SinkId, Error> {
        let _call = self.0.admit()?;
        if let Some(wrong) = check_name("name", name) {
            return Err(Error::Invalid(vec![wrong]));
        }
        let _turn = self.0.deliveries.registering.lock().await;
        let address = Address::Attached { name: name.to_owned() };
        let sinks = self.0.all_sinks().await?.into_iter();
        let mut known = sinks.filter_map(|(id, sink)| Some((id, sink.registration()?.receiver == address)));
        let id = match known.find(|(_, same)| *same) {
            Some((id, _)) => id,
            None => self.0.register(address, filter, start).await?.0,
        };
        if self.0.deliver_to(id, &self.0.find_sink(id).await?, receiver, settings) {
            Ok(id)
        } else {
            Err(Error::invalid("name", "is attached already"))
        }
    }

    /// Ends the deliveries to a receiver of the host app's. The sink stays, and remembers how far it has got.
    pub async fn detach(&self, id: SinkId) {
        self.0.deliveries.stop(id).await;
    }

    /// Registers a receiver of events; gives its id, and the secret with which deliveries to it are signed.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] if there are as many as may be; [`Error::Invalid`].
    pub async fn register_sink(
        &self,
        receiver: Address,
        filter: EventFilter,
        start: Start,
    ) -> Result<(SinkId, Secret), Error> {
        let _call = self.0.admit()?;
        let _turn = self.0.deliveries.registering.lock().await;
        self.0.register(receiver, filter, start).await
    }

    /// All sinks, newest first.
    ///
    /// # Errors
    /// A fault of the engine's.
    pub async fn sinks(&self) -> Result<Vec<View>, Error> {
        let sinks = self.0.all_sinks().await?;
        Ok(sinks.into_iter().rev().filter_map(|(id, sink)| self.0.view_sink(id, &sink)).collect())
    }

    /// A sink.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn sink(&self, id: SinkId) -> Result<View, Error> {
        let sink = self.0.find_sink(id).await?;
        Ok(self.0.view_sink(id, &sink).ok_or(Rejection::NotFound)?)
    }

    /// Ends a sink; nothing more is delivered to it, and its dead letters are gone.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn remove_sink(&self, id: SinkId) -> Result<(), Error> {
        self.change_sink(id, Command::Remove).await?;
        self.0.deliveries.stop(id).await;
        Ok(())
    }

    /// Signs deliveries with a new secret, and until `previous_until` with the old one too.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn rotate_secret(&self, id: SinkId, previous_until: Timestamp) -> Result<Secret, Error> {
        let secret = new_secret()?;
        self.change_sink(id, Command::RotateSecret { secret, previous_until }).await?;
        Ok(secret)
    }

    /// The events that a sink would not take, and those of the same subjects that wait behind them; newest first.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn dead_letters(&self, id: SinkId, request: &PageRequest) -> Result<Page<DeadLetter>, Error> {
        check_limit(request.limit)?;
        let parse = |cursor: &String| cursor.parse::<EventId>();
        let before = request.cursor.as_ref().map(parse).transpose();
        let before = before.map_err(|_| Error::invalid("cursor", "is not a cursor of this list"))?;
        let sink = self.0.find_sink(id).await?;
        let older = sink.dead_letters().rev().filter(|(event, _)| before.is_none_or(|before| *event < before));
        let found = older.take(request.limit + 1).map(|(event, parked)| (event, view_dead_letter(event, parked)));
        Ok(page(found.collect(), request.limit))
    }

    /// Gives a dead letter up: what waits behind it is delivered.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn drop_dead_letter(&self, id: SinkId, event: EventId) -> Result<(), Error> {
        self.change_sink(id, Command::Drop { event }).await.map(|_| ())
    }

    /// Sends dead letters again, all of them or one, and gives a disabled receiver another chance. Gives how many.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if the event is not a dead letter.
    pub async fn redrive(&self, id: SinkId, event: Option<EventId>) -> Result<u64, Error> {
        match self.change_sink(id, Command::Redrive { event }).await? {
            Reply::Redriven(count) => Ok(count),
            Reply::Done => Err(Error::Internal("the sink answered something else".into())),
        }
    }

    async fn change_sink(&self, id: SinkId, command: Command) -> Result<Reply, Error> {
        let _call = self.0.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.0.find_sink(id).await?;
        let reply = self.0.ask::<Sink>(&id, command).await?;
        self.0.deliveries.changed(id);
        Ok(reply)
    }

    /// The event of an id, as it was and will be published.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn event(&self, id: EventId) -> Result<Event, Error> {
        if id > EventId::end_of(self.0.system.env.journal.durable()) {
            return Err(Rejection::NotFound.into());
        }
        let batch = self.events(id.before(), EventFilter::ALL).next(1).await?;
        Ok(batch.events.into_iter().find(|event| event.id == id).ok_or(Rejection::NotFound)?)
    }
}

fn new_secret() -> Result<Secret, Error> {
    let mut secret = Secret([0; _]);
    getrandom::fill(&mut secret.0).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(secret)
}

fn view_dead_letter(event: EventId, parked: &Parked) -> DeadLetter {
    DeadLetter {
        event_id: event,
        event_type: parked.kind,
        subject: parked.subject.clone(),
        attempts: parked.attempts,
        last_response: parked.response.clone(),
    }
}

impl Inner {
    /// Registers a sink. For one caller at a time, or two would find the same number.
    async fn register(
        self: &Arc<Self>,
        receiver: Address,
        filter: EventFilter,
        start: Start,
    ) -> Result<(SinkId, Secret), Error> {
        let end = EventId::end_of(self.system.env.journal.durable());
        let after = match start {
            Start::Now => end,
            Start::Beginning => EventId::default(),
            Start::After(event) if event <= end => event,
            Start::After(_) => return Err(Error::invalid("start", "is after the last event")),
        };
        let (limit, already) = (self.config.limits.sinks, self.all_sinks().await?.len() as u64);
        if already >= limit {
            return Err(Rejection::LimitExceeded { limit, already }.into());
        }
        let last = self.read_rows(|replica| Ok(replica.sink_ids()?.last().copied())).await?;
        let id = SinkId(last.map_or(1, |last| last.0 + 1));
        let (registration, secret) = (Registration { receiver, filter, after }, new_secret()?);
        self.ask::<Sink>(&id, Command::Register { registration, secret }).await?;
        self.serve_webhook(id, &self.find_sink(id).await?);
        Ok((id, secret))
    }

    /// A sink as it is durable.
    pub(super) async fn find_sink(self: &Arc<Self>, id: SinkId) -> Result<Sink, Error> {
        let found = self.read_rows(move |replica| Ok(replica.sink(id)?.clone())).await?;
        Ok(Some(found).filter(|sink| sink.registration().is_some()).ok_or(Rejection::NotFound)?)
    }

    /// All sinks as they are durable, oldest first.
    pub(super) async fn all_sinks(self: &Arc<Self>) -> Result<Vec<(SinkId, Sink)>, Error> {
        self.read_rows(|replica| {
            let ids = replica.sink_ids()?;
            let sinks = ids.into_iter().map(|id| Ok((id, replica.sink(id)?.clone())));
            let there = |found: &Result<(SinkId, Sink), _>| {
                found.as_ref().map_or(true, |(_, sink)| sink.registration().is_some())
            };
            sinks.filter(there).collect()
        })
        .await
    }

    fn view_sink(&self, id: SinkId, sink: &Sink) -> Option<View> {
        let registration = sink.registration()?.clone();
        let progress = self.deliveries.progress(id);
        let passed = progress.as_ref().map_or(sink.cursor(), |progress| progress.passed);
        Some(View {
            id,
            registration,
            created_at: sink.created_at(),
            disabled: sink.disabled().map(ToOwned::to_owned),
            cursor: sink.cursor(),
            lag: self.system.env.journal.durable().0.saturating_sub(passed.lsn.0),
            parked: sink.parked().len() as u64,
            dead_letters: sink.dead_letters().count() as u64,
            deliveries: progress,
        })
    }
}
