//! Seats and places that are taken off sale, and put back on it.

use std::sync::Arc;

use super::calls::{Block, BlockSeats, Unblock, UnblockSeats};
use super::options::{flaw_of_withdrawn, name_conflicts, resolve_seats};
use super::reservations::resolve_areas;
use super::{Engine, Inner};
use crate::api::{Answered, Blocks, IdempotencyKey};
use crate::domain::concert_option::{self, Command, ConcertOption, Portion, PricedPlan, Reply, SeatRefs};
use crate::domain::idempotency::Request;
use crate::domain::seating_plan::SeatingPlan;
use crate::domain::{Flaw, OptionId, UserId};
use crate::error::Error;

impl Engine {
    /// Takes free seats off sale, all of them or none; those that are blocked already stay so. Gives their ids.
    ///
    /// # Errors
    /// As [`block`](Self::block).
    pub async fn block_seats(
        &self,
        id: OptionId,
        seats: Vec<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.block_seats(id, seats, None, key)),
            Some(_) => self.0.ask_owner(BlockSeats { id, seats, key, by: None }).await,
        }
    }

    /// Puts blocked seats back on sale; others stay as they are. Gives their ids.
    ///
    /// # Errors
    /// As [`unblock`](Self::unblock).
    pub async fn unblock_seats(
        &self,
        id: OptionId,
        seats: Vec<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.unblock_seats(id, seats, None, key)),
            Some(_) => self.0.ask_owner(UnblockSeats { id, seats, key, by: None }).await,
        }
    }

    /// Takes free seats, and so many more places of areas, off sale: all that is named, or nothing. Seats that are blocked already stay so.
    /// Gives what was asked for.
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound); [`Error::Invalid`] if nothing is named, or something twice, or a zone, row or area is
    /// not there; [`Error::UnknownSeats`]; [`Error::SeatsUnavailable`] if some seats are held or sold, and
    /// [`NotEnoughSeats`](crate::Rejection::NotEnoughSeats) if an area has not so many free places; and those of the idempotency key.
    pub async fn block(
        &self,
        id: OptionId,
        blocks: Blocks,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Blocks>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.block(id, blocks, Some(by.clone()), key)),
            Some(_) => self.0.ask_owner(Block { id, blocks, by: by.clone(), key }).await,
        }
    }

    /// Puts blocked seats, and so many of the blocked places of areas, back on sale: all that is named, or nothing. Other seats stay as they
    /// are. Gives what was asked for.
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound); [`Error::Invalid`] if nothing is named, or something twice, or a zone, row or area is
    /// not there; [`Error::UnknownSeats`]; [`NotEnoughSeats`](crate::Rejection::NotEnoughSeats) if not so many places of an area are
    /// blocked; and those of the idempotency key.
    pub async fn unblock(
        &self,
        id: OptionId,
        blocks: Blocks,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Blocks>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.unblock(id, blocks, Some(by.clone()), key)),
            Some(_) => self.0.ask_owner(Unblock { id, blocks, by: by.clone(), key }).await,
        }
    }
}

/// What this node decides itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn block_seats(
        self: &Arc<Self>,
        id: OptionId,
        seats: Vec<String>,
        by: Option<UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        self.block(id, Blocks { seats, ..Blocks::default() }, by, key).await.map(its_seats)
    }

    pub(in crate::engine) async fn unblock_seats(
        self: &Arc<Self>,
        id: OptionId,
        seats: Vec<String>,
        by: Option<UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        self.unblock(id, Blocks { seats, ..Blocks::default() }, by, key).await.map(its_seats)
    }

    pub(in crate::engine) async fn block(
        self: &Arc<Self>,
        id: OptionId,
        blocks: Blocks,
        by: Option<UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Blocks>, Error> {
        self.change_blocks(id, blocks, (by, key), |blocks, request| Command::Block { blocks, request }).await
    }

    pub(in crate::engine) async fn unblock(
        self: &Arc<Self>,
        id: OptionId,
        blocks: Blocks,
        by: Option<UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Blocks>, Error> {
        self.change_blocks(id, blocks, (by, key), |blocks, request| Command::Unblock { blocks, request }).await
    }

    async fn change_blocks(
        self: &Arc<Self>,
        id: OptionId,
        blocks: Blocks,
        (by, key): (Option<UserId>, Option<IdempotencyKey>),
        command: impl FnOnce(Box<concert_option::Blocks>, Request) -> Command,
    ) -> Result<Answered<Blocks>, Error> {
        let _call = self.admit()?;
        let plan = self.offer(id).await?;
        let (part, reason) = (resolve(&plan, &blocks)?, blocks.reason.clone());
        let refused = flaw_of_withdrawn(&plan.plan, &part.seats);
        let command = command(Box::new(concert_option::Blocks { part, reason, by }), self.request(key, refused));
        let reply = self.ask::<ConcertOption>(&id, command).await.map_err(|error| name_conflicts(&plan, error))?;
        let replayed = matches!(reply, Reply::Replayed(_));
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        Ok(Answered { value: blocks, replayed })
    }
}

fn its_seats(answered: Answered<Blocks>) -> Answered<Vec<String>> {
    Answered { value: answered.value.seats, replayed: answered.replayed }
}

/// Finds what is to be blocked in the plan, by its names. What else may be wrong with it is for the option to say.
fn resolve(plan: &PricedPlan, blocks: &Blocks) -> Result<Portion, Error> {
    let Blocks { seats, zones, rows, areas, .. } = blocks;
    let mut refs = resolve_seats(&plan.plan, seats)?;
    let areas = resolve_areas(plan, "areas", areas)?;
    if !zones.is_empty() || !rows.is_empty() {
        let twice = Flaw::of_twice("seats", "", seats)
            .or_else(|| Flaw::of_twice("zones", "", zones))
            .or_else(|| Flaw::of_twice("rows", "", rows));
        Flaw::refuse(twice)?;
        refs.extend(in_zones(&plan.plan, zones)?);
        refs.extend(in_rows(&plan.plan, rows)?);
        // A seat may be named by itself, by its row and by its zone.
        refs.sort_unstable();
        refs.dedup();
    }
    Ok(Portion { seats: refs, areas })
}

/// All seats of all zones of these names.
fn in_zones(plan: &SeatingPlan, zones: &[String]) -> Result<SeatRefs, Error> {
    let mut refs = SeatRefs::new();
    for (index, name) in zones.iter().enumerate() {
        let named = plan.zones().iter().filter(|zone| *zone.name == **name);
        let places = named.map(|zone| zone.places.clone()).collect::<Vec<_>>();
        if places.is_empty() {
            return Err(Error::invalid(format!("zones[{index}]"), "is not a zone of this plan"));
        }
        refs.extend(places.into_iter().flatten().map(|place| plan.seat_at(place)));
    }
    Ok(refs)
}

/// All seats of all rows of these names, each in the zones of a name.
fn in_rows(plan: &SeatingPlan, rows: &[(String, String)]) -> Result<SeatRefs, Error> {
    let mut refs = SeatRefs::new();
    for (index, (zone, name)) in rows.iter().enumerate() {
        let zone_of = |row: u32| &*plan.zones()[row as usize].name;
        let named = plan.rows().iter().filter(|row| *row.name == **name && zone_of(row.zone) == zone);
        let places = named.map(|row| row.places.clone()).collect::<Vec<_>>();
        if places.is_empty() {
            return Err(Error::invalid(format!("rows[{index}]"), "is not a row of this plan"));
        }
        refs.extend(places.into_iter().flatten().map(|place| plan.seat_at(place)));
    }
    Ok(refs)
}
