// The typed columns of the map: little-endian arrays in base64, as api/v1 serves them, and where holes are drawn.
import { SAID, STATE } from "./map.js";

const KINDS = { "<u1": Uint8Array, "|u1": Uint8Array, "<u2": Uint16Array, "<u4": Uint32Array, "<f4": Float32Array };
const BAN = 1, SKIP = 2, PIN = 4;
const UNKNOWN = 65535;

export function decoded(column) {
  const text = atob(column.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  const Kind = KINDS[column.dtype];
  if (!Kind) throw new Error(`unknown column type ${column.dtype}`);
  return new Kind(bytes.buffer);
}

// What the map draws, of the columns and of the squares' rows.
export function holesOf(answer, squares, before) {
  const columns = {};
  for (const [name, column] of Object.entries(answer.columns)) columns[name] = decoded(column);
  const n = answer.n, scale = answer.p_scale, p = new Float32Array(n), prediction = columns.prediction;
  for (let i = 0; i < n; i += 1) p[i] = columns.p_good[i] === UNKNOWN ? NaN : columns.p_good[i] / scale;
  const state = new Uint8Array(n), said = new Uint8Array(n);
  const states = answer.states.map((name) => ({ pending: STATE.pending, good: STATE.good, "partly good": STATE.good, "not good": STATE.bad }[name] || STATE.free));
  for (let i = 0; i < n; i += 1) {
    state[i] = states[columns.state[i]];
    const flags = columns.flags[i];
    said[i] = flags & PIN ? SAID.pinned : flags & BAN ? SAID.banned : flags & SKIP ? SAID.skipped : SAID.none;
  }
  const square = columns.square || before.square, patch = columns.patch || before.patch;
  const place = columns.x ? placed(n, columns, square, patch, answer.position_unit) : { x: before.x, y: before.y, isLaidOut: before.isLaidOut };
  let ranked = 0;
  for (let i = 0; i < n; i += 1) if (columns.order[i] > ranked) ranked = columns.order[i];
  const most = Math.max(1e-9, ...squares.map((each) => each.expected_good || 0));
  return {
    n, key: `${answer.run_id}`, revision: answer.revision, p, prediction, state, said, square, patch, rank: columns.order, ranked, ...place,
    ctf: columns.ctf || (before && before.ctf), image: columns.image || (before && before.image), scale,
    scores: scoresOf(columns, n),
    // What nobody looked into has no yield to show: its colour is that of what is not known.
    squares: squares.map((each) => ({ name: each.square, share: each.holes ? (each.expected_good || 0) / most : NaN, seen: each.looked, ...each, planned: each.planned > 0 })),
    ...unseenSquares(squares, square, place),
  };
}

// Squares without holes, and half the side that they are drawn with: where they stand, else in rows below what has a place.
function unseenSquares(squares, square, place) {
  const empty = squares.map((each, number) => ({ square: number, x: each.x_um, y: each.y_um, holes: each.holes })).filter((each) => !each.holes);
  const isKnown = (each) => !place.isLaidOut && Number.isFinite(each.x) && Number.isFinite(each.y);
  const known = empty.filter(isKnown), rest = empty.filter((each) => !isKnown(each)), half = halfOf(square, place, known);
  if (!rest.length) return { unseen: empty, half };
  let left = Infinity, right = -Infinity, low = Infinity;
  const takes = (x, y, around) => { left = Math.min(left, x - around); right = Math.max(right, x + around); low = Math.min(low, y - around); };
  for (let i = 0; i < place.x.length; i += 1) takes(place.x[i], place.y[i], 0);
  known.forEach((each) => takes(each.x, each.y, half));
  if (left === Infinity) left = right = low = 0;
  const apart = 2.8 * half, wide = Math.max(Math.ceil(Math.sqrt(1.6 * rest.length)), Math.floor((right - left) / apart));
  rest.forEach((each, at) => { each.x = left + half + (at % wide) * apart; each.y = low - apart * (0.8 + Math.floor(at / wide)); });
  return { unseen: empty, half };
}

// Half the side of a square that shows no holes: as the others are, else so that none touches the next.
function halfOf(square, place, known) {
  const boxes = new Map();
  for (let i = 0; i < place.x.length; i += 1) {
    const b = boxes.get(square[i]);
    if (!b) boxes.set(square[i], { left: place.x[i], right: place.x[i], low: place.y[i], high: place.y[i] });
    else { b.left = Math.min(b.left, place.x[i]); b.right = Math.max(b.right, place.x[i]); b.low = Math.min(b.low, place.y[i]); b.high = Math.max(b.high, place.y[i]); }
  }
  const sides = [...boxes.values()].map((b) => Math.max(b.right - b.left, b.high - b.low)).sort((a, b) => a - b);
  if (sides.length && sides[sides.length >> 1] > 0) return sides[sides.length >> 1] / 2;
  let nearest = Infinity;
  for (const a of known.slice(0, 200)) for (const b of known) if (a !== b) nearest = Math.min(nearest, Math.hypot(a.x - b.x, a.y - b.y) || Infinity);
  return nearest < Infinity ? 0.35 * nearest : 10;
}

const OWN = new Set(["p_good", "prediction", "image", "state", "flags", "order", "x", "y", "square", "patch", "ctf"]);

export function scoresOf(columns, n) {
  const found = {};
  for (const [name, values] of Object.entries(columns)) {
    if (OWN.has(name)) continue;
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i += 1) if (Number.isFinite(values[i])) { low = Math.min(low, values[i]); high = Math.max(high, values[i]); }
    if (high >= low) found[name] = { values, low, high };
  }
  return found;
}

// Stage positions as they are; else squares side by side, patches inside them, holes inside these.
function placed(n, columns, square, patch, unit) {
  const x = new Float32Array(n), y = new Float32Array(n);
  if (!n) return { x, y, isLaidOut: false }; // squares of an atlas stand where they are
  if (unit === "um") {
    let missing = 0;
    for (let i = 0; i < n; i += 1) {
      if (Number.isFinite(columns.x[i]) && Number.isFinite(columns.y[i])) { x[i] = columns.x[i]; y[i] = columns.y[i]; } else missing += 1;
    }
    if (!missing) return { x, y, isLaidOut: false };
    if (missing < n) { // beside the others, so that none is lost
      let right = -Infinity, low = Infinity, at = 0;
      for (let i = 0; i < n; i += 1) if (Number.isFinite(columns.x[i])) { right = Math.max(right, columns.x[i]); low = Math.min(low, columns.y[i]); }
      for (let i = 0; i < n; i += 1) if (!Number.isFinite(columns.x[i]) || !Number.isFinite(columns.y[i])) { x[i] = right + 5 + (at % 20); y[i] = low + Math.floor(at / 20); at += 1; }
      return { x, y, isLaidOut: false };
    }
  }
  const patches = new Map();
  for (let i = 0; i < n; i += 1) { let of = patches.get(patch[i]); if (!of) patches.set(patch[i], (of = [])); of.push(i); }
  const bySquare = new Map();
  for (const [number, holes] of patches) { const s = square[holes[0]]; let of = bySquare.get(s); if (!of) bySquare.set(s, (of = [])); of.push([number, holes]); }
  const blocks = [];
  for (const of of bySquare.values()) {
    const parts = of.map(([, holes]) => patchPlaces(holes, columns));
    const width = Math.max(1, Math.ceil(Math.sqrt(parts.length * 1.2))), cell = Math.max(...parts.map((part) => part.size)) + 1.4;
    parts.forEach((part, at) => { part.left = (at % width) * cell; part.top = Math.floor(at / width) * cell; });
    blocks.push({ parts, width: width * cell, height: Math.ceil(parts.length / width) * cell });
  }
  const total = blocks.reduce((sum, block) => sum + (block.width + 3) * (block.height + 3), 0), most = Math.max(Math.sqrt(total * 1.7), ...blocks.map((block) => block.width));
  let left = 0, top = 0, tall = 0;
  for (const block of blocks) {
    if (left > 0 && left + block.width > most) { left = 0; top += tall + 4; tall = 0; }
    for (const part of block.parts) part.holes.forEach((hole, at) => { x[hole] = left + part.left + part.x[at]; y[hole] = -(top + part.top + part.y[at]); });
    left += block.width + 3; tall = Math.max(tall, block.height);
  }
  return { x, y, isLaidOut: true };
}

function patchPlaces(holes, columns) {
  const px = holes.map((i) => (columns.x ? columns.x[i] : NaN)), py = holes.map((i) => (columns.y ? columns.y[i] : NaN));
  const side = Math.max(1, Math.ceil(Math.sqrt(holes.length)));
  if (px.every(Number.isFinite) && py.every(Number.isFinite) && holes.length > 1) {
    const left = Math.min(...px), top = Math.min(...py), wide = Math.max(Math.max(...px) - left, Math.max(...py) - top) || 1;
    return { holes, size: side, x: px.map((v) => ((v - left) / wide) * (side - 1)), y: py.map((v) => ((v - top) / wide) * (side - 1)) };
  }
  return { holes, size: side, x: holes.map((_, at) => at % side), y: holes.map((_, at) => Math.floor(at / side)) };
}
