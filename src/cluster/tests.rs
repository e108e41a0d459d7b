//! Each rule by itself. What comes of them together is for `crate::testing::cluster`.

use std::num::NonZeroU128;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{Lsn, Timestamp};
use crate::store::journal::{FrameRef, Tip, WholeFrame};

const CREATED: u64 = 77;

fn cluster(id: u128) -> ClusterId {
    ClusterId(NonZeroU128::new(id).unwrap())
}

fn fence(node: &str, life: u64) -> Fence {
    Fence { node: NodeName::new(node).unwrap(), life, format: FORMAT }
}

fn base() -> Tip {
    Tip { next_lsn: Lsn(5), at: Timestamp::from_millis(9), crc: 3 }
}

fn message(epoch: u64, body: Body) -> Message {
    Message { cluster: cluster(1), epoch: Epoch(epoch), body }
}

fn wire(epoch: u64, body: Body) -> Wire {
    message(epoch, body).encode()
}

fn frame_ref(tip: Tip, payload: &[u8]) -> FrameRef<'_> {
    FrameRef { first_lsn: tip.next_lsn, count: 1, at: tip.at.plus_millis(1), payload }
}

fn frame(tip: Tip, payload: &[u8]) -> WholeFrame {
    tip.batch(&frame_ref(tip, payload)).unwrap()
}

/// A reader that has taken in the base.
fn based() -> Reader {
    let mut reader = Reader::join(CREATED, base());
    assert_eq!(reader.take(Sequence(1), &wire(0, Body::Base(base()))), Ok(Taken::Base));
    reader
}

/// A reader that has taken in the base and a fence of node `a`, with sequence 2.
fn owned() -> Reader {
    let mut reader = based();
    let taken = reader.take(Sequence(2), &wire(0, Body::Fence(fence("a", 1)))).unwrap();
    assert!(matches!(taken, Taken::Fence { .. }));
    reader
}

/// An owner after the fence of [`owned`], with that reader.
fn owner() -> (Reader, Appending) {
    let reader = owned();
    let appending = Appending::begin(&fence("a", 1), reader.state()).unwrap();
    (reader, appending)
}

/// Reads a message as the owner does.
fn read(reader: &mut Reader, appending: &mut Appending, wire: &Wire) -> Step {
    let sequence = reader.next();
    let taken = reader.take(sequence, wire).unwrap();
    appending.read(sequence, &taken)
}

/// A fence that is late.
fn late() -> Wire {
    wire(0, Body::Fence(fence("b", 1)))
}

fn published(step: &Step) -> &Publish {
    match step {
        Step::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_are_read_as_they_were_written() {
    let bodies = [
        Body::Base(base()),
        Body::Frame(frame(base(), &[7; 1000])),
        Body::Frame(frame(base(), &vec![7; FRAME_BYTES_MAX])),
        Body::Fence(fence(&"n".repeat(64), u64::MAX)),
        Body::Mark,
    ];
    for body in bodies {
        let message = message(u64::MAX, body);
        let mut wire = message.encode();
        assert_eq!(Message::decode(&wire).unwrap(), message);
        wire.headers.push(("Nats-Expected-Last-Sequence".into(), "7".into()));
        wire.headers.reverse();
        assert_eq!(Message::decode(&wire).unwrap(), message);
    }
}

#[test]
fn what_is_written_otherwise_is_no_message() {
    type Spoil = fn(&mut Wire);
    let table: &[(&str, Spoil)] = &[
        ("no kind", |w| drop(w.headers.remove(0))),
        ("no cluster", |w| drop(w.headers.remove(1))),
        ("no epoch", |w| drop(w.headers.remove(2))),
        ("a header twice", |w| w.headers.push(w.headers[2].clone())),
        ("a header in lower case", |w| w.headers[0].0.make_ascii_lowercase()),
        ("another kind", |w| w.headers[0].1 = "Fence".into()),
        ("no number", |w| w.headers[2].1 = String::new()),
        ("a leading zero", |w| w.headers[2].1.insert(0, '0')),
        ("a sign", |w| w.headers[2].1.insert(0, '+')),
        ("a number above all", |w| w.headers[2].1 = "18446744073709551616".into()),
        ("cluster 0", |w| w.headers[1].1 = "0".repeat(32)),
        ("a short cluster", |w| w.headers[1].1 = "1".into()),
        ("a cluster in capitals", |w| w.headers[1].1.replace_range(..1, "A")),
        ("a mark for a frame", |w| w.headers[0].1 = "mark".into()),
        ("a frame for a base", |w| w.headers[0].1 = "base".into()),
        ("a frame for a fence", |w| w.headers[0].1 = "fence".into()),
        ("no payload", |w| w.payload.clear()),
        ("a byte too many", |w| w.payload.push(0)),
        ("a byte too few", |w| w.payload.truncate(139)),
        ("another byte", |w| w.payload[50] ^= 1),
        ("too long", |w| w.payload = frame(base(), &vec![7; FRAME_BYTES_MAX + 1]).bytes().to_vec()),
        ("a journal's fence", |w| w.payload = base().fence(b"").unwrap().bytes().to_vec()),
    ];
    for (name, spoil) in table {
        let mut wire = wire(3, Body::Frame(frame(base(), &[7; 100])));
        spoil(&mut wire);
        Message::decode(&wire).expect_err(name);
    }
    let mut nameless = wire(3, Body::Fence(fence("a", 1)));
    nameless.payload.truncate(12);
    Message::decode(&nameless).unwrap_err();
    for name in ["", "ä", "a b", "a/b", &"n".repeat(65)] {
        assert_eq!(NodeName::new(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(
        kind in "base|frame|fence|mark|.{0,5}",
        cluster in "0{31}[0-9a-f]|[0-9a-f]{32}|.{0,40}",
        epoch in "[0-9]{1,3}|.{0,25}",
        others in prop::collection::vec((".{0,20}", ".{0,20}"), 0..3),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut headers = vec![("Boxoffice-Kind".into(), kind), ("Boxoffice-Cluster".into(), cluster)];
        headers.push(("Boxoffice-Epoch".into(), epoch));
        headers.extend(others);
        let wire = Wire { headers, payload };
        if let Ok(message) = Message::decode(&wire) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        // What is no message of ours takes a place, and changes nothing else; or it is damage.
        let mut reader = owned();
        let before = reader.state().clone();
        match reader.take(Sequence(3), &wire) {
            Ok(Taken::Void(_)) => prop_assert_eq!(reader.state(), &State { last_sequence: Sequence(3), ..before }),
            Ok(_) => prop_assert!(Message::decode(&wire).is_ok()),
            Err(_) => prop_assert_eq!(reader.state(), &before),
        }
    }

    #[test]
    fn a_changed_byte_never_makes_another_frame(at in 0..200_usize, xor in 1..=255_u8) {
        let mut changed = wire(2, Body::Frame(frame(base(), &[7; 160])));
        changed.payload[at] ^= xor;
        prop_assert!(Message::decode(&changed).is_err());
    }

    #[test]
    fn states_are_read_as_they_were_written_or_refused(at in 0..200_usize, xor in 1..=255_u8) {
        for state in [owned().state(), based().state(), Reader::join(CREATED, base()).state()] {
            let mut bytes = state.encode();
            prop_assert_eq!(State::decode(&bytes), Ok(state.clone()));
            prop_assert_eq!(State::decode(&bytes[..bytes.len() - 1]), Err(BadState));
            let known = Known { of: Epoch(7), synced: [("ada".to_owned(), 5), ("b.c".to_owned(), u64::MAX)].into() };
            let with = state.encode_with(&known);
            prop_assert_eq!(State::decode_with(&with), Ok((state.clone(), known)));
            prop_assert_eq!(State::decode_with(&bytes), Ok((state.clone(), Known::default())));
            prop_assert_eq!(State::decode(&with[..with.len() - 1]), Err(BadState));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= xor;
                prop_assert_eq!(State::decode(&bytes), Err(BadState));
            }
        }
    }
}

#[test]
fn the_first_message_is_the_base_that_continues_the_journal() {
    let refused = |wire: &Wire| {
        let mut reader = Reader::join(CREATED, base());
        let fault = reader.take(Sequence(1), wire).unwrap_err();
        assert_eq!(reader.state(), Reader::join(CREATED, base()).state());
        fault
    };
    let other = Tip { crc: 4, ..base() };
    assert_eq!(refused(&wire(0, Body::Base(other))), Fault::OtherBase { log: other, journal: base() });
    for wrong in [wire(0, Body::Mark), wire(1, Body::Base(base())), late(), Wire::default()] {
        assert!(matches!(refused(&wrong), Fault::NoBase(_)));
    }
}

#[test]
fn each_message_is_what_the_rules_say() {
    // Owned by `a` in epoch 2; the message comes at 3.
    let tip = owned().state().tip;
    let next = || Body::Frame(frame(tip, b"x"));
    let of_other = |body| Message { cluster: cluster(2), epoch: Epoch(2), body }.encode();
    let table: Vec<(&str, Wire, Taken)> = vec![
        ("a frame", wire(2, next()), Taken::Frame(frame(tip, b"x"))),
        ("a mark", wire(2, Body::Mark), Taken::Mark),
        ("a frame of an old epoch", wire(0, next()), Taken::Void(Void::OldEpoch(Epoch(0)))),
        ("a mark of an old epoch", wire(1, Body::Mark), Taken::Void(Void::OldEpoch(Epoch(1)))),
        ("a late fence", late(), Taken::Void(Void::OldEpoch(Epoch(0)))),
        ("the same fence again", wire(0, Body::Fence(fence("a", 1))), Taken::Void(Void::OldEpoch(Epoch(0)))),
        ("the base again", wire(0, Body::Base(base())), Taken::Void(Void::OldEpoch(Epoch(0)))),
        ("a frame of another cluster", of_other(next()), Taken::Void(Void::OtherCluster)),
        ("a fence of another cluster", of_other(Body::Fence(fence("b", 1))), Taken::Void(Void::OtherCluster)),
    ];
    for (name, wire, expected) in table {
        let mut reader = owned();
        let before = reader.state().clone();
        assert_eq!(reader.take(Sequence(3), &wire), Ok(expected.clone()), "{name}");
        let tip = if let Taken::Frame(frame) = &expected { frame.after() } else { before.tip };
        assert_eq!(*reader.state(), State { last_sequence: Sequence(3), tip, ..before }, "{name}");
        assert_eq!(reader.take(Sequence(3), &wire), Ok(Taken::Known), "{name}");
    }
    assert!(matches!(owned().take(Sequence(3), &Wire::default()), Ok(Taken::Void(Void::Unreadable(_)))));
    let again = wire(0, Body::Base(base()));
    assert_eq!(based().take(Sequence(2), &again), Ok(Taken::Void(Void::BaseAgain)));
}

#[test]
fn a_fence_begins_the_epoch_of_its_place_and_stands_in_the_journal() {
    let mut reader = owned();
    let before = reader.state().clone();
    let Ok(Taken::Fence { fence: who, frame }) = reader.take(Sequence(3), &wire(2, Body::Fence(fence("b", 8)))) else {
        panic!("it was not taken in");
    };
    assert!(frame.is_fence() && before.tip.admits(&frame));
    assert_eq!((frame.after().next_lsn, frame.after().at), (before.tip.next_lsn, before.tip.at));
    let expected = [&3_u64.to_le_bytes()[..], &2_u64.to_le_bytes(), &8_u64.to_le_bytes(), &1_u32.to_le_bytes(), b"b"];
    assert_eq!(frame.payload(), expected.concat());
    let state = State { epoch: Epoch(3), owner: Some(who), tip: frame.after(), last_sequence: Sequence(3), ..before };
    assert_eq!(*reader.state(), state);
    // The next one has to name this epoch.
    assert_eq!(
        reader.take(Sequence(4), &wire(2, Body::Fence(fence("c", 1)))),
        Ok(Taken::Void(Void::OldEpoch(Epoch(2))))
    );
}

#[test]
fn damage_stops_a_reader_and_changes_nothing() {
    let tip = owned().state().tip;
    let spoilt = |mut wire: Wire| {
        wire.payload.push(1);
        wire
    };
    let newer = Fence { format: FORMAT + 1, ..fence("b", 1) };
    let table: Vec<(&str, u64, Wire)> = vec![
        ("a gap", 4, wire(2, Body::Mark)),
        ("a gap before what is void", 4, late()),
        ("a frame that is not whole", 3, spoilt(wire(2, Body::Frame(frame(tip, b"x"))))),
        ("a mark that is not empty", 3, spoilt(wire(2, Body::Mark))),
        ("a fence without a name", 3, spoilt(wire(2, Body::Fence(fence("b", 1))))),
        ("a frame with another CRC before it", 3, wire(2, Body::Frame(frame(Tip { crc: 0, ..tip }, b"x")))),
        ("a frame further on", 3, wire(2, Body::Frame(frame(Tip { next_lsn: tip.next_lsn.next(), ..tip }, b"x")))),
        ("a frame of an epoch to come", 3, wire(3, Body::Frame(frame(tip, b"x")))),
        ("a fence against an epoch to come", 3, wire(3, Body::Fence(fence("b", 1)))),
        ("a format to come", 3, wire(2, Body::Fence(newer))),
    ];
    for (name, sequence, wire) in table {
        let mut reader = owned();
        reader.take(Sequence(sequence), &wire).expect_err(name);
        assert_eq!(reader.state(), owned().state(), "{name}");
    }
    // Before the first fence nobody may append.
    based().take(Sequence(2), &wire(0, Body::Mark)).unwrap_err();
}

#[test]
fn another_stream_and_one_that_went_back_are_known() {
    let reader = owned();
    assert_eq!(reader.recognise(CREATED, Sequence(2)), Ok(()));
    assert_eq!(reader.recognise(CREATED, Sequence(9)), Ok(()));
    assert_eq!(reader.recognise(CREATED + 1, Sequence(9)), Err(Fault::OtherStream));
    let went_back = Fault::WentBack { last: Sequence(2), found: Sequence(1) };
    assert_eq!(reader.recognise(CREATED, Sequence(1)), Err(went_back));
    let resumed = Reader::resume(State::decode(&reader.state().encode()).unwrap());
    assert_eq!(resumed.state(), reader.state());
}

/// A node that has published its fence against epoch 2, and its reader.
fn candidate(node: &str) -> (Reader, Fencing, Publish) {
    let reader = owned();
    let (fencing, publish) = Fencing::begin(cluster(1), fence(node, 1), reader.state(), Duration::from_secs(5));
    (reader, fencing, publish)
}

#[test]
fn a_fence_names_the_present_epoch_and_expects_no_sequence() {
    let (.., publish) = candidate("b");
    assert_eq!(publish, Publish { message: message(2, Body::Fence(fence("b", 1))), expected: None });
}

#[test]
fn who_has_read_up_to_his_fence_owns_and_not_before() {
    let (mut reader, mut fencing, publish) = candidate("b");
    let tip = reader.state().tip;
    assert_eq!(fencing.replied(Duration::ZERO, Reply::Acknowledged(Sequence(5))), Next::Read);
    for wire in [wire(2, Body::Frame(frame(tip, b"x"))), late()] {
        let sequence = reader.next();
        let taken = reader.take(sequence, &wire).unwrap();
        assert_eq!(fencing.read(sequence, &taken), Next::Read);
    }
    let taken = reader.take(Sequence(5), &publish.message.encode()).unwrap();
    assert_eq!(fencing.read(Sequence(5), &taken), Next::Won(Epoch(5)));
    // All copies but the first are void, whenever they come.
    assert!(matches!(reader.take(Sequence(6), &publish.message.encode()), Ok(Taken::Void(_))));
}

#[test]
fn the_first_of_two_fences_wins_and_the_other_loses() {
    for (first, outcome) in [("b", Next::Won(Epoch(3))), ("c", Next::Lost)] {
        let (mut reader, mut fencing, _) = candidate("b");
        let taken = reader.take(Sequence(3), &wire(2, Body::Fence(fence(first, 1)))).unwrap();
        assert_eq!(fencing.read(Sequence(3), &taken), outcome);
    }
    // Another process of the same name is another one.
    let (mut reader, mut fencing, _) = candidate("b");
    let taken = reader.take(Sequence(3), &wire(2, Body::Fence(fence("b", 2)))).unwrap();
    assert_eq!(fencing.read(Sequence(3), &taken), Next::Lost);
}

#[test]
fn a_fence_that_is_not_answered_is_looked_for_before_it_is_published_again() {
    let (_, mut fencing, publish) = candidate("b");
    assert_eq!(fencing.looked(), Next::Read, "nobody has to look yet");
    assert_eq!(fencing.replied(Duration::ZERO, Reply::Failed), Next::Look);
    assert_eq!(fencing.replied(Duration::ZERO, Reply::Failed), Next::Read);
    assert_eq!(fencing.looked(), Next::Publish(publish));
    assert_eq!(fencing.looked(), Next::Read);
    // The answer to the first copy comes after all.
    assert_eq!(fencing.replied(Duration::ZERO, Reply::Acknowledged(Sequence(9))), Next::Read);
    assert_eq!(fencing.replied(Duration::ZERO, Reply::Failed), Next::Read);
    assert_eq!(fencing.looked(), Next::Read);
}

#[test]
fn who_cannot_read_up_to_his_fence_in_time_is_late() {
    let (_, mut fencing, _) = candidate("b");
    let seconds = Duration::from_secs;
    assert!(!fencing.is_late(seconds(100)), "it is not acknowledged");
    fencing.replied(seconds(100), Reply::Acknowledged(Sequence(9)));
    fencing.replied(seconds(103), Reply::Acknowledged(Sequence(10)));
    assert!(!fencing.is_late(Duration::from_millis(104_999)));
    assert!(fencing.is_late(seconds(105)));
}

#[test]
fn only_10071_is_a_refusal() {
    assert_eq!(Reply::of_error(10_071), Reply::Refused);
    for code in [0, 408, 503, 10_008, 10_047, 10_054, 10_070, 10_072, 10_077, 10_164, u32::MAX] {
        assert_eq!(Reply::of_error(code), Reply::Failed, "{code}");
    }
}

#[test]
fn only_who_has_just_read_his_fence_begins_to_append() {
    let mut reader = owned();
    for other in [fence("a", 2), fence("b", 1)] {
        assert!(Appending::begin(&other, reader.state()).is_none());
    }
    assert!(Appending::begin(&fence("a", 1), based().state()).is_none());
    assert!(Appending::begin(&fence("a", 1), reader.state()).is_some());
    reader.take(Sequence(3), &wire(2, Body::Mark)).unwrap();
    assert!(Appending::begin(&fence("a", 1), reader.state()).is_none(), "what is under way is not known any more");
}

#[test]
fn a_frame_is_durable_when_it_is_acknowledged_right_after_the_last() {
    let (mut reader, mut appending) = owner();
    let tip = appending.tip();
    let publish = appending.append(&frame_ref(tip, b"x")).unwrap();
    assert_eq!(publish, Publish { message: message(2, Body::Frame(frame(tip, b"x"))), expected: Some(Sequence(2)) });
    assert_eq!(appending.append(&frame_ref(tip, b"y")), Err(NotAppended::UnderWay));
    // An answer to something else, or of somewhere else, says nothing.
    assert_eq!(appending.replied(Sequence(1), Reply::Acknowledged(Sequence(2))), Step::Wait);
    assert_eq!(appending.replied(Sequence(2), Reply::Acknowledged(Sequence(4))), Step::Fetch(Sequence(3)));
    let step = appending.replied(Sequence(2), Reply::Acknowledged(Sequence(3)));
    assert_eq!(step, Step::TakeIn(Sequence(3), publish.message.clone()));
    assert_eq!(read(&mut reader, &mut appending, &publish.message.encode()), Step::Durable(Lsn(5)));
    assert_eq!(appending.replied(Sequence(2), Reply::Acknowledged(Sequence(3))), Step::Wait, "once");
    assert_eq!(appending.tip(), reader.state().tip);
    let publish = appending.append(&frame_ref(appending.tip(), b"y")).unwrap();
    assert_eq!(publish.expected, Some(Sequence(3)));
}

#[test]
fn without_an_answer_the_same_bytes_are_published_again_for_the_same_place() {
    let (_, mut appending) = owner();
    let publish = appending.append(&frame_ref(appending.tip(), b"x")).unwrap();
    for code in [503, 10_077, 10_164] {
        let step = appending.replied(Sequence(2), Reply::of_error(code));
        assert_eq!(*published(&step), publish, "{code}");
    }
    assert_eq!(appending.replied(Sequence(2), Reply::Failed), Step::Publish(publish));
}

#[test]
fn after_a_refusal_what_stands_at_the_place_decides() {
    // What stands there; what comes of it.
    let other_owner = wire(2, Body::Fence(fence("b", 1)));
    let another = wire(2, Body::Frame(frame(owned().state().tip, b"another")));
    let table = [
        ("ours", None),
        ("void", Some(late())),
        ("a fence", Some(other_owner)),
        ("another frame", Some(another)),
        ("a mark", Some(wire(2, Body::Mark))),
    ];
    for (name, standing) in table {
        let (mut reader, mut appending) = owner();
        let publish = appending.append(&frame_ref(appending.tip(), b"x")).unwrap();
        assert_eq!(appending.replied(Sequence(2), Reply::Refused), Step::Fetch(Sequence(3)));
        assert_eq!(appending.replied(Sequence(2), Reply::Failed), Step::Wait, "an older copy");
        let step = read(&mut reader, &mut appending, &standing.unwrap_or_else(|| publish.message.encode()));
        match name {
            "ours" => assert_eq!(step, Step::Durable(Lsn(5))),
            "void" => assert_eq!(step, Step::Publish(Publish { expected: Some(Sequence(3)), ..publish })),
            _ => {
                assert_eq!(step, Step::Deposed);
                assert_eq!(appending.append(&frame_ref(appending.tip(), b"x")), Err(NotAppended::Deposed));
                assert_eq!(appending.replied(Sequence(2), Reply::Acknowledged(Sequence(3))), Step::Wait);
            }
        }
    }
}

#[test]
fn what_is_not_there_yet_decides_nothing() {
    let (mut reader, mut appending) = owner();
    let publish = appending.append(&frame_ref(appending.tip(), b"x")).unwrap();
    assert_eq!(appending.absent(Sequence(3)), Step::Wait, "nobody has asked");
    appending.replied(Sequence(2), Reply::Refused);
    assert_eq!(appending.absent(Sequence(2)), Step::Wait);
    assert_eq!(appending.absent(Sequence(3)), Step::Publish(publish.clone()));
    assert_eq!(appending.replied(Sequence(2), Reply::Refused), Step::Fetch(Sequence(3)));
    assert_eq!(read(&mut reader, &mut appending, &publish.message.encode()), Step::Durable(Lsn(5)));
}

#[test]
fn an_idle_owner_sees_a_fence_and_passes_over_what_is_void() {
    let (mut reader, mut appending) = owner();
    assert_eq!(read(&mut reader, &mut appending, &late()), Step::Wait);
    assert_eq!(appending.append(&frame_ref(appending.tip(), b"x")).unwrap().expected, Some(Sequence(3)));
    let (mut reader, mut appending) = owner();
    assert_eq!(read(&mut reader, &mut appending, &wire(2, Body::Fence(fence("b", 1)))), Step::Deposed);
    assert!(appending.is_deposed() && !appending.is_idle());
}

#[test]
fn frames_are_bounded_and_must_follow() {
    let (_, mut appending) = owner();
    let tip = appending.tip();
    let long = vec![0; FRAME_BYTES_MAX + 1];
    let none = FrameRef { count: 0, ..frame_ref(tip, b"") };
    let further = FrameRef { first_lsn: tip.next_lsn.next(), ..frame_ref(tip, b"") };
    for frame in [frame_ref(tip, &long), none, further] {
        assert_eq!(appending.append(&frame), Err(NotAppended::Unfit));
    }
    appending.append(&frame_ref(tip, &long[1..])).unwrap();
}

#[test]
fn a_mark_says_that_its_writer_owns_and_nothing_else() {
    let (mut reader, mut appending) = owner();
    let frame = appending.append(&frame_ref(appending.tip(), b"x")).unwrap();
    assert_eq!(appending.mark(), Err(NotAppended::UnderWay));
    read(&mut reader, &mut appending, &frame.message.encode());
    let (mark, tip) = (appending.mark().unwrap(), appending.tip());
    assert_eq!(mark, Publish { message: message(2, Body::Mark), expected: Some(Sequence(3)) });
    assert_eq!(read(&mut reader, &mut appending, &mark.message.encode()), Step::Durable(Lsn(tip.next_lsn.0 - 1)));
    assert_eq!(appending.tip(), tip);
    appending.mark().unwrap();
    assert_eq!(read(&mut reader, &mut appending, &wire(2, Body::Fence(fence("b", 1)))), Step::Deposed);
    assert_eq!(appending.mark(), Err(NotAppended::Deposed));
}
