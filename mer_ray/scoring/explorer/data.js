// The catalog: arrays of numbers, one a track; texts; and curves, which are decoded when they are shown.
const bytes = (base64) => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
};
const KINDS = { "|u1": Uint8Array, "<u2": Uint16Array, "<u4": Uint32Array, "<i4": Int32Array, "<f4": Float32Array };
const D = JSON.parse($("data").textContent);
const A = {};
for (const [name, [kind, packed]] of Object.entries(D.arrays)) A[name] = new KINDS[kind](bytes(packed).buffer);
D.arrays = null;
const N = D.n;
const unit = (codes, unknown = 65535) => {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < out.length; i++) out[i] = codes[i] === unknown ? NaN : codes[i] / (unknown - 1);
  return out;
};

const DIMENSIONS = D.dimensions.map((d) => d.key);
const NAME = Object.fromEntries(D.dimensions.map((d) => [d.key, d.name]));
const SHORT = Object.fromEntries(D.dimensions.map((d) => [d.key, d.short]));
const HUE = Object.fromEntries(D.dimensions.map((d) => [d.key, `var(--c${d.hue})`]));
const { x: ACROSS, y: UP, colour: COLOUR } = D.plane;
const LISTED = [...new Set([ACROSS.key, UP.key, COLOUR, ...DIMENSIONS])].filter((d) => d in NAME).slice(0, 3); // as many as have room
const value = {}, lower = {}, upper = {}, percentile = {}, sorted = {}; // percentile: in this catalog, 0..1
const { width } = A; // half the interval, the mean of the dimensions
for (const d of DIMENSIONS) {
  value[d] = A[d];
  lower[d] = unit(A["lower_" + d]);
  upper[d] = unit(A["upper_" + d]);
  percentile[d] = A[`${d}_percentile`];
  sorted[d] = value[d].slice().sort();
}
const spread = () => { // fills 0 to 1 evenly
  const out = new Float32Array(N);
  for (let i = 0; i < N; i++) out[i] = (0.5 + i * 0.6180339887) % 1;
  return out;
};
const plotted = (key) => value[key] ?? (key === "novelty" ? A.novelty : spread());
const X = plotted(ACROSS.key), Y = plotted(UP.key), Z = COLOUR ? value[COLOUR] : X;
const share = (d, x) => { // of the tracks that are below x, in percent
  let from = 0, to = N;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[d][middle] < x) from = middle + 1;
    else to = middle;
  }
  return Math.round((100 * from) / (N || 1));
};
const quantile = (d, part) => { // the value below which that part of the catalog is
  const at = clamp(part * N - 0.5, 0, N - 1), k = Math.floor(at), next = Math.min(N - 1, k + 1);
  return sorted[d][k] + (at - k) * (sorted[d][next] - sorted[d][k]);
};
const reach = (d) => { // the catalog's range, in whole hundredths
  const low = Math.min(0.99, Math.floor(sorted[d][0] * 100 + 1e-4) / 100);
  return [low, Math.max(low + 0.01, Math.ceil(sorted[d][N - 1] * 100 - 1e-4) / 100)];
};

const title = (i) => D.title[i] || "(no title)";
const by = (i) => [D.artist[i], D.album[i]].filter(Boolean).join(" · ");
const mood = (i) => D.moods[A.mood[i]] ?? "";
const unlike = (i) => A.in_distribution[i] === 0;
const rank = (d, i) => String(Math.round(100 * percentile[d][i] + 1e-4)); // a half upwards, also of a Float32Array
const interval = (d, i) => (isNaN(lower[d][i]) ? "" : `${two(lower[d][i])} – ${two(upper[d][i])}`);
const known = (name, i) => name in A && !isNaN(A[name][i]);
const tempo = (i) => (known("tempo", i) ? `${Math.round(A.tempo[i])} BPM` : "");
const tonality = (i) => [D.keys[A.key?.[i]], D.modes[A.mode?.[i]]].filter(Boolean).join(" ").replace("#", "♯");
const signed = (x) => x.toFixed(1).replace("-", "−");

const decoded = (text, odd = text) => { // odd: what stands for a name whose bytes are not UTF-8
  try { return decodeURIComponent(text); } catch { return odd; }
};
const place = (i) => { // {href, path}: the path where the page is a local file, "" where its bytes are not UTF-8
  if (!D.files[i]) return { href: D.remote[i] ?? "" };
  const { href, protocol, host, pathname } = new URL(D.files[i], location.href);
  if (protocol !== "file:") return { href };
  const path = decoded(pathname, "");
  return { href, path: host ? `//${host}${path}` : path.replace(/^\/(?=[A-Za-z]:\/)/, "") };
};
const address = (i, odd = /(?!)/) => { // a path where there is one that is not odd, else a URI
  const { href, path } = place(i);
  return path && plain(path) === path && !odd.test(path) ? path : href;
};
const barePath = (i) => { // for those that decode no URI; "" where a line cannot hold the path
  const { href, path = href } = place(i), name = path.slice(path.lastIndexOf("/") + 1);
  return /[\r\n]/.test(path) || path !== path.trim() || name !== name.trim() ? "" : path;
};

let allCurves = null;
const unpack = (i) => { // null while the page is still arriving: the curves are its last part
  if (document.readyState === "loading") return null;
  allCurves ??= $("curves").textContent;
  const raw = bytes(allCurves.slice(4 * A.start[i], 4 * A.start[i + 1]));
  const n = A.n_curve[i], size = DIMENSIONS.length, levels = Array.from(raw.subarray(0, size * n), (c) => (c === 255 ? NaN : c / 254));
  return {
    lines: DIMENSIONS.map((_, d) => levels.filter((_, k) => k % size === d)),
    wave: Array.from(raw.subarray(size * n, size * n + A.n_waveform[i]), (c) => c / 255),
    hop: A.curve_hop_s[i],
  };
};
