// Which tracks match, in which order; and the controls that say so.
let shown = new Int32Array(0);      // rows of the table that match, in the list's order
let order = new Int32Array(N);      // all rows, in the list's order
let sort = { key: "artist", up: true };
let active = 0;                     // position in `shown` where the keyboard is
let opened = -1;                    // row of the opened track
const ranges = [];                  // filters with two ends: {values, low, high, from, to, step, unknown ...}
const inMoods = new Set(), inKeys = new Set(), inModes = new Set(); // codes; none: all

const SORTS = { title: A.by_title, artist: A.by_artist, ...value, width, tempo: A.tempo };
const reorder = () => {
  const values = SORTS[sort.key], sign = sort.up ? 1 : -1;
  if (sort.key === "title" || sort.key === "artist") { // ranks, all different
    for (let i = 0; i < N; i++) order[sort.up ? values[i] : N - 1 - values[i]] = i;
    return;
  }
  for (let i = 0; i < N; i++) order[i] = i;
  // What is unknown comes last either way.
  order.sort((a, b) => (isNaN(values[a]) - isNaN(values[b])) || sign * (values[a] - values[b]) || a - b);
};

let folded = null;
const foldAll = () => {
  folded ??= Array.from({ length: N }, (_, i) => fold(`${D.title[i]}\n${D.artist[i]}\n${D.album[i]}`));
};
const terms = () => fold($("search").value).split(/[\s\p{Cc}\p{Cf}]+/u).filter(Boolean); // none of these is in a text, but blanks
const ROUNDED = 1e-7; // by less than this, a packed value of 0 to 1 differs from that of the table
const narrowed = (range) => range.from > range.low || range.to < range.high;
const tonal = () => inKeys.size + inModes.size > 0;

const matches = () => {
  const words = terms(), onlyLike = $("only-like").checked, unknownKeys = $("key-unknown").checked;
  if (words.length) foldAll();
  const tests = ranges.filter(narrowed).map((r) => [
    r.values, r.from > r.low ? Math.fround(r.from) : -Infinity, r.to < r.high ? Math.fround(r.to) : Infinity, r.unknown.checked,
  ]);
  const out = new Int32Array(N);
  let n = 0;
  next: for (let k = 0; k < N; k++) {
    const i = order[k];
    if (onlyLike && unlike(i)) continue;
    if (inMoods.size && !inMoods.has(A.mood[i])) continue;
    for (const [values, low, high, unknown] of tests) {
      const x = values[i];
      if (!(x >= low && x <= high) && !(unknown && isNaN(x))) continue next;
    }
    if (inKeys.size && !(inKeys.has(A.key[i]) || (unknownKeys && A.key[i] === 255))) continue;
    if (inModes.size && !(inModes.has(A.mode[i]) || (unknownKeys && A.mode[i] === 255))) continue;
    for (const word of words) if (!folded[i].includes(word)) continue next;
    out[n++] = i;
  }
  return out.slice(0, n);
};

const update = () => {
  const at = shown[active];
  shown = matches();
  const still = at === undefined ? -1 : shown.indexOf(at);
  active = Math.max(0, still);
  put($("count"), shown.length === N ? tracks(N) : `${number.format(shown.length)} of ${number.format(N)} tracks`);
  $("nothing").hidden = shown.length > 0 || N === 0;
  if (still < 0) $("list").scrollTop = 0;
  list();
  drawPlane();
  actions();
  arcLater();
};

// controls -----------------------------------------------------------------------------------------------------------

const histogram = (values, low, high) => {
  const bars = new Array(24).fill(0);
  for (const x of values) if (!isNaN(x)) bars[clamp(Math.floor(((x - low) / (high - low)) * 24), 0, 23)]++;
  const top = Math.max(1, ...bars);
  const drawing = svg("svg", { viewBox: "0 0 24 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  const d = bars.map((n, k) => (n ? `M${k + 0.1} 10V${(10 - Math.max(0.4, (n / top) * 10)).toFixed(2)}h.8V10z` : "")).join("");
  drawing.append(svg("path", { d }));
  return drawing;
};
const unknownSwitch = (n, id) => { // shown once the filter is set: before that, unknown values match as well
  const label = make("label", "", "unknown"), box = make("input");
  Object.assign(box, { type: "checkbox", id });
  label.append(box, make("span", `Include unknown (${number.format(n)})`));
  box.addEventListener("change", update);
  label.hidden = true;
  return [label, box];
};
const slider = (key, label, values, { low, high, step = 0.01, say = two }) => {
  const group = make("div", "", "range"), head = make("div", "", "head"), said = make("output");
  let nUnknown = 0;
  for (const x of values) if (isNaN(x)) nUnknown++;
  const [unknown, box] = unknownSwitch(nUnknown, `${key}-unknown`);
  const range = { key, label, values, low, high, from: low, to: high, step, say, unknown: box };
  ranges.push(range);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  head.append(make("span", label), said);
  const track = make("div", "", "track"), fill = make("i");
  const ends = ["lowest", "highest"].map((end, k) => {
    const input = make("input");
    Object.assign(input, { type: "range", min: low, max: high, step, value: k ? high : low, id: `${key}-${end}` });
    input.setAttribute("aria-label", `${label}, ${end}`);
    return input;
  });
  const show = () => {
    const { from: a, to: b } = range;
    put(said, `${say(a)} – ${say(b)}`);
    if (key in sorted) said.append(make("small", `percentile ${share(key, a - ROUNDED)} – ${share(key, b + ROUNDED)}`));
    [a, b].forEach((x, k) => ends[k].setAttribute("aria-valuetext", say(x) + (key in sorted ? `, percentile ${share(key, x)}` : "")));
    fill.style.left = `${((a - low) / (high - low)) * 100}%`;
    fill.style.right = `${((high - b) / (high - low)) * 100}%`;
    ends[0].style.zIndex = a > (low + high) / 2 ? 3 : 1; // so that two thumbs in one place can be parted again
    group.classList.toggle("set", narrowed(range));
    unknown.hidden = !(nUnknown && narrowed(range));
  };
  ends.forEach((input, k) => input.addEventListener("input", () => {
    if (k) range.to = Math.max(+input.value, range.from);
    else range.from = Math.min(+input.value, range.to);
    input.value = k ? range.to : range.from;
    show();
    update();
  }));
  group.reset = () => {
    Object.assign(range, { from: low, to: high });
    ends[0].value = low;
    ends[1].value = high;
    box.checked = false;
    show();
  };
  track.append(histogram(values, low, high), fill, ...ends);
  group.append(head, track, unknown);
  $("sliders").append(group);
  group.reset();
};
const measured = (key, label, values, step, say) => { // a slider over what is known, if that differs
  let low = Infinity, high = -Infinity;
  for (const x of values ?? []) if (!isNaN(x)) { low = Math.min(low, x); high = Math.max(high, x); }
  low = Math.floor(low / step) * step;
  high = Math.ceil(high / step) * step;
  if (high > low) slider(key, label, values, { low, high, step, say });
};
const toggles = (place, words, chosen, codes) => {
  const counts = new Map();
  for (const code of codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  words.forEach((word, code) => {
    const show = () => button.setAttribute("aria-pressed", chosen.has(code) ? "true" : "false");
    const button = makeButton(word, "", () => {
      if (!chosen.delete(code)) chosen.add(code);
      show();
      $("key-unknown").closest("label").hidden = !tonal() || !+$("keys").dataset.unknown;
      update();
    });
    button.append(make("small", (counts.get(code) > 9999 ? brief : number).format(counts.get(code) ?? 0)));
    button.disabled = !counts.get(code);
    button.reset = show;
    place.append(button);
    show();
  });
  return counts;
};
const keyButtons = () => {
  $("keys").hidden = !A.key && !A.mode;
  let nUnknown = 0;
  for (let i = 0; i < N; i++) if (A.key?.[i] === 255 || A.mode?.[i] === 255) nUnknown++;
  $("keys").dataset.unknown = nUnknown;
  const [label] = unknownSwitch(nUnknown, "key-unknown");
  $("keys").append(label);
  if (A.key) toggles($("tonics"), D.keys.map((key) => key.replace("#", "♯")), inKeys, A.key);
  if (A.mode) toggles($("modes"), D.modes, inModes, A.mode);
};
const filterControls = () => {
  for (const d of DIMENSIONS) {
    const [low, high] = reach(d);
    slider(d, NAME[d], value[d], { low, high });
  }
  let widest = 0;
  for (const w of width) if (w > widest) widest = w;
  if (widest > 0) slider("width", "Uncertainty", width, { low: 0, high: Math.ceil(widest * 100) / 100, say: (x) => `±${two(x)}` });
  measured("tempo", "Tempo (BPM)", A.tempo, 1, (x) => x.toFixed(0));
  measured("loudness", "Loudness (LUFS)", A.loudness, 0.5, signed);
  keyButtons();
  if (D.moods.length) {
    const counts = toggles($("moods"), D.moods, inMoods, A.mood);
    $("moods").hidden = counts.get(D.moods.length) === N;
  }
};
const clearSearch = () => { $("search").value = ""; update(); };
const reset = () => {
  for (const group of $("sliders").children) group.reset();
  for (const chosen of [inMoods, inKeys, inModes]) chosen.clear();
  for (const button of document.querySelectorAll("#moods button, #keys button")) button.reset();
  $("key-unknown").checked = $("only-like").checked = false;
  $("key-unknown").closest("label").hidden = true;
  clearSearch();
};
const conditions = () => [ // the filters in words
  ...(terms().length ? [`“${plain($("search").value)}”`] : []),
  ...ranges.filter(narrowed).map((r) => `${r.label} ${r.say(r.from)} – ${r.say(r.to)}${r.unknown.checked ? " or unknown" : ""}`),
  ...[[inMoods, D.moods], [inKeys, D.keys], [inModes, D.modes]].filter(([chosen]) => chosen.size)
    .map(([chosen, words]) => [...chosen].sort((a, b) => a - b).map((code) => words[code]).join(" or ")),
  ...($("only-like").checked ? ["only in distribution"] : []),
];
$("reset").addEventListener("click", reset);
$("only-like").addEventListener("change", update);
$("search").addEventListener("input", update);
$("sliders").addEventListener("submit", (e) => e.preventDefault());
