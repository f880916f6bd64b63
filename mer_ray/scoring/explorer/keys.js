// Keys of the whole page, colours, pictures and paper.
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
  if (HAS_ARC) showTab("list");
  $("list").focus();
});
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || $("help").open) return;
  const typing = e.target.matches("input[type=search], input[type=number]"), control = e.target.matches("button, input, select, summary, a");
  if (e.key === "/" && !typing) {
    e.preventDefault();
    $("search").focus();
    $("search").select();
  } else if (e.key === "?" && !typing) {
    e.preventDefault();
    $("help").showModal();
  } else if (e.key === "Escape") {
    e.preventDefault();
    if (dragged) { dragged = null; fingers.clear(); overlay(); }
    else if (typing && $("search").value) clearSearch();
    else if (typing) $("list").focus();
    else if (opened >= 0) { close(); $("list").focus({ preventScroll: true }); }
    else if (nPicked) pick(chosen(), false);
    else if ($("search").value) clearSearch();
  } else if (e.key === " " && !control && opened >= 0) {
    e.preventDefault();
    toggle();
  }
});
$("help-open").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());

// colours ------------------------------------------------------------------------------------------------------------

const theme = () => {
  readColours();
  $("gradient").style.background = `linear-gradient(90deg, ${Array.from({ length: 9 }, (_, k) => shade(Math.round((k / 8) * 255))).join(",")})`;
  if (N) drawPlane();
};
$("theme").addEventListener("change", (e) => {
  const chosen = e.target.value, root = document.documentElement;
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  theme();
});
for (const media of [systemDark, printing, matchMedia("(forced-colors: active)")]) media.addEventListener("change", theme);

// pictures and paper -------------------------------------------------------------------------------------------------

$("png").addEventListener("click", () => picture().toBlob((blob) => save(blob, `${D.name} plane`, "png")));
$("print").addEventListener("click", () => print());
const PRINTED = 300; // tracks at most
const printed = () => { // [what they are, rows]
  if (arc.rows.length && !$("panel-arc").hidden) return [$("arc-said").textContent, arc.rows];
  const rows = nPicked ? chosen() : shown, first = rows.subarray(0, PRINTED), all = rows.length === first.length;
  const kind = nPicked ? "selected" : "that match";
  return [all ? `${tracks(rows.length)} ${nPicked ? "selected" : ""}` : `The first ${PRINTED} of the ${tracks(rows.length)} ${kind}`, first];
};
addEventListener("beforeprint", () => {
  const [what, rows] = printed(), table = make("table"), head = make("tr"), body = make("tbody");
  const columns = [
    ["", (_, k) => k + 1], ["Title", title], ["Artist", by], ...LISTED.map((d) => [NAME[d], (i) => two(value[d][i])]),
    ...(D.moods.length ? [["Mood", mood]] : []), ...(A.tempo ? [["Tempo", tempo]] : []), ...(A.key ? [["Key", tonality]] : []),
    ["Length", (i) => (A.duration_s[i] ? lasting(A.duration_s[i]) : "")],
  ];
  head.append(...columns.map(([name]) => make("th", name)));
  rows.forEach((i, k) => {
    const row = make("tr");
    row.append(...columns.map(([, text]) => make("td", text(i, k))));
    body.append(row);
  });
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  $("paper").replaceChildren(make("p", [what.trim(), ...conditions()].join(" · ")), table);
  readColours(false);
  paintBase(true);
});
addEventListener("afterprint", () => {
  $("paper").replaceChildren();
  theme();
});
