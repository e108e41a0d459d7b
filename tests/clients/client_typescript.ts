// What the TypeScript client does when the network is bad, against a real server behind a proxy. client_typescript.py
// builds and starts it; what stands on the other side is in client_rig.py.
import { Boxoffice, type Event, Problem, type SeatsNow } from "boxoffice-client";
import { TurnLost, Unreachable, verifyWebhook, WebhookInvalid } from "boxoffice-client";

declare const process: { env: Record<string, string | undefined>; exitCode: number; getActiveResourcesInfo(): string[] };

interface Seen {
  method: string;
  path: string;
  key: string | null;
  at: number;
}

const env = (name: string): string => process.env[name] ?? "";
const direct = env("SERVER_URL");
const proxied = env("PROXY_URL");
const adminToken = env("ADMIN_TOKEN");
const buyerToken = env("BUYER_TOKEN");
// Past the proxy, for whoever looks on.
const admin = new Boxoffice(direct, { token: adminToken });
const buyer = new Boxoffice(proxied, { token: () => Promise.resolve(buyerToken) });

function check(holds: boolean, ...what: unknown[]): asserts holds {
  if (!holds) throw new Error(what.map((it) => JSON.stringify(it)).join(" "));
}

async function rig<T = null>(command: string, body?: unknown): Promise<T> {
  const answer = await fetch(`${proxied}/rig/${command}`, { method: "POST", body: JSON.stringify(body ?? null) });
  return (await answer.json()) as T;
}

const next = (kinds: string[], path = "") => rig("next", { kinds, path });
const calls = async (path: RegExp | string) =>
  (await rig<Seen[]>("calls")).filter((call) => call.path.search(path) >= 0);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await isSo()); await sleep(10)) check(Date.now() < deadline, what);
}

async function rejected<E>(kind: new (...args: never[]) => E, call: Promise<unknown>): Promise<E> {
  try {
    await call;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`it did not reject with ${kind.name}`);
}

async function refused(code: string, call: Promise<unknown>): Promise<Problem> {
  const problem = await rejected(Problem, call);
  check(problem.code === code, problem.code, code);
  return problem;
}

async function sale(): Promise<[string, string]> {
  const concert = (await admin.createConcert({ title: "Tried" })).id;
  const seats = Array.from({ length: 100 }, (_, n) => ({
    seat_guid: `S${n + 1}`,
    seat_number: `${n + 1}`,
    category: "A",
    position: { x: 30 * n, y: 0 },
  }));
  const option = await admin.createOption(concert, {
    starts_at: "2099-05-01T19:30:00Z",
    prices: { A: 10, Lawn: 5 },
    seating_plan: { categories: [{ name: "A" }], zones: [{ name: "Hall", rows: [{ row_number: "1", seats }] }] },
    areas: [{ name: "Lawn", capacity: 10, category: "Lawn" }],
    max_seats_per_user: 100,
  });
  return [concert, option.id];
}

/** The server does the work and the answer is lost: done once, and known. */
async function lostAnswers(): Promise<void> {
  const [concert, option] = await sale();
  await admin.chargeWallet("demo-buyer", { amount: 1000 });
  const before = (await buyer.getOwnWallet()).balance;
  await rig("clear");
  await next(["drop", "garble"], "/reservations");
  const held = await buyer.holdSeats(option, { seats: ["S1"] });
  await next(["drop", "hang_up"], "/payments");
  const paid = await buyer.pay(held.id);
  check(paid.status === "completed" && paid.amount === 10 && paid.balance === before - 10, paid);
  let debits = 0;
  for await (const entry of buyer.listWalletEntries()) debits += entry.reference === paid.id ? 1 : 0;
  check(debits === 1, debits);
  for (const path of [/\/reservations$/, /\/payments$/]) {
    const keys = (await calls(path)).map((call) => call.key);
    check(keys.length === 3 && new Set(keys).size === 1 && keys[0] !== null, keys);
  }
  // Another call has another key.
  const other = await buyer.holdSeats(option, { seats: ["S2"] });
  check(new Set((await calls(/\/reservations$/)).map((call) => call.key)).size === 2);

  // A change without a key is made once: nobody knows whether it was done.
  await rig("clear");
  await next(["drop"], "/reservations");
  await rejected(Unreachable, buyer.releaseReservation(other.id));
  check((await calls("")).length === 1);
  check((await buyer.getReservation(other.id)).status === "released");
  await next(["drop"], "/v1/concerts");
  await rejected(Unreachable, new Boxoffice(proxied, { token: adminToken }).changeConcert(concert, { title: "Other" }));
  check((await calls("/v1/concerts")).length === 1);

  // Not for ever, and not longer than whoever asks has time.
  await rig("clear");
  await next(Array(10).fill("hang_up"), "/v1/wallet");
  await rejected(Unreachable, new Boxoffice(proxied, { token: buyerToken, attempts: 3 }).getOwnWallet());
  check((await calls("")).length === 3);
  const controller = new AbortController();
  controller.abort(new RangeError("enough"));
  await rejected(RangeError, buyer.getOwnWallet({ signal: controller.signal }));
  check((await calls("")).length === 3);
}

/** What is said is believed: `Retry-After` is waited for, and other problems are answers. */
async function refusals(): Promise<void> {
  const [, option] = await sale();
  for (const kind of ["busy", "limited"]) {
    await rig("clear");
    await next([kind], "/reservations");
    await buyer.holdSeats(option, { seats: [kind === "busy" ? "S1" : "S2"] });
    const [first, second, more] = await calls("");
    check(!!first && !!second && !more && first.key === second.key && second.at - first.at >= 1, first, second);
  }

  // Neither more often nor for longer than allowed, and not at all what is not safe.
  await rig("clear");
  await next(Array(10).fill("busy"));
  const problem = await refused("overloaded", new Boxoffice(proxied, { attempts: 2 }).getOption(option));
  check(problem.status === 503 && problem.retryAfterMs === 1000 && (await calls("")).length === 2, problem);
  await rig("clear");
  await next(["shut", "busy"]);
  check((await refused("overloaded", buyer.getOption(option))).retryAfterMs === 3_600_000);
  check((await calls("")).length === 1);
  await refused("overloaded", buyer.leaveQueue("nobody"));
  check((await calls("")).length === 2);
  await rig("clear");

  const taken = await refused("seats_unavailable", buyer.holdSeats(option, { seats: ["S1", "S3"] }));
  check(taken.status === 409 && taken.problem.conflicts?.join() === "S1" && taken.fields.length === 0, taken);
  // @ts-expect-error: there is no such member.
  const wrong = await refused("invalid_request", buyer.holdSeats(option, { seats: ["S1"], rows: 1 }));
  check(wrong.status === 400 && wrong.fields[0]?.field === "rows", wrong.fields);
  await refused("unauthenticated", new Boxoffice(proxied).getOwnWallet());
  await refused("not_found", buyer.getReservation("../../v1/wallet"));
  await rejected(RangeError, (async () => buyer.getReservation(".."))());
  await buyer.holdSeats(option, { seats: ["S4"] }, { idempotencyKey: "two" });
  await refused("idempotency_key_reused", buyer.holdSeats(option, { seats: ["S5"] }, { idempotencyKey: "two" }));
  check((await calls("")).length === 6);
}

/** What is not the usual JSON: nothing, tables, what has not changed, and pages. */
async function answers(): Promise<void> {
  const [concert, option] = await sale();
  for (const seat of ["S1", "S2", "S3", "S4", "S5"]) await buyer.holdSeats(option, { seats: [seat], reference: "Tisch 7" });
  const seller = new Boxoffice(proxied, { token: adminToken });
  await rig("clear");
  const sizes: number[] = [];
  for await (const page of seller.listOptionReservations(option, { limit: 2 }).pages()) sizes.push(page.items.length);
  check(sizes.join() === "2,2,1", sizes);
  await next(["drop"], "cursor=");
  const listed: (string | undefined)[] = [];
  for await (const it of seller.listOptionReservations(option, { limit: 2, reference: "Tisch 7" })) listed.push(it.seats[0]?.id);
  check(listed.join() === "S5,S4,S3,S2,S1", listed);
  const table = await seller.listOptionReservationsAsCsv(option);
  check(table.startsWith("reservation_id,option_id") && table.trim().split("\n").length === 6, table);
  const tagged = await seller.getSeatsIfChanged(option);
  check(tagged?.value.seats["S1"] === "held" && tagged.etag !== "", tagged);
  check((await seller.getSeatsIfChanged(option, tagged.etag)) === undefined);
  await admin.blockSeats(option, { seats: ["S9"] });
  check((await seller.getSeatsIfChanged(option, tagged.etag))?.value.seats["S9"] === "blocked");
  await seller.chargeWallet("auth0|anna b/c", { amount: 1 });
  check((await seller.getWallet("auth0|anna b/c")).user_id === "auth0|anna b/c");
  check((await seller.readyz()).ready);
  check((await buyer.leaveQueue((await buyer.issueToken(concert)).id)) === undefined);
}

/** Live seats, over cut connections: in the end they are what /seats shows, and no change was missed. */
async function followed(): Promise<void> {
  const [, option] = await sale();
  await rig("clear");
  let mirror = new Map<string, string>();
  let reached: SeatsNow | undefined;
  const following = (async () => {
    for await (const now of buyer.followSeats(option)) {
      if (now.changed === null) mirror = new Map(now.seats);
      for (const [seat, status] of now.changed ?? []) {
        if (status === "available") mirror.delete(seat);
        else mirror.set(seat, status);
      }
      check(JSON.stringify([...mirror].sort()) === JSON.stringify([...now.seats].sort()), [...mirror], [...now.seats]);
      check(reached === undefined || now.seq > reached.seq, now.seq, reached?.seq);
      reached = now;
      if (now.seats.has("S100")) return;
    }
  })();
  // It is looked at in the end.
  following.catch(() => {});
  const isKnown = async () => (await admin.getSeats(option)).seq === reached?.seq;
  let known: string | undefined;
  for (const turn of [1, 2, 3, 4]) {
    await until("the follower does not keep up", isKnown);
    // Changes while nobody listens: what was known is free again, too.
    check((await rig<number>("cut")) === 1);
    if (known !== undefined) await buyer.releaseReservation(known);
    known = (await buyer.holdSeats(option, { seats: [`S${turn}`, `S${turn + 10}`] })).id;
    await buyer.holdSeats(option, { areas: [{ name: "Lawn", count: 1 }] });
  }
  await until("the follower does not keep up", isKnown);
  await admin.blockSeats(option, { seats: ["S100"] });
  await following;
  const shown = await admin.getSeats(option);
  const sorted = (it: object) => JSON.stringify(Object.entries(it).sort());
  check(sorted(Object.fromEntries(mirror)) === sorted(shown.seats) && reached?.seq === shown.seq, shown, [...mirror]);
  check(reached.areas.get("Lawn")?.available === shown.areas["Lawn"]?.available, shown.areas);
  const sockets = (await calls("/live")).map((call) => call.path);
  check(sockets.length === 5 && sockets.every((path, index) => path.includes("?since=") === index > 0), sockets);
  await refused("not_found", buyer.followSeats("nothing").next());
  // Leaving the loop ends the connection.
  await until("a connection stays", async () => (await rig<number>("sockets")) === 0);
}

/** Waiting for one's turn, by a socket and by asking. */
async function inLine(): Promise<void> {
  for (const way of ["by a socket", "by asking", "where sockets are not let through", "over a cut socket"]) {
    const [concert, option] = await sale();
    await admin.configureWaitingRoom(concert, { mode: "queue", max_active: 1 });
    const first = new Boxoffice(direct, { token: env("FIRST_TOKEN") });
    const turn = await first.waitForTurn(concert);
    check(turn.status === "active");
    await refused("queue_token_required", buyer.holdSeats(option, { seats: ["S1"] }));
    await rig("clear");
    if (way === "where sockets are not let through") await next(Array(10).fill("no_sockets"), "/live");
    const told: string[] = [];
    let leaving: Promise<void> | undefined;
    const leave = async () => {
      if (way === "over a cut socket") await until("no socket", async () => (await rig<number>("cut")) > 0);
      await first.leaveQueue(turn.id);
    };
    const token = await buyer.waitForTurn(concert, {
      poll: way === "by asking",
      signal: AbortSignal.timeout(30_000),
      onChange: (token) => {
        told.push(`${token.status} ${token.position}`);
        leaving ??= leave();
      },
    });
    await leaving;
    check(token.status === "active" && told[0] === "waiting 1" && told.at(-1) === "active null", way, told);
    check((await calls("/live")).length > 0 === (way !== "by asking"), way, await calls(""));
    await rig("clear");
    check((await buyer.holdSeats(option, { seats: ["S1"] }, { queueToken: token.token })).status === "held");

    // Who does not come to his turn is told, and so is he whose place is gone.
    if (way !== "by a socket") continue;
    const late = new Boxoffice(direct, { token: env("LATE_TOKEN") });
    const ended = await late.waitForTurn(concert, { signal: AbortSignal.timeout(200) }).catch((error: Error) => error.name);
    check(ended === "TimeoutError", ended);
    let gone: Promise<void> | undefined;
    const lost = late.waitForTurn(concert, { onChange: (token) => void (gone ??= late.leaveQueue(token.id)) });
    check((await rejected(TurnLost, lost)).token.status === "expired");
    await gone;
  }
}

/** Events, fetched and delivered: those that are signed by somebody else, or long ago, are not believed. */
async function deliveries(): Promise<void> {
  const [, option] = await sale();
  const url = `${proxied}/rig/deliver`;
  const webhook = await admin.registerWebhook({ url, event_types: ["boxoffice.reservation.created"] });
  type Delivery = { headers: Record<string, string>; body: string };
  /** What comes of the next hold. */
  const delivered = async (): Promise<[string, Record<string, string>, string]> => {
    const known = (await rig<Delivery[]>("deliveries")).length;
    const held = (await buyer.holdSeats(option, { best_available: { count: 1 } })).id;
    let all: Delivery[] = [];
    await until("nothing was delivered", async () => (all = await rig<Delivery[]>("deliveries")).length > known);
    const { headers, body } = all.at(-1) as Delivery;
    return [held, headers, body];
  };
  const [held, headers, body] = await delivered();
  const event: Event = await verifyWebhook(webhook.secret, headers, body);
  check(event.type === "boxoffice.reservation.created" && event.subject === held, event);
  check((await verifyWebhook(webhook.secret, new Headers(headers), new TextEncoder().encode(body))).id === event.id);
  for await (const fetched of admin.followEvents()) {
    if (fetched.subject !== held) continue;
    check(JSON.stringify(fetched) === JSON.stringify(event), fetched, event);
    break;
  }

  const named = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const at = Number(named["webhook-timestamp"]);
  const now = at * 1000;
  const signature = String(named["webhook-signature"]);
  const other = `whsec_${"QUFB".repeat(8)}`;
  const forged: Record<string, [string, Record<string, string>, string, object?]> = {
    "a secret that is another's": [other, headers, body],
    "another body": [webhook.secret, headers, `${body} `],
    "another id": [webhook.secret, { ...named, "webhook-id": "evil" }, body],
    "another time": [webhook.secret, { ...named, "webhook-timestamp": `${at + 1}` }, body],
    "no signature": [webhook.secret, { ...named, "webhook-signature": "" }, body],
    "nonsense": [webhook.secret, { ...named, "webhook-signature": "v1,=== v1, v2,AAAA x" }, body],
    "another version": [webhook.secret, { ...named, "webhook-signature": signature.replaceAll("v1,", "v2,") }, body],
    "a time that is none": [webhook.secret, { ...named, "webhook-timestamp": "NaN" }, body],
    "long ago": [webhook.secret, headers, body, { now: now + 301_000 }],
    "not yet": [webhook.secret, headers, body, { now: now - 301_000 }],
  };
  for (const [what, [secret, its, text, options]] of Object.entries(forged)) {
    const outcome = await verifyWebhook(secret, its, text, options).catch((error: unknown) => error);
    check(outcome instanceof WebhookInvalid, what, outcome);
  }
  await rejected(TypeError, verifyWebhook("whsec_", headers, body));
  await verifyWebhook([other, webhook.secret], headers, body, { now: now + 299_000 });
  await verifyWebhook(webhook.secret, headers, body, { now: now + 900_000, toleranceSeconds: 1000 });

  const rotated = (await admin.rotateWebhookSecret(webhook.id)).secret;
  const [again, itsHeaders, itsBody] = await delivered();
  for (const secret of [webhook.secret, rotated, [webhook.secret, rotated]]) {
    check((await verifyWebhook(secret, itsHeaders, itsBody)).subject === again);
  }
  await rejected(WebhookInvalid, verifyWebhook(other, itsHeaders, itsBody));
}

/** A program that has done its work can end. */
async function nothingLeft(): Promise<void> {
  await until("a timer is left", () => !process.getActiveResourcesInfo().includes("Timeout"));
}

const parts = [lostAnswers, refusals, answers, followed, inLine, deliveries, nothingLeft];
for (const part of parts) {
  try {
    await part();
  } catch (error) {
    console.error(`${part.name}:`, error);
    process.exitCode = 1;
    break;
  }
}
console.log(`${parts.length} parts`);
