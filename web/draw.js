// How a seating plan looks: colours, the signs of seats, and what is painted at which size. Knows no mouse and no network.

import { BLOCKED, FREE, HELD, SOLD } from "./plan.js";

/** Told apart with any kind of colour vision (after Okabe and Ito), and by paper and night. */
const CATEGORIES = {
  light: ["#0a62a8", "#d1590a", "#00856a", "#b5508e", "#b07a00", "#3b93c9", "#6f4fa0", "#7a5c26"],
  dark: ["#5aaef0", "#f58c4c", "#35c7a0", "#e79bc9", "#efb83a", "#9ad4f7", "#b79bea", "#cfae66"],
};

const TONES = {
  light: { paper: "#fdfcfa", ink: "#1b1f24", held: "#8a929b", sold: "#d9d6cf", cross: "#b3afa6", blocked: "#c9c5bc", shape: "#e7e3da", edge: "#d5d0c4", label: "#4b535c", mine: "#1b1f24", onMine: "#ffffff" },
  dark: { paper: "#171b21", ink: "#eef1f4", held: "#8d97a3", sold: "#2c333c", cross: "#525c68", blocked: "#3b434e", shape: "#262c35", edge: "#39424d", label: "#b2bcc7", mine: "#eef1f4", onMine: "#14181d" },
};

/** From little to much: dark to light by night, light to dark by day. */
const HEAT = {
  light: ["#ece8df", "#fbdc9a", "#f8b25c", "#ea7a3c", "#c43c39", "#7d1d4f"],
  dark: ["#262c35", "#5b2a5e", "#98315f", "#d4523f", "#f08b35", "#fbd24f"],
};

/** From which size of a seat, in pixels, seats are drawn one by one; and from which with their signs, and numbers. */
export const DOTS_PX = 2.2;
export const SEATS_PX = 8;
const NUMBERS_PX = 21;
const ROW_NAMES_PX = 11;
/** A zone's name is written on it from this size on. */
const NAME_PX = 22;
const FONT = "system-ui, -apple-system, 'Apple SD Gothic Neo', 'Noto Sans KR', sans-serif";
/** Steps between an empty and a full block. */
const SHADES = 8;

/** The colours that fit the page. */
export function theme() {
  const name = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const colors = CATEGORIES[name];
  return { name, ...TONES[name], heat: HEAT[name], category: (i) => colors[i % colors.length] };
}

function mix(a, b, share) {
  const part = (color, k) => Number.parseInt(color.slice(1 + 2 * k, 3 + 2 * k), 16);
  const channels = [0, 1, 2].map((k) => Math.round(part(a, k) * (1 - share) + part(b, k) * share));
  return `rgb(${channels.join(" ")})`;
}

function rounded(ctx, x, y, size, radius) {
  ctx.beginPath();
  ctx.roundRect(x, y, size, size, radius);
}

function checkMark(ctx, x, y, size) {
  ctx.beginPath();
  ctx.moveTo(x + size * 0.27, y + size * 0.52);
  ctx.lineTo(x + size * 0.44, y + size * 0.69);
  ctx.lineTo(x + size * 0.74, y + size * 0.33);
  ctx.stroke();
}

/** One seat as a sign: a form for each state, so that it is not the colour alone that tells. */
export function drawSign(ctx, tones, kind, color, x, y, size) {
  const line = Math.max(1, size * 0.1);
  const radius = size * 0.28;
  ctx.lineWidth = line;
  ctx.lineCap = ctx.lineJoin = "round";
  if (kind === "free") {
    ctx.fillStyle = color;
    rounded(ctx, x, y, size, radius);
    ctx.fill();
  } else if (kind === "held") {
    ctx.strokeStyle = tones.held;
    rounded(ctx, x + line, y + line, size - 2 * line, radius);
    ctx.stroke();
  } else if (kind === "sold") {
    ctx.fillStyle = tones.sold;
    rounded(ctx, x, y, size, radius);
    ctx.fill();
    ctx.strokeStyle = tones.cross;
    ctx.beginPath();
    for (const [from, to] of [[0.3, 0.7], [0.7, 0.3]]) {
      ctx.moveTo(x + size * 0.3, y + size * from);
      ctx.lineTo(x + size * 0.7, y + size * to);
    }
    ctx.stroke();
  } else if (kind === "blocked") {
    ctx.strokeStyle = tones.blocked;
    ctx.beginPath();
    ctx.moveTo(x + size * 0.28, y + size / 2);
    ctx.lineTo(x + size * 0.72, y + size / 2);
    ctx.stroke();
  } else {
    ctx.fillStyle = tones.mine;
    rounded(ctx, x, y, size, radius);
    ctx.fill();
    ctx.strokeStyle = tones.onMine;
    ctx.lineWidth = Math.max(1.2, size * 0.12);
    checkMark(ctx, x, y, size);
  }
}

const KINDS = { [FREE]: "free", [HELD]: "held", [SOLD]: "sold", [BLOCKED]: "blocked" };

/** Paints a plan onto two canvases: what stands still below, the seats above. */
export class Painter {
  constructor(plan, below, seats) {
    this.plan = plan;
    this.below = below.getContext("2d");
    this.seats = seats.getContext("2d");
    this.tones = theme();
    this.sprites = new Map();
    this.byStyle = new Map();
    /** Set by operators: how much is wanted, 0 to 1, of a row. */
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

  /** Everything that `view` shows. */
  paint(view) {
    const { below, seats } = this;
    for (const ctx of [below, seats]) {
      ctx.setTransform(1, 0, 0, 1, 0, 0);
      ctx.clearRect(0, 0, ctx.canvas.width, ctx.canvas.height);
      ctx.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    }
    this.paintShapes(below, view);
    const level = this.level(view);
    if (level === "blocks") {
      this.paintBlocks(seats, view);
      this.paintBlockNames(seats, view);
    } else {
      this.paintRowNames(below, view);
      this.paintSeats(view, level);
    }
  }

  paintShapes(ctx, view) {
    for (const shape of this.plan.shapes) {
      const x = shape.x * view.scale + view.x;
      const y = shape.y * view.scale + view.y;
      const s = view.scale;
      ctx.fillStyle = this.tones.shape;
      ctx.strokeStyle = this.tones.edge;
      ctx.lineWidth = 1;
      ctx.save();
      ctx.translate(x, y);
      ctx.rotate(((shape.rotation ?? 0) * Math.PI) / 180);
      ctx.beginPath();
      let [centreX, centreY] = [0, 0];
      const { width, height } = shape.rectangle ?? shape;
      if (shape.circle) ctx.arc(0, 0, shape.circle.radius * s, 0, 2 * Math.PI);
      else if (shape.ellipse) ctx.ellipse(0, 0, shape.ellipse.radius.x * s, shape.ellipse.radius.y * s, 0, 0, 2 * Math.PI);
      else if (shape.polygon) for (const point of shape.polygon.points) ctx.lineTo(point.x * s, point.y * s);
      else if (width && height) {
        ctx.roundRect(0, 0, width * s, height * s, Math.min(10, (height * s) / 4));
        [centreX, centreY] = [(width * s) / 2, (height * s) / 2];
      }
      ctx.closePath();
      ctx.fill();
      ctx.stroke();
      const text = typeof shape.text === "string" ? shape.text : shape.text?.text;
      const size = Math.min(22, Math.max(9, (height ?? 40) * s * 0.34));
      if (text && (width ?? 200) * s > 40) this.write(ctx, text, centreX + at(shape.text, "x") * s, centreY + at(shape.text, "y") * s, size, this.tones.label, 600);
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

  blockColor(block) {
    const { tones } = this;
    if (this.heat) return tones.heat[Math.min(tones.heat.length - 1, Math.floor(this.heat(block) * tones.heat.length))];
    if (block.free === 0) return tones.sold;
    const share = Math.ceil((SHADES * block.free) / block.seats) / SHADES;
    return mix(tones.sold, tones.category(block.category), 0.2 + 0.8 * share);
  }

  paintBlocks(ctx, view) {
    const { plan } = this;
    const window = windowOf(view);
    ctx.lineJoin = "round";
    for (const block of plan.blocks) {
      if (!block.box.meets(window)) continue;
      ctx.beginPath();
      for (let k = 0; k < block.outline.length; k += 2) ctx.lineTo(block.outline[k] * view.scale + view.x, block.outline[k + 1] * view.scale + view.y);
      ctx.closePath();
      ctx.fillStyle = ctx.strokeStyle = this.blockColor(block);
      ctx.lineWidth = Math.max(1, block.size * view.scale);
      ctx.fill();
      ctx.stroke();
    }
  }

  paintBlockNames(ctx, view) {
    const { plan } = this;
    const window = windowOf(view);
    for (const zone of plan.zones) {
      const { box } = zone;
      // As large as its seats make it, however it is turned, so that zones of a kind show their names together.
      const wide = Math.sqrt(zone.seats) * plan.typical * view.scale;
      if (wide < NAME_PX || !box.meets(window)) continue;
      const x = ((box.left + box.right) / 2) * view.scale + view.x;
      const y = ((box.top + box.bottom) / 2) * view.scale + view.y;
      const name = shortName(zone.name);
      const size = Math.min(15, Math.max(9, wide / 3.2));
      this.writeTag(ctx, name, x, y, size, this.tones.ink);
    }
  }

  /** Zones, over their seats. */
  paintZoneNames(ctx, view) {
    const { plan, tones } = this;
    if (this.level(view) === "blocks") return;
    const window = windowOf(view);
    for (const zone of plan.zones) {
      if (!zone.name || zone.box.left === Infinity || !zone.box.meets(window)) continue;
      // Where rows are bent, the corner is empty.
      this.writeTag(ctx, zone.name, zone.box.left * view.scale + view.x, zone.box.top * view.scale + view.y - 9, 12, tones.label, "left");
    }
  }

  /** A word on a piece of paper. */
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

  /** Rows, beside their seats. */
  paintRowNames(ctx, view) {
    const { plan, tones } = this;
    if (plan.typical * view.scale < ROW_NAMES_PX) return;
    const window = windowOf(view);
    for (const row of plan.rows) {
      if (row.from === row.to || !row.box.meets(window)) continue;
      for (const [end, next] of [[row.from, row.from + 1], [row.to - 1, row.to - 2]]) {
        const inside = next >= row.from && next < row.to ? next : end;
        const [dx, dy] = [plan.xs[end] - plan.xs[inside], plan.ys[end] - plan.ys[inside]];
        const length = Math.hypot(dx, dy) || 1;
        const off = row.size * 1.15 * view.scale;
        const px = plan.xs[end] * view.scale + view.x + (dx / length || (end === row.from ? -1 : 1)) * off;
        const py = plan.ys[end] * view.scale + view.y + (dy / length) * off;
        this.write(ctx, row.name, px, py, Math.min(13, plan.typical * view.scale * 0.55), tones.label, 500);
      }
    }
  }

  /** States and categories are drawn one after another, so that the brush changes a few times only. */
  paintSeats(view, level) {
    const { plan, byStyle } = this;
    const window = windowOf(view);
    for (const list of byStyle.values()) list.length = 0;
    let seen = 0;
    for (const row of plan.rows) {
      if (!row.box.meets(window)) continue;
      seen += row.to - row.from;
      for (let i = row.from; i < row.to; i += 1) {
        const style = this.styleOf(i);
        let list = byStyle.get(style);
        if (!list) byStyle.set(style, (list = []));
        list.push(i);
      }
    }
    const numbers = level === "seats" && plan.typical * view.scale >= NUMBERS_PX && seen < 1500;
    for (const [style, list] of byStyle) this.paintList(view, level, style, list, numbers);
  }

  /** Some seats that have changed, where they are. */
  repaint(view, changed) {
    const level = this.level(view);
    const { plan, seats } = this;
    const numbers = level === "seats" && plan.typical * view.scale >= NUMBERS_PX;
    const window = windowOf(view);
    for (const i of changed) {
      const row = plan.rowAt(i);
      if (!row.box.meets(window)) continue;
      const { x, y, size } = this.place(view, i, row);
      seats.clearRect(x - 1, y - 1, size + 2, size + 2);
      this.paintList(view, level, this.styleOf(i), [i], numbers);
    }
  }

  /** A category if the seat is free, else a state. */
  styleOf(i) {
    if (this.heat) return -10 - Math.min(this.tones.heat.length - 1, Math.floor(this.heat(this.plan.blocks[this.plan.rowAt(i).block], i) * this.tones.heat.length));
    const status = this.plan.status[i];
    return status === FREE ? this.plan.categoryOf[i] : -status;
  }

  place(view, i, row) {
    const size = Math.max(1.5, row.size * view.scale);
    return { x: this.plan.xs[i] * view.scale + view.x - size / 2, y: this.plan.ys[i] * view.scale + view.y - size / 2, size };
  }

  paintList(view, level, style, list, numbers) {
    const { plan, seats, tones } = this;
    const color = style >= 0 ? tones.category(style) : tones.heat[-10 - style];
    if (level === "dots") {
      seats.fillStyle = color ?? { [-HELD]: tones.held, [-SOLD]: tones.sold, [-BLOCKED]: tones.sold }[style];
      // What is gone is small, and what is held hollow as far as that can be seen.
      const share = style >= 0 || style <= -10 ? 1 : style === -HELD ? 0.62 : 0.5;
      for (const i of list) {
        const { x, y, size } = this.place(view, i, plan.rowAt(i));
        const side = size * share;
        seats.fillRect(x + (size - side) / 2, y + (size - side) / 2, side, side);
      }
      return;
    }
    for (const i of list) {
      const { x, y, size } = this.place(view, i, plan.rowAt(i));
      const pixels = Math.max(3, Math.round(size * view.ratio));
      const sprite = this.sprite(style, color, pixels);
      const side = sprite.width / view.ratio;
      seats.drawImage(sprite, Math.round((x - 0.5) * view.ratio) / view.ratio, Math.round((y - 0.5) * view.ratio) / view.ratio, side, side);
      if (numbers && style >= 0) this.write(seats, plan.numbers[i], x + size / 2, y + size / 2 + 0.5, size * 0.42, tones.name === "dark" ? "#10141a" : "#ffffff", 600);
    }
  }

  sprite(style, color, pixels) {
    const key = `${style}/${pixels}`;
    let sprite = this.sprites.get(key);
    if (!sprite) {
      if (this.sprites.size > 400) this.sprites.clear();
      sprite = document.createElement("canvas");
      sprite.width = sprite.height = pixels + 2;
      drawSign(sprite.getContext("2d"), this.tones, style >= 0 || style <= -10 ? "free" : KINDS[-style], color, 1, 1, pixels);
      this.sprites.set(key, sprite);
    }
    return sprite;
  }
}

const at = (text, axis) => (typeof text === "object" ? (text?.position?.[axis] ?? 0) : 0);

/** "Block 101" is 101 where there is no room for more. */
const shortName = (name) => (name.length > 8 ? (/\d+\w*$/.exec(name)?.[0] ?? name) : name);

/** What can be seen, in the plan's unit. */
function windowOf(view) {
  return { left: -view.x / view.scale, top: -view.y / view.scale, right: (view.width - view.x) / view.scale, bottom: (view.height - view.y) / view.scale };
}
