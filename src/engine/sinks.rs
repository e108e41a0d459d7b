//! Sinks: who receives events, how far they have got, and what they would not take.

use std::sync::Arc;

use super::calls::{
    AttachSink, DropDeadLetter, GetSink, ListDeadLetters, ListSinks, Redrive, RegisterSink, RemoveSink, RotateSecret,
};
use super::{Engine, Inner, check_limit, page};
use crate::api::{Answered, DeadLetter, IdempotencyKey, Page, PageRequest, Sink as View};
use crate::domain::sink::{Command, Destination, Parked, Registration, Reply, Secret, Sink};
use crate::domain::{EventFilter, EventId, Flaw, Rejection, SinkId, Timestamp};
use crate::error::Error;
use crate::relay::{Event, Receiver, Settings};

/// Where a new sink begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
pub enum Start {
    /// With what happens from now on.
    #[n(0)]
    #[default]
    Now,
    /// With the oldest event.
    #[n(1)]
    Beginning,
    /// After this event.
    #[n(2)]
    After(#[n(0)] EventId),
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
        let id = match self.0.away() {
            None => decided!(self.0, self.0.attached_sink(name, filter, start)),
            Some(_) => self.0.ask_owner(AttachSink { name: name.to_owned(), filter, start }).await,
        };
        let id = id?;
        let _turn = self.0.deliveries.registering.lock().await;
        if self.0.deliver_to(id, &self.0.find_sink(id).await?, receiver, settings) {
            Ok(id)
        } else {
            Err(Error::invalid("name", "is attached already"))
        }
    }

    /// Ends the deliveries to a receiver of the host app's. The sink stays, and remembers how far it has got.
    pub async fn detach(&self, id: SinkId) {
        let inner = self.0.clone();
        let stop = async move {
            // Nobody attaches it anew before these deliveries have ended.
            let _turn = inner.deliveries.registering.lock().await;
            inner.deliveries.stop(id).await;
            Ok(())
        };
        // It fails only if the engine is gone, and its deliveries with it.
        let _ = self.0.to_the_end(stop).await;
    }

    /// Registers a receiver of events; gives its id, and the secret with which deliveries to it are signed.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] if there are as many as may be; [`Error::Invalid`].
    pub async fn register_sink(
        &self,
        receiver: Destination,
        filter: EventFilter,
        start: Start,
    ) -> Result<(SinkId, Secret), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.register_sink(receiver, filter, start)),
            Some(_) => self.0.ask_owner(RegisterSink { receiver, filter, start }).await,
        }
    }

    /// All sinks, newest first.
    ///
    /// # Errors
    /// A fault of the engine's.
    pub async fn sinks(&self) -> Result<Vec<View>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.sinks()),
            Some(_) => self.0.ask_owner(ListSinks {}).await,
        }
    }

    /// A sink.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn sink(&self, id: SinkId) -> Result<View, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.sink(id)),
            Some(_) => self.0.ask_owner(GetSink { id }).await,
        }
    }

    /// Ends a sink; nothing more is delivered to it, and its dead letters are gone.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn remove_sink(&self, id: SinkId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.remove_sink(id)),
            Some(_) => self.0.ask_owner(RemoveSink { id }).await,
        }
    }

    /// Signs deliveries with a new secret, and until `previous_until` with the old one too.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn rotate_secret(&self, id: SinkId, previous_until: Timestamp) -> Result<Secret, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.rotate_secret(id, previous_until)),
            Some(_) => self.0.ask_owner(RotateSecret { id, previous_until }).await,
        }
    }

    /// The events that a sink would not take, and those of the same subjects that wait behind them; newest first.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn dead_letters(&self, id: SinkId, request: &PageRequest) -> Result<Page<DeadLetter>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.dead_letters(id, request)),
            Some(_) => self.0.ask_owner(ListDeadLetters { id, request: request.clone() }).await,
        }
    }

    /// Gives a dead letter up: what waits behind it is delivered.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn drop_dead_letter(&self, id: SinkId, event: EventId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.drop_dead_letter(id, event)),
            Some(_) => self.0.ask_owner(DropDeadLetter { id, event }).await,
        }
    }

    /// Sends dead letters again, one or all of them (of more than 15,000 the oldest), and gives a disabled receiver another
    /// chance. Gives how many. It begins at once: what waits for its next attempt is not waited for either, nor is a pause
    /// of the breaker. Of that nothing is written down, and a crash forgets it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], and those of the idempotency key.
    pub async fn redrive(
        &self,
        id: SinkId,
        event: Option<EventId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<u64>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.redrive(id, event, key)),
            Some(_) => self.0.ask_owner(Redrive { id, event, key }).await,
        }
    }

    /// The event of an id, as it was and will be published.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn event(&self, id: EventId) -> Result<Event, Error> {
        match self.own_event(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.own_event(id).await,
            found => found,
        }
    }

    async fn own_event(&self, id: EventId) -> Result<Event, Error> {
        if id > EventId::end_of(self.0.node.journal.durable()) {
            return Err(Rejection::NotFound.into());
        }
        let mut events = self.events(EventId::default(), EventFilter::ALL);
        Ok(events.find(id).await?.ok_or(Rejection::NotFound)?)
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

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn register_sink(
        self: &Arc<Self>,
        receiver: Destination,
        filter: EventFilter,
        start: Start,
    ) -> Result<(SinkId, Secret), Error> {
        let inner = self.clone();
        let register = async move {
            let _call = inner.admit()?;
            let _turn = inner.deliveries.registering.lock().await;
            inner.register(receiver, filter, start).await
        };
        self.to_the_end(register).await
    }

    pub(in crate::engine) async fn sinks(self: &Arc<Self>) -> Result<Vec<View>, Error> {
        let (views, _) = self.look_at_sinks(view).await?;
        Ok(views.into_iter().rev().flatten().map(|view| self.with_progress(view)).collect())
    }

    pub(in crate::engine) async fn sink(self: &Arc<Self>, id: SinkId) -> Result<View, Error> {
        let view = self.look_at_sink(id, move |sink| view(id, sink)).await?;
        Ok(self.with_progress(view.ok_or(Rejection::NotFound)?))
    }

    pub(in crate::engine) async fn remove_sink(self: &Arc<Self>, id: SinkId) -> Result<(), Error> {
        self.change_sink(id, Command::Remove).await?;
        self.deliveries.stop(id).await;
        Ok(())
    }

    pub(in crate::engine) async fn rotate_secret(
        self: &Arc<Self>,
        id: SinkId,
        previous_until: Timestamp,
    ) -> Result<Secret, Error> {
        let secret = new_secret()?;
        self.change_sink(id, Command::RotateSecret { secret, previous_until }).await?;
        Ok(secret)
    }

    pub(in crate::engine) async fn dead_letters(
        self: &Arc<Self>,
        id: SinkId,
        request: &PageRequest,
    ) -> Result<Page<DeadLetter>, Error> {
        check_limit(request.limit)?;
        let parse = |cursor: &String| cursor.parse::<EventId>();
        let before = request.cursor.as_ref().map(parse).transpose();
        let before = before.map_err(|_| Error::invalid("cursor", "is not a cursor of this list"))?;
        let limit = request.limit;
        let find = move |sink: &Sink| {
            let older = sink.dead_letters().rev().filter(|(event, _)| before.is_none_or(|before| *event < before));
            let found = older.take(limit + 1).map(|(event, parked)| (event, view_dead_letter(event, parked)));
            found.collect()
        };
        Ok(page(self.look_at_sink(id, find).await?, limit))
    }

    pub(in crate::engine) async fn drop_dead_letter(self: &Arc<Self>, id: SinkId, event: EventId) -> Result<(), Error> {
        self.change_sink(id, Command::Drop { event }).await.map(|_| ())
    }

    pub(in crate::engine) async fn redrive(
        self: &Arc<Self>,
        id: SinkId,
        event: Option<EventId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<u64>, Error> {
        let request = self.request(key, None);
        match self.change_sink(id, Command::Redrive { event, request }).await? {
            Reply::Redriven { count, replayed } => {
                // There may have been nothing to change.
                self.certain().await.map_err(Self::after_the_first)?;
                Ok(Answered { value: count, replayed })
            }
            Reply::Done => Err(Error::Internal("the sink answered something else".into())),
        }
    }

    pub(in crate::engine) async fn change_sink(self: &Arc<Self>, id: SinkId, command: Command) -> Result<Reply, Error> {
        let inner = self.clone();
        let change = async move {
            let _call = inner.admit()?;
            // Or an actor would be woken for every number that somebody thinks of.
            inner.look_at_sink(id, |_| ()).await?;
            let redrives = if let Command::Redrive { event, .. } = command { Some(event) } else { None };
            let reply = inner.ask::<Sink>(&id, command).await?;
            match (redrives, &reply) {
                (Some(event), Reply::Redriven { replayed: false, .. }) => inner.deliveries.redriven(id, event),
                _ => inner.deliveries.changed(id),
            }
            Ok(reply)
        };
        self.to_the_end(change).await
    }

    /// The sink of this name, which is registered if there is none.
    pub(super) async fn attached_sink(
        self: &Arc<Self>,
        name: &str,
        filter: EventFilter,
        start: Start,
    ) -> Result<SinkId, Error> {
        let _call = self.admit()?;
        Flaw::refuse(Flaw::of_name("name", name))?;
        let _turn = self.deliveries.registering.lock().await;
        let address = Destination::Attached { name: name.to_owned() };
        let same = address.clone();
        let is_same = move |sink: &Sink| sink.registration().is_some_and(|known| known.receiver == same);
        let (known, _) = self.look_at_sinks(move |id, sink| is_same(sink).then_some(id)).await?;
        match known.into_iter().flatten().next() {
            Some(id) => self.certain().await.map(|()| id),
            None => self.register(address, filter, start).await.map(|(id, _)| id),
        }
    }

    /// Registers a sink. For one caller at a time, or two would find the same number.
    async fn register(
        self: &Arc<Self>,
        receiver: Destination,
        filter: EventFilter,
        start: Start,
    ) -> Result<(SinkId, Secret), Error> {
        let end = EventId::end_of(self.node.journal.durable());
        let after = match start {
            Start::Now => end,
            Start::Beginning => EventId::default(),
            Start::After(event) if event <= end => event,
            Start::After(_) => return Err(Error::invalid("start", "is after the last event")),
        };
        let (there, last) = self.look_at_sinks(|_, _| ()).await?;
        let (limit, already) = (self.config.limits.sinks, there.len() as u64);
        if already >= limit {
            return Err(Rejection::LimitExceeded { limit, already }.into());
        }
        let id = SinkId(last.0 + 1);
        let (registration, secret) = (Registration { receiver, filter, after }, new_secret()?);
        self.ask::<Sink>(&id, Command::Register { registration, secret }).await?;
        self.serve_webhook(id, &self.find_sink(id).await?);
        Ok((id, secret))
    }

    /// A sink as it is durable.
    async fn find_sink(self: &Arc<Self>, id: SinkId) -> Result<Sink, Error> {
        let shared = self.read(|replica| Ok(replica.share::<Sink>(&id)?.0)).await?;
        // It may have many parked events: to copy them is nothing for the replica's lock.
        let sink = Sink::clone(&shared);
        Ok(sink.registration().is_some().then_some(sink).ok_or(Rejection::NotFound)?)
    }

    /// A sink once everything that it was told before is durable: what its next deliveries are to begin with.
    pub(super) async fn settled_sink(self: &Arc<Self>, id: SinkId) -> Result<Sink, Error> {
        // It changes nothing, and is answered after all the others.
        self.ask_from_inside::<Sink>(&id, Command::Advance { cursor: EventId::default() }).await?;
        self.find_sink(id).await
    }

    /// Looks at a sink as it is durable.
    async fn look_at_sink<T: Send>(
        self: &Arc<Self>,
        id: SinkId,
        look: impl Fn(&Sink) -> T + Send + Sync,
    ) -> Result<T, Error> {
        let found = self.read(|replica| {
            let sink = replica.sink(id)?;
            Ok(sink.registration().is_some().then(|| look(sink)))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// Looks at all sinks as they are durable, oldest first; also gives the number that was given last, 0 if none was. The
    /// replica is held for one of them at a time: they may be many, with many parked events each.
    pub(super) async fn look_at_sinks<T: Send>(
        self: &Arc<Self>,
        look: impl Fn(SinkId, &Sink) -> T + Send + Sync,
    ) -> Result<(Vec<T>, SinkId), Error> {
        self.up_to_date().await?;
        let (mut found, mut last) = (Vec::new(), SinkId(0));
        loop {
            // Numbers are given one after the other, and stay known.
            let id = SinkId(last.0 + 1);
            let one = self.look(|replica| {
                let sink = replica.sink(id)?;
                Ok(sink.is_known().then(|| sink.registration().map(|_| look(id, sink))))
            });
            let Some(one) = one.await? else { return Ok((found, last)) };
            found.extend(one);
            last = id;
        }
    }

    /// Adds what is of the moment.
    fn with_progress(&self, view: View) -> View {
        let deliveries = self.deliveries.progress(view.id);
        let passed = deliveries.as_ref().map_or(view.cursor, |progress| progress.passed);
        let lag = self.node.journal.durable().0.saturating_sub(passed.lsn.0);
        View { lag, deliveries, ..view }
    }
}

/// What is durable of a sink; `None` if it is not there (any more).
fn view(id: SinkId, sink: &Sink) -> Option<View> {
    Some(View {
        id,
        registration: sink.registration()?.clone(),
        created_at: sink.created_at(),
        disabled: sink.disabled().map(ToOwned::to_owned),
        cursor: sink.cursor(),
        lag: 0,
        parked: sink.parked().len() as u64,
        dead_letters: sink.dead_letters().count() as u64,
        deliveries: None,
    })
}
