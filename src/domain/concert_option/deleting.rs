//! An option of which nothing was ever held can be deleted. What is left of it is a mark, so that a definition that comes late
//! does not bring it back; its id is never given again.

use super::*;

/// What is left of an option that is deleted.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) struct Gone {
    #[n(0)]
    option: OptionId,
    #[n(1)]
    by: UserId,
    /// Whether the catalogue has taken note.
    #[n(2)]
    noted: bool,
}

impl ConcertOption {
    /// Whether anything of it was ever held, paid or given away.
    #[must_use]
    pub fn was_ever_held(&self) -> bool {
        self.header.last_no > 0
    }

    pub(super) fn decide_deletion(&self, by: &UserId, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        self.definition().ok_or(Rejection::NotFound)?;
        if self.was_ever_held() {
            return Err(Rejection::WasHeld);
        }
        out.events.push(Event::OptionDeleted { by: by.clone() });
        out.tell.push(deleted(self.id(), by));
        Ok(Answer::Reply(Reply::Done))
    }

    /// What the catalogue is told until it has taken note.
    pub(super) fn owed_deletion(&self) -> Option<Message> {
        let gone = self.header.gone.as_ref().filter(|gone| !gone.noted)?;
        Some(deleted(gone.option, &gone.by))
    }

    pub(super) fn evolve_deleted(&mut self, by: &UserId, changes: &mut impl Changes<Part>) {
        let gone = Gone { option: self.id(), by: by.clone(), noted: false };
        self.header = Header { gone: Some(gone), ..Header::default() };
        self.terms = None;
        changes.touch(Part::Header);
        changes.touch(Part::Terms);
        // Some may be blocked.
        (0..self.seats.chunk_count()).for_each(|chunk| changes.touch(Part::Seats(chunk)));
        self.seats = SeatMap::default();
        self.keys.clear(|scope| changes.touch(Part::Key(scope)));
    }

    pub(super) fn evolve_deletion_noted(&mut self, changes: &mut impl Changes<Part>) {
        if let Some(gone) = &mut self.header.gone {
            gone.noted = true;
        }
        changes.touch(Part::Header);
    }
}

fn deleted(option: OptionId, by: &UserId) -> Message {
    Message::Catalogue(catalogue::Command::OptionDeleted { option, by: by.clone() })
}
