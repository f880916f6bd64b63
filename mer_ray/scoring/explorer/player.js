// The opened track: its numbers, curve and sound, and tracks like it.
const audio = $("audio");
let length = 0; // s, of the opened track
let fresh = false; // whether the last click opened or closed a track: where it was, something else may be now
for (const kind of ["mousedown", "click"]) addEventListener(kind, (e) => { // so the second half of a double click does nothing
  if (fresh && e.detail > 1) { e.stopPropagation(); e.preventDefault(); } else if (kind === "click") fresh = false;
}, { capture: true });
const open = (i) => {
  if (i < 0 || i >= N) return;
  fresh = true;
  const again = i === opened, panel = $("track");
  opened = i;
  panel.style.minHeight = `${panel.offsetHeight}px`; // it grows only, so that the plane keeps still from track to track
  panel.hidden = false;
  document.body.classList.add("has-track");
  panel.scrollIntoView({ block: "nearest" }); // it may be below, on a screen of middling width
  if (again) return;
  audio.pause();
  put($("t-title"), title(i));
  put($("t-artist"), by(i));
  $("numbers").replaceChildren(...DIMENSIONS.map((d) => {
    const row = make("tr");
    row.append(make("th", NAME[d]), make("td", two(value[d][i])), make("td", rank(d, i)), make("td", interval(d, i) || "unknown"));
    return row;
  }));
  put($("t-mood"), mood(i) ? `${mood(i)}, in this catalog` : "");
  const sure = (name) => (known(name, i) && A[name][i] !== 255 ? ` (confidence ${two(A[name][i] / 254)})` : "");
  put($("t-facts"), [
    tempo(i) && tempo(i) + sure("tempo_confidence"), tonality(i) && tonality(i) + sure("key_confidence"),
    known("loudness", i) && `${signed(A.loudness[i])} LUFS`, known("true_peak", i) && `peak ${signed(A.true_peak[i])} dBTP`,
  ].filter(Boolean).join(" · "));
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
  fresh = true;
  opened = -1;
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  $("track").hidden = true;
  $("track").style.minHeight = "";
  document.body.classList.remove("has-track");
  list();
  overlay();
};
let drawn = { lines: DIMENSIONS.map(() => []), wave: [], hop: 1 };
const scaleOf = (lines) => { // the catalog's range of all dimensions, and whatever the curve has beyond
  const [ends, own] = [DIMENSIONS.flatMap(reach), lines.flat().filter((y) => !isNaN(y))];
  return [Math.min(...ends, ...own), Math.max(...ends, ...own)];
};
const curve = (i) => {
  const found = unpack(i);
  if (!found) {
    document.addEventListener("DOMContentLoaded", () => { if (i === opened) curve(i); }, { once: true });
    return;
  }
  drawn = found;
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
  const [low, high] = scaleOf(lines), levelOf = (y) => (97 - (94 * (y - low)) / (high - low)).toFixed(2);
  $("levels").replaceChildren(...(n ? [high, low].map((y) => make("span", two(y))) : []));
  drawing.append(svg("path", { d: `M0 ${levelOf(clamp(0.5, low, high))}H1000`, class: "middle" }));
  lines.forEach((line, d) => {
    let text = "", pen = "M";
    line.forEach((y, k) => {
      if (isNaN(y)) { pen = "M"; return; }
      const x = clamp(((k + 0.5) * hop) / (length || 1), 0, 1) * 1000, level = levelOf(y);
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
  audio.currentTime = 0; // not where one sought in the track before, if that had not arrived yet
  follow();
};
const follow = () => {
  const t = audio.currentTime || 0;
  $("cursor").style.left = `${clamp(t / (length || 1), 0, 1) * 100}%`;
  put($("time"), `${clock(t)} / ${lasting(length)}`);
  $("curve").setAttribute("aria-valuenow", Math.round(t));
  $("curve").setAttribute("aria-valuetext", `${clock(t)} of ${lasting(length)}`);
};
const run = () => {
  follow();
  readout(audio.currentTime);
  if (!audio.paused) requestAnimationFrame(run);
};
const seek = (t) => {
  const to = clamp(t, 0, length);
  if (audio.src) audio.currentTime = Math.min(to, audio.duration || to); // before it arrives, where it will start
  readout(to);
  follow();
};
const toggle = () => {
  if ($("play").disabled) return;
  if (audio.paused) audio.play().catch((error) => { if (error.name !== "AbortError") failed(); }); // that: another was opened
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
    const item = make("li"), head = make("span", title(j), "title"), artist = make("span", D.artist[j], "artist");
    const button = makeButton("", "", () => { open(j); const k = shown.indexOf(j); if (k >= 0) moveTo(k); });
    head.dir = artist.dir = "auto";
    button.append(head, artist);
    item.append(button);
    return item;
  }));
  $("no-similar").hidden = rows.length > 0;
  put($("no-similar"), N < 2 ? "There is no other track." : "None: how this track sounds is not known.");
};
