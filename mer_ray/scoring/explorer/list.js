// The list: only the rows in sight are in the document.
const ROW = 54 * EM; // px, as in the style
const pool = [];
const newRow = () => {
  const row = make("div", "", "row"), box = make("span", "", "box"), name = make("div", "", "name");
  row.setAttribute("role", "option");
  const head = make("span", "", "title"), artist = make("span", "", "artist");
  head.dir = artist.dir = "auto";
  name.append(head, artist);
  const cells = [...LISTED.map(() => make("span", "", "cell")), make("span", "", "cell width")], facts = make("span", "", "facts");
  row.append(box, name, ...cells, facts);
  row.parts = { head, artist, cells, facts };
  row.addEventListener("click", (e) => {
    active = row.position;
    if (e.target === box) pick([row.track], !picked[row.track]);
    else { open(row.track); $("list").focus({ preventScroll: true }); }
    list();
  });
  $("spacer").append(row);
  pool.push(row);
  return row;
};
const spoken = (i) => [ // a track in words, for who listens to the page
  title(i), by(i), ...DIMENSIONS.map((d) => `${NAME[d]} ${two(value[d][i])}, percentile ${rank(d, i)}`), mood(i), tempo(i), tonality(i),
  unlike(i) ? "out of distribution" : "",
].filter(Boolean).join("; ");
const list = () => {
  const box = $("list"), first = Math.max(0, Math.floor(box.scrollTop / ROW) - 2);
  const last = Math.min(shown.length, first + Math.ceil(box.clientHeight / ROW) + 5);
  $("spacer").style.height = `${shown.length * ROW}px`;
  for (let k = 0; k < Math.max(pool.length, last - first); k++) {
    const row = pool[k] ?? newRow(), position = first + k;
    row.hidden = position >= last;
    if (row.hidden) { row.removeAttribute("id"); continue; }
    const i = shown[position], { head, artist, cells, facts } = row.parts;
    row.position = position;
    row.track = i;
    row.id = `row-${position}`;
    row.style.transform = `translateY(${position * ROW}px)`;
    row.setAttribute("aria-posinset", position + 1);
    row.setAttribute("aria-setsize", shown.length);
    row.setAttribute("aria-selected", picked[i] ? "true" : "false");
    row.setAttribute("aria-label", spoken(i));
    row.classList.toggle("active", position === active);
    row.classList.toggle("opened", i === opened);
    row.classList.toggle("unlike", unlike(i));
    put(head, title(i));
    put(artist, by(i));
    LISTED.forEach((d, c) => put(cells[c], two(value[d][i])));
    put(cells[LISTED.length], isNaN(width[i]) ? "–" : `±${two(width[i])}`);
    put(facts, [mood(i), tempo(i), tonality(i)].filter(Boolean).join(" · "));
  }
  if (active >= first && active < last) box.setAttribute("aria-activedescendant", `row-${active}`);
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
  const labels = { title: "Title", artist: "Artist", width: "±", tempo: "BPM" };
  for (const key of ["title", "artist", ...(A.tempo ? ["tempo"] : []), ...LISTED, "width"]) {
    const name = { width: "uncertainty", tempo: "tempo" }[key] ?? (NAME[key] ?? key).toLowerCase();
    const button = makeButton(labels[key] ?? SHORT[key], key in labels ? key : "", () => {
      sort = { key, up: sort.key === key ? !sort.up : true };
      arrows();
      reorder();
      $("list").scrollTop = 0;
      active = 0;
      shown = new Int32Array(0);
      update();
    });
    button.dataset.key = key;
    if (key in HUE) button.style.color = HUE[key];
    button.title = `Sort by ${name}`;
    button.setAttribute("aria-label", `${button.textContent}: sort by ${name}`);
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
$("list").addEventListener("scroll", once(list));
