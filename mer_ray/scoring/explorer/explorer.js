// The explorer. Every text of the catalog goes in by textContent or as an attribute's value, never as markup.
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const make = (tag, text = "", cls = "") => {
  const el = document.createElement(tag);
  el.textContent = text;
  if (cls) el.className = cls;
  return el;
};
const svg = (tag, attributes = {}) => {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  return el;
};
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const two = (x) => x.toFixed(2);
const clock = (s) => {
  const t = Math.max(0, Math.floor(s)), h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
  return (h ? `${h}:${String(m).padStart(2, "0")}` : m) + ":" + String(t % 60).padStart(2, "0");
};
const number = new Intl.NumberFormat("en");

// data ---------------------------------------------------------------------------------------------------------------

const bytes = (base64) => {
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
};
const KINDS = { "|u1": Uint8Array, "<u2": Uint16Array, "<u4": Uint32Array, "<i4": Int32Array, "<f4": Float32Array };
const D = JSON.parse($("data").textContent);
const A = {};
for (const [name, [kind, packed]] of Object.entries(D.arrays)) A[name] = new KINDS[kind](bytes(packed).buffer);
const N = D.n;
const unit = (codes) => Float64Array.from(codes, (c) => (c === 65535 ? NaN : c / 65534));

const DIMENSIONS = D.dimensions.map((d) => d.key);
const NAME = Object.fromEntries(D.dimensions.map((d) => [d.key, d.name]));
const SHORT = Object.fromEntries(D.dimensions.map((d) => [d.key, d.short]));
const HUE = Object.fromEntries(D.dimensions.map((d) => [d.key, `var(--c${d.hue})`]));
const { x: ACROSS, y: UP, colour: COLOUR } = D.plane;
const LISTED = [...new Set([ACROSS.key, UP.key, COLOUR, ...DIMENSIONS])].filter((d) => d in NAME).slice(0, 3); // as many as have room
const value = {}, lower = {}, upper = {};
for (const d of DIMENSIONS) {
  value[d] = unit(A[d]);
  lower[d] = unit(A["lower_" + d]);
  upper[d] = unit(A["upper_" + d]);
}
const width = new Float64Array(N); // half the interval, the mean of the dimensions
for (let i = 0; i < N; i++) {
  let sum = 0;
  for (const d of DIMENSIONS) sum += upper[d][i] - lower[d][i];
  width[i] = sum / (2 * DIMENSIONS.length);
}
const plotted = { // what the plane may show; the spread fills 0 to 1 evenly
  ...value, novelty: Float64Array.from(A.novelty), spread: Float64Array.from({ length: N }, (_, i) => (0.5 + i * 0.6180339887) % 1),
};
const X = plotted[ACROSS.key], Y = plotted[UP.key], Z = COLOUR ? value[COLOUR] : X;
const percentile = {}, sorted = {}; // in this catalog: of each track, 0..100, and what that of any value follows from
for (const d of DIMENSIONS) {
  percentile[d] = unit(A[`${d}_percentile`]).map((share) => 100 * share);
  sorted[d] = Float64Array.from(value[d]).sort();
}
const share = (d, x) => { // of the tracks that are below x, in percent
  let from = 0, to = N;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[d][middle] < x) from = middle + 1;
    else to = middle;
  }
  return Math.round((100 * from) / (N || 1));
};
const reach = (d) => { // the catalog's range, in whole hundredths
  const low = Math.min(0.99, Math.floor(sorted[d][0] * 100) / 100);
  return [low, Math.max(low + 0.01, Math.ceil(sorted[d][N - 1] * 100) / 100)];
};
const mood = (i) => D.moods[A.mood[i]] ?? "";
const inMoods = new Set(); // the chosen ones; none: all
const unlike = (i) => A.in_distribution[i] === 0;

const decoded = (text) => { // a name whose bytes are not UTF-8 stays encoded
  try { return decodeURIComponent(text); } catch { return text; }
};
const plain = (text) => String(text).replace(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();
const address = (i, odd = /(?!)/) => { // a path where the page is a local file, unless it is odd; else a URI
  if (!D.files[i]) return D.remote[i] ?? "";
  const url = new URL(D.files[i], location.href);
  const path = decoded(url.pathname).replace(/^\/(?=[A-Za-z]:\/)/, "");
  const sayable = plain(path) === path && !path.includes("\ufffd") && !odd.test(path);
  return url.protocol === "file:" && sayable ? path : url.href;
};
const LIKE_URI = /[#?%]/; // to a player that takes each line of a playlist for a URI, as VLC does

let allCurves = null;
const unpack = (i) => {
  allCurves ??= $("curves").textContent;
  const raw = bytes(allCurves.slice(4 * A.start[i], 4 * A.start[i + 1]));
  const n = A.n_curve[i], size = DIMENSIONS.length, levels = Array.from(raw.subarray(0, size * n), (c) => (c === 255 ? NaN : c / 254));
  return {
    lines: DIMENSIONS.map((_, d) => levels.filter((_, k) => k % size === d)),
    wave: Array.from(raw.subarray(size * n, size * n + A.n_waveform[i]), (c) => c / 255),
    hop: A.curve_hop_s[i],
  };
};

// state --------------------------------------------------------------------------------------------------------------

let shown = new Int32Array(0);      // rows of the table that match, in the list's order
let order = new Int32Array(N);      // all rows, in the list's order
let sort = { key: "artist", up: true };
let active = 0;                     // position in `shown` where the keyboard is
let opened = -1;                    // row of the opened track
const picked = new Uint8Array(N);
let nPicked = 0;
const limits = {};                  // key → [low, high, lowest, highest]

const SORTS = { title: A.by_title, artist: A.by_artist, ...value, width };
const reorder = () => {
  const by = SORTS[sort.key], sign = sort.up ? 1 : -1;
  order = Int32Array.from({ length: N }, (_, i) => i);
  // What is unknown comes last either way.
  order.sort((a, b) => (isNaN(by[a]) - isNaN(by[b])) || sign * (by[a] - by[b]) || a - b);
};

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
let folded = null;
const words = () => fold($("search").value).split(/\s+/).filter(Boolean);

const matches = () => {
  const terms = words(), onlyLike = $("only-like").checked;
  if (terms.length) folded ??= Array.from({ length: N }, (_, i) => fold(`${D.title[i]}\n${D.artist[i]}\n${D.album[i]}`));
  const tests = Object.entries(limits).filter(([, l]) => l[0] > l[2] || l[1] < l[3])
    .map(([key, [low, high]]) => [SORTS[key], low - 0.0005, high + 0.0005]);
  const out = new Int32Array(N);
  let n = 0;
  next: for (const i of order) {
    if (onlyLike && unlike(i)) continue;
    if (inMoods.size && !inMoods.has(A.mood[i])) continue;
    for (const [values, low, high] of tests) if (!(values[i] >= low && values[i] <= high)) continue next;
    for (const term of terms) if (!folded[i].includes(term)) continue next;
    out[n++] = i;
  }
  return out.slice(0, n);
};

const update = () => {
  const at = shown[active];
  shown = matches();
  const still = at === undefined ? -1 : shown.indexOf(at);
  active = Math.max(0, still);
  $("count").textContent = shown.length === N
    ? `${number.format(N)} ${N === 1 ? "track" : "tracks"}`
    : `${number.format(shown.length)} of ${number.format(N)} tracks`;
  $("nothing").hidden = shown.length > 0 || N === 0;
  if (still < 0) $("list").scrollTop = 0;
  list();
  drawPlane();
  actions();
};

// list: only the rows in sight are in the document -------------------------------------------------------------------

const ROW = 54;
const pool = [];
const newRow = () => {
  const row = make("div", "", "row");
  row.setAttribute("role", "option");
  const box = make("input");
  box.type = "checkbox";
  box.tabIndex = -1;
  const name = make("div", "", "name"), title = make("span", "", "title"), artist = make("span", "", "artist");
  title.dir = artist.dir = "auto";
  name.append(title, artist);
  const cells = [...LISTED.map(() => make("span", "", "cell")), make("span", "", "cell width")];
  const word = make("span", "", "mood");
  row.append(box, name, ...cells, word);
  row.parts = { box, title, artist, cells, word };
  row.addEventListener("click", (e) => {
    active = row.position;
    if (e.target === box) pick([row.track], box.checked);
    else { open(row.track); $("list").focus({ preventScroll: true }); }
    list();
  });
  $("spacer").append(row);
  pool.push(row);
  return row;
};
const put = (el, text) => { if (el.textContent !== text) el.textContent = text; };
const list = () => {
  const box = $("list"), first = Math.max(0, Math.floor(box.scrollTop / ROW) - 2);
  const last = Math.min(shown.length, first + Math.ceil(box.clientHeight / ROW) + 5);
  $("spacer").style.height = `${shown.length * ROW}px`;
  for (let k = 0; k < Math.max(pool.length, last - first); k++) {
    const row = pool[k] ?? newRow(), position = first + k;
    row.hidden = position >= last;
    if (row.hidden) { row.removeAttribute("id"); continue; }
    const i = shown[position], { box: check, title, artist, cells, word } = row.parts;
    row.position = position;
    row.track = i;
    row.id = `row-${position}`;
    row.style.transform = `translateY(${position * ROW}px)`;
    row.setAttribute("aria-posinset", position + 1);
    row.setAttribute("aria-setsize", shown.length);
    row.setAttribute("aria-selected", picked[i] ? "true" : "false");
    row.classList.toggle("active", position === active);
    row.classList.toggle("opened", i === opened);
    row.classList.toggle("unlike", unlike(i));
    check.checked = !!picked[i];
    check.setAttribute("aria-label", `Select ${D.title[i]}`);
    put(title, D.title[i] || "(no title)");
    put(artist, [D.artist[i], D.album[i]].filter(Boolean).join(" · "));
    LISTED.forEach((d, c) => put(cells[c], two(value[d][i])));
    put(word, mood(i));
    put(cells[LISTED.length], isNaN(width[i]) ? "–" : `±${two(width[i])}`);
  }
  if (shown.length) box.setAttribute("aria-activedescendant", `row-${active}`);
  else box.removeAttribute("aria-activedescendant");
};
const moveTo = (place) => {
  if (!shown.length) return;
  active = clamp(place, 0, shown.length - 1);
  const box = $("list"), top = active * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  list();
};
const headers = () => {
  const labels = { title: "Title", artist: "Artist", width: "±" };
  for (const key of ["title", "artist", ...LISTED, "width"]) {
    const button = make("button", labels[key] ?? SHORT[key], key in labels ? key : "");
    button.type = "button";
    button.dataset.key = key;
    if (key in HUE) button.style.color = HUE[key];
    button.title = `Sort by ${key === "width" ? "uncertainty" : (NAME[key] ?? key).toLowerCase()}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => {
      sort = { key, up: sort.key === key ? !sort.up : true };
      arrows();
      reorder();
      $("list").scrollTop = 0;
      active = 0;
      shown = new Int32Array(0);
      update();
    });
    $("columns").append(button);
  }
  arrows();
};
const arrows = () => {
  for (const button of $("columns").children) {
    const on = button.dataset.key === sort.key;
    button.dataset.sorted = on ? (sort.up ? "↑" : "↓") : "";
    button.setAttribute("aria-pressed", on ? "true" : "false");
  }
};

// selection and what is made of it -----------------------------------------------------------------------------------

const pick = (rows, on) => {
  for (const i of rows) {
    nPicked += (on ? 1 : 0) - picked[i];
    picked[i] = on ? 1 : 0;
  }
  actions();
  list();
  markPicked();
};
const actions = () => {
  put($("picked"), nPicked ? `${number.format(nPicked)} selected` : "Nothing selected");
  $("none").hidden = !nPicked;
  $("playlist").disabled = $("csv").disabled = !nPicked;
  $("all").disabled = !shown.length;
  put($("all"), shown.length === N || !shown.length ? "Select all" : `Select the ${number.format(shown.length)} that match`);
};
const chosen = () => order.filter((i) => picked[i]); // in the list's order
const m3u8 = (rows) => {
  const lines = ["#EXTM3U", `#PLAYLIST:${plain(D.name)}`];
  let without = 0;
  for (const i of rows) {
    const place = plain(address(i, LIKE_URI));
    if (!place) { without++; continue; }
    const name = [D.artist[i], D.title[i]].filter(Boolean).map(plain).join(" - ");
    lines.push(`#EXTINF:${Math.round(A.duration_s[i]) || -1},${name}`, place);
  }
  return { text: lines.join("\n") + "\n", without };
};
// As in cells.py: no spreadsheet is to run a text as a formula.
const SIGN = "=+\\-@＝＋－＠﹦﹢﹣﹫", BLANK = "\\s'\"\\x00-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u2060\\ufeff";
const GUARD = new RegExp(`^(?=[${BLANK}]*[\\t\\r\\n${SIGN}])|(?<=[;\\t\\r\\n])(?=[${BLANK}]*[${SIGN}])`, "gu");
const cell = (text) => `"${plain(text).replace(GUARD, "'").replaceAll('"', '""')}"`;
const csv = (rows) => {
  const names = DIMENSIONS.flatMap((d) => [d, `lower_${d}`, `upper_${d}`, `${d}_percentile`]);
  const columns = DIMENSIONS.flatMap((d) => [value[d], lower[d], upper[d], percentile[d]]);
  const moods = D.moods.length > 0;
  const lines = [["artist", "title", "album", ...names, ...(moods ? ["mood"] : []), "in_distribution", "duration_s", "file"].join(",")];
  for (const i of rows) {
    lines.push([
      ...[D.artist[i], D.title[i], D.album[i]].map(cell),
      ...columns.map((c) => (isNaN(c[i]) ? "" : c[i].toFixed(4))),
      ...(moods ? [mood(i)] : []), ["false", "true", ""][A.in_distribution[i]], A.duration_s[i].toFixed(1), cell(address(i)),
    ].join(","));
  }
  return "\ufeff" + lines.join("\r\n") + "\r\n"; // the mark tells Excel that this is UTF-8
};
const save = (text, kind, ending) => {
  const name = D.name.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "tracks";
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = `${name}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
$("playlist").addEventListener("click", () => {
  const { text, without } = m3u8(chosen());
  save(text, "audio/x-mpegurl;charset=utf-8", "m3u8");
  if (without) put($("picked"), `${number.format(nPicked)} selected, ${number.format(without)} left out: no file known`);
});
$("csv").addEventListener("click", () => save(csv(chosen()), "text/csv;charset=utf-8", "csv"));
$("all").addEventListener("click", () => pick(shown, true));
$("none").addEventListener("click", () => pick(chosen(), false));

// filters ------------------------------------------------------------------------------------------------------------

const histogram = (values, low, high) => {
  const bars = new Array(24).fill(0);
  for (const x of values) if (!isNaN(x)) bars[clamp(Math.floor(((x - low) / (high - low)) * 24), 0, 23)]++;
  const top = Math.max(1, ...bars);
  const drawing = svg("svg", { viewBox: "0 0 24 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  const d = bars.map((n, k) => (n ? `M${k + 0.1} 10V${(10 - Math.max(0.4, (n / top) * 10)).toFixed(2)}h.8V10z` : "")).join("");
  drawing.append(svg("path", { d }));
  return drawing;
};
const slider = (key, label, low, high) => {
  const group = make("div", "", "range"), head = make("div", "", "head"), said = make("output");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  head.append(make("span", label), said);
  const track = make("div", "", "track"), fill = make("i");
  const ends = ["lowest", "highest"].map((end, k) => {
    const input = make("input");
    Object.assign(input, { type: "range", min: low, max: high, step: 0.01, value: k ? high : low, id: `${key}-${end}` });
    input.setAttribute("aria-label", `${label}, ${end}`);
    return input;
  });
  const show = () => {
    const [a, b] = limits[key];
    said.textContent = key === "width" ? `±${two(a)} – ±${two(b)}` : `${two(a)} – ${two(b)}`;
    if (key in sorted) said.append(make("small", `percentile ${share(key, a - 0.0005)} – ${share(key, b + 0.0005)}`));
    fill.style.left = `${((a - low) / (high - low)) * 100}%`;
    fill.style.right = `${((high - b) / (high - low)) * 100}%`;
    ends[0].style.zIndex = a > (low + high) / 2 ? 3 : 1; // so that two thumbs in one place can be parted again
    group.classList.toggle("set", a > low || b < high);
  };
  ends.forEach((input, k) => input.addEventListener("input", () => {
    const [a, b] = limits[key];
    limits[key][k] = k ? Math.max(+input.value, a) : Math.min(+input.value, b);
    input.value = limits[key][k];
    show();
    update();
  }));
  group.reset = () => {
    limits[key] = [low, high, low, high];
    ends[0].value = low;
    ends[1].value = high;
    show();
  };
  track.append(histogram(SORTS[key], low, high), fill, ...ends);
  group.append(head, track);
  $("sliders").append(group);
  group.reset();
};
const moodButtons = () => {
  const counts = new Array(D.moods.length + 1).fill(0);
  for (const code of A.mood) counts[code]++;
  $("moods").hidden = counts[D.moods.length] === N;
  D.moods.forEach((word, code) => {
    const button = make("button", word);
    button.type = "button";
    button.append(make("small", number.format(counts[code])));
    button.disabled = !counts[code];
    const show = () => button.setAttribute("aria-pressed", inMoods.has(code) ? "true" : "false");
    button.addEventListener("click", () => {
      if (!inMoods.delete(code)) inMoods.add(code);
      show();
      update();
    });
    button.reset = show;
    $("moods").append(button);
    show();
  });
};
const reset = () => {
  for (const group of $("sliders").children) group.reset();
  inMoods.clear();
  for (const button of $("moods").querySelectorAll("button")) button.reset();
  $("only-like").checked = false;
  $("search").value = "";
  update();
};
$("reset").addEventListener("click", reset);
$("only-like").addEventListener("change", update);
$("search").addEventListener("input", update);
$("sliders").addEventListener("submit", (e) => e.preventDefault());

// plane --------------------------------------------------------------------------------------------------------------

let figure = null, view = null, sources = null, tools = null, ranges = null, tool = "move", hovered = -1;
const HOME = [ACROSS, UP].map(({ top }) => [-0.03 * top, 1.03 * top]);
const dark = matchMedia("(prefers-color-scheme: dark)");
const named = (name) => figure.document.get_model_by_name(name);
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const drawPlane = () => {
  if (!view) return;
  const rows = { like: [], unlike: [] };
  for (const i of shown) rows[unlike(i) ? "unlike" : "like"].push(i);
  for (const [name, source] of Object.entries(sources)) {
    const at = rows[name];
    if (!at.length && !source.rows.length) continue;
    source.rows = at;
    source.model.selected.indices = [];
    source.model.data = {
      x: Float64Array.from(at, (i) => X[i]), y: Float64Array.from(at, (i) => Y[i]), d: Float64Array.from(at, (i) => Z[i]),
    };
  }
  markPicked();
  showHover(-1);
  overlay();
};
let marking = false;
const markPicked = () => {
  if (!view) return;
  marking = true;
  for (const { model, rows } of Object.values(sources)) {
    const at = [];
    if (nPicked) rows.forEach((i, k) => { if (picked[i]) at.push(k); });
    if (at.length || model.selected.indices.length) model.selected.indices = at;
  }
  marking = false;
};
const boxed = () => { // a box or lasso was drawn: Bokeh has found what is in it
  if (marking) return;
  const found = Object.values(sources).flatMap(({ model, rows }) => model.selected.indices.map((k) => rows[k]));
  pick(found, true);
};
const theme = () => {
  const colours = D.palettes[dark.matches ? "dark" : "light"];
  const stops = Array.from({ length: 9 }, (_, k) => colours[Math.round((k / 8) * (colours.length - 1))]);
  $("gradient").style.background = `linear-gradient(90deg, ${stops.join(",")})`;
  if (!view) return;
  named("colour").palette = colours;
  const ink = token("--muted"), line = token("--line");
  for (const model of figure.references()) {
    if (model.tags.includes("axis")) Object.assign(model, { axis_label_text_color: ink, major_label_text_color: ink });
    if (model.tags.includes("grid")) model.grid_line_color = line;
    if (model.tags.includes("words")) model.text_color = ink;
    if (model.tags.includes("line")) model.line_color = ink;
  }
};
const zoomTo = (x0, x1, y0, y1) => {
  ranges.x.setv({ start: x0, end: x1 });
  ranges.y.setv({ start: y0, end: y1 });
};
const zoomBy = (factor) => {
  const [x, y] = [[ranges.x, ACROSS.top], [ranges.y, UP.top]].map(([{ start, end }, top]) => {
    const middle = (start + end) / 2, half = Math.min(0.6 * top, ((end - start) / 2) * factor);
    return half < 0.01 * top ? [start, end] : [middle - half, middle + half].map((v) => clamp(v, -0.1 * top, 1.1 * top));
  });
  zoomTo(...x, ...y);
};
const frame = (x, y) => { // zoom, with the quadrants' words in the corners
  zoomTo(...x, ...y);
  for (const model of figure.references()) {
    if (model.tags.includes("words")) {
      model.x = x[model.text_align === "left" ? 0 : 1];
      model.y = y[model.text_baseline === "top" ? 1 : 0];
    }
  }
};
const fit = () => {
  if (!shown.length) return;
  frame(...[[X, ACROSS.top], [Y, UP.top]].map(([values, top]) => {
    let low = Infinity, high = -Infinity;
    for (const i of shown) { low = Math.min(low, values[i]); high = Math.max(high, values[i]); }
    const middle = (low + high) / 2, half = Math.max(0.05 * top, 0.56 * (high - low));
    return [middle - half, middle + half];
  }));
};
const choose = (name) => {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === name ? "true" : "false");
  }
  for (const [key, model] of Object.entries(tools)) model.active = key === name;
};

const place = (i) => { // of a track, in pixels from the frame's corner
  const { left, top } = view.frame.bbox;
  return [view.frame.x_scale.compute(X[i]) - left, view.frame.y_scale.compute(Y[i]) - top];
};
const near = (event, reach) => {
  const corner = view.canvas_view.el.getBoundingClientRect(), { left, top, width: w, height: h } = view.frame.bbox;
  const x = event.clientX - corner.left - left, y = event.clientY - corner.top - top;
  if (x < 0 || y < 0 || x > w || y > h) return -1;
  const { start: x0, end: x1 } = ranges.x, { start: y0, end: y1 } = ranges.y;
  const sx = w / (x1 - x0), sy = h / (y1 - y0);
  let best = -1, least = reach * reach;
  for (const i of shown) {
    const dx = (X[i] - x0) * sx - x, dy = h - (Y[i] - y0) * sy - y, far = dx * dx + dy * dy;
    if (far < least) { least = far; best = i; }
  }
  return best;
};
const neighbours = (i) => Array.from(A.similar.subarray(i * D.n_similar, (i + 1) * D.n_similar)).filter((j) => j >= 0);
const overlay = () => {
  if (!view) return;
  const drawing = $("overlay"), { left, top, width: w, height: h } = view.frame.bbox;
  const inset = view.canvas_view.el.getBoundingClientRect(), outer = $("plane").getBoundingClientRect();
  Object.assign(drawing.style, { left: `${inset.left - outer.left + left}px`, top: `${inset.top - outer.top + top}px` });
  drawing.setAttribute("width", w);
  drawing.setAttribute("height", h);
  drawing.replaceChildren();
  const ends = (axis, scale, i) => [lower, upper].map((end) => scale.compute(end[axis.key][i]));
  const box = (i, cls) => { // of both intervals; where up is no dimension, a bar
    const [l, r] = ends(ACROSS, view.frame.x_scale, i).map((x) => x - left), middle = place(i)[1];
    const [b, t] = UP.key in value ? ends(UP, view.frame.y_scale, i).map((y) => y - top) : [middle + 4, middle - 4];
    if ([l, r, b, t].every(isFinite)) drawing.append(svg("rect", { x: l, y: t, width: r - l, height: b - t, rx: 3, class: cls }));
  };
  const ring = (i, r, cls) => {
    const [cx, cy] = place(i);
    drawing.append(svg("circle", { cx, cy, r, class: "halo" }), svg("circle", { cx, cy, r, class: cls }));
  };
  if (opened >= 0) {
    for (const j of neighbours(opened)) ring(j, 6, "near");
    box(opened, "interval opened");
    ring(opened, 8, "opened");
  }
  if (hovered >= 0) {
    box(hovered, "interval");
    ring(hovered, 7, "hover");
  }
};
const showHover = (i) => {
  const tip = $("hover");
  if (i === hovered && (i < 0) === tip.hidden) return;
  hovered = i;
  tip.hidden = i < 0;
  $("plane").style.cursor = i < 0 ? "" : "pointer";
  if (i >= 0) {
    const title = make("strong", D.title[i] || "(no title)"), artist = make("span", D.artist[i]);
    title.dir = artist.dir = "auto";
    const rows = DIMENSIONS.map((d) => {
      const row = make("div", "", "figures");
      row.append(make("span", NAME[d]), make("b", two(value[d][i])), make("span", interval(d, i)), make("span", `P${rank(d, i)}`));
      return row;
    });
    tip.replaceChildren(title, ...(D.artist[i] ? [artist] : []), ...rows);
    if (mood(i)) tip.append(make("div", `${mood(i)}, in this catalog`, "mood"));
    if (unlike(i)) tip.append(make("em", "out of distribution"));
    const [x, y] = place(i), { left, top, width: w } = view.frame.bbox;
    tip.style.left = `${left + x}px`;
    tip.style.top = `${top + y}px`;
    tip.dataset.side = (x > w / 2 ? "left" : "right") + (y > view.frame.bbox.height / 2 ? "-up" : "-down");
  }
  overlay();
};
const interval = (d, i) => (isNaN(lower[d][i]) ? "" : `${two(lower[d][i])} – ${two(upper[d][i])}`);

const rank = (d, i) => String(Math.round(percentile[d][i]));

const startPlane = async () => {
  const manager = await Bokeh.embed.embed_item(JSON.parse($("figure").textContent), $("plane"));
  view = Array.from(manager.roots)[0];
  figure = view.model;
  sources = Object.fromEntries(["like", "unlike"].map((name) => [name, { model: named(name), rows: [] }]));
  tools = Object.fromEntries(["move", "box", "lasso"].map((name) => [name, named(name)]));
  ranges = { x: named("x_range"), y: named("y_range") };
  // Bokeh clears its selection by itself (Escape); what is picked here stays.
  for (const { model } of Object.values(sources)) model.selected.change.connect(() => { if (!marking) setTimeout(markPicked); });
  figure.on_event("selectiongeometry", (event) => { if (event.final) boxed(); });
  let moved = 0;
  const follow = () => { moved ||= requestAnimationFrame(() => { moved = 0; showHover(-1); overlay(); }); };
  for (const range of Object.values(ranges)) range.change.connect(follow);
  const box = $("plane");
  new ResizeObserver(() => setTimeout(follow, 80)).observe(box);
  let down = null;
  box.addEventListener("pointerdown", (e) => { down = [e.clientX, e.clientY]; showHover(-1); }, true);
  box.addEventListener("pointermove", (e) => {
    if (e.pointerType !== "touch" && !e.buttons) showHover(near(e, 12));
  }, true);
  box.addEventListener("pointerleave", () => showHover(-1));
  box.addEventListener("click", (e) => {
    if (!down || Math.hypot(e.clientX - down[0], e.clientY - down[1]) > 5) return;
    const i = near(e, matchMedia("(pointer: coarse)").matches ? 24 : 12);
    if (i >= 0) open(i);
  }, true);
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => choose(button.dataset.tool));
  $("zoom-in").addEventListener("click", () => zoomBy(0.6));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 0.6));
  $("zoom-fit").addEventListener("click", fit);
  $("zoom-all").addEventListener("click", () => frame(...HOME));
  const painted = new Promise((done) => view.repainted.connect(done));
  const median = (d) => (sorted[d][(N - 1) >> 1] + sorted[d][N >> 1]) / 2;
  $("scale").hidden = !COLOUR;
  if (COLOUR) {
    const [low, high] = reach(COLOUR);
    Object.assign(named("colour"), { low, high });
    put($("colour"), NAME[COLOUR]);
    put($("least"), two(low));
    put($("most"), two(high));
  }
  for (const [axis, name] of [[ACROSS, "x_median"], [UP, "y_median"]]) {
    if (axis.key in value) named(name).location = median(axis.key);
  }
  theme();
  drawPlane();
  fit();
  await painted;
};

// the opened track ---------------------------------------------------------------------------------------------------

const audio = $("audio");
let length = 0; // s, of the opened track
const open = (i) => {
  if (i < 0 || i >= N) return;
  const again = i === opened;
  opened = i;
  $("track").hidden = false;
  $("track").scrollIntoView({ block: "nearest" }); // it may be below, on a screen of middling width
  if (again) return;
  audio.pause();
  put($("t-title"), D.title[i] || "(no title)");
  put($("t-artist"), [D.artist[i], D.album[i]].filter(Boolean).join(" · "));
  $("numbers").replaceChildren(...DIMENSIONS.map((d) => {
    const row = make("tr");
    row.append(make("th", NAME[d]), make("td", two(value[d][i])), make("td", rank(d, i)), make("td", interval(d, i) || "unknown"));
    return row;
  }));
  put($("t-mood"), mood(i) ? `${mood(i)}, in this catalog` : "");
  const novelty = isNaN(A.novelty[i]) ? "" : ` (novelty ${two(A.novelty[i])}, above 1 is unlike)`;
  put($("t-like"), ["Out of distribution: unlike the training music, so take its numbers with care", "In distribution: like the training music", ""][A.in_distribution[i]] + (A.in_distribution[i] === 2 ? "" : novelty));
  $("t-like").className = unlike(i) ? "warning" : "";
  curve(i);
  load(i);
  similar(i);
  list();
  showHover(-1);
  overlay();
};
const close = () => {
  if (opened < 0) return;
  opened = -1;
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  $("track").hidden = true;
  list();
  overlay();
};
let drawn = { lines: DIMENSIONS.map(() => []), wave: [], hop: 1 };
const curve = (i) => {
  drawn = unpack(i);
  const { lines, wave, hop } = drawn, n = lines[0].length;
  length = A.duration_s[i] || n * hop || 0;
  const drawing = $("curve").querySelector("svg");
  drawing.setAttribute("viewBox", "0 0 1000 100");
  drawing.replaceChildren();
  if (wave.length) {
    const x = (k) => ((k / (wave.length - 1 || 1)) * 1000).toFixed(1);
    const up = wave.map((a, k) => `${x(k)} ${(50 - 47 * a).toFixed(1)}`), down = wave.map((a, k) => `${x(k)} ${(50 + 47 * a).toFixed(1)}`);
    drawing.append(svg("path", { d: `M${up.join("L")}L${down.reverse().join("L")}Z`, class: "wave" }));
  }
  drawing.append(svg("path", { d: "M0 50H1000", class: "middle" }));
  lines.forEach((line, d) => {
    let text = "", pen = "M";
    line.forEach((y, k) => {
      if (isNaN(y)) { pen = "M"; return; }
      const x = clamp(((k + 0.5) * hop) / (length || 1), 0, 1) * 1000, level = (97 - 94 * y).toFixed(2);
      text += n === 1 ? `M0 ${level}H1000` : `${pen}${x.toFixed(1)} ${level}`;
      pen = "L";
    });
    const path = svg("path", { d: text, class: "line" });
    path.style.stroke = HUE[DIMENSIONS[d]];
    drawing.append(path);
  });
  put($("curve-empty"), n ? "" : "No curve is known of this track");
  const marks = [], step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((s) => length / s <= 6) ?? 7200;
  for (let t = 0; length && t <= length; t += step) {
    const mark = make("span", clock(t), t / length > 0.96 ? "end" : "");
    mark.style.left = `${(t / length) * 100}%`;
    marks.push(mark);
  }
  $("ticks").replaceChildren(...marks);
  $("curve").setAttribute("aria-valuemax", Math.round(length));
  readout(0);
};
const readout = (t) => {
  const { lines, hop } = drawn, k = clamp(Math.floor(t / hop), 0, lines[0].length - 1);
  $("readout").replaceChildren(...(lines[0].length ? DIMENSIONS.map((d, n) => {
    const el = make("span");
    el.style.color = HUE[d];
    el.append(make("i"), `${NAME[d]} `, make("b", isNaN(lines[n][k]) ? "–" : two(lines[n][k])));
    return el;
  }) : []));
};
const load = (i) => {
  const source = D.files[i];
  $("play").disabled = !source;
  $("audio-note").textContent = source ? "" : D.remote[i] ? `The audio is not on this computer: ${D.remote[i]}` : "No audio file is known of this track.";
  if (source) audio.src = source;
  else audio.removeAttribute("src");
  audio.load();
  follow();
};
const follow = () => {
  const t = audio.currentTime || 0;
  $("cursor").style.left = `${clamp(t / (length || 1), 0, 1) * 100}%`;
  put($("time"), `${clock(t)} / ${clock(length)}`);
  $("curve").setAttribute("aria-valuenow", Math.round(t));
  $("curve").setAttribute("aria-valuetext", `${clock(t)} of ${clock(length)}`);
};
const run = () => {
  follow();
  readout(audio.currentTime);
  if (!audio.paused) requestAnimationFrame(run);
};
const seek = (t) => {
  const to = clamp(t, 0, length);
  if (audio.readyState > 0) audio.currentTime = Math.min(to, audio.duration || to);
  else if (audio.src) audio.addEventListener("loadedmetadata", () => { audio.currentTime = to; }, { once: true });
  readout(to);
  follow();
};
const toggle = () => {
  if ($("play").disabled) return;
  if (audio.paused) audio.play().catch(() => failed());
  else audio.pause();
};
const failed = () => {
  if (opened >= 0 && D.files[opened]) put($("audio-note"), `The audio does not play. It is looked for at ${plain(decoded(D.files[opened]))}, seen from this page's folder.`);
};
audio.addEventListener("error", failed);
audio.addEventListener("timeupdate", follow);
audio.addEventListener("seeked", follow);
for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, () => {
  put($("play"), audio.paused ? "Play" : "Pause");
  $("play").setAttribute("aria-label", audio.paused ? "Play (space)" : "Pause (space)");
  run();
});
$("play").addEventListener("click", toggle);
$("close").addEventListener("click", () => { close(); $("list").focus({ preventScroll: true }); });
const time = (e) => {
  const box = $("curve").getBoundingClientRect();
  return clamp((e.clientX - box.left) / box.width, 0, 1) * length;
};
$("curve").addEventListener("click", (e) => seek(time(e)));
$("curve").addEventListener("pointermove", (e) => readout(time(e)));
$("curve").addEventListener("pointerleave", () => readout(audio.currentTime || 0));
$("curve").addEventListener("keydown", (e) => {
  const by = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, Home: -Infinity, End: Infinity }[e.key];
  if (by === undefined) return;
  e.preventDefault();
  seek((audio.currentTime || 0) + by);
});

const similar = (i) => {
  const rows = neighbours(i);
  $("similar").replaceChildren(...rows.map((j) => {
    const item = make("li"), button = make("button");
    const title = make("span", D.title[j] || "(no title)", "title"), artist = make("span", D.artist[j], "artist");
    title.dir = artist.dir = "auto";
    button.type = "button";
    button.append(title, artist);
    button.addEventListener("click", () => { open(j); const k = shown.indexOf(j); if (k >= 0) moveTo(k); });
    item.append(button);
    return item;
  }));
  $("no-similar").hidden = rows.length > 0;
  put($("no-similar"), N < 2 ? "There is no other track." : "None: how this track sounds is not known.");
};

// keyboard -----------------------------------------------------------------------------------------------------------

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity };
$("list").addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key in STEPS) moveTo(active + STEPS[e.key]);
  else if (e.key === "Enter" && shown.length) open(shown[active]);
  else if ((e.key === "x" || e.key === "X") && shown.length) pick([shown[active]], !picked[shown[active]]);
  else return;
  e.preventDefault();
});
$("search").addEventListener("keydown", (e) => {
  if (e.key !== "ArrowDown" && e.key !== "Enter") return;
  e.preventDefault();
  $("list").focus();
});
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
  const typing = e.target.matches("input[type=search]"), control = e.target.matches("button, input, summary, a");
  if (e.key === "/" && !typing) {
    e.preventDefault();
    $("search").focus();
    $("search").select();
  } else if (e.key === "Escape") {
    e.preventDefault();
    if (typing && $("search").value) { $("search").value = ""; update(); }
    else if (typing) $("list").focus();
    else if (opened >= 0) { close(); $("list").focus({ preventScroll: true }); }
    else if (nPicked) pick(chosen(), false);
    else if ($("search").value) { $("search").value = ""; update(); }
  } else if (e.key === " " && !control && opened >= 0) {
    e.preventDefault();
    toggle();
  }
});

// start --------------------------------------------------------------------------------------------------------------

const start = async () => {
  $("model").textContent = `${number.format(N)} ${N === 1 ? "track" : "tracks"}` + (D.models.length ? `, scored by ${D.models.join(", ")}` : "");
  if (!N) {
    $("main").hidden = true;
    $("empty").hidden = false;
    document.body.classList.add("is-empty");
    return;
  }
  const style = document.documentElement.style, longest = Math.max(...Object.values(NAME).map((name) => name.length));
  style.setProperty("--listed", LISTED.length);
  style.setProperty("--cell", LISTED.every((d) => SHORT[d].length === 1) ? "40px" : "58px");
  style.setProperty("--names", `max(6.4em, ${longest + 1}ch)`);
  const known = A.in_distribution.some((k) => k !== 2);
  $("only").hidden = !known;
  $("marks").hidden = !A.in_distribution.includes(0);
  for (const d of DIMENSIONS) slider(d, NAME[d], ...reach(d));
  moodButtons();
  let widest = 0;
  for (const w of width) if (w > widest) widest = w;
  if (widest > 0) slider("width", "Uncertainty", 0, Math.ceil(widest * 100) / 100);
  if (matchMedia("(max-width: 700px)").matches) $("filters").open = false;
  headers();
  reorder();
  let scrolled = 0;
  $("list").addEventListener("scroll", () => { scrolled ||= requestAnimationFrame(() => { scrolled = 0; list(); }); });
  new ResizeObserver(list).observe($("list"));
  theme();
  dark.addEventListener("change", theme);
  update();
  await startPlane();
};
// Says, to whoever measures, when the first frame stood: ms since the page was asked for.
start().then(() => setTimeout(() => { document.documentElement.dataset.ready = Math.round(performance.now()); }));
})();
