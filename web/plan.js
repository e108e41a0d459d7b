// A seating plan in arrays, and what can be found in it. Knows nothing of the page.

import { chainsOf } from "./neighbours.js";

export const FREE = 0;
export const HELD = 1;

const STATES = { available: FREE, held: HELD, sold: 2, blocked: 3 };

// Of seats that are not for sale.
const NO_CATEGORY = 0xffff;
const NONE = { name: "", price: 0, free: 0, color: "" };
const FILL = 0.86;
const OUTLINE_POINTS = 8;

// Plans that were stored long ago may have anything in them.
const objects = (list) => (Array.isArray(list) ? list.filter((one) => one && typeof one === "object") : []);
const text = (value) => (typeof value === "string" || typeof value === "number" ? String(value) : "");
const coordinate = (value) => (Number.isFinite(value) ? value : 0);
const at = (position) => [coordinate(position?.x), coordinate(position?.y)];

function median(values) {
	if (values.length === 0) return 0;
	values.sort((a, b) => a - b);
	return values[(values.length - 1) >> 1];
}

export class Box {
	left = Infinity;
	top = Infinity;
	right = -Infinity;
	bottom = -Infinity;

	add(x, y) {
		this.left = Math.min(this.left, x);
		this.right = Math.max(this.right, x);
		this.top = Math.min(this.top, y);
		this.bottom = Math.max(this.bottom, y);
	}

	join({ left, top, right, bottom }) {
		if (left > right) return;
		this.add(left, top);
		this.add(right, bottom);
	}

	grow(by) {
		this.left -= by;
		this.right += by;
		this.top -= by;
		this.bottom += by;
	}

	meets(other) {
		return this.left <= other.right && this.right >= other.left && this.top <= other.bottom && this.bottom >= other.top;
	}
}

// What is drawn beside the seats.
function shapeOf(area, x, y) {
	const length = (value) => Math.abs(coordinate(value));
	const { width, height } = Object(area.rectangle ?? area);
	const shape = { x, y, width: length(width), height: length(height), rotation: coordinate(area.rotation) };
	const [across, down] = at(area.ellipse?.radius).map(length);
	if (area.circle) shape.radii = [length(area.circle.radius), length(area.circle.radius)];
	else if (area.ellipse) shape.radii = [across, down];
	else if (area.polygon) shape.points = objects(area.polygon.points).map(at);
	shape.text = text(area.text?.text ?? area.text);
	shape.color = text(area.color);
	shape.textAt = at(area.text?.position);
	return shape;
}

const isFilled = (row) => row.to > row.from;

export class Plan {
	index = new Map();
	rows = [];
	zones = [];
	blocks = [];
	shapes = [];
	box = new Box();

	constructor(json) {
		const zones = objects(json?.zones);
		const seats = zones.flatMap((zone) => objects(zone.rows)).flatMap((row) => objects(row.seats));
		const n = seats.length;
		this.size = n;
		this.guids = new Array(n);
		this.numbers = new Array(n);
		this.xs = new Float64Array(n);
		this.ys = new Float64Array(n);
		this.categoryOf = new Uint16Array(n);
		this.rowOf = new Uint32Array(n);
		this.starts = new Map();
		this.status = new Uint8Array(n);
		this.readCategories(Object(json), new Set(seats.map((seat) => seat.category)));
		for (const zone of zones) this.readZone(zone);
		this.finish();
	}

	// Dearest first: colours follow this order.
	readCategories({ prices, categories }, used) {
		this.colors = new Map(objects(categories).map(({ name, color }) => [name, text(color)]));
		const known = objects(categories).filter(({ name }) => used.has(name));
		this.categories = known.map(({ name, color }) => ({ name, price: prices?.[name] ?? 0, free: 0, color: text(color) }));
		this.categories.sort((a, b) => b.price - a.price);
		this.categoryByName = new Map(this.categories.map((category, i) => [category.name, i]));
	}

	readZone(json) {
		const [x, y] = at(json.position);
		const zone = { name: text(json.name), firstRow: this.rows.length, box: new Box(), free: 0, freeOf: new Uint32Array(this.categories.length) };
		const before = this.index.size;
		for (const row of objects(json.rows)) this.readRow(row, zone, [x, y]);
		zone.lastRow = this.rows.length;
		zone.seats = this.index.size - before;
		const rows = this.rows.slice(zone.firstRow);
		rows.forEach((row, k) => this.spaceRow(row, [rows[k - 1], rows[k + 1]]));
		for (const row of rows) {
			row.zone = this.zones.length;
			zone.box.join(row.box);
		}
		this.makeBlocks(rows);
		for (const area of objects(json.areas)) {
			const [areaX, areaY] = at(area.position);
			this.shapes.push(shapeOf(area, x + areaX, y + areaY));
		}
		this.zones.push(zone);
	}

	readRow(json, zone, [zoneX, zoneY]) {
		const [rowX, rowY] = at(json.position);
		const from = this.index.size;
		const seats = objects(json.seats);
		const name = text(json.row_number);
		const label = text(json.row_label).replaceAll("%s", () => name);
		const row = { name, label, seatLabel: text(json.seat_label), named: json.row_number_position, from, to: from + seats.length, box: new Box(), free: 0 };
		seats.forEach((seat, k) => {
			const i = from + k;
			const [x, y] = at(seat.position);
			this.guids[i] = seat.seat_guid;
			this.numbers[i] = text(seat.seat_number);
			// In the order of the server, which may tell in the last digit who are neighbours.
			this.xs[i] = x + rowX + zoneX;
			this.ys[i] = y + rowY + zoneY;
			this.categoryOf[i] = this.categoryByName.get(seat.category) ?? NO_CATEGORY;
			if (this.isForSale(i)) {
				this.categoryAt(i).free += 1;
				row.free += 1;
				zone.free += 1;
				zone.freeOf[this.categoryOf[i]] += 1;
			} else this.status[i] = STATES.blocked;
			if (seat.start_direction) this.starts.set(i, text(seat.start_direction));
			this.rowOf[i] = this.rows.length;
			this.index.set(seat.seat_guid, i);
			row.box.add(...this.place(i));
		});
		row.runs = chainsOf(seats.map((_, k) => this.place(from + k)));
		for (const run of row.runs) run.seats = run.seats.map((k) => from + k);
		// From one end of the row to the other, whatever the order in the plan.
		row.along = row.runs.flatMap((run) => run.seats);
		row.pitch = median(row.along.slice(1).map((i, k) => this.distance(row.along[k], i)));
		this.rows.push(row);
	}

	// Also of one that only an area has.
	colorOf(category) {
		return this.colors.get(category) ?? "";
	}

	isForSale(i) {
		return this.categoryOf[i] !== NO_CATEGORY;
	}

	sells(guid) {
		return this.index.has(guid) && this.isForSale(this.index.get(guid));
	}

	place(i) {
		return [this.xs[i], this.ys[i]];
	}

	distance(i, j) {
		return Math.hypot(this.xs[i] - this.xs[j], this.ys[i] - this.ys[j]);
	}

	// Seats keep clear of those in the rows before and behind.
	spaceRow(row, others) {
		let room = row.pitch || Infinity;
		const middle = row.along[row.along.length >> 1];
		for (const other of others) {
			if (!other || row.from === row.to) continue;
			for (let i = other.from; i < other.to; i += 1) room = Math.min(room, this.distance(middle, i) || Infinity);
		}
		row.size = room === Infinity ? 20 : room * FILL;
		row.box.grow(row.size / 2);
	}

	// Rows of mostly one category, drawn as one shape from afar.
	makeBlocks(rows) {
		let block = null;
		for (const row of rows.filter(isFilled)) {
			const category = this.categoryOf[row.along.find((i, k) => 2 * k >= row.along.length - 1 && this.isForSale(i)) ?? row.from];
			if (block?.category !== category) {
				block = { category, rows: [], seats: 0, free: 0, box: new Box(), size: row.size };
				this.blocks.push(block);
			}
			block.rows.push(row);
			row.seats = row.free;
			block.seats += row.seats;
			block.free += row.free;
			block.box.join(row.box);
			row.block = block;
		}
	}

	outline({ rows }) {
		const points = [];
		const along = (row, backwards) => {
			const last = row.along.length - 1;
			const steps = Math.min(OUTLINE_POINTS, last);
			for (let step = 0; step <= steps; step += 1) {
				const k = Math.round((last * (backwards ? steps - step : step)) / (steps || 1));
				points.push(this.place(row.along[k]));
			}
		};
		along(rows[0], false);
		for (const row of rows.slice(1, -1)) points.push(this.place(row.along.at(-1)));
		if (rows.length > 1) along(rows.at(-1), true);
		for (const row of rows.slice(1, -1).reverse()) points.push(this.place(row.along[0]));
		return points;
	}

	finish() {
		for (const block of this.blocks) block.outline = this.outline(block);
		for (const zone of this.zones) this.box.join(zone.box);
		for (const shape of this.shapes) {
			this.box.add(shape.x, shape.y);
			if (shape.width && shape.height) this.box.add(shape.x + shape.width, shape.y + shape.height);
		}
		this.typical = median(this.rows.filter(isFilled).map((row) => row.size)) || 20;
	}

	// Seats not named are free. Returns those that have changed.
	setAll(taken) {
		return [...this.guids.keys()].filter((i) => this.set(i, taken[this.guids[i]] ?? "available"));
	}

	setSome(changes) {
		const known = Object.keys(changes).filter((guid) => this.index.has(guid));
		return known.map((guid) => this.index.get(guid)).filter((i) => this.set(i, changes[this.guids[i]]));
	}

	set(i, state) {
		const status = STATES[state];
		if (status === this.status[i] || !this.isForSale(i)) return false;
		const by = (status === FREE) - (this.status[i] === FREE);
		this.status[i] = status;
		const row = this.rowAt(i);
		const zone = this.zones[row.zone];
		for (const part of [row, row.block, this.categoryAt(i), zone]) part.free += by;
		zone.freeOf[this.categoryOf[i]] += by;
		return true;
	}

	// The least that a free seat costs there; infinite where there is none.
	priceFrom({ freeOf }) {
		return this.categories.reduce((least, { price }, k) => (freeOf[k] > 0 ? Math.min(least, price) : least), Infinity);
	}

	zoneUnder(x, y) {
		return this.zones.find(({ box, seats }) => seats > 0 && box.meets({ left: x, right: x, top: y, bottom: y }));
	}

	// Places without seats: where the plan draws something of that name, else below everything.
	addAreas(areas) {
		const same = (a, b) => a.trim().toLowerCase() === b.trim().toLowerCase();
		const rest = areas.filter((area) => {
			const shape = this.shapes.find(({ text: name }) => same(name, area.name));
			if (shape) shape.area = area;
			return !shape;
		});
		if (this.size === 0 || rest.length === 0) return;
		const { left, right, bottom } = this.box;
		const gap = 1.5 * this.typical;
		const all = Math.max(right - left, 12 * this.typical * rest.length);
		const width = (all + gap) / rest.length - gap;
		const height = Math.max(4 * this.typical, 0.07 * all);
		rest.forEach((area, k) => {
			const shape = shapeOf({ width, height }, (left + right - all) / 2 + k * (width + gap), bottom + gap);
			this.shapes.push(Object.assign(shape, { area, text: area.name }));
			this.box.add(shape.x, shape.y);
			this.box.add(shape.x + width, shape.y + height);
		});
	}

	// Its name in the API.
	stateAt(i) {
		return Object.keys(STATES)[this.status[i]];
	}

	rowAt(i) {
		return this.rows[this.rowOf[i]];
	}

	// What to call it in a text; empty where the plan does not say.
	labelAt(i) {
		return this.rowAt(i).seatLabel.replaceAll("%s", () => this.numbers[i]);
	}

	zoneAt(i) {
		return this.zones[this.rowAt(i).zone];
	}

	categoryAt(i) {
		return this.categories[this.categoryOf[i]] ?? NONE;
	}

	// The seat at a place, or -1; `reach` is how far off it may be.
	seatAt(x, y, reach) {
		let best = -1;
		let nearest = Infinity;
		const near = { left: x - reach, right: x + reach, top: y - reach, bottom: y + reach };
		for (const row of this.rows) {
			if (!row.box.meets(near)) continue;
			for (let i = row.from; i < row.to; i += 1) {
				const distance = Math.hypot(this.xs[i] - x, this.ys[i] - y);
				if (distance < nearest && distance <= Math.max(reach, row.size / 2)) [best, nearest] = [i, distance];
			}
		}
		return best;
	}

	towards(i, dx, dy) {
		let best = -1;
		let least = Infinity;
		for (let j = 0; j < this.size; j += 1) {
			const x = this.xs[j] - this.xs[i];
			const y = this.ys[j] - this.ys[i];
			const ahead = x * dx + y * dy;
			const aside = Math.abs(x * dy - y * dx);
			if (ahead <= 0.01 || aside > ahead * 2) continue;
			const cost = ahead + 3 * aside;
			if (cost < least) [best, least] = [j, cost];
		}
		return best;
	}

	// As many free seats of the same categories near to `wanted`, side by side if there are such.
	nearestTo(wanted, taboo = new Set()) {
		const n = wanted.length;
		const x = wanted.reduce((sum, i) => sum + this.xs[i], 0) / n;
		const y = wanted.reduce((sum, i) => sum + this.ys[i], 0) / n;
		const categories = new Set(wanted.map((i) => this.categoryOf[i]));
		const isGood = (i) => this.status[i] === FREE && categories.has(this.categoryOf[i]) && !taboo.has(i);
		let best = null;
		let nearest = Infinity;
		for (const { seats, isRing } of this.rows.filter((row) => row.free >= n).flatMap((row) => row.runs)) {
			// At a round table they may sit across its end.
			const around = isRing && n < seats.length ? [...seats, ...seats.slice(0, n - 1)] : seats;
			let run = 0;
			for (let k = 0; k < around.length; k += 1) {
				run = isGood(around[k]) ? run + 1 : 0;
				if (run < n) continue;
				const middle = k - (n - 1) / 2;
				const [a, b] = [around[Math.floor(middle)], around[Math.ceil(middle)]];
				const distance = Math.hypot((this.xs[a] + this.xs[b]) / 2 - x, (this.ys[a] + this.ys[b]) / 2 - y);
				if (distance < nearest) [best, nearest] = [around.slice(k - n + 1, k + 1), distance];
			}
		}
		if (best) return best;
		const good = [];
		for (let i = 0; i < this.size; i += 1) if (isGood(i)) good.push([Math.hypot(this.xs[i] - x, this.ys[i] - y), i]);
		good.sort((a, b) => a[0] - b[0]);
		return good.length >= n ? good.slice(0, n).map(([, i]) => i) : [];
	}
}
