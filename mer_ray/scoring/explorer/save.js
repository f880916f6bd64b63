// The selection, and the files that are made of tracks.
const picked = new Uint8Array(N);
let nPicked = 0;
const pick = (rows, on) => {
  for (const i of rows) {
    nPicked += (on ? 1 : 0) - picked[i];
    picked[i] = on ? 1 : 0;
  }
  actions();
  list();
  drawPlane();
};
const actions = () => {
  put($("picked"), nPicked ? `${number.format(nPicked)} selected` : "Nothing selected");
  $("none").hidden = !nPicked;
  $("playlist").disabled = $("m3u").disabled = $("csv").disabled = !nPicked;
  $("all").disabled = !shown.length;
  put($("all"), shown.length === N || !shown.length ? "Select all" : `Select the ${number.format(shown.length)} that match`);
};
const chosen = () => order.filter((i) => picked[i]); // in the list's order

const LIKE_URI = /[#?%]/; // to a player that takes each line of a playlist for a URI, as VLC does
const m3u = (rows, name, bare) => { // bare: for servers, which decode no URI
  const lines = ["#EXTM3U", ...(bare ? [] : [`#PLAYLIST:${plain(name)}`])];
  let without = 0;
  for (const i of rows) {
    const line = bare ? barePath(i) : plain(address(i, LIKE_URI));
    if (!line) { without++; continue; }
    const text = [D.artist[i], D.title[i]].filter(Boolean).map(plain).join(" - ");
    lines.push(`#EXTINF:${A.duration_s[i] ? Math.round(A.duration_s[i]) : -1},${text}`, line);
  }
  return { text: lines.join("\n") + "\n", without };
};
// As in cells.py: no spreadsheet is to run a text as a formula.
const SIGN = "=+\\-@＝＋－＠﹦﹢﹣﹫", BLANK = "\\s'\"\\x00-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u2060\\ufeff";
const GUARD = new RegExp(`^(?=[${BLANK}]*[\\t\\r\\n${SIGN}])|(?<=[;\\t\\r\\n])(?=[${BLANK}]*[${SIGN}])`, "gu");
const cell = (text) => `"${plain(text).replace(GUARD, "'").replaceAll('"', '""')}"`;
const csv = (rows) => {
  const digits = (values, n, scale = 1) => (i) => (isNaN(values[i]) ? "" : (scale * values[i]).toFixed(n));
  const columns = [ // [name, text of a row]
    ...["artist", "title", "album"].map((name) => [name, (i) => cell(D[name][i])]),
    ...DIMENSIONS.flatMap((d) => [
      [d, digits(value[d], 4)], [`lower_${d}`, digits(lower[d], 4)], [`upper_${d}`, digits(upper[d], 4)],
      [`${d}_percentile`, digits(percentile[d], 4, 100)],
    ]),
    ...(D.moods.length ? [["mood", mood]] : []),
    ...["tempo", "loudness", "true_peak"].filter((name) => A[name]).map((name) => [name, digits(A[name], 2)]),
    ...[["key", D.keys], ["mode", D.modes]].filter(([name]) => A[name]).map(([name, words]) => [name, (i) => words[A[name][i]] ?? ""]),
    ["in_distribution", (i) => ["false", "true", ""][A.in_distribution[i]]],
    ["duration_s", digits(A.duration_s, 1)], ["file", (i) => cell(address(i))],
  ];
  const lines = [columns.map(([name]) => name).join(",")];
  for (const i of rows) lines.push(columns.map(([, text]) => text(i)).join(","));
  return "\ufeff" + lines.join("\r\n") + "\r\n"; // the mark tells Excel that this is UTF-8
};
const save = (blob, name, ending) => {
  const safe = name.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "tracks";
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${safe}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};
const savePlaylist = (rows, name, ending) => { // returns what to say of tracks that are not in it
  const bare = ending === "m3u", { text, without } = m3u(rows, name, bare);
  save(new Blob([text], { type: "audio/x-mpegurl;charset=utf-8" }), name, ending);
  return without ? `, ${number.format(without)} left out: no file known${bare ? ", or one whose name no line can hold" : ""}` : "";
};
const saveTable = (rows, name) => save(new Blob([csv(rows)], { type: "text/csv;charset=utf-8" }), name, "csv");
for (const [id, ending] of [["playlist", "m3u8"], ["m3u", "m3u"]]) {
  $(id).addEventListener("click", () => put($("picked"), `${number.format(nPicked)} selected${savePlaylist(chosen(), D.name, ending)}`));
}
$("csv").addEventListener("click", () => saveTable(chosen(), D.name));
$("all").addEventListener("click", () => pick(shown, true));
$("none").addEventListener("click", () => pick(chosen(), false));
