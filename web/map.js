// The seat map that people move and choose on: canvases, fingers, mouse and keys. What it shows is painted by draw.js.

import { h, icon } from "./dom.js";
import { Painter, SEATS_PX, drawSign } from "./draw.js";
import { t } from "./i18n.js";
import { FREE } from "./plan.js";

/** The largest size of a seat, in pixels. */
const LARGEST_PX = 46;
/** The size that a tap into the distance zooms to. */
const COMFORTABLE_PX = 24;
/** Seats from this size on can be hit: with a mouse, with a finger. */
const MOUSE_PX = 7;
const FINGER_PX = 15;
/** A frame that costs more than this is not painted anew while somebody drags: what is there is moved. */
const SLOW_MS = 7;
const SETTLE_MS = 90;
/** How often the map from afar follows changes. */
const BLOCKS_MS = 120;
const MINIMAP_MS = 1000;
const MINIMAP_PX = 112;
const GLIDE_MS = 260;
/** Sharper than this cannot be seen, and costs. */
const RATIO_MAX = 2;
/** Measurements of frames that the browser keeps. */
const MEASURES_MAX = 2000;

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class SeatMap {
  /** `toggle(seat)` is called with a seat that was chosen, `describe(seat)` gives the lines of its tooltip. */
  constructor(plan, { toggle, describe, drag = null }) {
    this.plan = plan;
    this.toggle = toggle;
    this.describe = describe;
    /** For operators: called with the seats of a rectangle that was drawn with the shift key held. */
    this.drag = drag;
    this.chosen = new Set();
    this.mine = new Set();
    this.focus = -1;
    this.hover = -1;
    this.changed = [];
    this.pointers = new Map();
    this.measured = 0;
    this.blocksPainted = 0;
    this.minimapPainted = -Infinity;
    this.cost = 0;
    this.view = { scale: 1, x: 0, y: 0, ratio: 1, width: 0, height: 0 };
    this.build();
  }

  build() {
    this.below = h("canvas", { "aria-hidden": "true" });
    this.seats = h("canvas", { "aria-hidden": "true" });
    this.above = h("canvas", {
      tabindex: "0", role: "application", id: "map", "aria-label": t("map.label"), "aria-describedby": "map-help",
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
    this.tip = h("div", { class: "tip", hidden: true });
    this.said = h("p", { class: "unseen", "aria-live": "polite" });
    this.minimap = h("canvas", { class: "minimap", "aria-hidden": "true", hidden: true, onpointerdown: (event) => this.jump(event) });
    const button = (name, label, act) => h("button", { type: "button", class: "round", "aria-label": label, title: label, onclick: act }, icon(name));
    this.moving = h("div", { class: "moving" }, this.below, this.seats);
    this.node = h("div", { class: "map" }, this.moving, this.above, this.tip, this.minimap,
      h("div", { class: "zoom" },
        button("plus", t("map.in"), () => this.zoomIn()),
        button("minus", t("map.out"), () => this.glideBy(1 / 1.7)),
        button("fit", t("map.fit"), () => this.glideTo(this.fitted(this.plan.box)))),
      h("p", { class: "unseen", id: "map-help" }, t("map.help")), this.said);
    /** For tests, and for whoever looks for a fault with the browser's tools. */
    this.node.seatMap = this;
    this.painter = new Painter(this.plan, this.below, this.seats);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.retone = () => {
      this.painter.retone();
      this.redraw("all");
    };
    this.dark.addEventListener("change", this.retone);
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.node);
  }

  close() {
    this.watch.disconnect();
    this.dark.removeEventListener("change", this.retone);
    cancelAnimationFrame(this.frame);
  }

  // What is shown

  resize() {
    const { view, plan } = this;
    const { clientWidth: width, clientHeight: height } = this.node;
    if (width === 0 || height === 0) return;
    const isFirst = view.width === 0;
    const before = { ...view };
    view.width = width;
    view.height = height;
    view.ratio = Math.min(RATIO_MAX, devicePixelRatio);
    for (const canvas of [this.below, this.seats, this.above]) {
      canvas.width = Math.round(width * view.ratio);
      canvas.height = Math.round(height * view.ratio);
    }
    if (isFirst) Object.assign(view, this.fitted(plan.box));
    else {
      view.x += (width - before.width) / 2;
      view.y += (height - before.height) / 2;
    }
    const side = Math.min(MINIMAP_PX, width / 4) / Math.max(plan.box.right - plan.box.left, plan.box.bottom - plan.box.top);
    this.minimap.width = Math.ceil((plan.box.right - plan.box.left) * side * view.ratio);
    this.minimap.height = Math.ceil((plan.box.bottom - plan.box.top) * side * view.ratio);
    this.minimap.style.width = `${this.minimap.width / view.ratio}px`;
    this.minimap.style.height = `${this.minimap.height / view.ratio}px`;
    this.minimapPainted = -Infinity;
    this.redraw("all");
  }

  /** The view that shows a part of the plan, as large as it can be. */
  fitted(box, largest = LARGEST_PX) {
    const { width, height } = this.view;
    const margin = Math.min(28, width * 0.05);
    const scale = Math.min((width - 2 * margin) / (box.right - box.left), (height - 2 * margin) / (box.bottom - box.top), largest / this.plan.typical);
    return { scale, x: width / 2 - ((box.left + box.right) / 2) * scale, y: height / 2 - ((box.top + box.bottom) / 2) * scale };
  }

  bounded({ scale, x, y }) {
    const { width, height } = this.view;
    const { box } = this.plan;
    const inside = (offset, from, to, room) => {
      const half = room / 2;
      return Math.min(half - from * scale, Math.max(half - to * scale, offset));
    };
    return { scale, x: inside(x, box.left, box.right, width), y: inside(y, box.top, box.bottom, height) };
  }

  zoomed(factor, x, y, from = this.view) {
    const least = Math.min(this.fitted(this.plan.box).scale * 0.8, LARGEST_PX / this.plan.typical);
    const scale = Math.min(LARGEST_PX / this.plan.typical, Math.max(least, from.scale * factor));
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
      // The point that stays where it is, if there is one, does so on the whole way.
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

  /** Zooms in on what is in the middle; where that is a stage or a field, on the seats next to it. */
  zoomIn() {
    const { view, plan } = this;
    const target = this.zoomed(1.7, view.width / 2, view.height / 2);
    const seat = this.middle();
    const [x, y] = [plan.xs[seat] * target.scale, plan.ys[seat] * target.scale];
    const isOut = (at, room) => at < 0.15 * room || at > 0.85 * room;
    if (isOut(x + target.x, view.width) || isOut(y + target.y, view.height)) Object.assign(target, { x: view.width / 2 - x, y: view.height / 2 - y });
    this.glideTo(this.bounded(target));
  }

  /** Brings seats into sight. */
  showSeats(seats) {
    const { plan } = this;
    const [first] = seats;
    const scale = Math.max(this.view.scale, COMFORTABLE_PX / plan.typical);
    const x = seats.reduce((sum, i) => sum + plan.xs[i], 0) / seats.length;
    const y = seats.reduce((sum, i) => sum + plan.ys[i], 0) / seats.length;
    this.focus = first;
    this.glideTo(this.bounded({ scale, x: this.view.width / 2 - x * scale, y: this.view.height / 2 - y * scale }));
  }

  // Painting

  /** Asks for a frame: "above" for what is chosen and pointed at, "seats" for those that changed, "all" for everything. */
  redraw(what) {
    if (what === "all") this.stale = true;
    this.frame ??= requestAnimationFrame((now) => this.draw(now));
  }

  /** Seats have changed. */
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
      // What is there already is moved by the compositor; it is painted anew when it comes to rest.
      const { view, painted } = this;
      const by = view.scale / painted.scale;
      this.moving.style.transform = `translate(${view.x - painted.x * by}px, ${view.y - painted.y * by}px) scale(${by})`;
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.redraw("all"), SETTLE_MS);
      return;
    }
    this.painter.paint(this.view);
    this.moving.style.transform = "";
    this.painted = { ...this.view, at: begun };
    this.stale = false;
    this.changed.length = 0;
    this.blocksPainted = begun;
    this.cost = performance.now() - begun;
    if (this.gliding) this.redraw("all");
  }

  paintChanged(begun) {
    if (this.painter.level(this.view) !== "blocks") {
      this.painter.repaint(this.view, this.changed);
      this.changed.length = 0;
    } else if (begun - this.blocksPainted >= BLOCKS_MS) {
      this.painter.paint(this.view);
      this.painted = { ...this.view, at: begun };
      this.changed.length = 0;
      this.blocksPainted = begun;
    } else {
      clearTimeout(this.following);
      this.following = setTimeout(() => this.redraw("seats"), BLOCKS_MS - (begun - this.blocksPainted));
    }
  }

  paintAbove() {
    const { view, painter, plan } = this;
    const ctx = this.above.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.above.width, this.above.height);
    ctx.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    painter.paintZoneNames(ctx, view);
    for (const seats of [this.mine, this.chosen]) {
      for (const i of seats) {
        const { x, y, size } = this.grown(painter.place(view, i, plan.rowAt(i)), 1.22, 9);
        drawSign(ctx, painter.tones, "mine", null, x, y, size);
      }
    }
    const isFocused = document.activeElement === this.above && this.focus >= 0;
    for (const [i, isShown] of [[this.hover, this.hover >= 0], [this.focus, isFocused]]) {
      if (!isShown) continue;
      const { x, y, size } = this.grown(painter.place(view, i, plan.rowAt(i)), 1.5, 14);
      ctx.lineWidth = 2;
      ctx.strokeStyle = painter.tones.ink;
      ctx.beginPath();
      ctx.roundRect(x, y, size, size, size * 0.3);
      ctx.stroke();
    }
    if (this.corner) {
      const { left, top, right, bottom } = this.rectangle();
      ctx.setLineDash([5, 4]);
      ctx.strokeStyle = painter.tones.ink;
      ctx.strokeRect(left, top, right - left, bottom - top);
      ctx.setLineDash([]);
    }
  }

  grown({ x, y, size }, factor, least) {
    const side = Math.max(least, size * factor);
    return { x: x - (side - size) / 2, y: y - (side - size) / 2, size: side };
  }

  paintMinimap(begun) {
    const { plan, view, minimap } = this;
    const isNear = view.scale > this.fitted(plan.box).scale * 1.5;
    minimap.hidden = !isNear;
    if (!isNear) return;
    const scale = minimap.width / view.ratio / (plan.box.right - plan.box.left);
    const small = { scale, x: -plan.box.left * scale, y: -plan.box.top * scale, ratio: view.ratio, width: minimap.width, height: minimap.height };
    if (begun - this.minimapPainted > MINIMAP_MS) {
      this.minimapPainted = begun;
      this.house ??= document.createElement("canvas");
      this.house.width = minimap.width;
      this.house.height = minimap.height;
      const ctx = this.house.getContext("2d");
      ctx.scale(view.ratio, view.ratio);
      this.painter.paintShapes(ctx, small);
      this.painter.paintBlocks(ctx, small);
    }
    const ctx = minimap.getContext("2d");
    ctx.clearRect(0, 0, minimap.width, minimap.height);
    ctx.drawImage(this.house, 0, 0);
    const part = (offset, room) => [(-offset / view.scale) * scale * view.ratio, (room / view.scale) * scale * view.ratio];
    const [left, width] = part(view.x + plan.box.left * view.scale, view.width);
    const [top, height] = part(view.y + plan.box.top * view.scale, view.height);
    ctx.lineWidth = 2 * view.ratio;
    ctx.strokeStyle = this.painter.tones.ink;
    ctx.strokeRect(left, top, width, height);
  }

  jump(event) {
    const { plan, view, minimap } = this;
    const share = (at, size) => at / size;
    const x = plan.box.left + share(event.offsetX, minimap.clientWidth) * (plan.box.right - plan.box.left);
    const y = plan.box.top + share(event.offsetY, minimap.clientHeight) * (plan.box.bottom - plan.box.top);
    this.glideTo(this.bounded({ scale: view.scale, x: view.width / 2 - x * view.scale, y: view.height / 2 - y * view.scale }));
  }

  // Fingers and mouse

  where(event) {
    const box = this.node.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  seatUnder({ x, y }, isFinger) {
    const { view, plan } = this;
    if (plan.typical * view.scale < (isFinger ? FINGER_PX : MOUSE_PX)) return -1;
    const reach = isFinger ? 14 / view.scale : 0;
    return plan.seatAt((x - view.x) / view.scale, (y - view.y) / view.scale, reach);
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

  /** What two fingers hold on to. */
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
    this.point(-1);
    const { grip } = this;
    const { x, y, apart } = this.hands();
    const zoomed = grip.apart > 0 ? this.zoomed(apart / grip.apart, grip.x, grip.y, grip.view) : grip.view;
    this.show(this.bounded({ scale: zoomed.scale, x: zoomed.x + x - grip.x, y: zoomed.y + y - grip.y }));
  }

  rectangle() {
    const { from, to } = this.corner;
    return { left: Math.min(from.x, to.x), right: Math.max(from.x, to.x), top: Math.min(from.y, to.y), bottom: Math.max(from.y, to.y) };
  }

  release(event, isCancelled = false) {
    const at = this.where(event);
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.corner) {
      this.takeRectangle();
    } else if (!this.pressed.moved && !isCancelled) {
      this.tap(at, event);
    }
    if (this.pointers.size > 0) this.begin();
    this.redraw("all");
  }

  takeRectangle() {
    const { left, right, top, bottom } = this.rectangle();
    const { plan, view } = this;
    const seats = [];
    for (let i = 0; i < plan.size; i += 1) {
      const [x, y] = [plan.xs[i] * view.scale + view.x, plan.ys[i] * view.scale + view.y];
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
    if (seat >= 0) {
      this.focus = seat;
      if (isFinger) this.point(seat, at);
      this.toggle(seat);
    } else if (this.plan.typical * this.view.scale < (isFinger ? FINGER_PX : MOUSE_PX)) {
      this.glideBy((COMFORTABLE_PX / this.plan.typical) / this.view.scale, at.x, at.y);
    } else {
      this.point(-1);
      if (isDouble) this.glideBy(1.8, at.x, at.y);
    }
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

  /** Shows what a seat is. */
  point(seat, at = null) {
    if (seat !== this.hover) this.redraw("above");
    this.hover = seat;
    this.above.style.cursor = seat >= 0 && this.plan.status[seat] === FREE ? "pointer" : "grab";
    this.tip.hidden = seat < 0;
    if (seat < 0) return;
    const { view, plan, tip } = this;
    tip.replaceChildren(...this.describe(seat).map((line, i) => h("p", { class: i === 0 ? "strong" : "" }, line)));
    const x = plan.xs[seat] * view.scale + view.x;
    const y = plan.ys[seat] * view.scale + view.y;
    const gap = Math.max(10, (plan.rowAt(seat).size * view.scale) / 2 + 8) + (at ? 4 : 0);
    const left = Math.min(view.width - tip.offsetWidth - 8, Math.max(8, x - tip.offsetWidth / 2));
    const top = y - gap - tip.offsetHeight > 6 ? y - gap - tip.offsetHeight : y + gap;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  // Keys

  key(event) {
    const { plan } = this;
    const way = ARROWS[event.key];
    if (way && plan.size > 0) {
      const next = this.focus < 0 ? this.middle() : plan.towards(this.focus, ...way);
      if (next >= 0) this.moveTo(next);
    } else if ((event.key === "Enter" || event.key === " ") && this.focus >= 0) {
      this.toggle(this.focus);
      this.say(this.focus);
    } else if (event.key === "+" || event.key === "=") this.zoomIn();
    else if (event.key === "-") this.glideBy(1 / 1.7);
    else if (event.key === "0") this.glideTo(this.fitted(plan.box));
    else if (event.key === "Escape") this.point(-1);
    else return;
    event.preventDefault();
  }

  middle() {
    const { view, plan } = this;
    const reach = Math.max(view.width, view.height) / view.scale;
    return plan.seatAt((view.width / 2 - view.x) / view.scale, (view.height / 2 - view.y) / view.scale, reach);
  }

  moveTo(seat) {
    const { view, plan } = this;
    this.focus = seat;
    const [x, y] = [plan.xs[seat] * view.scale + view.x, plan.ys[seat] * view.scale + view.y];
    const isInside = x > 40 && y > 40 && x < view.width - 40 && y < view.height - 40;
    if (!isInside || plan.typical * view.scale < SEATS_PX) this.showSeats([seat]);
    this.point(seat);
    this.say(seat);
  }

  say(seat) {
    this.said.textContent = this.describe(seat).join(", ");
  }
}
