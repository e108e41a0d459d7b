//! Seats as they are sent to whoever asks for them: kept in pieces, of which those are written anew that have changed.
//! All who ask at the same seq get the same bytes.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::bodies::{Backlog, Kept, Piece, Rope};
use super::problem::{Code, Problem};
use super::recent::Recent;
use super::{App, apart};
use crate::api::{Object, area_seats, seat_status_name};
use crate::domain::concert_option::PricedPlan;
use crate::domain::seat_map::Status;
use crate::domain::{Lsn, OptionId};
use crate::engine::SeatPieces;

/// Seats of a piece: some ten KiB where all of them are taken.
const PIECE_SEATS: u32 = 512;
/// What a piece takes beside its entries, about.
const PIECE_OVERHEAD_BYTES: usize = 128;
/// More pieces than these, some 100 us of work, are written on a thread for it.
const PIECES_AT_ONCE: usize = 4;

/// The options that were asked for last.
pub(super) struct ReadySeats {
    options: Recent<OptionId, Arc<Mutex<Option<Written>>>>,
    backlog: Arc<Backlog>,
}

impl ReadySeats {
    /// Keeps `most` of them, and `bytes_max`; what is still being read of what is no longer true is counted in `backlog`.
    pub(super) fn new(most: usize, bytes_max: usize, backlog: &Arc<Backlog>) -> Self {
        Self { options: Recent::new(most, bytes_max), backlog: backlog.clone() }
    }

    /// How many bytes are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.options.bytes()
    }

    /// The seats of an option, all of what any caller was told before, and the lsn of their last change.
    pub(super) async fn get(&self, app: &App, id: OptionId) -> Result<(Lsn, Rope), Problem> {
        // What does not exist is not kept.
        app.engine.plan(id).await?;
        let shared = self.options.get(id);
        let mut written = shared.lock().await;
        let after = written.as_ref().map(|written| written.seq);
        let mut changed = app.engine.seats_after(id, after, PIECE_SEATS).await?;
        if changed.as_ref().is_some_and(|now| written.as_ref().is_some_and(|before| !before.is_of(&now.plan))) {
            // All of them: some may be withdrawn in which nothing has changed.
            *written = None;
            changed = app.engine.seats_after(id, None, PIECE_SEATS).await?;
        }
        if let Some(changed) = changed {
            let is_little = changed.pieces.len() <= PIECES_AT_ONCE;
            let (before, backlog) = (written.take(), self.backlog.clone());
            let write = move || Written::new(before, changed, &backlog);
            let now = if is_little { write() } else { apart(write).await? };
            let now = now.map_err(|error| {
                tracing::error!(%error, "the seats cannot be written");
                Problem::new(Code::Internal, "The server's log has more.")
            })?;
            self.options.weigh(&id, now.bytes());
            *written = Some(now);
        }
        written.as_ref().map(|written| (written.seq, written.all.clone())).ok_or_else(Problem::not_found)
    }
}

/// The seats of an option at one seq.
struct Written {
    seq: Lsn,
    plan: Arc<PricedPlan>,
    all: Rope,
    /// The entries of seats that are taken, each with a comma before it.
    pieces: Vec<Kept>,
}

impl Written {
    fn new(before: Option<Self>, changed: SeatPieces, backlog: &Arc<Backlog>) -> serde_json::Result<Self> {
        let SeatPieces { seq, pieces: changes, areas, plan } = changed;
        let mut pieces = before.map_or_else(Vec::new, |before| before.pieces);
        let nothing = || Kept::new(Piece::new(Vec::new()), backlog);
        pieces.resize_with(plan.plan.numbers().div_ceil(PIECE_SEATS) as usize, nothing);
        for (number, seats) in changes {
            let seats = seats.into_iter().zip(number * PIECE_SEATS..);
            let seats = seats.filter(|(_, seat)| !plan.plan.is_withdrawn(*seat));
            let piece = entries(seats.map(|(status, seat)| (plan.plan.seat(seat).guid, status)))?;
            pieces[number as usize] = Kept::new(Piece::new(piece), backlog);
        }
        let mut all = Rope::default();
        all.push(Piece::new(format!("{{\"option_id\":\"{}\",\"seq\":{seq},\"seats\":{{", plan.option)), 0);
        let mut comma = 1;
        for piece in pieces.iter().map(Kept::piece).filter(|piece| !piece.is_empty()) {
            all.push(piece.clone(), comma);
            comma = 0;
        }
        let areas = serde_json::to_string(&Object(|| area_seats(&plan, &areas)))?;
        all.push(Piece::new(format!("}},\"areas\":{areas}}}")), 0);
        Ok(Self { seq, plan, all, pieces })
    }

    /// Whether it is of the seats of this plan.
    fn is_of(&self, plan: &PricedPlan) -> bool {
        self.plan.definition.has_places_of(&plan.definition)
    }

    /// How many bytes it takes: those that are sent, and what stands around each piece.
    fn bytes(&self) -> usize {
        self.all.bytes() + self.pieces.len() * PIECE_OVERHEAD_BYTES
    }
}

fn entries<'a>(seats: impl Iterator<Item = (&'a str, Status)>) -> serde_json::Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (guid, status) in seats.filter(|(_, status)| *status != Status::Free) {
        entries.push(b',');
        serde_json::to_writer(&mut entries, guid)?;
        entries.extend(b":\"");
        entries.extend(seat_status_name(status).as_bytes());
        entries.push(b'"');
    }
    entries.shrink_to_fit();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::web;

    use super::*;
    use crate::engine::Engine;
    use crate::server::config::Settings;
    use crate::testing::plans;
    use crate::{NewConcert, NewOption, Points};

    /// Seats in three pieces, and a short one.
    const SEATS: usize = 1_551;

    async fn read(app: &App, id: OptionId) -> (Lsn, String) {
        let (seq, rope) = app.seats.get(app, id).await.unwrap();
        let bytes = to_bytes(rope).await.unwrap();
        (seq, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn pointers(written: &Option<Written>) -> Vec<*const u8> {
        written.iter().flat_map(|written| &written.pieces).map(|kept| kept.piece().as_ref().as_ptr()).collect()
    }

    #[actix_web::test]
    async fn what_is_sent_is_what_there_is_and_only_changes_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        settings.http.cached_seats = 1;
        let engine = Engine::open(settings.engine()).await.unwrap();
        let app = web::Data::new(App::new(engine.clone(), settings).unwrap());
        let concert = NewConcert { title: "A".into(), waiting_room: crate::RoomSettings::default() };
        let concert = engine.create_concert(concert, None).await.unwrap().value.id;
        let plan: serde_json::Value = serde_json::from_slice(&plans::theatre()).unwrap();
        let categories = plan["categories"].as_array().unwrap().iter();
        let prices = categories.map(|category| (category["name"].as_str().unwrap().to_owned(), Points::ZERO)).collect();
        let starts_at = engine.now().plus_millis(1 << 32);
        let option = NewOption { prices, ..NewOption::new(starts_at, plans::theatre()) };
        let id = engine.add_option(concert, option, None).await.unwrap().value.id;
        let plan = engine.plan(id).await.unwrap();
        assert_eq!(plan.plan.len() as usize, SEATS);
        let seat = |n: u32| plan.plan.seat(n).guid.to_owned();
        let shared = app.seats.options.get(id);
        let mut before = pointers(&None);
        // Nothing, the last piece alone, a comma before and after, all of them, and free again.
        for (block, numbers, kept) in [
            (true, vec![], 0),
            (true, vec![1_550], 3),
            (true, vec![0, 511], 3),
            (true, vec![512], 3),
            (true, (0..1_551).step_by(10).collect(), 0),
            (false, vec![0, 511], 3),
            (false, (0..1_551).collect(), 0),
        ] {
            let seats: Vec<_> = numbers.iter().copied().map(seat).collect();
            match block {
                _ if seats.is_empty() => {}
                true => drop(engine.block_seats(id, seats, None).await.unwrap()),
                false => drop(engine.unblock_seats(id, seats, None).await.unwrap()),
            }
            let expected = engine.seats(id).await.unwrap();
            for _ in 0..2 {
                let (seq, text) = read(&app, id).await;
                assert_eq!(seq, expected.seq);
                assert_eq!(text, serde_json::to_string(&expected).unwrap(), "{numbers:?}");
            }
            let after = pointers(&*shared.lock().await);
            let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
            assert!(same >= kept, "{numbers:?}: {same}");
            before = after;
        }
        assert!(app.seats.get(&app, OptionId(77)).await.is_err());
        engine.shutdown().await.unwrap();
    }
}
