// All seats as a list, a row at a time: for screen readers, and for whoever knows the row.

import { h, labelled, put } from "./dom.js";
import { page } from "./i18n.js";

export class Rows {
	// `toggle(seat)` chooses one or gives it up, `money` writes a price, `may(seat)` says whether it can be chosen.
	constructor(map, { toggle, money, tongue = page, may = () => true }) {
		Object.assign(this, { map, toggle, money, may, t: tongue.t });
		const { t, map: { plan } } = this;
		const zone = h("select#list-zone", { onchange: () => rows() }, plan.zones.map((z, i) => h("option", { value: i }, z.name || t("zone_unnamed"))));
		this.row = h("select#list-row", { onchange: () => this.show() });
		this.seats = h("ul#list-seats.rowlist");
		const rows = () => {
			const { firstRow, lastRow } = plan.zones[Number(zone.value)];
			put(this.row, plan.rows.slice(firstRow, lastRow).map((row, k) => h("option", { value: firstRow + k }, row.label || row.name || String(k + 1))));
			this.show();
		};
		this.node = h("details#list.way", { ontoggle: () => this.node.open && rows() },
			h("summary", t("list_title")),
			h("form", labelled(t("list_zone"), zone), labelled(t("list_row"), this.row), this.seats));
	}

	show() {
		if (!this.node.open) return;
		const { map: { plan, chosen, mine }, t, seats, may } = this;
		const row = plan.rows[Number(this.row.value)];
		// A zone may have none.
		if (!row || this.row.value === "") return put(seats);
		const focused = this.node.getRootNode().activeElement?.dataset?.seat;
		put(seats, Array.from({ length: row.to - row.from }, (_, k) => {
			const i = row.from + k;
			const isOut = plan.stateAt(i) !== "available" || !may(i);
			const box = h("input", { type: "checkbox", "data-seat": String(i), checked: chosen.has(i), disabled: isOut, onchange: () => this.toggle(i) });
			return h("li", h("label.check", box, h("span", plan.labelAt(i) || t("seat_number", { number: plan.numbers[i] || plan.guids[i] })),
				h("span.muted", plan.isForSale(i) && `${plan.categoryAt(i).name} · ${this.money(plan.categoryAt(i).price)}`),
				h("span.muted", t(mine.has(i) ? "seat_yours" : `seat_${plan.stateAt(i)}`))));
		}));
		if (focused) seats.querySelector(`[data-seat="${focused}"]`)?.focus();
	}
}
