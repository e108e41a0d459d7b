//! Seats and places with what each of them costs: what a reservation has, what is given back of it, and what is taken in exchange.

use serde::Serialize;
use smallvec::SmallVec;

use super::{AreaPlaces, PricedPlan, SeatRefs};
use crate::domain::{Flaw, Points, cbor};

/// What each seat and place costs: of the seats in their order, then of one place of each area in theirs; only one, if all
/// cost the same. None: they were not kept (holds of before), and are those of the option's definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Prices(SmallVec<[Points; 1]>);

impl Prices {
    /// Whether they were not kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The price at this place in the list, if they were kept.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Points> {
        if self.0.len() == 1 { self.0.first() } else { self.0.get(index) }.copied()
    }
}

impl FromIterator<Points> for Prices {
    fn from_iter<I: IntoIterator<Item = Points>>(prices: I) -> Self {
        let mut prices = prices.into_iter();
        let Some(first) = prices.next() else { return Self::default() };
        let (mut list, mut same) = (SmallVec::from_buf([first]), 1);
        for price in prices {
            if list.len() == 1 && price == first {
                same += 1;
                continue;
            }
            if list.len() == 1 {
                list.extend(std::iter::repeat_n(first, same - 1));
            }
            list.push(price);
        }
        Self(list)
    }
}

impl<C> minicbor::Encode<C> for Prices {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        cbor::small::encode(&self.0, e, ctx)
    }

    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Prices {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            return Ok(Self::default());
        }
        cbor::small::decode(d, ctx).map(Self)
    }

    fn nil() -> Option<Self> {
        Some(Self::default())
    }
}

/// Some seats and places, and what they cost. Of one area there may be several lots of places, at different prices.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Lot {
    /// The seats, by their places in the plan.
    #[n(0)]
    #[cbor(with = "cbor::small")]
    pub seats: SeatRefs,
    /// Places in areas.
    #[n(1)]
    #[cbor(with = "cbor::small")]
    pub areas: SmallVec<[AreaPlaces; 1]>,
    /// What each costs.
    #[n(2)]
    pub prices: Prices,
}

impl Lot {
    /// These, at the prices of today.
    #[must_use]
    pub fn at_todays_prices(plan: &PricedPlan, seats: SeatRefs, areas: SmallVec<[AreaPlaces; 1]>) -> Self {
        let prices = todays_prices(plan, &seats, &areas);
        Self { seats, areas, prices }
    }

    /// These, as they were priced at first.
    #[must_use]
    pub fn at_first_prices(plan: &PricedPlan, seats: SeatRefs, areas: SmallVec<[AreaPlaces; 1]>) -> Self {
        let prices = seats.iter().map(|seat| plan.first_seat_price(*seat));
        let prices = prices.chain(areas.iter().map(|place| plan.first_area_price(place.area))).collect();
        Self { seats, areas, prices }
    }

    /// The same for nothing.
    #[must_use]
    pub fn for_nothing(self) -> Self {
        Self { prices: [Points::ZERO].into_iter().collect(), ..self }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.areas.is_empty()
    }

    /// How many seats and places.
    #[must_use]
    pub fn places(&self) -> u32 {
        // At most some thousand.
        self.seats.len() as u32 + self.areas.iter().map(|area| area.count).sum::<u32>()
    }

    /// What one seat, or one place of an area behind the seats, costs.
    fn price(&self, index: usize) -> Points {
        self.prices.get(index).unwrap_or(Points::ZERO)
    }

    /// What all of it costs, or `None` if that is more than there can be.
    #[must_use]
    pub fn amount(&self) -> Option<Points> {
        let seats = (0..self.seats.len()).map(|index| Some(self.price(index)));
        let area = |(index, area): (usize, &AreaPlaces)| self.price(index).checked_mul(area.count.into());
        let areas = (self.seats.len()..).zip(&self.areas).map(area);
        seats.chain(areas).try_fold(Points::ZERO, |sum, price| sum.checked_add(price?))
    }

    /// A part of it, and what is left then. Of places in an area those that were taken last go first.
    ///
    /// # Errors
    /// What of the part is not in it; `seats` and `areas` are the names of the lists.
    pub fn split(
        &self,
        (seats, areas): (&[u32], &[AreaPlaces]),
        (seats_field, areas_field): (&str, &str),
    ) -> Result<(Self, Self), Flaw> {
        let (mut part, mut rest) = (Draft::default(), Draft::default());
        if let Some(index) = seats.iter().position(|seat| !self.seats.contains(seat)) {
            return Err(Flaw::new(format!("{seats_field}[{index}]"), "is not one of this reservation's seats"));
        }
        for (index, seat) in self.seats.iter().enumerate() {
            let whose = if seats.contains(seat) { &mut part } else { &mut rest };
            whose.seats.push((*seat, self.price(index)));
        }
        let mut wanted: SmallVec<[AreaPlaces; 4]> = areas.into();
        for (index, area) in self.areas.iter().enumerate().rev() {
            let want = wanted.iter_mut().find(|want| want.area == area.area);
            let given = want.map_or(0, |want| {
                let given = want.count.min(area.count);
                want.count -= given;
                given
            });
            let price = self.price(self.seats.len() + index);
            part.area(AreaPlaces { count: given, ..*area }, price);
            rest.area(AreaPlaces { count: area.count - given, ..*area }, price);
        }
        if let Some(index) = wanted.iter().position(|want| want.count > 0) {
            return Err(Flaw::new(format!("{areas_field}[{index}].count"), "is more than this reservation has"));
        }
        // They were looked through from the last one on.
        part.areas.reverse();
        rest.areas.reverse();
        Ok((part.into(), rest.into()))
    }

    /// All of it, and this.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut all = Draft::default();
        for lot in [self, other] {
            all.seats.extend(lot.seats.iter().enumerate().map(|(index, seat)| (*seat, lot.price(index))));
            for (index, area) in (lot.seats.len()..).zip(&lot.areas) {
                all.merge(*area, lot.price(index));
            }
        }
        all.into()
    }
}

/// What seats and places cost today.
pub(super) fn todays_prices(plan: &PricedPlan, seats: &[u32], areas: &[AreaPlaces]) -> Prices {
    let seats = seats.iter().map(|seat| plan.seat_price(*seat));
    seats.chain(areas.iter().map(|place| plan.area_price(place.area))).collect()
}

/// A lot that is put together.
#[derive(Default)]
struct Draft {
    seats: SmallVec<[(u32, Points); 4]>,
    areas: SmallVec<[(AreaPlaces, Points); 2]>,
}

impl Draft {
    fn area(&mut self, places: AreaPlaces, price: Points) {
        if places.count > 0 {
            self.areas.push((places, price));
        }
    }

    /// Places of one area at one price stand together.
    fn merge(&mut self, places: AreaPlaces, price: Points) {
        match self.areas.iter_mut().find(|(known, at)| known.area == places.area && *at == price) {
            Some((known, _)) => known.count += places.count,
            None => self.area(places, price),
        }
    }
}

impl From<Draft> for Lot {
    fn from(draft: Draft) -> Self {
        let prices = draft.seats.iter().map(|(_, price)| *price).chain(draft.areas.iter().map(|(_, price)| *price));
        Self {
            prices: prices.collect(),
            seats: draft.seats.iter().map(|(seat, _)| *seat).collect(),
            areas: draft.areas.iter().map(|(area, _)| *area).collect(),
        }
    }
}
