// What seats are called, and what is said of them.

import { arrow } from "./draw.js";
import { page } from "./i18n.js";

// With the plan's own words for rows and seats, where it has some.
export function seatName(seat, { t } = page) {
	const row = seat.row_label || (seat.row && t("seat_row", { row: seat.row }));
	const parts = [seat.zone, row, seat.seat_label || t("seat_number", { number: seat.number || seat.id })];
	return parts.filter(Boolean).join(" · ");
}

// Those of a row together.
export function namesOf(plan, seats, tongue = page) {
	const rows = Map.groupBy(seats, (i) => plan.rowOf[i]);
	return [...rows.values()].map((seats) => {
		const row = plan.rowAt(seats[0]);
		return seatName({
			zone: plan.zoneAt(seats[0]).name, row: row.name, row_label: row.label,
			number: seats.map((i) => plan.numbers[i] || plan.guids[i]).join(", "),
			seat_label: seats.map((i) => plan.labelAt(i)).filter(Boolean).join(", "),
		}, tongue);
	}).join("; ");
}

// In lines. `accessible` are the categories for wheelchairs, `money` writes a price.
export function describe({ plan, mine, chosen }, seat, { accessible, money, tongue = page }) {
	const { t } = tongue;
	const category = plan.categoryAt(seat);
	const state = mine.has(seat) ? "seat_yours" : chosen.has(seat) ? "seat_chosen" : `seat_${plan.stateAt(seat)}`;
	const signs = plan.starts.has(seat) ? [t("row_start", { way: arrow(plan.starts.get(seat)) })] : [];
	const name = namesOf(plan, [seat], tongue);
	if (!plan.isForSale(seat)) return [name, t("seat_blocked"), ...signs];
	if (accessible.includes(category.name)) signs.push(t("seat_accessible"));
	return [name, `${category.name} · ${money(category.price)}`, t(state), ...signs];
}

// Of an order.
export const placesOf = ({ seats, areas }) => seats.length + areas.reduce((sum, area) => sum + area.count, 0);
