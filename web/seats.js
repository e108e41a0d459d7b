// `<boxoffice-seats>`: the map of a performance and what one chooses on it, in a page of somebody else's. It touches nothing
// of that page: no cookies, no storage, no styles, no globals but its own element. Several may have servers of their own.

import { Api, claimsOf, jittered, newKey } from "./call.js";
import { button, every, h, icon, put } from "./dom.js";
import { inkOn } from "./draw.js";
import { Tongue, countdown } from "./i18n.js";
import { Legend, sign } from "./legend.js";
import { followSeats } from "./live.js";
import { SeatMap } from "./map.js";
import { describe, namesOf } from "./names.js";
import { FREE, HELD, Plan } from "./plan.js";
import { Rows } from "./rows.js";
import css from "./seats.css.js";

const TEXTS = { en: () => import("./i18n/en.js"), ko: () => import("./i18n/ko.js") };
const PROPERTIES = ["getToken", "queueToken"];
const LOOK_MS = 15_000;
const RENEW_MS = 30_000;
const TIMER_MS_MAX = 2 ** 31 - 1;
const RECHECK_MS = 5_000;
const NARROW_PX = 720;
const TONES = ["available", "mine", "held", "sold", "paper", "ink", "accent"];

let sheet = null;

function styles() {
	if (!sheet) {
		sheet = new CSSStyleSheet();
		sheet.replaceSync(css);
	}
	return sheet;
}

let pixel = null;

// Any colour of CSS as `#rrggbb`; null if it can be seen through.
function solid(color) {
	pixel ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
	pixel.clearRect(0, 0, 1, 1);
	pixel.fillStyle = color;
	pixel.fillRect(0, 0, 1, 1);
	const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
	return alpha === 255 ? `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}` : null;
}

const part = (name, element) => {
	element.setAttribute("part", name);
	return element;
};

export class BoxofficeSeats extends HTMLElement {
	static observedAttributes = ["option", "server", "max", "categories", "lang", "theme", "readonly"];

	#all = h("div.all");
	#tones = h("div.tones", { "aria-hidden": "true" }, TONES.map((name) => h(`i.${name}`)));
	#tongue = new Tongue();
	#api = null;
	#option = null;
	#concert = null;
	#plan = null;
	#map = null;
	#legend = null;
	#rows = null;
	#chosen = new Set();
	// How many places of which area; there are never seats beside them, since nobody can hold both at once.
	#counts = new Map();
	#areas = {};
	#areaRows = [];
	#holds = [];
	#touched = null;
	#notice = null;
	#holding = null;
	#card = null;
	#cart = null;
	#fresh = null;
	#checked = new Map();
	#busy = null;
	#turn = 0;
	#ends = [];
	#due = false;
	#ready = Promise.withResolvers();
	#isReady = false;
	#getToken = null;
	#queueToken = null;
	#token = null;
	#asking = null;
	#renewing = 0;

	constructor() {
		super();
		const root = this.attachShadow({ mode: "open" });
		root.adoptedStyleSheets = [styles()];
		root.append(this.#all, this.#tones);
		this.#tones.addEventListener("transitionend", () => this.#retone());
		this.#ready.promise.catch(() => {});
	}

	// What is chosen: ids of seats, places of areas, and what that costs.
	get selection() {
		const seats = [...this.#chosen].map((i) => this.#plan.guids[i]);
		const areas = [...this.#counts].map(([name, count]) => ({ name, count }));
		return { seats, areas, amount: this.#amount() };
	}

	// The last one that is held; null if there is none.
	get reservation() {
		return this.#holds.at(-1) ?? null;
	}

	get getToken() {
		return this.#getToken;
	}

	set getToken(value) {
		this.#getToken = typeof value === "function" ? value : null;
		// It may be of somebody else.
		this.#token = null;
		this.#holds = [];
		clearTimeout(this.#renewing);
		if (!this.#isReady) return;
		this.#showHolds();
		this.#restoreHolds();
	}

	get queueToken() {
		return this.#queueToken;
	}

	set queueToken(value) {
		this.#queueToken = value || null;
	}

	async select(ids) {
		await this.#ready.promise;
		this.#mayChoose();
		this.#checkIds(ids);
		const { index, status } = this.#plan;
		const unknown = ids.filter((id) => !index.has(id));
		if (unknown.length > 0) throw this.#problem(422, { code: "unknown_seats", seats: unknown });
		const seats = ids.map((id) => index.get(id));
		const conflicts = ids.filter((_, k) => status[seats[k]] !== FREE || !this.#isOffered(seats[k]));
		if (conflicts.length > 0) throw this.#problem(409, { code: "seats_unavailable", conflicts });
		const chosen = new Set([...this.#chosen, ...seats]);
		if (chosen.size > this.#most) throw this.#problem(409, { code: "limit_exceeded", limit: this.#most, already: this.#chosen.size });
		this.#choose(chosen);
	}

	async deselect(ids) {
		await this.#ready.promise;
		this.#checkIds(ids);
		const gone = new Set(ids.map((id) => this.#plan.index.get(id)));
		this.#choose([...this.#chosen].filter((i) => !gone.has(i)), this.#counts);
	}

	async clear() {
		await this.#ready.promise;
		this.#choose([]);
	}

	// The best free seats, held at once.
	best(wish) {
		return this.#inTurn(() => this.#hold({ best_available: wish }));
	}

	hold() {
		return this.#inTurn(() => {
			const { seats, areas } = this.selection;
			if (seats.length === 0 && areas.length === 0) throw this.#problem(400, { code: "invalid_request", detail: "Nothing is chosen." });
			return this.#hold(seats.length > 0 ? { seats } : { areas });
		});
	}

	release() {
		return this.#inTurn(() => this.#release(this.reservation));
	}

	connectedCallback() {
		for (const name of PROPERTIES) {
			// Set before this was defined, it would hide ours.
			if (!Object.hasOwn(this, name)) continue;
			const value = this[name];
			delete this[name];
			this[name] = value;
		}
		this.#schedule();
	}

	disconnectedCallback() {
		// It may have been moved only.
		queueMicrotask(() => this.isConnected || this.#stop());
	}

	attributeChangedCallback(name, before, now) {
		if (!this.isConnected || before === now) return;
		if (name === "option" || name === "server") {
			this.#plan = null;
			this.#schedule();
		} else if (name === "theme") this.#retone();
		else if (name === "lang") this.#speak().then(() => this.#plan && this.#build()).catch((problem) => this.#report(problem));
		else if (this.#plan) this.#build();
	}

	// Several attributes may change at once.
	#schedule() {
		if (this.#due) return;
		this.#due = true;
		queueMicrotask(() => {
			this.#due = false;
			if (this.isConnected && (!this.#plan || this.#ends.length === 0)) this.#begin();
		});
	}

	#stop() {
		this.#turn += 1;
		for (const end of this.#ends.splice(0)) end();
		this.#map?.close();
		clearTimeout(this.#renewing);
		if (this.#isReady) {
			this.#ready = Promise.withResolvers();
			this.#ready.promise.catch(() => {});
		}
		this.#isReady = false;
		this.#map = this.#legend = this.#rows = this.#touched = null;
		this.#chosen = new Set();
		this.#counts = new Map();
		this.#holds = [];
		return this.#turn;
	}

	async #begin() {
		const turn = this.#stop();
		const id = this.getAttribute("option");
		put(this.#all);
		if (!id) return;
		try {
			await this.#speak();
			if (turn !== this.#turn) return;
			const server = this.getAttribute("server") || import.meta.url;
			if (!URL.canParse(server)) throw this.#problem(400, { code: "invalid_request", detail: "The attribute server is not a URL." });
			const base = new URL(server).origin;
			const api = new Api({ base, tongue: this.#tongue, token: () => this.#token, refused: () => this.#renew(null) });
			this.#api = api;
			put(this.#all, h("p.loading", this.#tongue.t("loading")));
			const path = `/v1/options/${encodeURIComponent(id)}`;
			const [option, json] = await Promise.all([api.get(path), api.get(`${path}/plan`)]);
			const concert = await api.get(`/v1/concerts/${option.concert_id}`);
			if (turn !== this.#turn) return;
			this.#option = option;
			this.#concert = concert;
			this.#plan = new Plan(json);
			this.#plan.addAreas(option.areas);
			this.#areas = Object.fromEntries(option.areas.map((area) => [area.name, { available: area.capacity }]));
			this.#build();
			this.#follow(api, id);
		} catch (problem) {
			if (turn === this.#turn) this.#failed(problem);
		}
	}

	#follow(api, id) {
		const dark = matchMedia("(prefers-color-scheme: dark)");
		const retone = () => this.#retone();
		dark.addEventListener("change", retone);
		const watch = new ResizeObserver(() => this.#all.classList.toggle("narrow", this.clientWidth < NARROW_PX));
		watch.observe(this);
		this.#ends.push(
			followSeats(api, id, {
				onAll: (all) => {
					this.#update(this.#plan.setAll(all.seats), all.areas);
					if (!this.#isReady) this.#begun();
				},
				onSome: (some) => this.#update(this.#plan.setSome(some.seats), some.areas),
			}),
			every(1000, () => this.#tick()),
			// Offline, what one sees stays as it is.
			every(jittered(LOOK_MS), () => document.hidden || this.#refresh().catch(() => {})),
			() => dark.removeEventListener("change", retone),
			() => watch.disconnect());
	}

	#begun() {
		this.#isReady = true;
		this.#ready.resolve();
		this.#emit("ready");
		this.#restoreHolds();
	}

	// What can be told in words only, and tried again.
	#failed(problem) {
		this.#ready.reject(problem);
		this.#ready = Promise.withResolvers();
		this.#ready.promise.catch(() => {});
		const words = problem.words ?? this.#tongue.t("problem_invalid_request");
		put(this.#all, h("div.failed", h("p.notice", { role: "alert" }, words), this.#button(".small", () => this.#begin(), this.#tongue.t("again"))));
		this.#report(problem);
	}

	#report(problem) {
		if (!problem.problem) console.error(problem);
		this.#emit("error", { problem: problem.problem ?? { status: 0, code: "internal", detail: String(problem) } });
	}

	#emit(name, detail = null) {
		this.dispatchEvent(new CustomEvent(`boxoffice-${name}`, { bubbles: true, composed: true, detail }));
	}

	#problem(status, body) {
		const problem = { status, ...body };
		return this.#api ? this.#api.problem(status, body) : Object.assign(new Error(body.detail ?? body.code), { problem });
	}

	async #speak() {
		const wanted = () => [this.lang, document.documentElement.lang].map((lang) => lang.slice(0, 2).toLowerCase()).find((lang) => lang in TEXTS) ?? "en";
		const tag = wanted();
		const texts = (await TEXTS[tag]()).default;
		// Another one may have been asked for meanwhile.
		if (tag !== wanted()) return;
		this.#tongue.use(tag, texts);
		this.#all.lang = tag;
	}

	#mayChoose() {
		if (this.hasAttribute("readonly")) throw this.#problem(403, { code: "forbidden", detail: "This map is for looking only." });
	}

	get #most() {
		const own = Math.trunc(Number(this.getAttribute("max")));
		const { max_seats_per_reservation: most, max_seats_per_user: each } = this.#option;
		return Math.min(most, each, own >= 1 ? own : Infinity);
	}

	#checkIds(ids) {
		if (!Array.isArray(ids)) throw this.#problem(400, { code: "invalid_request", detail: "The ids of seats must be a list." });
	}

	// Those of the categories that are named, if any are.
	get #only() {
		const named = (this.getAttribute("categories") ?? "").split(",").map((name) => name.trim()).filter(Boolean);
		return named.length > 0 ? named : null;
	}

	#isOffered(seat) {
		const { name } = this.#plan.categoryAt(seat);
		return this.#plan.isForSale(seat) && (this.#only?.includes(name) ?? true);
	}

	get #isOpen() {
		return ["on_sale", "sold_out"].includes(this.#option.status) && !this.hasAttribute("readonly");
	}

	#money = (amount) => this.#tongue.money(amount, this.#option.currency);

	#amount() {
		if (!this.#option) return 0;
		let sum = 0;
		for (const i of this.#chosen) sum += this.#plan.categoryAt(i).price;
		for (const [name, count] of this.#counts) sum += count * this.#option.prices[this.#areaOf(name).category];
		return sum;
	}

	#areaOf(name) {
		return this.#option.areas.find((area) => area.name === name);
	}

	#look = () => {
		const theme = this.getAttribute("theme");
		const tones = Object.fromEntries([...this.#tones.children].map((tone) => [tone.className, solid(getComputedStyle(tone).color)]));
		this.#all.style.setProperty("--on-accent", inkOn(tones.accent ?? "#0d5c75"));
		const told = Object.entries(tones).filter(([name, color]) => color && name !== "accent");
		const own = Object.fromEntries(told);
		if (own.sold) own.cross = inkOn(own.sold);
		return {
			isDark: theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches),
			font: getComputedStyle(this).getPropertyValue("--boxoffice-font").trim(),
			...(told.length > 0 && { colors: own }),
		};
	};

	#retone() {
		this.#map?.retone();
		this.#legend?.show();
		this.#legend?.apply();
	}

	#button(kind, onclick, ...rest) {
		return part("button", button(`.button${kind}`, onclick, ...rest));
	}

	#build() {
		const { t } = this.#tongue;
		const [plan, option, before] = [this.#plan, this.#option, this.#map];
		const centre = before?.painted && !before.isFitted ? before.centre : null;
		before?.close();
		this.#opened(false);
		this.#touched = null;
		this.#map = this.#legend = this.#rows = null;
		if (plan.size > 0) this.#buildMap(before?.mine, centre);
		else this.#look();
		this.#notice = h("div", { role: "alert" });
		this.#holding = h("div");
		this.#card = h("div");
		this.#cart = h("div.cart");
		const legend = this.#legend && part("legend", this.#legend.node);
		const list = this.#rows && !this.hasAttribute("readonly") && part("list", this.#rows.node);
		put(this.#all, h(plan.size > 0 ? "div.hall" : "div.hall.flat",
			this.#map && part("map", this.#map.node),
			h("aside.panel", { "aria-label": t("panel") }, this.#areaForm(option), legend, list),
			part("sheet", h("section.sheet", { "aria-label": t("sheet") }, h("div.more", this.#notice, this.#holding, this.#card), this.#cart))));
		this.#show();
		this.#showHolds();
	}

	#buildMap(mine, centre) {
		const [plan, option, tongue, money] = [this.#plan, this.#option, this.#tongue, this.#money];
		const map = new SeatMap(plan, {
			toggle: (seat) => this.#toggle(seat),
			describe: (seat) => this.#describe(seat),
			touched: (what) => this.#showCard(what),
			opened: (isOpen) => this.#opened(isOpen),
			tongue, look: this.#look,
		});
		this.#map = map;
		map.chosen = this.#chosen;
		if (mine) map.mine = mine;
		if (centre) map.recentre(centre);
		const { painter } = map;
		plan.categories.forEach(({ name }, i) => option.accessible.includes(name) && painter.accessible.add(i));
		painter.words = {
			zone: (zone) => this.#aboutZone(zone),
			area: (area) => this.#aboutArea(area),
			share: ({ name, capacity }) => this.#areas[name].available / capacity,
		};
		const named = this.#only;
		const only = named && new Set([...plan.categories.keys()].filter((i) => named.includes(plan.categories[i].name)));
		this.#legend = new Legend(map, option.accessible, money, { tongue, only });
		if (only) this.#legend.apply();
		this.#rows = new Rows(map, { toggle: (seat) => this.#toggle(seat), money, tongue, may: (seat) => this.#isOffered(seat) });
	}

	// Above everything else of the page, whatever lies around this.
	#opened(isOpen) {
		const all = this.#all;
		if (all.classList.contains("opened") === isOpen) return;
		all.classList.toggle("opened", isOpen);
		if (!all.showPopover) return;
		if (isOpen) {
			all.popover = "manual";
			all.showPopover();
		} else all.removeAttribute("popover");
	}

	#aboutZone(zone) {
		const { t } = this.#tongue;
		const from = this.#plan.priceFrom(zone);
		return from === Infinity ? [t("status_sold_out")] : [t("left", { n: zone.free }), t("from", { amount: this.#money(from) })];
	}

	#aboutArea({ name, category }) {
		const { t } = this.#tongue;
		const { available } = this.#areas[name];
		return [available === 0 ? t("status_sold_out") : t("left", { n: available }), this.#money(this.#option.prices[category])];
	}

	#describe(seat) {
		return describe(this.#map, seat, { accessible: this.#option.accessible, money: this.#money, tongue: this.#tongue });
	}

	#names(seats) {
		return namesOf(this.#plan, seats, this.#tongue);
	}

	#showCard(what) {
		const { t } = this.#tongue;
		const map = this.#map;
		this.#touched = what;
		map.marked = what?.seat ?? -1;
		map.redraw("above");
		if (!what) return put(this.#card);
		const { seat, area, zone } = what;
		const { tones } = map.painter;
		const isSeat = seat !== undefined && this.#plan.isForSale(seat);
		const [name, ...more] = seat !== undefined ? this.#describe(seat) : zone ? [zone.name || t("zone_unnamed"), ...this.#aboutZone(zone)] : [area.name, ...this.#aboutArea(area)];
		const close = () => {
			this.#showCard(null);
			map.above.focus({ preventScroll: true });
		};
		const counter = area && this.#isOpen && this.#counter(area);
		put(this.#card, h("div.touched", isSeat && sign(tones, "free", tones.category(this.#plan.categoryOf[seat])),
			h("div.grow", h("p.strong", name), h("p", more.join(" · ")), counter),
			h("button.ghost.round", { "aria-label": t("card_close"), onclick: close }, icon("close"))));
	}

	#toggle(seat) {
		if (!this.#isOpen) return;
		const { t } = this.#tongue;
		const chosen = new Set(this.#chosen);
		// One that is given up is free for others all the time.
		if (!chosen.delete(seat)) {
			// Its card says why.
			if (this.#plan.status[seat] !== FREE || !this.#isOffered(seat)) return;
			if (chosen.size >= this.#most) return this.#tell(t("limit", { n: this.#most }));
			chosen.add(seat);
		}
		this.#choose(chosen);
		if (this.#map.hover === seat) this.#map.point(seat);
	}

	#choose(seats, counts = new Map()) {
		const before = JSON.stringify(this.selection);
		this.#chosen = new Set(seats);
		this.#counts = this.#chosen.size > 0 ? new Map() : new Map(counts);
		if (this.#map) {
			this.#map.chosen = this.#chosen;
			this.#map.redraw("above");
		}
		if (JSON.stringify(this.selection) === before) return;
		put(this.#notice);
		this.#show();
		this.#emit("change", this.selection);
	}

	#show() {
		if (this.#touched?.seat !== undefined) this.#showCard(this.#touched);
		this.#rows?.show();
		for (const { area, left, fields } of this.#areaRows) {
			const { t } = this.#tongue;
			const { available } = this.#areas[area.name];
			left.textContent = available === 0 ? t("status_sold_out") : t("left", { n: available });
			fields.show();
		}
		this.#showCart();
	}

	get #whyNot() {
		const { t, locale } = this.#tongue;
		if (this.#option.status !== "scheduled") return t("sale_closed");
		const options = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short", timeZone: this.#concert.time_zone };
		return t("sale_opens", { time: new Intl.DateTimeFormat(locale, options).format(new Date(this.#option.sale_opens_at)) });
	}

	#showCart() {
		const { t } = this.#tongue;
		if (this.hasAttribute("readonly")) return put(this.#cart);
		if (!this.#isOpen) return put(this.#cart, h("p.strong", this.#whyNot));
		const { seats, areas, amount } = this.selection;
		const n = seats.length + areas.reduce((sum, { count }) => sum + count, 0);
		if (n === 0) return put(this.#cart, this.#map && h("p.muted", t("choose", { n: this.#most })));
		const chip = (name, where, all, drop) => h("li", h("span", h("strong", name), " ", where),
			h("button.ghost.round", { "aria-label": t("seat_drop", { seat: all }), onclick: drop }, icon("close")));
		const plan = this.#plan;
		const seat = (i) => chip([plan.rowAt(i).name, plan.numbers[i]].filter(Boolean).join("-") || plan.guids[i], plan.zoneAt(i).name, this.#names([i]), () => this.#toggle(i));
		const area = ({ name, count }) => chip(`${count} ×`, name, name, () => this.#count(name, 0));
		put(this.#cart,
			h("ul.chips", [...this.#chosen].map(seat), areas.map(area)),
			h("div.sum", h("span", t("seats", { n })), h("strong", this.#money(amount))),
			part("button", h("button.button.wide", { disabled: this.#busy !== null, onclick: () => this.#press(this.hold()) }, t("hold", { minutes: this.#holdTime }))));
	}

	get #holdTime() {
		const seconds = this.#option.hold_seconds;
		const { t } = this.#tongue;
		return seconds < 60 ? t("duration_seconds", { n: seconds }) : t("duration_minutes", { n: Math.round(seconds / 60) });
	}

	// What the buttons here have begun is told here, and to the site.
	#press(promise) {
		promise.catch((problem) => {
			const isLogin = problem.status === 401;
			if (problem.code !== "seats_unavailable") this.#tell(isLogin ? this.#tongue.t("session_begin") : (problem.words ?? String(problem)));
			if (!isLogin) this.#report(problem);
		});
	}

	#areaForm(option) {
		const named = this.#only;
		const areas = option.areas.filter(({ category }) => named?.includes(category) ?? true);
		const { t } = this.#tongue;
		this.#areaRows = areas.map((area) => {
			const left = h("span.muted");
			const fields = this.#counter(area);
			fields.hidden = this.hasAttribute("readonly");
			const node = h("div.area", h("div.grow", h("p.strong", area.name), h("p", h("span.price", this.#money(option.prices[area.category])), " · ", left)), fields);
			return { area, left, fields, node };
		});
		return areas.length > 0 && h("section.areas", h("h2", t("areas")), this.#areaRows.map(({ node }) => node));
	}

	#counter({ name }) {
		const { t } = this.#tongue;
		const count = () => this.#counts.get(name) ?? 0;
		const input = h("input", { type: "number", min: 0, max: this.#most, value: count(), "aria-label": `${name}: ${t("best_count")}`, onchange: () => this.#count(name, Math.trunc(Number(input.value)) || 0) });
		const step = (kind, by) => h("button.round", { "aria-label": t(kind), onclick: () => this.#count(name, count() + by) }, icon(kind === "less" ? "minus" : "plus"));
		const node = h("span.counter", step("less", -1), input, step("more", 1));
		node.show = () => (input.value = count());
		return node;
	}

	// Of one or more areas, as many in all as one may have.
	#count(name, wanted) {
		if (!this.#isOpen) return;
		const counts = new Map(this.#counts);
		counts.delete(name);
		const others = [...counts.values()].reduce((sum, count) => sum + count, 0);
		const count = Math.max(0, Math.min(wanted, this.#most - others, this.#areas[name].available));
		if (count > 0) counts.set(name, count);
		this.#choose([], counts);
		if (this.#touched?.area) this.#showCard(this.#touched);
		for (const { fields } of this.#areaRows) fields.show();
	}

	#tell(text, ...more) {
		const close = h("button.ghost.round", { "aria-label": this.#tongue.t("card_close"), onclick: () => put(this.#notice) }, icon("close"));
		put(this.#notice, h("div.notice", h("div.told", h("p.strong.grow", text), close), ...more));
	}

	// One at a time; each rejects with a problem.
	#inTurn(work) {
		const before = this.#busy;
		const mine = (async () => {
			await before?.catch(() => {});
			await this.#ready.promise;
			return work();
		})();
		this.#busy = mine;
		if (this.#isReady) this.#showCart();
		const done = () => {
			if (this.#busy !== mine) return;
			this.#busy = null;
			if (!this.#isReady) return;
			this.#showCart();
			this.#lose([...this.#chosen]);
		};
		mine.then(done, done);
		return mine;
	}

	async #hold(wish) {
		this.#mayChoose();
		const turn = this.#turn;
		await this.#needToken();
		const headers = this.#queueToken ? { "Queue-Token": this.#queueToken } : {};
		let reservation;
		try {
			reservation = await this.#api.post(`/v1/options/${this.#option.id}/reservations`, wish, newKey(), headers);
		} catch (problem) {
			if (problem.status === 401) this.#emit("login");
			if (turn === this.#turn && problem.code === "seats_unavailable") this.#taken(problem.body.conflicts);
			throw problem;
		}
		if (turn !== this.#turn) return reservation;
		this.#holds.push(reservation);
		const held = new Set(reservation.seats.map(({ id }) => this.#plan.index.get(id)));
		this.#showHolds();
		this.#choose([...this.#chosen].filter((i) => !held.has(i)), wish.areas ? new Map() : this.#counts);
		this.#emit("hold", { reservation });
		return reservation;
	}

	async #release(held) {
		if (!held) throw this.#problem(409, { code: "reservation_not_held" });
		await this.#needToken();
		try {
			const reservation = await this.#api.remove(`/v1/reservations/${held.id}`);
			// The live seats may have told of it before.
			if (this.#drop(held)) this.#emit("release", { reservation });
			return reservation;
		} catch (problem) {
			if (problem.status === 401) this.#emit("login");
			if (problem.code === "reservation_not_held") this.#drop(held);
			throw problem;
		}
	}

	// Whether it was still there.
	#drop(held) {
		const others = this.#holds.filter(({ id }) => id !== held.id);
		const isKnown = others.length < this.#holds.length;
		this.#holds = others;
		if (this.#isReady) this.#showHolds();
		return isKnown;
	}

	// Those of before a reload, if the site says who one is.
	async #restoreHolds() {
		const turn = this.#turn;
		try {
			if (!this.#getToken || !(await this.#renew(this.#token))) return;
			const { items } = await this.#api.get("/v1/reservations?status=held&limit=100");
			if (turn !== this.#turn) return;
			const own = items.filter((one) => one.option_id === this.#option.id);
			// One may have come meanwhile.
			const all = new Map([...own, ...this.#holds].map((one) => [one.id, one]));
			this.#holds = [...all.values()].sort((a, b) => a.created_at.localeCompare(b.created_at));
			this.#showHolds();
		} catch (problem) {
			if (turn === this.#turn && problem.status !== 401) this.#report(problem);
		}
	}

	#showHolds() {
		const { t } = this.#tongue;
		const map = this.#map;
		put(this.#holding, this.#holds.map((held) => {
			const n = held.seats.length + held.areas.reduce((sum, { count }) => sum + count, 0);
			return h("div.notice.good", h("div.told", h("p.strong.grow", t("holding", { n })), h("span.time", { "data-until": held.expires_at })),
				this.#button(".small.quiet", () => this.#press(this.#inTurn(() => this.#release(held))), t("release")));
		}));
		if (map) {
			map.mine = new Set(this.#holds.flatMap(({ seats }) => seats).map(({ id }) => this.#plan.index.get(id)).filter((i) => i !== undefined));
			map.redraw("above");
		}
		this.#tick();
	}

	#tick() {
		for (const time of this.#holding?.querySelectorAll(".time") ?? []) time.textContent = countdown(Date.parse(time.dataset.until) - this.#api.now());
		for (const held of this.#holds) if (Date.parse(held.expires_at) <= this.#api.now()) this.#check(held);
		const { status, sale_opens_at: opens } = this.#option;
		if (status === "scheduled" && Date.parse(opens) <= this.#api.now()) this.#refresh().catch(() => {});
	}

	// Whether it is over, or paid: the server knows.
	async #check(held) {
		const now = performance.now();
		if (now - (this.#checked.get(held.id) ?? -Infinity) < RECHECK_MS) return;
		this.#checked.set(held.id, now);
		let reservation = held;
		try {
			reservation = await this.#api.get(`/v1/reservations/${held.id}`);
		} catch (problem) {
			if (problem.status === 0) return;
			// Whose it was is not known any more, but its time is over.
			if (Date.parse(held.expires_at) <= this.#api.now()) reservation = { ...held, status: "expired" };
		}
		if (reservation.status === "held" || reservation.status === "paying" || !this.#drop(held)) return;
		this.#checked.delete(held.id);
		if (reservation.status === "expired") {
			this.#tell(this.#tongue.t("ended_expired_unpaid"));
			this.#emit("expire", { reservation });
		} else if (reservation.status === "released") this.#emit("release", { reservation });
	}

	async #refresh() {
		const turn = this.#turn;
		const option = await this.#api.get(`/v1/options/${this.#option.id}`);
		if (turn !== this.#turn) return;
		const isSame = option.status === this.#option.status && option.sale_opens_at === this.#option.sale_opens_at;
		this.#option = option;
		// What somebody is about to click stays where it is.
		if (!isSame) this.#show();
	}

	#update(changed, areas) {
		Object.assign(this.#areas, areas);
		const map = this.#map;
		map?.change(changed);
		if (this.#busy === null) this.#lose(changed);
		const isOver = ({ seats }) => seats.some(({ id }) => this.#plan.status[this.#plan.index.get(id)] !== HELD);
		if (changed.some((i) => map?.mine.has(i))) for (const held of this.#holds.filter(isOver)) this.#check(held);
		const plan = this.#plan;
		this.#fresh ??= setTimeout(() => {
			this.#fresh = null;
			if (this.#plan !== plan) return;
			this.#legend?.count();
			if (this.#touched) this.#showCard(this.#touched);
			this.#rows?.show();
			for (const { area, left } of this.#areaRows) left.textContent = this.#aboutArea(area)[0];
		}, 400);
	}

	// Those of them that were chosen and went to others.
	#lose(seats) {
		const mine = this.#map?.mine;
		const lost = seats.filter((i) => this.#chosen.has(i) && !mine.has(i) && this.#plan.status[i] !== FREE);
		if (lost.length > 0) this.#gone(lost);
	}

	#taken(guids) {
		const { index, status } = this.#plan;
		const seats = guids.map((guid) => index.get(guid)).filter((i) => i !== undefined);
		this.#plan.setSome(Object.fromEntries(seats.filter((i) => status[i] === FREE).map((i) => [this.#plan.guids[i], "held"])));
		this.#map?.change(seats);
		this.#gone(seats);
	}

	#gone(seats) {
		const { t } = this.#tongue;
		const plan = this.#plan;
		const wanted = [...this.#chosen];
		const nearest = wanted.length > 0 ? plan.nearestTo(wanted, new Set(seats)) : [];
		this.#emit("taken", { seats: seats.map((i) => plan.guids[i]) });
		this.#choose(wanted.filter((i) => !seats.includes(i)));
		const amount = this.#money(nearest.reduce((sum, i) => sum + plan.categoryAt(i).price, 0));
		const take = () => {
			this.#choose(nearest);
			this.#map.showSeats(nearest);
		};
		this.#tell(t("gone", { n: seats.length, seats: this.#names(seats) }), ...(nearest.length === 0 ? [h("p", t("gone_none"))] : [
			h("p", t("gone_nearest", { seats: this.#names(nearest), amount })),
			this.#button(".small", take, t("gone_take", { n: nearest.length })),
		]));
	}

	async #needToken() {
		if (await this.#renew(this.#token)) return;
		this.#emit("login");
		throw this.#problem(401, { code: "unauthenticated" });
	}

	// Whether there is a token: `known`, unless it is over, or one that the site gives now.
	async #renew(known) {
		if (known && claimsOf(known)) return true;
		this.#token = null;
		await this.#askToken();
		return this.#token !== null;
	}

	#askToken() {
		this.#asking ??= (async () => {
			try {
				const token = await this.#getToken?.();
				if (typeof token === "string" && token.trim()) this.#take(token.trim());
			} catch (error) {
				console.error(error);
			} finally {
				this.#asking = null;
			}
		})();
		return this.#asking;
	}

	#take(token) {
		this.#token = token;
		clearTimeout(this.#renewing);
		const left = (claimsOf(token)?.exp ?? 0) * 1000 - Date.now() - RENEW_MS;
		// One that is over that soon is asked for when it is needed.
		if (left > 0 && this.isConnected) this.#renewing = setTimeout(() => this.#askToken(), Math.min(left, TIMER_MS_MAX));
	}
}

if (!customElements.get("boxoffice-seats")) customElements.define("boxoffice-seats", BoxofficeSeats);
