// Playlists that follow an arc: as mer_ray/scoring/arc.py, for the tracks that match. Points are percentiles, 0..100.
const RADIUS = 40, SAME_ARTIST = 1e9;
const arc = { rows: [], goal: [] };
const placeOf = (word) => {
  const angle = (D.angles[word] * Math.PI) / 180;
  return word in D.angles ? [50 + RADIUS * Math.cos(angle), 50 + RADIUS * Math.sin(angle)] : [50, 50];
};
const pointOf = (i) => [100 * percentile.valence[i], 100 * percentile.arousal[i]];
const pathThrough = (stops, n) => { // n points at equal distances along the straight lines between the stops
  const at = [0];
  for (let k = 1; k < stops.length; k++) at.push(at[k - 1] + Math.hypot(stops[k][0] - stops[k - 1][0], stops[k][1] - stops[k - 1][1]));
  return Array.from({ length: n }, (_, step) => {
    const along = (at.at(-1) * step) / (n - 1);
    let k = 1;
    while (k < at.length - 1 && at[k] < along) k++;
    const part = at[k] > at[k - 1] ? clamp((along - at[k - 1]) / (at[k] - at[k - 1]), 0, 1) : 0;
    return [0, 1].map((d) => stops[k - 1][d] + part * (stops[k][d] - stops[k - 1][d]));
  });
};

// The assignment of each row of costs to a column of its own with the least sum, by shortest augmenting paths
// (Jonker and Volgenant, Computing 38, 1987). There are at least as many columns as rows.
const assigned = (costs, n, m) => {
  const u = new Float64Array(n + 1), v = new Float64Array(m + 1), of = new Int32Array(m + 1), way = new Int32Array(m + 1);
  for (let row = 1; row <= n; row++) {
    const least = new Float64Array(m + 1).fill(Infinity), done = new Uint8Array(m + 1);
    let column = 0;
    of[0] = row;
    do {
      done[column] = 1;
      const from = of[column];
      let delta = Infinity, next = 0;
      for (let j = 1; j <= m; j++) {
        if (done[j]) continue;
        const cost = costs[(from - 1) * m + j - 1] - u[from] - v[j];
        if (cost < least[j]) { least[j] = cost; way[j] = column; }
        if (least[j] < delta) { delta = least[j]; next = j; }
      }
      for (let j = 0; j <= m; j++) {
        if (done[j]) { u[of[j]] += delta; v[j] -= delta; } else least[j] -= delta;
      }
      column = next;
    } while (of[column]);
    do { of[column] = of[way[column]]; column = way[column]; } while (column);
  }
  const out = new Int32Array(n);
  for (let j = 1; j <= m; j++) if (of[j]) out[of[j] - 1] = j - 1;
  return out;
};

const apart = (rows) => rows.every((i, k) => !k || A.artist_key[i] !== A.artist_key[rows[k - 1]]);
const parted = (rows, goal, away) => { // an order in which no artist follows itself, with the same ends; else unchanged
  const artist = A.artist_key, rest = rows.slice(1, -1), out = [rows[0]], end = artist[rows.at(-1)];
  while (rest.length) {
    const before = artist[out.at(-1)], counts = new Map(), n = rest.length;
    for (const i of rest) counts.set(artist[i], (counts.get(artist[i]) ?? 0) + 1);
    // In n places, of which an artist cannot have the one beside itself, it has room for every second one.
    for (const [a, count] of counts) if (count > (n + 1 - (a === before) - (a === end)) >> 1) return rows;
    const urgent = [...counts].filter(([a, count]) => a !== before && count > (n - (a === end)) >> 1).map(([a]) => a);
    const fit = rest.filter((i) => artist[i] !== before && (n > 1 || artist[i] !== end) && (!urgent.length || urgent.includes(artist[i])));
    if (!fit.length) return rows;
    const next = fit.reduce((best, i) => (away(i, goal[out.length]) < away(best, goal[out.length]) ? i : best));
    rest.splice(rest.indexOf(next), 1);
    out.push(next);
  }
  return [...out, rows.at(-1)];
};

// Different tracks near the points of a path, each by another artist while there are others: those with the least sum
// of squared distances. `first` and `last`, if not negative, are the tracks at the ends. rows: ascending.
const alongPath = (rows, goal, first = -1, last = -1) => {
  const artist = A.artist_key, n = goal.length, found = new Array(n).fill(-1);
  const taken = new Uint8Array(N), used = new Uint16Array(N); // of a track; of an artist, its tracks so far
  const across = percentile.valence, up = percentile.arousal;
  const away = (i, point) => (100 * across[i] - point[0]) ** 2 + (100 * up[i] - point[1]) ** 2;
  const take = (position, i) => {
    found[position] = i;
    taken[i] = 1;
    used[artist[i]]++;
  };
  const open = (room) => { // what is left, of those artists that have the fewest so far
    let least = Infinity;
    for (const i of rows) if (!taken[i] && used[artist[i]] < room(i) && used[artist[i]] < least) least = used[artist[i]];
    return rows.filter((i) => !taken[i] && used[artist[i]] === least && used[artist[i]] < room(i));
  };
  const nearestOf = (some, point) => {
    let best = some[0];
    for (const i of some) if (away(i, point) < away(best, point)) best = i;
    return best;
  };
  const any = () => Infinity;
  if (first >= 0) take(0, first);
  if (last >= 0) take(n - 1, last);
  for (const position of [0, n - 1]) if (found[position] < 0) take(position, nearestOf(open(any), goal[position]));
  const ends = [artist[found[0]], artist[found[n - 1]]];
  const room = (i) => (n + 1 - (artist[i] !== ends[0]) - (artist[i] !== ends[1])) >> 1; // as in `parted`
  for (;;) {
    const free = found.flatMap((i, position) => (i < 0 ? [position] : []));
    if (!free.length) break;
    const fitting = open(room), some = fitting.length ? fitting : open(any);
    const codeOf = new Int32Array(N).fill(-1); // artists, numbered from 0 in the order of their first tracks
    let codes = 0;
    for (const i of some) if (codeOf[artist[i]] < 0) codeOf[artist[i]] = codes++;
    const code = some.map((i) => codeOf[artist[i]]);
    const least = free.map((position) => { // of each artist, the least distance from the point
      const out = new Float64Array(codes).fill(Infinity), [x, y] = goal[position];
      for (let k = 0; k < some.length; k++) {
        const dx = 100 * across[some[k]] - x, dy = 100 * up[some[k]] - y, far = dx * dx + dy * dy;
        if (far < out[code[k]]) out[code[k]] = far;
      }
      for (const i of [found[position - 1], found[position + 1]]) if (i >= 0 && codeOf[artist[i]] >= 0) out[codeOf[artist[i]]] += SAME_ARTIST;
      return out;
    });
    // No best choice has an artist that is not among the nearest of any point, as many as are free: one of those were.
    const near = new Set();
    for (const costs of least) {
      const limit = costs.slice().sort()[Math.min(costs.length, free.length) - 1];
      costs.forEach((cost, a) => { if (cost <= limit) near.add(a); });
    }
    const columns = [...near].sort((a, b) => a - b), turned = free.length > columns.length;
    const [m, k] = turned ? [columns.length, free.length] : [free.length, columns.length], costs = new Float64Array(m * k);
    for (let r = 0; r < m; r++) for (let c = 0; c < k; c++) costs[r * k + c] = turned ? least[c][columns[r]] : least[r][columns[c]];
    assigned(costs, m, k).forEach((c, r) => {
      const [position, a] = turned ? [free[c], columns[r]] : [free[r], columns[c]];
      take(position, nearestOf(some.filter((_, at) => code[at] === a), goal[position]));
    });
  }
  const out = apart(found) ? found : parted(found, goal, away);
  if (apart(out) || last >= 0) return out;
  // As of an odd number of tracks by two artists, which has to end as it starts.
  const same = rows.filter((i) => artist[i] === artist[out[0]] && i !== out[0]);
  if (!same.length) return out;
  const other = alongPath(rows, goal, out[0], nearestOf(same, goal[n - 1]));
  return apart(other) ? other : out;
};
