// The plane, drawn on two canvases: the tracks and axes, and above them what is opened, hovered or chosen as an arc.
const VIEW = { x: [0, 1], y: [0, 1] }; // the values at the frame's edges
const GAP = { left: UP.name ? 52 * EM : 14, right: 12, top: 10, bottom: 46 * EM }; // px around the frame
let hovered = -1, dragged = null; // dragged: corners or outline of a selection, in px of the frame

// colours ------------------------------------------------------------------------------------------------------------

let INK = {}, PALETTE = null; // PALETTE: 256 colours as [r, g, b] one after the other
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");
const isDark = () => !printing.matches && (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
const rgb = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
const readColours = (dark = isDark()) => {
  const probe = $("probe");
  probe.style.colorScheme = dark ? "dark" : "light";
  const token = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  INK = Object.fromEntries(["ink", "muted", "line", "panel", "accent"].map((name) => [name, token(name)]));
  const stops = D.plane.palette.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const [from, to] = D.plane.part[dark ? "dark" : "light"], accent = rgb(INK.accent);
  PALETTE = new Uint8Array(256 * 3);
  for (let k = 0; k < 256; k++) {
    const at = (from + (to - from) * (k / 255)) * (stops.length - 1), n = Math.min(stops.length - 2, Math.floor(at));
    for (let c = 0; c < 3; c++) PALETTE[3 * k + c] = COLOUR ? stops[n][c] + (at - n) * (stops[n + 1][c] - stops[n][c]) : accent[c];
  }
};
const shade = (k) => `rgb(${PALETTE[3 * k]}, ${PALETTE[3 * k + 1]}, ${PALETTE[3 * k + 2]})`;
const ends = (d) => { // of the scale of colours: all but the outer 2 % at each end, which a few tracks would stretch
  const low = quantile(d, N < 50 ? 0 : 0.02);
  return [low, Math.max(low + 0.01, quantile(d, N < 50 ? 1 : 0.98))];
};
const [LEAST, MOST] = N ? ends(COLOUR ?? ACROSS.key) : [0, 1];
const shadeOf = (z) => clamp(Math.round((255 * (z - LEAST)) / (MOST - LEAST)), 0, 255);

// geometry -----------------------------------------------------------------------------------------------------------

const geometry = () => { // px of the plane's element, without the page's zoom
  const W = Math.max(160, $("plane").clientWidth), H = Math.max(140, $("plane").clientHeight);
  return { W, H, left: GAP.left, top: GAP.top, w: W - GAP.left - GAP.right, h: H - GAP.top - GAP.bottom };
};
let G = null;
const atX = (x) => ((x - VIEW.x[0]) / (VIEW.x[1] - VIEW.x[0])) * G.w;      // a value → px from the frame's left edge
const atY = (y) => (1 - (y - VIEW.y[0]) / (VIEW.y[1] - VIEW.y[0])) * G.h;
const inSight = () => { // rows that match and are in the frame
  const out = new Int32Array(shown.length), [x0, x1] = VIEW.x, [y0, y1] = VIEW.y;
  let n = 0;
  for (let k = 0; k < shown.length; k++) {
    const i = shown[k], x = X[i], y = Y[i];
    if (x >= x0 && x <= x1 && y >= y0 && y <= y1) out[n++] = i;
  }
  return out.subarray(0, n);
};

// tracks -------------------------------------------------------------------------------------------------------------

const CELL = 3;         // px: of the density, a square of which shows how many tracks are in it
const SMALLEST = 2.2;   // px: radius of a mark
const crowded = (n) => n * Math.PI * SMALLEST ** 2 > 0.3 * G.w * G.h;
const density = (ctx, rows, strength) => { // colour: the tracks' mean; opacity: their number, in logarithmic steps
  const nx = Math.ceil(G.w / CELL), ny = Math.ceil(G.h / CELL), count = new Uint32Array(nx * ny), sum = new Float32Array(nx * ny);
  const sx = G.w / (VIEW.x[1] - VIEW.x[0]) / CELL, sy = G.h / (VIEW.y[1] - VIEW.y[0]) / CELL, [x0] = VIEW.x, [, y1] = VIEW.y;
  let most = 1;
  for (let k = 0; k < rows.length; k++) {
    const i = rows[k], at = Math.min(ny - 1, ((y1 - Y[i]) * sy) | 0) * nx + Math.min(nx - 1, ((X[i] - x0) * sx) | 0);
    sum[at] += Z[i];
    if (++count[at] > most) most = count[at];
  }
  const image = new ImageData(nx, ny), out = image.data, scale = 1 / Math.log(most + 1);
  for (let at = 0; at < count.length; at++) {
    if (!count[at]) continue;
    const k = 3 * shadeOf(sum[at] / count[at]);
    out[4 * at] = PALETTE[k];
    out[4 * at + 1] = PALETTE[k + 1];
    out[4 * at + 2] = PALETTE[k + 2];
    out[4 * at + 3] = 255 * strength * (0.34 + 0.66 * Math.log(count[at] + 1) * scale);
  }
  const small = make("canvas");
  [small.width, small.height] = [nx, ny];
  small.getContext("2d").putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(small, 0, 0, nx * CELL, ny * CELL);
};
const marks = (ctx, rows, strength, scale) => { // from pictures of each mark in 64 colours
  const r = clamp(Math.sqrt((0.06 * G.w * G.h) / (Math.PI * rows.length)), SMALLEST, 5), size = Math.ceil((2 * r + 4) * scale), at = size / 2;
  const atlas = make("canvas"), brush = atlas.getContext("2d");
  [atlas.width, atlas.height] = [64 * size, 2 * size];
  for (let k = 0; k < 64; k++) {
    brush.fillStyle = brush.strokeStyle = shade(4 * k + 2);
    brush.beginPath();
    brush.arc(k * size + at, at, r * scale, 0, 7);
    brush.fill();
    brush.lineWidth = 1.6 * scale;
    brush.beginPath();
    for (const s of [1, -1]) {
      brush.moveTo(k * size + at - r * scale, 1.5 * size - s * r * scale);
      brush.lineTo(k * size + at + r * scale, 1.5 * size + s * r * scale);
    }
    brush.stroke();
  }
  ctx.save();
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.globalAlpha = strength;
  const { e, f } = G.origin;
  for (let k = 0; k < rows.length; k++) {
    const i = rows[k];
    ctx.drawImage(
      atlas, (shadeOf(Z[i]) >> 2) * size, unlike(i) ? size : 0, size, size,
      Math.round(e + atX(X[i]) * scale - at), Math.round(f + atY(Y[i]) * scale - at), size, size,
    );
  }
  ctx.restore();
};
const drawTracks = (ctx, scale) => {
  const rows = inSight(), dense = crowded(rows.length), draw = dense ? density : marks;
  G.origin = ctx.getTransform();
  if (nPicked) {
    draw(ctx, rows.filter((i) => !picked[i]), dense ? 0.3 : 0.18, scale);
    draw(ctx, rows.filter((i) => picked[i]), 1, scale);
  } else draw(ctx, rows, dense ? 1 : 0.88, scale);
  return dense;
};

// frame --------------------------------------------------------------------------------------------------------------

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const stepOf = (span) => {
  const power = 10 ** Math.floor(Math.log10(span / 5));
  return [1, 2, 5, 10].map((k) => k * power).find((step) => span / step <= 6.5) ?? 10 * power;
};
const ticks = ([low, high], top) => {
  const step = stepOf(high - low), out = [];
  for (let k = Math.ceil(Math.max(low, 0) / step); k * step <= Math.min(high, top) + 1e-9; k++) out.push([k * step, (k * step).toFixed(Math.max(1, -Math.floor(Math.log10(step) + 1e-9)))]);
  return out;
};
const line = (ctx, x0, y0, x1, y1, dash = []) => {
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
  ctx.setLineDash([]);
};
const drawFrame = (ctx) => {
  const { w, h } = G, across = (x) => Math.round(atX(x)) + 0.5, up = (y) => Math.round(atY(y)) + 0.5;
  ctx.lineWidth = 1;
  ctx.font = `${12 * EM}px ${FONT}`;
  ctx.textBaseline = "middle";
  for (const [x, text] of ticks(VIEW.x, ACROSS.top)) {
    ctx.strokeStyle = INK.line;
    line(ctx, across(x), 0, across(x), h);
    ctx.fillStyle = INK.muted;
    ctx.textAlign = "center";
    ctx.fillText(text, atX(x), h + 13 * EM);
  }
  for (const [y, text] of UP.name ? ticks(VIEW.y, UP.top) : []) {
    ctx.strokeStyle = INK.line;
    line(ctx, 0, up(y), w, up(y));
    ctx.fillStyle = INK.muted;
    ctx.textAlign = "right";
    ctx.fillText(text, -7, atY(y));
  }
  ctx.strokeStyle = INK.muted;
  const middle = (axis) => (axis.key in value ? quantile(axis.key, 0.5) : null);
  for (const [x, dash] of [[ACROSS.dotted, [1.5, 3]], [middle(ACROSS), [6, 4]]]) {
    if (x !== null && x > VIEW.x[0] && x < VIEW.x[1]) line(ctx, across(x), 0, across(x), h, dash);
  }
  for (const [y, dash] of [[UP.dotted, [1.5, 3]], [middle(UP), [6, 4]]]) {
    if (y !== null && y > VIEW.y[0] && y < VIEW.y[1]) line(ctx, 0, up(y), w, up(y), dash);
  }
  ctx.fillStyle = INK.muted;
  ctx.font = `${13 * EM}px ${FONT}`;
  ctx.textAlign = "center";
  ctx.fillText(`${ACROSS.name} →`, w / 2, h + 34 * EM);
  if (!UP.name) return;
  ctx.save();
  ctx.translate(-40 * EM, h / 2);
  ctx.rotate(-Math.PI / 2);
  ctx.fillText(`${UP.name} →`, 0, 0);
  ctx.restore();
};
const drawCorners = (ctx) => {
  ctx.font = `600 ${12 * EM}px ${FONT}`;
  for (const [corner, words] of Object.entries(D.plane.corners)) {
    const [y, x] = corner.split(" "), right = x === "right", bottom = y === "bottom";
    ctx.textAlign = x;
    ctx.textBaseline = "middle";
    ctx.lineWidth = 4;
    ctx.lineJoin = "round";
    ctx.strokeStyle = INK.panel;
    ctx.fillStyle = INK.muted;
    const at = [right ? G.w - 8 : 8, bottom ? G.h - 12 * EM : 12 * EM];
    ctx.strokeText(words, ...at);
    ctx.fillText(words, ...at);
  }
};

// above the tracks ---------------------------------------------------------------------------------------------------

const ring = (ctx, i, r, colour, thick, dash = []) => {
  for (const [style, wide, lines] of [[INK.panel, thick + 3, []], [colour, thick, dash]]) {
    ctx.strokeStyle = style;
    ctx.lineWidth = wide;
    ctx.setLineDash(lines);
    ctx.beginPath();
    ctx.arc(atX(X[i]), atY(Y[i]), r, 0, 7);
    ctx.stroke();
  }
  ctx.setLineDash([]);
};
const intervalBox = (ctx, i, colour, dash) => { // of both intervals; where up is no dimension, a bar
  const [l, r] = [lower, upper].map((end) => atX(end[ACROSS.key][i])), middle = atY(Y[i]);
  const [b, t] = UP.key in value ? [lower, upper].map((end) => atY(end[UP.key][i])) : [middle + 4, middle - 4];
  if (![l, r, b, t].every(isFinite)) return;
  ctx.beginPath();
  ctx.roundRect(l, t, r - l, b - t, 3);
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.05;
  ctx.fill();
  ctx.globalAlpha = 0.7;
  ctx.lineWidth = 1;
  ctx.setLineDash(dash);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
};
const neighbours = (i) => Array.from(A.similar.subarray(i * D.n_similar, (i + 1) * D.n_similar)).filter((j) => j >= 0);
const drawArc = (ctx) => { // the path that was asked for, dotted, and the tracks that were found
  const { rows, goal } = arc;
  const trace = (points, colour, thick, dash) => {
    ctx.strokeStyle = colour;
    ctx.lineWidth = thick;
    ctx.setLineDash(dash);
    ctx.beginPath();
    points.forEach(([x, y], k) => (k ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    ctx.stroke();
    ctx.setLineDash([]);
  };
  ctx.lineJoin = "round";
  const path = goal.map(([v, a]) => [atX(quantile("valence", v / 100)), atY(quantile("arousal", a / 100))]);
  const found = Array.from(rows, (i) => [atX(X[i]), atY(Y[i])]);
  trace(path, INK.panel, 5, []);
  trace(path, INK.muted, 2, [2, 4]);
  trace(found, INK.panel, 5, []);
  trace(found, INK.accent, 2, []);
  ctx.font = `600 11px ${FONT}`;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  const roomy = []; // places that have room for their number: the ends, and others away from those
  const free = (at) => roomy.every((k) => Math.hypot(found[k][0] - found[at][0], found[k][1] - found[at][1]) > 20);
  for (const k of [0, found.length - 1, ...found.keys()]) if (!roomy.includes(k) && (free(k) || k === found.length - 1)) roomy.push(k);
  const dot = ([x, y], r) => {
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 7);
    ctx.fillStyle = INK.accent;
    ctx.fill();
    ctx.strokeStyle = INK.panel;
    ctx.lineWidth = 1.5;
    ctx.stroke();
  };
  found.forEach((at, k) => { if (!roomy.includes(k)) dot(at, 4); });
  for (const k of roomy) {
    dot(found[k], k < 99 ? 9 : 12);
    ctx.fillStyle = INK.panel;
    ctx.fillText(k + 1, found[k][0], found[k][1] + 0.5);
  }
};
const drawAbove = (ctx) => {
  const arced = arc.rows.length && !$("panel-arc").hidden;
  if (arced) drawArc(ctx);
  if (opened >= 0) {
    if (!arced) for (const j of neighbours(opened)) ring(ctx, j, 6, INK.ink, 1.4, [2.5, 2]);
    intervalBox(ctx, opened, INK.accent, [4, 3]);
    ring(ctx, opened, 8, INK.accent, 3);
  }
  if (hovered >= 0) {
    intervalBox(ctx, hovered, INK.ink, []);
    ring(ctx, hovered, 7, INK.ink, 2);
  }
  if (!dragged) return;
  ctx.beginPath();
  dragged.forEach(([x, y], k) => (k ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.closePath();
  ctx.fillStyle = ctx.strokeStyle = INK.accent;
  ctx.globalAlpha = 0.12;
  ctx.fill();
  ctx.globalAlpha = 1;
  ctx.lineWidth = 1.5;
  ctx.setLineDash([5, 3]);
  ctx.stroke();
  ctx.setLineDash([]);
};

// all of it ----------------------------------------------------------------------------------------------------------

const sized = (canvas, w, h) => {
  const scale = Math.min(3, window.devicePixelRatio || 1), [wide, high] = [Math.round(w * scale), Math.round(h * scale)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const ctx = canvas.getContext("2d");
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.clearRect(0, 0, w, h);
  return [ctx, scale];
};
const clipped = (ctx, act) => {
  ctx.save();
  ctx.beginPath();
  ctx.rect(0, 0, G.w, G.h);
  ctx.clip();
  const out = act();
  ctx.restore();
  return out;
};
const paintBase = (whole = printing.matches) => { // whole: on paper, where there is one canvas
  G = geometry();
  const [ctx, scale] = sized($("base"), G.W, G.H);
  ctx.translate(G.left, G.top);
  drawFrame(ctx);
  const dense = clipped(ctx, () => drawTracks(ctx, scale));
  drawCorners(ctx);
  if (whole) clipped(ctx, () => drawAbove(ctx));
  $("dense").hidden = !dense;
  $("marks").hidden = dense || !A.in_distribution.includes(0);
  Object.assign($("overlay").style, { left: `${G.left}px`, top: `${G.top}px`, width: `${G.w}px`, height: `${G.h}px` });
  paintAbove();
};
const paintAbove = () => { if (G) drawAbove(sized($("overlay"), G.w, G.h)[0]); };
const drawPlane = once(() => paintBase());
const overlay = once(paintAbove);
const picture = () => { // of the plane as it is, with its heading, on a canvas of its own
  const kept = G, scale = 2, head = 44, foot = 26;
  G = geometry();
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [G.W * scale, (G.H + head + foot) * scale];
  const ctx = canvas.getContext("2d");
  ctx.scale(scale, scale);
  ctx.fillStyle = INK.panel;
  ctx.fillRect(0, 0, G.W, G.H + head + foot);
  ctx.fillStyle = INK.ink;
  ctx.textBaseline = "middle";
  ctx.font = `600 16px ${FONT}`;
  ctx.fillText(plain(D.name), 14, 22, G.W - 28);
  ctx.save();
  ctx.translate(G.left, G.top + head);
  drawFrame(ctx);
  clipped(ctx, () => drawTracks(ctx, scale));
  drawCorners(ctx);
  clipped(ctx, () => drawAbove(ctx));
  ctx.restore();
  ctx.font = `12px ${FONT}`;
  ctx.textBaseline = "middle";
  ctx.fillStyle = INK.muted;
  let left = 14;
  const write = (text) => { ctx.textAlign = "left"; ctx.fillText(text, left, G.H + head + 10); left += ctx.measureText(text).width + 8; };
  if (COLOUR) {
    write(`${NAME[COLOUR]} ${two(LEAST)}`);
    for (let k = 0; k < 110; k++) { ctx.fillStyle = shade(Math.round((k / 109) * 255)); ctx.fillRect(left + k, G.H + head + 5, 1.5, 9); }
    left += 118;
    ctx.fillStyle = INK.muted;
    write(two(MOST));
    left += 12;
  }
  write([$("count").textContent, ...conditions()].join(", "));
  G = kept;
  return canvas;
};
