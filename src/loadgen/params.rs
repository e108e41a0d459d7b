//! What a run does: every parameter with its default, from a scenario file and from flags, the latter winning.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::target::CARD;
use crate::config::section;
use crate::payment::Method;
use crate::server::config::Span;

/// The most arrivals under way, unless it is said.
const IN_FLIGHT_MAX: usize = 10_000;

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A scenario, or what the flags make of it, is not one.
    #[error("{origin}: {source}")]
    Scenario {
        /// The file, or "flags".
        origin: String,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A parameter is out of its bounds.
    #[error("{key}: {wrong}")]
    Bounds {
        /// Which.
        key: &'static str,
        /// What it must be.
        wrong: &'static str,
    },
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Hold, then release, over and over, everyone on one option. Both are counted.
    #[default]
    Rush,
    /// A whole on-sale: people arrive, wait in line, look, hold, think it over, and pay or do not.
    #[serde(rename = "onsale")]
    OnSale,
    /// As rush, on many options.
    Scatter,
    /// Charges, purchases and refunds on many wallets.
    Wallets,
    /// A long line that moves.
    Queue,
    /// Many who follow the seats of one option, while they change.
    Live,
    /// A bit of everything, for long.
    Soak,
    /// Purchases by a provider that is slow, late and wrong.
    Cards,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Rush, Self::OnSale, Self::Scatter, Self::Wallets, Self::Queue, Self::Live, Self::Soak, Self::Cards];

    /// Its name in flags, scenarios and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rush => "rush",
            Self::OnSale => "onsale",
            Self::Scatter => "scatter",
            Self::Wallets => "wallets",
            Self::Queue => "queue",
            Self::Live => "live",
            Self::Soak => "soak",
            Self::Cards => "cards",
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What is done.
    pub workload: Workload,
    /// What all random decisions come from.
    pub seed: u64,
    /// For how long people arrive.
    pub duration: Span,
    /// How much of that, at the beginning, is not counted.
    pub warm_up: Span,
    /// Arrivals a second, which do not wait for each other (open loop); 0: `callers`, each of whom arrives again when they
    /// are through (closed loop), or the arrival curve of `onsale`.
    pub rate: f64,
    /// How many arrive again and again.
    pub callers: u64,
    /// The most arrivals under way at a time in the open loop, 0: 10,000, and of `onsale` everybody; those for whom there
    /// is no room are counted.
    pub in_flight_max: usize,
    /// How many different people there are.
    pub users: u64,
    /// A seating plan in the pretix format; empty: a house of `seats` seats is made.
    pub plan: PathBuf,
    /// The house that is made, if there is no plan; 0: as large as the workload wants it.
    pub seats: usize,
    /// How many performances are on sale; 0: as many as the workload wants.
    pub options: usize,
    /// How they are sold.
    pub terms: TermsSection,
    /// The line in front of them.
    pub waiting_room: RoomSection,
    /// Parameters of `rush` and `scatter`.
    pub rush: Rush,
    /// Parameters of `onsale`.
    pub onsale: OnSale,
    /// Parameters of `wallets`.
    pub wallets: Wallets,
    /// Parameters of `queue`.
    pub queue: Queue,
    /// Parameters of `live`.
    pub live: Live,
    /// Parameters of `soak`.
    pub soak: Soak,
    /// Parameters of `cards`.
    pub cards: Cards,
    /// What the auditor looks at.
    pub audit: Audit,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            workload: Workload::default(),
            seed: 1,
            duration: seconds(10),
            warm_up: seconds(0),
            rate: 0.0,
            callers: 64,
            in_flight_max: 0,
            users: 20_000,
            plan: PathBuf::new(),
            seats: 0,
            options: 0,
            terms: TermsSection::default(),
            waiting_room: RoomSection::default(),
            rush: Rush::default(),
            onsale: OnSale::default(),
            wallets: Wallets::default(),
            queue: Queue::default(),
            live: Live::default(),
            soak: Soak::default(),
            cards: Cards::default(),
            audit: Audit::default(),
        }
    }
}

const fn seconds(n: u64) -> Span {
    Span(std::time::Duration::from_secs(n))
}

section! {
    /// How a performance is sold.
    TermsSection {
        /// How long a hold lasts; 0: as long as the workload wants it.
        hold_seconds: u32 = 0,
        /// The most seats of one reservation.
        max_seats_per_reservation: u32 = 8,
        /// The most seats of one user.
        max_seats_per_user: u32 = 8,
    }
}

section! {
    /// The line in front of a sale.
    RoomSection {
        /// How many may be inside.
        max_active: u32 = 500,
        /// How many are let in within a minute; 0: no limit.
        admit_per_minute: u32 = 0,
        /// How long one may stay inside.
        active_ttl_seconds: u32 = 600,
        /// How long one who waits may be silent.
        waiting_ttl_seconds: u32 = 120,
    }
}

/// As `section!`, with shares, which have no equality worth deriving.
macro_rules! shares {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

shares! {
    /// Parameters of `rush` and `scatter`.
    Rush {
        /// Seats of one hold.
        seats_per_hold: usize = 2,
        /// The share of holds that are for somebody else's seats.
        contended: f64 = 0.0,
    }
}

shares! {
    /// Parameters of `onsale`.
    OnSale {
        /// Whether there is a line; without, everybody is let in at once.
        queue: bool = true,
        /// The share of people who come in the first rush.
        rush_share: f64 = 0.7,
        /// How long that rush takes to fade away.
        rush_fades: Span = seconds(5),
        /// How likely groups of 1, 2, 3 and so on are, up to 8, by weight.
        groups: Vec<f64> = vec![10.0, 45.0, 10.0, 22.0, 4.0, 5.0, 1.0, 3.0],
        /// The share who pick seats on the map; the others take the best that are left.
        pick_share: f64 = 0.4,
        /// How long one looks before one chooses, on average.
        browse: Span = seconds(2),
        /// How long one thinks over what one has, on average.
        dither: Span = seconds(3),
        /// The share who pay in the end, of those who hold seats.
        pay_share: f64 = 0.75,
        /// The share who give the seats back. Those who do neither go away and let their hold run out.
        drop_share: f64 = 0.15,
        /// How often one tries again when the seats are gone.
        retries: u32 = 4,
        /// The share who reload the page all the time while they wait.
        reload_share: f64 = 0.1,
        /// How often those do.
        reload_every: Span = Span(std::time::Duration::from_millis(500)),
        /// How long one waits in line, on average, before one gives up.
        patience: Span = seconds(120),
    }
}

shares! {
    /// Parameters of `wallets`: what an arrival does. What is left of all is looking at the balance.
    Wallets {
        /// The share that charge a wallet.
        charge_share: f64 = 0.4,
        /// The share that buy a seat and have it refunded.
        buy_share: f64 = 0.4,
    }
}

shares! {
    /// Parameters of `queue`. The first `users` arrivals get in line; those after them are of people who ask where they
    /// stand.
    Queue {
        /// The share of those inside who leave when they ask.
        leave_share: f64 = 0.5,
    }
}

shares! {
    /// Parameters of `live`.
    Live {
        /// How many follow.
        followers: u64 = 1_000,
    }
}

shares! {
    /// Parameters of `soak`: what an arrival does. What is left of all is hold and release.
    Soak {
        /// The share that buy and have it refunded.
        buy_share: f64 = 0.1,
        /// The share that hold and go away.
        abandon_share: f64 = 0.02,
    }
}

shares! {
    /// Parameters of `cards`: what becomes of a payment. What is left of all is paid in time.
    Cards {
        /// The share that fails.
        fail_share: f64 = 0.1,
        /// The share that is given up, and then paid all the same or not.
        give_up_share: f64 = 0.1,
        /// The share that is paid after its deadline.
        late_share: f64 = 0.1,
        /// The share that is charged too much at first, or twice.
        wrong_share: f64 = 0.1,
        /// The share of facts that are told twice.
        repeat_share: f64 = 0.2,
        /// How long the provider takes for each step, on average.
        delay: Span = Span(std::time::Duration::from_millis(50)),
        /// How long an embedded engine lets a buyer pay; a server's configuration says it for itself.
        pay_within: Span = seconds(2),
    }
}

impl Cards {
    /// How an embedded engine takes them.
    #[must_use]
    pub fn method(&self) -> Method {
        let pay_within_ms = u64::try_from(self.pay_within.0.as_millis()).unwrap_or(u64::MAX);
        Method { name: CARD.into(), pay_within_ms, ..Method::default() }
    }
}

section! {
    /// What the auditor looks at.
    Audit {
        /// Of how many holds one is read again at once.
        read_back_every: u64 = 256,
        /// How often the seats are compared with what callers were told.
        interval: Span = seconds(1),
        /// Up to how many events a journal is audited at the end, if it can be reached.
        journal_events_max: u64 = 2_000_000,
        /// How many wallets, and how many reservations, are looked at in the end.
        sample_max: u64 = 20_000,
    }
}

impl Params {
    /// Puts a run together from a scenario file, if there is one, and flags: keys such as `onsale.queue`, and values as in
    /// TOML (text may go without quotes).
    ///
    /// # Errors
    /// The file cannot be read, there is no such parameter, or it is not what it must be.
    pub fn load(scenario: Option<&Path>, flags: &[(String, String)]) -> Result<Self, Error> {
        let mut table = match scenario {
            Some(path) => read_table(path)?,
            None => Table::new(),
        };
        for (key, value) in flags {
            set(&mut table, key, value);
        }
        let origin = || scenario.map_or_else(|| "flags".to_owned(), |path| format!("{} and flags", path.display()));
        let params = Value::Table(table).try_into::<Self>();
        let params = params.map_err(|source| Error::Scenario { origin: origin(), source: Box::new(source) })?;
        params.validate()?;
        Ok(params)
    }

    /// The same, with what was left to the workload.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.workload == Workload::OnSale && self.rate > 0.0 {
            // Everybody comes once.
            self.users = self.users.max((self.rate * self.duration.0.as_secs_f64() * 1.2) as u64);
        }
        if self.in_flight_max == 0 {
            let everybody = if self.workload == Workload::OnSale { self.users as usize } else { 0 };
            self.in_flight_max = everybody.max(IN_FLIGHT_MAX);
        }
        let slots = if self.rate > 0.0 { self.in_flight_max as u64 } else { self.callers };
        let per_hold = self.rush.seats_per_hold;
        let (options, seats, hold_seconds) = match self.workload {
            Workload::Rush => (1, slots as usize * per_hold, 300),
            Workload::Scatter => (1_000, (slots as usize).div_ceil(self.options.max(1)).max(50) * per_hold, 300),
            Workload::OnSale => (1, 10_000, 300),
            Workload::Wallets => (4, 5_000, 300),
            Workload::Queue => (1, 100, 300),
            Workload::Live => (1, 1_000, 300),
            Workload::Soak => (4, 20_000, 5),
            // Shorter than a payment, so that late money finds seats that are gone.
            Workload::Cards => (1, 1_000, 1),
        };
        let or = |given: usize, otherwise: usize| if given == 0 { otherwise } else { given };
        (self.options, self.seats) = (or(self.options, options), or(self.seats, seats));
        if self.terms.hold_seconds == 0 {
            self.terms.hold_seconds = hold_seconds;
        }
        if matches!(self.workload, Workload::Rush | Workload::Scatter) {
            // Nobody is in two places at a time.
            self.users = self.users.max(slots * 2);
        }
        self
    }

    fn validate(&self) -> Result<(), Error> {
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let shares = [
            ("rush.contended", self.rush.contended),
            ("onsale.rush_share", self.onsale.rush_share),
            ("onsale.pick_share", self.onsale.pick_share),
            ("onsale.reload_share", self.onsale.reload_share),
            ("onsale.pay_share and drop_share together", self.onsale.pay_share + self.onsale.drop_share),
            (
                "cards.fail_share, give_up_share, late_share and wrong_share together",
                self.cards.fail_share + self.cards.give_up_share + self.cards.late_share + self.cards.wrong_share,
            ),
            ("cards.repeat_share", self.cards.repeat_share),
            ("wallets.charge_share and buy_share together", self.wallets.charge_share + self.wallets.buy_share),
            ("queue.leave_share", self.queue.leave_share),
            ("soak.buy_share and abandon_share together", self.soak.buy_share + self.soak.abandon_share),
        ];
        let wrong_share = shares.into_iter().find(|(_, value)| !share(*value)).map(|(key, _)| (key, "must be 0 to 1"));
        let max = self.terms.max_seats_per_reservation as usize;
        let wrong = [
            (self.duration.0.is_zero(), "duration", "must be longer than nothing"),
            (self.warm_up >= self.duration, "warm_up", "must be shorter than the duration"),
            (!(0.0..=1e9).contains(&self.rate), "rate", "must be 0 to 1,000,000,000"),
            (!(1..=1_000_000).contains(&self.callers), "callers", "must be 1 to 1,000,000"),
            (self.in_flight_max > 10_000_000, "in_flight_max", "must be at most 10,000,000"),
            (!(1..=100_000_000).contains(&self.users), "users", "must be 1 to 100,000,000"),
            (self.terms.hold_seconds > 86_400, "terms.hold_seconds", "must be at most 86,400"),
            (self.seats > 1_000_000, "seats", "must be at most 1,000,000"),
            (self.options > 100_000, "options", "must be at most 100,000"),
            (
                !(1..=max).contains(&self.rush.seats_per_hold),
                "rush.seats_per_hold",
                "must be 1 to the most seats of a reservation",
            ),
            (!(1..=8).contains(&self.onsale.groups.len()), "onsale.groups", "must be 1 to 8 weights"),
            (
                self.onsale.groups.iter().any(|weight| !(0.0..1e9).contains(weight)),
                "onsale.groups",
                "must be weights, 0 or more",
            ),
            (self.audit.read_back_every == 0, "audit.read_back_every", "must be at least 1"),
            (self.audit.interval.0.is_zero(), "audit.interval", "must be longer than nothing"),
        ];
        let wrong = wrong.into_iter().find(|(wrong, ..)| *wrong).map(|(_, key, text)| (key, text));
        wrong.or(wrong_share).map_or(Ok(()), |(key, wrong)| Err(Error::Bounds { key, wrong }))
    }
}

fn read_table(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
    let parsed = text.parse::<Table>();
    parsed.map_err(|source| Error::Scenario { origin: path.display().to_string(), source: Box::new(source) })
}

/// Sets a dotted key. What is not a value of TOML is a text.
fn set(table: &mut Table, key: &str, value: &str) {
    let mut table = table;
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    for part in path.into_iter().flat_map(|path| path.split('.')) {
        let entry = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Some(inner) = entry.as_table_mut() else { return };
        table = inner;
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = match parsed.unwrap_or_else(|| Value::String(value.to_owned())) {
        // A rate may be given as a whole number.
        Value::Integer(whole) if last == "rate" || last.ends_with("share") || last == "contended" => {
            Value::Float(whole as f64)
        }
        value => value,
    };
    table.insert(last.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[(&str, &str)]) -> Result<Params, Error> {
        let flags: Vec<_> = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Params::load(None, &flags)
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(load(&[]).unwrap(), Params::default());
    }

    #[test]
    fn what_is_left_to_the_workload_depends_on_how_many_come() {
        let settled = |flags: &[_]| load(flags).unwrap().settled();
        assert_eq!(settled(&[("callers", "64")]).seats, 128);
        assert_eq!(settled(&[("rate", "1"), ("in_flight_max", "500")]).seats, 1_000);
        assert_eq!(settled(&[("seats", "10"), ("options", "3")]).options, 3);
        let onsale = settled(&[("workload", "onsale"), ("rate", "5000"), ("duration", "10s")]);
        assert_eq!((onsale.users, onsale.in_flight_max), (60_000, 60_000));
        assert_eq!(settled(&[("workload", "soak")]).terms.hold_seconds, 5);
    }

    #[test]
    fn flags_are_read_as_toml_or_as_text() {
        let params = load(&[
            ("workload", "onsale"),
            ("duration", "2m"),
            ("rate", "1000"),
            ("onsale.pay_share", "0.5"),
            ("onsale.groups", "[1.0, 2.0]"),
            ("waiting_room.max_active", "7"),
        ]);
        let params = params.unwrap();
        assert_eq!((params.workload, params.duration), (Workload::OnSale, seconds(120)));
        assert_eq!((params.rate, params.onsale.pay_share), (1000.0, 0.5));
        assert_eq!((params.onsale.groups, params.waiting_room.max_active), (vec![1.0, 2.0], 7));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, message) in [
            (&[("workload", "stampede")][..], "stampede"),
            (&[("onsale.speed", "1")], "speed"),
            (&[("duration", "0s")], "duration"),
            (&[("warm_up", "10s")], "warm_up"),
            (&[("rate", "-1")], "rate"),
            (&[("onsale.pay_share", "0.9"), ("onsale.drop_share", "0.2")], "pay_share"),
            (&[("rush.seats_per_hold", "9")], "seats_per_hold"),
            (&[("audit.read_back_every", "0")], "read_back_every"),
        ] {
            let error = load(flags).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn every_workload_has_the_name_it_is_called_by() {
        for workload in Workload::ALL {
            assert_eq!(load(&[("workload", workload.name())]).unwrap().workload, workload);
        }
    }
}
