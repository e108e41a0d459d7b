// Which places of an order are meant: boxes for its seats, numbers for places in areas.

import { h } from "./dom.js";
import { money, number } from "./i18n.js";
import { seatName } from "./names.js";

// Places of one area may have several prices: those that were taken last go first.
function worth(lots, count) {
	let sum = 0;
	for (const lot of lots.toReversed()) {
		const n = Math.min(count, lot.count);
		sum += n * lot.price;
		count -= n;
	}
	return sum;
}

// `read()` gives what is chosen, how many places that is (`n`), and what they cost; `body()` the same for a request.
export function choosePlaces({ seats, areas, currency }, { all = false, changed = () => {} } = {}) {
	const boxes = new Map(seats.map((seat) => [seat.id, h("input", { type: "checkbox", checked: all, "data-place": seat.id, onchange: changed })]));
	const row = (control, name, category, price) => h("li", h("label.check", control, h("span.grow", name), h("span.muted", category), h("span.price", price)));
	const fields = [...Map.groupBy(areas, (area) => area.name)].map(([name, lots]) => {
		const most = lots.reduce((sum, lot) => sum + lot.count, 0);
		return { name, lots, most, field: h("input.count", { type: "number", min: 0, max: most, value: all ? most : 0, required: true, "data-place": name, oninput: changed }) };
	});

	function read() {
		const chosen = seats.filter((seat) => boxes.get(seat.id).checked);
		const counts = fields.map(({ name, lots, most, field }) => ({ name, lots, count: Math.max(0, Math.min(most, Math.trunc(field.value))) || 0 })).filter(({ count }) => count > 0);
		const n = chosen.length + counts.reduce((sum, { count }) => sum + count, 0);
		const amount = chosen.reduce((sum, seat) => sum + seat.price, 0) + counts.reduce((sum, { lots, count }) => sum + worth(lots, count), 0);
		return { seats: chosen.map((seat) => seat.id), areas: counts.map(({ name, count }) => ({ name, count })), n, amount };
	}

	return {
		boxes,
		read,
		body() {
			const { seats: some, areas: counts } = read();
			return { ...(some.length > 0 && { seats: some }), ...(counts.length > 0 && { areas: counts }) };
		},
		node: h("ul.parts",
			seats.map((seat) => row(boxes.get(seat.id), seatName(seat), seat.category, money(seat.price, currency))),
			fields.map(({ name, lots, most, field }) => row(field, `${name} (≤ ${number(most)})`, lots[0].category, money(lots.at(-1).price, currency)))),
	};
}
