/** What is chosen. There are never seats and areas at once: nobody can hold both in one go. */
export interface Selection {
  /** Ids of seats, as the plan has them. */
  seats: string[];
  areas: { name: string; count: number }[];
  /** In the smallest unit of the performance's currency, or in points. */
  amount: number;
}

/** What is held, as the API tells it. */
export interface Reservation {
  id: string;
  option_id: string;
  user_id: string;
  status: "held" | "paying" | "confirmed" | "released" | "expired" | "refunded";
  seats: { id: string; zone: string; row: string; number: string; category: string; price: number }[];
  areas: { name: string; category: string; count: number; price: number }[];
  amount: number;
  created_at: string;
  /** Null once it cannot run out any more. */
  expires_at: string | null;
  [more: string]: unknown;
}

/** A refusal, as the API tells it (RFC 9457); `code` is `offline` and `status` 0 if the server could not be reached. */
export interface Problem {
  status: number;
  code: string;
  type?: string;
  title?: string;
  detail?: string;
  /** With `seats_unavailable`: which. */
  conflicts?: string[];
  [more: string]: unknown;
}

/** What the promises of the methods reject with. */
export interface BoxofficeError extends Error {
  readonly problem: Problem;
}

/** A wish for the best free seats. */
export interface Best {
  count: number;
  category?: string;
  zone?: string;
  /** Side by side; true unless it says false. */
  adjacent?: boolean;
  /** With a category for wheelchairs: how many more beside. */
  companions?: number;
}

export interface BoxofficeSeatsEventMap {
  "boxoffice-ready": CustomEvent<null>;
  "boxoffice-change": CustomEvent<Selection>;
  "boxoffice-taken": CustomEvent<{ seats: string[] }>;
  "boxoffice-hold": CustomEvent<{ reservation: Reservation }>;
  "boxoffice-release": CustomEvent<{ reservation: Reservation }>;
  "boxoffice-expire": CustomEvent<{ reservation: Reservation }>;
  "boxoffice-login": CustomEvent<null>;
  "boxoffice-error": CustomEvent<{ problem: Problem }>;
}

/**
 * `<boxoffice-seats>`. Attributes, which may change at any time: `option`, `server`, `max`, `categories`, `lang`, `theme`,
 * `readonly`.
 */
export declare class BoxofficeSeats extends HTMLElement {
  /** Asked when a token is needed, 30 s before it expires, and after a 401. */
  getToken: (() => Promise<string | null> | string | null) | null;
  /** Of the waiting room, where there is one. */
  queueToken: string | null;
  readonly selection: Selection;
  /** The last one that is held. */
  readonly reservation: Reservation | null;
  select(ids: string[]): Promise<void>;
  deselect(ids: string[]): Promise<void>;
  clear(): Promise<void>;
  /** Holds the best free seats. */
  best(wish: Best): Promise<Reservation>;
  /** Holds what is chosen. */
  hold(): Promise<Reservation>;
  /** Lets go of `reservation`. */
  release(): Promise<Reservation>;
  addEventListener<K extends keyof BoxofficeSeatsEventMap>(
    type: K,
    listener: (this: BoxofficeSeats, event: BoxofficeSeatsEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: BoxofficeSeats, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof BoxofficeSeatsEventMap>(
    type: K,
    listener: (this: BoxofficeSeats, event: BoxofficeSeatsEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: BoxofficeSeats, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | EventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "boxoffice-seats": BoxofficeSeats;
  }
  interface GlobalEventHandlersEventMap extends BoxofficeSeatsEventMap {}
}
