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
use crate::domain::concert_option::Price;
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
    /// Keeps `most` of them; what is still being read of others is counted in `backlog`.
    pub(super) fn new(most: usize, backlog: &Arc<Backlog>) -> Self {
        Self { plans: Recent::new(most), backlog: backlog.clone(), making: Arc::new(Semaphore::new(1)) }
    }

    /// The plan of an option, with its prices.
    pub(super) async fn get(&self, app: &App, id: OptionId, coding: Coding) -> Result<Rope, Problem> {
        let offer = app.engine.plan(id).await?;
        let shared = self.plans.get(offer.definition.plan);
        let plan = shared.get_or_try_init(|| self.make(app, id)).await?;
        let end = plan.end(&offer.definition.prices).map_err(|error| unreadable(&error))?;
        let (begin, end) = match coding {
            Coding::Identity => (&plan.plain, end),
            Coding::Gzip => (&plan.blocks, plan.packed.tail(&end)),
        };
        let mut rope = Rope::from(begin.piece().clone());
        rope.push(Piece::new(end), 0);
        Ok(rope)
    }

    async fn make(&self, app: &App, id: OptionId) -> Result<ReadyPlan, Problem> {
        // It is never closed.
        let turn = self.making.clone().acquire_owned().await;
        let plan = app.engine.plan_json(id).await?;
        let backlog = self.backlog.clone();
        let make = move || {
            // Until it is made, even if whoever asked has gone.
            let _turn = turn;
            ReadyPlan::new(&plan.json, &backlog)
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
        let mut packed = Packed::new(&plain);
        let kept = |bytes: Vec<u8>| Kept::new(Piece::new(bytes), backlog);
        Ok(Self { plain: kept(plain), blocks: kept(packed.take_blocks()), packed, is_empty: members.is_empty() })
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

    use serde_json::{Value, json};

    use super::*;
    use crate::domain::Points;

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
