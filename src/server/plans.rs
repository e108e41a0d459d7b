//! Seating plans with prices, as they are sent: made once of each plan, for all options that share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::{OnceCell, Semaphore};

use super::bodies::{Backlog, Kept, Piece, Rope};
use super::problem::{Code, Problem};
use super::ready::{Coding, Packed};
use super::recent::Recent;
use super::{App, apart};
use crate::domain::OptionId;
use crate::domain::concert_option::{Price, PricedPlan};
use crate::domain::seating_plan::PlanHash;

/// The plans that were asked for last.
pub(super) struct ReadyPlans {
    plans: Recent<PlanHash, Arc<OnceCell<ReadyPlan>>>,
    backlog: Arc<Backlog>,
    /// One plan is made at a time: each takes several times its size while it is.
    making: Arc<Semaphore>,
}

/// A plan up to its last brace, in both forms.
struct ReadyPlan {
    plain: Kept,
    blocks: Kept,
    packed: Packed,
    /// It has no members.
    is_empty: bool,
}

impl ReadyPlans {
    /// Keeps `most` of them, and `bytes_max`; what is still being read of others is counted in `backlog`.
    pub(super) fn new(most: usize, bytes_max: usize, backlog: &Arc<Backlog>) -> Self {
        Self { plans: Recent::new(most, bytes_max), backlog: backlog.clone(), making: Arc::new(Semaphore::new(1)) }
    }

    /// The plan of an option, with its prices.
    pub(super) async fn get(&self, app: &App, id: OptionId, coding: Coding) -> Result<Rope, Problem> {
        let offer = app.engine.plan(id).await?;
        self.of(app, &offer, coding).await
    }

    /// The plan of an option as it is, or was, with its prices.
    pub(super) async fn of(&self, app: &App, offer: &PricedPlan, coding: Coding) -> Result<Rope, Problem> {
        let shared = self.plans.get(offer.definition.plan);
        let make = || async {
            let plan = self.make(app, offer.definition.plan).await?;
            self.plans.weigh(&offer.definition.plan, plan.bytes());
            Ok::<_, Problem>(plan)
        };
        let plan = shared.get_or_try_init(make).await?;
        let end = plan.end(&offer.definition.prices).map_err(|error| unreadable(&error))?;
        let (begin, end) = match coding {
            Coding::Identity => (&plan.plain, end),
            Coding::Gzip => (&plan.blocks, plan.packed.tail(&end)),
        };
        let mut rope = Rope::from(begin.piece().clone());
        rope.push(Piece::new(end), 0);
        Ok(rope)
    }

    async fn make(&self, app: &App, hash: PlanHash) -> Result<ReadyPlan, Problem> {
        // It is never closed.
        let turn = self.making.clone().acquire_owned().await;
        let plan = app.engine.stored_plan(hash).await?;
        let backlog = self.backlog.clone();
        let make = move || {
            // Until it is made, even if whoever asked has gone.
            let _turn = turn;
            ReadyPlan::new(&plan, &backlog)
        };
        apart(make).await?.map_err(|error| unreadable(&error))
    }
}

impl ReadyPlan {
    fn new(plan: &[u8], backlog: &Arc<Backlog>) -> serde_json::Result<Self> {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(plan)?;
        members.remove("prices");
        let mut plain = serde_json::to_vec(&members)?;
        plain.pop();
        plain.shrink_to_fit();
        let mut packed = Packed::new(&plain);
        let kept = |bytes: Vec<u8>| Kept::new(Piece::new(bytes), backlog);
        Ok(Self { plain: kept(plain), blocks: kept(packed.take_blocks()), packed, is_empty: members.is_empty() })
    }

    /// How many bytes it takes.
    fn bytes(&self) -> usize {
        self.plain.piece().len() + self.blocks.piece().len()
    }

    /// `prices`, and the last brace; a member of that name that the plan had is not shown.
    fn end(&self, prices: &[Price]) -> serde_json::Result<Vec<u8>> {
        let prices: BTreeMap<_, _> = prices.iter().map(|price| (&price.category, price.points)).collect();
        let mut end = if self.is_empty { Vec::new() } else { b",".to_vec() };
        end.extend(b"\"prices\":");
        serde_json::to_writer(&mut end, &prices)?;
        end.push(b'}');
        Ok(end)
    }
}

fn unreadable(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a stored plan cannot be read");
    Problem::new(Code::Internal, "The server's log has more.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::body::to_bytes;
    use actix_web::web;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::Points;
    use crate::engine::Engine;
    use crate::server::config::Settings;
    use crate::{NewConcert, NewOption, RoomSettings};

    /// A plan with so many seats in a row.
    fn plan(seats: usize) -> Value {
        let seat = |n: usize| json!({"seat_guid": n.to_string(), "category": "A", "position": {"x": n, "y": 0}});
        let rows = json!([{"row_number": "1", "seats": (0..seats).map(seat).collect::<Vec<_>>()}]);
        json!({"name": "Hall", "categories": [{"name": "A"}], "zones": [{"name": "Z", "rows": rows}]})
    }

    #[actix_web::test]
    async fn plans_and_seats_are_kept_up_to_their_bytes_and_larger_ones_are_served_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        (settings.http.cached_plans_bytes, settings.http.cached_seats_bytes) = (60_000, 6_000);
        let engine = Engine::open(settings.engine()).await.unwrap();
        let app = web::Data::new(App::new(engine.clone(), settings).unwrap());
        let concert = NewConcert { title: "A".into(), waiting_room: RoomSettings::default() };
        let concert = engine.create_concert(concert, None).await.unwrap().value.id;
        let mut options = Vec::new();
        // The last one has more than all may have.
        for seats in [100, 101, 102, 103, 104, 105, 106, 107, 2_000] {
            let prices = [("A".to_owned(), Points::ZERO)].into();
            let starts_at = engine.now().plus_millis(1 << 32);
            let option = NewOption { prices, ..NewOption::new(starts_at, plan(seats).to_string().into_bytes()) };
            let id = engine.add_option(concert, option, None).await.unwrap().value.id;
            engine.block_seats(id, (0..seats.min(1_000)).map(|n| n.to_string()).collect(), None).await.unwrap();
            options.push((id, seats));
        }
        let (mut plans, mut seats_kept) = (0, 0);
        for round in 0..3 {
            for (id, seats) in &options {
                let rope = app.plans.get(&app, *id, Coding::Identity).await.unwrap();
                let (_, taken) = app.seats.get(&app, *id).await.unwrap();
                let sent: Value = serde_json::from_slice(&to_bytes(rope).await.unwrap()).unwrap();
                assert_eq!(sent["zones"], plan(*seats)["zones"], "round {round}");
                let taken: Value = serde_json::from_slice(&to_bytes(taken).await.unwrap()).unwrap();
                assert_eq!(taken["seats"].as_object().unwrap().len(), (*seats).min(1_000), "round {round}");
                let now = (app.plans.plans.bytes(), app.seats.bytes());
                assert!(now.0 <= 60_000 && now.1 <= 6_000, "{now:?}");
                (plans, seats_kept) = (plans.max(now.0), seats_kept.max(now.1));
            }
        }
        assert!(plans > 30_000 && seats_kept > 3_000, "too little is kept: {plans}, {seats_kept}");
        engine.shutdown().await.unwrap();
    }

    #[test]
    fn prices_stand_at_the_end_whatever_the_plan_has() {
        let backlog = Backlog::new(1 << 20, Duration::ZERO);
        let prices = [Price { category: "A \"best\"".into(), points: Points::ZERO }];
        for (plan, expected) in [
            (json!({}), json!({"prices": {"A \"best\"": 0}})),
            (
                json!({"zones": [], "prices": 7, "a": {"b": "}"}}),
                json!({"zones": [], "a": {"b": "}"}, "prices": {"A \"best\"": 0}}),
            ),
        ] {
            let ready = ReadyPlan::new(plan.to_string().as_bytes(), &backlog).unwrap();
            let text = [ready.plain.piece().as_ref(), &ready.end(&prices).unwrap()].concat();
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
        }
    }
}
