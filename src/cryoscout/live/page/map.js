// The map: pixels when many holes are visible, circles with rings and marks when few are. While the hand moves, the picture
// that was drawn last is moved; the full drawing follows within 100 ms.
import { colours, fit } from "./dom.js";
import { css, DIFFERENCE, NOTHING, ONE_SIDED } from "./palette.js";
import { shared, short } from "./words.js";

const MOST_CIRCLES = 4000;
const SETTLES_MS = 80;
export const STATE = { free: 0, good: 1, bad: 2, pending: 3 };
export const SAID = { none: 0, pinned: 1, banned: 2, skipped: 3 };

export class HoleMap {
  constructor(canvas, overview, told) {
    this.canvas = canvas; this.overview = overview; this.told = told;
    this.holes = null; this.layer = "predicted"; this.next = []; this.committed = 0; this.selected = null;
    this.scale = 1; this.x = 0; this.y = 0; this.following = true; this.isMoving = false;
    this.picture = document.createElement("canvas"); this.pictureAt = null; this.image = null; this.frameTimes = [];
    this._listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // holes: {n, x, y (um or laid out, y up), p, state, said, square (index), patch, score, squares: [{name, yield, seen}]}
  setHoles(holes) {
    const before = this.holes, isOther = !before || before.n !== holes.n || before.unseen.length !== holes.unseen.length, isMoved = isOther || before.x !== holes.x;
    this.holes = holes;
    this.cut = shared(holes.squares.map((each) => each.name || ""));
    if (isMoved) this._index();
    const isFirst = this.isOther || !before || !(before.n || before.unseen.length);
    this.isOther = false;
    if (isFirst) this.showWhole(); else this.draw(); // what the operator looks at stays, over restarts too
  }

  setNext(places, committed) { this.next = places; this.committed = committed; this.draw(); }
  // Another session: nothing is selected, and its whole is shown when it comes.
  forget() { this.selected = this.image = null; this.isOther = true; }
  setLayer(layer) { this.layer = layer; this.draw(); }
  setImage(image) { this.image = image; this.draw(); }

  _index() {
    const { n, x, y, unseen, half } = this.holes, boxes = new Map();
    for (let i = 0; i < n; i += 1) {
      const s = this.holes.square[i];
      let b = boxes.get(s);
      if (!b) boxes.set(s, (b = { left: x[i], right: x[i], low: y[i], high: y[i] }));
      b.left = Math.min(b.left, x[i]); b.right = Math.max(b.right, x[i]); b.low = Math.min(b.low, y[i]); b.high = Math.max(b.high, y[i]);
    }
    for (const each of unseen) boxes.set(each.square, { left: each.x - half, right: each.x + half, low: each.y - half, high: each.y + half });
    this.squareBoxes = boxes;
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i += 1) {
      if (x[i] < left) left = x[i]; if (x[i] > right) right = x[i];
      if (y[i] < low) low = y[i]; if (y[i] > high) high = y[i];
    }
    for (const each of unseen) { left = Math.min(left, each.x - half); right = Math.max(right, each.x + half); low = Math.min(low, each.y - half); high = Math.max(high, each.y + half); }
    if (left === Infinity) { left = low = 0; right = high = 1; }
    const width = Math.max(right - left, 1e-6), height = Math.max(high - low, 1e-6);
    this.box = { left, low, width, height };
    const cell = Math.max(Math.sqrt((width * height) / Math.max(n / 8, 1)), Math.max(width, height) / 2000, 1e-9);
    const columns = Math.floor(width / cell) + 1, rows = Math.floor(height / cell) + 1;
    const start = new Int32Array(columns * rows + 1), of = new Int32Array(n);
    for (let i = 0; i < n; i += 1) {
      of[i] = Math.floor((y[i] - low) / cell) * columns + Math.floor((x[i] - left) / cell);
      start[of[i] + 1] += 1;
    }
    for (let c = 0; c < columns * rows; c += 1) start[c + 1] += start[c];
    const order = new Int32Array(n), filled = start.slice();
    for (let i = 0; i < n; i += 1) order[filled[of[i]]++] = i;
    this.cells = { cell, columns, rows, start, order };
    // The usual distance of neighbours gives the size of a circle.
    const sample = Math.min(n, 400), apart = [];
    for (let k = 0; k < sample; k += 1) {
      const i = Math.floor((k * n) / sample), near = this._near(x[i], y[i], i);
      if (near.distance < Infinity && near.distance > 0) apart.push(near.distance);
    }
    apart.sort((a, b) => a - b);
    this.apart = apart.length ? apart[Math.floor(apart.length / 2)] : unseen.length ? half / 3 : Math.max(width, height) / 4;
  }

  _near(px, py, except = -1) {
    const { cell, columns, rows, start, order } = this.cells, { x, y } = this.holes;
    const cx = Math.floor((px - this.box.left) / cell), cy = Math.floor((py - this.box.low) / cell);
    let best = -1, distance = Infinity;
    for (let reach = 1; reach <= 4 && best < 0; reach *= 2) {
      for (let r = Math.max(0, cy - reach); r <= Math.min(rows - 1, cy + reach); r += 1) {
        for (let c = Math.max(0, cx - reach); c <= Math.min(columns - 1, cx + reach); c += 1) {
          for (let k = start[r * columns + c]; k < start[r * columns + c + 1]; k += 1) {
            const i = order[k], d = Math.hypot(x[i] - px, y[i] - py);
            if (d < distance && i !== except) { distance = d; best = i; }
          }
        }
      }
    }
    return { hole: best, distance };
  }

  showWhole() {
    if (!this.holes) return;
    fit(this.canvas);
    const { left, low, width, height } = this.box, pad = 1.16, foot = this._foot();
    this.scale = Math.min(this.canvas.width / (width * pad + this.apart), (this.canvas.height - foot) / (height * pad + this.apart));
    this.x = left + width / 2; this.y = low + height / 2 - foot / 2 / this.scale;
    this.draw();
  }

  // Below, the legend covers the map.
  _foot() { return (this.foot || 30) * (window.devicePixelRatio || 1); }

  show(hole, closeUp = false) {
    if (!this.holes || hole < 0) return;
    this.x = this.holes.x[hole]; this.y = this.holes.y[hole];
    if (closeUp) this.scale = Math.max(this.scale, Math.min(this.canvas.width, this.canvas.height) / (this.apart * 26));
    this.draw();
  }

  // A whole square, with its neighbours at the edge; of one that shows nothing yet more of them.
  showSquare(square) {
    const box = this.squareBoxes.get(square);
    if (!box) return;
    const isSeen = (this.holes.squares[square] || {}).holes > 0, room = isSeen ? 5 * this.apart : 3 * (box.right - box.left);
    const foot = this._foot();
    this.scale = Math.min(this.canvas.width / (box.right - box.left + room), (this.canvas.height - foot) / (box.high - box.low + room), this.canvas.width / (12 * this.apart));
    this.x = (box.left + box.right) / 2; this.y = (box.low + box.high) / 2 - foot / 2 / this.scale;
    this.draw();
  }

  toScreen(px, py) { return [this.canvas.width / 2 + (px - this.x) * this.scale, this.canvas.height / 2 - (py - this.y) * this.scale]; }
  toMap(sx, sy) { return [this.x + (sx - this.canvas.width / 2) / this.scale, this.y - (sy - this.canvas.height / 2) / this.scale]; }

  _visible() {
    const [left, high] = this.toMap(0, 0), [right, low] = this.toMap(this.canvas.width, this.canvas.height), pad = this.apart;
    return { left: left - pad, right: right + pad, low: low - pad, high: high + pad };
  }

  _count(view) {
    const { cell, columns, rows, start } = this.cells, box = this.box;
    const c0 = Math.max(0, Math.floor((view.left - box.left) / cell)), c1 = Math.min(columns - 1, Math.floor((view.right - box.left) / cell));
    const r0 = Math.max(0, Math.floor((view.low - box.low) / cell)), r1 = Math.min(rows - 1, Math.floor((view.high - box.low) / cell));
    let count = 0;
    for (let r = r0; r <= r1; r += 1) if (c1 >= c0) count += start[r * columns + c1 + 1] - start[r * columns + c0];
    return { count, c0, c1, r0, r1 };
  }

  // Draws now; where the hand moves, the last picture is moved.
  draw() {
    if (!this.holes) return;
    if (fit(this.canvas)) this.pictureAt = null;
    const began = performance.now();
    if (this.isMoving && this.pictureAt) this._movePicture(); else this._full();
    this.frameTimes.push(performance.now() - began);
    if (this.frameTimes.length > 500) this.frameTimes.shift();
  }

  moved() {
    this.isMoving = true; this.following = false; this.told("moved");
    clearTimeout(this.settles);
    this.settles = setTimeout(() => { this.isMoving = false; requestAnimationFrame(() => this.draw()); }, SETTLES_MS);
    if (!this.asked) { this.asked = true; requestAnimationFrame(() => { this.asked = false; this.draw(); }); }
  }

  _movePicture() {
    const context = this.canvas.getContext("2d"), at = this.pictureAt, zoom = this.scale / at.scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.colours.ground;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const [sx, sy] = this.toScreen(at.x, at.y);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture, sx - (this.picture.width / 2) * zoom, sy - (this.picture.height / 2) * zoom, this.picture.width * zoom, this.picture.height * zoom);
  }

  _full() {
    const { canvas, picture } = this;
    this.colours = colours();
    if (picture.width !== canvas.width || picture.height !== canvas.height) { picture.width = canvas.width; picture.height = canvas.height; }
    const context = picture.getContext("2d", { willReadFrequently: true }), view = this._visible(), found = this._count(view);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.colours.ground;
    context.fillRect(0, 0, picture.width, picture.height);
    this._drawImage(context);
    const radius = 0.4 * this.apart * this.scale;
    if (found.count > MOST_CIRCLES || radius < 2.2) this._pixels(context, found, radius); else this._circles(context, found, Math.min(radius, 60));
    this._squares(context, radius);
    this._route(context, Math.max(radius, 4));
    this.pictureAt = { x: this.x, y: this.y, scale: this.scale };
    const screen = canvas.getContext("2d");
    screen.setTransform(1, 0, 0, 1, 0, 0);
    screen.drawImage(picture, 0, 0);
    this._overview();
  }

  _drawImage(context) {
    const image = this.image;
    if (!image) return;
    const [x0, y0] = this.toScreen(image.left, image.high), [x1, y1] = this.toScreen(image.right, image.low);
    context.globalAlpha = 0.9; context.drawImage(image.bitmap, x0, y0, x1 - x0, y1 - y0); context.globalAlpha = 1;
  }

  // What a layer shows of a hole: a share in 0..1, NaN for nothing, and the colours it is on.
  value(i) {
    const h = this.holes, found = h.state[i] === STATE.good ? 1 : h.state[i] === STATE.bad ? 0 : NaN;
    if (this.layer === "measured") return found;
    if (this.layer === "difference") return Number.isNaN(found) ? NaN : (found - h.p[i] + 1) / 2;
    if (this.layer === "order") return h.rank && h.rank[i] > 0 ? 1 - (h.rank[i] - 1) / Math.max(h.ranked, 1) : NaN;
    if (this.layer === "predicted") return h.p[i];
    const s = (h.scores || {})[this.layer]; // nothing is shown of what is not read yet
    return s ? (s.values[i] - s.low) / Math.max(s.high - s.low, 1e-9) : NaN;
  }

  get table() { return this.layer === "difference" ? DIFFERENCE : ONE_SIDED; }

  _pixels(context, found, radius) {
    const { columns, start, order } = this.cells, { x, y, said } = this.holes, { width, height } = this.picture, table = this.table;
    const data = context.getImageData(0, 0, width, height), pixels = data.data, half = Math.max(0, Math.round(radius)), side = Math.max(1, 2 * half);
    for (let r = found.r0; r <= found.r1; r += 1) {
      for (let k = start[r * columns + found.c0]; k < start[r * columns + found.c1 + 1]; k += 1) {
        const i = order[k], value = this.value(i);
        let red = NOTHING[0], green = NOTHING[1], blue = NOTHING[2];
        if (value >= 0) { const at = 3 * Math.min(255, Math.round(value * 255)); red = table[at]; green = table[at + 1]; blue = table[at + 2]; }
        if (said[i] === SAID.banned || said[i] === SAID.skipped) { red >>= 1; green >>= 1; blue >>= 1; }
        const sx = Math.round(width / 2 + (x[i] - this.x) * this.scale) - half, sy = Math.round(height / 2 - (y[i] - this.y) * this.scale) - half;
        for (let v = Math.max(0, sy); v < Math.min(height, sy + side); v += 1) {
          for (let u = Math.max(0, sx); u < Math.min(width, sx + side); u += 1) {
            const at = 4 * (v * width + u);
            pixels[at] = red; pixels[at + 1] = green; pixels[at + 2] = blue; pixels[at + 3] = 255;
          }
        }
      }
    }
    context.putImageData(data, 0, 0);
  }

  _circles(context, found, radius) {
    const { columns, start, order } = this.cells, h = this.holes, shades = this.colours, table = this.table;
    const shows = this.image ? 0.25 : 1;
    const line = Math.max(1.5, radius / 5);
    for (let r = found.r0; r <= found.r1; r += 1) {
      for (let k = start[r * columns + found.c0]; k < start[r * columns + found.c1 + 1]; k += 1) {
        const i = order[k], [sx, sy] = this.toScreen(h.x[i], h.y[i]), state = h.state[i], said = h.said[i];
        context.globalAlpha = shows;
        context.fillStyle = css(table, this.value(i));
        context.beginPath(); context.arc(sx, sy, radius, 0, 7); context.fill();
        context.globalAlpha = 1;
        if (this.image) { context.lineWidth = 1.5; context.strokeStyle = css(table, this.value(i)); context.setLineDash([]); context.stroke(); }
        if (state !== STATE.free) {
          context.lineWidth = line; context.strokeStyle = state === STATE.good ? shades.good : state === STATE.bad ? shades.bad : shades.wait;
          context.setLineDash(state === STATE.good ? [] : state === STATE.bad ? [radius * 0.9, radius * 0.55] : [line, line * 1.4]);
          context.beginPath(); context.arc(sx, sy, radius + line * 0.6, 0, 7); context.stroke(); context.setLineDash([]);
        }
        if (said === SAID.banned || said === SAID.skipped) this._hatch(context, sx, sy, radius);
        if (said === SAID.pinned) this._pin(context, sx, sy, radius);
      }
    }
    if (this.selected && this.selected.hole >= 0) {
      const [sx, sy] = this.toScreen(h.x[this.selected.hole], h.y[this.selected.hole]);
      context.lineWidth = 3; context.strokeStyle = shades.accent; context.strokeRect(sx - radius - 5, sy - radius - 5, 2 * radius + 10, 2 * radius + 10);
    }
  }

  _hatch(context, sx, sy, radius) {
    context.save(); context.beginPath(); context.arc(sx, sy, radius, 0, 7); context.clip();
    context.strokeStyle = this.colours.text; context.lineWidth = Math.max(1, radius / 7); context.beginPath();
    for (let d = -radius; d <= radius; d += Math.max(3, radius / 2)) { context.moveTo(sx + d - radius, sy + radius); context.lineTo(sx + d + radius, sy - radius); }
    context.stroke(); context.restore();
  }

  _pin(context, sx, sy, radius) {
    const size = Math.max(4, radius * 0.55);
    context.fillStyle = this.colours.accent; context.strokeStyle = this.colours.ground; context.lineWidth = 1.5;
    context.beginPath(); context.moveTo(sx, sy); context.lineTo(sx - size, sy - 2 * size); context.lineTo(sx + size, sy - 2 * size); context.closePath(); context.fill(); context.stroke();
  }

  _squares(context, radius) {
    const shades = this.colours, tiny = radius < 2.2, h = this.holes;
    context.font = `${Math.round(12 * (window.devicePixelRatio || 1))}px system-ui, sans-serif`;
    for (const [number, box] of this.squareBoxes) {
      const square = h.squares[number] || {}, pad = 0.7 * this.apart;
      const [x0, y0] = this.toScreen(box.left - pad, box.high + pad), [x1, y1] = this.toScreen(box.right + pad, box.low - pad);
      if (x1 < 0 || y1 < 0 || x0 > this.picture.width || y0 > this.picture.height) continue;
      const isSelected = this.selected && this.selected.hole < 0 && this.selected.square === number;
      context.lineWidth = isSelected ? 4 : square.planned ? 2 : 1;
      context.strokeStyle = isSelected || square.planned ? shades.accent : shades.line;
      context.setLineDash(square.seen === false ? [6, 4] : []);
      context.strokeRect(x0, y0, x1 - x0, y1 - y0); context.setLineDash([]);
      if (tiny && square.share >= 0) { // coloured by expected yield, below the pixels' own frame
        context.fillStyle = css(ONE_SIDED, square.share); context.fillRect(x0, y1 + 2, Math.max(3, x1 - x0), 4);
      }
      // Without what all names share; nearer by where that does not fit.
      const name = short(square.name || "", this.cut);
      if (x1 - x0 > 46 && context.measureText(name).width < x1 - x0 + 8) { context.fillStyle = shades.quiet; context.fillText(name, x0 + 2, y0 - 3); }
      if (square.patches_unseen && x1 - x0 > 46) this._unseenPatches(context, square, x0, x1, y1);
    }
    const ratio = window.devicePixelRatio || 1;
    context.textAlign = "center"; context.textBaseline = "middle";
    for (const { square, x, y } of h.unseen) { // nobody has looked into these yet, or a look showed nothing
      const row = h.squares[square], box = this.squareBoxes.get(square), side = (box.right - box.left) * this.scale, [sx, sy] = this.toScreen(x, y);
      if (row.out) this._hatch(context, sx, sy, Math.max(4, side / 2));
      if (row.look) this._label(context, String(row.look), sx, sy, row.look === 1, Math.round(Math.max(10 * ratio, Math.min(22 * ratio, 0.6 * side))));
      else if ((!row.looked || row.patches_unseen) && side > 9 * ratio) { context.font = `${Math.round(Math.min(20 * ratio, 0.6 * side))}px system-ui, sans-serif`; context.fillStyle = shades.wait; context.fillText("?", sx, sy); }
    }
    context.textAlign = "start"; context.textBaseline = "alphabetic";
  }

  // Patches that nobody looked into have no place of their own: they stand in a row below their square.
  _unseenPatches(context, square, x0, x1, y1) {
    const shades = this.colours, ratio = window.devicePixelRatio || 1, side = 11 * ratio, room = Math.max(1, Math.floor((x1 - x0) / (side + 4 * ratio))), shown = Math.min(square.patches_unseen, room, 8);
    context.strokeStyle = shades.wait; context.lineWidth = 1.5; context.setLineDash([3, 2]);
    for (let at = 0; at < shown; at += 1) context.strokeRect(x0 + at * (side + 4 * ratio) + 1, y1 + 5 * ratio, side, side);
    context.setLineDash([]); context.fillStyle = shades.wait;
    const words = `${square.patches_unseen} ${square.patches_unseen === 1 ? "patch" : "patches"} not looked at`, at = x0 + shown * (side + 4 * ratio) + 3 * ratio;
    if (context.measureText(words).width < Math.max(x1 - at, 0)) context.fillText(words, at, y1 + 15 * ratio);
    if (square.look && square.holes) { context.textAlign = "center"; context.textBaseline = "middle"; this._label(context, String(square.look), x0 + side / 2, y1 + 5 * ratio + side / 2, square.look === 1, 13 * ratio); context.textAlign = "start"; context.textBaseline = "alphabetic"; context.font = `${Math.round(12 * ratio)}px system-ui, sans-serif`; }
  }

  _label(context, text, sx, sy, isFirst, size) {
    const shades = this.colours;
    context.font = `700 ${size}px system-ui, sans-serif`;
    const wide = context.measureText(text).width + 6;
    context.fillStyle = isFirst ? shades.accent : shades.panel; context.fillRect(sx - wide / 2, sy - size * 0.55, wide, size * 1.1);
    context.fillStyle = isFirst ? shades.ground : shades.text; context.fillText(text, sx, sy);
  }

  _route(context, radius) {
    const h = this.holes, shades = this.colours;
    if (!this.next.length) return;
    context.strokeStyle = shades.accent; context.lineWidth = 2.5; context.beginPath();
    this.next.slice(0, this.committed).forEach((i, at) => { const [sx, sy] = this.toScreen(h.x[i], h.y[i]); if (at) context.lineTo(sx, sy); else context.moveTo(sx, sy); });
    context.stroke();
    const room = this.apart * this.scale, ratio = window.devicePixelRatio || 1, size = Math.round(Math.max(9 * ratio, Math.min(16 * ratio, 0.62 * room)));
    context.textAlign = "center"; context.textBaseline = "middle";
    const crowded = room < 14 * ratio; // the first alone: numbers over each other say nothing
    this.next.forEach((i, at) => {
      if (crowded && at) return;
      const [sx, sy] = this.toScreen(h.x[i], h.y[i]);
      this._label(context, String(at + 1), sx, sy - radius - size * 0.55, at === 0, size);
    });
    context.textAlign = "start"; context.textBaseline = "alphabetic";
  }

  _overview() {
    const canvas = this.overview, h = this.holes;
    fit(canvas);
    const context = canvas.getContext("2d"), scale = Math.min(canvas.width / (this.box.width || 1), canvas.height / (this.box.height || 1)) * 0.92;
    const sx = (px) => canvas.width / 2 + (px - this.box.left - this.box.width / 2) * scale, sy = (py) => canvas.height / 2 - (py - this.box.low - this.box.height / 2) * scale;
    context.fillStyle = this.colours.ground; context.fillRect(0, 0, canvas.width, canvas.height);
    for (const [number, b] of this.squareBoxes) {
      const square = h.squares[number] || {};
      context.fillStyle = css(ONE_SIDED, square.share);
      context.fillRect(sx(b.left), sy(b.high), Math.max(2, (b.right - b.left) * scale), Math.max(2, (b.high - b.low) * scale));
    }
    const view = this._visible();
    context.strokeStyle = this.colours.accent; context.lineWidth = 2;
    context.strokeRect(sx(view.left), sy(view.high), (view.right - view.left) * scale, (view.high - view.low) * scale);
  }

  pick(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / Math.max(box.width, 1);
    const [px, py] = this.toMap((clientX - box.left) * ratio, (clientY - box.top) * ratio), near = this._near(px, py);
    if (near.hole >= 0 && near.distance <= Math.max(0.6 * this.apart, (22 * ratio) / this.scale)) {
      const tiny = 0.4 * this.apart * this.scale < 2.2;
      return { hole: tiny ? -1 : near.hole, square: this.holes.square[near.hole] };
    }
    for (const [number, b] of this.squareBoxes) {
      if (px >= b.left - this.apart && px <= b.right + this.apart && py >= b.low - this.apart && py <= b.high + this.apart) return { hole: -1, square: number };
    }
    return null;
  }

  select(picked) { this.selected = picked; this.draw(); this.told("selected", picked); }

  zoom(by, clientX, clientY) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / Math.max(box.width, 1);
    const sx = clientX === undefined ? this.canvas.width / 2 : (clientX - box.left) * ratio, sy = clientY === undefined ? this.canvas.height / 2 : (clientY - box.top) * ratio;
    const [px, py] = this.toMap(sx, sy), largest = this.canvas.width / (this.apart * 3), smallest = 0.4 * Math.min(this.canvas.width / this.box.width, this.canvas.height / this.box.height);
    this.scale = Math.max(Math.min(smallest, largest), Math.min(largest, this.scale * by));
    this.x = px - (sx - this.canvas.width / 2) / this.scale; this.y = py + (sy - this.canvas.height / 2) / this.scale;
    this.moved();
  }

  pan(dx, dy) { this.x -= dx / this.scale; this.y += dy / this.scale; this.moved(); }

  _listen() {
    const canvas = this.canvas, fingers = new Map();
    let travelled = 0, spread = 0;
    const ratio = () => canvas.width / Math.max(canvas.clientWidth, 1);
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); if (fingers.size === 1) travelled = 0; spread = 0; });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 1) {
        const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
        travelled += Math.abs(dx) + Math.abs(dy);
        if (travelled > 5) this.pan(dx * ratio(), dy * ratio());
      } else if (fingers.size === 2) {
        travelled = 99;
        const [a, b] = [...fingers.values()], now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread) this.zoom(now / spread, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
        spread = now;
      }
    });
    const up = (event) => { fingers.delete(event.pointerId); spread = 0; if (event.type === "pointerup" && travelled <= 5) this.select(this.pick(event.clientX, event.clientY)); };
    canvas.addEventListener("pointerup", up); canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY * 0.0015), event.clientX, event.clientY); }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoom(2.5, event.clientX, event.clientY));
  }
}
