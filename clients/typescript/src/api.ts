// Written by clients/generate.py from the server's OpenAPI document. Change that, not this.

import { type Call, type Options, type Pages, type Tagged, newKey, pathOf } from "./calls.js";

/** A correction. */
export type Adjustment = {
  /** Points to be added, or to be taken if it is below zero; not 0. */
  amount: number;
  /** Why. */
  reason: string;
};

export type Alive = {
  status: "alive";
};

/** Places in an area. */
export type AreaSeats = {
  /** Free to be held. */
  available: number;
  /** In all. */
  capacity: number;
};

/** Places in an area. */
export type AreaWish = {
  /** How many. */
  count: number;
  /** The area. */
  name: string;
};

/** What counts as best. */
export type BestAvailable = {
  /** Whether they must stand side by side in one row. */
  adjacent?: boolean;
  /** Only of this category. */
  category?: string | null;
  /** How many seats for companions beside accessible places; with them all must be adjacent. */
  companions?: number;
  /** How many, 1 to the option's `max_seats_per_reservation`; with companions, how many accessible places. */
  count: number;
  /** Only in this zone. */
  zone?: string | null;
};

/** What is to be off sale, or on it again, or is so now: at least one seat, zone, row or area. */
export type BlockList = {
  /** So many places of these areas. */
  areas?: BlockedArea[];
  /** Why; the histories of the seats tell it. */
  reason?: string;
  /** All seats of these rows. */
  rows?: BlockedRow[];
  /** Seats, by their ids. */
  seats?: string[];
  /** All seats of these zones. */
  zones?: string[];
};

/** Places in an area, beside those that are blocked already. */
export type BlockedArea = {
  /** How many. */
  count: number;
  /** The area. */
  name: string;
};

/** A row of a seating plan. */
export type BlockedRow = {
  /** Its own name: `row_number` of the plan. */
  row: string;
  /** The name of its zone. */
  zone: string;
};

/** What a breaker lets through. */
export type BreakerState = "closed" | "open" | "half_open";

/** How far the calling off of a performance is. It is over once all are done and nothing is owed. */
export type Cancellation = {
  /** Since when. */
  cancelled_at: Timestamp;
  /** How many payments are given back. */
  done: number;
  /** How many are not settled: wallets have not taken a refund, providers have not said that one is done or that
   * they will never take any money, or somebody disputes it.
   */
  owed: number;
  /** Why, if that was told. */
  reason: string | null;
  /** Of how many; those that are under way among them, which leave it again if they take nothing. */
  total: number;
};

/** Points to be added. */
export type Charge = {
  /** 1 to 2^53-1. */
  amount: number;
};

/** What one of both does not know. */
export type Compared = {
  /** What the provider lists, and was not heard of. */
  unknown_here: Moved[];
  /** What was heard of, and the provider does not list. */
  unknown_to_provider: Moved[];
};

/** A concert. */
export type Concert = {
  description?: string;
  /** it is left out of the list; absent: it is not */
  hidden?: true;
  image_url?: string;
  /** an IANA name */
  time_zone?: string;
  venue?: string;
  /** When it was announced. */
  created_at: Timestamp;
  /** Its id. */
  id: ConcertId;
  /** Its options, oldest first. */
  options: OptionId[];
  /** Its title. */
  title: string;
  /** The settings of its waiting room. */
  waiting_room: WaitingRoomSettings;
};

export type ConcertDetails = {
  description?: string;
  /** it is left out of the list; absent: it is not */
  hidden?: true;
  image_url?: string;
  /** an IANA name */
  time_zone?: string;
  venue?: string;
};

/** The id of a concert; opaque */
export type ConcertId = string;

/** A concert option: one performance on sale. */
export type ConcertOption = {
  /** Categories that the best available seats are of only for those who name them. */
  accessible: string[];
  /** General admission. */
  areas: NewArea[];
  /** The concert it is a performance of. */
  concert_id: ConcertId;
  /** Seats and places in each state. */
  counts: SeatCounts;
  /** When it was put on sale. */
  created_at: Timestamp;
  currency?: Currency | null;
  focus: Focus | null;
  /** How long a hold lasts. */
  hold_seconds: number;
  /** Its id. */
  id: OptionId;
  /** The most seats and places of one reservation. */
  max_seats_per_reservation: number;
  /** The most seats and places of one user. */
  max_seats_per_user: number;
  /** How it can be paid; absent: by points. */
  payment_methods?: string[];
  /** How long a payment may take. */
  payment_seconds: number;
  /** What each category costs. */
  prices: Record<string, Points>;
  refundable_until: Timestamp | null;
  /** From when they may not. */
  sale_closes_at: Timestamp;
  sale_opens_at: Timestamp | null;
  /** When the performance starts. */
  starts_at: Timestamp;
  /** What its state means for buyers. */
  status: OptionStatus;
};

/** What is told of a concert, any of it. `null` takes it away. */
export type ConcertPatch = {
  /** 1 to 5,000 characters. */
  description?: string | null;
  /** Whether it is left out of the list of all. */
  hidden?: boolean | null;
  /** An address over https. */
  image_url?: string | null;
  /** The time zone there, by its IANA name. */
  time_zone?: string | null;
  /** 1 to 200 characters, no control characters; a concert always has one. */
  title?: string | null;
  /** Where it is: 1 to 200 characters, no control characters. */
  venue?: string | null;
};

/** With what a buyer is back from the provider. */
export type Confirmation = {
  /** How much it is of. */
  amount: Points;
  /** The provider's name for the charge. */
  reference: string;
};

/** A concert to be announced. */
export type CreateConcert = {
  /** 1 to 200 characters, no control characters. */
  title: string;
  /** How its waiting room begins; what is absent has its default. */
  waiting_room?: WaitingRoomPatch;
};

/** An option to be put on sale. */
export type CreateOption = {
  /** Categories that the best available seats are of only for those who name them. */
  accessible?: string[];
  /** General admission. */
  areas?: NewArea[];
  currency?: Currency | null;
  focus?: Focus | null;
  /** How long a hold lasts. */
  hold_seconds?: number;
  /** The most seats and places of one reservation. */
  max_seats_per_reservation?: number;
  /** The most seats and places of one user. */
  max_seats_per_user?: number;
  /** How it can be paid: `points`, or the names of providers in the configuration; by points by default. */
  payment_methods?: string[];
  /** How long a payment may take. */
  payment_seconds?: number;
  /** What each category costs. */
  prices: Record<string, Points>;
  refundable_until?: Timestamp | null;
  sale_closes_at?: Timestamp | null;
  sale_opens_at?: Timestamp | null;
  /** In the pretix format; members that are not known in it are ignored. */
  seating_plan: SeatingPlan;
  /** When the performance starts. */
  starts_at: Timestamp;
};

/** A code of ISO 4217 */
export type Currency = string;

export type Cursor = string;

/** An event that a receiver would not take. */
export type DeadLetter = {
  /** How often it was tried. */
  attempts: number;
  /** Which. */
  event_id: EventId;
  /** What happened. */
  event_type: EventType;
  last_response: WebhookResponse | null;
  /** What it is about. */
  subject: string;
};

/** An operation that has nothing to say: `{}`, or no body at all. */
export type Empty = Record<string, never>;

/** The id of a wallet's entry; opaque */
export type EntryId = string;

export type EntryKind = "charge" | "debit" | "credit" | "adjustment";

export type Event = {
  data: Reservation | Payment | EventToken | WalletEntry;
  datacontenttype: "application/json";
  id: EventId;
  source: string;
  specversion: "1.0";
  subject: string;
  time: Timestamp;
  type: EventType;
};

export type EventId = string;

export type EventToken = {
  concert_id: ConcertId;
  expires_at: null | Timestamp;
  id: TokenId;
  status: TokenStatus;
  user_id: UserId;
};

export type EventType = "boxoffice.reservation.created" | "boxoffice.reservation.released" | "boxoffice.reservation.expired" | "boxoffice.reservation.confirmed" | "boxoffice.reservation.refunded" | "boxoffice.payment.completed" | "boxoffice.payment.failed" | "boxoffice.payment.refunded" | "boxoffice.token.issued" | "boxoffice.token.activated" | "boxoffice.token.expired" | "boxoffice.token.used" | "boxoffice.wallet.charged" | "boxoffice.payment.pending" | "boxoffice.payment.authorized" | "boxoffice.payment.voided" | "boxoffice.payment.refund_owed" | "boxoffice.payment.capture_requested" | "boxoffice.payment.void_requested" | "boxoffice.payment.refund_requested" | "boxoffice.payment.check_requested" | "boxoffice.payment.disputed";

export type Events = {
  items: Event[];
  /** the `after` of the next page */
  next_after: null | EventId;
};

export type FactKind = "opened" | "authorized" | "captured" | "failed" | "voided" | "refunded" | "refund_failed" | "disputed" | "dispute_won" | "dispute_lost";

/** One thing that is wrong with the input. */
export type FieldError = {
  /** Where: a path such as `areas[0].capacity`. */
  field: string;
  /** What is wrong, and what is allowed. */
  message: string;
};

/** Counters and gauges, and one sale. */
export type Figures = {
  /** The last event that reads see. */
  applied_lsn: number;
  /** Batches written. */
  batches: number;
  /** The last event in sled. */
  checkpointed_lsn: number;
  /** How far the engine's clock is from the wall clock, in seconds. */
  clock_skew_seconds: number;
  /** Time spent in writing and syncing batches, in seconds. */
  commit_seconds: number;
  /** The last durable event. */
  durable_lsn: number;
  /** Bytes that may still be written. */
  free_bytes: number;
  /** Bytes that the journal has grown by, since the engine was opened: whole frames. */
  journal_bytes: number;
  /** Updates for those who had fallen behind, each in place of several. */
  live_conflations: number;
  /** Times that an option's seats were looked at for those who follow them. */
  live_flushes: number;
  /** Snapshots for those who had fallen behind. */
  live_resyncs: number;
  /** Those who follow an option's seats or a token. */
  live_subscribers: number;
  /** Commands that were refused because too much was under way. */
  overloaded: number;
  /** How often a checkpoint or the journal's next segment was put off for want of descriptors, memory or space.
   */
  put_off: number;
  /** Aggregates in memory for reads. */
  readable_aggregates: number;
  /** About how long a start would take to replay what is not in the state yet, in seconds. */
  replay_seconds: number;
  /** Actors in memory. */
  resident_actors: number;
  /** Events that a receiver would not take, of all receivers. */
  dead_letters: number;
  /** The nodes of the cluster, as far as this one has heard of them; none on a machine of its own. */
  nodes: NodeFigures[];
  sale: Sale | null;
  /** Receivers of events. */
  sinks: number;
  /** Those of them that are more than 10,000 entries of the journal behind. */
  sinks_behind: number;
};

/** Where the better seats are: near a point of the plan, or in these zones before others, best first */
export type Focus = {
  x: number;
  y: number;
} | {
  zones: string[];
};

/** Who is to have it. */
export type HandOver = {
  /** At once (admin and box office): nobody is asked. */
  accept?: boolean;
  /** Who. */
  to: UserId;
};

export type Health = {
  /** The place of the log from which on that one does. */
  epoch?: number;
  /** Messages of the log that this node has not taken in yet, as far as it knows. */
  lag?: number;
  /** The last event in this node's journal. */
  lsn?: number;
  /** Its name. */
  node?: string;
  /** The node that decides; null if there is none. */
  owner?: string | null;
  /** Whether callers' commands are taken. */
  ready: boolean;
  /** Why not. */
  reasons: string[];
  /** Whether it decides. */
  role?: NodeRole;
  /** What an operator should look at, although it is ready. */
  warnings: string[];
};

export type HistoryItem = {
  at: Timestamp;
  lsn: number;
  reservation_id?: ReservationId;
  /** what happened, such as held, released, charge or activated */
  what: string;
  /** null: time, or a provider of payments */
  who: null | UserId;
  why?: string;
};

/** Seats or places to be held */
export type Hold = {
  /** no limit of seats holds (box office) */
  beyond_limits?: boolean;
  /** it costs nothing, and is confirmed at once (box office) */
  complimentary?: boolean;
  data?: Record<string, unknown>;
  /** blocked seats may be named, and are blocked again once they are free (box office) */
  from_blocked?: boolean;
  reference?: string;
  seats: string[];
  /** for whom (box office) */
  user_id?: UserId;
} | {
  best_available: BestAvailable;
  /** no limit of seats holds (box office) */
  beyond_limits?: boolean;
  /** it costs nothing, and is confirmed at once (box office) */
  complimentary?: boolean;
  data?: Record<string, unknown>;
  /** blocked seats may be named, and are blocked again once they are free (box office) */
  from_blocked?: boolean;
  reference?: string;
  /** for whom (box office) */
  user_id?: UserId;
} | {
  areas: AreaWish[];
  /** no limit of seats holds (box office) */
  beyond_limits?: boolean;
  /** it costs nothing, and is confirmed at once (box office) */
  complimentary?: boolean;
  data?: Record<string, unknown>;
  /** blocked seats may be named, and are blocked again once they are free (box office) */
  from_blocked?: boolean;
  reference?: string;
  /** for whom (box office) */
  user_id?: UserId;
};

export type IdempotencyKey = string;

/** Money that moved. */
export type Moved = {
  /** How much. */
  amount: Points;
  /** Of what. */
  currency: Currency;
  /** `captured`, `refunded`, `refund_failed` or `dispute_lost`. */
  kind: string;
  /** The provider's name for the charge. */
  reference: string;
};

/** A general-admission area of a new option. */
export type NewArea = {
  /** 1 to 1,000,000 people. */
  capacity: number;
  /** A category that has a price. */
  category: string;
  /** 1 to 200 characters, unique on the option. */
  name: string;
};

/** A receiver to be registered. */
export type NewWebhook = {
  /** Which types of events; all by default, those that are yet to come among them. */
  event_types?: EventType[];
  /** What is sent; `cloudevent` by default. */
  format?: WebhookFormat;
  /** `now` (the default), `beginning`, or the event after which it starts. */
  start?: string;
  /** With the format `template`: a template in a part of Jinja that makes JSON, or the name of one that is there
   * already: `en` (the default) or `ko`.
   */
  template?: string;
  /** Where: http or https, and an address of the public internet, unless the server is configured otherwise. */
  url: string;
};

/** A node of the cluster. */
export type NodeFigures = {
  /** How long ago it was heard of. */
  heard_seconds: number;
  /** The last event in its journal. */
  lsn: number;
  node: string;
  /** Whether it could decide if it had to. */
  ready: boolean;
  role: NodeRole;
};

/** How a node of a cluster is. */
export type NodeHealth = {
  /** The place of the log from which on that one does. */
  epoch: number;
  /** Messages of the log that this node has not taken in yet, as far as it knows. */
  lag: number;
  /** The last event in this node's journal. */
  lsn: number;
  /** Its name. */
  node: string;
  /** The node that decides; null if there is none. */
  owner: string | null;
  /** Whether it decides. */
  role: NodeRole;
};

/** What a node is to its cluster. */
export type NodeRole = "owner" | "follower";

/** The id of an option; opaque */
export type OptionId = string;

/** Changes of what an option sells, and on what terms, any of them. `null` takes a time of the sale away, or back
 * to its default.
 */
export type OptionPatch = {
  /** By their names; others stay as they are. */
  areas?: PatchedArea[];
  /** How long a hold lasts from then on. */
  hold_seconds?: number;
  /** The most seats and places of one reservation. */
  max_seats_per_reservation?: number;
  /** The most seats and places of one user. */
  max_seats_per_user?: number;
  /** How long a payment may take from then on. */
  payment_seconds?: number;
  /** What these categories cost for holds from then on. */
  prices?: Record<string, Points>;
  refundable_until?: Timestamp | null;
  sale_closes_at?: Timestamp | null;
  sale_opens_at?: Timestamp | null;
  /** When the performance starts. Where the sale closed when it started, it still does. */
  starts_at?: Timestamp;
};

export type OptionStatus = "scheduled" | "on_sale" | "sold_out" | "closed" | "cancelled";

/** Something that is owed of a payment. */
export type OwedItem = {
  /** How much. */
  amount: Points;
  /** How often it was tried, and is certain not to have been done. */
  attempts: number;
  /** The provider could not: it is settled by hand. */
  by_hand?: boolean;
  /** Its id. */
  id: string;
  /** `capture`, `void`, `refund` or `check`. */
  kind: string;
  /** Of which charge; null: nobody knows of one. */
  reference: string | null;
  /** Since when. */
  since: Timestamp;
};

export type PageLimit = number;

/** A part of an order. */
export type Part = {
  /** Which places. */
  areas?: AreaWish[];
  /** Which seats. */
  seats?: string[];
};

/** A change of one area. Of one that is new to the option all is needed. */
export type PatchedArea = {
  /** How many people it takes from then on: not fewer than places of it are held or sold. */
  capacity?: number;
  /** The category whose price its places have. */
  category?: string;
  /** Its name. */
  name: string;
};

/** Why a receiver is left alone. */
export type PauseReason = "failures" | "retry_after";

/** How to pay. */
export type Pay = {
  /** One of the option's methods; by points by default. */
  method?: string | null;
};

export type Payment = {
  amount: Points;
  balance: null | Points;
  /** what the buyer's page needs to pay, as its provider has it; only for its owner, and while it is pending */
  checkout?: Record<string, unknown>;
  currency?: Currency;
  disputed?: boolean;
  expires_at?: Timestamp;
  id: PaymentId;
  /** the provider; this and the rest only where one takes the payment */
  method?: string;
  owed?: OwedItem[];
  paid_at: null | Timestamp;
  /** what the payment is called at the provider */
  provider_id?: string;
  refunded?: number;
  reservation_id: ReservationId;
  /** what is missing of the price */
  shortfall?: number;
  status: "pending" | "authorized" | "completed" | "failed" | "voiding" | "voided" | "refund_owed" | "refunded";
  user_id: UserId;
  verdict?: "capture" | "void" | "refund" | null;
};

/** The id of a payment; opaque */
export type PaymentId = string;

export type Points = number;

/** RFC 9457; the page at `type` explains it */
export type Problem = {
  already?: number;
  amount?: Points;
  balance?: Points;
  code: "invalid_request" | "unauthenticated" | "insufficient_points" | "forbidden" | "queue_token_required" | "queue_token_not_active" | "not_found" | "method_not_allowed" | "request_timeout" | "seats_unavailable" | "not_enough_seats" | "limit_exceeded" | "sale_not_open" | "reservation_expired" | "reservation_not_held" | "already_paid" | "not_refundable" | "payment_pending" | "payment_under_way" | "amount_too_small" | "fact_conflict" | "reference_in_use" | "change_under_way" | "reservation_not_confirmed" | "price_would_rise" | "capacity_in_use" | "seats_in_use" | "was_held" | "payload_too_large" | "unsupported_media_type" | "unknown_seats" | "idempotency_key_reused" | "rate_limited" | "request_header_fields_too_large" | "internal" | "overloaded" | "storage_full" | "outcome_unknown" | "keys_unavailable" | "no_owner";
  conflicts?: string[];
  detail: string;
  errors?: FieldError[];
  limit?: number;
  payment_id?: PaymentId;
  seats?: string[];
  status: number;
  title: string;
  type: string;
};

/** Why a performance is called off. */
export type Reason = {
  /** As it is told to who asks. */
  reason?: string;
};

/** A charge of which money moved on a day. */
export type Reconciled = {
  /** How much was taken on that day. */
  captured: number;
  /** What the amounts are of. */
  currency: Currency;
  /** How much a bank has taken back. */
  lost: number;
  /** How much of it is to go back now. */
  owed: number;
  /** Of which payment it is. */
  payment_id: PaymentId;
  /** The provider's name for it. */
  reference: string;
  /** How much of what had gone back came back. */
  refund_failed: number;
  /** How much went back. */
  refunded: number;
  /** How much is missing now of what its seats cost. */
  shortfall: number;
};

/** Which dead letters to send again; all of them by default. */
export type Redrive = {
  /** Only this one; one that waits for another attempt is tried now. */
  event_id?: EventId;
};

/** What is sent again. */
export type Redriven = {
  /** How many dead letters. */
  redriven: number;
};

/** A refund. */
export type Refund = {
  /** How much. */
  amount: Points;
  balance?: Points | null;
  /** Its id. */
  id: RefundId;
  /** What was given back. */
  payment_id: PaymentId;
  refunded_at?: Timestamp | null;
  /** `owed`, where a provider is to give the money back. */
  status?: string | null;
};

/** The id of a refund; opaque */
export type RefundId = string;

/** A seating plan that takes the place of an option's, and what comes with it. */
export type ReplacePlan = {
  /** Categories that the best available seats are of only for those who name them; as before by default. */
  accessible?: string[];
  /** Where the better seats are; as before by default. */
  focus?: Focus;
  /** What these categories cost for holds from then on; others as before. Every category with seats needs a
   * price.
   */
  prices?: Record<string, Points>;
  /** In the pretix format; members that are not known in it are ignored. Seats are known again by their
   * `seat_guid`.
   */
  seating_plan: SeatingPlan;
};

/** What a provider did. */
export type Report = {
  /** How much. */
  amount: Points;
  at?: Timestamp | null;
  currency?: Currency | null;
  /** Of this refund or dispute; the reference by default. */
  id?: string | null;
  /** What. */
  kind: FactKind;
  /** Why. */
  reason?: string | null;
  /** The provider's name for the charge. */
  reference: string;
};

export type Reservation = {
  amount: Points;
  areas: ReservedArea[];
  created_at: Timestamp;
  /** whose smallest unit the amount counts; absent: it is of points */
  currency?: string;
  /** what whoever held it keeps with it */
  data?: Record<string, unknown>;
  expires_at: Timestamp;
  id: ReservationId;
  option_id: OptionId;
  payment_id?: PaymentId;
  /** what whoever held it calls it */
  reference?: string;
  seats: ReservedSeat[];
  status: ReservationStatus;
  user_id: UserId;
};

/** The id of a reservation; opaque */
export type ReservationId = string;

export type ReservationStatus = "held" | "paying" | "confirmed" | "released" | "expired" | "refunded";

export type ReservationWithSteps = {
  amount: Points;
  areas: ReservedArea[];
  created_at: Timestamp;
  /** whose smallest unit the amount counts; absent: it is of points */
  currency?: string;
  /** what whoever held it keeps with it */
  data?: Record<string, unknown>;
  expires_at: Timestamp;
  id: ReservationId;
  option_id: OptionId;
  payment_id?: PaymentId;
  /** what whoever held it calls it */
  reference?: string;
  seats: ReservedSeat[];
  status: ReservationStatus;
  user_id: UserId;
  /** for an admin: how it came to be what it is */
  steps?: ({
    at: Timestamp;
    lsn: number;
    step: "held" | "payment_started" | "payment_confirmed" | "payment_failed" | "token_completed" | "refund_started" | "refund_credited" | "released" | "expired" | "payment_authorized" | "taken_again" | "part_released" | "part_refunded" | "exchange_started" | "exchanged" | "exchange_failed" | "handed_on" | "held_until";
  })[];
};

/** Reserved places in an area. */
export type ReservedArea = {
  /** Its category. */
  category: string;
  /** How many. */
  count: number;
  /** The area. */
  name: string;
  /** What one place costs. */
  price: Points;
};

/** A reserved seat. */
export type ReservedSeat = {
  /** Its category. */
  category: string;
  /** Its `seat_guid` in the plan. */
  id: string;
  /** Its number in the row. */
  number: string;
  /** What it costs. */
  price: Points;
  /** Its row's name. */
  row: string;
  /** What to call its row in a text, in place of "row" and its name, if the plan says so. */
  row_label?: string | null;
  /** What to call it in a text, in place of "seat" and its number, if the plan says so. */
  seat_label?: string | null;
  /** The zone it is in. */
  zone: string;
};

/** A new secret. */
export type RotatedSecret = {
  /** Whose. */
  id: WebhookId;
  /** Until when they are signed with the one before too. */
  previous_valid_until: Timestamp;
  /** With what deliveries are signed. It is not shown again. */
  secret: string;
};

/** A sale, now and before. */
export type Sale = {
  /** Oldest first, some seconds apart. */
  history: SaleFigures[];
  now: SaleFigures;
};

/** A sale at one moment, for whoever runs it. */
export type SaleFigures = {
  /** When. */
  at: Timestamp;
  /** Open holds, but for those that are being paid. */
  holds: number;
  /** Those of them that run out within a minute. */
  holds_expiring: number;
  /** Tokens of the concert's waiting room. */
  line: TokenCounts;
  /** Seats and places in each state. */
  seats: SeatCounts;
};

export type SeatCounts = {
  available: number;
  blocked: number;
  held: number;
  sold: number;
};

/** A plan in the open seating-plan JSON of pretix */
export type SeatingPlan = {
  categories: ({
    color?: string | null;
    name: string;
  })[];
  name?: string | null;
  zones: ({
    areas?: Record<string, unknown>[];
    name?: string | number | null;
    position?: {
      x?: number | null;
      y?: number | null;
    };
    rows: ({
      position?: {
        x?: number | null;
        y?: number | null;
      };
      row_label?: string | number | null;
      row_number?: string | number | null;
      seat_label?: string | number | null;
      seats: ({
        /** empty: not for sale */
        category: string;
        position?: {
          x?: number | null;
          y?: number | null;
        };
        seat_guid: string;
        seat_number?: string | number | null;
        start_direction?: "<" | ">" | "<>" | null;
      })[];
    })[];
  })[];
};

export type Seats = {
  areas: Record<string, AreaSeats>;
  option_id: OptionId;
  seats: Record<string, "held" | "sold" | "blocked">;
  seq: number;
};

/** A receiver of events, whatever it is. */
export type Sink = {
  /** Attempts since the server was started. */
  attempts: WebhookAttempts;
  /** Whether attempts are made. */
  breaker: BreakerState;
  /** Everything up to here is delivered or parked, or of no interest to it, and a restart knows that. */
  cursor: string;
  /** How many of those wait for an operator. */
  dead_letters: number;
  /** Its id; of Kafka `kafka`. */
  id: string;
  /** What it is. */
  kind: SinkKind;
  /** How many entries of the journal come after what is delivered, parked or of no interest. */
  lag: number;
  last_delivered_at: Timestamp | null;
  last_failure: WebhookResponse | null;
  /** Events that wait for another attempt, behind one that does, or for an operator. */
  parked: number;
  /** Whether anything is delivered. */
  status: WebhookStatus;
};

/** What a receiver is. */
export type SinkKind = "webhook" | "kafka" | "host";

/** The site that this server is a part of. */
export type Site = {
  /** Where to send who needs a token, with `return_to=<page without fragment>` in its query; null: nowhere. */
  login_url: string | null;
  /** The roles here (`admin`, `box_office`, ...) of whoever shows a token that counts, none of a buyer; absent
   * without one.
   */
  roles?: string[];
};

/** Counters and gauges, for monitoring. */
export type Stats = {
  /** The last event that reads see. */
  applied_lsn: number;
  /** Batches written. */
  batches: number;
  /** The last event in sled. */
  checkpointed_lsn: number;
  /** How far the engine's clock is from the wall clock, in seconds. */
  clock_skew_seconds: number;
  /** Time spent in writing and syncing batches, in seconds. */
  commit_seconds: number;
  /** The last durable event. */
  durable_lsn: number;
  /** Bytes that may still be written. */
  free_bytes: number;
  /** Bytes that the journal has grown by, since the engine was opened: whole frames. */
  journal_bytes: number;
  /** Updates for those who had fallen behind, each in place of several. */
  live_conflations: number;
  /** Times that an option's seats were looked at for those who follow them. */
  live_flushes: number;
  /** Snapshots for those who had fallen behind. */
  live_resyncs: number;
  /** Those who follow an option's seats or a token. */
  live_subscribers: number;
  /** Commands that were refused because too much was under way. */
  overloaded: number;
  /** How often a checkpoint or the journal's next segment was put off for want of descriptors, memory or space.
   */
  put_off: number;
  /** Aggregates in memory for reads. */
  readable_aggregates: number;
  /** About how long a start would take to replay what is not in the state yet, in seconds. */
  replay_seconds: number;
  /** Actors in memory. */
  resident_actors: number;
};

/** What is given, and what is taken for it. */
export type Swap = {
  /** Which of its seats are given. */
  give?: string[];
  /** Which of its places are given. */
  give_areas?: AreaWish[];
  /** Which seats are taken. */
  take?: string[];
  /** Which places are taken. */
  take_areas?: AreaWish[];
};

/** RFC 3339; in answers UTC with milliseconds */
export type Timestamp = string;

/** A place in a waiting room. */
export type Token = {
  /** How many are before it; null likewise. */
  ahead: number | null;
  /** Whose waiting room. */
  concert_id: ConcertId;
  /** How long it may take; null if that cannot be told. */
  expected_wait_seconds: number | null;
  expires_at: Timestamp | null;
  /** Its id. */
  id: TokenId;
  /** 1 = next; null unless it waits in an opened line. */
  position: number | null;
  /** How many wait. */
  queue_size: number;
  /** After how long to ask again. */
  refresh_interval_seconds: number;
  /** Where it stands. */
  status: TokenStatus;
  /** The signed form, to be shown when seats are held. */
  token: string;
};

export type TokenCounts = {
  active: number;
  expired: number;
  used: number;
  waiting: number;
};

/** The id of a token; opaque */
export type TokenId = string;

export type TokenStatus = "waiting" | "active" | "used" | "expired";

/** An offer to hand a reservation on. */
export type Transfer = {
  /** Until when it stands. */
  expires_at: Timestamp;
  /** Its id: who has it and is meant may accept. */
  id: TransferId;
};

/** The id of an offer to hand a reservation on; opaque */
export type TransferId = string;

/** Until when it is to be held. */
export type Until = {
  /** A time that is to come. */
  expires_at: Timestamp;
};

/** The subject of a JWT */
export type UserId = string;

/** The waiting room of a concert. */
export type WaitingRoom = {
  active_ttl_seconds: number;
  admit_per_minute: number | null;
  max_active: number;
  mode: WaitingRoomMode;
  opens_at: null | Timestamp;
  order: WaitingRoomOrder;
  waiting_ttl_seconds: number;
  /** How many tokens are in each state. */
  counts: TokenCounts;
};

export type WaitingRoomMode = "open" | "queue" | "paused";

export type WaitingRoomOrder = "fifo" | "shuffle_at_open";

/** Settings of a waiting room, any of them. `null` stands for the default. */
export type WaitingRoomPatch = {
  /** How long one may stay inside; 600 by default. */
  active_ttl_seconds?: number | null;
  /** How many are let in within a minute; no limit by default. */
  admit_per_minute?: number | null;
  /** How many may be inside for another one to be let in; 500 by default. */
  max_active?: number | null;
  mode?: WaitingRoomMode | null;
  opens_at?: Timestamp | null;
  order?: WaitingRoomOrder | null;
  /** How long a waiter may be silent; 120 by default. */
  waiting_ttl_seconds?: number | null;
};

export type WaitingRoomSettings = {
  active_ttl_seconds: number;
  admit_per_minute: number | null;
  max_active: number;
  mode: WaitingRoomMode;
  opens_at: null | Timestamp;
  order: WaitingRoomOrder;
  waiting_ttl_seconds: number;
};

/** A user's points. */
export type Wallet = {
  /** How many. */
  balance: Points;
  /** Whose. */
  user_id: UserId;
};

/** One change of a wallet. As JSON the amount of a correction that took points is below zero. */
export type WalletEntry = {
  /** How many points came or went. */
  amount: number;
  /** When. */
  at: Timestamp;
  /** The balance after it. */
  balance: Points;
  /** Its id. */
  id: EntryId;
  /** What for. */
  kind: EntryKind;
  /** Why it was corrected; absent where it was not. */
  reason?: string | null;
  /** Who charged or corrected, or the id of the payment or refund. */
  reference: string;
};

/** A receiver of events. */
export type Webhook = {
  /** Attempts since the server was started. */
  attempts: WebhookAttempts;
  /** Whether attempts are made. */
  breaker: BreakerState;
  /** When it was registered. */
  created_at: Timestamp;
  /** Everything up to here is delivered or parked, or of no interest to it, and a restart knows that. */
  cursor: string;
  /** How many of those wait for an operator. */
  dead_letters: number;
  /** What it said when it answered 410; null unless `redrive` has to give it another chance. */
  disabled_reason: string | null;
  /** Which types of events. */
  event_types: EventType[];
  /** What is sent. */
  format: WebhookFormat;
  /** Its id. */
  id: WebhookId;
  /** How many entries of the journal come after what is delivered, parked or of no interest. */
  lag: number;
  last_delivered_at: Timestamp | null;
  last_failure: WebhookResponse | null;
  /** Events that wait for another attempt, behind one that does, or for an operator. */
  parked: number;
  pause_reason: PauseReason | null;
  paused_until: Timestamp | null;
  /** Whether anything is delivered. */
  status: WebhookStatus;
  /** The template or its name; null unless the format is `template`. */
  template: string | null;
  /** Where. */
  url: string;
};

/** How attempts went. */
export type WebhookAttempts = {
  /** Those that succeeded. */
  delivered: number;
  /** The others. */
  failed: number;
};

/** What a receiver is sent. */
export type WebhookFormat = "cloudevent" | "batch" | "template";

/** The id of a webhook; opaque */
export type WebhookId = string;

export type WebhookResponse = {
  at: Timestamp;
  /** null: there was no answer */
  status: number | null;
  /** the beginning of the answer, or what went wrong */
  text: string;
};

/** Whether anything is delivered to a receiver. */
export type WebhookStatus = "active" | "disabled" | "suspended";

/** A receiver that was just registered. */
export type WebhookWithSecret = {
  /** Attempts since the server was started. */
  attempts: WebhookAttempts;
  /** Whether attempts are made. */
  breaker: BreakerState;
  /** When it was registered. */
  created_at: Timestamp;
  /** Everything up to here is delivered or parked, or of no interest to it, and a restart knows that. */
  cursor: string;
  /** How many of those wait for an operator. */
  dead_letters: number;
  /** What it said when it answered 410; null unless `redrive` has to give it another chance. */
  disabled_reason: string | null;
  /** Which types of events. */
  event_types: EventType[];
  /** What is sent. */
  format: WebhookFormat;
  /** Its id. */
  id: WebhookId;
  /** How many entries of the journal come after what is delivered, parked or of no interest. */
  lag: number;
  last_delivered_at: Timestamp | null;
  last_failure: WebhookResponse | null;
  /** Events that wait for another attempt, behind one that does, or for an operator. */
  parked: number;
  pause_reason: PauseReason | null;
  paused_until: Timestamp | null;
  /** Whether anything is delivered. */
  status: WebhookStatus;
  /** The template or its name; null unless the format is `template`. */
  template: string | null;
  /** Where. */
  url: string;
  /** With what deliveries are signed. It is not shown again. */
  secret: string;
};

/** Every operation of the API. Who calls is whoever extends it. */
export abstract class Operations {
  /** Calls, and tries again where that is safe. */
  protected abstract call<T>(call: Call): Promise<T>;
  /** Calls for an answer of text. */
  protected abstract text(call: Call): Promise<string>;
  /** Calls for what is not as it was. */
  protected abstract changed<T>(call: Call, etag?: string): Promise<Tagged<T> | undefined>;
  /** Calls page by page. */
  protected abstract pages<T>(call: Call): Pages<T>;

  /** Alive, whatever else it may be. */
  healthz(options: Options = {}): Promise<Alive> {
    return this.call<Alive>({ method: "GET", path: `/healthz`, tryAgain: true, options });
  }

  /** Whether it takes requests, and if not, why. */
  readyz(options: Options = {}): Promise<Health> {
    return this.call<Health>({ method: "GET", path: `/readyz`, tryAgain: true, answers: [503], options });
  }

  /** Lists concerts, newest first; those that are hidden only to whoever has a role. */
  listConcerts(query: { limit?: PageLimit; cursor?: Cursor } = {}, options: Options = {}): Pages<Concert> {
    return this.pages<Concert>({ method: "GET", path: `/v1/concerts`, query, tryAgain: true, options });
  }

  /** Announces a concert. */
  createConcert(body: CreateConcert, options: Options & { idempotencyKey?: string } = {}): Promise<Concert> {
    return this.call<Concert>({
      method: "POST",
      path: `/v1/concerts`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Deletes a concert with its options, where nothing was ever held of any of them. Its line ends. */
  deleteConcert(id: ConcertId, options: Options = {}): Promise<void> {
    return this.call<void>({ method: "DELETE", path: `/v1/concerts/${pathOf(id)}`, options });
  }

  /** Reads a concert. */
  getConcert(id: ConcertId, options: Options = {}): Promise<Concert> {
    return this.call<Concert>({ method: "GET", path: `/v1/concerts/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Changes what is told of a concert. */
  changeConcert(id: ConcertId, body: ConcertPatch, options: Options = {}): Promise<Concert> {
    return this.call<Concert>({ method: "PATCH", path: `/v1/concerts/${pathOf(id)}`, body, options });
  }

  /** Puts a performance of a concert on sale. */
  createOption(
    id: ConcertId,
    body: CreateOption,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<ConcertOption> {
    return this.call<ConcertOption>({
      method: "POST",
      path: `/v1/concerts/${pathOf(id)}/options`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Gets in line. Whoever is in it already gets the same token again. */
  issueToken(id: ConcertId, options: Options = {}): Promise<Token> {
    return this.call<Token>({
      method: "POST",
      path: `/v1/concerts/${pathOf(id)}/tokens`,
      body: {},
      tryAgain: true,
      options,
    });
  }

  /** Reads the settings of a concert's waiting room, and how many are in it. */
  getWaitingRoom(id: ConcertId, options: Options = {}): Promise<WaitingRoom> {
    return this.call<WaitingRoom>({
      method: "GET",
      path: `/v1/concerts/${pathOf(id)}/waiting-room`,
      tryAgain: true,
      options,
    });
  }

  /** Changes the settings of a concert's waiting room. */
  configureWaitingRoom(id: ConcertId, body: WaitingRoomPatch, options: Options = {}): Promise<WaitingRoom> {
    return this.call<WaitingRoom>({
      method: "PATCH",
      path: `/v1/concerts/${pathOf(id)}/waiting-room`,
      body,
      options,
    });
  }

  /** Lists events, oldest first; waits for one if there is none. */
  listEvents(
    query: { after?: EventId; limit?: number; wait_seconds?: number } = {},
    options: Options = {},
  ): Promise<Events> {
    return this.call<Events>({ method: "GET", path: `/v1/events`, query, tryAgain: true, options });
  }

  /** Deletes an option of which nothing was ever held. */
  deleteOption(id: OptionId, options: Options = {}): Promise<void> {
    return this.call<void>({ method: "DELETE", path: `/v1/options/${pathOf(id)}`, options });
  }

  /** Reads an option. */
  getOption(id: OptionId, options: Options = {}): Promise<ConcertOption> {
    return this.call<ConcertOption>({ method: "GET", path: `/v1/options/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Changes what an option sells, and on what terms. What is held or paid stays as it was. */
  changeOption(id: OptionId, body: OptionPatch, options: Options = {}): Promise<ConcertOption> {
    return this.call<ConcertOption>({ method: "PATCH", path: `/v1/options/${pathOf(id)}`, body, options });
  }

  /** Takes seats and places off sale. */
  blockSeats(
    id: OptionId,
    body: BlockList,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<BlockList> {
    return this.call<BlockList>({
      method: "POST",
      path: `/v1/options/${pathOf(id)}/blocks`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Tells how far the calling off of a performance is. */
  getCancellation(id: OptionId, options: Options = {}): Promise<Cancellation> {
    return this.call<Cancellation>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/cancellation`,
      tryAgain: true,
      options,
    });
  }

  /** Calls a performance off: nothing is sold any more, holds end, and every payment is given back to who paid.
   */
  cancelOption(
    id: OptionId,
    body: Reason,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<Cancellation> {
    return this.call<Cancellation>({
      method: "POST",
      path: `/v1/options/${pathOf(id)}/cancellation`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Reads an option's seating plan, with prices. */
  getPlan(id: OptionId, options: Options = {}): Promise<SeatingPlan> {
    return this.call<SeatingPlan>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/plan`,
      tryAgain: true,
      options,
    });
  }

  /** Reads an option's seating plan, with prices. */
  getPlanIfChanged(id: OptionId, etag?: string, options: Options = {}): Promise<Tagged<SeatingPlan> | undefined> {
    return this.changed<SeatingPlan>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/plan`,
      tryAgain: true,
      options,
    }, etag);
  }

  /** Sells an option by another seating plan from now on. Seats that both have stay what they are, wherever they
   * stand in the new one; what is held or paid keeps its price. The body may also be the plan alone, as `GET`
   * gives it, with its `prices`.
   */
  replacePlan(
    id: OptionId,
    body: ReplacePlan,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<ConcertOption> {
    return this.call<ConcertOption>({
      method: "PUT",
      path: `/v1/options/${pathOf(id)}/plan`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Lists the reservations on an option, newest first. A page may have fewer than asked for, or none, and others
   * after it. With `Accept: text/csv` all of them, a line a seat or place.
   */
  listOptionReservations(
    id: OptionId,
    query: { limit?: PageLimit; cursor?: Cursor; status?: ReservationStatus; seat?: string; user_id?: UserId; reference?: string } = {},
    options: Options = {},
  ): Pages<Reservation> {
    return this.pages<Reservation>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/reservations`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Lists the reservations on an option, newest first. A page may have fewer than asked for, or none, and others
   * after it. With `Accept: text/csv` all of them, a line a seat or place.
   */
  listOptionReservationsAsCsv(
    id: OptionId,
    query: { limit?: PageLimit; cursor?: Cursor; status?: ReservationStatus; seat?: string; user_id?: UserId; reference?: string } = {},
    options: Options = {},
  ): Promise<string> {
    return this.text({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/reservations`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Holds seats or places, all of them or none. */
  holdSeats(
    id: OptionId,
    body: Hold,
    options: Options & { idempotencyKey?: string; queueToken?: string } = {},
  ): Promise<Reservation> {
    return this.call<Reservation>({
      method: "POST",
      path: `/v1/options/${pathOf(id)}/reservations`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey(), "Queue-Token": options.queueToken },
      tryAgain: true,
      options,
    });
  }

  /** Reads which seats are taken, and how many places are left. */
  getSeats(id: OptionId, options: Options = {}): Promise<Seats> {
    return this.call<Seats>({ method: "GET", path: `/v1/options/${pathOf(id)}/seats`, tryAgain: true, options });
  }

  /** Reads which seats are taken, and how many places are left. */
  getSeatsIfChanged(id: OptionId, etag?: string, options: Options = {}): Promise<Tagged<Seats> | undefined> {
    return this.changed<Seats>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/seats`,
      tryAgain: true,
      options,
    }, etag);
  }

  /** Tells what has happened to a seat, who did it, and why, oldest first. */
  getSeatHistory(
    id: OptionId,
    seat: string,
    query: { limit?: PageLimit; cursor?: Cursor } = {},
    options: Options = {},
  ): Pages<HistoryItem> {
    return this.pages<HistoryItem>({
      method: "GET",
      path: `/v1/options/${pathOf(id)}/seats/${pathOf(seat)}/history`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Puts seats and places back on sale. */
  unblockSeats(
    id: OptionId,
    body: BlockList,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<BlockList> {
    return this.call<BlockList>({
      method: "POST",
      path: `/v1/options/${pathOf(id)}/unblocks`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Lists the caller's payments, newest first; those that were refused are there as `failed`. With `owed`,
   * `disputed` or `shortfall` those of everybody by providers, for an admin or the roles `payments` and
   * `refunds`. With `user_id` or `option_id` those of a user, or on an option, for whoever has a role; with
   * `Accept: text/csv` all of them, a line a seat or place.
   */
  listPayments(
    query: { limit?: PageLimit; cursor?: Cursor; owed?: boolean; disputed?: boolean; shortfall?: boolean; user_id?: UserId; option_id?: OptionId } = {},
    options: Options = {},
  ): Pages<Payment> {
    return this.pages<Payment>({ method: "GET", path: `/v1/payments`, query, tryAgain: true, options });
  }

  /** Lists the caller's payments, newest first; those that were refused are there as `failed`. With `owed`,
   * `disputed` or `shortfall` those of everybody by providers, for an admin or the roles `payments` and
   * `refunds`. With `user_id` or `option_id` those of a user, or on an option, for whoever has a role; with
   * `Accept: text/csv` all of them, a line a seat or place.
   */
  listPaymentsAsCsv(
    query: { limit?: PageLimit; cursor?: Cursor; owed?: boolean; disputed?: boolean; shortfall?: boolean; user_id?: UserId; option_id?: OptionId } = {},
    options: Options = {},
  ): Promise<string> {
    return this.text({ method: "GET", path: `/v1/payments`, query, tryAgain: true, options });
  }

  /** Lists the charges of which money moved on a day, by their references: how much was captured, went back or
   * was lost then, and what of them is owed or missing now. With `Accept: text/csv` all of them, a line each.
   */
  reconcile(
    query: { provider: string; day: string; limit?: PageLimit; cursor?: Cursor },
    options: Options = {},
  ): Pages<Reconciled> {
    return this.pages<Reconciled>({
      method: "GET",
      path: `/v1/payments/reconciliation`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Lists the charges of which money moved on a day, by their references: how much was captured, went back or
   * was lost then, and what of them is owed or missing now. With `Accept: text/csv` all of them, a line each.
   */
  reconcileAsCsv(
    query: { provider: string; day: string; limit?: PageLimit; cursor?: Cursor },
    options: Options = {},
  ): Promise<string> {
    return this.text({ method: "GET", path: `/v1/payments/reconciliation`, query, tryAgain: true, options });
  }

  /** Asks the provider what it did on a day, and tells what of that, or of what was heard, one of both does not
   * know. It takes as long as the provider needs for its list.
   */
  comparePayments(query: { provider: string; day: string }, options: Options = {}): Promise<Compared> {
    return this.call<Compared>({
      method: "GET",
      path: `/v1/payments/reconciliation/differences`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Gives a pending payment by a provider up: its reservation is held again until its old deadline. One that is
   * `voiding`, `voided` or `failed`, also since its time ran out, stays as it is, and is answered; from
   * `authorized` on, and where money was taken, it is 409.
   */
  giveUpPayment(id: PaymentId, options: Options = {}): Promise<Payment> {
    return this.call<Payment>({ method: "DELETE", path: `/v1/payments/${pathOf(id)}`, options });
  }

  /** Reads a payment. */
  getPayment(id: PaymentId, options: Options = {}): Promise<Payment> {
    return this.call<Payment>({ method: "GET", path: `/v1/payments/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Takes what the way back from the provider has brought. It is idempotent by itself: the same again changes
   * nothing.
   */
  confirmPayment(id: PaymentId, body: Confirmation, options: Options = {}): Promise<Payment> {
    return this.call<Payment>({ method: "POST", path: `/v1/payments/${pathOf(id)}/confirmation`, body, options });
  }

  /** Says what a provider did with a payment. It is idempotent by itself: the same again changes nothing. */
  reportFact(id: PaymentId, body: Report, options: Options = {}): Promise<Payment> {
    return this.call<Payment>({
      method: "POST",
      path: `/v1/payments/${pathOf(id)}/facts`,
      body,
      tryAgain: true,
      options,
    });
  }

  /** Asks the provider what became of a payment, and takes in what it says. */
  lookUpPayment(id: PaymentId, options: Options = {}): Promise<Payment> {
    return this.call<Payment>({ method: "POST", path: `/v1/payments/${pathOf(id)}/lookup`, options });
  }

  /** Gives a payment back, or a part of it, and makes its seats available again. */
  refundPayment(id: PaymentId, body: Part, options: Options & { idempotencyKey?: string } = {}): Promise<Refund> {
    return this.call<Refund>({
      method: "POST",
      path: `/v1/payments/${pathOf(id)}/refunds`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Lists the caller's reservations, newest first; for an admin, and the roles that read lists, those of any
   * user.
   */
  listReservations(
    query: { limit?: PageLimit; cursor?: Cursor; status?: ReservationStatus; user_id?: UserId } = {},
    options: Options = {},
  ): Pages<Reservation> {
    return this.pages<Reservation>({ method: "GET", path: `/v1/reservations`, query, tryAgain: true, options });
  }

  /** Releases a reservation that is held. */
  releaseReservation(id: ReservationId, options: Options = {}): Promise<Reservation> {
    return this.call<Reservation>({ method: "DELETE", path: `/v1/reservations/${pathOf(id)}`, options });
  }

  /** Reads a reservation; for an admin with the steps that led to its state. */
  getReservation(id: ReservationId, options: Options = {}): Promise<ReservationWithSteps> {
    return this.call<ReservationWithSteps>({
      method: "GET",
      path: `/v1/reservations/${pathOf(id)}`,
      tryAgain: true,
      options,
    });
  }

  /** Holds a reservation until another time. */
  extendHold(id: ReservationId, body: Until, options: Options = {}): Promise<Reservation> {
    return this.call<Reservation>({ method: "PATCH", path: `/v1/reservations/${pathOf(id)}`, body, options });
  }

  /** Gives seats and places for as many others; a difference is paid from the wallet, or goes back. */
  exchangeSeats(
    id: ReservationId,
    body: Swap,
    options: Options & { idempotencyKey?: string; queueToken?: string } = {},
  ): Promise<Reservation> {
    return this.call<Reservation>({
      method: "POST",
      path: `/v1/reservations/${pathOf(id)}/exchanges`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey(), "Queue-Token": options.queueToken },
      tryAgain: true,
      options,
    });
  }

  /** Pays for a reservation: from the caller's wallet, or by a provider, whose payment is pending then. */
  pay(id: ReservationId, body: Pay = {}, options: Options & { idempotencyKey?: string } = {}): Promise<Payment> {
    return this.call<Payment>({
      method: "POST",
      path: `/v1/reservations/${pathOf(id)}/payments`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Gives a part of a held reservation up; all of it is released. */
  releasePart(
    id: ReservationId,
    body: Part,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<Reservation> {
    return this.call<Reservation>({
      method: "POST",
      path: `/v1/reservations/${pathOf(id)}/releases`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Offers a confirmed reservation to somebody else; an admin and a box office may hand it on at once, and get
   * the reservation.
   */
  offerTransfer(
    id: ReservationId,
    body: HandOver,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<Reservation | Transfer> {
    return this.call<Reservation | Transfer>({
      method: "POST",
      path: `/v1/reservations/${pathOf(id)}/transfers`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Lists all that receive events, newest first, and how far they have got. */
  listSinks(query: { limit?: PageLimit; cursor?: Cursor } = {}, options: Options = {}): Pages<Sink> {
    return this.pages<Sink>({ method: "GET", path: `/v1/sinks`, query, tryAgain: true, options });
  }

  /** Reads a receiver of events, and how far it has got. */
  getSink(id: string, options: Options = {}): Promise<Sink> {
    return this.call<Sink>({ method: "GET", path: `/v1/sinks/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Lists the events that a receiver would not take, newest first. Later events of the same subjects wait behind
   * them.
   */
  listDeadLettersOfSink(
    id: string,
    query: { limit?: number; cursor?: EventId } = {},
    options: Options = {},
  ): Pages<DeadLetter> {
    return this.pages<DeadLetter>({
      method: "GET",
      path: `/v1/sinks/${pathOf(id)}/dead-letters`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Gives a dead letter up. What waits behind it is delivered. */
  dropDeadLetterOfSink(id: string, eventId: EventId, options: Options = {}): Promise<void> {
    return this.call<void>({
      method: "DELETE",
      path: `/v1/sinks/${pathOf(id)}/dead-letters/${pathOf(eventId)}`,
      options,
    });
  }

  /** Sends dead letters again, and gives a disabled receiver another chance. It begins at once: neither a pause
   * of the breaker nor the time until another attempt is waited for (with `event_id`, that of this event). Only
   * dead letters are counted.
   */
  redriveDeadLettersOfSink(
    id: string,
    body: Redrive = {},
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<Redriven> {
    return this.call<Redriven>({
      method: "POST",
      path: `/v1/sinks/${pathOf(id)}/redrive`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Tells where to log in, and whoever shows a token which roles it has. */
  getSite(options: Options = {}): Promise<Site> {
    return this.call<Site>({ method: "GET", path: `/v1/site`, tryAgain: true, options });
  }

  /** What the engine counts; with an option, also how that sells, and did in the last hour. */
  getStats(query: { option_id?: OptionId; since?: Timestamp } = {}, options: Options = {}): Promise<Figures> {
    return this.call<Figures>({ method: "GET", path: `/v1/stats`, query, tryAgain: true, options });
  }

  /** Leaves the line. */
  leaveQueue(id: TokenId, options: Options = {}): Promise<void> {
    return this.call<void>({ method: "DELETE", path: `/v1/tokens/${pathOf(id)}`, options });
  }

  /** Reads a token. To ask is a sign of life. */
  getToken(id: TokenId, options: Options = {}): Promise<Token> {
    return this.call<Token>({ method: "GET", path: `/v1/tokens/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Tells what has happened to a place in a waiting room, who did it, and why, oldest first. */
  getTokenHistory(
    id: TokenId,
    query: { limit?: PageLimit; cursor?: Cursor } = {},
    options: Options = {},
  ): Pages<HistoryItem> {
    return this.pages<HistoryItem>({
      method: "GET",
      path: `/v1/tokens/${pathOf(id)}/history`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Takes an offer back. */
  withdrawTransfer(id: TransferId, options: Options = {}): Promise<void> {
    return this.call<void>({ method: "DELETE", path: `/v1/transfers/${pathOf(id)}`, options });
  }

  /** Accepts an offer that was made to the caller: the reservation is theirs. */
  acceptTransfer(id: TransferId, options: Options & { idempotencyKey?: string } = {}): Promise<Reservation> {
    return this.call<Reservation>({
      method: "POST",
      path: `/v1/transfers/${pathOf(id)}/accept`,
      body: {},
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Reads the wallet of any user. */
  getWallet(userId: UserId, options: Options = {}): Promise<Wallet> {
    return this.call<Wallet>({
      method: "GET",
      path: `/v1/users/${pathOf(userId)}/wallet`,
      tryAgain: true,
      options,
    });
  }

  /** Corrects what is in the wallet of any user. */
  adjustWallet(
    userId: UserId,
    body: Adjustment,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<WalletEntry> {
    return this.call<WalletEntry>({
      method: "POST",
      path: `/v1/users/${pathOf(userId)}/wallet/adjustments`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Charges the wallet of any user. */
  chargeWallet(
    userId: UserId,
    body: Charge,
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<WalletEntry> {
    return this.call<WalletEntry>({
      method: "POST",
      path: `/v1/users/${pathOf(userId)}/wallet/charges`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Tells what has happened to the wallet of any user, who did it, and why, oldest first. It reads the whole
   * journal.
   */
  getWalletHistory(
    userId: UserId,
    query: { limit?: PageLimit; cursor?: Cursor } = {},
    options: Options = {},
  ): Pages<HistoryItem> {
    return this.pages<HistoryItem>({
      method: "GET",
      path: `/v1/users/${pathOf(userId)}/wallet/history`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Reads the caller's wallet. */
  getOwnWallet(options: Options = {}): Promise<Wallet> {
    return this.call<Wallet>({ method: "GET", path: `/v1/wallet`, tryAgain: true, options });
  }

  /** Charges the caller's own wallet, if the server is configured to let users do that. */
  chargeOwnWallet(body: Charge, options: Options & { idempotencyKey?: string } = {}): Promise<WalletEntry> {
    return this.call<WalletEntry>({
      method: "POST",
      path: `/v1/wallet/charges`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Lists the entries of the caller's wallet, newest first. */
  listWalletEntries(query: { limit?: PageLimit; cursor?: Cursor } = {}, options: Options = {}): Pages<WalletEntry> {
    return this.pages<WalletEntry>({ method: "GET", path: `/v1/wallet/entries`, query, tryAgain: true, options });
  }

  /** Lists the receivers of events, newest first, and how far they have got. */
  listWebhooks(query: { limit?: PageLimit; cursor?: Cursor } = {}, options: Options = {}): Pages<Webhook> {
    return this.pages<Webhook>({ method: "GET", path: `/v1/webhooks`, query, tryAgain: true, options });
  }

  /** Registers a receiver of events. Since the answer shows a secret, it is not remembered: `Idempotency-Key` has
   * no effect.
   */
  registerWebhook(body: NewWebhook, options: Options = {}): Promise<WebhookWithSecret> {
    return this.call<WebhookWithSecret>({ method: "POST", path: `/v1/webhooks`, body, options });
  }

  /** Removes a receiver of events, with its dead letters. An attempt that is under way may still arrive. */
  removeWebhook(id: WebhookId, options: Options = {}): Promise<void> {
    return this.call<void>({ method: "DELETE", path: `/v1/webhooks/${pathOf(id)}`, options });
  }

  /** Reads a receiver of events, and how far it has got. */
  getWebhook(id: WebhookId, options: Options = {}): Promise<Webhook> {
    return this.call<Webhook>({ method: "GET", path: `/v1/webhooks/${pathOf(id)}`, tryAgain: true, options });
  }

  /** Lists the events that a receiver would not take, newest first. Later events of the same subjects wait behind
   * them.
   */
  listDeadLetters(
    id: WebhookId,
    query: { limit?: number; cursor?: EventId } = {},
    options: Options = {},
  ): Pages<DeadLetter> {
    return this.pages<DeadLetter>({
      method: "GET",
      path: `/v1/webhooks/${pathOf(id)}/dead-letters`,
      query,
      tryAgain: true,
      options,
    });
  }

  /** Gives a dead letter up. What waits behind it is delivered. */
  dropDeadLetter(id: WebhookId, eventId: EventId, options: Options = {}): Promise<void> {
    return this.call<void>({
      method: "DELETE",
      path: `/v1/webhooks/${pathOf(id)}/dead-letters/${pathOf(eventId)}`,
      options,
    });
  }

  /** Sends dead letters again, and gives a disabled receiver another chance. It begins at once: neither a pause
   * of the breaker nor the time until another attempt is waited for (with `event_id`, that of this event). Only
   * dead letters are counted.
   */
  redriveDeadLetters(
    id: WebhookId,
    body: Redrive = {},
    options: Options & { idempotencyKey?: string } = {},
  ): Promise<Redriven> {
    return this.call<Redriven>({
      method: "POST",
      path: `/v1/webhooks/${pathOf(id)}/redrive`,
      body,
      headers: { "Idempotency-Key": options.idempotencyKey ?? newKey() },
      tryAgain: true,
      options,
    });
  }

  /** Signs deliveries with a new secret, and for some time with the old one too. Since the answer shows a secret,
   * it is not remembered: `Idempotency-Key` has no effect.
   */
  rotateWebhookSecret(id: WebhookId, options: Options = {}): Promise<RotatedSecret> {
    return this.call<RotatedSecret>({
      method: "POST",
      path: `/v1/webhooks/${pathOf(id)}/rotate-secret`,
      body: {},
      options,
    });
  }
}
