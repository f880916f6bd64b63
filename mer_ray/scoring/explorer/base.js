// Helpers. Every text of the catalog goes in by textContent or as an attribute's value, never as markup.
const $ = (id) => document.getElementById(id);
const make = (tag, text = "", cls = "") => {
  const el = document.createElement(tag);
  el.textContent = text;
  if (cls) el.className = cls;
  return el;
};
const makeButton = (text, cls, act) => {
  const el = make("button", text, cls);
  el.type = "button";
  el.addEventListener("click", act);
  return el;
};
const svg = (tag, attributes = {}) => {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  return el;
};
const put = (el, text) => { if (el.textContent !== text) el.textContent = text; };
const EM = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16; // 1, unless the user has another size of text
const NARROW = matchMedia("(max-width: 43.75em)"); // as in the style
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const two = (x) => x.toFixed(2);
const clock = (s) => {
  const t = Math.max(0, Math.floor(s)), h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
  return (h ? `${h}:${String(m).padStart(2, "0")}` : m) + ":" + String(t % 60).padStart(2, "0");
};
const lasting = (s) => clock(Math.round(s)); // a length: rounded, as in tables and playlists
const number = new Intl.NumberFormat("en");
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 0 });
const tracks = (n) => `${number.format(n)} ${n === 1 ? "track" : "tracks"}`;
const once = (act) => { // as often as it is called, it acts once, before the next frame
  let asked = 0;
  return () => { asked ||= requestAnimationFrame(() => { asked = 0; act(); }); };
};
const plain = (text) => String(text).replace(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();
const LETTERS = { ß: "ss", ς: "σ", ı: "i", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", æ: "ae", œ: "oe" }; // as many people type them
const fold = (text) => (/^[\x00-\x7f]*$/.test(text) ? text.toLowerCase()
  : text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[ßςıøłđðþæœ]/g, (c) => LETTERS[c]));
