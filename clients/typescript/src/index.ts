/** A client for boxoffice: every operation of its API, tried again where that is safe, and what is followed as it changes. */
import { type Event, Operations, type ConcertId, type EventId, type OptionId, type Token } from "./api.js";
import { backoffMs, type Call, Caller, type Options, type Pages, pause, type Settings, type Tagged } from "./calls.js";
import { type TurnOptions, waitForTurn } from "./line.js";
import { type FollowOptions, followSeats, ignoreUnlessFinal, type SeatsNow } from "./live.js";

export * from "./api.js";
export { type Options, type Page, type Pages, Problem, type Settings, type Tagged, Unreachable } from "./calls.js";
export { TurnLost, type TurnOptions } from "./line.js";
export type { FollowOptions, SeatsNow } from "./live.js";
export { verifyWebhook, type VerifyOptions, WebhookInvalid } from "./webhooks.js";

/** Calls one server, as one user. */
export class Boxoffice extends Operations {
  readonly #caller: Caller;

  /** @param url where the server is, such as `https://tickets.example` */
  constructor(url: string, settings: Settings = {}) {
    super();
    this.#caller = new Caller(url, settings);
  }

  /** Follows the seats of an option without end, over as many connections as it takes: leave the loop to end it. */
  followSeats(id: OptionId, options: FollowOptions = {}): AsyncGenerator<SeatsNow, void, undefined> {
    return followSeats(this.#caller, id, () => this.getOption(id, { signal: options.signal }), options);
  }

  /**
   * Joins the line of a concert and waits until it is this user's turn; where there is no line, it is at once. Hold seats with
   * `{ queueToken: token.token }`.
   *
   * @throws TurnLost when the place in line is lost
   */
  waitForTurn(id: ConcertId, options: TurnOptions = {}): Promise<Token> {
    return waitForTurn(this.#caller, this, id, options);
  }

  /** Follows events (admin) without end, from after the one named, or from the oldest: leave the loop to end it. */
  async *followEvents(after?: EventId, { signal }: Options = {}): AsyncGenerator<Event, void, undefined> {
    for (let failures = 0; ; ) {
      const page = await this.listEvents({ after, wait_seconds: 30 }, { signal }).catch(ignoreUnlessFinal);
      if (!page) {
        await pause(backoffMs(++failures), signal);
        continue;
      }
      failures = 0;
      yield* page.items;
      after = page.next_after ?? after;
    }
  }

  protected call<T>(call: Call): Promise<T> {
    return this.#caller.json(call);
  }

  protected text(call: Call): Promise<string> {
    return this.#caller.text(call);
  }

  protected changed<T>(call: Call, etag?: string): Promise<Tagged<T> | undefined> {
    return this.#caller.changed(call, etag);
  }

  protected pages<T>(call: Call): Pages<T> {
    return this.#caller.pages(call);
  }
}
