// The page for whoever runs a sale: how it goes, and what can be done about it.

import { api, get, goTo, loginPage, newKey, patch, post, session } from "./api.js";
import { Chart } from "./chart.js";
import { View, button, byId, chooser, confirm, every, h, icon, labelled, put, signIn, statusOf, toast, wear } from "./dom.js";
import { theme } from "./draw.js";
import css from "./hall.css.js";
import { about, moment, money, number, percent, t } from "./i18n.js";
import { followSeats } from "./live.js";
import { SeatMap } from "./map.js";
import { FREE, Plan } from "./plan.js";
import { learnRoles, may } from "./roles.js";
import { load, loadTexts } from "./texts.js";

const EVERY_MS = 2000;
// For roles that are shown less.
const SELDOM_MS = 10_000;
// An hour.
const SAMPLES_MAX = 1800;
const PACE_MS = 60_000;
// A request's body is bounded.
const SEATS_PER_REQUEST = 150;
const OWED_MAX = 50;

const ask = (promise) => promise.catch((problem) => {
	if (!problem.words) throw problem;
	toast(problem.words, "bad");
	return null;
});

class Tile {
	constructor(name, kind) {
		this.value = h("strong", "–");
		this.below = h("span.muted");
		this.node = h(`div.card.tile.${kind}`, h("span.name", name), this.value, this.below);
	}

	show(value, below = "") {
		this.value.textContent = value;
		this.below.textContent = below;
	}
}

// What buyers or the house are owed of payments by providers, of all sales.
class Owed {
	constructor(applied) {
		this.applied = applied;
		this.node = h("section.card.owed", { hidden: true });
	}

	async read() {
		const { items, next_cursor: more } = await get(`/v1/payments?owed=true&limit=${OWED_MAX}`);
		this.node.hidden = items.length === 0;
		if (this.node.hidden || this.node.matches(":has(:focus-visible)")) return;
		put(this.node, h("h2", t("ops_owed")), h("p.muted", t("ops_owed_text")),
			h("ul", items.flatMap((payment) => payment.owed.map((owed) => this.debt(payment, owed)))), more && h("p.muted", t("ops_owed_more")));
	}

	debt({ id, currency, method, disputed }, { kind, amount, since, attempts, reference, by_hand: byHand }) {
		const age = (Date.now() - Date.parse(since)) / 1000;
		const state = byHand ? "by_hand" : disputed ? "disputed" : null;
		const look = async () => {
			const looked = post(`/v1/payments/${id}/lookup`).catch((problem) => {
				if (problem.code === "invalid_request") problem.code = "lookup_elsewhere";
				throw problem;
			});
			if ((await ask(looked)) === null) return;
			toast(t("ops_applied"), "good");
			await this.applied();
		};
		return h("li",
			h("div.grow", h("p.strong", t(`ops_owed_${kind}`), kind !== "check" && ` · ${money(amount, currency)}`),
				h("p.muted", `${method} · ${id}`, reference && ` · ${reference}`),
				h("p.muted", t("ops_owed_since", { time: about(age) }), " · ", t("ops_owed_attempts", { n: attempts }))),
			state && h("span.pill.bad", t(`ops_owed_${state}`)),
			may("run") && button(".button.small.quiet.lookup", look, t("ops_lookup")));
	}
}

// A form that follows the server, unless somebody is changing it.
function control(id, title, fields, apply, more = null) {
	const form = h("form.card.control", { id, onsubmit: apply, oninput: () => (form.dataset.changed = "yes") },
		h("h2", title), fields, h("div.actions", more, h("button.button.small", t("ops_apply"))));
	return form;
}

const choice = (name, value, properties = {}) =>
	h("label.choice", h(`input#${name}-${value}`, { type: "radio", name, value, ...properties }), h("span", t(`ops_${name}_${value}`)));

const localTime = (text) => {
	if (!text) return "";
	const at = new Date(text);
	return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

class SaleDesk extends View {
	samples = [];
	commits = [];

	constructor(concert, option, hall) {
		super(null, "div");
		this.option = option;
		this.sale = `/v1/options/${option.id}`;
		this.room = `/v1/concerts/${concert.id}/waiting-room`;
		this.buildFigures();
		this.buildControls();
		this.nodes = h("section.card.nodes", { hidden: true });
		this.hooks = h("section.card.hooks", { hidden: true });
		this.owed = new Owed(() => this.read());
		const { commit, watching, sinks, ...sale } = this.tiles;
		const tiles = (some) => h("div.tiles", Object.values(some).map((tile) => tile.node));
		const curves = (...charts) => h("div.curves", charts.map((chart) => chart.node));
		const [sales, line, commits] = this.charts;
		put(this.node, tiles(sale), curves(sales, line), h("div.controls", this.lineForm, this.windowForm), this.owed.node, hall);
		this.engine = h("div", tiles({ commit, watching, sinks }), curves(commits), this.nodes, this.hooks);
		this.ending.push(every(EVERY_MS, () => this.read()));
	}

	buildFigures() {
		const names = {
			sold: "seat_sold", held: "reservation_held", free: "seat_available", waiting: "ops_waiting", inside: "ops_inside",
			commit: "ops_commit", watching: "ops_subscribers", sinks: "ops_sinks",
		};
		this.tiles = Object.fromEntries(Object.entries(names).map(([kind, name]) => [kind, new Tile(t(name), kind)]));
		const series = (kind, value) => ({ name: t(names[kind]), kind, value });
		const seats = (kind) => series(kind, (sample) => sample.seats?.[kind] ?? 0);
		this.charts = [
			new Chart(t("ops_curve_sales"), [seats("sold"), seats("held")], { stacked: true }),
			new Chart(t("ops_curve_line"), [series("waiting", (sample) => sample.line.waiting), series("inside", (sample) => sample.line.active)]),
			new Chart(t("ops_curve_commit"), [series("commit", (sample) => sample.milliseconds)], { show: (n) => t("ops_milliseconds", { n: Math.round(n * 10) / 10 }) }),
		];
	}

	async read() {
		if (this.isReading) return;
		this.isReading = true;
		try {
			const since = this.samples.length > 0 ? `&since=${encodeURIComponent(this.samples.at(-1).at)}` : "";
			const [stats, option, room] = await Promise.all([
				get(`/v1/stats?option_id=${this.option.id}${since}`), get(this.sale), get(this.room),
			]);
			if (this.isClosed) return;
			this.samples.push(...stats.sale.history, stats.sale.now);
			this.samples = this.samples.slice(-SAMPLES_MAX);
			this.option = option;
			this.show(stats, room);
			await Promise.all([this.readHooks(), this.owed.read()]);
		} catch (problem) {
			if (problem.code === "offline") health(null);
			else if (problem.words) toast(problem.words, "bad");
			else throw problem;
		} finally {
			this.isReading = false;
		}
	}

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
		const share = (n) => t("ops_of", { share: percent(all === 0 ? 0 : n / all), n: all });
		tiles.sold.show(number(seats.sold), `${share(seats.sold)} · ${t("ops_pace", { n: this.pace((sample) => sample.seats.sold) })}`);
		tiles.held.show(number(seats.held), t("ops_expiring", { n: expiring }));
		tiles.free.show(number(seats.available), `${t("ops_blocked")} ${number(seats.blocked)}`);
		tiles.waiting.show(number(line.waiting), t("ops_admitted", { n: this.pace((sample) => sample.line.active + sample.line.used) }));
		tiles.inside.show(number(line.active), t("ops_inside_of", { n: room.max_active }));
		tiles.watching.show(number(stats.live_subscribers ?? 0), t("ops_sockets"));
		this.showCommits(stats);
		this.charts[0].update(this.samples);
		this.charts[1].update(this.samples);
		this.showRoom(room);
		this.showWindow();
		this.showNodes(stats.nodes);
		health(true);
	}

	showCommits(stats) {
		const { commits } = this;
		// The mean since the last look; at first, since the server started.
		const before = this.lastStats ?? { at: 0, batches: 0, seconds: 0 };
		this.lastStats = { at: performance.now(), batches: stats.batches, seconds: stats.commit_seconds };
		const batches = stats.batches - before.batches;
		const milliseconds = batches > 0 ? (1000 * (stats.commit_seconds - before.seconds)) / batches : (commits.at(-1)?.milliseconds ?? 0);
		const rate = before.at > 0 ? Math.round((1000 * batches) / (this.lastStats.at - before.at)) : 0;
		commits.push({ at: stats.sale.now.at, milliseconds });
		if (commits.length > SAMPLES_MAX) commits.shift();
		this.tiles.commit.show(t("ops_milliseconds", { n: Math.round(milliseconds * 100) / 100 }),
			`${t("ops_commit_rate", { n: rate })} · ${t("ops_checkpoint", { n: Math.max(0, stats.durable_lsn - stats.checkpointed_lsn) })}`);
		this.charts[2].update(commits);
	}

	showNodes(nodes) {
		this.nodes.hidden = nodes.length === 0;
		const row = ({ node, role, lsn, ready, heard_seconds: heard }) => h("li",
			h("div.grow", h("p.strong", node), h("p.muted", t("ops_node_lsn", { n: lsn }), heard > 0 && ` · ${t("ops_node_heard", { n: Math.round(heard) })}`)),
			h("span.muted", t(`ops_node_${role}`)),
			h(`span.pill.${ready ? "good" : "bad"}`, t(ready ? "ops_ready" : "ops_unready")));
		put(this.nodes, h("h2", t("ops_nodes")), h("ul", nodes.sort((a, b) => (a.node < b.node ? -1 : 1)).map(row)));
	}

	async readHooks() {
		const { items } = await get("/v1/webhooks?limit=500");
		const behind = Math.max(0, ...items.map((hook) => hook.lag));
		this.tiles.sinks.show(number(behind), items.length > 0 ? t("ops_sinks_slowest", { n: items.length }) : t("ops_sinks_none"));
		this.hooks.hidden = items.length === 0;
		// What somebody is about to click stays where it is.
		if (!this.hooks.hidden && !this.hooks.matches(":has(:focus-visible)")) put(this.hooks, h("h2", t("ops_hooks")), h("ul", items.map((hook) => this.hook(hook))));
	}

	hook(hook) {
		const { attempts, lag, dead_letters: dead, parked, last_failure: failure, id } = hook;
		const isDisabled = hook.status === "disabled";
		const state = hook.status === "active" ? hook.breaker : hook.status;
		const why = hook.disabled_reason ?? (attempts.failed > 0 && failure && [failure.status, failure.text].filter(Boolean).join(" "));
		const redrive = () => this.applied(post(`/v1/webhooks/${id}/redrive`));
		return h("li",
			h("div.grow", h("p.strong", { title: hook.url }, new URL(hook.url).host),
				h("p.muted", t("ops_hook_attempts", { delivered: attempts.delivered, failed: attempts.failed }), " · ", t("ops_hook_lag", { n: lag }), why && ` · ${why}`)),
			parked > 0 && h("span.muted", t("ops_hook_parked", { n: parked, dead })),
			h(`span.pill.${state === "closed" ? (dead > 0 ? "held" : "good") : state === "half_open" ? "held" : "bad"}`, t(`ops_breaker_${state}`)),
			(dead > 0 || isDisabled || hook.paused_until) && button(".button.small.quiet.redrive", redrive, t("ops_redrive")));
	}

	buildControls() {
		this.maxActive = h("input#max-active", { type: "number", min: 1, max: 10_000_000, required: true });
		this.admit = h("input#admit", { type: "number", min: 1, max: 10_000_000, placeholder: t("ops_admit_none") });
		const pair = (...fields) => h("div.pair", fields.map(([name, field]) => h("div", labelled(t(name), field))));
		this.lineForm = control("line-form", t("ops_line"), [
			h("fieldset.modes", h("legend", t("ops_mode")), ["open", "queue", "paused"].map((mode) => choice("mode", mode))),
			pair(["ops_max_active", this.maxActive], ["ops_admit", this.admit]),
		], () => this.applyRoom());
		this.opens = h("input#opens", { type: "datetime-local" });
		this.closes = h("input#closes", { type: "datetime-local", required: true });
		this.status = h("p");
		this.closeButton = button("#close-sale.button.small.danger", () => this.closeNow());
		this.windowForm = control("window-form", t("ops_window"), [this.status, pair(["ops_opens", this.opens], ["ops_closes", this.closes])],
			() => this.applyWindow(), this.closeButton);
	}

	showRoom(room) {
		if (this.lineForm.dataset.changed) return;
		this.lineForm.querySelector(`[value="${room.mode}"]`).checked = true;
		this.maxActive.value = room.max_active;
		this.admit.value = room.admit_per_minute ?? "";
	}

	showWindow() {
		const { option } = this;
		put(this.status, statusOf(option));
		this.closeButton.textContent = t(option.status === "closed" ? "ops_reopen" : "ops_close_now");
		if (this.windowForm.dataset.changed) return;
		this.opens.value = localTime(option.sale_opens_at);
		this.closes.value = localTime(option.sale_closes_at);
	}

	async applied(promise, form = null) {
		if ((await ask(promise)) === null) return;
		delete form?.dataset.changed;
		toast(t("ops_applied"), "good");
		await this.read();
	}

	applyRoom() {
		const mode = this.lineForm.querySelector("[name=mode]:checked").value;
		const settings = { mode, max_active: Number(this.maxActive.value), admit_per_minute: Number(this.admit.value) || null };
		return this.applied(patch(this.room, settings), this.lineForm);
	}

	applyWindow() {
		const instant = (field) => (field.value ? new Date(field.value).toISOString() : null);
		return this.applied(patch(this.sale, { sale_opens_at: instant(this.opens), sale_closes_at: instant(this.closes) }), this.windowForm);
	}

	async closeNow() {
		const apply = (wish) => this.applied(patch(this.sale, wish), this.windowForm);
		if (this.option.status === "closed") return apply({ sale_closes_at: null });
		if (!(await confirm(t("ops_close_now"), t("ops_close_sure"), t("ops_close_now"), t("ops_close_keep")))) return;
		// It must open before it closes.
		const closing = { sale_closes_at: new Date().toISOString() };
		return apply(this.option.status === "scheduled" ? { ...closing, sale_opens_at: null } : closing);
	}
}

// The map: which seats are not for sale, and who sits where.
class Hall extends View {
	constructor(option, desk) {
		super(null, "section.card.seats");
		Object.assign(this, { option, desk });
		this.build().catch((problem) => toast(problem.words ?? problem.message, "bad"));
	}

	async build() {
		const plan = new Plan(await get(`/v1/options/${this.option.id}/plan`));
		if (this.isClosed) return;
		this.node.hidden = plan.size === 0;
		if (this.node.hidden) return;
		this.plan = plan;
		const map = new SeatMap(plan, { toggle: (seat) => this.toggle([seat]), describe: (seat) => this.describe(seat), drag: (seats) => this.toggle(seats, true) });
		this.map = map;
		this.count = h("span#chosen.strong", { "aria-live": "polite" });
		const act = (tag, name, onclick) => button(`#${name}.${tag}`, onclick, t(`ops_${name}`));
		const named = () => [...map.chosen].map((i) => plan.guids[i]);
		this.who = act("button.small.quiet", "who", () => this.desk.who(named()[0]));
		this.reason = h("input#block-reason", { maxlength: 200, placeholder: t("ops_reason"), "aria-label": t("ops_reason"), hidden: !may("block") });
		this.buttons = [
			may("block") && act("button.small", "block", () => this.change("blocks")), may("block") && act("button.small.quiet", "unblock", () => this.change("unblocks")),
			may("hold") && act("button.small.quiet", "hold", () => this.desk.hold(named())), this.who, act("ghost", "clear", () => this.toggle([...map.chosen])),
		].filter(Boolean);
		const steps = theme().heat.map((color) => {
			const step = h("i");
			step.style.background = color;
			return step;
		});
		this.scale = h("p.scale.muted", { hidden: true }, t("ops_heat"), ": ", t("ops_heat_least"), steps, t("ops_heat_most"));
		const view = (name) => choice("view", name, { checked: name === "status", onchange: () => this.look(name) });
		put(this.node, h("header", h("h2", t("ops_seats")), h("div.modes", view("status"), view("heat")), this.scale,
			h("div.grow"), this.count, this.reason, this.buttons), map.node, h("p.muted.hint", t("ops_seats_text")));
		this.showChosen();
		this.ending.push(() => map.close(), followSeats(api, this.option.id, {
			onAll: (all) => map.change(plan.setAll(all.seats)),
			onSome: (some) => map.change(plan.setSome(some.seats)),
		}));
	}

	describe(seat) {
		const { plan } = this;
		return [`${plan.zoneAt(seat).name} · ${plan.rowAt(seat).name}-${plan.numbers[seat]}`, plan.categoryAt(seat).name, t(`seat_${plan.stateAt(seat)}`)];
	}

	toggle(seats, isAdding = false) {
		const { chosen } = this.map;
		for (const seat of seats) if (isAdding || !chosen.delete(seat)) chosen.add(seat);
		this.map.redraw("above");
		this.showChosen();
	}

	showChosen() {
		const n = this.map.chosen.size;
		this.count.textContent = n > 0 ? t("ops_chosen", { n }) : "";
		for (const button of this.buttons) button.disabled = n === 0;
		this.who.disabled = n !== 1;
	}

	async change(path) {
		const { plan, map } = this;
		const isFit = (i) => (path === "blocks" ? plan.status[i] === FREE : plan.status[i] !== FREE);
		const seats = [...map.chosen].filter(isFit).map((i) => plan.guids[i]);
		for (let k = 0; k < seats.length; k += SEATS_PER_REQUEST) {
			if ((await ask(post(`/v1/options/${this.option.id}/${path}`, { seats: seats.slice(k, k + SEATS_PER_REQUEST), reason: this.reason.value.trim() || undefined }, newKey()))) === null) return;
		}
		toast(t("ops_blocks_done", { n: seats.length }), "good");
		this.toggle([...map.chosen]);
	}

	look(name) {
		const share = (part) => 1 - part.free / (part.seats || 1);
		this.map.painter.heat = name === "heat" ? share : null;
		this.scale.hidden = name !== "heat";
		this.map.redraw("all");
	}
}

async function health(isReachable) {
	const pill = byId("health");
	const ready = isReachable ? await fetch("/readyz").then((answer) => answer.json(), () => null) : null;
	pill.className = `pill ${ready?.ready ? "good" : "bad"}`;
	pill.textContent = t(ready?.ready ? "ops_ready" : "ops_unready");
	pill.title = [...(ready?.reasons ?? []), ...(ready?.warnings ?? [])].join("\n");
}

const TABS = ["sale", "orders", "engine"];

// One performance, by tabs; for roles beside the admin without what they may not read.
class Desk extends View {
	constructor(concert, option, tab) {
		super(null, "div");
		Object.assign(this, { concert, option });
		this.hall = new Hall(option, this);
		const sale = may("run") ? new SaleDesk(concert, option, this.hall.node) : null;
		this.orders = h("div", h("p.loading", t("loading")));
		this.parts = { sale: sale?.node ?? h("div", this.hall.node), orders: this.orders, ...(sale && { engine: sale.engine }) };
		this.tabs = TABS.filter((name) => name in this.parts);
		put(this.node, h("fieldset.modes.tabs", h("legend.unseen", t("ops_name")), this.tabs.map((name) => choice("tab", name, { onchange: () => this.turnTo(name) }))), Object.values(this.parts));
		this.ending.push(() => this.hall.close(), () => sale?.close(), () => this.ordersDesk?.then((desk) => desk.close(), () => {}));
		if (!sale) this.ending.push(every(SELDOM_MS, () => health(true)));
		this.turnTo(this.tabs.includes(tab) ? tab : may("run") ? "sale" : "orders");
	}

	turnTo(name) {
		this.tab = name;
		this.node.querySelector(`#tab-${name}`).checked = true;
		for (const [other, node] of Object.entries(this.parts)) node.hidden = other !== name;
		history.replaceState(null, "", `#/${this.concert.id}/${this.option.id}/${name}`);
		if (name === "orders") ask(this.loadOrders());
	}

	// What only this tab needs is loaded with it.
	loadOrders() {
		this.ordersDesk ??= this.makeOrders().catch((problem) => {
			this.ordersDesk = null;
			throw problem;
		});
		return this.ordersDesk;
	}

	async makeOrders() {
		const { OrdersDesk } = await import("./orders.js");
		const desk = new OrdersDesk(this.option);
		const owed = may("give_back") && !may("run") ? new Owed() : null;
		put(this.orders, owed?.node, desk.node);
		if (owed) desk.ending.push(every(SELDOM_MS, () => ask(owed.read())));
		if (this.isClosed) desk.close();
		return desk;
	}

	async who(seat) {
		this.turnTo("orders");
		(await ask(this.loadOrders()))?.who(seat);
	}

	async hold(seats) {
		const desk = await ask(this.loadOrders());
		if (!desk) return;
		const { holdFor } = await import("./orders.js");
		holdFor(this.option, seats, (order) => {
			this.turnTo("orders");
			desk.made(order);
		});
	}
}

let desk = null;

async function showDesk(concert, id, tab = null) {
	const before = desk?.tab;
	desk?.close();
	desk = null;
	const option = await ask(get(`/v1/options/${id}`));
	if (!option) return;
	desk = new Desk(concert, option, tab ?? before);
	put(byId("desk"), desk.node);
}

async function begin() {
	const page = byId("page");
	put(byId("head"),
		h("a.logo", { href: "/ops" }, icon("ticket"), "boxoffice", h("small", t("ops_name"))),
		h("nav", h("span#health.pill"), session.user && h("span.ghost.who", icon("person"), session.user), chooser()));
	if (!(await ask(learnRoles()))) return put(page, await askRole());
	const concerts = await ask(get("/v1/concerts?limit=500"));
	const items = (concerts?.items ?? []).filter((concert) => concert.options.length > 0);
	if (items.length === 0) return put(page, h("main", h("p", t("ops_none"))));
	const choose = async () => {
		const concert = items[concertField.selectedIndex];
		const options = await Promise.all(concert.options.map((id) => get(`/v1/options/${id}`)));
		put(optionField, options.map((option) => h("option", { value: option.id }, `${moment(option.starts_at)} · ${t(`status_${option.status}`)}`)));
		const wanted = options.find((option) => option.id === asked?.[2]) ?? options.find((option) => option.status === "on_sale") ?? options[0];
		optionField.value = wanted.id;
		await showDesk(concert, wanted.id, asked?.[3]);
	};
	const concertField = h("select#concert", { onchange: () => ask(choose()) }, items.map((concert) => h("option", { value: concert.id }, concert.title)));
	const optionField = h("select#option", { onchange: () => showDesk(items[concertField.selectedIndex], optionField.value) });
	const asked = /^#\/([\w-]+)\/([\w-]+)(?:\/(\w+))?$/.exec(location.hash);
	if (asked && items.some((concert) => concert.id === asked[1])) concertField.value = asked[1];
	put(page, h("main", h("h1.unseen", t("ops_title")), h("div.which",
		h("div", labelled(t("ops_concert"), concertField)), h("div", labelled(t("ops_option"), optionField))), h("div#desk")));
	await ask(choose());
}

async function askRole() {
	const page = await loginPage();
	const take = (token) => session.take(token) && learnRoles();
	return h("main.ask", h("section.card.control", signIn(take, begin, h("p", t("ops_admin")), [], page && (() => goTo(page)))));
}

async function start() {
	session.begin();
	session.needed = () => {
		desk?.close();
		begin();
	};
	wear(css);
	await load();
	await Promise.all([loadTexts("ops"), loadTexts("tickets")]);
	document.title = t("ops_title");
	await begin();
}

// An old browser gets nothing else to see than what it was told.
if (!window.isOld) await start();
