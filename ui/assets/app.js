// What pages do beyond links and forms: live content, times in the viewer's zone, the palette
// and keys. Idiomorph changes only what differs, so focus, selections and open details stay.
const root = document.documentElement;
const main = document.querySelector("main");
const base = root.dataset.base;

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const exact = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(ms) {
  const seconds = ms / 1000;
  for (const [unit, size] of units) {
    if (Math.abs(seconds) >= size || unit === "second") return relative.format(Math.round(seconds / size), unit);
  }
}

function writeTimes(within) {
  for (const t of within.querySelectorAll("time[datetime]")) {
    const at = new Date(t.dateTime);
    const text = root.dataset.times !== "exact" ? ago(at - Date.now())
      : at.toDateString() === new Date().toDateString() ? today.format(at) : exact.format(at);
    if (t.textContent !== text) t.textContent = text;
    const title = exact.format(at);
    if (t.title !== title) t.title = title;
  }
  for (const t of within.querySelectorAll("text[data-at]")) { // the axis of a chart
    const at = new Date(t.dataset.at * 1000);
    const text = /:/.test(t.textContent) ? clock.format(at) : day.format(at);
    if (t.textContent !== text) t.textContent = text;
  }
}

// Updates take a fiftieth of the browser's time, and its layout about as much again. After a quiet time they may take
// more, so that a change is seen at once; of those that come while one waits only the last is shown.
const maxShare = 0.02;
let budget = 100; // milliseconds that updates may take now
let budgetAt = performance.now();
function refill() {
  const now = performance.now();
  budget = Math.min(budget + (now - budgetAt) * maxShare, 100);
  budgetAt = now;
}
let waiting = null; // content that is not shown yet, or of which a list is held
let showTimer = 0;

function receive(html) {
  waiting = html;
  refill();
  if (!showTimer) showTimer = setTimeout(showWaiting, Math.max(-budget / maxShare, 0));
}

function showWaiting() {
  showTimer = 0;
  if (waiting === null) return;
  const began = performance.now();
  const html = waiting;
  const held = show(html);
  if (!held && waiting === html) waiting = null;
  budget -= performance.now() - began;
}

// A list holds still while the pointer is on it, while it is scrolled, and while rows are ticked.
let mouse = false; // a finger that has left still hovers
addEventListener("pointerover", (e) => { mouse = e.pointerType === "mouse"; }, { passive: true });
function isHeld(tbody) {
  return tbody.querySelector("tr[data-url]") !== null && (mouse && tbody.matches(":hover") || tbody.getBoundingClientRect().top < 0 ||
    tbody.querySelector("input[data-pick]:checked") !== null);
}
const heldNote = document.getElementById("held");
let showAll = false;
heldNote?.addEventListener("click", () => {
  showAll = true;
  showWaiting();
  showAll = false;
});
function release() {
  if (waiting !== null && !showTimer && ![...main.querySelectorAll("tbody")].some(isHeld)) receive(waiting);
}
if (heldNote) for (const event of ["pointerover", "scroll", "change"]) addEventListener(event, release, { passive: true });

// Shows new content, and reports whether a list was held.
function show(html) {
  const next = document.createElement("main");
  next.id = "main";
  next.tabIndex = -1;
  if (main.dataset.up) next.dataset.up = main.dataset.up;
  next.innerHTML = html;
  writeTimes(next);
  const held = showAll ? [] : [...main.querySelectorAll("tbody")].filter(isHeld);
  Idiomorph.morph(main, next, {
    // What is typed stays. Without this test nothing inside what has the focus would change: also not in main.
    ignoreActiveValue: /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName),
    callbacks: {
      beforeNodeMorphed(old, fresh) {
        if (old.nodeType !== 1) return true;
        if (held.includes(old)) return false;
        // Keep what the viewer opened, typed or chose.
        if (old.tagName === "DETAILS") fresh.open = old.open;
        if (old.tagName === "INPUT" && old.type === "checkbox" && old.dataset.pick !== undefined) fresh.checked = old.checked;
        if (old.dataset.keep !== undefined) return false;
        if (old.classList.contains("current")) fresh.classList.add("current");
        return true;
      },
    },
  });
  if (heldNote) {
    const fresh = new DOMParser().parseFromString(held.length ? html : "", "text/html");
    const count = [...fresh.querySelectorAll("tr[data-url][id]")].filter((r) => !document.getElementById(r.id)).length;
    heldNote.hidden = count === 0;
    heldNote.textContent = count + " new, show";
  }
  document.dispatchEvent(new CustomEvent("stint:shown"));
  return held.length > 0;
}

const banner = document.getElementById("lost");
const live = document.getElementById("live");
let source = null;
function listen() {
  source = new EventSource(root.dataset.live);
  source.addEventListener("main", (e) => { banner.hidden = true; receive(e.data); });
  source.onopen = () => { banner.hidden = true; root.dataset.connection = "live"; };
  source.onerror = () => {
    banner.hidden = false;
    root.dataset.connection = "lost";
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (isLive()) listen(); }, 2000);
  };
}
function isLive() { return live?.getAttribute("aria-pressed") === "true"; }
function toggleLive() {
  if (!live) return;
  const on = !isLive();
  live.setAttribute("aria-pressed", on);
  live.querySelector("span").textContent = on ? "Live" : "Paused";
  source.close();
  banner.hidden = true;
  if (on) listen();
  else root.dataset.connection = "paused";
}
live?.addEventListener("click", toggleLive);
if (root.dataset.live) listen();
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });

// Links within a page change it in place, so that it stays where it is scrolled to.
async function go(url, back) {
  try {
    const answer = await fetch(url);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !next.querySelector("main")) throw new Error(answer.statusText);
    waiting = null;
    if (!back) history.pushState(null, "", url);
    show(next.querySelector("main").innerHTML);
  } catch { location.href = url; return; }
  root.dataset.live = base + "/live?url=" + encodeURIComponent(location.pathname.slice(base.length) + location.search);
  if (isLive()) { source.close(); listen(); }
  const detail = location.hash === "#detail" && !back && document.getElementById("detail");
  if (detail && getComputedStyle(detail).position === "static") detail.scrollIntoView();
}
document.addEventListener("click", (e) => {
  const to = e.target.closest?.("a[data-soft]");
  if (!to || !root.dataset.live || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  go(new URL(to.getAttribute("href"), location).href, false); // of a link in a picture, href is an object
});
addEventListener("popstate", () => { if (root.dataset.live) go(location.href, true); });

// Dragging over a timeline shows that part of it.
let part = null; // the timeline, and where dragging began
function placeOn(row, e) {
  const r = row.getBoundingClientRect();
  return Math.max(0, Math.min(1, (e.clientX - r.left) / r.width));
}
main.addEventListener("pointerdown", (e) => {
  const row = e.target.closest?.(".waterfall td:nth-child(2)")?.querySelector("svg");
  if (row && e.button === 0 && e.pointerType === "mouse") { part = { row, from: placeOn(row, e) }; e.preventDefault(); }
});
addEventListener("pointerup", (e) => {
  if (!part) return;
  const { row, from } = part;
  const to = placeOn(row, e);
  part = null;
  if (Math.abs(to - from) < 0.02) { row.closest("tr").querySelector("a[data-soft]")?.click(); return; }
  const { from: begin, ms } = row.closest("table").dataset;
  const at = (x) => Math.round(Number(begin) + x * Number(ms));
  const url = new URL(location);
  url.searchParams.set("zoom", at(Math.min(from, to)) + "-" + Math.max(at(Math.max(from, to)), at(Math.min(from, to)) + 1));
  go(url, false);
});

writeTimes(document);
setInterval(() => writeTimes(document), 1000);

// The palette finds a page, a task, a queue, runs by their metadata or error, and a run by the beginning of its ID.
const palette = document.getElementById("palette");
const field = palette.querySelector("input");
const found = palette.querySelector("ul");
let names = []; // of tasks and queues, with their pages
let chosen = 0;
let begun = {}; // the runs whose IDs begin with some digits, once they are known

// Returns a name as a segment of a path: escapeSegment in html.go says why.
function segment(name) { return encodeURIComponent(/^~*(\.{1,2}|\/)$/.test(name) ? "~" + name : name); }

async function openPalette() {
  palette.showModal();
  field.value = "";
  begun = {};
  if (!names.length) {
    try {
      const [tasks, queues] = await Promise.all(["tasks", "queues"].map(async (of) => (await (await fetch(base + "/api/" + of)).json())[of]));
      names = [...tasks.map((t) => ({ text: "task " + t.name, url: base + "/tasks/" + segment(t.name) })),
        ...queues.map((q) => ({ text: "runs in queue " + q.name, url: base + "/runs?queue=" + encodeURIComponent(q.name) }))];
    } catch { names = []; }
  }
  offer();
}

// An ID begins with the time at which it was made, in 12 digits: so the beginning of one is a range of time.
async function findBegun(digits) {
  const at = (end) => new Date(parseInt(digits.slice(0, 12).padEnd(12, end), 16)).toISOString();
  begun = { digits, runs: [] };
  try {
    const until = new Date(Date.parse(at("f")) + 1).toISOString();
    const list = await (await fetch(base + "/api/runs?limit=1000&since=" + at("0") + "&until=" + until)).json();
    begun.runs = list.runs.filter((r) => r.id.replaceAll("-", "").startsWith(digits));
  } catch { return; } // a time that no clock shows
  if (palette.open && begun.digits === digits) offer();
}

// Escapes characters that are invisible or change the direction of their neighbours.
function visible(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}

function offer() {
  const q = field.value.trim().toLowerCase();
  const pages = [...document.querySelectorAll(".rail a.to")].map((a) => ({ text: a.textContent, url: a.href }));
  let all = [...pages, ...names].filter((o) => o.text.toLowerCase().includes(q));
  const digits = q.replaceAll("-", "");
  const pair = /^([^=\s]+)=(.+)$/.exec(field.value.trim());
  if (pair) all.push({ text: "runs with metadata " + pair[0], url: base + "/runs?metadata=" + encodeURIComponent(pair[0]) });
  if (/^[0-9a-f]{8,31}$/.test(digits)) {
    if (begun.digits !== digits) findBegun(digits);
    all.push(...begun.runs.map((r) => ({ text: "run " + r.id + " of " + r.task, url: base + "/runs/" + r.id })));
  }
  if (/^[0-9a-f-]{36}$/.test(q)) all = [{ text: "run " + q, url: base + "/runs/" + q }];
  else if (q) all.push({ text: "runs whose error has “" + field.value.trim() + "”", url: base + "/runs?state=failed&error=" + encodeURIComponent(field.value.trim()) });
  chosen = 0;
  found.replaceChildren(...all.slice(0, 12).map((o, i) => {
    const li = document.createElement("li");
    const a = document.createElement("a");
    a.href = o.url;
    a.textContent = visible(o.text);
    a.role = "option";
    a.setAttribute("aria-selected", i === 0);
    li.role = "presentation";
    li.append(a);
    return li;
  }));
}

field.addEventListener("input", offer);
palette.addEventListener("keydown", (e) => {
  const links = [...found.querySelectorAll("a")];
  if (e.key === "ArrowDown" || e.key === "ArrowUp") {
    e.preventDefault();
    chosen = (chosen + (e.key === "ArrowDown" ? 1 : links.length - 1)) % Math.max(links.length, 1);
    links.forEach((a, i) => a.setAttribute("aria-selected", i === chosen));
  } else if (e.key === "Enter" && e.target === field && links[chosen]) {
    e.preventDefault();
    location.href = links[chosen].href;
  }
});
document.getElementById("open-palette").addEventListener("click", openPalette);

function rows() { return [...main.querySelectorAll("tbody tr[data-url]")]; }

document.addEventListener("keydown", (e) => {
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k") { e.preventDefault(); openPalette(); return; }
  if (e.ctrlKey || e.metaKey || e.altKey || palette.open || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
  const all = rows();
  const at = all.findIndex((r) => r.classList.contains("current"));
  if (e.key === "/") { e.preventDefault(); openPalette(); }
  else if (e.key === "p") toggleLive();
  else if ((e.key === "j" || e.key === "k") && all.length) {
    const next = e.key === "j" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
    all.forEach((r, i) => r.classList.toggle("current", i === next));
    all[next].querySelector("a")?.focus();
    all[next].scrollIntoView({ block: "nearest" });
  } else if (e.key === "Enter" && at >= 0 && e.target === document.body) location.href = all[at].dataset.url;
  else if (e.key === "Escape" && main.dataset.up) location.href = main.dataset.up;
});

// Continues a large action until it is done or the viewer leaves.
const rest = document.querySelector("form[data-continue]");
if (rest) setTimeout(() => rest.requestSubmit(), 50);

// Selects all rows of a list; makes one JSON input from the fields of a form.
document.addEventListener("change", (e) => {
  if (e.target.dataset.all === undefined) return;
  for (const box of main.querySelectorAll("input[data-pick]")) box.checked = e.target.checked;
});
document.addEventListener("submit", (e) => {
  const form = e.target;
  if (form.dataset.compose === undefined) return;
  const fields = [];
  for (const el of form.querySelectorAll("[data-field]")) {
    let value = JSON.stringify(el.value);
    if (el.type === "checkbox") value = String(el.checked);
    else if (el.type === "number") value = digits(el.value);
    if (value !== "") fields.push(JSON.stringify(el.dataset.field) + ":" + value);
  }
  form.querySelector("[name=input]").value = "{" + fields.join(",") + "}";
});

// Returns the number in a field as JSON, with the digits that were typed: a Number would round an
// ID of more than 53 bits. Whole numbers are written without a fraction: 10.0 and 1e1 as 10.
function digits(typed) {
  let text = typed.trim().replace(/^\+/, "");
  const whole = /^(-?\d+)(?:\.0*)?(?:[eE]\+?(\d{1,2}))?$/.exec(text);
  if (whole) text = whole[1] + "0".repeat(Number(whole[2] ?? 0));
  return text.replace(/^(-?)0+(?=\d)/, "$1").replace(/^(-?)\./, "$10.");
}
document.addEventListener("click", (e) => {
  const what = e.target.dataset.copy;
  if (what === undefined) return;
  navigator.clipboard.writeText(document.getElementById(what).textContent).then(() => { e.target.textContent = "copied"; });
});
document.addEventListener("click", async (e) => {
  const what = e.target.dataset?.copyOf; // the address of a text
  if (what === undefined) return;
  await navigator.clipboard.writeText(await (await fetch(what)).text());
  e.target.textContent = "Copied";
});

// Theme, density and exact times, which this browser keeps.
function keep(name, value) {
  if (value) root.dataset[name] = value;
  else delete root.dataset[name];
  try { value ? localStorage.setItem("stint-" + name, value) : localStorage.removeItem("stint-" + name); } catch { /* not kept */ }
  showDisplay();
}
function showDisplay() {
  for (const b of document.querySelectorAll("[data-theme-set]")) b.setAttribute("aria-pressed", b.dataset.themeSet === (root.dataset.theme ?? ""));
  for (const box of document.querySelectorAll("[data-set]")) box.checked = root.dataset[box.dataset.set] === box.value;
  writeTimes(document);
}
for (const b of document.querySelectorAll("[data-theme-set]")) b.addEventListener("click", () => keep("theme", b.dataset.themeSet));
for (const box of document.querySelectorAll("[data-set]")) box.addEventListener("change", () => keep(box.dataset.set, box.checked ? box.value : ""));
showDisplay();

// A menu closes when something else is clicked, or with Escape.
document.addEventListener("click", (e) => {
  for (const menu of document.querySelectorAll("details.pop[open]")) if (!menu.contains(e.target)) menu.open = false;
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.pop[open]")) { menu.open = false; e.stopImmediatePropagation(); }
}, true);

// Charts: one cursor through all of a page, with the values of the one that is pointed at. Dragging chooses
// a time range.
let pointed = null; // the chart and the place in it, from 0 to 1
let drag = null;
function plotOf(frame) { return frame.querySelector(".plot"); }
function clearCharts() {
  for (const frame of main.querySelectorAll("[data-chart]")) {
    frame.querySelector(".cursor").classList.remove("on");
    frame.querySelector(".tip").hidden = true;
  }
}
function readChart(frame, place, tip) {
  const d = JSON.parse(frame.dataset.chart);
  const n = d.s[0].v.length;
  const i = Math.min(Math.floor(place * n), n - 1);
  const line = frame.querySelector(".cursor");
  const x = (i + 0.5) / n;
  for (const end of ["x1", "x2"]) line.setAttribute(end, x * 100 + "%");
  line.classList.add("on");
  const box = frame.querySelector(".tip");
  box.hidden = !tip;
  if (!tip) return;
  const title = document.createElement("b");
  title.textContent = (d.step >= 86400 ? day : clock).format(new Date((d.t + i * d.step) * 1000));
  box.replaceChildren(title, ...d.s.map((s) => {
    const row = document.createElement("span");
    const value = document.createElement("em");
    value.textContent = s.v[i];
    row.append(s.n, value);
    return row;
  }));
  const plot = plotOf(frame);
  const left = plot.getBoundingClientRect().left - frame.getBoundingClientRect().left + x * plot.clientWidth;
  box.style.left = (x > 0.6 ? left - box.offsetWidth - 10 : left + 10) + "px";
}
function readCharts() {
  if (pointed) for (const frame of main.querySelectorAll("[data-chart]")) readChart(frame, pointed.place, frame === pointed.frame);
}
function placeIn(frame, e) {
  const r = plotOf(frame).getBoundingClientRect();
  return Math.max(0, Math.min(1, (e.clientX - r.left) / r.width));
}
main.addEventListener("pointermove", (e) => {
  const frame = drag?.frame ?? e.target.closest?.("[data-chart]");
  if (!frame) { if (pointed) { pointed = null; clearCharts(); } return; }
  pointed = { frame, place: placeIn(frame, e) };
  readCharts();
  if (!drag) return;
  const brush = frame.querySelector(".brush");
  brush.setAttribute("x", Math.min(drag.place, pointed.place) * 100 + "%");
  brush.setAttribute("width", Math.abs(drag.place - pointed.place) * 100 + "%");
});
main.addEventListener("pointerleave", () => { if (!drag) { pointed = null; clearCharts(); } });
main.addEventListener("pointerdown", (e) => {
  const frame = e.target.closest?.("[data-chart]");
  if (!frame || e.button !== 0) return;
  e.preventDefault();
  drag = { frame, place: placeIn(frame, e) };
});
addEventListener("pointerup", (e) => {
  if (!drag) return;
  const { frame, place } = drag;
  const to = placeIn(frame, e);
  drag = null;
  frame.querySelector(".brush").setAttribute("width", 0);
  if (Math.abs(to - place) < 0.02) return;
  const d = JSON.parse(frame.dataset.chart);
  const at = (x) => new Date((d.t + Math.round(x * d.s[0].v.length) * d.step) * 1000).toISOString().replace(".000", "");
  const url = new URL(location);
  url.searchParams.set("since", at(Math.min(place, to)));
  url.searchParams.set("until", at(Math.max(place, to)));
  url.searchParams.delete("cursor");
  location.href = url;
});
document.addEventListener("stint:shown", readCharts);

// The query field suggests keys, and the values of those whose values are known.
const queryKeys = { state: "", task: "", queue: "", error: "a part of its text", id: "", parent: "a run's ID", event: "an event's ID", worker: "", metadata: "key=value", top: "no children" };
const known = {}; // values by key, as far as they were asked for
async function valuesOf(key) {
  const field = document.querySelector(".query [name=q]");
  if (key === "state") return field.dataset.states.split(" ");
  if (key !== "task" && key !== "queue" && key !== "worker") return [];
  if (!known[key]) {
    try {
      const answer = await (await fetch(base + "/api/" + key + "s")).json();
      known[key] = answer[key + "s"].map((x) => x.name);
    } catch { return []; }
  }
  return known[key];
}
function quoted(value) { return /[\s,"\\]/.test(value) ? JSON.stringify(value) : value; }
async function suggest() {
  const field = document.activeElement;
  if (!field?.matches?.(".query [name=q]")) return;
  const list = document.getElementById("suggestions");
  const text = field.value.slice(0, field.selectionStart);
  const word = /\S*$/.exec(text)[0];
  const [, key, head, part] = /^(?:(\w+):)?((?:[^,]*,)*)([^,]*)$/.exec(word) ?? [];
  let offers;
  if (key) offers = (await valuesOf(key)).map((v) => ({ text: v, write: key + ":" + head + quoted(v) + " " }));
  else offers = Object.entries(queryKeys).map(([k, about]) => ({ text: k, about, write: k === "top" ? "top " : k + ":" }));
  if (document.activeElement !== field || text !== field.value.slice(0, field.selectionStart)) return; // typed meanwhile
  offers = offers.filter((o) => o.text.toLowerCase().startsWith((part ?? word).toLowerCase())).slice(0, 12);
  list.replaceChildren(...offers.map((o, i) => {
    const li = document.createElement("li");
    const a = document.createElement("a");
    const about = document.createElement("span");
    a.role = "option";
    a.setAttribute("aria-selected", i === 0);
    about.className = "c";
    about.textContent = o.about ?? "";
    a.append(visible(o.text), about);
    a.onmousedown = (e) => { e.preventDefault(); take(field, word, o.write); };
    a.dataset.write = o.write;
    li.role = "presentation";
    li.append(a);
    return li;
  }));
  list.hidden = offers.length === 0;
}
function take(field, word, write) {
  const at = field.selectionStart;
  field.setRangeText(write, at - word.length, at, "end");
  suggest();
}
document.addEventListener("input", (e) => { if (e.target.matches(".query [name=q]")) suggest(); });
document.addEventListener("focusin", (e) => { if (e.target.matches(".query [name=q]")) suggest(); });
document.addEventListener("focusout", (e) => { if (e.target.matches(".query [name=q]")) document.getElementById("suggestions").hidden = true; });
document.addEventListener("keydown", (e) => {
  const list = document.getElementById("suggestions");
  if (!e.target.matches?.(".query [name=q]") || !list || list.hidden) return;
  const all = [...list.querySelectorAll("a")];
  const at = all.findIndex((a) => a.getAttribute("aria-selected") === "true");
  if (e.key === "Tab" && !e.shiftKey) {
    e.preventDefault();
    take(e.target, /\S*$/.exec(e.target.value.slice(0, e.target.selectionStart))[0], all[at].dataset.write);
  } else if (e.key === "Escape") {
    e.preventDefault();
    list.hidden = true;
  } else if (e.key === "ArrowDown" || e.key === "ArrowUp") {
    e.preventDefault();
    const next = (at + (e.key === "ArrowDown" ? 1 : all.length - 1)) % all.length;
    all.forEach((a, i) => a.setAttribute("aria-selected", i === next));
    all[next].scrollIntoView({ block: "nearest" });
  }
});
