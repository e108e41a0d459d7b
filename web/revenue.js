// What a performance has brought in, added up from the lists of its orders and payments.

import { get } from "./api.js";
import { button, h, put } from "./dom.js";
import { date, money, number, t } from "./i18n.js";

// A walk through a list ends here, at the newest 20,000.
const PAGES_MAX = 40;
const PAGE = 500;

async function* walk(path) {
	let cursor = "";
	for (let k = 0; k < PAGES_MAX; k += 1) {
		const page = await get(`${path}&limit=${PAGE}${cursor}`);
		yield page.items;
		if (!page.next_cursor) return;
		cursor = `&cursor=${page.next_cursor}`;
	}
	yield null;
}

function add(sums, key, count, amount) {
	const sum = sums.get(key) ?? { count: 0, amount: 0 };
	sums.set(key, { count: sum.count + count, amount: sum.amount + amount });
}

export class Revenue {
	constructor(option) {
		this.option = option;
		this.body = h("div");
		this.button = button("#add-up.button.small.quiet", () => this.addUp(), t("orders_add_up"));
		this.node = h("section.card.revenue", h("header", h("h2", t("orders_revenue")), this.button), h("p.muted", t("orders_revenue_text", { n: PAGES_MAX * PAGE })), this.body);
	}

	close() {
		this.isClosed = true;
	}

	async addUp() {
		this.button.disabled = true;
		try {
			await this.walk();
		} catch (problem) {
			if (!problem.words) throw problem;
			put(this.body, h("p.notice.bad", { role: "alert" }, problem.words));
		} finally {
			this.button.disabled = false;
		}
	}

	async walk() {
		const { id } = this.option;
		const progress = h("p.muted", { role: "status" }, t("loading"));
		put(this.body, progress);
		let isCut = false;
		const paid = new Map();
		for await (const items of walk(`/v1/payments?option_id=${id}`)) {
			if (this.isClosed) return;
			for (const payment of items ?? []) if (payment.paid_at) paid.set(payment.id, payment.paid_at);
			isCut ||= items === null;
		}
		const [categories, days] = [new Map(), new Map()];
		let [orders, total] = [0, 0];
		for await (const items of walk(`/v1/options/${id}/reservations?status=confirmed`)) {
			if (this.isClosed) return;
			isCut ||= items === null;
			for (const order of items ?? []) {
				orders += 1;
				total += order.amount;
				for (const seat of order.seats) add(categories, seat.category, 1, seat.price);
				for (const area of order.areas) add(categories, area.category, area.count, area.count * area.price);
				add(days, new Date(paid.get(order.payment_id) ?? order.created_at).toDateString(), 1, order.amount);
			}
			progress.textContent = t("orders_count", { n: orders });
		}
		const byAmount = [...categories].sort(([, a], [, b]) => b.amount - a.amount);
		const byDay = [...days].sort(([a], [b]) => new Date(a) - new Date(b)).map(([day, sum]) => [date(day), sum]);
		put(this.body,
			h("p", t("orders_count", { n: orders }), " · ", h("strong#total", this.money(total))),
			isCut && h("p.notice.bad", t("orders_cut")),
			h("div.pair", this.table("by-category", t("orders_category"), t("orders_places"), byAmount), this.table("by-day", t("orders_day"), t("orders_orders"), byDay)));
	}

	money(amount) {
		return money(amount, this.option.currency);
	}

	table(id, name, counted, rows) {
		const most = Math.max(1, ...rows.map(([, { amount }]) => amount));
		const row = ([text, { count, amount }]) => {
			const bar = h("i", { "aria-hidden": "true" });
			bar.style.width = `${(100 * amount) / most}%`;
			return h("tr", h("th", { scope: "row" }, text, bar), h("td", number(count)), h("td", this.money(amount)));
		};
		return h(`table#${id}`, h("thead", h("tr", h("th", { scope: "col" }, name), h("th", { scope: "col" }, counted), h("th", { scope: "col" }, t("orders_sum")))), h("tbody", rows.map(row)));
	}
}
