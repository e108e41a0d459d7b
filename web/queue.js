// The waiting room: a place in the line, kept over reloads since the server knows it, until it is one's turn.

import { ask, now, session } from "./api.js";
import { every, h, icon, put } from "./dom.js";
import { about, countdown, moment, t } from "./i18n.js";
import { followToken } from "./live.js";

/** The latest known token of each concert. */
const tokens = new Map();

/** The header that a hold needs, if this concert has a line. */
export function passFor(concert) {
  const token = tokens.get(concert.id);
  return token?.status === "active" ? { "Queue-Token": token.token } : {};
}

/** Until when one may choose, if there is an end to it. */
export const passEnds = (concert) => tokens.get(concert.id)?.expires_at ?? null;

/** Takes a place in the line, or finds the one that there is. */
async function join(concert) {
  const { value } = await ask("POST", `/v1/concerts/${concert.id}/tokens`);
  tokens.set(concert.id, value);
  return value;
}

/** Shows the line in `room` until it is the user's turn; then calls `enter`. Returns how to stop. */
export function wait(concert, room, { enter, fail, leave }) {
  let stop = () => {};
  let isOver = false;

  async function begin() {
    try {
      const token = await join(concert);
      if (isOver) return;
      if (token.status === "active") return over(enter);
      const line = new Line(concert, token, room, leave);
      const unfollow = followToken(token.id, {
        onToken(next) {
          tokens.set(concert.id, { ...tokens.get(concert.id), ...next });
          if (next.status === "active") over(enter);
          else if (next.status === "waiting") line.show(next);
          else over(() => line.lapsed(() => restart()));
        },
      });
      const untick = every(1000, () => line.tick());
      stop = () => {
        unfollow();
        untick();
      };
    } catch (problem) {
      if (!isOver) fail(problem);
    }
  }

  function over(then) {
    stop();
    if (!isOver) {
      isOver = true;
      then();
    }
  }

  function restart() {
    isOver = false;
    begin();
  }

  begin();
  return () => {
    isOver = true;
    stop();
  };
}

/** What somebody who waits sees. */
class Line {
  constructor(concert, token, room, leave) {
    this.concert = concert;
    this.room = room;
    this.first = token.ahead;
    this.position = h("strong", { class: "position", id: "position" });
    this.ahead = h("p", { class: "muted" });
    this.expected = h("p", { class: "expected" });
    this.bar = h("div", { class: "bar", role: "progressbar", "aria-label": t("line.progress"), "aria-valuemin": "0", "aria-valuemax": "100" }, h("div", {}));
    this.note = h("p", { class: "muted note" });
    this.said = h("p", { class: "unseen", "aria-live": "polite" });
    put(room,
      h("section", { class: "line card" },
        h("h1", { tabindex: "-1" }, t("line.title")),
        h("p", { class: "lead" }, concert.title),
        h("div", { class: "place" }, h("span", { class: "muted" }, t("line.position")), this.position, this.ahead),
        this.bar, this.expected, this.note,
        h("ul", { class: "promises" },
          ["line.keep", "line.fair", "line.enter"].map((key) => h("li", {}, icon("check"), t(key)))),
        h("button", { class: "button quiet", type: "button", id: "leave", onclick: leave }, t("line.leave")), this.said));
    this.show(token);
  }

  show(token) {
    this.token = token;
    const { position, ahead } = token;
    const isOpen = position !== null;
    this.position.textContent = isOpen ? t("line.number", { position }) : "–";
    this.ahead.textContent = isOpen ? (ahead === 0 ? t("line.next") : t("line.ahead", { n: ahead })) : t("line.shuffled", { n: token.queue_size });
    if (isOpen && this.first === null) this.first = ahead;
    this.first = Math.max(this.first ?? 0, ahead ?? 0);
    const share = isOpen ? 1 - (ahead + 0.5) / (this.first + 1) : 0;
    this.bar.firstChild.style.width = `${Math.round(100 * share)}%`;
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const said = isOpen ? this.ahead.textContent : "";
    if (this.said.textContent !== said) this.said.textContent = said;
    this.tick();
  }

  tick() {
    const { waiting_room: settings } = this.concert;
    const opens = settings.opens_at ? Date.parse(settings.opens_at) - now() : 0;
    const wait = this.token.expected_wait_seconds;
    if (opens > 0) this.expected.textContent = opens < 3600_000 ? t("line.opens_in", { time: countdown(opens) }) : t("line.opens_at", { time: moment(settings.opens_at) });
    else this.expected.textContent = wait === null ? "" : t("line.expected", { time: about(wait) });
    this.note.textContent = wait === null && opens <= 0 ? t("line.unknown") : "";
  }

  lapsed(again) {
    put(this.room, h("section", { class: "line card" },
      h("h1", { tabindex: "-1" }, t("line.lapsed")),
      h("p", {}, t("line.lapsed.text")),
      h("button", { class: "button", type: "button", onclick: again }, t("line.again"))));
  }
}

/** Gives the place up. */
export async function leaveLine(concert) {
  const token = tokens.get(concert.id);
  tokens.delete(concert.id);
  if (token && session.token) await ask("DELETE", `/v1/tokens/${token.id}`);
}
