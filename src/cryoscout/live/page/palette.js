// Colours that differ in lightness too, so that every kind of colour blindness reads them (cividis, and blue-white-orange).
const CIVIDIS = [[0, 34, 78], [33, 59, 110], [76, 85, 108], [108, 110, 114], [142, 137, 118], [178, 165, 112], [217, 196, 92], [254, 232, 56]];
const TWO_SIDED = [[33, 102, 172], [103, 169, 207], [209, 229, 240], [247, 247, 247], [253, 219, 199], [239, 138, 98], [230, 97, 1]];

function ramp(stops) {
  const made = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i += 1) {
    const at = (i / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at)), share = at - low;
    for (let c = 0; c < 3; c += 1) made[3 * i + c] = Math.round(stops[low][c] * (1 - share) + stops[low + 1][c] * share);
  }
  return made;
}

export const ONE_SIDED = ramp(CIVIDIS), DIFFERENCE = ramp(TWO_SIDED);
export const NOTHING = [70, 80, 90];

export function css(table, share) {
  if (!(share >= 0)) return `rgb(${NOTHING.join(",")})`;
  const i = 3 * Math.max(0, Math.min(255, Math.round(share * 255)));
  return `rgb(${table[i]},${table[i + 1]},${table[i + 2]})`;
}
