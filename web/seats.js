// `<boxoffice-seats>`: the hall of a performance in a page of somebody else's. It touches nothing of that page: no cookies, no
// storage, no styles, no globals but its own element. Several may have servers of their own.

import { Api, claimsOf, newKey } from "./call.js";
import { h, put } from "./dom.js";
import { inkOn } from "./draw.js";
import { Hall } from "./hall.js";
import css from "./hall.css.js";
import { Tongue, countdown } from "./i18n.js";
import { placesOf } from "./names.js";
import { FREE, HELD } from "./plan.js";
import own from "./seats.css.js";

const TEXTS = { en: () => import("./i18n/en.js"), ko: () => import("./i18n/ko.js") };
const PROPERTIES = ["getToken", "queueToken"];
const RENEW_MS = 30_000;
const TIMER_MS_MAX = 2 ** 31 - 1;
const RECHECK_MS = 5_000;
const TOKEN_MS = 10_000;
const NOTHING = { seats: [], areas: [], amount: 0 };
const TONES = ["available", "mine", "held", "sold", "paper", "ink", "accent"];

let sheet = null;

function styles() {
	if (!sheet) {
		sheet = new CSSStyleSheet();
		sheet.replaceSync(own + css);
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

// What the site says of who looks: asked for when it is needed, and before it is over.
class Tokens {
	token = null;
	#get;
	#asking = null;
	#renewing = 0;
	#isOver = false;

	constructor(get) {
		this.#get = get;
	}

	// Whether there is one: `known`, unless it is over, or one that the site gives now.
	async renew(known) {
		if (known && claimsOf(known)) return true;
		this.token = null;
		await this.#ask();
		return this.token !== null;
	}

	close() {
		this.#isOver = true;
		clearTimeout(this.#renewing);
	}

	#ask() {
		this.#asking ??= (async () => {
			try {
				const late = new Promise((resolve) => setTimeout(resolve, TOKEN_MS));
				const token = await Promise.race([this.#get?.(), late]);
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
		this.token = token;
		clearTimeout(this.#renewing);
		const left = (claimsOf(token)?.exp ?? 0) * 1000 - Date.now() - RENEW_MS;
		// One that is over that soon is asked for when it is needed.
		if (left > 0 && !this.#isOver) this.#renewing = setTimeout(() => this.#ask(), Math.min(left, TIMER_MS_MAX));
	}
}

// What is shown of one performance, for as long as the element shows that.
class EmbeddedHall extends Hall {
	#checked = new Map();
	// Those of the holds that may have become something else.
	#doubted = new Set();
	// What the site knows to be chosen.
	#told = JSON.stringify(NOTHING);

	// `site` is the element's: its attributes, what the site has set, and who is told.
	constructor(site, ...rest) {
		super(null, "div.all", ...rest);
		this.site = site;
	}

	async begin() {
		const plan = this.readPlan();
		// It is waited for below.
		plan.catch(() => {});
		await this.read();
		await this.enter(plan);
	}

	known() {
		this.site.begun(this);
		this.#askForPass();
		this.restoreHolds();
	}

	get most() {
		const own = Math.trunc(Number(this.site.element.getAttribute("max")));
		return Math.min(super.most, own >= 1 ? own : Infinity);
	}

	// Those of the categories that are named, if any are.
	get only() {
		const named = (this.site.element.getAttribute("categories") ?? "").split(",").map((name) => name.trim()).filter(Boolean);
		return named.length > 0 ? named : null;
	}

	get isReadonly() {
		return this.site.element.hasAttribute("readonly");
	}

	get barred() {
		return super.barred ?? (this.#lacksPass ? this.t("problem_queue_token_required") : null);
	}

	get #lacksPass() {
		return this.concert.waiting_room.mode !== "open" && !this.site.queueToken;
	}

	// The line is the site's.
	#askForPass() {
		if (this.isOpen && !this.isReadonly && this.#lacksPass) this.report(this.problem(403, { code: "queue_token_required" }));
	}

	async refresh() {
		const { barred } = this;
		await super.refresh();
		if (!this.isClosed && this.barred !== barred) this.#askForPass();
	}

	problem(status, body) {
		return this.api.problem(status, body);
	}

	report(problem) {
		if (!problem.problem) console.error(problem);
		this.site.emit("error", { problem: problem.problem ?? { status: 0, code: "internal", detail: String(problem) } });
	}

	look = () => {
		const theme = this.site.element.getAttribute("theme");
		const { tones: all } = this.site;
		const tones = Object.fromEntries([...all.children].map((tone) => [tone.className, solid(getComputedStyle(tone).color)]));
		this.node.style.setProperty("--on-accent", inkOn(tones.accent ?? "#0d5c75"));
		const told = Object.entries(tones).filter(([name, color]) => color && name !== "accent");
		const own = Object.fromEntries(told);
		if (own.sold) own.cross = inkOn(own.sold);
		if (own.ink) own.label = own.ink;
		return {
			isDark: theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches),
			font: getComputedStyle(this.site.element).getPropertyValue("--boxoffice-font").trim(),
			...(told.length > 0 && { colors: own }),
		};
	};

	retone() {
		super.retone();
		if (!this.map) this.look();
	}

	build() {
		super.build();
		if (!this.map) this.look();
		else if (this.only) this.legend.apply();
	}

	// Above everything else of the page, whatever lies around this.
	opened(isOpen) {
		const { node } = this;
		const wasOpen = node.classList.contains("opened");
		super.opened(isOpen);
		if (!node.showPopover || isOpen === wasOpen) return;
		if (isOpen) {
			node.popover = "manual";
			node.showPopover();
		} else node.removeAttribute("popover");
	}

	select(ids) {
		if (this.isReadonly) throw this.#onlyLooking();
		if (!this.mayChoose) throw this.problem(409, { code: "sale_not_open" });
		this.#checkIds(ids);
		const { plan: { index, status }, most } = this;
		const unknown = ids.filter((id) => !index.has(id));
		if (unknown.length > 0) throw this.problem(422, { code: "unknown_seats", seats: unknown });
		const seats = ids.map((id) => index.get(id));
		const conflicts = ids.filter((_, k) => status[seats[k]] !== FREE || !this.isOffered(seats[k]));
		if (conflicts.length > 0) throw this.problem(409, { code: "seats_unavailable", conflicts });
		const chosen = new Set([...this.chosen, ...seats]);
		if (chosen.size > most) throw this.problem(409, { code: "limit_exceeded", limit: most, already: this.chosen.size });
		this.choose(chosen);
	}

	deselect(ids) {
		this.#checkIds(ids);
		const gone = new Set(ids.map((id) => this.plan.index.get(id)));
		this.choose([...this.chosen].filter((i) => !gone.has(i)), this.counts);
	}

	best(wish) {
		return this.inTurn(() => this.order({ best_available: wish }));
	}

	hold() {
		return this.inTurn(() => {
			const { seats, areas } = this.selection;
			if (seats.length === 0 && areas.length === 0) throw this.problem(400, { code: "invalid_request", detail: "Nothing is chosen." });
			return this.order(seats.length > 0 ? { seats } : { areas });
		});
	}

	release(held) {
		return this.inTurn(() => this.#release(held ?? this.holds.at(-1)));
	}

	#checkIds(ids) {
		if (!Array.isArray(ids)) throw this.problem(400, { code: "invalid_request", detail: "The ids of seats must be a list." });
	}

	// By what the site allows, however it was chosen.
	#checkWish({ seats = [], areas = [], best_available: best }) {
		const { plan, option, only, most } = this;
		const n = best ? Number(best.count) + Number(best.companions ?? 0) : areas.reduce((sum, { count }) => sum + count, seats.length);
		if (n > most) throw this.problem(409, { code: "limit_exceeded", limit: most, already: 0 });
		const categories = best ? [best.category]
			: [...seats.map((id) => plan.categoryAt(plan.index.get(id)).name), ...areas.map(({ name }) => option.areas.find((area) => area.name === name).category)];
		if (only && !categories.every((name) => only.includes(name))) throw this.problem(400, { code: "invalid_request", detail: `Only of these categories: ${only.join(", ")}.` });
	}

	#onlyLooking() {
		return this.problem(403, { code: "forbidden", detail: "This map is for looking only." });
	}

	close() {
		super.close();
		this.chosen = new Set();
		this.counts = new Map();
		if (this.plan) this.changed();
	}

	changed() {
		const selection = JSON.stringify(this.selection);
		if (selection === this.#told) return;
		this.#told = selection;
		this.site.emit("change", this.selection);
	}

	missed(seats) {
		this.site.emit("taken", { seats });
	}

	// What the buttons here have begun is told here, and to the site.
	refused(problem) {
		const isLogin = problem.status === 401;
		if (problem.code !== "seats_unavailable") this.tell(isLogin ? this.t("session_begin") : (problem.words ?? String(problem)));
		if (!isLogin) this.report(problem);
	}

	async #needToken() {
		const { tokens } = this.site;
		if (await tokens.renew(tokens.token)) return;
		this.site.emit("login");
		throw this.problem(401, { code: "unauthenticated" });
	}

	async order(wish) {
		if (this.isReadonly) throw this.#onlyLooking();
		this.#checkWish(wish);
		await this.#needToken();
		const { queueToken } = this.site;
		const { amount } = this.selection;
		let reservation;
		try {
			reservation = await this.api.post(`${this.path}/reservations`, wish, newKey(), queueToken ? { "Queue-Token": queueToken } : {});
		} catch (problem) {
			if (problem.status === 401) this.site.emit("login");
			if (!this.isClosed && problem.code === "seats_unavailable") this.taken(problem.body.conflicts);
			throw problem;
		}
		if (this.isClosed) return reservation;
		this.holds.push(structuredClone(reservation));
		const held = new Set(reservation.seats.map(({ id }) => this.plan.index.get(id)));
		this.showHolds();
		this.choose([...this.chosen].filter((i) => !held.has(i)), wish.areas ? new Map() : this.counts);
		this.site.emit("hold", { reservation });
		if (!wish.best_available && reservation.amount !== amount) this.catchUp();
		return reservation;
	}

	async #release(held) {
		if (!held) throw this.problem(409, { code: "reservation_not_held" });
		await this.#needToken();
		try {
			const reservation = await this.api.remove(`/v1/reservations/${held.id}`);
			// The live seats may have told of it before.
			if (this.#drop(held)) this.site.emit("release", { reservation });
			return reservation;
		} catch (problem) {
			if (problem.status === 401) this.site.emit("login");
			if (problem.code === "reservation_not_held") this.#drop(held);
			throw problem;
		}
	}

	// Whether it was still there.
	#drop(held) {
		const others = this.holds.filter(({ id }) => id !== held.id);
		const isKnown = others.length < this.holds.length;
		this.holds = others;
		if (!this.isClosed) this.showHolds();
		return isKnown;
	}

	// Those of before a reload, if the site says who one is.
	async restoreHolds() {
		const { tokens } = this.site;
		try {
			if (!(await tokens.renew(tokens.token))) return;
			const { items } = await this.api.get("/v1/reservations?status=held&limit=100");
			if (this.isClosed || tokens !== this.site.tokens) return;
			const own = items.filter((one) => one.option_id === this.option.id);
			// One may have come meanwhile.
			const all = new Map([...own, ...this.holds].map((one) => [one.id, one]));
			this.holds = [...all.values()].sort((a, b) => a.created_at.localeCompare(b.created_at));
			this.showHolds();
		} catch (problem) {
			if (!this.isClosed && problem.status !== 401) this.report(problem);
		}
	}

	showHolds() {
		const { t, map, plan } = this;
		const free = (held) => this.release(held).catch((problem) => this.refused(problem));
		put(this.holding, this.holds.map((held) => h("div.notice.good",
			h("div.told", h("p.strong.grow", t("holding", { n: placesOf(held) })), h("span.time", { "data-until": held.expires_at })),
			h("button.button.small.quiet", { part: "button", onclick: () => free(held) }, t("release")))));
		if (map) {
			map.mine = new Set(this.holds.flatMap(({ seats }) => seats).map(({ id }) => plan.index.get(id)).filter((i) => i !== undefined));
			map.redraw("above");
		}
		this.tick();
	}

	tick() {
		super.tick();
		const now = this.api.now();
		for (const time of this.holding.querySelectorAll(".time")) time.textContent = countdown(Date.parse(time.dataset.until) - now);
		for (const held of this.holds) if (this.#doubted.has(held.id) || Date.parse(held.expires_at) <= now) this.#check(held);
	}

	update(changed, areas) {
		super.update(changed, areas);
		const { plan } = this;
		const all = new Set(changed);
		const isGone = ({ id }) => all.has(plan.index.get(id)) && plan.status[plan.index.get(id)] !== HELD;
		for (const held of this.holds) if (held.seats.some(isGone) || held.areas.some(({ name }) => areas?.[name])) this.#doubted.add(held.id);
	}

	// What has become of it: the server knows. Where it cannot be asked now, it is by a later tick.
	async #check(held) {
		const now = performance.now();
		if (now - (this.#checked.get(held.id) ?? -Infinity) < RECHECK_MS) return;
		this.#checked.set(held.id, now);
		this.#doubted.delete(held.id);
		let reservation;
		try {
			reservation = await this.api.get(`/v1/reservations/${held.id}`);
		} catch (problem) {
			// Whose it was is not known any more, but its time is over.
			if (![401, 403, 404].includes(problem.status)) this.#doubted.add(held.id);
			else if (Date.parse(held.expires_at) <= this.api.now()) reservation = { ...held, status: "expired" };
		}
		const k = this.holds.findIndex(({ id }) => id === held.id);
		if (!reservation || this.isClosed || k < 0) return;
		if (reservation.status === "held" || reservation.status === "paying") {
			if (JSON.stringify(reservation) === JSON.stringify(this.holds[k])) return;
			this.holds[k] = reservation;
			return this.showHolds();
		}
		this.#drop(held);
		this.#checked.delete(held.id);
		if (reservation.status === "expired") {
			this.tell(this.t("ended_expired_unpaid"));
			this.site.emit("expire", { reservation });
		} else if (reservation.status === "released") this.site.emit("release", { reservation });
	}
}

export class BoxofficeSeats extends HTMLElement {
	static observedAttributes = ["option", "server", "max", "categories", "lang", "theme", "readonly"];

	#root = this.attachShadow({ mode: "open" });
	#tongue = new Tongue();
	#getToken = null;
	#hall = null;
	#due = false;
	#isReady = false;
	#ready = null;
	#site = {
		element: this,
		tones: h("div.tones", { "aria-hidden": "true" }, TONES.map((name) => h(`i.${name}`))),
		tokens: new Tokens(null),
		queueToken: null,
		emit: (name, detail = null) => this.dispatchEvent(new CustomEvent(`boxoffice-${name}`, { bubbles: true, composed: true, detail })),
		begun: (hall) => {
			this.#isReady = true;
			this.#ready.resolve(hall);
			this.#site.emit("ready");
		},
	};

	constructor() {
		super();
		this.#root.adoptedStyleSheets = [styles()];
		this.#root.append(this.#site.tones);
		this.#site.tones.addEventListener("transitionend", () => this.#hall?.retone());
		this.#await();
	}

	// What is chosen: ids of seats, places of areas, and what that costs.
	get selection() {
		return this.#hall?.plan ? this.#hall.selection : structuredClone(NOTHING);
	}

	// The last one that is held; null if there is none.
	get reservation() {
		return structuredClone(this.#hall?.holds.at(-1) ?? null);
	}

	get getToken() {
		return this.#getToken;
	}

	set getToken(value) {
		this.#getToken = typeof value === "function" ? value : null;
		// It may be of somebody else.
		this.#forget();
		if (!this.#hall) return;
		this.#hall.holds = [];
		if (!this.#isReady) return;
		this.#hall.showHolds();
		this.#hall.restoreHolds();
	}

	get queueToken() {
		return this.#site.queueToken;
	}

	set queueToken(value) {
		this.#site.queueToken = value || null;
		if (this.#isReady) this.#hall.showCart();
	}

	async select(ids) {
		(await this.#ready.promise).select(ids);
	}

	async deselect(ids) {
		(await this.#ready.promise).deselect(ids);
	}

	async clear() {
		(await this.#ready.promise).choose([]);
	}

	// The best free seats, held at once.
	async best(wish) {
		return (await this.#ready.promise).best(wish);
	}

	async hold() {
		return (await this.#ready.promise).hold();
	}

	async release() {
		return (await this.#ready.promise).release();
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
		const hall = this.#hall;
		if (name === "option" || name === "server") {
			this.#stop();
			this.#schedule();
		} else if (name === "theme") hall?.retone();
		else if (name === "lang") this.#speak().then(() => hall?.plan && !hall.isClosed && hall.build()).catch((problem) => hall?.report(problem));
		else if (hall?.plan) hall.build();
	}

	// Several attributes may change at once.
	#schedule() {
		if (this.#due) return;
		this.#due = true;
		queueMicrotask(() => {
			this.#due = false;
			if (this.isConnected && !this.#hall) this.#begin();
		});
	}

	#stop() {
		const hall = this.#hall;
		this.#hall = null;
		this.#forget();
		if (!hall) return;
		hall.node.remove();
		this.#ready.reject(hall.problem(400, { code: "invalid_request", detail: "This map is not shown any more." }));
		this.#await();
		hall.close();
	}

	#forget() {
		this.#site.tokens.close();
		this.#site.tokens = new Tokens(this.#getToken);
	}

	// What is called before there is a map is done when there is one.
	#await() {
		this.#isReady = false;
		this.#ready = Promise.withResolvers();
		this.#ready.promise.catch(() => {});
	}

	async #begin() {
		this.#stop();
		const id = this.getAttribute("option");
		if (!id) return;
		const server = this.getAttribute("server") || import.meta.url;
		const isUrl = URL.canParse(server) && /^https?:$/.test(new URL(server).protocol);
		const [site, tongue] = [this.#site, this.#tongue];
		const api = new Api({ base: isUrl ? new URL(server).origin : "", tongue, token: () => site.tokens.token, refused: () => site.tokens.renew(null) });
		const hall = new EmbeddedHall(site, id, api, tongue);
		this.#hall = hall;
		try {
			await this.#speak();
			if (hall.isClosed) return;
			if (!isUrl) throw api.problem(400, { code: "invalid_request", detail: "The attribute server is not a URL of http or https." });
			this.#root.prepend(put(hall.node, h("p.loading", tongue.t("loading"))));
			await hall.begin();
		} catch (problem) {
			if (!hall.isClosed) this.#failed(hall, problem);
		}
	}

	// What can be told in words only, and tried again.
	#failed(hall, problem) {
		this.#ready.reject(problem);
		const { t } = this.#tongue;
		this.#root.prepend(put(hall.node, h("div.failed", h("p.notice.bad", { role: "alert" }, problem.words ?? t("problem_invalid_request")),
			h("button.button.small", { part: "button", onclick: () => this.#begin() }, t("again")))));
		hall.report(problem);
	}

	async #speak() {
		const wanted = () => [this.lang, document.documentElement.lang].map((lang) => lang.slice(0, 2).toLowerCase()).find((lang) => lang in TEXTS) ?? "en";
		const tag = wanted();
		const texts = (await TEXTS[tag]()).default;
		// Another one may have been asked for meanwhile.
		if (tag !== wanted()) return;
		this.#tongue.use(tag, texts);
		if (this.#hall) this.#hall.node.lang = tag;
	}
}

if (!customElements.get("boxoffice-seats")) customElements.define("boxoffice-seats", BoxofficeSeats);
