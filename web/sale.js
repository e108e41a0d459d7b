// One performance: its map, what one has chosen, and other ways to the same seats.

import { get, newKey, now, post, session } from "./api.js";
import { confirm, every, h, icon, put, toast } from "./dom.js";
import { drawSign, theme } from "./draw.js";
import { countdown, date, moment, number, points, t, time } from "./i18n.js";
import { followSeats } from "./live.js";
import { SeatMap } from "./map.js";
import { FREE, Plan } from "./plan.js";
import { leaveLine, passEnds, passFor, wait } from "./queue.js";

const STATUS_KEYS = ["seat.available", "seat.held", "seat.sold", "seat.blocked"];

/** A seat's sign beside a word. */
export function sign(kind, color = null) {
  const canvas = h("canvas", { width: "40", height: "40", class: "sign", "aria-hidden": "true" });
  drawSign(canvas.getContext("2d"), theme(), kind, color, 3, 3, 34);
  return canvas;
}

/** Where a seat is, in words. */
export function seatName(seat) {
  const parts = [seat.zone, seat.row && t("seat.row", { row: seat.row }), t("seat.number", { number: seat.number || seat.id })];
  return parts.filter(Boolean).join(" · ");
}

export class SaleView {
  constructor(app, option) {
    this.app = app;
    this.id = option;
    this.node = h("main", { class: "sale" }, h("p", { class: "loading" }, t("loading")));
    this.ending = [];
    this.begin().catch((problem) => app.fail(problem, this.node));
  }

  close() {
    this.isClosed = true;
    for (const end of this.ending) end();
  }

  async begin() {
    this.option = await get(`/v1/options/${this.id}`);
    this.concert = await get(`/v1/concerts/${this.option.concert_id}`);
    if (this.isClosed) return;
    if (this.concert.waiting_room.mode === "open" || this.option.status === "closed") return this.enter();
    if (!session.token) return this.askWho();
    const fail = (problem) => this.app.fail(problem, this.node);
    const leave = () => this.leave();
    this.ending.push(wait(this.concert, this.node, { enter: () => this.enter().catch(fail), fail, leave }));
  }

  askWho() {
    put(this.node, h("section", { class: "line card" },
      h("h1", { tabindex: "-1" }, t("line.title")),
      h("p", {}, t("line.who")),
      h("button", { class: "button", type: "button", onclick: () => session.needed() }, t("session.begin"))));
  }

  async leave() {
    if (!(await confirm(t("line.leave"), t("line.leave.sure"), t("line.leave"), t("line.stay")))) return;
    this.close();
    await leaveLine(this.concert).catch(() => {});
    this.app.go(`#/concerts/${this.concert.id}`);
  }

  async enter() {
    const [plan, holds] = await Promise.all([
      get(`/v1/options/${this.id}/plan`),
      session.token ? get("/v1/reservations?status=held&limit=100") : { items: [] },
    ]);
    if (this.isClosed) return;
    this.plan = new Plan(plan);
    this.holds = holds.items.filter((reservation) => reservation.option_id === this.id);
    this.areas = Object.fromEntries(this.option.areas.map((area) => [area.name, { capacity: area.capacity, available: area.capacity }]));
    this.build();
    this.ending.push(followSeats(this.id, {
      onAll: (all) => this.update(this.plan.setAll(all.seats), all.areas),
      onSome: (some) => this.update(this.plan.setSome(some.seats), some.areas),
    }));
    this.ending.push(every(1000, () => this.tick()));
    this.ending.push(() => this.map?.close());
  }

  // What is seen

  build() {
    const { option, concert, plan } = this;
    if (plan.size > 0) {
      this.map = new SeatMap(plan, { toggle: (seat) => this.toggle(seat), describe: (seat) => this.describe(seat) });
      for (const hold of this.holds) for (const seat of hold.seats) this.map.mine.add(plan.index.get(seat.id));
    }
    this.notice = h("div", { class: "notices", role: "alert" });
    this.cart = h("section", { class: "cart", id: "cart" });
    this.pass = h("p", { class: "pass muted" });
    this.legend = h("section", { class: "legend" });
    this.status = h("span", { class: `pill ${option.status}` }, t(`status.${option.status}`));
    const others = h("section", { class: "others" });
    if (plan.size > 0) others.append(this.bestForm(), this.seatList());
    put(this.node,
      h("header", { class: "event" },
        h("a", { class: "back", href: `#/concerts/${concert.id}`, "aria-label": t("back") }, icon("back")),
        h("div", {}, h("h1", { tabindex: "-1" }, concert.title),
          h("p", { class: "muted" }, date(option.starts_at), " · ", time(option.starts_at))),
        this.status),
      h("div", { class: plan.size > 0 ? "hall" : "hall flat" },
        this.map?.node,
        h("aside", { class: "panel" }, this.notice, this.pass, this.holding(), this.areaForm(), this.legend, others)),
      this.cart);
    this.showLegend();
    this.showCart();
    this.tick();
  }

  tick() {
    const ends = passEnds(this.concert);
    const left = ends ? Date.parse(ends) - now() : null;
    this.pass.hidden = left === null;
    if (left !== null) put(this.pass, icon("clock"), t("line.inside", { time: countdown(left) }));
    const { sale_opens_at: opens } = this.option;
    if (this.option.status === "scheduled" && Date.parse(opens) <= now()) this.refresh();
  }

  /** Reads again what the sale is like. */
  async refresh() {
    this.option = await get(`/v1/options/${this.id}`);
    this.status.className = `pill ${this.option.status}`;
    this.status.textContent = t(`status.${this.option.status}`);
    this.showCart();
  }

  holding() {
    return this.holds.map((hold) => h("a", { class: "notice good", href: `#/reservations/${hold.id}` },
      h("p", { class: "strong" }, t("holding", { n: hold.seats.length + hold.areas.reduce((sum, area) => sum + area.count, 0) })),
      h("p", {}, t("holding.until", { time: time(hold.expires_at) }))));
  }

  showLegend() {
    const { plan } = this;
    if (plan.size === 0) return;
    const tones = theme();
    this.free = plan.categories.map(() => h("span", { class: "muted" }));
    put(this.legend,
      h("ul", { class: "prices" }, plan.categories.map((category, i) =>
        h("li", {}, sign("free", tones.category(i)), h("span", { class: "name" }, category.name), this.free[i], h("span", { class: "price" }, points(category.price))))),
      h("ul", { class: "signs" }, [["mine", "seat.yours"], ["held", "seat.held"], ["sold", "seat.sold"], ["blocked", "seat.blocked"]].map(([kind, key]) =>
        h("li", {}, sign(kind), t(key)))));
    this.showFree();
  }

  showFree() {
    this.plan.categories.forEach((category, i) => (this.free[i].textContent = t("left", { n: category.free })));
  }

  /** Where seats are, a row at a time. */
  names(seats) {
    const { plan } = this;
    const rows = Map.groupBy(seats, (i) => plan.rowOf[i]);
    return [...rows.values()].map((row) => seatName({
      zone: plan.zoneAt(row[0]).name, row: plan.rowAt(row[0]).name, number: row.map((i) => plan.numbers[i] || plan.guids[i]).join(", "),
    })).join("; ");
  }

  describe(seat) {
    const { plan } = this;
    const category = plan.categoryAt(seat);
    const isMine = this.map.mine.has(seat);
    return [this.names([seat]), `${category.name} · ${points(category.price)}`, t(isMine ? "seat.yours" : this.map.chosen.has(seat) ? "seat.chosen" : STATUS_KEYS[plan.status[seat]])];
  }

  // Choosing

  get most() {
    return Math.min(this.option.max_seats_per_reservation, this.option.max_seats_per_user);
  }

  get chosen() {
    return this.map ? [...this.map.chosen] : [];
  }

  toggle(seat) {
    const { map, plan } = this;
    if (map.chosen.delete(seat)) {
      // It is free again for others all the time.
    } else if (map.mine.has(seat)) {
      toast(t("seat.yours"));
    } else if (plan.status[seat] !== FREE) {
      toast(t(STATUS_KEYS[plan.status[seat]]));
    } else if (map.chosen.size >= this.most) {
      toast(t("limit", { n: this.most }));
    } else {
      map.chosen.add(seat);
      put(this.notice);
    }
    map.redraw("above");
    if (map.hover === seat) map.point(seat);
    this.showCart();
    this.showRow();
  }

  choose(seats) {
    this.map.chosen.clear();
    for (const seat of seats) this.map.chosen.add(seat);
    put(this.notice);
    this.map.showSeats(seats);
    this.showCart();
    this.showRow();
  }

  showCart() {
    const { plan, option } = this;
    const { chosen } = this;
    const total = chosen.reduce((sum, i) => sum + plan.categoryAt(i).price, 0);
    const isOpen = option.status === "on_sale" || option.status === "sold_out";
    this.node.classList.toggle("choosing", chosen.length > 0);
    if (!isOpen) {
      const when = option.status === "scheduled" ? t("sale.opens", { time: moment(option.sale_opens_at) }) : t("sale.closed");
      put(this.cart, h("p", { class: "strong" }, when));
      return;
    }
    if (chosen.length === 0) {
      put(this.cart, plan.size > 0 ? h("p", { class: "muted" }, t("choose", { n: this.most })) : null);
      return;
    }
    const chip = (i) => h("li", {},
      h("span", {}, h("strong", {}, [plan.rowAt(i).name, plan.numbers[i]].filter(Boolean).join("-") || plan.guids[i]), " ", plan.zoneAt(i).name),
      h("button", { type: "button", class: "ghost round", "aria-label": t("seat.drop", { seat: this.names([i]) }), onclick: () => this.toggle(i) }, icon("close")));
    put(this.cart,
      h("ul", { class: "chips" }, chosen.map(chip)),
      h("div", { class: "sum" },
        h("span", {}, t("seats", { n: chosen.length })), h("strong", {}, points(total))),
      h("button", { type: "button", class: "button wide", id: "hold", disabled: this.isBusy, onclick: () => this.hold({ seats: chosen.map((i) => plan.guids[i]) }, chosen) },
        t("hold", { minutes: this.holdTime })));
  }

  get holdTime() {
    const seconds = this.option.hold_seconds;
    return seconds < 60 ? t("duration.seconds", { n: seconds }) : t("duration.minutes", { n: Math.round(seconds / 60) });
  }

  async hold(wish, wanted = []) {
    if (!session.token) return session.needed();
    if (this.isBusy) return;
    this.isBusy = true;
    this.showCart();
    try {
      const reservation = await post(`/v1/options/${this.id}/reservations`, wish, newKey(), passFor(this.concert));
      this.app.go(`#/reservations/${reservation.id}`);
    } catch (problem) {
      this.refused(problem, wanted);
    } finally {
      this.isBusy = false;
      if (!this.isClosed) this.showCart();
    }
  }

  refused(problem, wanted) {
    if (problem.code === "seats_unavailable") {
      this.plan.setSome(Object.fromEntries(problem.body.conflicts.filter((guid) => this.isFree(guid)).map((guid) => [guid, "held"])));
      this.gone(problem.body.conflicts.map((guid) => this.plan.index.get(guid)), wanted);
    } else if (problem.code?.startsWith("queue_token")) {
      toast(problem.words, "bad");
      this.app.reload();
    } else {
      if (problem.code === "sale_not_open") this.refresh();
      this.tell(problem.words);
    }
  }

  isFree(guid) {
    return this.plan.status[this.plan.index.get(guid)] === FREE;
  }

  tell(text) {
    put(this.notice, h("div", { class: "notice bad" }, h("p", { class: "strong" }, text)));
    this.notice.scrollIntoView({ block: "nearest" });
  }

  /** Seats that one wanted were taken by somebody else. */
  gone(seats, wanted) {
    const { plan, map } = this;
    for (const seat of seats) map.chosen.delete(seat);
    map.change(seats);
    const nearest = plan.nearestTo(wanted, new Set(seats));
    const box = h("div", { class: "notice bad" }, h("p", { class: "strong" }, t("gone", { n: seats.length, seats: this.names(seats) })));
    if (nearest.length > 0) {
      const total = nearest.reduce((sum, i) => sum + plan.categoryAt(i).price, 0);
      box.append(h("p", {}, t("gone.nearest", { seats: this.names(nearest), amount: points(total) })),
        h("button", { type: "button", class: "button small", id: "nearest", onclick: () => this.choose(nearest) }, t("gone.take", { n: nearest.length })));
    } else box.append(h("p", {}, t("gone.none")));
    put(this.notice, box);
    this.notice.scrollIntoView({ block: "nearest" });
    this.showCart();
    this.showRow();
  }

  /** What the server tells. */
  update(changed, areas) {
    Object.assign(this.areas, areas);
    this.showAreas();
    if (!this.map || changed.length === 0) return;
    this.map.change(changed);
    const { chosen, mine } = this.map;
    const lost = changed.filter((i) => chosen.has(i) && !mine.has(i) && this.plan.status[i] !== FREE);
    // A hold of one's own is told of by its answer.
    if (lost.length > 0 && !this.isBusy) this.gone(lost, [...chosen]);
    if (!this.fresh) {
      this.fresh = setTimeout(() => {
        this.fresh = null;
        if (this.isClosed) return;
        this.showFree();
        this.showRow();
      }, 400);
    }
  }

  // Other ways to seats

  bestForm() {
    const { plan } = this;
    const count = this.counter("best-count", this.most, Math.min(2, this.most));
    const category = h("select", { id: "best-category" }, h("option", { value: "" }, t("best.any")),
      plan.categories.map(({ name, price }) => h("option", { value: name }, `${name} · ${points(price)}`)));
    const zones = [...new Set(plan.zones.map((zone) => zone.name))].filter(Boolean);
    const zone = h("select", { id: "best-zone" }, h("option", { value: "" }, t("best.anywhere")), zones.map((name) => h("option", { value: name }, name)));
    const apart = h("input", { type: "checkbox", id: "best-apart" });
    const submit = (event) => {
      event.preventDefault();
      const wish = { count: count.read(), adjacent: !apart.checked };
      if (category.value) wish.category = category.value;
      if (zone.value) wish.zone = zone.value;
      this.hold({ best_available: wish });
    };
    return h("details", { class: "way", id: "best" }, h("summary", {}, t("best.title")),
      h("form", { onsubmit: submit },
        h("p", { class: "muted" }, t("best.text")),
        h("label", { for: "best-count" }, t("best.count")), count.node,
        h("label", { for: "best-category" }, t("best.category")), category,
        h("label", { for: "best-zone" }, t("best.zone")), zone,
        h("label", { class: "check" }, apart, t("best.apart")),
        h("button", { class: "button wide", id: "best-hold" }, t("hold", { minutes: this.holdTime }))));
  }

  counter(id, most, value) {
    const input = h("input", { type: "number", id, min: "1", max: String(most), value: String(value), inputmode: "numeric", required: true });
    const step = (by) => () => (input.value = String(Math.min(most, Math.max(1, Number(input.value) + by))));
    const node = h("span", { class: "counter" },
      h("button", { type: "button", class: "round", "aria-label": t("less"), onclick: step(-1) }, icon("minus")), input,
      h("button", { type: "button", class: "round", "aria-label": t("more"), onclick: step(1) }, icon("plus")));
    return { node, read: () => Math.min(most, Math.max(1, Number(input.value) || 1)) };
  }

  /** All seats as a list, a row at a time: for screen readers, and for whoever knows the row. */
  seatList() {
    const { plan } = this;
    const zone = h("select", { id: "list-zone", onchange: () => rows() }, plan.zones.map((z, i) => h("option", { value: String(i) }, z.name || t("zone.unnamed"))));
    this.listRow = h("select", { id: "list-row", onchange: () => this.showRow() });
    this.listSeats = h("ul", { class: "rowlist", id: "list-seats" });
    const rows = () => {
      const { firstRow, lastRow } = plan.zones[Number(zone.value)];
      put(this.listRow, plan.rows.slice(firstRow, lastRow).map((row, k) => h("option", { value: String(firstRow + k) }, row.name || String(k + 1))));
      this.showRow();
    };
    this.list = h("details", { class: "way", id: "list", ontoggle: () => this.list.open && rows() },
      h("summary", {}, t("list.title")),
      h("form", { onsubmit: (event) => event.preventDefault() },
        h("label", { for: "list-zone" }, t("list.zone")), zone,
        h("label", { for: "list-row" }, t("list.row")), this.listRow, this.listSeats));
    return this.list;
  }

  showRow() {
    if (!this.list?.open) return;
    const { plan, map } = this;
    const row = plan.rows[Number(this.listRow.value)];
    const focused = document.activeElement?.dataset?.seat;
    put(this.listSeats, Array.from({ length: row.to - row.from }, (_, k) => {
      const i = row.from + k;
      const box = h("input", { type: "checkbox", "data-seat": String(i), checked: map.chosen.has(i), disabled: plan.status[i] !== FREE, onchange: () => this.toggle(i) });
      return h("li", {}, h("label", { class: "check" }, box, h("span", {}, t("seat.number", { number: plan.numbers[i] || plan.guids[i] })),
        h("span", { class: "muted" }, `${plan.categoryAt(i).name} · ${points(plan.categoryAt(i).price)}`),
        h("span", { class: "muted" }, t(map.mine.has(i) ? "seat.yours" : STATUS_KEYS[plan.status[i]]))));
    }));
    if (focused) this.listSeats.querySelector(`[data-seat="${focused}"]`)?.focus();
  }

  areaForm() {
    const { option } = this;
    if (option.areas.length === 0) return null;
    this.areaRows = option.areas.map((area) => {
      const count = this.counter(`area-${area.name}`, this.most, 1);
      const left = h("span", { class: "muted" });
      const button = h("button", { class: "button", type: "submit" }, t("hold.places"));
      const submit = (event) => {
        event.preventDefault();
        this.hold({ areas: [{ name: area.name, count: count.read() }] });
      };
      const node = h("form", { class: "area", "data-area": area.name, onsubmit: submit },
        h("div", { class: "grow" }, h("p", { class: "strong" }, area.name),
          h("p", {}, h("span", { class: "price" }, points(option.prices[area.category])), " · ", left)),
        h("label", { class: "unseen", for: `area-${area.name}` }, t("best.count")), count.node, button);
      return { area, left, button, node };
    });
    const node = h("section", { class: "areas" }, h("h2", {}, t("areas")), this.areaRows.map((row) => row.node));
    this.showAreas();
    return node;
  }

  showAreas() {
    for (const { area, left, button } of this.areaRows ?? []) {
      const { available } = this.areas[area.name];
      left.textContent = available === 0 ? t("status.sold_out") : t("left", { n: available });
      button.disabled = available === 0;
    }
  }
}

/** How much of a sale is left, as a bar. */
export function fillBar(counts) {
  const all = counts.available + counts.held + counts.sold;
  const share = all === 0 ? 0 : counts.available / all;
  const bar = h("div", { class: "fill", "aria-hidden": "true" }, h("div", {}));
  bar.firstChild.style.width = `${Math.round(100 * share)}%`;
  return h("div", { class: "availability" }, bar, h("span", { class: "muted" }, t("left", { n: counts.available })));
}

export const priceRange = (prices) => {
  const all = Object.values(prices);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return least === most ? points(least) : t("range", { least: number(least), most: points(most) });
};
