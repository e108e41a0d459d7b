// The page for whoever runs a sale: how it goes, and what can be done about it.

import { get, newKey, patch, post, session } from "./api.js";
import { Chart } from "./chart.js";
import { confirm, every, h, icon, put, toast } from "./dom.js";
import { theme } from "./draw.js";
import { chooser, load, moment, number, percent, t } from "./i18n.js";
import { followSeats } from "./live.js";
import { SeatMap } from "./map.js";
import { FREE, Plan } from "./plan.js";

const EVERY_MS = 2000;
/** Samples that a curve shows at the most: an hour. */
const SAMPLES_MAX = 1800;
/** Over how long a pace is measured. */
const PACE_MS = 60_000;
/** Ids in one request, whose body is bounded. */
const SEATS_PER_REQUEST = 150;

const ask = (promise) => promise.catch((problem) => {
  if (!problem.words) throw problem;
  toast(problem.words, "bad");
  return null;
});

/** Whether the server sends events out. */
let hasSinks = null;

class Tile {
  constructor(name, kind = "") {
    this.value = h("strong", {}, "–");
    this.below = h("span", { class: "muted" });
    this.node = h("div", { class: `card tile ${kind}` }, h("span", { class: "name" }, name), this.value, this.below);
  }

  show(value, below = "") {
    this.value.textContent = value;
    this.below.textContent = below;
  }
}

/** A form whose fields follow what the server has, unless somebody is changing them. */
function fieldset(title, fields, apply, more = []) {
  const form = h("form", { class: "card control", onsubmit: (event) => {
    event.preventDefault();
    apply();
  }, oninput: () => (form.dataset.changed = "yes") }, h("h2", {}, title), fields, h("div", { class: "actions" }, more, h("button", { class: "button small" }, t("ops.apply"))));
  return form;
}

const localTime = (text) => {
  if (!text) return "";
  const at = new Date(text);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

class SaleDesk {
  constructor(concert, option) {
    this.concert = concert;
    this.option = option;
    this.samples = [];
    this.commits = [];
    this.ending = [];
    this.node = h("div", { class: "desk" });
    this.buildFigures();
    this.buildControls();
    put(this.node, h("div", { class: "tiles" }, Object.values(this.tiles).map((tile) => tile.node)),
      h("div", { class: "curves" }, this.charts.map((chart) => chart.node)),
      h("div", { class: "controls" }, this.lineForm, this.windowForm),
      this.hall = h("section", { class: "card seats" }));
    this.ending.push(every(EVERY_MS, () => this.read()));
    this.buildMap().catch((problem) => toast(problem.words ?? problem.message, "bad"));
  }

  close() {
    this.isClosed = true;
    for (const end of this.ending) end();
  }

  // Figures

  buildFigures() {
    this.tiles = {
      sold: new Tile(t("ops.sold"), "sold"), held: new Tile(t("ops.held"), "held"), free: new Tile(t("ops.free"), "free"),
      waiting: new Tile(t("ops.waiting")), inside: new Tile(t("ops.inside")), commit: new Tile(t("ops.commit")),
      watching: new Tile(t("ops.subscribers")), sinks: new Tile(t("ops.sinks")),
    };
    const seats = (kind) => (sample) => sample.seats?.[kind] ?? 0;
    this.charts = [
      new Chart(t("ops.curve.sales"), [{ name: t("ops.sold"), kind: "sold", value: seats("sold") }, { name: t("ops.held"), kind: "held", value: seats("held") }], { stacked: true }),
      new Chart(t("ops.curve.line"), [{ name: t("ops.waiting"), kind: "waiting", value: (sample) => sample.line.waiting }, { name: t("ops.inside"), kind: "inside", value: (sample) => sample.line.active }]),
      new Chart(t("ops.curve.commit"), [{ name: t("ops.commit"), kind: "commit", value: (sample) => sample.milliseconds }], { show: (n) => t("ops.milliseconds", { n: Math.round(n * 10) / 10 }) }),
    ];
  }

  async read() {
    if (this.isReading) return;
    this.isReading = true;
    try {
      // The whole hour the first time; after that this page goes on by itself.
      const since = this.samples.length > 0 ? `&since=${encodeURIComponent(this.samples.at(-1).at)}` : "";
      const [stats, option, room] = await Promise.all([
        get(`/v1/stats?option_id=${this.option.id}${since}`), get(`/v1/options/${this.option.id}`), get(`/v1/concerts/${this.concert.id}/waiting-room`),
      ]);
      if (this.isClosed) return;
      this.samples.push(...stats.sale.history, stats.sale.now);
      this.samples = this.samples.slice(-SAMPLES_MAX);
      this.option = option;
      this.show(stats, room);
      await this.readSinks();
    } catch (problem) {
      if (problem.code === "offline") health(null);
      else if (problem.words) toast(problem.words, "bad");
      else throw problem;
    } finally {
      this.isReading = false;
    }
  }

  /** By how much something grew within a minute. */
  pace(value) {
    const last = this.samples.at(-1);
    const before = this.samples.find((sample) => Date.parse(last.at) - Date.parse(sample.at) <= PACE_MS);
    const minutes = (Date.parse(last.at) - Date.parse(before.at)) / 60_000;
    return minutes > 0 ? Math.max(0, Math.round((value(last) - value(before)) / minutes)) : 0;
  }

  show(stats, room) {
    const { tiles } = this;
    const { seats, holds_expiring: expiring, line } = stats.sale.now;
    const all = seats.available + seats.held + seats.sold;
    const share = (n) => t("ops.of", { share: percent(all === 0 ? 0 : n / all), n: all });
    tiles.sold.show(number(seats.sold), `${share(seats.sold)} · ${t("ops.pace", { n: this.pace((sample) => sample.seats.sold) })}`);
    tiles.held.show(number(seats.held), t("ops.expiring", { n: expiring }));
    tiles.free.show(number(seats.available), `${t("ops.blocked")} ${number(seats.blocked)}`);
    tiles.waiting.show(number(line.waiting), t("ops.admitted", { n: this.pace((sample) => sample.line.active + sample.line.used) }));
    tiles.inside.show(number(line.active), t("ops.inside.of", { n: room.max_active }));
    tiles.watching.show(number(stats.live_subscribers ?? 0), t("ops.sockets"));
    this.showCommits(stats);
    this.charts[0].update(this.samples);
    this.charts[1].update(this.samples);
    this.showRoom(room);
    this.showWindow();
    health(true);
  }

  /** The mean of each stretch between two looks. */
  showCommits(stats) {
    const { commits } = this;
    // At first, that since the server started.
    const before = this.lastStats ?? { at: 0, batches: 0, seconds: 0 };
    this.lastStats = { at: performance.now(), batches: stats.batches, seconds: stats.commit_seconds };
    const batches = stats.batches - before.batches;
    const milliseconds = batches > 0 ? (1000 * (stats.commit_seconds - before.seconds)) / batches : (commits.at(-1)?.milliseconds ?? 0);
    const rate = before.at > 0 ? Math.round((1000 * batches) / (this.lastStats.at - before.at)) : 0;
    commits.push({ at: stats.sale.now.at, milliseconds });
    if (commits.length > SAMPLES_MAX) commits.shift();
    this.tiles.commit.show(t("ops.milliseconds", { n: Math.round(milliseconds * 100) / 100 }),
      `${t("ops.commit.rate", { n: rate })} · ${t("ops.checkpoint", { n: Math.max(0, stats.durable_lsn - stats.checkpointed_lsn) })}`);
    this.charts[2].update(commits);
  }

  /** Receivers of events; not every server has them. */
  async readSinks() {
    hasSinks ??= get("/openapi.json").then((api) => "/v1/webhooks" in api.paths);
    this.tiles.sinks.node.hidden = !(await hasSinks);
    if (!(await hasSinks)) return;
    const { items } = await get("/v1/webhooks?limit=500");
    const n = items.length;
    const behind = Math.max(0, ...items.map((sink) => sink.lag));
    this.tiles.sinks.show(number(behind), n > 0 ? t("ops.sinks.slowest", { n }) : t("ops.sinks.none"));
  }

  // Controls

  buildControls() {
    const modes = ["open", "queue", "paused"].map((mode) => h("label", { class: "choice" }, h("input", { type: "radio", name: "mode", value: mode, id: `mode-${mode}` }), h("span", {}, t(`ops.mode.${mode}`))));
    this.maxActive = h("input", { type: "number", id: "max-active", min: "1", max: "10000000", required: true });
    this.admit = h("input", { type: "number", id: "admit", min: "1", max: "10000000", placeholder: t("ops.admit.none") });
    this.lineForm = fieldset(t("ops.line"), [
      h("fieldset", { class: "modes" }, h("legend", {}, t("ops.mode")), modes),
      h("div", { class: "pair" },
        h("div", {}, h("label", { for: "max-active" }, t("ops.max_active")), this.maxActive),
        h("div", {}, h("label", { for: "admit" }, t("ops.admit")), this.admit)),
    ], () => this.applyRoom());
    this.lineForm.id = "line-form";
    this.opens = h("input", { type: "datetime-local", id: "opens" });
    this.closes = h("input", { type: "datetime-local", id: "closes", required: true });
    this.status = h("span", { class: "pill" });
    this.closeButton = h("button", { type: "button", class: "button small danger", id: "close-sale", onclick: () => this.closeNow() });
    this.windowForm = fieldset(t("ops.window"), [
      h("p", {}, this.status),
      h("div", { class: "pair" },
        h("div", {}, h("label", { for: "opens" }, t("ops.opens")), this.opens),
        h("div", {}, h("label", { for: "closes" }, t("ops.closes")), this.closes)),
    ], () => this.applyWindow(), this.closeButton);
    this.windowForm.id = "window-form";
  }

  showRoom(room) {
    if (this.lineForm.dataset.changed) return;
    this.lineForm.querySelector(`[value="${room.mode}"]`).checked = true;
    this.maxActive.value = room.max_active;
    this.admit.value = room.admit_per_minute ?? "";
  }

  showWindow() {
    const { option } = this;
    this.status.className = `pill ${option.status}`;
    this.status.textContent = t(`status.${option.status}`);
    this.closeButton.textContent = t(option.status === "closed" ? "ops.reopen" : "ops.close.now");
    if (this.windowForm.dataset.changed) return;
    this.opens.value = localTime(option.sale_opens_at);
    this.closes.value = localTime(option.sale_closes_at);
  }

  async changed(form, promise) {
    if ((await ask(promise)) === null) return;
    delete form.dataset.changed;
    toast(t("ops.applied"), "good");
    await this.read();
  }

  applyRoom() {
    const mode = this.lineForm.querySelector("[name=mode]:checked").value;
    const settings = { mode, max_active: Number(this.maxActive.value), admit_per_minute: this.admit.value ? Number(this.admit.value) : null };
    return this.changed(this.lineForm, patch(`/v1/concerts/${this.concert.id}/waiting-room`, settings));
  }

  applyWindow() {
    const instant = (field) => (field.value ? new Date(field.value).toISOString() : null);
    return this.changed(this.windowForm, patch(`/v1/options/${this.option.id}`, { sale_opens_at: instant(this.opens), sale_closes_at: instant(this.closes) }));
  }

  async closeNow() {
    const path = `/v1/options/${this.option.id}`;
    if (this.option.status === "closed") return this.changed(this.windowForm, patch(path, { sale_closes_at: null }));
    if (!(await confirm(t("ops.close.now"), t("ops.close.sure"), t("ops.close.now"), t("ops.close.keep")))) return;
    // A sale must open before it closes: one that has not opened yet closes before its time comes.
    const closing = { sale_closes_at: new Date().toISOString() };
    if (this.option.status === "scheduled") closing.sale_opens_at = null;
    return this.changed(this.windowForm, patch(path, closing));
  }

  // Seats

  async buildMap() {
    const plan = new Plan(await get(`/v1/options/${this.option.id}/plan`));
    if (this.isClosed) return;
    if (plan.size === 0) {
      this.hall.hidden = true;
      return;
    }
    this.plan = plan;
    this.map = new SeatMap(plan, { toggle: (seat) => this.toggle([seat]), describe: (seat) => this.describe(seat), drag: (seats) => this.toggle(seats, true) });
    this.count = h("span", { class: "strong", id: "chosen", "aria-live": "polite" });
    const act = (name, path, kind = "quiet") => h("button", { type: "button", class: `button small ${kind}`, id: name, onclick: () => this.change(path) }, t(`ops.${name}`));
    this.buttons = [act("block", "blocks", ""), act("unblock", "unblocks"), h("button", { type: "button", class: "ghost", onclick: () => this.toggle([...this.map.chosen]) }, t("ops.clear"))];
    const view = (name) => h("label", { class: "choice" }, h("input", { type: "radio", name: "view", value: name, id: `view-${name}`, checked: name === "status", onchange: () => this.look(name) }), h("span", {}, t(`ops.view.${name}`)));
    this.scale = h("p", { class: "scale muted", hidden: true }, t("ops.heat"), ": ", t("ops.heat.least"), theme().heat.map((color) => {
      const step = h("i", {});
      step.style.background = color;
      return step;
    }), t("ops.heat.most"));
    put(this.hall, h("header", {}, h("h2", {}, t("ops.seats")), h("div", { class: "modes" }, view("status"), view("heat")), this.scale,
      h("div", { class: "grow" }), this.count, this.buttons), this.map.node, h("p", { class: "muted hint" }, t("ops.seats.text")));
    this.showChosen();
    this.ending.push(() => this.map.close(), followSeats(this.option.id, {
      onAll: (all) => this.map.change(plan.setAll(all.seats)),
      onSome: (some) => this.map.change(plan.setSome(some.seats)),
    }));
  }

  describe(seat) {
    const { plan } = this;
    const state = t(["seat.available", "seat.held", "seat.sold", "seat.blocked"][plan.status[seat]]);
    return [`${plan.zoneAt(seat).name} · ${plan.rowAt(seat).name}-${plan.numbers[seat]}`, plan.categoryAt(seat).name, state];
  }

  toggle(seats, isAdding = false) {
    const { chosen } = this.map;
    for (const seat of seats) if (isAdding || !chosen.delete(seat)) chosen.add(seat);
    this.map.redraw("above");
    this.showChosen();
  }

  showChosen() {
    const n = this.map.chosen.size;
    this.count.textContent = n > 0 ? t("ops.chosen", { n }) : "";
    for (const button of this.buttons) button.disabled = n === 0;
  }

  /** Blocks or unblocks what is chosen, as many seats at a time as a request may hold. */
  async change(path) {
    const { plan, map } = this;
    // What is taken cannot be blocked, and what is free need not be freed.
    const isFit = (i) => (path === "blocks" ? plan.status[i] === FREE : plan.status[i] !== FREE);
    const seats = [...map.chosen].filter(isFit).map((i) => plan.guids[i]);
    for (let k = 0; k < seats.length; k += SEATS_PER_REQUEST) {
      if ((await ask(post(`/v1/options/${this.option.id}/${path}`, { seats: seats.slice(k, k + SEATS_PER_REQUEST) }, newKey()))) === null) return;
    }
    toast(t("ops.blocks.done", { n: seats.length }), "good");
    this.toggle([...map.chosen]);
  }

  /** The state of seats, or how much of each row and block is taken. */
  look(name) {
    const { painter } = this.map;
    const taken = (part, all) => (all === 0 ? 0 : 1 - part.free / all);
    const rowHeat = (row) => taken(row, row.to - row.from);
    painter.heat = name === "heat" ? (block, i) => (i === undefined ? taken(block, block.seats) : rowHeat(this.plan.rowAt(i))) : null;
    this.scale.hidden = name !== "heat";
    this.map.redraw("all");
  }
}

/** Whether the server takes orders. */
async function health(isReachable) {
  const pill = document.getElementById("health");
  const ready = isReachable ? await fetch("/readyz").then((answer) => answer.json(), () => null) : null;
  pill.className = `pill ${ready?.ready ? "good" : "bad"}`;
  pill.textContent = t(ready?.ready ? "ops.ready" : "ops.unready");
  pill.title = [...(ready?.reasons ?? []), ...(ready?.warnings ?? [])].join("\n");
}

let desk = null;

async function showDesk(concert, id) {
  desk?.close();
  desk = null;
  const option = await ask(get(`/v1/options/${id}`));
  if (!option) return;
  history.replaceState(null, "", `#/${concert.id}/${id}`);
  desk = new SaleDesk(concert, option);
  put(document.getElementById("desk"), desk.node);
}

async function begin() {
  const page = document.getElementById("page");
  put(document.getElementById("head"),
    h("a", { class: "logo", href: "/ops" }, icon("ticket"), "boxoffice", h("small", {}, t("ops.name"))),
    h("nav", {}, h("span", { id: "health", class: "pill" }), session.user ? h("span", { class: "ghost who" }, icon("person"), session.user) : null, chooser()));
  if (!session.isAdmin) return put(page, askAdmin());
  const concerts = await ask(get("/v1/concerts?limit=500"));
  const items = (concerts?.items ?? []).filter((concert) => concert.options.length > 0);
  if (items.length === 0) return put(page, h("main", {}, h("p", {}, t("ops.none"))));
  const choose = async () => {
    const concert = items[concertField.selectedIndex];
    const options = await Promise.all(concert.options.map((id) => get(`/v1/options/${id}`)));
    put(optionField, options.map((option) => h("option", { value: option.id }, `${moment(option.starts_at)} · ${t(`status.${option.status}`)}`)));
    const wanted = options.find((option) => option.id === asked?.[2]) ?? options.find((option) => option.status === "on_sale") ?? options[0];
    optionField.value = wanted.id;
    await showDesk(concert, wanted.id);
  };
  const concertField = h("select", { id: "concert", onchange: () => ask(choose()) }, items.map((concert) => h("option", { value: concert.id }, concert.title)));
  const optionField = h("select", { id: "option", onchange: () => showDesk(items[concertField.selectedIndex], optionField.value) });
  const asked = /^#\/([\w-]+)\/([\w-]+)$/.exec(location.hash);
  if (asked && items.some((concert) => concert.id === asked[1])) concertField.value = asked[1];
  put(page, h("main", {}, h("h1", { class: "unseen" }, t("ops.title")), h("div", { class: "which" },
    h("div", {}, h("label", { for: "concert" }, t("ops.concert")), concertField),
    h("div", {}, h("label", { for: "option" }, t("ops.option")), optionField)), h("div", { id: "desk" })));
  await ask(choose());
}

function askAdmin() {
  const field = h("textarea", { id: "token", rows: "4", required: true, autocomplete: "off", spellcheck: "false" });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true }, t("session.wrong"));
  const submit = (event) => {
    event.preventDefault();
    wrong.hidden = session.take(field.value) && session.isAdmin;
    if (wrong.hidden) begin();
  };
  return h("main", { class: "ask" }, h("form", { class: "card control", onsubmit: submit }, h("h2", {}, t("session.title")), h("p", {}, t("ops.admin")),
    h("label", { for: "token" }, t("session.token")), field, wrong, h("div", { class: "actions" }, h("button", { class: "button" }, t("session.begin")))));
}

session.begin();
session.needed = () => {
  desk?.close();
  begin();
};
await load();
document.title = t("ops.title");
await begin();
