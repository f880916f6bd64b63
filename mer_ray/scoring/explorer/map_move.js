// The plane's controls: move, zoom, select, point at a track; by mouse, fingers and keys.
const HOME = [ACROSS, UP].map(({ top }) => [-0.03 * top, 1.03 * top]);
const bounded = ([low, high], top) => { // not further out than a tenth beyond the values
  const span = clamp(high - low, 0.004 * top, 1.2 * top), middle = (low + high) / 2;
  const from = clamp(middle - span / 2, -0.1 * top, 1.1 * top - span);
  return [from, from + span];
};
const frame = (x, y) => {
  VIEW.x = bounded(x, ACROSS.top);
  VIEW.y = bounded(y, UP.top);
  showHover(-1);
  drawPlane();
};
const zoomBy = (factor, px = G.w / 2, py = G.h / 2) => { // around a point of the frame
  const [x, y] = valuesAt(px, py), around = ([low, high], at) => [at - (at - low) * factor, at + (high - at) * factor];
  const tight = (factor < 1) && (VIEW.x[1] - VIEW.x[0] <= 0.0041 * ACROSS.top);
  if (!tight) frame(around(VIEW.x, x), around(VIEW.y, y));
};
const shift = (dx, dy) => { // by px
  const sx = (VIEW.x[1] - VIEW.x[0]) / G.w, sy = (VIEW.y[1] - VIEW.y[0]) / G.h;
  frame(VIEW.x.map((x) => x - dx * sx), VIEW.y.map((y) => y + dy * sy));
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
const valuesAt = (px, py) => [
  VIEW.x[0] + (px / G.w) * (VIEW.x[1] - VIEW.x[0]), VIEW.y[1] - (py / G.h) * (VIEW.y[1] - VIEW.y[0]),
];
const nearest = (px, py, reach) => { // the track that is drawn there; -1
  let best = -1, least = reach * reach;
  const [x0, x1] = VIEW.x, [y0, y1] = VIEW.y, sx = G.w / (x1 - x0), sy = G.h / (y1 - y0);
  for (let k = 0; k < shown.length; k++) {
    const i = shown[k], dx = (X[i] - x0) * sx - px, dy = (y1 - Y[i]) * sy - py, far = dx * dx + dy * dy;
    if (far < least) { least = far; best = i; }
  }
  return best;
};

// selection: rows inside of an outline in px -------------------------------------------------------------------------

const inside = (outline) => {
  const xs = outline.map(([x]) => x), ys = outline.map(([, y]) => y);
  const [l, r, t, b] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  return shown.filter((i) => {
    const x = atX(X[i]), y = atY(Y[i]);
    if (x < l || x > r || y < t || y > b) return false;
    let odd = false;
    for (let k = 0, j = xs.length - 1; k < xs.length; j = k++) {
      if (ys[k] > y !== ys[j] > y && x < ((xs[j] - xs[k]) * (y - ys[k])) / (ys[j] - ys[k]) + xs[k]) odd = !odd;
    }
    return odd;
  });
};
const corners = ([x0, y0], [x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];

// what is said of the track under the mouse, or of the one that the arrow keys have reached ---------------------------

const showHover = (i) => {
  const tip = $("hover");
  if (i === hovered && (i < 0) === tip.hidden) return;
  hovered = i;
  tip.hidden = i < 0;
  $("overlay").style.cursor = i >= 0 ? "pointer" : tool === "move" ? "grab" : "crosshair";
  if (i >= 0) {
    const head = make("strong", title(i)), artist = make("span", D.artist[i]);
    head.dir = artist.dir = "auto";
    const rows = DIMENSIONS.map((d) => {
      const row = make("div", "", "figures");
      row.append(make("span", NAME[d]), make("b", two(value[d][i])), make("span", interval(d, i)), make("span", `P${rank(d, i)}`));
      return row;
    });
    tip.replaceChildren(head, ...(D.artist[i] ? [artist] : []), ...rows);
    const facts = [mood(i), tempo(i), tonality(i)].filter(Boolean).join(" · ");
    if (facts) tip.append(make("div", facts, "facts"));
    if (unlike(i)) tip.append(make("em", "out of distribution"));
    const x = atX(X[i]), y = atY(Y[i]);
    tip.style.left = `${G.left + x}px`;
    tip.style.top = `${G.top + y}px`;
    tip.dataset.side = (x > G.w / 2 ? "left" : "right") + (y > G.h / 2 ? "-up" : "-down");
  }
  overlay();
};

// mouse and fingers --------------------------------------------------------------------------------------------------

let tool = "move";
const choose = (name) => {
  tool = name;
  $("overlay").style.cursor = name === "move" ? "grab" : "crosshair";
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === name ? "true" : "false");
  }
};
const fingers = new Map(); // pointer → [x, y] in px of the frame
let start = null, moved = false;
const point = (e) => {
  const box = $("overlay").getBoundingClientRect();
  return [e.clientX - box.left, e.clientY - box.top];
};
const startMap = () => {
  const area = $("overlay");
  area.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    area.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, point(e));
    start = point(e);
    moved = fingers.size > 1;
    showHover(-1);
  });
  area.addEventListener("pointermove", (e) => {
    const at = point(e), before = fingers.get(e.pointerId);
    if (!before) {
      if (e.pointerType !== "touch") showHover(nearest(...at, 12));
      return;
    }
    if (Math.hypot(at[0] - start[0], at[1] - start[1]) > 4) moved = true;
    if (fingers.size === 2) { // two fingers: zoom around their middle, and move with it
      const other = [...fingers].find(([id]) => id !== e.pointerId)[1], span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      zoomBy(span(before) / Math.max(1, span(at)), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
      shift((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    } else if (moved && tool === "move") shift(at[0] - before[0], at[1] - before[1]);
    else if (moved) {
      dragged = tool === "box" ? corners(start, at) : [...(dragged ?? [start]), at];
      overlay();
    }
    fingers.set(e.pointerId, at);
  });
  const up = (e) => {
    if (!fingers.delete(e.pointerId)) return;
    if (dragged) {
      const outline = dragged;
      dragged = null;
      if (e.type === "pointerup") pick(inside(outline), true);
      overlay();
    }
  };
  area.addEventListener("pointerup", up);
  area.addEventListener("pointercancel", up);
  area.addEventListener("click", (e) => {
    const i = moved ? -1 : nearest(...point(e), matchMedia("(pointer: coarse)").matches ? 24 : 12);
    if (i >= 0) open(i);
  });
  area.addEventListener("pointerleave", () => { if (!fingers.size) showHover(-1); });
  area.addEventListener("wheel", (e) => {
    e.preventDefault();
    zoomBy(1.0018 ** clamp(e.deltaY * (e.deltaMode ? 30 : 1), -300, 300), ...point(e));
  }, { passive: false });
  $("plane").addEventListener("keydown", (e) => { if (mapKey(e)) e.preventDefault(); });
  $("plane").addEventListener("blur", () => showHover(-1));
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => choose(button.dataset.tool));
  $("zoom-in").addEventListener("click", () => zoomBy(0.6));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 0.6));
  $("zoom-fit").addEventListener("click", fit);
  $("zoom-all").addEventListener("click", () => frame(...HOME));
  new ResizeObserver(() => { // what was under the mouse is elsewhere now
    showHover(-1);
    drawPlane();
  }).observe($("plane"));
  choose("move");
};

// keys ---------------------------------------------------------------------------------------------------------------

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const towards = (from, [wx, wy]) => { // the nearest track in a direction, rather than aside
  const x = atX(X[from]), y = atY(Y[from]);
  let best = -1, least = Infinity;
  for (const i of shown) {
    const dx = atX(X[i]) - x, dy = atY(Y[i]) - y, ahead = dx * wx + dy * wy, aside = Math.abs(dx * wy - dy * wx);
    if (ahead > 0 && aside <= 2 * ahead && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = i; }
  }
  return best;
};
const mapKey = (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || !shown.length) return false;
  if (e.key in WAYS && e.shiftKey) shift(...WAYS[e.key].map((way) => -60 * way));
  else if (e.key in WAYS) {
    const from = hovered >= 0 ? hovered : opened;
    const to = from >= 0 ? towards(from, WAYS[e.key]) : nearest(G.w / 2, G.h / 2, Infinity);
    if (to < 0) return true;
    const [x, y] = [atX(X[to]), atY(Y[to])];
    if (x < 0 || y < 0 || x > G.w || y > G.h) shift(G.w / 2 - x, G.h / 2 - y);
    showHover(to);
    put($("spoken"), spoken(to));
  } else if (e.key === "Enter" && hovered >= 0) open(hovered);
  else if ((e.key === "x" || e.key === "X") && hovered >= 0) {
    pick([hovered], !picked[hovered]);
    put($("spoken"), `${title(hovered)}: ${picked[hovered] ? "selected" : "no longer selected"}`);
  } else if (e.key === "+" || e.key === "=") zoomBy(0.6);
  else if (e.key === "-") zoomBy(1 / 0.6);
  else if (e.key === "0") fit();
  else return false;
  return true;
};
