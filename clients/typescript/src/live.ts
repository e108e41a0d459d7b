/** The seats of an option, as they change. */
import type { AreaSeats, OptionId, Seats } from "./api.js";
import { backoffMs, type Caller, type Options, pathOf, pause, Problem, Unreachable } from "./calls.js";
import { wakes } from "./sockets.js";

type Status = Seats["seats"][string];

/** What came to be since the last time, and with it the whole. */
export interface SeatsNow {
  /** Grows with every change; the same as in `getSeats`. */
  seq: number;
  /** Those that are not available. It changes with the next one: copy what is to stay. */
  seats: ReadonlyMap<string, Status>;
  areas: ReadonlyMap<string, AreaSeats>;
  /** Seats that changed; null: all may have. */
  changed: ReadonlyMap<string, Status | "available"> | null;
}

/** How seats are followed. */
export interface FollowOptions extends Options {
  /** Connects anew when nothing came for so long; 60,000 by default. */
  silenceMs?: number;
}

interface Message {
  type: "snapshot" | "delta";
  seq: number;
  previous_seq?: number;
  seats: Record<string, Status | "available">;
  areas: Record<string, AreaSeats>;
}

/** A message that does not follow the one before. */
class Gap extends Error {}

class SeatMap {
  seq: number | undefined;
  readonly seats = new Map<string, Status>();
  readonly areas = new Map<string, AreaSeats>();
  changed: Map<string, Status | "available"> | null = null;

  take(message: Message): void {
    if (message.type === "snapshot") {
      this.seats.clear();
      this.areas.clear();
      this.changed = null;
    } else if (message.type !== "delta") {
      return;
    } else if (message.previous_seq !== this.seq) {
      throw new Gap();
    }
    for (const [seat, status] of Object.entries(message.seats)) {
      if (status === "available") this.seats.delete(seat);
      else this.seats.set(seat, status);
      this.changed?.set(seat, status);
    }
    for (const [name, area] of Object.entries(message.areas)) this.areas.set(name, area);
    this.seq = message.seq;
  }
}

/** Follows the seats without end, over as many connections as it takes. Who is slow is told of several changes at once. */
export async function* followSeats(
  caller: Caller,
  id: OptionId,
  exists: () => Promise<unknown>,
  { signal, silenceMs = 60_000 }: FollowOptions,
): AsyncGenerator<SeatsNow, void, undefined> {
  const map = new SeatMap();
  let told: number | undefined;
  for (let failures = 0; ; ) {
    const since = map.seq === undefined ? "" : `?since=${map.seq}`;
    const path = `/v1/options/${pathOf(id)}/live${since}`;
    try {
      for await (const _ of wakes(caller, path, [], silenceMs, signal, (message) => map.take(message as Message))) {
        failures = 0;
        if (map.seq === undefined || map.seq === told) continue;
        const { seq, seats, areas, changed } = map;
        map.changed = new Map();
        told = seq;
        yield { seq, seats, areas, changed };
      }
    } catch (error) {
      if (error instanceof Gap) map.seq = undefined;
      else if (!(error instanceof Unreachable)) throw error;
      // A socket does not tell why it was refused.
      else await exists().catch(ignoreUnlessFinal);
    }
    await pause(backoffMs(++failures), signal);
  }
}

/** What will not be different the next time is thrown. */
export function ignoreUnlessFinal(error: unknown): void {
  const passes = error instanceof Unreachable || (error instanceof Problem && (error.status === 429 || error.status >= 500));
  if (!passes) throw error;
}
