// Numbers and times as people say them.
// Times here are the server's, also where this computer's clock is wrong (aheadMs of it).
export const clock = { aheadMs: 0, nowMs() { return Date.now() - this.aheadMs; } };
export const percent = (p) => (p === null || p === undefined || Number.isNaN(p) ? "–" : `${Math.round(100 * p)} %`);
export const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-GB"));

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${Math.round(s / 86400)} days`;
}

export function minutes(value) {
  if (value === null || value === undefined) return "–";
  if (value < 90) return `${value < 10 ? value.toFixed(1) : Math.round(value)} min`;
  return `${Math.floor(value / 60)} h ${String(Math.round(value % 60)).padStart(2, "0")}`;
}

export function time(at, withSeconds = false) {
  const date = at instanceof Date ? at : new Date(at);
  if (Number.isNaN(date.getTime())) return "–";
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined, hour12: false });
}

export function zone() {
  const part = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(new Date()).find((each) => each.type === "timeZoneName");
  return part ? part.value : "";
}

// How many characters at the beginning all names share, up to a mark between words: what is left tells them apart.
export function shared(names) {
  if (names.length < 2) return 0;
  let length = names[0].length;
  for (const name of names) { let i = 0; while (i < length && name[i] === names[0][i]) i += 1; length = i; if (length < 6) return 0; }
  const mark = Math.max(...["_", "-", " ", "/", "#", "."].map((each) => names[0].lastIndexOf(each, length - 1)));
  return mark < 5 ? 0 : mark + 1;
}
// A name that is too long keeps its beginning and its end: often only the end tells it apart.
export const middle = (name, most = 56) => (name.length > most ? `${name.slice(0, Math.ceil(most / 2) - 1)}…${name.slice(-Math.floor(most / 2))}` : name);
export const short = (name, cut) => (cut && name.length > cut ? `…${name.slice(cut)}` : name);

export function nearest(wanted, names, most = 5) {
  const text = wanted.trim().toLowerCase();
  if (!text) return [];
  const starts = [], holds = [];
  for (let i = 0; i < names.length; i += 1) {
    const name = names[i].toLowerCase();
    if (name === text) return [i];
    if (name.startsWith(text)) starts.push(i);
    else if (name.includes(text)) holds.push(i);
    if (starts.length >= most) break;
  }
  return [...starts, ...holds].slice(0, most);
}

// A column of what sources say of the images, for people: "ice_thickness_nm" is "ice thickness (nm)".
const UNITS = { nm: "nm", um: "µm", deg: "°", angstrom: "Å", rel: "relative" };
export function scoreWords(name) {
  const words = name.split("_"), unit = UNITS[words[words.length - 1]];
  return unit ? `${words.slice(0, -1).join(" ")} (${unit})` : words.join(" ");
}
