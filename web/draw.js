// How a seating plan looks, at which size. Knows no mouse and no network.

import { FREE, HELD } from "./plan.js";

// Told apart with any kind of colour vision, after Okabe and Ito.
const CATEGORIES = {
	light: ["#0a62a8", "#d1590a", "#00856a", "#b5508e", "#b07a00", "#3b93c9", "#6f4fa0", "#7a5c26"],
	dark: ["#5aaef0", "#f58c4c", "#35c7a0", "#e79bc9", "#efb83a", "#9ad4f7", "#b79bea", "#cfae66"],
};

const TONES = {
	light: { paper: "#fdfcfa", ink: "#1b1f24", held: "#8a929b", sold: "#d9d6cf", cross: "#b3afa6", blocked: "#c9c5bc", shape: "#e7e3da", edge: "#d5d0c4", label: "#4b535c", onMine: "#ffffff", onFree: "#ffffff" },
	dark: { paper: "#171b21", ink: "#eef1f4", held: "#8d97a3", sold: "#2c333c", cross: "#525c68", blocked: "#3b434e", shape: "#262c35", edge: "#39424d", label: "#b2bcc7", onMine: "#14181d", onFree: "#10141a" },
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
const FONT = "system-ui, -apple-system, 'Apple SD Gothic Neo', 'Noto Sans KR', sans-serif";
const SHADES = 8;

export function theme() {
	const name = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
	const colors = CATEGORIES[name];
	return { ...TONES[name], heat: HEAT[name], category: (i) => colors[i % colors.length] };
}

function mix(a, b, share) {
	const part = (color, k) => Number.parseInt(color.slice(1 + 2 * k, 3 + 2 * k), 16);
	const channels = [0, 1, 2].map((k) => Math.round(part(a, k) * (1 - share) + part(b, k) * share));
	return `rgb(${channels.join(" ")})`;
}

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
	const filling = { free: color, sold: tones.sold, mine: tones.ink }[kind];
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

const KINDS = ["free", "held", "sold", "blocked"];

export const onScreen = ({ scale, x, y }, planX, planY) => [planX * scale + x, planY * scale + y];

export function clear(ctx, { ratio }) {
	ctx.setTransform(1, 0, 0, 1, 0, 0);
	ctx.clearRect(0, 0, ctx.canvas.width, ctx.canvas.height);
	ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
}

// On two canvases: what stands still below, the seats above.
export class Painter {
	constructor(plan, below, seats) {
		this.plan = plan;
		this.below = below.getContext("2d");
		this.seats = seats.getContext("2d");
		this.tones = theme();
		this.sprites = new Map();
		this.byStyle = new Map();
		// Set by operators: how much is wanted, 0 to 1, of a row.
		this.heat = null;
	}

	retone() {
		this.tones = theme();
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
			this.paintBlockNames(seats, view);
		} else {
			this.paintRowNames(below, view);
			this.paintSeats(view);
		}
	}

	paintShapes(ctx, view) {
		const s = view.scale;
		ctx.strokeStyle = this.tones.edge;
		ctx.lineWidth = 1;
		for (const shape of this.plan.shapes) {
			ctx.save();
			ctx.translate(...onScreen(view, shape.x, shape.y));
			ctx.rotate((shape.rotation * Math.PI) / 180);
			ctx.beginPath();
			let [centreX, centreY] = [0, 0];
			const { width, height, radii, points } = shape;
			if (radii) ctx.ellipse(0, 0, radii[0] * s, radii[1] * s, 0, 0, 2 * Math.PI);
			else if (points) for (const [x, y] of points) ctx.lineTo(x * s, y * s);
			else if (width && height) {
				ctx.roundRect(0, 0, width * s, height * s, Math.min(10, (height * s) / 4));
				[centreX, centreY] = [(width * s) / 2, (height * s) / 2];
			}
			ctx.closePath();
			ctx.fillStyle = this.tones.shape;
			ctx.fill();
			ctx.stroke();
			const size = Math.min(22, Math.max(9, (height || 40) * s * 0.34));
			const [textX, textY] = shape.textAt;
			if (shape.text && (width || 200) * s > 40) this.write(ctx, shape.text, centreX + textX * s, centreY + textY * s, size, this.tones.label, 600);
			ctx.restore();
		}
	}

	write(ctx, text, x, y, size, color, weight = 500, align = "center") {
		ctx.font = `${weight} ${size}px ${FONT}`;
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
		const share = Math.ceil((SHADES * block.free) / block.seats) / SHADES;
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
		for (const { box, name, seats } of plan.zones.filter(seenIn(view))) {
			// So that zones of a kind show their names together.
			const wide = Math.sqrt(seats) * plan.typical * view.scale;
			if (wide < NAME_PX) continue;
			const [x, y] = onScreen(view, (box.left + box.right) / 2, (box.top + box.bottom) / 2);
			this.writeTag(ctx, shortName(name), x, y, Math.min(15, Math.max(9, wide / 3.2)), this.tones.ink);
		}
	}

	paintZoneNames(ctx, view) {
		if (this.level(view) === "blocks") return;
		for (const { box, name } of this.plan.zones.filter(seenIn(view))) {
			const [x, y] = onScreen(view, box.left, box.top);
			// Where rows are bent, the corner is empty.
			if (name) this.writeTag(ctx, name, x, y - 9, 12, this.tones.label, "left");
		}
	}

	writeTag(ctx, text, x, y, size, color, align = "center") {
		ctx.font = `650 ${size}px ${FONT}`;
		const width = ctx.measureText(text).width + size * 0.8;
		ctx.fillStyle = this.tones.paper;
		ctx.globalAlpha = 0.9;
		ctx.beginPath();
		ctx.roundRect(align === "left" ? x - size * 0.4 : x - width / 2, y - size * 0.75, width, size * 1.5, size * 0.75);
		ctx.fill();
		ctx.globalAlpha = 1;
		this.write(ctx, text, x, y, size, color, 650, align);
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
		return status === FREE ? plan.categoryOf[i] : -status;
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
		const color = isTaken ? undefined : this.heat ? style : tones.category(style);
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
		const hasNumbers = !isTaken && !this.heat && plan.typical * view.scale >= NUMBERS_PX && list.length < NUMBERS_MAX;
		const sharp = (at) => Math.round((at - 0.5) * view.ratio) / view.ratio;
		for (const i of list) {
			const { x, y, size } = this.place(view, i);
			const sprite = this.sprite(style, color, Math.max(3, Math.round(size * view.ratio)));
			const side = sprite.width / view.ratio;
			seats.drawImage(sprite, sharp(x), sharp(y), side, side);
			if (hasNumbers) this.write(seats, plan.numbers[i], x + size / 2, y + size / 2 + 0.5, size * 0.42, tones.onFree, 600);
		}
	}

	sprite(style, color, pixels) {
		const key = `${style}/${pixels}`;
		let sprite = this.sprites.get(key);
		if (!sprite) {
			if (this.sprites.size > 400) this.sprites.clear();
			sprite = document.createElement("canvas");
			sprite.width = sprite.height = pixels + 2;
			drawSign(sprite.getContext("2d"), this.tones, color ? "free" : KINDS[-style], color, 1, 1, pixels);
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
