// The seat map under fingers, mouse and keys.

import { h, icon } from "./dom.js";
import { Painter, SEATS_PX, clear, drawSign, onScreen } from "./draw.js";
import { page } from "./i18n.js";
import { Box, FREE } from "./plan.js";

const LARGEST_PX = 46;
// A tap into the distance zooms to it.
const COMFORTABLE_PX = 24;
// Smaller seats cannot be hit.
const MOUSE_PX = 7;
const FINGER_PX = 15;
// What costs more is moved while somebody drags, not painted anew.
const SLOW_MS = 7;
const SETTLE_MS = 90;
const BLOCKS_MS = 120;
const MINIMAP_MS = 1000;
const MINIMAP_PX = 112;
const GLIDE_MS = 260;
const OPENER_PX = 48;
// A page that scrolls: there a finger moves the page, not the map in it.
export const SCROLLING = "(max-width: 860px)";
// Sharper than this cannot be seen, and costs.
const RATIO_MAX = 2;
const MEASURES_MAX = 2000;

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class SeatMap {
	chosen = new Set();
	mine = new Set();
	focus = -1;
	hover = -1;
	// Whose card is shown.
	marked = -1;
	isOpen = false;
	changed = [];
	pointers = new Map();
	measured = 0;
	blocksPainted = 0;
	cost = 0;
	view = { scale: 1, x: 0, y: 0, ratio: 1, width: 0, height: 0 };

	// `describe(seat)` gives lines; `drag(seats)`, for operators, takes a rectangle drawn with shift; `touched` is told what was
	// touched: a `seat`, an `area`, or from afar a `zone`; `opened` whether the map is all there is. `tongue` and `look` are those
	// of the page, unless others are given.
	constructor(plan, { toggle, describe, drag = null, touched = null, opened = () => {}, tongue = page, look }) {
		Object.assign(this, { plan, toggle, describe, drag, touched, opened, t: tongue.t, look });
		this.build();
	}

	build() {
		const { t } = this;
		const canvas = (tag, properties) => h(tag, { "aria-hidden": "true", ...properties });
		this.below = canvas("canvas");
		this.seats = canvas("canvas");
		this.above = h("canvas#map", {
			tabindex: "0", role: "application", "aria-label": t("map_label"), "aria-describedby": "map-help",
			onpointerdown: (event) => this.press(event),
			onpointermove: (event) => this.move(event),
			onpointerup: (event) => this.release(event),
			onpointercancel: (event) => this.release(event, true),
			onpointerleave: () => this.point(-1),
			onwheel: (event) => this.wheel(event),
			onkeydown: (event) => this.key(event),
			onblur: () => this.redraw("above"),
			onfocus: () => this.redraw("above"),
			ondblclick: (event) => event.preventDefault(),
		});
		this.tip = h("div.tip", { hidden: true });
		this.said = h("p.unseen", { "aria-live": "polite" });
		this.minimap = canvas("canvas.minimap", { hidden: true, onpointerdown: (event) => this.jump(event) });
		this.moving = h("div.moving", this.below, this.seats);
		const button = (name, label, onclick) => h("button.round", { "aria-label": label, title: label, onclick }, icon(name));
		this.opener = h("button.opener", { onclick: () => this.open(!this.isOpen) });
		this.node = h("div.map", this.moving, this.above, this.tip, this.minimap, this.opener,
			h("div.zoom",
				button("plus", t("map_in"), () => this.zoomIn()),
				button("minus", t("map_out"), () => this.zoomOut()),
				button("fit", t("map_fit"), () => this.glideTo(this.fitted()))),
			h("p#map-help.unseen", t("map_help")), this.said);
		this.nameOpener();
		// Two fingers are for the map also where one scrolls the page.
		const hold = (event) => event.touches.length > 1 && event.cancelable && event.preventDefault();
		for (const kind of ["touchstart", "touchmove"]) this.above.addEventListener(kind, hold, { passive: false });
		// For tests.
		this.node.seatMap = this;
		this.painter = new Painter(this.plan, this.below, this.seats, this.look);
		this.dark = matchMedia("(prefers-color-scheme: dark)");
		this.retone = () => {
			this.painter.retone();
			this.redraw("all");
		};
		this.dark.addEventListener("change", this.retone);
		this.scrolling = matchMedia(SCROLLING);
		this.widened = () => this.open(false);
		this.scrolling.addEventListener("change", this.widened);
		this.watch = new ResizeObserver(() => this.resize());
		this.watch.observe(this.node);
	}

	close() {
		this.watch.disconnect();
		this.dark.removeEventListener("change", this.retone);
		this.scrolling.removeEventListener("change", this.widened);
		cancelAnimationFrame(this.frame);
	}

	nameOpener() {
		const key = this.isOpen ? "map_close" : "map_open";
		this.opener.replaceChildren(icon(this.isOpen ? "close" : "open"), this.t(key));
	}

	// Whether it is all there is to see, so that one finger moves it.
	open(isOpen) {
		if (this.isOpen === isOpen) return;
		this.isOpen = isOpen;
		this.node.classList.toggle("open", isOpen);
		this.nameOpener();
		this.opened(isOpen);
		this.resize();
	}

	get isScrolledBy() {
		return this.scrolling.matches && !this.isOpen;
	}

	resize() {
		const { view, plan } = this;
		const { clientWidth: width, clientHeight: height } = this.node;
		if (width === 0 || height === 0) return;
		const [right, down] = [(width - view.width) / 2, (height - view.height) / 2];
		if (width === view.width && height === view.height && devicePixelRatio === this.pixels) return;
		this.pixels = devicePixelRatio;
		const isFirst = view.width === 0 || this.isFitted;
		Object.assign(view, { width, height, ratio: Math.min(RATIO_MAX, devicePixelRatio) });
		for (const canvas of [this.below, this.seats, this.above]) {
			canvas.width = Math.round(width * view.ratio);
			canvas.height = Math.round(height * view.ratio);
		}
		Object.assign(view, isFirst ? this.fitted() : { x: view.x + right, y: view.y + down });
		if (this.wanted) this.recentre(this.wanted);
		this.wanted = null;
		const [wide, high] = [plan.box.right - plan.box.left, plan.box.bottom - plan.box.top];
		const scale = Math.min(MINIMAP_PX, width / 4) / Math.max(wide, high);
		for (const [side, length] of [["width", wide], ["height", high]]) {
			this.minimap[side] = Math.ceil(length * scale * view.ratio);
			this.minimap.style[side] = `${this.minimap[side] / view.ratio}px`;
		}
		this.minimapPainted = -Infinity;
		this.redraw("all");
	}

	get closest() {
		return LARGEST_PX / this.plan.typical;
	}

	around(x, y, scale) {
		return { scale, x: this.view.width / 2 - x * scale, y: this.view.height / 2 - y * scale };
	}

	fitted({ left, top, right, bottom } = this.plan.box) {
		const { width, height } = this.view;
		const margin = 2 * Math.min(28, width * 0.05);
		// Below the button that opens it.
		const above = this.scrolling.matches ? OPENER_PX : 0;
		const scale = Math.min((width - margin) / (right - left), (height - margin - above) / (bottom - top), this.closest);
		const view = this.around((left + right) / 2, (top + bottom) / 2, scale);
		return { ...view, y: view.y + above / 2 };
	}

	bounded({ scale, x, y }) {
		const { width, height } = this.view;
		const { box } = this.plan;
		const inside = (offset, from, to, room) => Math.min(room / 2 - from * scale, Math.max(room / 2 - to * scale, offset));
		return { scale, x: inside(x, box.left, box.right, width), y: inside(y, box.top, box.bottom, height) };
	}

	zoomed(factor, x, y, from = this.view) {
		const least = Math.min(this.fitted().scale * 0.8, this.closest);
		const scale = Math.min(this.closest, Math.max(least, from.scale * factor));
		const by = scale / from.scale;
		return this.bounded({ scale, x: x - (x - from.x) * by, y: y - (y - from.y) * by });
	}

	show(view) {
		Object.assign(this.view, view);
		this.redraw("all");
	}

	glideTo(target) {
		const from = { ...this.view };
		if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.show(target);
		const begun = performance.now();
		this.gliding = (now) => {
			const share = Math.min(1, Math.max(0, (now - begun) / GLIDE_MS));
			const eased = 1 - (1 - share) ** 3;
			const scale = from.scale * (target.scale / from.scale) ** eased;
			// A point that stays where it is does so on the whole way.
			const way = target.scale === from.scale ? eased : (scale - from.scale) / (target.scale - from.scale);
			Object.assign(this.view, { scale, x: from.x + (target.x - from.x) * way, y: from.y + (target.y - from.y) * way });
			if (share === 1) this.gliding = null;
			this.redraw("all");
		};
		this.redraw("all");
	}

	glideBy(factor, x = this.view.width / 2, y = this.view.height / 2) {
		this.glideTo(this.zoomed(factor, x, y));
	}

	zoomOut() {
		this.glideBy(1 / 1.7);
	}

	// Where a stage or a field is in the middle, on the seats next to it.
	zoomIn() {
		const { width, height } = this.view;
		const target = this.zoomed(1.7, width / 2, height / 2);
		const seat = this.plan.place(this.middle());
		const [x, y] = onScreen(target, ...seat);
		const isOut = (at, room) => at < 0.15 * room || at > 0.85 * room;
		this.glideTo(isOut(x, width) || isOut(y, height) ? this.bounded(this.around(...seat, target.scale)) : target);
	}

	get isFitted() {
		return Math.abs(this.view.scale / this.fitted().scale - 1) < 0.01;
	}

	// As `centre` told it, also of another window.
	recentre({ scale, x, y }) {
		if (this.view.width > 0) this.show(this.bounded(this.around(x, y, Math.min(this.closest, scale))));
		else this.wanted = { scale, x, y };
	}

	// What is in the middle, and how large: in the plan's own measure.
	get centre() {
		const { scale, x, y, width, height } = this.view;
		return { scale, x: (width / 2 - x) / scale, y: (height / 2 - y) / scale };
	}

	showSeats(seats) {
		const { xs, ys, typical } = this.plan;
		const mean = (all) => seats.reduce((sum, i) => sum + all[i], 0) / seats.length;
		[this.focus] = seats;
		this.glideTo(this.bounded(this.around(mean(xs), mean(ys), Math.max(this.view.scale, COMFORTABLE_PX / typical))));
	}

	// What is "above" the seats, "seats" that changed, or "all".
	redraw(what) {
		if (what === "all") this.stale = true;
		this.frame ??= requestAnimationFrame((now) => this.draw(now));
	}

	change(seats) {
		for (const i of seats) this.changed.push(i);
		if (seats.includes(this.hover)) this.point(this.hover);
		this.redraw("seats");
	}

	draw(now) {
		this.frame = null;
		if (this.view.width === 0) return;
		const begun = performance.now();
		this.gliding?.(now);
		if (this.stale) this.paintAll(begun);
		else if (this.changed.length > 0) this.paintChanged(begun);
		this.paintAbove();
		this.paintMinimap(begun);
		performance.measure("map-frame", { start: begun });
		this.measured += 1;
		if (this.measured % MEASURES_MAX === 0) performance.clearMeasures("map-frame");
	}

	paintAll(begun) {
		const inHand = this.pointers.size > 0 || this.gliding || begun - this.wheeled < SETTLE_MS;
		if (inHand && this.cost > SLOW_MS && begun - this.painted.at < 4 * SETTLE_MS) {
			// The compositor moves it until it comes to rest.
			const { view, painted } = this;
			const by = view.scale / painted.scale;
			this.moving.style.transform = `translate(${view.x - painted.x * by}px, ${view.y - painted.y * by}px) scale(${by})`;
			clearTimeout(this.settling);
			this.settling = setTimeout(() => this.redraw("all"), SETTLE_MS);
			return;
		}
		this.paintNow(begun);
		this.moving.style.transform = "";
		this.cost = performance.now() - begun;
		if (this.gliding) this.redraw("all");
	}

	paintNow(begun) {
		this.painter.paint(this.view);
		this.painted = { ...this.view, at: begun };
		this.stale = false;
		this.changed.length = 0;
		this.blocksPainted = begun;
	}

	paintChanged(begun) {
		const age = begun - this.blocksPainted;
		if (this.painter.level(this.view) !== "blocks") {
			this.painter.repaint(this.view, this.changed);
			this.changed.length = 0;
		} else if (age >= BLOCKS_MS) this.paintNow(begun);
		else {
			clearTimeout(this.following);
			this.following = setTimeout(() => this.redraw("seats"), BLOCKS_MS - age);
		}
	}

	paintAbove() {
		const { view, painter } = this;
		const ctx = this.above.getContext("2d");
		clear(ctx, view);
		painter.paintZoneNames(ctx, view);
		for (const i of [...this.mine, ...this.chosen]) {
			const { x, y, size } = this.grown(i, 1.22, 9);
			drawSign(ctx, painter.tones, "mine", null, x, y, size);
		}
		ctx.strokeStyle = painter.tones.ink;
		ctx.lineWidth = 2;
		const focus = this.above.getRootNode().activeElement === this.above ? this.focus : -1;
		for (const i of new Set([this.hover, this.marked, focus].filter((seat) => seat >= 0))) {
			const { x, y, size } = this.grown(i, 1.5, 14);
			ctx.beginPath();
			ctx.roundRect(x, y, size, size, size * 0.3);
			ctx.stroke();
		}
		if (this.corner) {
			const { left, top, right, bottom } = this.rectangle();
			ctx.setLineDash([5, 4]);
			ctx.strokeRect(left, top, right - left, bottom - top);
			ctx.setLineDash([]);
		}
	}

	grown(seat, factor, least) {
		const { x, y, size } = this.painter.place(this.view, seat);
		const side = Math.max(least, size * factor);
		return { x: x - (side - size) / 2, y: y - (side - size) / 2, size: side };
	}

	paintMinimap(begun) {
		const { plan: { box }, view, minimap } = this;
		minimap.hidden = view.scale <= this.fitted().scale * 1.5;
		if (minimap.hidden) return;
		const { width, height } = minimap;
		const scale = width / (box.right - box.left);
		if (begun - this.minimapPainted > MINIMAP_MS) {
			this.minimapPainted = begun;
			this.house = h("canvas", { width, height });
			const ctx = this.house.getContext("2d");
			const small = { scale, x: -box.left * scale, y: -box.top * scale, width, height };
			this.painter.paintShapes(ctx, small);
			this.painter.paintBlocks(ctx, small);
		}
		const ctx = minimap.getContext("2d");
		ctx.clearRect(0, 0, width, height);
		ctx.drawImage(this.house, 0, 0);
		ctx.lineWidth = 2 * view.ratio;
		ctx.strokeStyle = this.painter.tones.ink;
		const by = scale / view.scale;
		ctx.strokeRect(-view.x * by - box.left * scale, -view.y * by - box.top * scale, view.width * by, view.height * by);
	}

	jump({ offsetX, offsetY }) {
		const { plan: { box }, minimap } = this;
		const scale = minimap.clientWidth / (box.right - box.left);
		this.glideTo(this.bounded(this.around(box.left + offsetX / scale, box.top + offsetY / scale, this.view.scale)));
	}

	where(event) {
		const box = this.node.getBoundingClientRect();
		return { x: event.clientX - box.left, y: event.clientY - box.top };
	}

	canHit(isFinger) {
		return this.plan.typical * this.view.scale >= (isFinger ? FINGER_PX : MOUSE_PX);
	}

	seatUnder(at, isFinger) {
		return this.canHit(isFinger) ? this.seatNear(at, isFinger ? 14 : 0) : -1;
	}

	seatNear({ x, y }, pixels) {
		const { view, plan } = this;
		return plan.seatAt((x - view.x) / view.scale, (y - view.y) / view.scale, pixels / view.scale);
	}

	press(event) {
		this.above.setPointerCapture(event.pointerId);
		this.gliding = null;
		const at = this.where(event);
		this.pointers.set(event.pointerId, at);
		if (this.drag && event.shiftKey) this.corner = { from: at, to: at };
		this.pressed = { ...at, moved: this.pointers.size > 1, time: event.timeStamp };
		this.begin();
	}

	begin() {
		this.grip = { view: { ...this.view }, ...this.hands() };
	}

	hands() {
		const [a, b = a] = [...this.pointers.values()];
		return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
	}

	move(event) {
		const at = this.where(event);
		if (!this.pointers.has(event.pointerId)) {
			if (event.pointerType === "mouse") this.point(this.seatUnder(at, false), at);
			return;
		}
		this.pointers.set(event.pointerId, at);
		if (this.corner) {
			this.corner.to = at;
			this.redraw("above");
			return;
		}
		if (Math.hypot(at.x - this.pressed.x, at.y - this.pressed.y) > 6) this.pressed.moved = true;
		if (!this.pressed.moved) return;
		if (this.pointers.size === 1 && event.pointerType !== "mouse" && this.isScrolledBy) return;
		this.point(-1);
		const { grip } = this;
		const { x, y, apart } = this.hands();
		const zoomed = grip.apart > 0 ? this.zoomed(apart / grip.apart, grip.x, grip.y, grip.view) : grip.view;
		this.show(this.bounded({ scale: zoomed.scale, x: zoomed.x + x - grip.x, y: zoomed.y + y - grip.y }));
	}

	rectangle() {
		const { from, to } = this.corner;
		const box = new Box();
		for (const { x, y } of [from, to]) box.add(x, y);
		return box;
	}

	release(event, isCancelled = false) {
		const at = this.where(event);
		if (!this.pointers.delete(event.pointerId)) return;
		if (this.corner) this.takeRectangle();
		else if (!this.pressed.moved && !isCancelled) this.tap(at, event);
		if (this.pointers.size > 0) this.begin();
		this.redraw("all");
	}

	takeRectangle() {
		const { left, right, top, bottom } = this.rectangle();
		const { plan, view } = this;
		const seats = [];
		for (let i = 0; i < plan.size; i += 1) {
			const [x, y] = onScreen(view, ...plan.place(i));
			if (x >= left && x <= right && y >= top && y <= bottom) seats.push(i);
		}
		this.corner = null;
		this.drag(seats);
	}

	tap(at, event) {
		const isFinger = event.pointerType !== "mouse";
		const seat = this.seatUnder(at, isFinger);
		const isDouble = event.timeStamp - (this.tapped ?? -1000) < 320;
		this.tapped = event.timeStamp;
		const area = seat < 0 && this.touched ? this.painter.areaUnder(this.view, at.x, at.y) : undefined;
		if (seat >= 0) {
			this.focus = seat;
			if (isFinger && !this.touched) this.point(seat, at);
			this.toggle(seat);
			this.touched?.({ seat });
		} else if (area) this.touched({ area });
		else if (!this.canHit(isFinger)) this.approach(at);
		else {
			this.point(-1);
			if (isDouble) this.glideBy(1.8, at.x, at.y);
		}
	}

	// To where seats can be hit; a page that scrolls has too little room for that.
	approach({ x, y }) {
		const { view, plan } = this;
		const [planX, planY] = [(x - view.x) / view.scale, (y - view.y) / view.scale];
		const zone = plan.zoneUnder(planX, planY);
		if (zone) this.touched?.({ zone });
		const factor = COMFORTABLE_PX / plan.typical / view.scale;
		if (!this.isScrolledBy) return this.glideBy(factor, x, y);
		this.open(true);
		this.glideTo(this.bounded(this.around(planX, planY, COMFORTABLE_PX / plan.typical)));
	}

	wheel(event) {
		event.preventDefault();
		this.gliding = null;
		this.wheeled = performance.now();
		const lines = event.deltaMode === 1 ? 30 : 1;
		const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016));
		const { x, y } = this.where(event);
		this.point(-1);
		this.show(this.zoomed(factor, x, y));
	}

	point(seat, at = null) {
		if (seat !== this.hover) this.redraw("above");
		this.hover = seat;
		this.above.style.cursor = seat >= 0 && this.plan.status[seat] === FREE ? "pointer" : "grab";
		this.tip.hidden = seat < 0;
		if (seat < 0) return;
		const { view, plan, tip } = this;
		tip.replaceChildren(...this.describe(seat).map((line, i) => h(i === 0 ? "p.strong" : "p", line)));
		const [x, y] = onScreen(view, ...plan.place(seat));
		const gap = Math.max(10, (plan.rowAt(seat).size * view.scale) / 2 + 8) + (at ? 4 : 0);
		const left = Math.min(view.width - tip.offsetWidth - 8, Math.max(8, x - tip.offsetWidth / 2));
		const top = y - gap - tip.offsetHeight > 6 ? y - gap - tip.offsetHeight : y + gap;
		tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
	}

	key(event) {
		const { plan } = this;
		const way = ARROWS[event.key];
		if (way && plan.size > 0) {
			const next = this.focus < 0 ? this.middle() : plan.towards(this.focus, ...way);
			if (next >= 0) this.moveTo(next);
		} else if ((event.key === "Enter" || event.key === " ") && this.focus >= 0) {
			this.toggle(this.focus);
			this.touched?.({ seat: this.focus });
			this.say(this.focus);
		} else if (event.key === "+" || event.key === "=") this.zoomIn();
		else if (event.key === "-") this.zoomOut();
		else if (event.key === "0") this.glideTo(this.fitted());
		else if (event.key === "Escape") {
			this.point(-1);
			this.open(false);
		}
		else return;
		event.preventDefault();
	}

	middle() {
		const { width, height } = this.view;
		return this.seatNear({ x: width / 2, y: height / 2 }, Math.max(width, height));
	}

	moveTo(seat) {
		const { view, plan } = this;
		this.focus = seat;
		const [x, y] = onScreen(view, ...plan.place(seat));
		const isInside = x > 40 && y > 40 && x < view.width - 40 && y < view.height - 40;
		if (!isInside || plan.typical * view.scale < SEATS_PX) this.showSeats([seat]);
		this.point(seat);
		this.say(seat);
	}

	say(seat) {
		this.said.textContent = this.describe(seat).join(", ");
	}
}
