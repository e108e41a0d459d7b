// After choosing: paying before the time is over, the ticket, and everything that one has had.

import { ask, get, newKey, now, post, remove, session } from "./api.js";
import { confirm, every, h, icon, put, svg, toast } from "./dom.js";
import { countdown, date, moment, number, points, t, time } from "./i18n.js";
import { seatName } from "./sale.js";

const places = (reservation) => reservation.seats.length + reservation.areas.reduce((sum, area) => sum + area.count, 0);

/** What is in a reservation, a line each. */
function lines(reservation) {
  const seats = reservation.seats.map((seat) => h("li", {}, h("span", {}, seatName(seat)), h("span", { class: "muted" }, seat.category), h("span", { class: "price" }, points(seat.price))));
  const areas = reservation.areas.map((area) => h("li", {}, h("span", {}, `${area.name} × ${number(area.count)}`), h("span", { class: "muted" }, area.category), h("span", { class: "price" }, points(area.price * area.count))));
  return h("ul", { class: "lines" }, seats, areas);
}

/** One reservation, whatever has become of it. */
export class ReservationView {
  constructor(app, id) {
    this.app = app;
    this.id = id;
    this.node = h("main", { class: "narrow" }, h("p", { class: "loading" }, t("loading")));
    // The same wish, however often the button is pressed.
    this.payKey = newKey();
    this.read().catch((problem) => app.fail(problem, this.node));
  }

  close() {
    this.isClosed = true;
    this.untick?.();
  }

  async read() {
    this.reservation = await get(`/v1/reservations/${this.id}`);
    this.option ??= await get(`/v1/options/${this.reservation.option_id}`);
    this.concert ??= await get(`/v1/concerts/${this.option.concert_id}`);
    this.wallet = await get("/v1/wallet");
    if (!this.isClosed) this.show();
  }

  show() {
    this.untick?.();
    const { status } = this.reservation;
    if (status === "held" || status === "paying") this.showCheckout();
    else if (status === "confirmed") this.showTicket();
    else this.showEnd();
    this.app.showWallet(this.wallet.balance);
  }

  head() {
    return [h("p", { class: "eyebrow" }, date(this.option.starts_at), " · ", time(this.option.starts_at)), h("h1", { tabindex: "-1" }, this.concert.title)];
  }

  showCheckout() {
    const { reservation, wallet } = this;
    const enough = wallet.balance >= reservation.amount;
    this.clock = h("strong", { class: "clock", id: "countdown" });
    this.clockBar = h("div", { class: "bar", "aria-hidden": "true" }, h("div", {}));
    this.said = h("p", { class: "unseen", "aria-live": "assertive" });
    this.problem = h("div", { role: "alert" });
    this.payButton = h("button", { type: "button", class: "button wide large", id: "pay", disabled: !enough, onclick: () => this.pay() }, t("pay", { amount: points(reservation.amount) }));
    this.dropButton = h("button", { type: "button", class: "button quiet wide", id: "release", onclick: () => this.release() }, t("release"));
    put(this.node,
      h("section", { class: "card checkout" },
        h("div", { class: "remaining" }, h("span", {}, icon("clock"), t("held.for")), this.clock), this.clockBar,
        this.head(), lines(reservation),
        h("dl", { class: "sums" },
          h("dt", {}, t("total", { n: places(reservation) })), h("dd", { class: "total" }, points(reservation.amount)),
          h("dt", {}, icon("wallet"), t("wallet.balance")), h("dd", {}, points(wallet.balance)),
          enough ? [h("dt", {}, t("wallet.after")), h("dd", {}, points(wallet.balance - reservation.amount))] : []),
        enough ? null : h("p", { class: "notice bad" }, t("problem.insufficient_points", { balance: wallet.balance, amount: reservation.amount })),
        this.problem, this.payButton, this.dropButton,
        h("p", { class: "muted small" }, this.option.refundable_until ? t("refund.until", { time: moment(this.option.refundable_until) }) : t("refund.never")),
        this.said));
    this.untick = every(250, () => this.tick());
  }

  tick() {
    const { created_at: created, expires_at: expires } = this.reservation;
    const left = Date.parse(expires) - now();
    this.clock.textContent = countdown(left);
    const share = Math.max(0, Math.min(1, left / (Date.parse(expires) - Date.parse(created))));
    this.clockBar.firstChild.style.width = `${100 * share}%`;
    this.node.classList.toggle("hurry", left < 60_000);
    const said = left < 60_000 && left > 0 ? t("held.minute") : "";
    if (said !== this.said.textContent) this.said.textContent = said;
    // The server says when it is over, which may be a second later.
    if (left < -300 && !this.isBusy && now() - (this.checked ?? 0) > 1000) {
      this.checked = now();
      this.read().catch(() => {});
    }
  }

  busy(isBusy) {
    this.isBusy = isBusy;
    this.payButton.disabled = this.dropButton.disabled = isBusy;
    this.payButton.textContent = isBusy ? t("paying") : t("pay", { amount: points(this.reservation.amount) });
  }

  async pay() {
    this.busy(true);
    try {
      await post(`/v1/reservations/${this.id}/payments`, {}, this.payKey);
      await this.read();
      toast(t("paid"), "good");
    } catch (problem) {
      this.busy(false);
      if (["already_paid", "reservation_expired", "reservation_not_held"].includes(problem.code)) return this.read();
      put(this.problem, h("p", { class: "notice bad" }, problem.words));
    } finally {
      this.isBusy = false;
    }
  }

  async release() {
    this.busy(true);
    try {
      await remove(`/v1/reservations/${this.id}`);
      this.app.go(`#/options/${this.option.id}`);
    } catch (problem) {
      this.busy(false);
      if (problem.code === "reservation_not_held") return this.read();
      put(this.problem, h("p", { class: "notice bad" }, problem.words));
    }
  }

  showTicket() {
    const { reservation, option } = this;
    const refundable = option.refundable_until && Date.parse(option.refundable_until) > now();
    put(this.node,
      h("p", { class: "done" }, icon("check"), t("ticket.yours")),
      h("article", { class: "ticket" },
        h("div", { class: "stub" }, art(this.concert.title), h("div", {}, this.head())),
        h("div", { class: "body" }, lines(reservation),
          h("dl", { class: "sums" }, h("dt", {}, t("paid.total")), h("dd", { class: "total" }, points(reservation.amount)),
            h("dt", {}, t("ticket.number")), h("dd", {}, h("code", {}, reservation.id)),
            h("dt", {}, t("ticket.holder")), h("dd", {}, reservation.user_id)))),
      h("div", { class: "actions" },
        h("a", { class: "button quiet", href: "#/tickets" }, t("tickets.all")),
        refundable ? h("button", { type: "button", class: "button quiet", id: "refund", onclick: () => this.refund() }, t("refund")) : null));
  }

  async refund() {
    if (!(await confirm(t("refund"), t("refund.sure", { amount: points(this.reservation.amount) }), t("refund"), t("keep")))) return;
    try {
      const payments = await get("/v1/payments?limit=500");
      const payment = payments.items.find((one) => one.reservation_id === this.id && one.status === "completed");
      await post(`/v1/payments/${payment.id}/refunds`);
      toast(t("refunded"), "good");
      await this.read();
    } catch (problem) {
      toast(problem.words, "bad");
    }
  }

  showEnd() {
    const { status } = this.reservation;
    put(this.node, h("section", { class: "card end" },
      this.head(),
      h("p", { class: "lead", id: "ended" }, t(`ended.${status}`)),
      lines(this.reservation),
      h("a", { class: "button wide", href: `#/options/${this.option.id}` }, t("choose.again"))));
  }
}

/** Reservations, and where one's points went. */
export class TicketsView {
  constructor(app) {
    this.app = app;
    this.node = h("main", { class: "narrow" }, h("h1", { tabindex: "-1" }, t("tickets")));
    if (!session.token) {
      this.node.append(h("p", {}, t("session.text")), h("button", { class: "button", type: "button", onclick: () => session.needed() }, t("session.begin")));
      return;
    }
    this.names = new Map();
    const wallet = h("section", { class: "card balance" }, icon("wallet"), h("span", {}, t("wallet.balance")), h("strong", {}));
    get("/v1/wallet").then(({ balance }) => {
      wallet.lastChild.textContent = points(balance);
      app.showWallet(balance);
    }).catch((problem) => toast(problem.words, "bad"));
    this.node.append(wallet,
      this.list("tickets.reservations", "/v1/reservations", (one) => this.reservation(one)),
      this.list("tickets.entries", "/v1/wallet/entries", (one) => this.entry(one)));
  }

  close() {}

  list(title, path, row) {
    const items = h("ul", { class: "records" });
    const more = h("button", { type: "button", class: "button quiet", hidden: true }, t("more.show"));
    let cursor = null;
    const load = async () => {
      try {
        const page = await get(`${path}?limit=10${cursor ? `&cursor=${cursor}` : ""}`);
        if (page.items.length === 0 && !cursor) items.append(h("li", { class: "muted" }, t("none")));
        items.append(...page.items.map(row));
        cursor = page.next_cursor;
        more.hidden = !cursor;
      } catch (problem) {
        toast(problem.words, "bad");
      }
    };
    more.addEventListener("click", load);
    load();
    return h("section", {}, h("h2", {}, t(title)), items, more);
  }

  reservation(one) {
    const name = h("span", { class: "strong" }, "…");
    this.nameOf(one.option_id).then((text) => (name.textContent = text)).catch(() => (name.textContent = one.id));
    return h("li", {}, h("a", { href: `#/reservations/${one.id}` },
      h("div", { class: "grow" }, name, h("p", { class: "muted" }, t("seats", { n: places(one) }), " · ", moment(one.created_at))),
      h("div", { class: "right" }, h("span", { class: `pill ${one.status}` }, t(`reservation.${one.status}`)), h("span", { class: "price" }, points(one.amount)))));
  }

  nameOf(option) {
    if (!this.names.has(option)) {
      this.names.set(option, get(`/v1/options/${option}`).then((found) => get(`/v1/concerts/${found.concert_id}`)).then((concert) => concert.title));
    }
    return this.names.get(option);
  }

  entry(one) {
    const sign = one.kind === "debit" ? "−" : "+";
    return h("li", {}, h("div", { class: "row" },
      h("div", { class: "grow" }, h("span", { class: "strong" }, t(`entry.${one.kind}`)), h("p", { class: "muted" }, moment(one.at))),
      h("div", { class: "right" }, h("span", { class: `price ${one.kind}` }, `${sign}${points(one.amount)}`), h("span", { class: "muted" }, points(one.balance)))));
  }
}

/** A picture for a concert, always the same one: rows of seats in two of its own colours. */
export function art(title) {
  let seed = 2166136261;
  for (const char of title) seed = Math.imul(seed ^ char.codePointAt(0), 16777619) >>> 0;
  const hue = seed % 360;
  const rows = Array.from({ length: 9 }, (_, k) => svg("circle", { cx: 160 + ((seed >>> 9) % 120) - 60, cy: 190, r: 46 + 19 * k, class: k % 3 === (seed >>> 5) % 3 ? "b" : "a", "stroke-dasharray": `0 ${15 + ((seed >>> (k + 3)) % 3)}` }));
  const picture = svg("svg", { class: "art", viewBox: "0 0 320 160", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" }, rows);
  picture.style.setProperty("--hue", hue);
  picture.style.setProperty("--other", (hue + 40 + ((seed >>> 12) % 80)) % 360);
  return picture;
}
