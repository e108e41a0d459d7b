# Written by clients/generate.py from the server's OpenAPI document. Change that, not this.
"""The types and the operations of the API."""

from __future__ import annotations

from typing import Any, Literal, Optional, TypedDict, Union

from .calls import Call, Calls, Pages, Tagged, new_key, path_of

# What a breaker lets through.
BreakerState = Literal["closed", "open", "half_open"]

# The id of a concert; opaque
ConcertId = str

# A code of ISO 4217
Currency = str

Cursor = str

# The id of a wallet's entry; opaque
EntryId = str

EntryKind = Literal["charge", "debit", "credit", "adjustment"]

EventId = str

EventType = Literal[
    "boxoffice.reservation.created", "boxoffice.reservation.released", "boxoffice.reservation.expired",
    "boxoffice.reservation.confirmed", "boxoffice.reservation.refunded", "boxoffice.payment.completed",
    "boxoffice.payment.failed", "boxoffice.payment.refunded", "boxoffice.token.issued",
    "boxoffice.token.activated", "boxoffice.token.expired", "boxoffice.token.used", "boxoffice.wallet.charged",
    "boxoffice.payment.pending", "boxoffice.payment.authorized", "boxoffice.payment.voided",
    "boxoffice.payment.refund_owed", "boxoffice.payment.capture_requested", "boxoffice.payment.void_requested",
    "boxoffice.payment.refund_requested", "boxoffice.payment.check_requested", "boxoffice.payment.disputed"
]

FactKind = Literal[
    "opened", "authorized", "captured", "failed", "voided", "refunded", "refund_failed", "disputed",
    "dispute_won", "dispute_lost"
]

# Where the better seats are: near a point of the plan, or in these zones before others, best first
Focus = Union["FocusXY", "FocusZones"]

# Seats or places to be held
Hold = Union["HoldSeats", "HoldBestAvailable", "HoldAreas"]

IdempotencyKey = str

# What a node is to its cluster.
NodeRole = Literal["owner", "follower"]

# The id of an option; opaque
OptionId = str

OptionStatus = Literal["scheduled", "on_sale", "sold_out", "closed", "cancelled"]

PageLimit = int

# Why a receiver is left alone.
PauseReason = Literal["failures", "retry_after"]

# The id of a payment; opaque
PaymentId = str

Points = int

# The id of a refund; opaque
RefundId = str

# The id of a reservation; opaque
ReservationId = str

ReservationStatus = Literal["held", "paying", "confirmed", "released", "expired", "refunded"]

# What a receiver is.
SinkKind = Literal["webhook", "kafka", "host"]

# RFC 3339; in answers UTC with milliseconds
Timestamp = str

# The id of a token; opaque
TokenId = str

TokenStatus = Literal["waiting", "active", "used", "expired"]

# The id of an offer to hand a reservation on; opaque
TransferId = str

# The subject of a JWT
UserId = str

WaitingRoomMode = Literal["open", "queue", "paused"]

WaitingRoomOrder = Literal["fifo", "shuffle_at_open"]

# What a receiver is sent.
WebhookFormat = Literal["cloudevent", "batch", "template"]

# The id of a webhook; opaque
WebhookId = str

# Whether anything is delivered to a receiver.
WebhookStatus = Literal["active", "disabled", "suspended"]


class Adjustment(TypedDict):
    """A correction."""
    amount: int
    """Points to be added, or to be taken if it is below zero; not 0."""
    reason: str
    """Why."""


class Alive(TypedDict):
    status: Literal["alive"]


class AreaSeats(TypedDict):
    """Places in an area."""
    available: int
    """Free to be held."""
    capacity: int
    """In all."""


class AreaWish(TypedDict):
    """Places in an area."""
    count: int
    """How many."""
    name: str
    """The area."""


class _BestAvailable(TypedDict):
    count: int
    """How many, 1 to the option's `max_seats_per_reservation`; with companions, how many accessible places."""


class BestAvailable(_BestAvailable, total=False):
    """What counts as best."""
    adjacent: bool
    """Whether they must stand side by side in one row."""
    category: Union[str, None]
    """Only of this category."""
    companions: int
    """How many seats for companions beside accessible places; with them all must be adjacent."""
    zone: Union[str, None]
    """Only in this zone."""


class BlockList(TypedDict, total=False):
    """What is to be off sale, or on it again, or is so now: at least one seat, zone, row or area."""
    areas: list[BlockedArea]
    """So many places of these areas."""
    reason: str
    """Why; the histories of the seats tell it."""
    rows: list[BlockedRow]
    """All seats of these rows."""
    seats: list[str]
    """Seats, by their ids."""
    zones: list[str]
    """All seats of these zones."""


class BlockedArea(TypedDict):
    """Places in an area, beside those that are blocked already."""
    count: int
    """How many."""
    name: str
    """The area."""


class BlockedRow(TypedDict):
    """A row of a seating plan."""
    row: str
    """Its own name: `row_number` of the plan."""
    zone: str
    """The name of its zone."""


class Cancellation(TypedDict):
    """How far the calling off of a performance is. It is over once all are done and nothing is owed."""
    cancelled_at: Timestamp
    """Since when."""
    done: int
    """How many payments are given back."""
    owed: int
    """How many are not settled: wallets have not taken a refund, providers have not said that one is done or
    that they will never take any money, or somebody disputes it.
    """
    reason: Union[str, None]
    """Why, if that was told."""
    total: int
    """Of how many; those that are under way among them, which leave it again if they take nothing."""


class Charge(TypedDict):
    """Points to be added."""
    amount: int
    """1 to 2^53-1."""


class Compared(TypedDict):
    """What one of both does not know."""
    unknown_here: list[Moved]
    """What the provider lists, and was not heard of."""
    unknown_to_provider: list[Moved]
    """What was heard of, and the provider does not list."""


class _Concert(TypedDict):
    created_at: Timestamp
    """When it was announced."""
    id: ConcertId
    """Its id."""
    options: list[OptionId]
    """Its options, oldest first."""
    title: str
    """Its title."""
    waiting_room: WaitingRoomSettings
    """The settings of its waiting room."""


class Concert(_Concert, total=False):
    """A concert."""
    description: str
    hidden: Literal[True]
    """it is left out of the list; absent: it is not"""
    image_url: str
    time_zone: str
    """an IANA name"""
    venue: str


class ConcertDetails(TypedDict, total=False):
    description: str
    hidden: Literal[True]
    """it is left out of the list; absent: it is not"""
    image_url: str
    time_zone: str
    """an IANA name"""
    venue: str


class _ConcertOption(TypedDict):
    accessible: list[str]
    """Categories that the best available seats are of only for those who name them."""
    areas: list[NewArea]
    """General admission."""
    concert_id: ConcertId
    """The concert it is a performance of."""
    counts: SeatCounts
    """Seats and places in each state."""
    created_at: Timestamp
    """When it was put on sale."""
    focus: Union[Focus, None]
    hold_seconds: int
    """How long a hold lasts."""
    id: OptionId
    """Its id."""
    max_seats_per_reservation: int
    """The most seats and places of one reservation."""
    max_seats_per_user: int
    """The most seats and places of one user."""
    payment_seconds: int
    """How long a payment may take."""
    prices: dict[str, Points]
    """What each category costs."""
    refundable_until: Union[Timestamp, None]
    sale_closes_at: Timestamp
    """From when they may not."""
    sale_opens_at: Union[Timestamp, None]
    starts_at: Timestamp
    """When the performance starts."""
    status: OptionStatus
    """What its state means for buyers."""


class ConcertOption(_ConcertOption, total=False):
    """A concert option: one performance on sale."""
    currency: Union[Currency, None]
    payment_methods: list[str]
    """How it can be paid; absent: by points."""


class ConcertPatch(TypedDict, total=False):
    """What is told of a concert, any of it. `null` takes it away."""
    description: Union[str, None]
    """1 to 5,000 characters."""
    hidden: Union[bool, None]
    """Whether it is left out of the list of all."""
    image_url: Union[str, None]
    """An address over https."""
    time_zone: Union[str, None]
    """The time zone there, by its IANA name."""
    title: Union[str, None]
    """1 to 200 characters, no control characters; a concert always has one."""
    venue: Union[str, None]
    """Where it is: 1 to 200 characters, no control characters."""


class Confirmation(TypedDict):
    """With what a buyer is back from the provider."""
    amount: Points
    """How much it is of."""
    reference: str
    """The provider's name for the charge."""


class _CreateConcert(TypedDict):
    title: str
    """1 to 200 characters, no control characters."""


class CreateConcert(_CreateConcert, total=False):
    """A concert to be announced."""
    waiting_room: WaitingRoomPatch
    """How its waiting room begins; what is absent has its default."""


class _CreateOption(TypedDict):
    prices: dict[str, Points]
    """What each category costs."""
    seating_plan: SeatingPlan
    """In the pretix format; members that are not known in it are ignored."""
    starts_at: Timestamp
    """When the performance starts."""


class CreateOption(_CreateOption, total=False):
    """An option to be put on sale."""
    accessible: list[str]
    """Categories that the best available seats are of only for those who name them."""
    areas: list[NewArea]
    """General admission."""
    currency: Union[Currency, None]
    focus: Union[Focus, None]
    hold_seconds: int
    """How long a hold lasts."""
    max_seats_per_reservation: int
    """The most seats and places of one reservation."""
    max_seats_per_user: int
    """The most seats and places of one user."""
    payment_methods: list[str]
    """How it can be paid: `points`, or the names of providers in the configuration; by points by default."""
    payment_seconds: int
    """How long a payment may take."""
    refundable_until: Union[Timestamp, None]
    sale_closes_at: Union[Timestamp, None]
    sale_opens_at: Union[Timestamp, None]


class DeadLetter(TypedDict):
    """An event that a receiver would not take."""
    attempts: int
    """How often it was tried."""
    event_id: EventId
    """Which."""
    event_type: EventType
    """What happened."""
    last_response: Union[WebhookResponse, None]
    subject: str
    """What it is about."""


class Empty(TypedDict):
    """An operation that has nothing to say: `{}`, or no body at all."""


class Event(TypedDict):
    data: Union[Reservation, Payment, EventToken, WalletEntry]
    datacontenttype: Literal["application/json"]
    id: EventId
    source: str
    specversion: Literal["1.0"]
    subject: str
    time: Timestamp
    type: EventType


class EventToken(TypedDict):
    concert_id: ConcertId
    expires_at: Union[None, Timestamp]
    id: TokenId
    status: TokenStatus
    user_id: UserId


class Events(TypedDict):
    items: list[Event]
    next_after: Union[None, EventId]
    """the `after` of the next page"""


class FieldError(TypedDict):
    """One thing that is wrong with the input."""
    field: str
    """Where: a path such as `areas[0].capacity`."""
    message: str
    """What is wrong, and what is allowed."""


class Figures(TypedDict):
    """Counters and gauges, and one sale."""
    applied_lsn: int
    """The last event that reads see."""
    batches: int
    """Batches written."""
    checkpointed_lsn: int
    """The last event in sled."""
    clock_skew_seconds: float
    """How far the engine's clock is from the wall clock, in seconds."""
    commit_seconds: float
    """Time spent in writing and syncing batches, in seconds."""
    durable_lsn: int
    """The last durable event."""
    free_bytes: int
    """Bytes that may still be written."""
    journal_bytes: int
    """Bytes that the journal has grown by, since the engine was opened: whole frames."""
    live_conflations: int
    """Updates for those who had fallen behind, each in place of several."""
    live_flushes: int
    """Times that an option's seats were looked at for those who follow them."""
    live_resyncs: int
    """Snapshots for those who had fallen behind."""
    live_subscribers: int
    """Those who follow an option's seats or a token."""
    overloaded: int
    """Commands that were refused because too much was under way."""
    put_off: int
    """How often a checkpoint or the journal's next segment was put off for want of descriptors, memory or
    space.
    """
    readable_aggregates: int
    """Aggregates in memory for reads."""
    replay_seconds: float
    """About how long a start would take to replay what is not in the state yet, in seconds."""
    resident_actors: int
    """Actors in memory."""
    dead_letters: int
    """Events that a receiver would not take, of all receivers."""
    nodes: list[NodeFigures]
    """The nodes of the cluster, as far as this one has heard of them; none on a machine of its own."""
    sale: Union[Sale, None]
    sinks: int
    """Receivers of events."""
    sinks_behind: int
    """Those of them that are more than 10,000 entries of the journal behind."""


class FocusXY(TypedDict):
    x: float
    y: float


class FocusZones(TypedDict):
    zones: list[str]


class _HandOver(TypedDict):
    to: UserId
    """Who."""


class HandOver(_HandOver, total=False):
    """Who is to have it."""
    accept: bool
    """At once (admin and box office): nobody is asked."""


class _Health(TypedDict):
    ready: bool
    """Whether callers' commands are taken."""
    reasons: list[str]
    """Why not."""
    warnings: list[str]
    """What an operator should look at, although it is ready."""


class Health(_Health, total=False):
    epoch: int
    """The place of the log from which on that one does."""
    lag: int
    """Messages of the log that this node has not taken in yet, as far as it knows."""
    lsn: int
    """The last event in this node's journal."""
    node: str
    """Its name."""
    owner: Union[str, None]
    """The node that decides; null if there is none."""
    role: NodeRole
    """Whether it decides."""


class _HistoryItem(TypedDict):
    at: Timestamp
    lsn: int
    what: str
    """what happened, such as held, released, charge or activated"""
    who: Union[None, UserId]
    """null: time, or a provider of payments"""


class HistoryItem(_HistoryItem, total=False):
    reservation_id: ReservationId
    why: str


class _HoldSeats(TypedDict):
    seats: list[str]


class HoldSeats(_HoldSeats, total=False):
    beyond_limits: bool
    """no limit of seats holds (box office)"""
    complimentary: bool
    """it costs nothing, and is confirmed at once (box office)"""
    data: dict[str, Any]
    from_blocked: bool
    """blocked seats may be named, and are blocked again once they are free (box office)"""
    reference: str
    user_id: UserId
    """for whom (box office)"""


class _HoldBestAvailable(TypedDict):
    best_available: BestAvailable


class HoldBestAvailable(_HoldBestAvailable, total=False):
    beyond_limits: bool
    """no limit of seats holds (box office)"""
    complimentary: bool
    """it costs nothing, and is confirmed at once (box office)"""
    data: dict[str, Any]
    from_blocked: bool
    """blocked seats may be named, and are blocked again once they are free (box office)"""
    reference: str
    user_id: UserId
    """for whom (box office)"""


class _HoldAreas(TypedDict):
    areas: list[AreaWish]


class HoldAreas(_HoldAreas, total=False):
    beyond_limits: bool
    """no limit of seats holds (box office)"""
    complimentary: bool
    """it costs nothing, and is confirmed at once (box office)"""
    data: dict[str, Any]
    from_blocked: bool
    """blocked seats may be named, and are blocked again once they are free (box office)"""
    reference: str
    user_id: UserId
    """for whom (box office)"""


class Moved(TypedDict):
    """Money that moved."""
    amount: Points
    """How much."""
    currency: Currency
    """Of what."""
    kind: str
    """`captured`, `refunded`, `refund_failed` or `dispute_lost`."""
    reference: str
    """The provider's name for the charge."""


class NewArea(TypedDict):
    """A general-admission area of a new option."""
    capacity: int
    """1 to 1,000,000 people."""
    category: str
    """A category that has a price."""
    name: str
    """1 to 200 characters, unique on the option."""


class _NewWebhook(TypedDict):
    url: str
    """Where: http or https, and an address of the public internet, unless the server is configured otherwise.
    """


class NewWebhook(_NewWebhook, total=False):
    """A receiver to be registered."""
    event_types: list[EventType]
    """Which types of events; all by default, those that are yet to come among them."""
    format: WebhookFormat
    """What is sent; `cloudevent` by default."""
    start: str
    """`now` (the default), `beginning`, or the event after which it starts."""
    template: str
    """With the format `template`: a template in a part of Jinja that makes JSON, or the name of one that is
    there already: `en` (the default) or `ko`.
    """


class NodeFigures(TypedDict):
    """A node of the cluster."""
    heard_seconds: float
    """How long ago it was heard of."""
    lsn: int
    """The last event in its journal."""
    node: str
    ready: bool
    """Whether it could decide if it had to."""
    role: NodeRole


class NodeHealth(TypedDict):
    """How a node of a cluster is."""
    epoch: int
    """The place of the log from which on that one does."""
    lag: int
    """Messages of the log that this node has not taken in yet, as far as it knows."""
    lsn: int
    """The last event in this node's journal."""
    node: str
    """Its name."""
    owner: Union[str, None]
    """The node that decides; null if there is none."""
    role: NodeRole
    """Whether it decides."""


class OptionPatch(TypedDict, total=False):
    """Changes of what an option sells, and on what terms, any of them. `null` takes a time of the sale away, or
    back to its default.
    """
    areas: list[PatchedArea]
    """By their names; others stay as they are."""
    hold_seconds: int
    """How long a hold lasts from then on."""
    max_seats_per_reservation: int
    """The most seats and places of one reservation."""
    max_seats_per_user: int
    """The most seats and places of one user."""
    payment_seconds: int
    """How long a payment may take from then on."""
    prices: dict[str, Points]
    """What these categories cost for holds from then on."""
    refundable_until: Union[Timestamp, None]
    sale_closes_at: Union[Timestamp, None]
    sale_opens_at: Union[Timestamp, None]
    starts_at: Timestamp
    """When the performance starts. Where the sale closed when it started, it still does."""


class _OwedItem(TypedDict):
    amount: Points
    """How much."""
    attempts: int
    """How often it was tried, and is certain not to have been done."""
    id: str
    """Its id."""
    kind: str
    """`capture`, `void`, `refund` or `check`."""
    reference: Union[str, None]
    """Of which charge; null: nobody knows of one."""
    since: Timestamp
    """Since when."""


class OwedItem(_OwedItem, total=False):
    """Something that is owed of a payment."""
    by_hand: bool
    """The provider could not: it is settled by hand."""


class Part(TypedDict, total=False):
    """A part of an order."""
    areas: list[AreaWish]
    """Which places."""
    seats: list[str]
    """Which seats."""


class _PatchedArea(TypedDict):
    name: str
    """Its name."""


class PatchedArea(_PatchedArea, total=False):
    """A change of one area. Of one that is new to the option all is needed."""
    capacity: int
    """How many people it takes from then on: not fewer than places of it are held or sold."""
    category: str
    """The category whose price its places have."""


class Pay(TypedDict, total=False):
    """How to pay."""
    method: Union[str, None]
    """One of the option's methods; by points by default."""


class _Payment(TypedDict):
    amount: Points
    balance: Union[None, Points]
    id: PaymentId
    paid_at: Union[None, Timestamp]
    reservation_id: ReservationId
    status: Literal["pending", "authorized", "completed", "failed", "voiding", "voided", "refund_owed", "refunded"]
    user_id: UserId


class Payment(_Payment, total=False):
    checkout: dict[str, Any]
    """what the buyer's page needs to pay, as its provider has it; only for its owner, and while it is pending
    """
    currency: Currency
    disputed: bool
    expires_at: Timestamp
    method: str
    """the provider; this and the rest only where one takes the payment"""
    owed: list[OwedItem]
    provider_id: str
    """what the payment is called at the provider"""
    refunded: int
    shortfall: int
    """what is missing of the price"""
    verdict: Literal["capture", "void", "refund", None]


class _Problem(TypedDict):
    code: Literal["invalid_request", "unauthenticated", "insufficient_points", "forbidden", "queue_token_required", "queue_token_not_active", "not_found", "method_not_allowed", "request_timeout", "seats_unavailable", "not_enough_seats", "limit_exceeded", "sale_not_open", "reservation_expired", "reservation_not_held", "already_paid", "not_refundable", "payment_pending", "payment_under_way", "amount_too_small", "fact_conflict", "reference_in_use", "change_under_way", "reservation_not_confirmed", "price_would_rise", "capacity_in_use", "seats_in_use", "was_held", "payload_too_large", "unsupported_media_type", "unknown_seats", "idempotency_key_reused", "rate_limited", "request_header_fields_too_large", "internal", "overloaded", "storage_full", "outcome_unknown", "keys_unavailable", "no_owner"]
    detail: str
    status: int
    title: str
    type: str


class Problem(_Problem, total=False):
    """RFC 9457; the page at `type` explains it"""
    already: int
    amount: Points
    balance: Points
    conflicts: list[str]
    errors: list[FieldError]
    limit: int
    payment_id: PaymentId
    seats: list[str]


class Reason(TypedDict, total=False):
    """Why a performance is called off."""
    reason: str
    """As it is told to who asks."""


class Reconciled(TypedDict):
    """A charge of which money moved on a day."""
    captured: int
    """How much was taken on that day."""
    currency: Currency
    """What the amounts are of."""
    lost: int
    """How much a bank has taken back."""
    owed: int
    """How much of it is to go back now."""
    payment_id: PaymentId
    """Of which payment it is."""
    reference: str
    """The provider's name for it."""
    refund_failed: int
    """How much of what had gone back came back."""
    refunded: int
    """How much went back."""
    shortfall: int
    """How much is missing now of what its seats cost."""


class Redrive(TypedDict, total=False):
    """Which dead letters to send again; all of them by default."""
    event_id: EventId
    """Only this one; one that waits for another attempt is tried now."""


class Redriven(TypedDict):
    """What is sent again."""
    redriven: int
    """How many dead letters."""


class _Refund(TypedDict):
    amount: Points
    """How much."""
    id: RefundId
    """Its id."""
    payment_id: PaymentId
    """What was given back."""


class Refund(_Refund, total=False):
    """A refund."""
    balance: Union[Points, None]
    refunded_at: Union[Timestamp, None]
    status: Union[str, None]
    """`owed`, where a provider is to give the money back."""


class _ReplacePlan(TypedDict):
    seating_plan: SeatingPlan
    """In the pretix format; members that are not known in it are ignored. Seats are known again by their
    `seat_guid`.
    """


class ReplacePlan(_ReplacePlan, total=False):
    """A seating plan that takes the place of an option's, and what comes with it."""
    accessible: list[str]
    """Categories that the best available seats are of only for those who name them; as before by default."""
    focus: Focus
    """Where the better seats are; as before by default."""
    prices: dict[str, Points]
    """What these categories cost for holds from then on; others as before. Every category with seats needs a
    price.
    """


class _Report(TypedDict):
    amount: Points
    """How much."""
    kind: FactKind
    """What."""
    reference: str
    """The provider's name for the charge."""


class Report(_Report, total=False):
    """What a provider did."""
    at: Union[Timestamp, None]
    currency: Union[Currency, None]
    id: Union[str, None]
    """Of this refund or dispute; the reference by default."""
    reason: Union[str, None]
    """Why."""


class _Reservation(TypedDict):
    amount: Points
    areas: list[ReservedArea]
    created_at: Timestamp
    expires_at: Timestamp
    id: ReservationId
    option_id: OptionId
    seats: list[ReservedSeat]
    status: ReservationStatus
    user_id: UserId


class Reservation(_Reservation, total=False):
    currency: str
    """whose smallest unit the amount counts; absent: it is of points"""
    data: dict[str, Any]
    """what whoever held it keeps with it"""
    payment_id: PaymentId
    reference: str
    """what whoever held it calls it"""


class ReservationWithStepsSteps(TypedDict):
    at: Timestamp
    lsn: int
    step: Literal["held", "payment_started", "payment_confirmed", "payment_failed", "token_completed", "refund_started", "refund_credited", "released", "expired", "payment_authorized", "taken_again", "part_released", "part_refunded", "exchange_started", "exchanged", "exchange_failed", "handed_on", "held_until"]


class _ReservationWithSteps(TypedDict):
    amount: Points
    areas: list[ReservedArea]
    created_at: Timestamp
    expires_at: Timestamp
    id: ReservationId
    option_id: OptionId
    seats: list[ReservedSeat]
    status: ReservationStatus
    user_id: UserId


class ReservationWithSteps(_ReservationWithSteps, total=False):
    currency: str
    """whose smallest unit the amount counts; absent: it is of points"""
    data: dict[str, Any]
    """what whoever held it keeps with it"""
    payment_id: PaymentId
    reference: str
    """what whoever held it calls it"""
    steps: list[ReservationWithStepsSteps]
    """for an admin: how it came to be what it is"""


class ReservedArea(TypedDict):
    """Reserved places in an area."""
    category: str
    """Its category."""
    count: int
    """How many."""
    name: str
    """The area."""
    price: Points
    """What one place costs."""


class _ReservedSeat(TypedDict):
    category: str
    """Its category."""
    id: str
    """Its `seat_guid` in the plan."""
    number: str
    """Its number in the row."""
    price: Points
    """What it costs."""
    row: str
    """Its row's name."""
    zone: str
    """The zone it is in."""


class ReservedSeat(_ReservedSeat, total=False):
    """A reserved seat."""
    row_label: Union[str, None]
    """What to call its row in a text, in place of "row" and its name, if the plan says so."""
    seat_label: Union[str, None]
    """What to call it in a text, in place of "seat" and its number, if the plan says so."""


class RotatedSecret(TypedDict):
    """A new secret."""
    id: WebhookId
    """Whose."""
    previous_valid_until: Timestamp
    """Until when they are signed with the one before too."""
    secret: str
    """With what deliveries are signed. It is not shown again."""


class Sale(TypedDict):
    """A sale, now and before."""
    history: list[SaleFigures]
    """Oldest first, some seconds apart."""
    now: SaleFigures


class SaleFigures(TypedDict):
    """A sale at one moment, for whoever runs it."""
    at: Timestamp
    """When."""
    holds: int
    """Open holds, but for those that are being paid."""
    holds_expiring: int
    """Those of them that run out within a minute."""
    line: TokenCounts
    """Tokens of the concert's waiting room."""
    seats: SeatCounts
    """Seats and places in each state."""


class SeatCounts(TypedDict):
    available: int
    blocked: int
    held: int
    sold: int


class _SeatingPlanCategories(TypedDict):
    name: str


class SeatingPlanCategories(_SeatingPlanCategories, total=False):
    color: Union[str, None]


class SeatingPlanZonesPosition(TypedDict, total=False):
    x: Union[float, None]
    y: Union[float, None]


class SeatingPlanZonesRowsPosition(TypedDict, total=False):
    x: Union[float, None]
    y: Union[float, None]


class SeatingPlanZonesRowsSeatsPosition(TypedDict, total=False):
    x: Union[float, None]
    y: Union[float, None]


class _SeatingPlanZonesRowsSeats(TypedDict):
    category: str
    """empty: not for sale"""
    seat_guid: str


class SeatingPlanZonesRowsSeats(_SeatingPlanZonesRowsSeats, total=False):
    position: SeatingPlanZonesRowsSeatsPosition
    seat_number: Union[str, float, None]
    start_direction: Literal["<", ">", "<>", None]


class _SeatingPlanZonesRows(TypedDict):
    seats: list[SeatingPlanZonesRowsSeats]


class SeatingPlanZonesRows(_SeatingPlanZonesRows, total=False):
    position: SeatingPlanZonesRowsPosition
    row_label: Union[str, float, None]
    row_number: Union[str, float, None]
    seat_label: Union[str, float, None]


class _SeatingPlanZones(TypedDict):
    rows: list[SeatingPlanZonesRows]


class SeatingPlanZones(_SeatingPlanZones, total=False):
    areas: list[dict[str, Any]]
    name: Union[str, float, None]
    position: SeatingPlanZonesPosition


class _SeatingPlan(TypedDict):
    categories: list[SeatingPlanCategories]
    zones: list[SeatingPlanZones]


class SeatingPlan(_SeatingPlan, total=False):
    """A plan in the open seating-plan JSON of pretix"""
    name: Union[str, None]


class Seats(TypedDict):
    areas: dict[str, AreaSeats]
    option_id: OptionId
    seats: dict[str, Literal["held", "sold", "blocked"]]
    seq: int


class Sink(TypedDict):
    """A receiver of events, whatever it is."""
    attempts: WebhookAttempts
    """Attempts since the server was started."""
    breaker: BreakerState
    """Whether attempts are made."""
    cursor: str
    """Everything up to here is delivered or parked, or of no interest to it, and a restart knows that."""
    dead_letters: int
    """How many of those wait for an operator."""
    id: str
    """Its id; of Kafka `kafka`."""
    kind: SinkKind
    """What it is."""
    lag: int
    """How many entries of the journal come after what is delivered, parked or of no interest."""
    last_delivered_at: Union[Timestamp, None]
    last_failure: Union[WebhookResponse, None]
    parked: int
    """Events that wait for another attempt, behind one that does, or for an operator."""
    status: WebhookStatus
    """Whether anything is delivered."""


class _Site(TypedDict):
    login_url: Union[str, None]
    """Where to send who needs a token, with `return_to=<page without fragment>` in its query; null: nowhere."""


class Site(_Site, total=False):
    """The site that this server is a part of."""
    roles: list[str]
    """The roles here (`admin`, `box_office`, ...) of whoever shows a token that counts, none of a buyer; absent
    without one.
    """


class Stats(TypedDict):
    """Counters and gauges, for monitoring."""
    applied_lsn: int
    """The last event that reads see."""
    batches: int
    """Batches written."""
    checkpointed_lsn: int
    """The last event in sled."""
    clock_skew_seconds: float
    """How far the engine's clock is from the wall clock, in seconds."""
    commit_seconds: float
    """Time spent in writing and syncing batches, in seconds."""
    durable_lsn: int
    """The last durable event."""
    free_bytes: int
    """Bytes that may still be written."""
    journal_bytes: int
    """Bytes that the journal has grown by, since the engine was opened: whole frames."""
    live_conflations: int
    """Updates for those who had fallen behind, each in place of several."""
    live_flushes: int
    """Times that an option's seats were looked at for those who follow them."""
    live_resyncs: int
    """Snapshots for those who had fallen behind."""
    live_subscribers: int
    """Those who follow an option's seats or a token."""
    overloaded: int
    """Commands that were refused because too much was under way."""
    put_off: int
    """How often a checkpoint or the journal's next segment was put off for want of descriptors, memory or
    space.
    """
    readable_aggregates: int
    """Aggregates in memory for reads."""
    replay_seconds: float
    """About how long a start would take to replay what is not in the state yet, in seconds."""
    resident_actors: int
    """Actors in memory."""


class Swap(TypedDict, total=False):
    """What is given, and what is taken for it."""
    give: list[str]
    """Which of its seats are given."""
    give_areas: list[AreaWish]
    """Which of its places are given."""
    take: list[str]
    """Which seats are taken."""
    take_areas: list[AreaWish]
    """Which places are taken."""


class Token(TypedDict):
    """A place in a waiting room."""
    ahead: Union[int, None]
    """How many are before it; null likewise."""
    concert_id: ConcertId
    """Whose waiting room."""
    expected_wait_seconds: Union[int, None]
    """How long it may take; null if that cannot be told."""
    expires_at: Union[Timestamp, None]
    id: TokenId
    """Its id."""
    position: Union[int, None]
    """1 = next; null unless it waits in an opened line."""
    queue_size: int
    """How many wait."""
    refresh_interval_seconds: int
    """After how long to ask again."""
    status: TokenStatus
    """Where it stands."""
    token: str
    """The signed form, to be shown when seats are held."""


class TokenCounts(TypedDict):
    active: int
    expired: int
    used: int
    waiting: int


class Transfer(TypedDict):
    """An offer to hand a reservation on."""
    expires_at: Timestamp
    """Until when it stands."""
    id: TransferId
    """Its id: who has it and is meant may accept."""


class Until(TypedDict):
    """Until when it is to be held."""
    expires_at: Timestamp
    """A time that is to come."""


class WaitingRoom(TypedDict):
    """The waiting room of a concert."""
    active_ttl_seconds: int
    admit_per_minute: Union[int, None]
    max_active: int
    mode: WaitingRoomMode
    opens_at: Union[None, Timestamp]
    order: WaitingRoomOrder
    waiting_ttl_seconds: int
    counts: TokenCounts
    """How many tokens are in each state."""


class WaitingRoomPatch(TypedDict, total=False):
    """Settings of a waiting room, any of them. `null` stands for the default."""
    active_ttl_seconds: Union[int, None]
    """How long one may stay inside; 600 by default."""
    admit_per_minute: Union[int, None]
    """How many are let in within a minute; no limit by default."""
    max_active: Union[int, None]
    """How many may be inside for another one to be let in; 500 by default."""
    mode: Union[WaitingRoomMode, None]
    opens_at: Union[Timestamp, None]
    order: Union[WaitingRoomOrder, None]
    waiting_ttl_seconds: Union[int, None]
    """How long a waiter may be silent; 120 by default."""


class WaitingRoomSettings(TypedDict):
    active_ttl_seconds: int
    admit_per_minute: Union[int, None]
    max_active: int
    mode: WaitingRoomMode
    opens_at: Union[None, Timestamp]
    order: WaitingRoomOrder
    waiting_ttl_seconds: int


class Wallet(TypedDict):
    """A user's points."""
    balance: Points
    """How many."""
    user_id: UserId
    """Whose."""


class _WalletEntry(TypedDict):
    amount: int
    """How many points came or went."""
    at: Timestamp
    """When."""
    balance: Points
    """The balance after it."""
    id: EntryId
    """Its id."""
    kind: EntryKind
    """What for."""
    reference: str
    """Who charged or corrected, or the id of the payment or refund."""


class WalletEntry(_WalletEntry, total=False):
    """One change of a wallet. As JSON the amount of a correction that took points is below zero."""
    reason: Union[str, None]
    """Why it was corrected; absent where it was not."""


class Webhook(TypedDict):
    """A receiver of events."""
    attempts: WebhookAttempts
    """Attempts since the server was started."""
    breaker: BreakerState
    """Whether attempts are made."""
    created_at: Timestamp
    """When it was registered."""
    cursor: str
    """Everything up to here is delivered or parked, or of no interest to it, and a restart knows that."""
    dead_letters: int
    """How many of those wait for an operator."""
    disabled_reason: Union[str, None]
    """What it said when it answered 410; null unless `redrive` has to give it another chance."""
    event_types: list[EventType]
    """Which types of events."""
    format: WebhookFormat
    """What is sent."""
    id: WebhookId
    """Its id."""
    lag: int
    """How many entries of the journal come after what is delivered, parked or of no interest."""
    last_delivered_at: Union[Timestamp, None]
    last_failure: Union[WebhookResponse, None]
    parked: int
    """Events that wait for another attempt, behind one that does, or for an operator."""
    pause_reason: Union[PauseReason, None]
    paused_until: Union[Timestamp, None]
    status: WebhookStatus
    """Whether anything is delivered."""
    template: Union[str, None]
    """The template or its name; null unless the format is `template`."""
    url: str
    """Where."""


class WebhookAttempts(TypedDict):
    """How attempts went."""
    delivered: int
    """Those that succeeded."""
    failed: int
    """The others."""


class WebhookResponse(TypedDict):
    at: Timestamp
    status: Union[int, None]
    """null: there was no answer"""
    text: str
    """the beginning of the answer, or what went wrong"""


class WebhookWithSecret(TypedDict):
    """A receiver that was just registered."""
    attempts: WebhookAttempts
    """Attempts since the server was started."""
    breaker: BreakerState
    """Whether attempts are made."""
    created_at: Timestamp
    """When it was registered."""
    cursor: str
    """Everything up to here is delivered or parked, or of no interest to it, and a restart knows that."""
    dead_letters: int
    """How many of those wait for an operator."""
    disabled_reason: Union[str, None]
    """What it said when it answered 410; null unless `redrive` has to give it another chance."""
    event_types: list[EventType]
    """Which types of events."""
    format: WebhookFormat
    """What is sent."""
    id: WebhookId
    """Its id."""
    lag: int
    """How many entries of the journal come after what is delivered, parked or of no interest."""
    last_delivered_at: Union[Timestamp, None]
    last_failure: Union[WebhookResponse, None]
    parked: int
    """Events that wait for another attempt, behind one that does, or for an operator."""
    pause_reason: Union[PauseReason, None]
    paused_until: Union[Timestamp, None]
    status: WebhookStatus
    """Whether anything is delivered."""
    template: Union[str, None]
    """The template or its name; null unless the format is `template`."""
    url: str
    """Where."""
    secret: str
    """With what deliveries are signed. It is not shown again."""


class Operations(Calls):
    """Every operation of the API."""

    def healthz(self) -> Alive:
        """Alive, whatever else it may be."""
        answer: Alive = self._call(Call("GET", "/healthz", try_again=True))
        return answer

    def readyz(self) -> Health:
        """Whether it takes requests, and if not, why."""
        answer: Health = self._call(Call("GET", "/readyz", try_again=True, answers=[503]))
        return answer

    def list_concerts(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[Concert]:
        """Lists concerts, newest first; those that are hidden only to whoever has a role."""
        return self._pages(Call("GET", "/v1/concerts", query={"limit": limit, "cursor": cursor}, try_again=True))

    def create_concert(self, body: CreateConcert, *, idempotency_key: Optional[str] = None) -> Concert:
        """Announces a concert."""
        answer: Concert = self._call(Call(
            "POST",
            "/v1/concerts",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def delete_concert(self, id: ConcertId) -> None:
        """Deletes a concert with its options, where nothing was ever held of any of them. Its line ends."""
        self._call(Call("DELETE", f"/v1/concerts/{path_of(id)}"))

    def get_concert(self, id: ConcertId) -> Concert:
        """Reads a concert."""
        answer: Concert = self._call(Call("GET", f"/v1/concerts/{path_of(id)}", try_again=True))
        return answer

    def change_concert(self, id: ConcertId, body: ConcertPatch) -> Concert:
        """Changes what is told of a concert."""
        answer: Concert = self._call(Call("PATCH", f"/v1/concerts/{path_of(id)}", body=body))
        return answer

    def create_option(
        self,
        id: ConcertId,
        body: CreateOption,
        *,
        idempotency_key: Optional[str] = None,
    ) -> ConcertOption:
        """Puts a performance of a concert on sale."""
        answer: ConcertOption = self._call(Call(
            "POST",
            f"/v1/concerts/{path_of(id)}/options",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def issue_token(self, id: ConcertId) -> Token:
        """Gets in line. Whoever is in it already gets the same token again."""
        answer: Token = self._call(Call("POST", f"/v1/concerts/{path_of(id)}/tokens", body={}, try_again=True))
        return answer

    def get_waiting_room(self, id: ConcertId) -> WaitingRoom:
        """Reads the settings of a concert's waiting room, and how many are in it."""
        answer: WaitingRoom = self._call(Call("GET", f"/v1/concerts/{path_of(id)}/waiting-room", try_again=True))
        return answer

    def configure_waiting_room(self, id: ConcertId, body: WaitingRoomPatch) -> WaitingRoom:
        """Changes the settings of a concert's waiting room."""
        answer: WaitingRoom = self._call(Call("PATCH", f"/v1/concerts/{path_of(id)}/waiting-room", body=body))
        return answer

    def list_events(
        self,
        *,
        after: Optional[EventId] = None,
        limit: Optional[int] = None,
        wait_seconds: Optional[int] = None,
    ) -> Events:
        """Lists events, oldest first; waits for one if there is none."""
        answer: Events = self._call(Call(
            "GET",
            "/v1/events",
            query={"after": after, "limit": limit, "wait_seconds": wait_seconds},
            try_again=True,
        ))
        return answer

    def delete_option(self, id: OptionId) -> None:
        """Deletes an option of which nothing was ever held."""
        self._call(Call("DELETE", f"/v1/options/{path_of(id)}"))

    def get_option(self, id: OptionId) -> ConcertOption:
        """Reads an option."""
        answer: ConcertOption = self._call(Call("GET", f"/v1/options/{path_of(id)}", try_again=True))
        return answer

    def change_option(self, id: OptionId, body: OptionPatch) -> ConcertOption:
        """Changes what an option sells, and on what terms. What is held or paid stays as it was."""
        answer: ConcertOption = self._call(Call("PATCH", f"/v1/options/{path_of(id)}", body=body))
        return answer

    def block_seats(self, id: OptionId, body: BlockList, *, idempotency_key: Optional[str] = None) -> BlockList:
        """Takes seats and places off sale."""
        answer: BlockList = self._call(Call(
            "POST",
            f"/v1/options/{path_of(id)}/blocks",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def get_cancellation(self, id: OptionId) -> Cancellation:
        """Tells how far the calling off of a performance is."""
        answer: Cancellation = self._call(Call("GET", f"/v1/options/{path_of(id)}/cancellation", try_again=True))
        return answer

    def cancel_option(self, id: OptionId, body: Reason, *, idempotency_key: Optional[str] = None) -> Cancellation:
        """Calls a performance off: nothing is sold any more, holds end, and every payment is given back to
        who paid.
        """
        answer: Cancellation = self._call(Call(
            "POST",
            f"/v1/options/{path_of(id)}/cancellation",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def get_plan(self, id: OptionId) -> SeatingPlan:
        """Reads an option's seating plan, with prices."""
        answer: SeatingPlan = self._call(Call("GET", f"/v1/options/{path_of(id)}/plan", try_again=True))
        return answer

    def get_plan_if_changed(self, id: OptionId, etag: Optional[str] = None) -> Optional[Tagged[SeatingPlan]]:
        """Reads an option's seating plan, with prices."""
        return self._changed(Call("GET", f"/v1/options/{path_of(id)}/plan", try_again=True), etag)

    def replace_plan(
        self,
        id: OptionId,
        body: ReplacePlan,
        *,
        idempotency_key: Optional[str] = None,
    ) -> ConcertOption:
        """Sells an option by another seating plan from now on. Seats that both have stay what they are,
        wherever they stand in the new one; what is held or paid keeps its price. The body may also be the
        plan alone, as `GET` gives it, with its `prices`.
        """
        answer: ConcertOption = self._call(Call(
            "PUT",
            f"/v1/options/{path_of(id)}/plan",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def list_option_reservations(
        self,
        id: OptionId,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
        status: Optional[ReservationStatus] = None,
        seat: Optional[str] = None,
        user_id: Optional[UserId] = None,
        reference: Optional[str] = None,
    ) -> Pages[Reservation]:
        """Lists the reservations on an option, newest first. A page may have fewer than asked for, or none,
        and others after it. With `Accept: text/csv` all of them, a line a seat or place.
        """
        return self._pages(Call(
            "GET",
            f"/v1/options/{path_of(id)}/reservations",
            query={"limit": limit, "cursor": cursor, "status": status, "seat": seat, "user_id": user_id, "reference": reference},
            try_again=True,
        ))

    def list_option_reservations_as_csv(
        self,
        id: OptionId,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
        status: Optional[ReservationStatus] = None,
        seat: Optional[str] = None,
        user_id: Optional[UserId] = None,
        reference: Optional[str] = None,
    ) -> str:
        """Lists the reservations on an option, newest first. A page may have fewer than asked for, or none,
        and others after it. With `Accept: text/csv` all of them, a line a seat or place.
        """
        return self._text(Call(
            "GET",
            f"/v1/options/{path_of(id)}/reservations",
            query={"limit": limit, "cursor": cursor, "status": status, "seat": seat, "user_id": user_id, "reference": reference},
            try_again=True,
        ))

    def hold_seats(
        self,
        id: OptionId,
        body: Hold,
        *,
        idempotency_key: Optional[str] = None,
        queue_token: Optional[str] = None,
    ) -> Reservation:
        """Holds seats or places, all of them or none."""
        answer: Reservation = self._call(Call(
            "POST",
            f"/v1/options/{path_of(id)}/reservations",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key(), "Queue-Token": queue_token},
            try_again=True,
        ))
        return answer

    def get_seats(self, id: OptionId) -> Seats:
        """Reads which seats are taken, and how many places are left."""
        answer: Seats = self._call(Call("GET", f"/v1/options/{path_of(id)}/seats", try_again=True))
        return answer

    def get_seats_if_changed(self, id: OptionId, etag: Optional[str] = None) -> Optional[Tagged[Seats]]:
        """Reads which seats are taken, and how many places are left."""
        return self._changed(Call("GET", f"/v1/options/{path_of(id)}/seats", try_again=True), etag)

    def get_seat_history(
        self,
        id: OptionId,
        seat: str,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[HistoryItem]:
        """Tells what has happened to a seat, who did it, and why, oldest first."""
        return self._pages(Call(
            "GET",
            f"/v1/options/{path_of(id)}/seats/{path_of(seat)}/history",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def unblock_seats(self, id: OptionId, body: BlockList, *, idempotency_key: Optional[str] = None) -> BlockList:
        """Puts seats and places back on sale."""
        answer: BlockList = self._call(Call(
            "POST",
            f"/v1/options/{path_of(id)}/unblocks",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def list_payments(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
        owed: Optional[bool] = None,
        disputed: Optional[bool] = None,
        shortfall: Optional[bool] = None,
        user_id: Optional[UserId] = None,
        option_id: Optional[OptionId] = None,
    ) -> Pages[Payment]:
        """Lists the caller's payments, newest first; those that were refused are there as `failed`. With
        `owed`, `disputed` or `shortfall` those of everybody by providers, for an admin or the roles
        `payments` and `refunds`. With `user_id` or `option_id` those of a user, or on an option, for
        whoever has a role; with `Accept: text/csv` all of them, a line a seat or place.
        """
        return self._pages(Call(
            "GET",
            "/v1/payments",
            query={"limit": limit, "cursor": cursor, "owed": owed, "disputed": disputed, "shortfall": shortfall, "user_id": user_id, "option_id": option_id},
            try_again=True,
        ))

    def list_payments_as_csv(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
        owed: Optional[bool] = None,
        disputed: Optional[bool] = None,
        shortfall: Optional[bool] = None,
        user_id: Optional[UserId] = None,
        option_id: Optional[OptionId] = None,
    ) -> str:
        """Lists the caller's payments, newest first; those that were refused are there as `failed`. With
        `owed`, `disputed` or `shortfall` those of everybody by providers, for an admin or the roles
        `payments` and `refunds`. With `user_id` or `option_id` those of a user, or on an option, for
        whoever has a role; with `Accept: text/csv` all of them, a line a seat or place.
        """
        return self._text(Call(
            "GET",
            "/v1/payments",
            query={"limit": limit, "cursor": cursor, "owed": owed, "disputed": disputed, "shortfall": shortfall, "user_id": user_id, "option_id": option_id},
            try_again=True,
        ))

    def reconcile(
        self,
        *,
        provider: str,
        day: str,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[Reconciled]:
        """Lists the charges of which money moved on a day, by their references: how much was captured, went
        back or was lost then, and what of them is owed or missing now. With `Accept: text/csv` all of them,
        a line each.
        """
        return self._pages(Call(
            "GET",
            "/v1/payments/reconciliation",
            query={"provider": provider, "day": day, "limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def reconcile_as_csv(
        self,
        *,
        provider: str,
        day: str,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> str:
        """Lists the charges of which money moved on a day, by their references: how much was captured, went
        back or was lost then, and what of them is owed or missing now. With `Accept: text/csv` all of them,
        a line each.
        """
        return self._text(Call(
            "GET",
            "/v1/payments/reconciliation",
            query={"provider": provider, "day": day, "limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def compare_payments(self, *, provider: str, day: str) -> Compared:
        """Asks the provider what it did on a day, and tells what of that, or of what was heard, one of both
        does not know. It takes as long as the provider needs for its list.
        """
        answer: Compared = self._call(Call(
            "GET",
            "/v1/payments/reconciliation/differences",
            query={"provider": provider, "day": day},
            try_again=True,
        ))
        return answer

    def give_up_payment(self, id: PaymentId) -> Payment:
        """Gives a pending payment by a provider up: its reservation is held again until its old deadline.
        One that is `voiding`, `voided` or `failed`, also since its time ran out, stays as it is, and is
        answered; from `authorized` on, and where money was taken, it is 409.
        """
        answer: Payment = self._call(Call("DELETE", f"/v1/payments/{path_of(id)}"))
        return answer

    def get_payment(self, id: PaymentId) -> Payment:
        """Reads a payment."""
        answer: Payment = self._call(Call("GET", f"/v1/payments/{path_of(id)}", try_again=True))
        return answer

    def confirm_payment(self, id: PaymentId, body: Confirmation) -> Payment:
        """Takes what the way back from the provider has brought. It is idempotent by itself: the same again
        changes nothing.
        """
        answer: Payment = self._call(Call("POST", f"/v1/payments/{path_of(id)}/confirmation", body=body))
        return answer

    def report_fact(self, id: PaymentId, body: Report) -> Payment:
        """Says what a provider did with a payment. It is idempotent by itself: the same again changes
        nothing.
        """
        answer: Payment = self._call(Call("POST", f"/v1/payments/{path_of(id)}/facts", body=body, try_again=True))
        return answer

    def look_up_payment(self, id: PaymentId) -> Payment:
        """Asks the provider what became of a payment, and takes in what it says."""
        answer: Payment = self._call(Call("POST", f"/v1/payments/{path_of(id)}/lookup"))
        return answer

    def refund_payment(self, id: PaymentId, body: Part, *, idempotency_key: Optional[str] = None) -> Refund:
        """Gives a payment back, or a part of it, and makes its seats available again."""
        answer: Refund = self._call(Call(
            "POST",
            f"/v1/payments/{path_of(id)}/refunds",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def list_reservations(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
        status: Optional[ReservationStatus] = None,
        user_id: Optional[UserId] = None,
    ) -> Pages[Reservation]:
        """Lists the caller's reservations, newest first; for an admin, and the roles that read lists, those
        of any user.
        """
        return self._pages(Call(
            "GET",
            "/v1/reservations",
            query={"limit": limit, "cursor": cursor, "status": status, "user_id": user_id},
            try_again=True,
        ))

    def release_reservation(self, id: ReservationId) -> Reservation:
        """Releases a reservation that is held."""
        answer: Reservation = self._call(Call("DELETE", f"/v1/reservations/{path_of(id)}"))
        return answer

    def get_reservation(self, id: ReservationId) -> ReservationWithSteps:
        """Reads a reservation; for an admin with the steps that led to its state."""
        answer: ReservationWithSteps = self._call(Call("GET", f"/v1/reservations/{path_of(id)}", try_again=True))
        return answer

    def extend_hold(self, id: ReservationId, body: Until) -> Reservation:
        """Holds a reservation until another time."""
        answer: Reservation = self._call(Call("PATCH", f"/v1/reservations/{path_of(id)}", body=body))
        return answer

    def exchange_seats(
        self,
        id: ReservationId,
        body: Swap,
        *,
        idempotency_key: Optional[str] = None,
        queue_token: Optional[str] = None,
    ) -> Reservation:
        """Gives seats and places for as many others; a difference is paid from the wallet, or goes back."""
        answer: Reservation = self._call(Call(
            "POST",
            f"/v1/reservations/{path_of(id)}/exchanges",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key(), "Queue-Token": queue_token},
            try_again=True,
        ))
        return answer

    def pay(
        self,
        id: ReservationId,
        body: Optional[Pay] = None,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Payment:
        """Pays for a reservation: from the caller's wallet, or by a provider, whose payment is pending
        then.
        """
        answer: Payment = self._call(Call(
            "POST",
            f"/v1/reservations/{path_of(id)}/payments",
            body=body or {},
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def release_part(self, id: ReservationId, body: Part, *, idempotency_key: Optional[str] = None) -> Reservation:
        """Gives a part of a held reservation up; all of it is released."""
        answer: Reservation = self._call(Call(
            "POST",
            f"/v1/reservations/{path_of(id)}/releases",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def offer_transfer(
        self,
        id: ReservationId,
        body: HandOver,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Union[Reservation, Transfer]:
        """Offers a confirmed reservation to somebody else; an admin and a box office may hand it on at
        once, and get the reservation.
        """
        answer: Union[Reservation, Transfer] = self._call(Call(
            "POST",
            f"/v1/reservations/{path_of(id)}/transfers",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def list_sinks(self, *, limit: Optional[PageLimit] = None, cursor: Optional[Cursor] = None) -> Pages[Sink]:
        """Lists all that receive events, newest first, and how far they have got."""
        return self._pages(Call("GET", "/v1/sinks", query={"limit": limit, "cursor": cursor}, try_again=True))

    def get_sink(self, id: str) -> Sink:
        """Reads a receiver of events, and how far it has got."""
        answer: Sink = self._call(Call("GET", f"/v1/sinks/{path_of(id)}", try_again=True))
        return answer

    def list_dead_letters_of_sink(
        self,
        id: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[EventId] = None,
    ) -> Pages[DeadLetter]:
        """Lists the events that a receiver would not take, newest first. Later events of the same subjects
        wait behind them.
        """
        return self._pages(Call(
            "GET",
            f"/v1/sinks/{path_of(id)}/dead-letters",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def drop_dead_letter_of_sink(self, id: str, event_id: EventId) -> None:
        """Gives a dead letter up. What waits behind it is delivered."""
        self._call(Call("DELETE", f"/v1/sinks/{path_of(id)}/dead-letters/{path_of(event_id)}"))

    def redrive_dead_letters_of_sink(
        self,
        id: str,
        body: Optional[Redrive] = None,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Redriven:
        """Sends dead letters again, and gives a disabled receiver another chance. It begins at once:
        neither a pause of the breaker nor the time until another attempt is waited for (with `event_id`,
        that of this event). Only dead letters are counted.
        """
        answer: Redriven = self._call(Call(
            "POST",
            f"/v1/sinks/{path_of(id)}/redrive",
            body=body or {},
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def get_site(self) -> Site:
        """Tells where to log in, and whoever shows a token which roles it has."""
        answer: Site = self._call(Call("GET", "/v1/site", try_again=True))
        return answer

    def get_stats(self, *, option_id: Optional[OptionId] = None, since: Optional[Timestamp] = None) -> Figures:
        """What the engine counts; with an option, also how that sells, and did in the last hour."""
        answer: Figures = self._call(Call(
            "GET",
            "/v1/stats",
            query={"option_id": option_id, "since": since},
            try_again=True,
        ))
        return answer

    def leave_queue(self, id: TokenId) -> None:
        """Leaves the line."""
        self._call(Call("DELETE", f"/v1/tokens/{path_of(id)}"))

    def get_token(self, id: TokenId) -> Token:
        """Reads a token. To ask is a sign of life."""
        answer: Token = self._call(Call("GET", f"/v1/tokens/{path_of(id)}", try_again=True))
        return answer

    def get_token_history(
        self,
        id: TokenId,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[HistoryItem]:
        """Tells what has happened to a place in a waiting room, who did it, and why, oldest first."""
        return self._pages(Call(
            "GET",
            f"/v1/tokens/{path_of(id)}/history",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def withdraw_transfer(self, id: TransferId) -> None:
        """Takes an offer back."""
        self._call(Call("DELETE", f"/v1/transfers/{path_of(id)}"))

    def accept_transfer(self, id: TransferId, *, idempotency_key: Optional[str] = None) -> Reservation:
        """Accepts an offer that was made to the caller: the reservation is theirs."""
        answer: Reservation = self._call(Call(
            "POST",
            f"/v1/transfers/{path_of(id)}/accept",
            body={},
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def get_wallet(self, user_id: UserId) -> Wallet:
        """Reads the wallet of any user."""
        answer: Wallet = self._call(Call("GET", f"/v1/users/{path_of(user_id)}/wallet", try_again=True))
        return answer

    def adjust_wallet(
        self,
        user_id: UserId,
        body: Adjustment,
        *,
        idempotency_key: Optional[str] = None,
    ) -> WalletEntry:
        """Corrects what is in the wallet of any user."""
        answer: WalletEntry = self._call(Call(
            "POST",
            f"/v1/users/{path_of(user_id)}/wallet/adjustments",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def charge_wallet(self, user_id: UserId, body: Charge, *, idempotency_key: Optional[str] = None) -> WalletEntry:
        """Charges the wallet of any user."""
        answer: WalletEntry = self._call(Call(
            "POST",
            f"/v1/users/{path_of(user_id)}/wallet/charges",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def get_wallet_history(
        self,
        user_id: UserId,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[HistoryItem]:
        """Tells what has happened to the wallet of any user, who did it, and why, oldest first. It reads
        the whole journal.
        """
        return self._pages(Call(
            "GET",
            f"/v1/users/{path_of(user_id)}/wallet/history",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def get_own_wallet(self) -> Wallet:
        """Reads the caller's wallet."""
        answer: Wallet = self._call(Call("GET", "/v1/wallet", try_again=True))
        return answer

    def charge_own_wallet(self, body: Charge, *, idempotency_key: Optional[str] = None) -> WalletEntry:
        """Charges the caller's own wallet, if the server is configured to let users do that."""
        answer: WalletEntry = self._call(Call(
            "POST",
            "/v1/wallet/charges",
            body=body,
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def list_wallet_entries(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[WalletEntry]:
        """Lists the entries of the caller's wallet, newest first."""
        return self._pages(Call(
            "GET",
            "/v1/wallet/entries",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def list_webhooks(
        self,
        *,
        limit: Optional[PageLimit] = None,
        cursor: Optional[Cursor] = None,
    ) -> Pages[Webhook]:
        """Lists the receivers of events, newest first, and how far they have got."""
        return self._pages(Call("GET", "/v1/webhooks", query={"limit": limit, "cursor": cursor}, try_again=True))

    def register_webhook(self, body: NewWebhook) -> WebhookWithSecret:
        """Registers a receiver of events. Since the answer shows a secret, it is not remembered:
        `Idempotency-Key` has no effect.
        """
        answer: WebhookWithSecret = self._call(Call("POST", "/v1/webhooks", body=body))
        return answer

    def remove_webhook(self, id: WebhookId) -> None:
        """Removes a receiver of events, with its dead letters. An attempt that is under way may still
        arrive.
        """
        self._call(Call("DELETE", f"/v1/webhooks/{path_of(id)}"))

    def get_webhook(self, id: WebhookId) -> Webhook:
        """Reads a receiver of events, and how far it has got."""
        answer: Webhook = self._call(Call("GET", f"/v1/webhooks/{path_of(id)}", try_again=True))
        return answer

    def list_dead_letters(
        self,
        id: WebhookId,
        *,
        limit: Optional[int] = None,
        cursor: Optional[EventId] = None,
    ) -> Pages[DeadLetter]:
        """Lists the events that a receiver would not take, newest first. Later events of the same subjects
        wait behind them.
        """
        return self._pages(Call(
            "GET",
            f"/v1/webhooks/{path_of(id)}/dead-letters",
            query={"limit": limit, "cursor": cursor},
            try_again=True,
        ))

    def drop_dead_letter(self, id: WebhookId, event_id: EventId) -> None:
        """Gives a dead letter up. What waits behind it is delivered."""
        self._call(Call("DELETE", f"/v1/webhooks/{path_of(id)}/dead-letters/{path_of(event_id)}"))

    def redrive_dead_letters(
        self,
        id: WebhookId,
        body: Optional[Redrive] = None,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Redriven:
        """Sends dead letters again, and gives a disabled receiver another chance. It begins at once:
        neither a pause of the breaker nor the time until another attempt is waited for (with `event_id`,
        that of this event). Only dead letters are counted.
        """
        answer: Redriven = self._call(Call(
            "POST",
            f"/v1/webhooks/{path_of(id)}/redrive",
            body=body or {},
            headers={"Idempotency-Key": idempotency_key or new_key()},
            try_again=True,
        ))
        return answer

    def rotate_webhook_secret(self, id: WebhookId) -> RotatedSecret:
        """Signs deliveries with a new secret, and for some time with the old one too. Since the answer
        shows a secret, it is not remembered: `Idempotency-Key` has no effect.
        """
        answer: RotatedSecret = self._call(Call("POST", f"/v1/webhooks/{path_of(id)}/rotate-secret", body={}))
        return answer
