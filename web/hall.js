// The hall of a performance: its map, what one chooses on it, and the ways to take that. Of the page for buyers and of
// `<boxoffice-seats>`, which say what is kept, who signs in, and what comes after a hold.

import { jittered, pause } from "./call.js";
import { View, every, h, icon, labelled, put } from "./dom.js";
import { momentThere } from "./i18n.js";
import { Legend, sign } from "./legend.js";
import { followSeats } from "./live.js";
import { SCROLLING, SeatMap } from "./map.js";
import { describe, namesOf } from "./names.js";
import { FREE, Plan } from "./plan.js";
import { Rows } from "./rows.js";

const LOOK_MS = 15_000;
const REPLAN_MS = 2000;
const OPENING_MS = 1000;
const SETTLE_MS = 1000;
const SLIM_PX = 720;

// What else of an option is drawn with its plan.
const termsOf = ({ prices, areas }) => JSON.stringify([prices, areas]);

export class Hall extends View {
	chosen = new Set();
	// How many places of which area; there are never seats beside them, since nobody can hold both at once.
	counts = new Map();
	areaRows = [];
	holds = [];
	busy = null;
	isSlim = false;

	constructor(app, tag, id, api, tongue) {
		super(app, tag, tongue);
		Object.assign(this, { id, api, tongue, t: tongue.t });
	}

	get path() {
		return `/v1/options/${encodeURIComponent(this.id)}`;
	}

	async read() {
		this.option = await this.api.get(this.path);
		this.concert = await this.api.get(`/v1/concerts/${this.option.concert_id}`);
	}

	readPlan() {
		const isShown = this.plan && this.terms === termsOf(this.option);
		return this.api.ask("GET", `${this.path}/plan`, { etag: isShown && this.planTag });
	}

	// Shows it, and follows what becomes of it.
	async enter(plan = this.readPlan()) {
		const [answer] = await Promise.all([plan, this.readHolds()]);
		if (this.isClosed) return;
		this.showPlan(answer);
		const scrolling = matchMedia(SCROLLING);
		const watch = new ResizeObserver(() => this.place(scrolling.matches || this.node.clientWidth < SLIM_PX));
		watch.observe(this.node);
		const dark = matchMedia("(prefers-color-scheme: dark)");
		const retone = () => this.retone();
		dark.addEventListener("change", retone);
		this.ending.push(
			() => dark.removeEventListener("change", retone),
			() => this.unfollow(),
			every(1000, () => this.tick()),
			// Offline, what one sees stays as it is.
			every(jittered(LOOK_MS), () => document.hidden || this.catchUp()),
			() => watch.disconnect(),
			() => this.map?.close());
	}

	showPlan({ value, etag }) {
		const { plan: before, option } = this;
		const chosen = [...this.chosen].map((i) => before.guids[i]);
		this.planTag = etag;
		this.terms = termsOf(option);
		this.plan = new Plan(value);
		this.plan.addAreas(option.areas);
		this.areas = Object.fromEntries(option.areas.map((area) => [area.name, { available: area.capacity }]));
		this.chosen = new Set(chosen.filter((guid) => this.plan.sells(guid)).map((guid) => this.plan.index.get(guid)));
		this.counts = new Map([...this.counts].filter(([name]) => name in this.areas));
		this.build();
		let isFirst = true;
		this.unfollow = followSeats(this.api, this.id, {
			onAll: (all) => {
				this.update(this.plan.setAll(all.seats), all.areas);
				if (!this.isKnown) {
					this.isKnown = true;
					this.known();
				}
				// Another snapshot may be of another plan. Not everybody at once.
				if (all.type && !isFirst) pause(REPLAN_MS).then(() => this.catchUp());
				if (all.type) isFirst = false;
			},
			onSome: (some) => this.update(this.plan.setSome(some.seats), some.areas),
		});
	}

	// Another plan, or other prices.
	async replan() {
		const answer = await this.readPlan();
		if (this.isClosed || answer.unchanged) return;
		const { plan: before, chosen } = this;
		this.unfollow();
		this.showPlan(answer);
		const lost = [...chosen].filter((i) => !this.plan.sells(before.guids[i]));
		if (lost.length > 0) {
			this.missed(lost.map((i) => before.guids[i]));
			this.tell(this.t("gone", { n: lost.length, seats: namesOf(before, lost, this.tongue) }));
		}
		this.changed();
	}

	// May be done again, when something else is to be seen of it.
	build() {
		const { plan, t, map: before } = this;
		const isMap = plan.size > 0;
		before?.close();
		this.map = this.legend = this.rows = this.touched = this.touchedRow = null;
		if (isMap) this.buildMap(before);
		this.lead = this.leads();
		this.notice = h("div", { role: "alert" });
		this.holding = h("div");
		this.card = h("div");
		this.cart = h("div#cart.cart");
		this.panel = h("aside.panel", { "aria-label": t("panel") }, this.areaForm(), this.legend?.node, !this.isReadonly && this.rows?.node);
		this.hall = h(isMap ? "div.hall" : "div.hall.flat", this.map?.node, this.panel,
			// Everything that asks for an answer, in one place that nothing lies over.
			h("section.sheet", { part: "sheet", "aria-label": t("sheet") }, h("div.more", this.notice, this.holding, this.pass, this.card), this.cart));
		put(this.node, this.header(), this.hall);
		this.place(this.isSlim);
		if (before?.isOpen && isMap) this.map.open(true);
		else if (before?.isOpen) this.opened(false);
		this.showHolds();
		this.showChosen();
	}

	buildMap(before) {
		const { plan, option, tongue, only, money } = this;
		const toggle = (seat) => this.toggle(seat);
		this.map = new SeatMap(plan, {
			toggle, tongue,
			look: this.look,
			describe: (seat) => this.describe(seat),
			touched: (what) => this.showCard(what),
			opened: (isOpen) => this.opened(isOpen),
		});
		const { map, map: { painter } } = this;
		map.chosen = this.chosen;
		if (before?.painted && !before.isFitted) map.recentre(before.centre);
		plan.categories.forEach(({ name }, i) => option.accessible.includes(name) && painter.accessible.add(i));
		painter.words = {
			zone: (zone) => this.aboutZone(zone),
			area: (area) => this.aboutArea(area),
			share: ({ name, capacity }) => this.areas[name].available / capacity,
		};
		this.legend = new Legend(map, option.accessible, money, { tongue, only: only && new Set([...plan.categories.keys()].filter((i) => only.includes(plan.categories[i].name))) });
		this.rows = new Rows(map, { toggle, money, tongue, may: (seat) => this.isOffered(seat) });
		map.node.part = "map";
		this.legend.node.part = "legend";
		this.rows.node.part = "list";
	}

	retone() {
		this.map?.retone();
		this.legend?.show();
		this.legend?.apply();
	}

	// What comes first is above the map where one scrolls.
	place(isSlim) {
		this.isSlim = isSlim;
		this.node.classList.toggle("slim", isSlim);
		const { lead, hall, panel } = this;
		const where = isSlim ? hall : panel;
		if (lead && lead.parentNode !== where) where.prepend(lead);
	}

	// What else is to be seen, kept, or told to others.
	header() {
		return null;
	}

	leads() {
		return this.map && !this.isReadonly && this.bestForm();
	}

	async readHolds() {}

	known() {}

	changed() {}

	missed() {}

	opened(isOpen) {
		this.node.classList.toggle("opened", isOpen);
	}

	// What may be chosen: how many, of which categories (null: of all), and whether anything.
	get most() {
		return Math.min(this.option.max_seats_per_reservation, this.option.max_seats_per_user);
	}

	get only() {
		return null;
	}

	get isReadonly() {
		return false;
	}

	get mayChoose() {
		return !this.isReadonly && (this.isOpen || this.option.status === "scheduled");
	}

	get isOpen() {
		return ["on_sale", "sold_out"].includes(this.option.status);
	}

	// Why nothing can be held now; null if it can.
	get barred() {
		const { option, concert, tongue, t } = this;
		if (this.isOpen) return null;
		return option.status === "scheduled" ? t("sale_opens", { time: momentThere(option.sale_opens_at, concert.time_zone, tongue) }) : t("sale_closed");
	}

	isOffered(seat) {
		return this.plan.isForSale(seat) && (this.only?.includes(this.plan.categoryAt(seat).name) ?? true);
	}

	// Seats by their ids, places of areas, and what that costs.
	get selection() {
		const { plan, option } = this;
		const areas = [...this.counts].map(([name, count]) => ({ name, count }));
		const price = (sum, { name, count }) => sum + count * option.prices[option.areas.find((area) => area.name === name).category];
		return { seats: [...this.chosen].map((i) => plan.guids[i]), areas, amount: areas.reduce(price, this.priceOf([...this.chosen])) };
	}

	priceOf(seats) {
		return seats.reduce((sum, i) => sum + this.plan.categoryAt(i).price, 0);
	}

	money = (amount) => this.tongue.money(amount, this.option.currency);

	aboutZone(zone) {
		const { t } = this;
		const from = this.plan.priceFrom(zone);
		return from === Infinity ? [t("status_sold_out")] : [t("left", { n: zone.free }), t("from", { amount: this.money(from) })];
	}

	aboutArea({ name, category }) {
		const { available } = this.areas[name];
		return [available === 0 ? this.t("status_sold_out") : this.t("left", { n: available }), this.money(this.option.prices[category])];
	}

	names(seats) {
		return namesOf(this.plan, seats, this.tongue);
	}

	describe(seat) {
		return describe(this.map, seat, { accessible: this.option.accessible, money: this.money, tongue: this.tongue });
	}

	tick() {
		const { status, sale_opens_at: opens } = this.option;
		// Not everybody at once.
		if (status === "scheduled" && Date.parse(opens) <= this.api.now()) this.opening ??= pause(OPENING_MS).then(() => this.catchUp()).finally(() => (this.opening = null));
	}

	// One at a time; what cannot be learnt now is at the next.
	async catchUp() {
		if (!this.isClosed) await (this.looking ??= this.refresh().catch(() => {}).finally(() => (this.looking = null)));
	}

	async refresh() {
		const before = this.barred;
		await this.read();
		if (!this.isClosed) await this.replan();
		// What somebody is about to click stays where it is.
		if (!this.isClosed && this.barred !== before) this.showChosen();
	}

	// Of what was touched: it stays until something else is, or it is closed.
	showCard(what) {
		const { map, plan, t } = this;
		this.touched = what;
		this.touchedRow = null;
		map.marked = what?.seat ?? -1;
		map.redraw("above");
		if (!what) return put(this.card);
		const { seat, area, zone } = what;
		const { tones, accessible } = map.painter;
		const category = plan.categoryOf[seat];
		const signs = seat !== undefined && plan.isForSale(seat) && [sign(tones, "free", tones.category(category)), accessible.has(category) && sign(tones, "accessible")];
		const [name, ...more] = seat !== undefined ? this.describe(seat) : zone ? [zone.name || t("zone_unnamed"), ...this.aboutZone(zone)] : [area.name, ...this.aboutArea(area)];
		const about = h("p", more.join(" · "));
		const counter = area && this.counterOf(area);
		if (area) this.touchedRow = () => {
			about.textContent = this.aboutArea(area).join(" · ");
			counter?.show();
		};
		const close = () => {
			this.showCard(null);
			map.above.focus({ preventScroll: true });
		};
		put(this.card, h("div#touched.touched", signs && h("div.is", signs),
			h("div.grow", h("p.strong", name), about, counter?.node),
			h("button.ghost.round", { "aria-label": t("card_close"), onclick: close }, icon("close"))));
	}

	toggle(seat) {
		if (!this.mayChoose) return;
		const { map, plan, t, most } = this;
		const chosen = new Set(this.chosen);
		// One that is given up is free for others all the time.
		if (!chosen.delete(seat)) {
			// Its card says why.
			if (plan.status[seat] !== FREE || !this.isOffered(seat)) return;
			if (chosen.size >= most) {
				this.rows.show();
				return this.tell(t("limit", { n: most }));
			}
			chosen.add(seat);
		}
		this.choose(chosen);
		if (map.hover === seat) map.point(seat);
	}

	choose(seats, counts = new Map()) {
		this.chosen = new Set(seats);
		this.counts = this.chosen.size > 0 ? new Map() : new Map(counts);
		if (this.map) this.map.chosen = this.chosen;
		this.map?.redraw("above");
		put(this.notice);
		this.showChosen();
		this.changed();
	}

	showChosen() {
		if (this.touched?.seat !== undefined) this.showCard(this.touched);
		this.showAreas();
		this.showCart();
		this.rows?.show();
	}

	showAreas() {
		for (const show of [...this.areaRows, this.touchedRow]) show?.();
	}

	showCart() {
		if (this.isReadonly) return put(this.cart);
		const { plan, t, barred } = this;
		const { seats, areas, amount } = this.selection;
		const n = seats.length + areas.reduce((sum, { count }) => sum + count, 0);
		const chip = (name, where, all, drop) => h("li", h("span", h("strong", name), " ", where),
			h("button.ghost.round", { "aria-label": t("seat_drop", { seat: all }), onclick: drop }, icon("close")));
		const seat = (i) => chip([plan.rowAt(i).name, plan.numbers[i]].filter(Boolean).join("-") || plan.guids[i], plan.zoneAt(i).name, this.names([i]), () => this.toggle(i));
		const area = ({ name, count }) => chip(`${count} ×`, name, name, () => this.count(name, 0));
		const disabled = this.busy !== null || barred !== null;
		if (this.bestHold) this.bestHold.disabled = disabled;
		put(this.cart,
			n > 0 && [h("ul.chips", [...this.chosen].map(seat), areas.map(area)), h("div.sum", h("span", t("seats", { n })), h("strong", this.money(amount)))],
			barred ? h("p.strong", barred)
				: n > 0 ? h("button#hold.button.wide", { part: "button", disabled, onclick: () => this.take(seats.length > 0 ? { seats } : { areas }) }, this.holdWords)
					: this.map && h("p.muted", t("choose", { n: this.most })));
	}

	get holdWords() {
		const { t, option: { hold_seconds: seconds } } = this;
		return t("hold", { minutes: seconds < 60 ? t("duration_seconds", { n: seconds }) : t("duration_minutes", { n: Math.round(seconds / 60) }) });
	}

	// Holds what is wished for, by `order`, unless that is `refused`.
	take(wish) {
		this.inTurn(() => this.order(wish)).catch((problem) => this.refused(problem));
	}

	// One at a time.
	inTurn(work) {
		const before = this.busy;
		const mine = (async () => {
			await before?.catch(() => {});
			return work();
		})();
		this.busy = mine;
		this.showCart();
		const done = () => {
			if (this.busy !== mine) return;
			this.busy = null;
			if (this.isClosed) return;
			this.showCart();
			// What was taken for a wish that was refused becomes free again.
			setTimeout(() => this.busy === null && !this.isClosed && this.lose([...this.chosen]), SETTLE_MS);
		};
		mine.then(done, ({ status }) => {
			done();
			// It may be what is shown that is wrong.
			if (status === 409 || status === 422) this.catchUp();
		});
		return mine;
	}

	tell(text, ...more) {
		const close = h("button.ghost.round", { "aria-label": this.t("card_close"), onclick: () => put(this.notice) }, icon("close"));
		put(this.notice, h("div.notice.bad", h("div.told", h("p.strong.grow", text), close), ...more));
		this.notice.parentNode.scrollTop = 0;
	}

	update(changed, areas) {
		Object.assign(this.areas, areas);
		this.showAreas();
		if (changed.length === 0) return;
		this.map?.change(changed);
		// A hold of one's own is told of by its answer.
		if (this.busy === null) this.lose(changed);
		this.fresh ??= setTimeout(() => {
			this.fresh = null;
			if (this.isClosed) return;
			this.legend?.count();
			if (this.touched && !this.touched.area) this.showCard(this.touched);
			this.rows?.show();
		}, 400);
	}

	// Those of them that were chosen and went to others.
	lostOf(seats) {
		return seats.filter((i) => this.chosen.has(i) && !this.map.mine.has(i) && this.plan.status[i] !== FREE);
	}

	lose(seats) {
		const lost = this.lostOf(seats);
		if (lost.length > 0) this.gone(lost);
	}

	// Of a refusal, which tells of it before the live seats do.
	taken(guids) {
		const { plan } = this;
		const seats = guids.map((guid) => plan.index.get(guid)).filter((i) => i !== undefined);
		plan.setSome(Object.fromEntries(seats.filter((i) => plan.status[i] === FREE).map((i) => [plan.guids[i], "held"])));
		this.map.change(seats);
		this.gone(seats);
	}

	gone(seats) {
		const { plan, t } = this;
		const wanted = [...this.chosen];
		const nearest = wanted.length > 0 ? plan.nearestTo(wanted, new Set(seats)) : [];
		this.missed(seats.map((i) => plan.guids[i]));
		this.choose(wanted.filter((i) => !seats.includes(i)));
		const take = () => {
			this.choose(nearest);
			this.map.showSeats(nearest);
		};
		this.tell(t("gone", { n: seats.length, seats: this.names(seats) }), ...(nearest.length === 0 ? [h("p", t("gone_none"))] : [
			h("p", t("gone_nearest", { seats: this.names(nearest), amount: this.money(this.priceOf(nearest)) })),
			h("button#nearest.button.small", { part: "button", onclick: take }, t("gone_take", { n: nearest.length })),
		]));
	}

	bestForm() {
		const { plan, t, only, most, option, wished: before } = this;
		const count = this.counter({ id: "best-count" }, 1, most, Math.min(before?.count ?? 2, most));
		const choice = (name, all, any, known) => h(`select#best-${name}`, { name }, any && h("option", { value: "" }, any), all.map(([value, text]) => h("option", { value, selected: value === known }, text)));
		const offered = plan.categories.filter(({ name }) => only?.includes(name) ?? true);
		const category = choice("category", offered.map(({ name, price }) => [name, `${name} · ${this.money(price)}`]), !only && t("best_any"), before?.category);
		const zones = [...new Set(plan.zones.map((zone) => zone.name))].filter(Boolean);
		const zone = choice("zone", zones.map((name) => [name, name]), t("best_anywhere"), before?.zone);
		const apart = h("input#best-apart", { type: "checkbox", checked: before?.adjacent === false });
		// Places for wheelchairs go to those who name them, with somebody beside them.
		const companions = this.counter({ id: "best-companions" }, 0, most - 1, 0);
		const beside = h("div", h("label", { for: "best-companions" }, t("best_companions")), companions.node);
		const showBeside = () => (beside.hidden = most < 2 || !option.accessible.includes(category.value));
		category.addEventListener("change", showBeside);
		showBeside();
		const onsubmit = () => {
			const wish = { count: count.read(), adjacent: !apart.checked };
			for (const field of [category, zone]) if (field.value) wish[field.name] = field.value;
			if (!beside.hidden && companions.read() > 0) Object.assign(wish, { companions: companions.read(), adjacent: true });
			this.take({ best_available: wish });
		};
		this.bestHold = h("button#best-hold.button.wide", { part: "button" }, this.holdWords);
		return h("details#best.way", { open: Boolean(before) }, h("summary", t("best_title")),
			h("form", { onsubmit },
				h("p.muted", t("best_text")),
				h("label", { for: "best-count" }, t("best_count")), count.node,
				labelled(t("best_category"), category), beside, labelled(t("best_zone"), zone),
				h("label.check", apart, t("best_apart")), this.bestHold));
	}

	// `changed` is told each number.
	counter(properties, least, most, value, changed = () => {}) {
		const { t } = this;
		const read = (by = 0) => Math.min(most, Math.max(least, (Math.trunc(Number(input.value)) || least) + by));
		const input = h("input", { ...properties, type: "number", min: least, max: most, value, required: true, onchange: () => changed(read()) });
		const step = (key, name, by) => h("button.round", { "aria-label": t(key), onclick: () => changed((input.value = read(by))) }, icon(name));
		return { input, read, node: h("span.counter", step("less", "minus", -1), input, step("more", "plus", 1)) };
	}

	// Null where one only looks.
	counterOf({ name }) {
		if (this.isReadonly) return null;
		const count = () => this.counts.get(name) ?? 0;
		const { input, node } = this.counter({ "aria-label": `${name}: ${this.t("best_count")}` }, 0, this.most, count(), (n) => this.count(name, n));
		return { node, show: () => (input.value = count()) };
	}

	// Of one or more areas, as many in all as one may have.
	count(name, wanted) {
		if (!this.mayChoose) return this.showAreas();
		const counts = new Map(this.counts);
		counts.delete(name);
		const others = [...counts.values()].reduce((sum, count) => sum + count, 0);
		const count = Math.max(0, Math.min(wanted, this.most - others, this.areas[name].available));
		if (count > 0) counts.set(name, count);
		this.choose([], counts);
	}

	areaForm() {
		const { t, only, option } = this;
		const nodes = [];
		this.areaRows = option.areas.filter(({ category }) => only?.includes(category) ?? true).map((area) => {
			const left = h("span.muted");
			const counter = this.counterOf(area);
			nodes.push(h("div.area", { "data-area": area.name }, h("div.grow", h("p.strong", area.name), h("p", h("span.price", this.money(option.prices[area.category])), " · ", left)), counter?.node));
			return () => {
				[left.textContent] = this.aboutArea(area);
				counter?.show();
			};
		});
		return nodes.length > 0 && h("section.areas", h("h2", t("areas")), nodes);
	}
}
