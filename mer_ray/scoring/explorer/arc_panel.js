// The arc builder: two or three stops and a number make an ordered playlist.
const HAS_ARC = ["valence", "arousal"].every((d) => DIMENSIONS.includes(d)) && N > 1;
const MOST_STEPS = 100;
const stops = { from: null, via: null, to: null }; // {word} or {track}
const left = new Set(); // tracks that the user wants replaced
const stopName = (stop) => stop.word ?? title(stop.track);
const stopPoint = (stop) => (stop.word ? placeOf(stop.word) : pointOf(stop.track));

const tabs = ["list", "arc"];
const showTab = (name) => {
  for (const tab of tabs) {
    $(`tab-${tab}`).setAttribute("aria-selected", tab === name ? "true" : "false");
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    $(`panel-${tab}`).hidden = tab !== name;
  }
  if (name === "arc") makeArc();
  else list();
  overlay();
};
const options = () => {
  const words = D.moods.length && N >= D.fewest ? D.moods : [];
  for (const [key, label] of [["from", "From"], ["via", "Through"], ["to", "To"]]) {
    const select = $(`arc-${key}`), stop = stops[key];
    select.replaceChildren();
    const add = (value, text) => {
      const option = make("option", text);
      option.value = value;
      select.append(option);
    };
    if (key === "via") add("", "straight");
    else if (!words.length && !stop) add("", "open a track to choose it");
    for (const word of words) add(word, word);
    if (stop?.track !== undefined) add("track", `“${title(stop.track)}”`);
    select.value = stop ? stop.word ?? "track" : "";
    select.setAttribute("aria-label", label);
  }
};
const makeArc = () => {
  const asked = Math.round(+$("arc-n").value) || 0, way = [stops.from, stops.via, stops.to].filter(Boolean);
  const first = stops.from?.track ?? -1, last = stops.to?.track ?? -1;
  const may = new Uint8Array(N);
  for (const i of shown) may[i] = left.has(i) ? 0 : 1;
  for (const i of [first, last]) if (i >= 0) may[i] = 1;
  const rows = order.slice().sort().filter((i) => may[i]);
  const n = Math.min(rows.length, clamp(asked, 2, MOST_STEPS));
  const wrong = !(stops.from && stops.to) ? "An arc needs a start and an end: open a track and press “Arc from here” or “Arc to here”."
    : first >= 0 && first === last ? "The start and the end are the same track."
      : n < 2 ? "Fewer than two tracks match the filters." : "";
  Object.assign(arc, wrong ? { rows: [], goal: [] } : { goal: pathThrough(way.map(stopPoint), n) });
  if (!wrong) arc.rows = alongPath(rows, arc.goal, first, last);
  const off = arc.rows.map((i, k) => Math.hypot(...[0, 1].map((d) => pointOf(i)[d] - arc.goal[k][d])));
  const fewer = !wrong && n < asked ? ` Only ${tracks(n)}: ${asked > MOST_STEPS ? `an arc has ${MOST_STEPS} at most` : "no more match the filters"}.` : "";
  put($("arc-said"), wrong || `${way.map(stopName).join(" → ")}: ${tracks(n)}, ${lasting(arc.rows.reduce((s, i) => s + (A.duration_s[i] || 0), 0))}; `
    + `${(off.reduce((a, b) => a + b, 0) / n).toFixed(0)} percentile points from the path on average, ${Math.max(...off).toFixed(0)} at most.${fewer}`);
  $("arc-playlist").disabled = $("arc-m3u").disabled = $("arc-csv").disabled = $("arc-pick").disabled = !arc.rows.length;
  put($("arc-back"), `Bring back ${left.size} replaced`);
  $("arc-back").hidden = !left.size;
  $("arc-list").replaceChildren(...arc.rows.map(arcRow));
  overlay();
};
const arcRow = (i, k) => {
  const item = make("li"), [v, a] = ["valence", "arousal"].map((d) => rank(d, i));
  const go = makeButton("", "step", () => open(i));
  const head = make("span", title(i), "title"), artist = make("span", by(i), "artist"), facts = make("span", [`V P${v} · A P${a}`, mood(i)].filter(Boolean).join(" · "), "facts");
  head.dir = artist.dir = "auto";
  go.append(make("span", k + 1, "number"), head, artist, facts);
  const other = makeButton("↻", "quiet other", () => { left.add(i); makeArc(); $("arc-list").children[k]?.querySelector(".other, .step").focus(); });
  other.title = "Another track here";
  other.setAttribute("aria-label", `Another track instead of ${title(i)}`);
  item.append(go);
  if (i !== stops.from?.track && i !== stops.to?.track) item.append(other);
  return item;
};
let arcTimer = 0;
const arcLater = () => { // after a filter has come to rest
  clearTimeout(arcTimer);
  if (!$("panel-arc").hidden) arcTimer = setTimeout(makeArc, 150);
};
const arcName = () => `${D.name} ${[stops.from, stops.via, stops.to].filter(Boolean).map(stopName).join(" to ")}`;
const startArc = () => {
  $("tabs").hidden = $("arc-ends").hidden = !HAS_ARC;
  if (!HAS_ARC) return;
  if (D.moods.length && N >= D.fewest) Object.assign(stops, { from: { word: "calm" }, to: { word: "tense" } });
  options();
  for (const tab of tabs) {
    $(`tab-${tab}`).addEventListener("click", () => showTab(tab));
    $(`tab-${tab}`).addEventListener("keydown", (e) => {
      if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(e.key)) return;
      e.preventDefault();
      const to = { Home: "list", End: "arc" }[e.key] ?? tabs[1 - tabs.indexOf(tab)];
      showTab(to);
      $(`tab-${to}`).focus();
    });
  }
  for (const key of Object.keys(stops)) {
    $(`arc-${key}`).addEventListener("change", (e) => {
      if (e.target.value !== "track") stops[key] = e.target.value ? { word: e.target.value } : null;
      options();
      makeArc();
    });
  }
  for (const [id, key] of [["from-here", "from"], ["to-here", "to"]]) {
    $(id).addEventListener("click", () => {
      stops[key] = { track: opened };
      options();
      showTab("arc");
      if (NARROW.matches) { // the sheet would hide it
        close();
        $("arc-form").scrollIntoView({ block: "start" });
        $(`arc-${key}`).focus({ preventScroll: true });
      }
    });
  }
  $("arc-n").addEventListener("input", arcLater);
  $("arc-form").addEventListener("submit", (e) => { e.preventDefault(); makeArc(); });
  $("arc-back").addEventListener("click", () => { left.clear(); makeArc(); $("arc-n").focus(); });
  $("arc-pick").addEventListener("click", () => { pick(chosen(), false); pick(arc.rows, true); });
  for (const [id, ending] of [["arc-playlist", "m3u8"], ["arc-m3u", "m3u"]]) {
    $(id).addEventListener("click", () => {
      const without = savePlaylist(arc.rows, arcName(), ending);
      if (without) put($("arc-said"), `${tracks(arc.rows.length)}${without}`);
    });
  }
  $("arc-csv").addEventListener("click", () => saveTable(arc.rows, arcName()));
};
