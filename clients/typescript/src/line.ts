/** A waiting room: waiting for one's turn. */
import type { ConcertId, Token } from "./api.js";
import { backoffMs, type Caller, type Options, pathOf, pause, Unreachable } from "./calls.js";
import { ignoreUnlessFinal } from "./live.js";
import { webSocketOf, wakes } from "./sockets.js";

/** How a turn is waited for. */
export interface TurnOptions extends Options {
  /** Told whenever something has changed, the place in line for example. */
  onChange?: (token: Token) => void;
  /** Asks every so often in place of following a socket; so it does, too, where none can be opened. */
  poll?: boolean;
}

/** The place in line is gone, or its turn is over. */
export class TurnLost extends Error {
  override readonly name = "TurnLost";
  constructor(readonly token: Token) {
    super(`the token ${token.id} is ${token.status}`);
  }
}

/** Calls that waiting needs. */
export interface Line {
  issueToken(id: ConcertId, options: Options): Promise<Token>;
  getToken(id: string, options: Options): Promise<Token>;
}

/** Joins the line of a concert, or goes on where this user stood, and waits until it is the user's turn. */
export async function waitForTurn(caller: Caller, line: Line, concert: ConcertId, options: TurnOptions): Promise<Token> {
  const { signal } = options;
  let token = await line.issueToken(concert, { signal });
  let told = "";
  /** Whether it may hold seats now. */
  const isTurn = (): boolean => {
    const text = JSON.stringify(token);
    if (text !== told) options.onChange?.(token);
    told = text;
    if (token.status === "used" || token.status === "expired") throw new TurnLost(token);
    return token.status === "active";
  };
  let sockets = !options.poll && webSocketOf(caller) !== undefined;
  for (let failures = 0; !isTurn(); ) {
    if (sockets) {
      try {
        const jwt = await caller.token();
        const path = `/v1/tokens/${pathOf(token.id)}/live`;
        const take = (message: unknown) => {
          const { type, ...now } = message as Token & { type: string };
          if (type === "token") token = now;
        };
        // Something comes every 5 s.
        for await (const _ of wakes(caller, path, jwt === null ? [] : ["bearer", jwt], 20_000, signal, take)) {
          failures = 0;
          if (isTurn()) return token;
        }
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        // Whatever stands between does not let sockets through.
        sockets = false;
      }
      await pause(backoffMs(++failures), signal);
    } else {
      await pause(Math.max(1, token.refresh_interval_seconds) * 1000, signal);
    }
    const asked = await line.getToken(token.id, { signal }).catch(ignoreUnlessFinal);
    if (asked) token = asked;
  }
  return token;
}
