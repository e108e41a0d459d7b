// How a seating plan looks, at which size. Knows no mouse and no network.

import { FREE, HELD } from "./plan.js";

// Told apart with any kind of colour vision, after Okabe and Ito.
const CATEGORIES = {
	light: ["#0a62a8", "#d1590a", "#00856a", "#b5508e", "#b07a00", "#3b93c9", "#6f4fa0", "#7a5c26"],
	dark: ["#5aaef0", "#f58c4c", "#35c7a0", "#e79bc9", "#efb83a", "#9ad4f7", "#b79bea", "#cfae66"],
};

const TONES = {
	light: { paper: "#fdfcfa", ink: "#1b1f24", held: "#8a929b", sold: "#d9d6cf", cross: "#b3afa6", blocked: "#c9c5bc", shape: "#e7e3da", edge: "#d5d0c4", label: "#4b535c", onMine: "#ffffff" },
	dark: { paper: "#171b21", ink: "#eef1f4", held: "#8d97a3", sold: "#2c333c", cross: "#525c68", blocked: "#3b434e", shape: "#262c35", edge: "#39424d", label: "#b2bcc7", onMine: "#14181d" },
};

// From little to much: dark to light by night, light to dark by day.
const HEAT = {
	light: ["#ece8df", "#fbdc9a", "#f8b25c", "#ea7a3c", "#c43c39", "#7d1d4f"],
	dark: ["#262c35", "#5b2a5e", "#98315f", "#d4523f", "#f08b35", "#fbd24f"],
};

// The size of a seat from which each is drawn; with its sign; with its number.
const DOTS_PX = 2.2;
export const SEATS_PX = 8;
const NUMBERS_PX = 21;
// More numbers than that take too long to write.
const NUMBERS_MAX = 1500;
const ROW_NAMES_PX = 11;
const NAME_PX = 22;
const SMALL_PX = 11;
// Narrower sections tell no more than their name.
const TOLD_PX = 40;
const FONT = "system-ui, -apple-system, 'Apple SD Gothic Neo', 'Noto Sans KR', sans-serif";
const SHADES = 8;
// Of a plan's own colour on the paper.
const CONTRAST_MIN = 1.7;
// Added to the style of seats that are not looked for.
const FADED = 0x20000;
const SIGN_PX = 15;

// In the plan's own colours, unless it has none, or the same for two. `look` says what a site has instead: `isDark`, a
// `font`, and colours of CSS by what they are for.
export function theme(categories = [], look = {}) {
	const isDark = look.isDark ?? matchMedia("(prefers-color-scheme: dark)").matches;
	const name = isDark ? "dark" : "light";
	const tones = { font: FONT, ...TONES[name] };
	for (const [key, color] of Object.entries(look.colors ?? {})) if (hex(color)) tones[key] = hex(color);
	if (look.font) tones.font = look.font;
	tones.mine ??= tones.ink;
	tones.onMine = look.colors ? inkOn(tones.mine) : tones.onMine;
	const own = categories.map(({ color }) => seenOn(tones, hex(color)));
	const isTold = own.length > 0 && own.every(Boolean) && new Set(own).size === own.length;
	const colors = tones.available ? [tones.available] : isTold ? own : CATEGORIES[name];
	return { ...tones, isDark, standing: CATEGORIES[name][2], heat: HEAT[name], category: (i) => colors[i % colors.length] };
}

let probe = null;

// Any colour of CSS as `#rrggbb`; null if it is none, or can be seen through.
function hex(color) {
	probe ??= document.createElement("canvas").getContext("2d");
	const [one, two] = ["#000000", "#ffffff"].map((before) => {
		probe.fillStyle = before;
		probe.fillStyle = color;
		return probe.fillStyle;
	});
	return one === two && one.startsWith("#") ? one : null;
}

const channels = (color) => [1, 3, 5].map((k) => Number.parseInt(color.slice(k, k + 2), 16));

function mix(a, b, share) {
	const to = channels(b);
	return `#${channels(a).map((part, k) => Math.round(part + (to[k] - part) * share).toString(16).padStart(2, "0")).join("")}`;
}

// As WCAG has it.
function luminance(color) {
	const [red, green, blue] = channels(color).map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
	return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a, b) {
	const [less, more] = [luminance(a), luminance(b)].sort((x, y) => x - y);
	return (more + 0.05) / (less + 0.05);
}

// Nearer to ink until it stands out from the paper.
function seenOn({ paper, ink }, color) {
	for (let share = 0; color && share < 1; share += 0.1) {
		const mixed = mix(color, ink, share);
		if (contrast(mixed, paper) >= CONTRAST_MIN) return mixed;
	}
	return null;
}

export const inkOn = (color) => (luminance(color) > 0.19 ? "#14181d" : "#ffffff");

function square(ctx, x, y, size) {
	ctx.beginPath();
	ctx.roundRect(x, y, size, size, size * 0.28);
}

// Points are shares of a seat.
function stroke(ctx, x, y, size, color, ...lines) {
	ctx.strokeStyle = color;
	ctx.beginPath();
	for (const [first, ...more] of lines) {
		ctx.moveTo(x + size * first[0], y + size * first[1]);
		for (const [right, down] of more) ctx.lineTo(x + size * right, y + size * down);
	}
	ctx.stroke();
}

// A form for each state: not the colour alone tells.
export function drawSign(ctx, tones, kind, color, x, y, size) {
	const line = Math.max(1, size * 0.1);
	ctx.lineWidth = line;
	ctx.lineCap = ctx.lineJoin = "round";
	const filling = { free: color, sold: tones.sold, mine: tones.mine }[kind];
	if (filling) {
		square(ctx, x, y, size);
		ctx.fillStyle = filling;
		ctx.fill();
	}
	if (kind === "held") {
		square(ctx, x + line, y + line, size - 2 * line);
		ctx.strokeStyle = tones.held;
		ctx.stroke();
	} else if (kind === "sold") stroke(ctx, x, y, size, tones.cross, [[0.3, 0.3], [0.7, 0.7]], [[0.3, 0.7], [0.7, 0.3]]);
	else if (kind === "blocked") stroke(ctx, x, y, size, tones.blocked, [[0.28, 0.5], [0.72, 0.5]]);
	else if (kind === "mine") {
		ctx.lineWidth = Math.max(1.2, size * 0.12);
		stroke(ctx, x, y, size, tones.onMine, [[0.27, 0.52], [0.44, 0.69], [0.74, 0.33]]);
	}
}

// Somebody in a wheelchair.
export function drawWheelchair(ctx, color, x, y, size) {
	ctx.lineWidth = Math.max(1, size * 0.09);
	ctx.lineCap = ctx.lineJoin = "round";
	stroke(ctx, x, y, size, color, [[0.42, 0.34], [0.44, 0.56], [0.64, 0.56], [0.74, 0.78]], [[0.43, 0.44], [0.6, 0.44]]);
	ctx.beginPath();
	ctx.arc(x + size * 0.44, y + size * 0.64, size * 0.2, 0.2, 4.4);
	ctx.stroke();
	ctx.beginPath();
	ctx.arc(x + size * 0.41, y + size * 0.2, size * 0.08, 0, 2 * Math.PI);
	ctx.fillStyle = color;
	ctx.fill();
}

const KINDS = ["free", "held", "sold", "blocked"];

export const onScreen = ({ scale, x, y }, planX, planY) => [planX * scale + x, planY * scale + y];

export function clear(ctx, { ratio }) {
	ctx.setTransform(1, 0, 0, 1, 0, 0);
	ctx.clearRect(0, 0, ctx.canvas.width, ctx.canvas.height);
	ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
}

// On two canvases: what stands still below, the seats above.
export class Painter {
	// `look()` is asked for what `theme` takes.
	constructor(plan, below, seats, look = () => ({})) {
		Object.assign(this, { plan, look });
		this.below = below.getContext("2d");
		this.seats = seats.getContext("2d");
		this.tones = theme(plan.categories, look());
		this.sprites = new Map();
		this.byStyle = new Map();
		// Set by operators: how much is wanted, 0 to 1, of a row.
		this.heat = null;
		// Set by buyers: which categories are looked for, and which are for wheelchairs.
		this.filter = null;
		this.accessible = new Set();
		// What is told of a zone and of an area beside its name, and which share of an area is free.
		this.words = { zone: () => [], area: () => [], share: () => 1 };
	}

	isWanted(category) {
		return !this.filter || this.filter.has(category);
	}

	retone() {
		this.tones = theme(this.plan.categories, this.look());
		this.sprites.clear();
	}

	level(view) {
		const size = this.plan.typical * view.scale;
		if (size < DOTS_PX) return "blocks";
		return size < SEATS_PX ? "dots" : "seats";
	}

	paint(view) {
		const { below, seats } = this;
		for (const ctx of [below, seats]) clear(ctx, view);
		this.paintShapes(below, view);
		if (this.level(view) === "blocks") {
			this.paintBlocks(seats, view);
			this.paintWheelchairs(seats, view);
			this.paintBlockNames(seats, view);
		} else {
			this.paintRowNames(below, view);
			this.paintSeats(view);
			if (this.plan.typical * view.scale < SIGN_PX) this.paintWheelchairs(seats, view);
		}
	}

	// Where places for wheelchairs are too small for a sign of their own.
	paintWheelchairs(ctx, view) {
		const { plan, tones } = this;
		if (this.accessible.size === 0 || this.heat) return;
		this.wheelchairs ??= [...plan.categoryOf.keys()].filter((i) => this.accessible.has(plan.categoryOf[i]));
		const places = [];
		const isSeen = seenIn(view);
		for (const i of this.wheelchairs) {
			const [x, y] = onScreen(view, ...plan.place(i));
			if (!isSeen(plan.rowAt(i)) || places.some(([left, top]) => Math.hypot(left - x, top - y) < 1.5 * SIGN_PX)) continue;
			places.push([x, y]);
			ctx.beginPath();
			ctx.arc(x, y, SIGN_PX / 2, 0, 2 * Math.PI);
			ctx.fillStyle = tones.paper;
			ctx.fill();
			drawWheelchair(ctx, tones.ink, x - SIGN_PX / 2, y - SIGN_PX / 2, SIGN_PX);
		}
	}

	paintShapes(ctx, view) {
		const s = view.scale;
		ctx.strokeStyle = this.tones.edge;
		ctx.lineWidth = 1;
		for (const shape of this.plan.shapes) {
			const { area } = shape;
			const fill = this.shapeColor(shape);
			ctx.save();
			this.pathOf(ctx, view, shape);
			ctx.fillStyle = fill;
			ctx.fill();
			ctx.stroke();
			const { x, y, wide, high, size } = this.labelOf(shape, s);
			const ink = inkOn(fill);
			if (area) this.writeLines(ctx, [shape.text, ...this.words.area(area)], x, y, wide, high, ink);
			else if (size > 0) this.write(ctx, shape.text, x, y, size, ink, 600);
			ctx.restore();
		}
	}

	// Where in a shape its name stands, for which there is so much room; it is of no size where that is too little.
	labelOf({ width, height, radii, points, text, textAt }, s) {
		const isBox = !radii && !points && width && height;
		const wide = (radii ? 2 * radii[0] : width || 200) * s;
		const high = (radii ? 2 * radii[1] : height || 40) * s;
		const [x, y] = isBox ? [(width * s) / 2, (height * s) / 2] : textAt.map((way) => way * s);
		return { x, y, wide, high, size: text && wide > 40 ? Math.min(22, Math.max(9, high * 0.34)) : 0 };
	}

	// Left as the context's path, with its origin and turn.
	pathOf(ctx, view, { x, y, rotation, width, height, radii, points }) {
		const s = view.scale;
		ctx.translate(...onScreen(view, x, y));
		ctx.rotate((rotation * Math.PI) / 180);
		ctx.beginPath();
		if (radii) ctx.ellipse(0, 0, radii[0] * s, radii[1] * s, 0, 0, 2 * Math.PI);
		else if (points) for (const [right, down] of points) ctx.lineTo(right * s, down * s);
		else if (width && height) ctx.roundRect(0, 0, width * s, height * s, Math.min(10, (height * s) / 4));
		ctx.closePath();
	}

	// The area drawn at a place on the screen.
	areaUnder(view, x, y) {
		const ctx = this.below;
		return this.plan.shapes.findLast((shape) => {
			if (!shape.area) return false;
			ctx.save();
			this.pathOf(ctx, view, shape);
			const isIn = ctx.isPointInPath(x * view.ratio, y * view.ratio);
			ctx.restore();
			return isIn;
		})?.area;
	}

	shapeColor({ area, color }) {
		const { tones, plan } = this;
		if (area) {
			const category = plan.categories.findIndex(({ name }) => name === area.category);
			const share = this.words.share(area);
			const full = category < 0 ? seenOn(tones, hex(plan.colorOf(area.category))) ?? tones.standing : tones.category(category);
			return share === 0 ? tones.sold : mix(tones.shape, full, 0.25 + 0.5 * share);
		}
		const own = hex(color);
		return own ? mix(tones.shape, own, tones.isDark ? 0.5 : 0.8) : tones.shape;
	}

	// As many lines as there is room for, the first one always.
	writeLines(ctx, lines, x, y, wide, high, color) {
		const size = Math.min(15, Math.max(9, Math.min(high / 2.5, wide / 9)));
		const fitting = high > (lines.length + 0.5) * size * 1.25 ? lines : lines.slice(0, 1);
		fitting.forEach((line, k) => this.write(ctx, line, x, y + (k - (fitting.length - 1) / 2) * size * 1.3, k === 0 ? size : size * 0.88, color, k === 0 ? 700 : 500));
	}

	write(ctx, text, x, y, size, color, weight = 500, align = "center") {
		ctx.font = `${weight} ${size}px ${this.tones.font}`;
		ctx.textAlign = align;
		ctx.textBaseline = "middle";
		ctx.fillStyle = color;
		ctx.fillText(text, x, y);
	}

	heatColor(share) {
		const { heat } = this.tones;
		return heat[Math.min(heat.length - 1, Math.floor(share * heat.length))];
	}

	blockColor(block) {
		const { tones } = this;
		if (this.heat) return this.heatColor(this.heat(block));
		if (block.free === 0) return tones.sold;
		const share = this.isWanted(block.category) ? Math.ceil((SHADES * block.free) / block.seats) / SHADES : 0;
		return mix(tones.sold, tones.category(block.category), 0.2 + 0.8 * share);
	}

	paintBlocks(ctx, view) {
		ctx.lineJoin = "round";
		for (const block of this.plan.blocks.filter(seenIn(view))) {
			ctx.beginPath();
			for (const [x, y] of block.outline) ctx.lineTo(...onScreen(view, x, y));
			ctx.closePath();
			ctx.fillStyle = ctx.strokeStyle = this.blockColor(block);
			ctx.lineWidth = Math.max(1, block.size * view.scale);
			ctx.fill();
			ctx.stroke();
		}
	}

	paintBlockNames(ctx, view) {
		const { plan } = this;
		for (const zone of plan.zones.filter(seenIn(view))) {
			const { box, name, seats } = zone;
			// So that zones of a kind show their names together.
			const wide = Math.sqrt(seats) * plan.typical * view.scale;
			if (wide < NAME_PX) continue;
			const [x, y] = onScreen(view, (box.left + box.right) / 2, (box.top + box.bottom) / 2);
			const size = Math.min(15, Math.max(9, wide / 3.2));
			const lines = wide < TOLD_PX ? [] : this.words.zone(zone);
			// A block that stands askew has a box larger than itself.
			const [width, height] = [box.right - box.left, box.bottom - box.top].map((side) => Math.min(side * view.scale, 1.2 * wide));
			const isRoomy = lines.length > 0 && this.widest(ctx, lines) < width && height > 1.6 * size + lines.length * 1.3 * SMALL_PX;
			const { block } = plan.rows[zone.firstRow];
			// On one colour it needs no paper, which would hide that.
			const isPlain = isRoomy && block && plan.rows[zone.lastRow - 1].block === block;
			const ink = isPlain ? inkOn(this.blockColor(block)) : this.tones.ink;
			this.writeTag(ctx, isRoomy ? name : shortName(name), x, y, size, ink, "center", isRoomy ? lines : [], isPlain ? 0 : 0.9);
		}
	}

	paintZoneNames(ctx, view) {
		if (this.level(view) === "blocks") return;
		const isAfar = this.plan.typical * view.scale < NUMBERS_PX;
		const labels = this.plan.shapes.map((shape) => {
			const [left, top] = onScreen(view, shape.x, shape.y);
			const { x, y, size } = this.labelOf(shape, view.scale);
			return [left + x, top + y, size];
		});
		for (const zone of this.plan.zones.filter(seenIn(view))) {
			const { box, name, seats } = zone;
			const [x, y] = onScreen(view, box.left, box.top);
			const more = isAfar && (box.right - box.left) * view.scale > 180 && seats > 0 ? this.words.zone(zone) : [];
			// Where rows are bent, the corner is empty.
			if (!name) continue;
			const full = [name, ...more].join(" · ");
			ctx.font = `650 12px ${this.tones.font}`;
			const right = x + ctx.measureText(full).width;
			// Not over the name of a stage.
			const isOver = labels.some(([middle, at, size]) => size > 0 && middle > x && middle - 2 * size < right && Math.abs(at - y + 9) < 9 + size / 2);
			this.writeTag(ctx, isOver ? name : full, x, y - 9, 12, this.tones.label, "left");
		}
	}

	widest(ctx, lines) {
		ctx.font = `500 ${SMALL_PX}px ${this.tones.font}`;
		return Math.max(...lines.map((line) => ctx.measureText(line).width));
	}

	// With more lines below, in smaller letters.
	writeTag(ctx, text, x, y, size, color, align = "center", more = [], opacity = 0.9) {
		ctx.font = `650 ${size}px ${this.tones.font}`;
		const small = SMALL_PX;
		const width = Math.max(ctx.measureText(text).width, more.length > 0 ? this.widest(ctx, more) : 0) + size * 0.8;
		const height = size * 1.5 + more.length * small * 1.3;
		const top = y - height / 2;
		ctx.fillStyle = this.tones.paper;
		ctx.globalAlpha = opacity;
		ctx.beginPath();
		ctx.roundRect(align === "left" ? x - size * 0.4 : x - width / 2, top, width, height, size * 0.75);
		ctx.fill();
		ctx.globalAlpha = 1;
		this.write(ctx, text, x, top + size * 0.75, size, color, 650, align);
		more.forEach((line, k) => this.write(ctx, line, x, top + size * 1.4 + (k + 0.5) * small * 1.3, small, color, 500, align));
	}

	paintRowNames(ctx, view) {
		const { plan } = this;
		const seat = plan.typical * view.scale;
		if (seat < ROW_NAMES_PX) return;
		for (const row of plan.rows.filter(seenIn(view))) {
			const { along, named = "both" } = row;
			// Where in the plan a row has its name: at its first seat, its last, both, or nowhere.
			const ends = [["start", along[0], along[1], 1], ["end", along.at(-1), along.at(-2), -1]];
			for (const [, end, next, inwards] of ends.filter(([name]) => named === name || named === "both")) {
				const inside = next ?? end;
				const [dx, dy] = [plan.xs[end] - plan.xs[inside], plan.ys[end] - plan.ys[inside]];
				const length = Math.hypot(dx, dy);
				const off = row.size * 1.15;
				const [right, down] = length > 0 ? [dx / length, dy / length] : [-inwards, 0];
				const [x, y] = onScreen(view, plan.xs[end] + right * off, plan.ys[end] + down * off);
				this.write(ctx, row.name, x, y, Math.min(13, seat * 0.55), this.tones.label);
			}
		}
		this.paintStarts(ctx, view);
	}

	// From where a row is filled, and which way: below the seat.
	paintStarts(ctx, view) {
		const { plan } = this;
		const isSeen = seenIn(view);
		for (const [i, way] of plan.starts) {
			const row = plan.rowAt(i);
			if (!isSeen(row)) continue;
			const [x, y] = onScreen(view, plan.xs[i], plan.ys[i] + row.size * 0.72);
			this.write(ctx, arrow(way), x, y, Math.min(12, row.size * view.scale * 0.5), this.tones.label);
		}
	}

	// By state and category, so that the brush seldom changes.
	paintSeats(view) {
		const { byStyle } = this;
		for (const list of byStyle.values()) list.length = 0;
		for (const row of this.plan.rows.filter(seenIn(view))) {
			for (let i = row.from; i < row.to; i += 1) {
				const style = this.styleOf(i);
				if (!byStyle.has(style)) byStyle.set(style, []);
				byStyle.get(style).push(i);
			}
		}
		for (const [style, list] of byStyle) this.paintList(view, style, list);
	}

	repaint(view, changed) {
		const { plan, seats } = this;
		const isSeen = seenIn(view);
		for (const i of changed) {
			if (!isSeen(plan.rowAt(i))) continue;
			const { x, y, size } = this.place(view, i);
			seats.clearRect(x - 1, y - 1, size + 2, size + 2);
			this.paintList(view, this.styleOf(i), [i]);
		}
	}

	// Its category, minus its state if that is not free; with heat, a colour.
	styleOf(i) {
		const { plan } = this;
		if (this.heat) return this.heatColor(this.heat(plan.rowAt(i)));
		const status = plan.status[i];
		const category = plan.categoryOf[i];
		return status === FREE ? (this.isWanted(category) ? category : FADED + category) : -status;
	}

	place(view, i) {
		const { plan } = this;
		const size = Math.max(1.5, plan.rowAt(i).size * view.scale);
		const [x, y] = onScreen(view, ...plan.place(i));
		return { x: x - size / 2, y: y - size / 2, size };
	}

	paintList(view, style, list) {
		const { plan, seats, tones } = this;
		const isTaken = style < 0;
		const isFaded = style >= FADED;
		const category = isFaded ? style - FADED : style;
		const full = isTaken ? undefined : this.heat ? style : tones.category(category);
		const color = isFaded ? mix(tones.paper, full, 0.22) : full;
		if (this.level(view) === "dots") {
			seats.fillStyle = color ?? (style === -HELD ? tones.held : tones.sold);
			const share = isTaken ? (style === -HELD ? 0.62 : 0.5) : 1;
			for (const i of list) {
				const { x, y, size } = this.place(view, i);
				const side = size * share;
				seats.fillRect(x + (size - side) / 2, y + (size - side) / 2, side, side);
			}
			return;
		}
		const hasSign = this.accessible.has(style);
		const hasNumbers = !isTaken && !isFaded && !this.heat && !hasSign && plan.typical * view.scale >= NUMBERS_PX && list.length < NUMBERS_MAX;
		const ink = color && inkOn(color);
		const sharp = (at) => Math.round((at - 0.5) * view.ratio) / view.ratio;
		for (const i of list) {
			const { x, y, size } = this.place(view, i);
			const sprite = this.sprite(style, color, Math.max(3, Math.round(size * view.ratio)));
			const side = sprite.width / view.ratio;
			seats.drawImage(sprite, sharp(x), sharp(y), side, side);
			if (hasNumbers) this.write(seats, plan.numbers[i], x + size / 2, y + size / 2 + 0.5, size * 0.42, ink, 600);
		}
	}

	sprite(style, color, pixels) {
		const key = `${style}/${pixels}`;
		let sprite = this.sprites.get(key);
		if (!sprite) {
			if (this.sprites.size > 400) this.sprites.clear();
			sprite = document.createElement("canvas");
			sprite.width = sprite.height = pixels + 2;
			const ctx = sprite.getContext("2d");
			drawSign(ctx, this.tones, color ? "free" : KINDS[-style], color, 1, 1, pixels);
			if (this.accessible.has(style)) drawWheelchair(ctx, inkOn(color), 1, 1, pixels);
			this.sprites.set(key, sprite);
		}
		return sprite;
	}
}

export const arrow = (way) => ({ "<": "←", ">": "→", "<>": "↔" })[way] ?? "";

// "Block 101" is 101 where there is no room for more.
const shortName = (name) => (name.length > 8 ? (/\d+\w*$/.exec(name)?.[0] ?? name) : name);

function seenIn({ scale, x, y, width, height }) {
	const window = { left: -x / scale, top: -y / scale, right: (width - x) / scale, bottom: (height - y) / scale };
	return (part) => part.box.meets(window);
}
