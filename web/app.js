// The page for buyers: who one is, where one is, and the concerts.

import { get, goTo, loginPage, session } from "./api.js";
import { forgetChoices } from "./choice.js";
import { inShort, performances } from "./dates.js";
import { View, button, byId, chooser, h, heading, icon, open, put, signIn, statusOf, toast, watchTitle, wear } from "./dom.js";
import css from "./hall.css.js";
import { clock, date, day, money, month, number, t } from "./i18n.js";
import { art, paged } from "./list.js";
import { SaleView, fillBar, priceRange } from "./sale.js";
import { load, loadTexts } from "./texts.js";

const DATES = 40;

class ConcertsView extends View {
	constructor(app) {
		super(app, "main");
		const fail = (problem) => app.fail(problem, this.node);
		put(this.node, heading(t("concerts")), paged(h("ul.concerts"), "/v1/concerts", (concert) => this.card(concert), t("concerts_none"), fail));
	}

	card(concert) {
		const about = h("p.muted", t("loading"));
		const foot = h("div.foot");
		if (concert.options.length === 0) about.textContent = t("concert_none");
		else {
			performances(concert).then((options) => {
				const { when, status, price, currency } = inShort(options, concert);
				about.textContent = when;
				put(foot, h("p.price", t("from", { amount: money(price, currency) })), statusOf({ status }));
			}).catch(() => (about.textContent = ""));
		}
		return h("li", h("a.card.concert", { href: `#/concerts/${concert.id}` },
			art(concert.title), h("div.text", h("h2", concert.title), concert.venue && h("p", concert.venue), about, foot)));
	}
}

class ConcertView extends View {
	constructor(app, id) {
		super(app, "main.narrow");
		this.guard(this.read(id));
	}

	async read(id) {
		const concert = await get(`/v1/concerts/${id}`);
		const options = await performances(concert);
		const dates = h("ul.dates");
		const more = h("button.button.quiet", { onclick: () => show() }, t("more_show"));
		const show = () => {
			const first = dates.children.length;
			dates.append(...options.slice(first, first + DATES).map((option) => this.option(option, concert)));
			more.hidden = dates.children.length === options.length;
			if (first > 0) dates.children[first].querySelector("a").focus();
		};
		show();
		const hasLine = concert.waiting_room.mode !== "open";
		put(this.node,
			h("a.back", { href: "#/" }, icon("back"), t("concerts")),
			h("header.banner", art(concert.title), heading(concert.title)),
			concert.venue && h("p.lead.venue", concert.venue),
			concert.description && h("p.about", concert.description),
			hasLine && h("p.notice", icon("clock"), t("concert_line")),
			dates, more,
			options.length === 0 && h("p.muted", t("concert_none")));
	}

	option(option, { time_zone: zone }) {
		const isOpen = option.status === "on_sale";
		return h("li", h("a.card.date", { href: `#/options/${option.id}` },
			h("div.leaf", { "aria-hidden": "true" }, h("span", month(option.starts_at, zone)), h("strong", day(option.starts_at, zone))),
			h("div.grow",
				h("p.strong", date(option.starts_at, zone)),
				h("p.muted", clock(option.starts_at, zone), " · ", priceRange(option)),
				fillBar(option.counts)),
			h("div.right", statusOf(option), h(isOpen ? "span.button.small" : "span.button.small.quiet", t(isOpen ? "choose_seats" : "look")))));
	}
}

async function swap(app, id) {
	await Promise.all([loadTexts("changes"), loadTexts("tickets")]);
	const { SwapView } = await import("./swap.js");
	return new SwapView(app, id);
}

// What comes after choosing is loaded then.
const tickets = async () => {
	await loadTexts("tickets");
	return import("./tickets.js");
};

async function offer(app, ...offered) {
	const { OfferView } = await (await tickets()).changes();
	return new OfferView(app, ...offered);
}

const ROUTES = [
	[/^#\/concerts\/([\w-]+)$/, (app, id) => new ConcertView(app, id)],
	[/^#\/options\/([\w-]+)$/, (app, id) => new SaleView(app, id)],
	[/^#\/reservations\/([\w-]+)\/swap$/, swap],
	[/^#\/offers\/([\w-]+)\/([\w-]+)\/([^/]*)\/([^/]*)$/, offer],
	[/^#\/reservations\/([\w-]+)$/, async (app, id) => new (await tickets()).ReservationView(app, id)],
	[/^#\/tickets$/, async (app) => new (await tickets()).TicketsView(app)],
	[/^/, (app) => new ConcertsView(app)],
];

const app = {
	view: null,
	turn: 0,

	go(hash) {
		if (location.hash === hash) this.reload();
		else location.hash = hash;
	},

	async reload() {
		this.view?.close();
		document.querySelector("dialog[open]")?.close();
		const turn = (this.turn += 1);
		const [pattern, make] = ROUTES.find(([route]) => route.test(location.hash));
		const view = await this.make(make, pattern.exec(location.hash).slice(1));
		if (!view) return;
		// Somebody may have gone elsewhere while it was loaded.
		if (turn !== this.turn) return view.close();
		this.view = view;
		put(byId("page"), this.view.node);
		document.body.classList.toggle("selling", this.view instanceof SaleView);
		scrollTo(0, 0);
		this.view.node.querySelector("h1")?.focus();
	},

	// Some of what it needs may have to be loaded.
	async make(make, names) {
		try {
			return await make(this, ...names);
		} catch (problem) {
			toast(problem.words ?? t("problem_offline"), "bad");
		}
	},

	fail(problem, node) {
		if (!problem.words) throw problem;
		put(node, h("section.card.end", heading(t("failed")), h("p.lead", { role: "alert" }, problem.words),
			button(".button", () => this.reload(), t("again"))));
	},

	showWallet(balance) {
		const chip = byId("wallet");
		if (chip) chip.textContent = number(balance);
	},
};

async function askWho(problem = null) {
	const page = await loginPage();
	const elsewhere = page && (() => goTo(page));
	// Not by itself where a token was refused: that could go round for ever.
	if (elsewhere && !problem && !session.user) return elsewhere();
	document.querySelector("dialog[open]")?.close();
	const begin = () => {
		dialog.close();
		showHead();
		app.reload();
	};
	const leave = () => {
		session.end();
		forgetChoices();
		begin();
	};
	const dialog = open(signIn((token) => session.take(token), begin, [
		problem && h("p.notice.bad", { role: "alert" }, t("problem_unauthenticated")),
		session.user ? h("p", t("session_user", { user: session.user })) : !page && h("p.muted", t("session_text")),
	], [
		session.user && button(".button.quiet", leave, t("session_end")),
		button(".button.quiet", () => dialog.close(), t("cancel")),
	], elsewhere));
}

function showHead() {
	const who = session.user
		? [
			h("a#tickets.ghost", { href: "#/tickets", "aria-label": t("tickets") }, icon("ticket"), h("span.wide-only", t("tickets"))),
			h("button.ghost", { title: session.user, "aria-label": t("session_who", { user: session.user }), onclick: () => askWho() }, icon("wallet"), h("span#wallet")),
		]
		: button("#begin.ghost", () => askWho(), icon("person"), t("session_begin"));
	put(byId("head"),
		h("a.logo", { href: "#/" }, icon("ticket"), "boxoffice"),
		h("nav", { "aria-label": t("nav") }, who, chooser()));
	if (session.user) get("/v1/wallet").then(({ balance }) => app.showWallet(balance)).catch(() => {});
}

async function begin() {
	session.begin();
	session.needed = askWho;
	wear(css);
	await load();
	document.title = t("title");
	watchTitle();
	showHead();
	addEventListener("hashchange", () => {
		// A link with a token may be opened in this tab.
		if (location.hash.includes("token=")) {
			session.begin();
			showHead();
		}
		app.reload();
	});
	addEventListener("offline", () => toast(t("problem_offline"), "bad"));
	app.reload();
}

// An old browser gets nothing else to see than what it was told.
if (!window.isOld) await begin();
