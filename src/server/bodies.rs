//! What answers are made of: pieces that all who are sent them share, given to a connection a slice at a time.
//!
//! actix copies whatever a body gives it into a buffer of the connection's own, and asks for more only while there is
//! little in there. So a body must never give it much at once: what has not been given takes no room, and it goes on
//! only where somebody reads. What is held for an answer that is not read is counted in a [`Backlog`].

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;

use super::flow::Cut;

/// The most that a connection is given at once. Two of these fill actix's buffer.
pub const SLICE_BYTES: usize = 16 << 10;

/// What is held for one that grows while it is read, about.
const GROWING_BYTES: usize = 256 << 10;

/// So many times as long as somebody may take nothing, one may take to read all of something, while others wait.
const SLOW: u64 = 4;

/// Bytes that many answers share, and that are there once.
#[derive(Debug, Clone)]
pub struct Piece(Arc<Held>);

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    /// Where it is counted, once it is there only for those who have not read it.
    counted: OnceLock<Arc<Backlog>>,
}

impl Piece {
    /// These bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Arc::new(Held { bytes: bytes.into(), counted: OnceLock::new() }))
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on it is counted, until those have it who are being sent it.
    fn let_go(&self, backlog: &Arc<Backlog>) {
        if self.0.counted.set(backlog.clone()).is_ok() {
            backlog.bytes.fetch_add(self.len(), Ordering::Relaxed);
        }
    }
}

/// A piece that further answers will have. Once this is dropped there are only those left who are being sent it.
#[derive(Debug)]
pub struct Kept {
    piece: Piece,
    backlog: Arc<Backlog>,
}

impl Kept {
    /// Keeps `piece`, which is counted in `backlog` when it is not kept any more.
    #[must_use]
    pub fn new(piece: Piece, backlog: &Arc<Backlog>) -> Self {
        Self { piece, backlog: backlog.clone() }
    }

    /// It.
    #[must_use]
    pub fn piece(&self) -> &Piece {
        &self.piece
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.piece.let_go(&self.backlog);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(backlog) = self.counted.get() {
            backlog.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

/// A body of pieces, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    /// Each with how many of its first bytes are left out, or have been given.
    pieces: VecDeque<(Piece, usize)>,
    left: u64,
}

impl Rope {
    /// Adds a piece, without its first `skip` bytes.
    pub fn push(&mut self, piece: Piece, skip: usize) {
        if skip < piece.len() {
            self.left += (piece.len() - skip) as u64;
            self.pieces.push_back((piece, skip));
        }
    }

    /// How many bytes it gives.
    #[must_use]
    pub fn bytes(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// What comes next, a slice of it at the most.
    fn slice(&mut self) -> Option<Bytes> {
        let (piece, at) = self.pieces.pop_front()?;
        let end = piece.len().min(at + SLICE_BYTES);
        if end < piece.len() {
            self.pieces.push_front((piece.clone(), end));
        }
        let slice = Bytes::from_owner(piece).slice(at..end);
        self.left -= slice.len() as u64;
        Some(slice)
    }
}

impl From<Piece> for Rope {
    fn from(piece: Piece) -> Self {
        let mut rope = Self::default();
        rope.push(piece, 0);
        rope
    }
}

impl MessageBody for Rope {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.slice().map(Ok))
    }
}

/// A body that is made while it is read: the next bytes are asked for once those before them are gone.
pub struct Growing<S> {
    made: Rope,
    more: Pin<Box<S>>,
}

impl<S> Growing<S> {
    /// One of what `more` gives, bit by bit.
    #[must_use]
    pub fn new(more: S) -> Self {
        Self { made: Rope::default(), more: Box::pin(more) }
    }
}

impl<S, E> MessageBody for Growing<S>
where
    S: Stream<Item = Result<Vec<u8>, E>>,
    E: Into<Box<dyn Error>>,
{
    type Error = E;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, E>>> {
        loop {
            if let Some(slice) = self.made.slice() {
                return Poll::Ready(Some(Ok(slice)));
            }
            match std::task::ready!(self.more.as_mut().poll_next(context)) {
                Some(Ok(bytes)) => self.made = Piece::new(bytes).into(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// What is held for those who are sent large answers and have not read them.
///
/// A body that was made for one request is counted from the beginning; a [`Piece`] that many share, once it is not
/// [`Kept`]. As soon as that is more than may be, those lose their connections who have taken nothing for
/// longest, and for some time. Where all others do read, and it is still too much, there is no further answer for now.
#[derive(Debug)]
pub struct Backlog {
    bytes_max: usize,
    /// For how long somebody may take nothing, while there is too much.
    patience: Duration,
    begun: Instant,
    bytes: AtomicUsize,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    last: u64,
    all: HashMap<u64, Arc<Reading>>,
}

/// How far somebody has read.
#[derive(Debug)]
struct Reading {
    /// What is held for it alone.
    own: AtomicUsize,
    /// When it began to read, in milliseconds since the backlog began.
    begun_at: u64,
    /// When it was given a slice last.
    given_at: AtomicU64,
    cut: Option<Arc<Cut>>,
}

impl Backlog {
    /// One of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            patience,
            begun: Instant::now(),
            bytes: AtomicUsize::new(0),
            readers: Mutex::default(),
        })
    }

    /// How much is held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there is room for an answer that holds `own` bytes for itself, after those were cut off who stand in the
    /// way and do not read.
    #[must_use]
    pub fn has_room(&self, own: usize) -> bool {
        let fits = || self.bytes() == 0 || self.bytes() + own <= self.bytes_max;
        fits() || {
            self.cut_off(own);
            fits()
        }
    }

    /// `body` as it is to be sent over the connection that `cut` ends: a large one in slices, and counted. `None` if
    /// there is no room for it and it `may_be_refused`.
    #[must_use]
    pub fn send(self: &Arc<Self>, body: BoxBody, cut: Option<Arc<Cut>>, may_be_refused: bool) -> Option<BoxBody> {
        match body.size() {
            BodySize::Sized(bytes) if bytes > SLICE_BYTES as u64 => {}
            // It is made as it is read, and never all there.
            BodySize::Stream if may_be_refused && !self.has_room(GROWING_BYTES) => return None,
            BodySize::Stream => return Some(BoxBody::new(Sent::new(body, GROWING_BYTES, self, cut))),
            _ => return Some(body),
        }
        // One that is not a rope already is there for this answer only.
        let (own, body) = match body.try_into_bytes() {
            Ok(bytes) => (bytes.len(), BoxBody::new(Rope::from(Piece::new(bytes)))),
            Err(rope) => (0, rope),
        };
        if may_be_refused && !self.has_room(own) {
            return None;
        }
        Some(BoxBody::new(Sent::new(body, own, self, cut)))
    }

    /// Cuts off those who have taken nothing for longest, until `more` bytes have room; those for whom alone nothing is held only
    /// after all others, and if there is something that nobody but readers has.
    fn cut_off(&self, more: usize) {
        let is_long_ago = self.long_ago(1);
        let readers = self.readers.lock();
        let own = |reading: &Reading| reading.own.load(Ordering::Relaxed);
        let is_shared = self.bytes() > readers.all.values().map(|reading| own(reading)).sum::<usize>();
        let is_stuck = |reading: &&Arc<Reading>| is_long_ago(reading.given_at.load(Ordering::Relaxed));
        let mut stuck: Vec<_> = readers.all.values().filter(is_stuck).collect();
        stuck.retain(|reading| is_shared || own(reading) > 0);
        stuck.sort_unstable_by_key(|reading| (own(reading) == 0, reading.given_at.load(Ordering::Relaxed)));
        for reading in stuck {
            if self.bytes() + more <= self.bytes_max {
                break;
            }
            let Some(cut) = &reading.cut else { continue };
            if cut.cut() {
                tracing::debug!(bytes = own(reading), "somebody who reads nothing is cut off");
            }
            // It is given back as soon as its thread gets to it.
            self.bytes.fetch_sub(reading.own.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Cuts off the one who has been reading for longest, whatever they take, if that is [`SLOW`].
    pub fn cut_off_slowest(&self) {
        let is_long_ago = self.long_ago(SLOW);
        let readers = self.readers.lock();
        let cuts = readers.all.values().filter_map(|reading| Some((reading.begun_at, reading.cut.as_ref()?)));
        let slow = cuts.filter(|(begun_at, cut)| is_long_ago(*begun_at) && !cut.is_cut());
        if let Some((_, cut)) = slow.min_by_key(|(begun_at, _)| *begun_at) {
            cut.cut();
            tracing::debug!("somebody who reads slowly is cut off");
        }
    }

    /// Whether a moment is so many times as long ago as somebody may take nothing.
    fn long_ago(&self, times: u64) -> impl Fn(u64) -> bool + use<> {
        let (now, patience) = (self.now(), u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX));
        move |moment| now.saturating_sub(moment) >= patience.saturating_mul(times)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Bytes that are held, for as long as there is this.
#[derive(Debug)]
pub struct Counted {
    bytes: usize,
    backlog: Arc<Backlog>,
}

impl Counted {
    /// So many of them.
    #[must_use]
    pub fn new(bytes: usize, backlog: &Arc<Backlog>) -> Self {
        backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, backlog: backlog.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Somebody who is being sent something, for as long as they have not read it.
#[derive(Debug)]
pub struct Reader {
    backlog: Arc<Backlog>,
    id: u64,
    reading: Arc<Reading>,
}

impl Reader {
    /// One for whom alone `own` bytes are held. `cut` ends their connection.
    #[must_use]
    pub fn new(own: usize, backlog: &Arc<Backlog>, cut: Option<Arc<Cut>>) -> Self {
        let begun_at = backlog.now();
        let reading = Reading { own: AtomicUsize::new(own), begun_at, given_at: AtomicU64::new(begun_at), cut };
        let reading = Arc::new(reading);
        backlog.bytes.fetch_add(own, Ordering::Relaxed);
        let id = {
            let mut readers = backlog.readers.lock();
            readers.last += 1;
            let id = readers.last;
            readers.all.insert(id, reading.clone());
            id
        };
        Self { backlog: backlog.clone(), id, reading }
    }

    /// They have taken some of it.
    pub fn goes_on(&self) {
        self.reading.given_at.store(self.backlog.now(), Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.backlog.readers.lock().all.remove(&self.id);
        self.backlog.bytes.fetch_sub(self.reading.own.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A large body on its way.
#[derive(Debug)]
pub struct Sent<B> {
    body: B,
    reader: Reader,
}

impl<B> Sent<B> {
    /// `body`, of which `own` bytes are held for this answer alone. `cut` ends its connection.
    #[must_use]
    pub fn new(body: B, own: usize, backlog: &Arc<Backlog>, cut: Option<Arc<Cut>>) -> Self {
        Self { body, reader: Reader::new(own, backlog, cut) }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Sent<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.reader.goes_on();
        Pin::new(&mut self.body).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::poll_fn;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn next<B: MessageBody + Unpin>(body: &mut B) -> Option<Bytes> {
        let next = poll_fn(|context| Pin::new(&mut *body).poll_next(context)).now_or_never();
        next.expect("it never waits").map(|slice| slice.map_err(Into::into).unwrap())
    }

    /// Bytes of which each place can be told.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_rope_gives_all_of_its_pieces_a_slice_at_a_time() {
        for pieces in [
            &[][..],
            &[(0, 0)],
            &[(1, 0), (0, 0), (1, 1)],
            &[(SLICE_BYTES, 0), (SLICE_BYTES + 1, 0), (3 * SLICE_BYTES, 1), (5, 4)],
        ] {
            let (mut rope, mut expected) = (Rope::default(), Vec::new());
            for (len, skip) in pieces {
                rope.push(Piece::new(bytes(*len)), *skip);
                expected.extend_from_slice(&bytes(*len)[*skip..]);
            }
            assert_eq!(rope.size(), BodySize::Sized(expected.len() as u64), "{pieces:?}");
            let mut given = Vec::new();
            while let Some(slice) = next(&mut rope) {
                assert!((1..=SLICE_BYTES).contains(&slice.len()));
                given.extend_from_slice(&slice);
                assert_eq!(rope.size(), BodySize::Sized((expected.len() - given.len()) as u64));
            }
            assert!(given == expected, "{pieces:?}");
        }
    }

    #[test]
    fn what_grows_is_made_when_it_is_read() {
        let made = Cell::new(0);
        let more = futures_util::stream::iter([0, 1, SLICE_BYTES + 1, 0, 5].map(bytes)).map(|bytes| {
            made.set(made.get() + 1);
            Ok::<_, Infallible>(bytes)
        });
        let mut body = Growing::new(more);
        assert_eq!(body.size(), BodySize::Stream);
        let mut given = Vec::new();
        for (len, so_far) in [(1, 2), (SLICE_BYTES, 3), (1, 3), (5, 5)] {
            let slice = next(&mut body).unwrap();
            assert_eq!((slice.len(), made.get()), (len, so_far));
            given.extend_from_slice(&slice);
        }
        assert!(next(&mut body).is_none());
        assert!(given == [1, SLICE_BYTES + 1, 5].map(bytes).concat());
        let backlog = Backlog::new(2 * GROWING_BYTES, Duration::from_secs(3_600));
        let grows = || BoxBody::new(Growing::new(futures_util::stream::empty::<Result<Vec<u8>, Infallible>>()));
        let sent: Vec<_> = (0..2).map(|_| backlog.send(grows(), None, true).unwrap()).collect();
        assert!(backlog.send(grows(), None, true).is_none(), "there is no room for a third one");
        drop(sent);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn pieces_are_there_once_and_counted_while_nobody_but_readers_has_them() {
        let backlog = Backlog::new(1 << 20, Duration::ZERO);
        let kept = Kept::new(Piece::new(bytes(100_000)), &backlog);
        drop(Kept::new(Piece::new(bytes(1_000)), &backlog));
        let mut ropes = [(); 3].map(|()| Rope::from(kept.piece().clone()));
        let slices = ropes.each_mut().map(|rope| next(rope).unwrap());
        assert!(slices.iter().all(|slice| slice.as_ptr() == kept.piece().as_ref().as_ptr()), "no copy");
        assert_eq!(backlog.bytes(), 0, "others will have it");
        drop(kept);
        drop(slices);
        let [first, second, third] = &mut ropes;
        while next(first).is_some() {}
        *second = Rope::default();
        assert_eq!(backlog.bytes(), 100_000);
        while next(third).is_some() {}
        assert_eq!(backlog.bytes(), 0, "all of them have read it");
    }

    #[test]
    fn who_has_read_nothing_for_longest_makes_room() {
        let backlog = Backlog::new(1_000, Duration::ZERO);
        let cuts: Vec<_> = (0..3).map(|_| Arc::new(Cut::default())).collect();
        let mut sent: Vec<_> = cuts
            .iter()
            .map(|cut| Sent::new(Rope::from(Piece::new(bytes(300))), 300, &backlog, Some(cut.clone())))
            .collect();
        for (reader, given_at) in sent.iter().zip([5, 3, 4]) {
            reader.reader.reading.given_at.store(given_at, Ordering::Relaxed);
        }
        assert!(backlog.has_room(100) && cuts.iter().all(|cut| !cut.is_cut()));
        assert!(backlog.has_room(400));
        assert_eq!(cuts.iter().map(|cut| cut.is_cut()).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(backlog.bytes(), 600);
        // Whoever reads on is not the one.
        next(&mut sent[2]);
        sent[2].reader.reading.given_at.store(9, Ordering::Relaxed);
        assert!(backlog.has_room(700));
        assert_eq!(cuts.iter().map(|cut| cut.is_cut()).collect::<Vec<_>>(), [true, true, false]);
        sent.clear();
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn who_is_sent_what_others_have_as_well_makes_no_room() {
        let backlog = Backlog::new(1_000, Duration::ZERO);
        let cuts: Vec<_> = (0..2).map(|_| Arc::new(Cut::default())).collect();
        let kept = Kept::new(Piece::new(bytes(500)), &backlog);
        let reads_kept = Sent::new(Rope::from(kept.piece().clone()), 0, &backlog, Some(cuts[0].clone()));
        let deaf = Sent::new(Rope::default(), 900, &backlog, Some(cuts[1].clone()));
        reads_kept.reader.reading.given_at.store(1, Ordering::Relaxed);
        deaf.reader.reading.given_at.store(2, Ordering::Relaxed);
        assert!(backlog.has_room(500));
        assert_eq!(cuts.iter().map(|cut| cut.is_cut()).collect::<Vec<_>>(), [false, true]);
        // Also where nobody else is left; but not if it is kept for those only who have not read it.
        assert!(!backlog.has_room(1_001) || backlog.bytes() == 0);
        assert!(!cuts[0].is_cut());
        drop(kept);
        assert!(!backlog.has_room(600) && cuts[0].is_cut());
    }

    #[test]
    fn who_reads_is_never_cut_off_and_then_there_is_no_room() {
        let backlog = Backlog::new(1_000, Duration::from_secs(3_600));
        let cut = Arc::new(Cut::default());
        assert!(backlog.has_room(5_000), "one may always be sent");
        let sent = Sent::new(Rope::default(), 900, &backlog, Some(cut.clone()));
        assert!(backlog.has_room(100));
        assert!(!backlog.has_room(101) && !cut.is_cut());
        drop(sent);
        assert!(backlog.has_room(101));
    }
}
