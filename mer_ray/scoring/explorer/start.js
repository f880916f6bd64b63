// Start: the controls, the list and the plane; then what can wait.
const begin = () => {
  put($("model"), tracks(N) + (D.models.length ? `, scored by ${D.models.join(", ")}` : ""));
  theme();
  if (!N) {
    $("main").hidden = true;
    $("empty").hidden = false;
    document.body.classList.add("is-empty");
    return;
  }
  const style = document.documentElement.style, longest = Math.max(...Object.values(NAME).map((name) => name.length));
  style.setProperty("--listed", LISTED.length);
  style.setProperty("--cell", LISTED.every((d) => SHORT[d].length === 1) ? "2.25rem" : "3.625rem");
  style.setProperty("--names", `max(6.4em, ${longest + 1}ch)`);
  $("only").hidden = !A.in_distribution.some((k) => k !== 2);
  $("scale").hidden = !COLOUR;
  if (COLOUR) {
    put($("colour"), NAME[COLOUR]);
    put($("least"), two(LEAST));
    put($("most"), two(MOST));
  }
  filterControls();
  if (NARROW.matches) $("filters").open = false;
  NARROW.addEventListener("change", () => { if (!NARROW.matches) $("filters").open = true; }); // a turned phone: there they do not fold
  headers();
  startArc();
  reorder();
  new ResizeObserver(list).observe($("list"));
  G = geometry();
  startMap();
  update();
  fit();
};
begin();
// Says, to whoever measures, when the first frame stood: ms since the page was asked for.
requestAnimationFrame(() => setTimeout(() => { document.documentElement.dataset.ready = Math.round(performance.now()); }));
const idle = window.requestIdleCallback ?? ((act) => setTimeout(act, 500));
addEventListener("load", () => idle(foldAll)); // so that the first letter of a search finds it done
