//! From JSON to a plan, in one pass over the text.
//!
//! Every value goes through [`Node`], the ignored ones too: that is how a member given twice is noticed wherever it
//! stands, and how reading can go on after a wrong type. What depends on members that may come later (categories,
//! positions of the row and zone around a seat) is checked at the end.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use super::following::moved;
use super::neighbors::chains;
use super::{
    Category, GUID_CHARS_MAX, Limits, NAME_CHARS_MAX, NOT_FOR_SALE, NUMBER_CHARS_MAX, Own, Place, Problem, Row, Run,
    SeatingPlan, Zone, guid,
};

/// What a plan must keep to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Those of plans that come now.
    New,
    /// Those of plans that were taken before lists were required and drawings looked at.
    Old,
}

pub(super) fn parse(json: &[u8], limits: &Limits, rules: Rules) -> Result<SeatingPlan, Vec<Problem>> {
    if json.len() > limits.bytes_max {
        let message = format!("must be at most {} bytes of JSON", limits.bytes_max);
        return Err(vec![Problem { path: String::new(), message }]);
    }
    let mut reader = Reader::new(*limits, rules);
    if let Err(error) = read(&mut reader, json)
        && !reader.stopped
    {
        // Segments stay on the path when reading fails, so it leads to where that was.
        let path = reader.path();
        reader.problems.push(Problem { path, message: format!("cannot be read: {error}") });
        reader.stopped = true;
    }
    if !reader.stopped {
        reader.check();
    }
    if reader.problems.is_empty() { Ok(reader.finish()) } else { Err(reader.problems) }
}

fn read<'de>(reader: &mut Reader<'de>, json: &'de [u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let found = Node { reader, expect: Expect::Plan }.deserialize(&mut deserializer)?;
    if !matches!(found, Found::Taken) {
        reader.problem("must be an object")?;
    }
    deserializer.end()
}

/// What should stand at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Nothing in particular: text and numbers are judged by who asked, the rest is ignored.
    Any,
    Plan,
    Zones,
    Zone,
    Rows,
    Row,
    Seats,
    Seat,
    Categories,
    Category,
    Position,
    /// Lists and objects of what is only drawn.
    Areas,
    Area,
    Shape,
    Points,
}

impl Expect {
    /// What each element should be, if this is a list.
    fn element(self) -> Option<Self> {
        match self {
            Self::Zones => Some(Self::Zone),
            Self::Rows => Some(Self::Row),
            Self::Seats => Some(Self::Seat),
            Self::Categories => Some(Self::Category),
            Self::Areas => Some(Self::Area),
            Self::Points => Some(Self::Position),
            _ => None,
        }
    }
}

/// What did stand there.
enum Found<'de> {
    Null,
    Number(serde_json::Number),
    Text(Cow<'de, str>),
    Position([f64; 2]),
    /// The list or object that was expected; it is in the reader already.
    Taken,
    /// Anything else.
    Other,
}

enum Segment<'de> {
    Member(Cow<'de, str>),
    Index(usize),
}

/// What is not yet known of a seat's place in the plan while it is read.
struct Loose {
    /// Index in the names of categories that came up, declared or not.
    category: Option<usize>,
    position: [f64; 2],
}

struct Reader<'de> {
    limits: Limits,
    rules: Rules,
    problems: Vec<Problem>,
    /// Whether to look no further.
    stopped: bool,
    path: Vec<Segment<'de>>,
    seats: Vec<Place>,
    loose: Vec<Loose>,
    rows: Vec<Row>,
    zones: Vec<Zone>,
    categories: Vec<Category>,
    /// Every category that came up, in the order of its number there, with its index once it is declared.
    category_names: HashMap<Cow<'de, str>, usize>,
    declared: Vec<Option<u16>>,
    by_guid: HashTable<u32>,
    hasher: DefaultHashBuilder,
    text: String,
}

impl<'de> Reader<'de> {
    fn new(limits: Limits, rules: Rules) -> Self {
        Self {
            limits,
            rules,
            problems: Vec::new(),
            stopped: false,
            path: Vec::new(),
            seats: Vec::new(),
            loose: Vec::new(),
            rows: Vec::new(),
            zones: Vec::new(),
            categories: Vec::new(),
            category_names: HashMap::new(),
            declared: Vec::new(),
            by_guid: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            text: String::new(),
        }
    }

    fn plan<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        let (mut zones, mut categories) = (false, false);
        self.object(map, |reader, member, map| {
            match member {
                "zones" => {
                    zones = true;
                    reader.list_member(map, Expect::Zones)?;
                }
                "categories" => {
                    categories = true;
                    reader.list_member(map, Expect::Categories)?;
                }
                "name" => reader.drawn_text(map)?,
                "size" => reader.shape_member(map)?,
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        self.required_now("zones", zones)?;
        self.required_now("categories", categories)
    }

    fn category<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        let index = self.categories.len();
        if index >= usize::from(self.limits.categories_max) {
            return self.stop(format!("is one more than the {} categories allowed", self.limits.categories_max));
        }
        let (mut name, mut color) = (None, None);
        self.object(map, |reader, member, map| {
            match member {
                "name" => {
                    name = reader.string(map, 1..=NAME_CHARS_MAX)?;
                    if let Some(name) = &name {
                        reader.declare(name.clone(), index)?;
                    }
                }
                "color" => color = reader.string(map, 0..=NAME_CHARS_MAX)?,
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        self.required("name", name.is_some())?;
        self.categories.push(Category { name: boxed(name.flatten()), color: boxed(color.flatten()) });
        Ok(())
    }

    fn zone<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        if self.zones.len() >= self.limits.zones_max {
            return self.stop(format!("is one more than the {} zones allowed", self.limits.zones_max));
        }
        let (first_row, first_seat) = (self.rows.len(), self.seats.len());
        let (mut name, mut position, mut rows_given) = (None, [0.0; 2], false);
        self.object(map, |reader, member, map| {
            match member {
                "name" => name = reader.label(map, NAME_CHARS_MAX)?,
                "position" => position = reader.position(map)?,
                "rows" => {
                    rows_given = true;
                    reader.list_member(map, Expect::Rows)?;
                }
                "areas" => reader.drawn_list(map, Expect::Areas)?,
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        self.required_now("rows", rows_given)?;
        self.shift(first_seat, position);
        let (rows, places) = (range(first_row, self.rows.len()), range(first_seat, self.seats.len()));
        self.zones.push(Zone { name: boxed(name), rows, places });
        Ok(())
    }

    fn row<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        if self.rows.len() >= self.limits.rows_max {
            return self.stop(format!("is one more than the {} rows allowed", self.limits.rows_max));
        }
        let first_seat = self.seats.len();
        let (mut name, mut label, mut seat_label) = (None, None, None);
        let (mut position, mut seats_given) = ([0.0; 2], false);
        self.object(map, |reader, member, map| {
            match member {
                "row_number" => name = reader.label(map, NAME_CHARS_MAX)?,
                "row_label" => label = reader.drawn_label(map)?,
                "seat_label" => seat_label = reader.drawn_label(map)?,
                "row_number_position" => reader.one_of(map, &["start", "end", "both"])?,
                "position" => position = reader.position(map)?,
                "seats" => {
                    seats_given = true;
                    reader.list_member(map, Expect::Seats)?;
                }
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        self.required("seats", seats_given)?;
        self.shift(first_seat, position);
        let (zone, places) = (self.zones.len() as u32, range(first_seat, self.seats.len()));
        let label = label.unwrap_or_default().replace("%s", name.as_deref().unwrap_or_default()).into();
        self.rows.push(Row { zone, name: boxed(name), label, seat_label: boxed(seat_label), places });
        Ok(())
    }

    fn seat<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        if self.seats.len() >= self.limits.seats_max {
            return self.stop(format!("is one more than the {} seats allowed", self.limits.seats_max));
        }
        let (mut guid, mut number, mut category, mut position) = (None, None, None, [0.0; 2]);
        self.object(map, |reader, member, map| {
            match member {
                "seat_guid" => guid = reader.string(map, 1..=GUID_CHARS_MAX)?,
                "seat_number" => number = reader.label(map, NUMBER_CHARS_MAX)?,
                "category" => category = reader.string(map, 0..=NAME_CHARS_MAX)?,
                "position" => position = reader.position(map)?,
                "start_direction" => reader.one_of(map, &["<", ">", "<>"])?,
                "radius" => reader.drawn_number(map)?,
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        self.required("seat_guid", guid.is_some())?;
        self.required("category", category.is_some())?;
        let category = category.flatten().filter(|name| !name.is_empty()).map(|name| self.category_number(name));
        self.push_seat(guid.flatten().as_deref(), number.as_deref(), Loose { category, position })
    }

    /// Takes in a seat; one with problems as well, so that those after it keep their places.
    fn push_seat<E: Error>(&mut self, guid: Option<&str>, number: Option<&str>, loose: Loose) -> Result<(), E> {
        let Ok(text) = u32::try_from(self.text.len()) else {
            return self.stop("makes the texts of this plan too long".into());
        };
        let (guid, number) = (guid.unwrap_or_default(), number.unwrap_or_default());
        self.text.push_str(guid);
        self.text.push_str(number);
        self.seats.push(Place {
            text,
            guid_bytes: guid.len() as u16,
            number_bytes: number.len() as u16,
            row: self.rows.len() as u32,
            x: 0.0,
            y: 0.0,
            category: NOT_FOR_SALE,
        });
        self.loose.push(loose);
        Ok(())
    }

    /// Moves all seats from `first` on.
    fn shift(&mut self, first: usize, by: [f64; 2]) {
        for loose in &mut self.loose[first..] {
            loose.position[0] += by[0];
            loose.position[1] += by[1];
        }
    }

    fn category_number(&mut self, name: Cow<'de, str>) -> usize {
        let next = self.declared.len();
        let number = *self.category_names.entry(name).or_insert(next);
        if number == next {
            self.declared.push(None);
        }
        number
    }

    fn declare<E: Error>(&mut self, name: Option<Cow<'de, str>>, index: usize) -> Result<(), E> {
        let Some(name) = name else { return Ok(()) };
        let number = self.category_number(name);
        match self.declared[number] {
            Some(other) => self.problem(format!("is the name of categories[{other}] too")),
            None => {
                self.declared[number] = Some(index as u16);
                Ok(())
            }
        }
    }
}

/// One kind of value each.
impl<'de> Reader<'de> {
    /// Goes through the members of an object. Of a member given twice, the second is not looked at.
    fn object<A: MapAccess<'de>>(
        &mut self,
        mut map: A,
        mut member: impl FnMut(&mut Self, &str, &mut A) -> Result<(), A::Error>,
    ) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(MemberName(name)) = map.next_key()? {
            let fresh = names.insert(name.clone());
            self.path.push(Segment::Member(name.clone()));
            if fresh {
                member(self, &name, &mut map)?;
            } else {
                self.problem("is given twice")?;
                self.ignore(&mut map)?;
            }
            self.path.pop();
        }
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A, element: Expect) -> Result<(), A::Error> {
        for index in 0.. {
            self.path.push(Segment::Index(index));
            let Some(found) = list.next_element_seed(Node { reader: self, expect: element })? else { break };
            let is_object = matches!(found, Found::Taken | Found::Position(_));
            if element != Expect::Any && !is_object {
                self.problem("must be an object")?;
                self.push_placeholder(element)?;
            }
            self.path.pop();
        }
        self.path.pop();
        Ok(())
    }

    /// Keeps the indices right after an element of the wrong type.
    fn push_placeholder<E: Error>(&mut self, element: Expect) -> Result<(), E> {
        let (zone, row, seat) = (self.zones.len() as u32, self.rows.len(), self.seats.len());
        match element {
            Expect::Zone => {
                self.zones.push(Zone { name: boxed(None), rows: range(row, row), places: range(seat, seat) });
            }
            Expect::Row => {
                let places = range(seat, seat);
                self.rows.push(Row { zone, name: boxed(None), label: boxed(None), seat_label: boxed(None), places });
            }
            Expect::Seat => self.push_seat(None, None, Loose { category: None, position: [0.0; 2] })?,
            Expect::Category => self.categories.push(Category { name: boxed(None), color: boxed(None) }),
            _ => {}
        }
        Ok(())
    }

    fn value<A: MapAccess<'de>>(&mut self, map: &mut A, expect: Expect) -> Result<Found<'de>, A::Error> {
        map.next_value_seed(Node { reader: self, expect })
    }

    fn ignore<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        self.value(map, Expect::Any).map(drop)
    }

    fn list_member<A: MapAccess<'de>>(&mut self, map: &mut A, expect: Expect) -> Result<(), A::Error> {
        match self.value(map, expect)? {
            Found::Taken => Ok(()),
            Found::Null if self.rules == Rules::Old => Ok(()),
            _ => self.problem("must be a list"),
        }
    }

    /// A list of what is only drawn; plans that were taken once may have anything there.
    fn drawn_list<A: MapAccess<'de>>(&mut self, map: &mut A, expect: Expect) -> Result<(), A::Error> {
        match self.rules {
            Rules::New => self.list_member(map, expect),
            Rules::Old => self.ignore(map),
        }
    }

    fn drawn_text<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Text(_) | Found::Null => Ok(()),
            _ => self.wrong_now("must be a string"),
        }
    }

    fn drawn_number<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Number(_) | Found::Null => Ok(()),
            _ => self.wrong_now("must be a number"),
        }
    }

    fn drawn_label<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
        if self.rules == Rules::New {
            return self.label(map, NAME_CHARS_MAX);
        }
        let found = self.value(map, Expect::Any)?;
        Ok(if let Found::Text(text) = found { Some(text) } else { None })
    }

    fn one_of<A: MapAccess<'de>>(&mut self, map: &mut A, words: &[&str]) -> Result<(), A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Null => Ok(()),
            Found::Text(text) if words.contains(&&*text) => Ok(()),
            _ => self.wrong_now(format!("must be one of {}", words.join(", "))),
        }
    }

    fn shape_member<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        match self.value(map, Expect::Shape)? {
            Found::Taken | Found::Null => Ok(()),
            _ => self.wrong_now("must be an object"),
        }
    }

    /// What is drawn beside the seats: an area, or what an area is made of.
    fn shape<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.object(map, |reader, member, map| match member {
            _ if reader.rules == Rules::Old => reader.ignore(map),
            "position" => reader.position(map).map(drop),
            "rotation" | "width" | "height" | "size" => reader.drawn_number(map),
            "color" | "border_color" | "shape" => reader.drawn_text(map),
            "rectangle" | "ellipse" | "circle" | "polygon" => reader.shape_member(map),
            "points" => reader.list_member(map, Expect::Points),
            // A number of a circle, and one for each axis of an ellipse.
            "radius" => match reader.value(map, Expect::Position)? {
                Found::Number(_) | Found::Position(_) | Found::Null => Ok(()),
                _ => reader.problem("must be a number or an object"),
            },
            // The older way to write it is a string.
            "text" => match reader.value(map, Expect::Shape)? {
                Found::Text(_) | Found::Taken | Found::Null => Ok(()),
                _ => reader.problem("must be a string or an object"),
            },
            _ => reader.ignore(map),
        })
    }

    fn position<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<[f64; 2], A::Error> {
        match self.value(map, Expect::Position)? {
            Found::Position(position) => return Ok(position),
            Found::Null => {}
            _ => self.problem("must be an object")?,
        }
        Ok([0.0; 2])
    }

    fn coordinates<A: MapAccess<'de>>(&mut self, map: A) -> Result<[f64; 2], A::Error> {
        let mut position = [0.0; 2];
        self.object(map, |reader, member, map| {
            match member {
                "x" => position[0] = reader.coordinate(map)?,
                "y" => position[1] = reader.coordinate(map)?,
                _ => reader.ignore(map)?,
            }
            Ok(())
        })?;
        Ok(position)
    }

    fn coordinate<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<f64, A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Number(number) => return Ok(number.as_f64().unwrap_or(f64::NAN)),
            Found::Null => {}
            _ => self.problem("must be a number")?,
        }
        Ok(0.0)
    }

    /// A text; `None` if it is `null`, and `Some(None)` if there is a problem with it, which is then noted.
    #[expect(clippy::option_option, reason = "absent and wrong are different to who requires it")]
    fn string<A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        chars: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<Option<Cow<'de, str>>>, A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Text(text) => self.bounded(text, chars).map(Some),
            Found::Null => Ok(None),
            _ => self.problem("must be a string").map(|()| Some(None)),
        }
    }

    /// A text that some editors write as a number.
    fn label<A: MapAccess<'de>>(&mut self, map: &mut A, chars_max: usize) -> Result<Option<Cow<'de, str>>, A::Error> {
        match self.value(map, Expect::Any)? {
            Found::Text(text) => self.bounded(text, 0..=chars_max),
            Found::Number(number) => self.bounded(Cow::Owned(number.to_string()), 0..=chars_max),
            Found::Null => Ok(None),
            _ => self.problem("must be a string").map(|()| None),
        }
    }

    fn bounded<E: Error>(
        &mut self,
        text: Cow<'de, str>,
        chars: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<Cow<'de, str>>, E> {
        if chars.contains(&text.chars().count()) && !text.contains(char::is_control) {
            return Ok(Some(text));
        }
        let (min, max) = (chars.start(), chars.end());
        self.problem(format!("must be {min} to {max} characters, none of them a control character"))?;
        Ok(None)
    }
}

/// What stands against the plan.
impl Reader<'_> {
    fn required<E: Error>(&mut self, member: &'static str, given: bool) -> Result<(), E> {
        if given {
            return Ok(());
        }
        self.path.push(Segment::Member(Cow::Borrowed(member)));
        self.problem("is missing")?;
        self.path.pop();
        Ok(())
    }

    /// As [`required`](Self::required), of members that once were not.
    fn required_now<E: Error>(&mut self, member: &'static str, given: bool) -> Result<(), E> {
        self.required(member, given || self.rules == Rules::Old)
    }

    /// Notes a problem that once was none.
    fn wrong_now<E: Error>(&mut self, message: impl Into<String>) -> Result<(), E> {
        if self.rules == Rules::Old { Ok(()) } else { self.problem(message) }
    }

    /// Notes a problem at the present place. The error is not one of JSON: it ends the reading.
    fn problem<E: Error>(&mut self, message: impl Into<String>) -> Result<(), E> {
        self.note(self.path(), message.into());
        if self.stopped { Err(E::custom("too many problems")) } else { Ok(()) }
    }

    /// Notes a problem after which the rest is not worth reading.
    fn stop<E: Error>(&mut self, message: String) -> Result<(), E> {
        self.note(self.path(), message);
        self.stopped = true;
        Err(E::custom("beyond a limit"))
    }

    fn note(&mut self, path: String, message: String) {
        // A seat may have several, and is looked at to its end.
        if self.problems.len() < self.limits.problems_max {
            self.problems.push(Problem { path, message });
        }
        self.stopped |= self.problems.len() >= self.limits.problems_max;
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                Segment::Index(index) => _ = write!(path, "[{index}]"),
                Segment::Member(name) => push_member(&mut path, name),
            }
        }
        path
    }

    fn path_of(&self, seat: usize, member: &str) -> String {
        let place = &self.seats[seat];
        let row = &self.rows[place.row as usize];
        let row_index = place.row - self.zones[row.zone as usize].rows.start;
        let seat_index = seat as u32 - row.places.start;
        format!("zones[{}].rows[{row_index}].seats[{seat_index}].{member}", row.zone)
    }

    /// Checks what can be known once all is read, and settles it.
    fn check(&mut self) {
        self.by_guid.reserve(self.seats.len(), |_| 0);
        for seat in 0..self.seats.len() {
            if self.stopped {
                return;
            }
            self.check_guid(seat);
            self.check_category(seat);
            self.check_position(seat);
        }
    }

    fn check_guid(&mut self, seat: usize) {
        let own = guid(&self.text, &self.seats[seat]);
        if own.is_empty() {
            return; // noted when it was read
        }
        let hash_of = |index: &u32| self.hasher.hash_one(guid(&self.text, &self.seats[*index as usize]));
        let same = |index: &u32| guid(&self.text, &self.seats[*index as usize]) == own;
        match self.by_guid.find(self.hasher.hash_one(own), same) {
            Some(&other) => {
                let message = format!("is also {}", self.path_of(other as usize, "seat_guid"));
                self.note(self.path_of(seat, "seat_guid"), message);
            }
            None => _ = self.by_guid.insert_unique(self.hasher.hash_one(own), seat as u32, hash_of),
        }
    }

    fn check_category(&mut self, seat: usize) {
        let Some(number) = self.loose[seat].category else { return };
        match self.declared[number] {
            Some(index) => self.seats[seat].category = index.into(),
            None => self.note(self.path_of(seat, "category"), "is not among the categories of the plan".into()),
        }
    }

    fn check_position(&mut self, seat: usize) {
        let [x, y] = self.loose[seat].position.map(|coordinate| coordinate as f32);
        if x.is_finite() && y.is_finite() {
            (self.seats[seat].x, self.seats[seat].y) = (x, y);
        } else {
            self.note(self.path_of(seat, "position"), "is too far out".into());
        }
    }

    fn finish(self) -> SeatingPlan {
        let (runs, order) = runs(&self.rows, &self.loose);
        let own = Own {
            seats: self.seats.len() as u32,
            rows: self.rows.len() as u32,
            zones: self.zones.len() as u32,
            categories: self.categories.len() as u32,
        };
        SeatingPlan {
            own,
            first: None,
            rings: (0..).zip(&runs).filter(|(_, run)| run.is_ring).map(|(index, _)| index).collect(),
            runs: runs.into(),
            by_category: by_category(&self.seats, &order, self.categories.len()),
            moved: moved(&order),
            order: order.into(),
            seats: self.seats.into(),
            rows: self.rows.into(),
            zones: self.zones.into(),
            categories: self.categories.into(),
            by_guid: self.by_guid,
            hasher: self.hasher,
            text: self.text.into(),
        }
    }
}

/// The runs of all rows, and the seat at each place; none if that is its number everywhere.
fn runs(rows: &[Row], loose: &[Loose]) -> (Vec<Run>, Vec<u32>) {
    let (mut runs, mut order) = (Vec::with_capacity(rows.len()), Vec::with_capacity(loose.len()));
    let mut positions = Vec::new();
    for (row, seats) in rows.iter().map(|row| row.places.clone()).enumerate() {
        positions.clear();
        positions.extend(loose[seats.start as usize..seats.end as usize].iter().map(|seat| seat.position));
        for chain in chains(&positions) {
            let first = order.len();
            order.extend(chain.seats.iter().map(|seat| seats.start + seat));
            runs.push(Run { row: row as u32, places: range(first, order.len()), is_ring: chain.is_ring });
        }
    }
    if order.is_sorted() {
        order = Vec::new();
    }
    (runs, order)
}

fn by_category(seats: &[Place], order: &[u32], categories: usize) -> Box<[Vec<Range<u32>>]> {
    let mut ranges: Vec<Vec<Range<u32>>> = vec![Vec::new(); categories];
    for place in 0..seats.len() as u32 {
        let seat = order.get(place as usize).copied().unwrap_or(place);
        let category = seats[seat as usize].category;
        if category == NOT_FOR_SALE {
            continue;
        }
        let ranges = &mut ranges[category as usize];
        match ranges.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => ranges.push(place..place + 1),
        }
    }
    ranges.into()
}

fn range(start: usize, end: usize) -> Range<u32> {
    start as u32..end as u32
}

fn boxed(text: Option<Cow<'_, str>>) -> Box<str> {
    text.unwrap_or_default().into()
}

/// Writes a member's name so that a path stays readable and short, whatever the name is.
fn push_member(path: &mut String, name: &str) {
    const SHOWN_CHARS_MAX: usize = 64;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !plain || name.len() > SHOWN_CHARS_MAX {
        _ = write!(path, "[{:?}]", name.chars().take(SHOWN_CHARS_MAX).collect::<String>());
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// The name of a member, borrowed from the text where that has no escapes in it.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// The names that one object has so far. Few are compared one by one; an object with many is not from an editor.
#[derive(Default)]
struct Names<'de> {
    few: SmallVec<[Cow<'de, str>; 8]>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    /// Whether it is new.
    fn insert(&mut self, name: Cow<'de, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < self.few.inline_size() {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
}

/// One value of the text, and what to make of it.
struct Node<'r, 'de> {
    reader: &'r mut Reader<'de>,
    expect: Expect,
}

impl<'de> DeserializeSeed<'de> for Node<'_, 'de> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, 'de> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Found<'de>, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Found<'de>, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Found<'de>, E> {
        Ok(Found::Number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Found<'de>, E> {
        Ok(Found::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Found<'de>, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Found::Other, Found::Number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Found<'de>, A::Error> {
        match self.expect.element() {
            Some(element) => self.reader.list(list, element).map(|()| Found::Taken),
            None => self.reader.list(list, Expect::Any).map(|()| Found::Other),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Found<'de>, A::Error> {
        match self.expect {
            Expect::Plan => self.reader.plan(map)?,
            Expect::Zone => self.reader.zone(map)?,
            Expect::Row => self.reader.row(map)?,
            Expect::Seat => self.reader.seat(map)?,
            Expect::Category => self.reader.category(map)?,
            Expect::Position => return self.reader.coordinates(map).map(Found::Position),
            Expect::Area | Expect::Shape => self.reader.shape(map)?,
            Expect::Any
            | Expect::Zones
            | Expect::Rows
            | Expect::Seats
            | Expect::Categories
            | Expect::Areas
            | Expect::Points => {
                self.reader.object(map, |reader, _, map| reader.ignore(map))?;
                return Ok(Found::Other);
            }
        }
        Ok(Found::Taken)
    }
}
