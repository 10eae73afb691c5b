// Good micrographs against time, and where the time went: two canvases drawn anew with each advice.
import { colours, fit } from "./dom.js";
import { clock, time } from "./words.js";

const KINDS = ["imaging", "moving", "looking", "focus", "waiting", "pause", "lost"];
const PATTERN = { imaging: "#3b8bc2", moving: "#c9a227", looking: "#6fb98f", focus: "#9a8fd0", waiting: "#7a8794", pause: "#4c5863", lost: "#d5673a" };

export function drawFan(canvas, forecast) {
  fit(canvas);
  const context = canvas.getContext("2d"), shade = colours(), ratio = window.devicePixelRatio || 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = shade.panel; context.fillRect(0, 0, canvas.width, canvas.height);
  if (!forecast || !forecast.minutes || !forecast.minutes.length) return "";
  const w = canvas.width, h = canvas.height, left = 44 * ratio, bottom = 18 * ratio, top = 6 * ratio, right = 8 * ratio;
  const now = forecast.microscope_at ? new Date(forecast.microscope_at).getTime() : clock.nowMs();
  const past = (forecast.collected || []).map((each) => [(new Date(each.at).getTime() - now) / 60000, each.good]).filter((each) => Number.isFinite(each[0]) && each[0] <= 1);
  const last = forecast.minutes[forecast.minutes.length - 1], begin = Math.min(past.length ? past[0][0] : 0, -0.05 * last, -1);
  let most = 1;
  for (const pair of forecast.interval_80) most = Math.max(most, pair[1]);
  const bound = (forecast.bound || []).map((each) => [each.minutes, each.good]);
  for (const [, good] of bound) most = Math.max(most, good);
  // A target far out of reach stands at the top and leaves the curve its height.
  const target = forecast.target ? Math.min(forecast.target.good, 2 * most) : null;
  if (target) most = Math.max(most, target);
  most *= 1.06;
  const X = (m) => left + ((m - begin) / (last - begin || 1)) * (w - left - right), Y = (g) => h - bottom - (g / most) * (h - bottom - top);
  const band = (pairs, alpha) => {
    context.fillStyle = shade.accent; context.globalAlpha = alpha; context.beginPath();
    forecast.minutes.forEach((m, i) => (i ? context.lineTo(X(m), Y(pairs[i][1])) : context.moveTo(X(m), Y(pairs[i][1]))));
    for (let i = forecast.minutes.length - 1; i >= 0; i -= 1) context.lineTo(X(forecast.minutes[i]), Y(pairs[i][0]));
    context.closePath(); context.fill(); context.globalAlpha = 1;
  };
  band(forecast.interval_80, 0.22); band(forecast.interval_50, 0.34);
  const line = (points, colour, dash, wide) => {
    if (!points.length) return;
    context.strokeStyle = colour; context.lineWidth = wide * ratio; context.setLineDash(dash.map((d) => d * ratio)); context.beginPath();
    points.forEach(([m, g], i) => (i ? context.lineTo(X(m), Y(g)) : context.moveTo(X(m), Y(g)))); context.stroke(); context.setLineDash([]);
  };
  line(forecast.minutes.map((m, i) => [m, forecast.expected[i]]), shade.accent, [], 2);
  line(bound, shade.text, [2, 3], 1.5);
  line(past, shade.good, [], 2.5);
  if (target) line([[begin, target], [last, target]], shade.wait, [7, 4], 2);
  context.strokeStyle = shade.text; context.lineWidth = ratio; context.beginPath(); context.moveTo(X(0), top); context.lineTo(X(0), h - bottom); context.stroke();
  context.fillStyle = shade.quiet; context.font = `${12 * ratio}px system-ui, sans-serif`; context.textAlign = "right";
  for (const share of [0, 0.5, 1]) { const g = Math.round((most / 1.06) * share); context.fillText(g < 10000 ? String(g) : `${Math.round(g / 1000)}k`, left - 5 * ratio, Y(g) + 4 * ratio); }
  const isHigh = target && Y(target) < top + 18 * ratio;
  if (target) context.fillText(`target ${forecast.target.good.toLocaleString("en")}${target < forecast.target.good ? ", above" : ""}`, w - right, Y(target) + (isHigh ? 14 : -5) * ratio);
  context.textAlign = "start"; context.fillText("good micrographs", left + 4 * ratio, top + (isHigh ? 18 : 9) * ratio);
  context.textAlign = "center";
  const step = [15, 30, 60, 120, 240, 480, 960].find((each) => (last - begin) / each < 9) || 1440;
  for (let m = Math.ceil(begin / step) * step; m <= last; m += step) {
    const at = new Date(now + m * 60000), text = forecast.microscope_at ? time(at) : `${m > 0 ? "+" : ""}${Math.round(m)} min`;
    context.fillText(text, Math.min(Math.max(X(m), left + 14 * ratio), w - 22 * ratio), h - 4 * ratio);
  }
  const end = forecast.expected.length - 1, low = Math.round(forecast.interval_80[end][0]), high = Math.round(forecast.interval_80[end][1]);
  const ofBound = bound.length ? ` Dotted: any route at best, ${Math.round(bound[bound.length - 1][1])}.` : "";
  return `Expected by the end: ${Math.round(forecast.expected[end])} good, 80 % between ${low} and ${high}.${ofBound}`;
}

export function drawStrip(canvas, spent) {
  fit(canvas);
  const context = canvas.getContext("2d"), shade = colours(), ratio = window.devicePixelRatio || 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = shade.panel; context.fillRect(0, 0, canvas.width, canvas.height);
  const minutes = (spent && spent.minutes) || {}, total = KINDS.reduce((sum, kind) => sum + (minutes[kind] || 0), 0);
  context.font = `${12 * ratio}px system-ui, sans-serif`; context.textBaseline = "middle";
  if (!total) { context.fillStyle = shade.quiet; context.fillText("Where the time went: no timed exposure yet.", 4 * ratio, canvas.height / 2); return "No timed exposure yet."; }
  let at = 0;
  const words = [];
  for (const kind of KINDS) {
    const share = (minutes[kind] || 0) / total;
    if (!share) continue;
    const wide = share * canvas.width, text = `${kind} ${Math.round(100 * share)} %`;
    context.fillStyle = PATTERN[kind]; context.fillRect(at, 0, Math.max(1, wide - ratio), canvas.height);
    words.push(`${kind} ${Math.round(minutes[kind])} min`);
    if (context.measureText(text).width + 8 * ratio < wide) { context.fillStyle = "#0c1116"; context.fillText(text, at + 4 * ratio, canvas.height / 2); }
    at += wide;
  }
  return `Where the time went: ${words.join(", ")}.`;
}
