//! The house of a simulated world, and the plans that it is sold by, one after the other.

use std::sync::Arc;

use crate::domain::concert_option::{Definition, NewPlan, PricedPlan};
use crate::domain::seating_plan::{Limits, PlanHash, SeatingPlan};

/// A hall of one row, of which there are several plans.
pub(in crate::testing) struct House {
    plans: Vec<SeatingPlan>,
}

impl House {
    /// How many plans there are. The first has so many seats, others lack some of them, and have some more.
    pub const VARIANTS: u8 = 5;

    /// One of so many seats.
    pub fn of(seats: u64) -> Self {
        Self { plans: (0..Self::VARIANTS).map(|variant| plan(seats, variant.into())).collect() }
    }

    /// What stands for the hash of a plan.
    pub fn hash(variant: u8) -> PlanHash {
        PlanHash([variant; 32])
    }

    /// The present plan of an option, or one of those before it.
    pub fn of_option(&self, definition: &Definition, former: Option<u32>) -> Arc<SeatingPlan> {
        let all = definition.former_plans();
        let (before, last) = match former {
            None => (all, definition.plan),
            Some(index) => (&all[..index as usize], all[index as usize]),
        };
        let mut plans = before.iter().copied().chain([last]).map(|hash| self.plans[usize::from(hash.0[0])].clone());
        let first = Arc::new(plans.next().expect("an option has a plan"));
        plans.fold(first, |before, plan| Arc::new(plan.after(&before)))
    }

    /// A plan that is to follow that of an option, as the engine checks it.
    pub fn after(&self, variant: u8, offer: &PricedPlan) -> NewPlan {
        let hash = Self::hash(variant);
        let next = (hash != offer.definition.plan).then(|| self.plans[usize::from(variant)].clone().after(&offer.plan));
        let plan = next.as_ref().unwrap_or(&offer.plan);
        NewPlan {
            plan: hash,
            seat_count: plan.numbers(),
            withdrawn: plan.numbers() - plan.len(),
            not_for_sale: plan.not_for_sale().collect(),
            prices: Vec::new(),
            accessible: None,
            focus: None,
        }
    }
}

fn plan(seats: u64, variant: u64) -> SeatingPlan {
    let category = |no: u64| if variant == 4 && no == 2 { "" } else { "A" };
    let seat = |no: u64| format!(r#"{{"seat_guid":"{no}","seat_number":"{no}","category":"{}"}}"#, category(no));
    let last = seats + variant % 3;
    let mut all: Vec<_> = (1..=last).filter(|no| variant == 0 || !(no + variant).is_multiple_of(5)).map(seat).collect();
    if variant % 2 == 1 {
        all.reverse();
    }
    let json = format!(
        r#"{{"name":"House","categories":[{{"name":"A"}}],"zones":[{{"name":"Hall","rows":[{{"row_number":"1","seats":[{}]}}]}}]}}"#,
        all.join(",")
    );
    SeatingPlan::parse(json.as_bytes(), &Limits::default()).expect("a plan of one row")
}
