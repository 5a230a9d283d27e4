// What lists do beyond links and forms: the exact count of what matches, which is asked for in parts, once, and not with
// each live update.
const counted = new Intl.NumberFormat("en");
async function countAll(p) {
  const from = p.dataset.count;
  let sum = 0;
  for (let next = ""; ; ) {
    const answer = await fetch(from + (next && "&cursor=" + encodeURIComponent(next)));
    if (!answer.ok || document.getElementById("count")?.dataset.count !== from) return;
    const part = await answer.json();
    sum += part.runs;
    next = part.next;
    p.textContent = counted.format(sum) + (sum === 1 ? " run" : " runs") + (next ? " so far" : "");
    if (!next) break;
  }
  p.title = "Counted at " + new Date().toLocaleTimeString(undefined, { hourCycle: "h23" });
}
function countList() {
  const p = document.getElementById("count");
  if (!p?.dataset.count || p.dataset.asked === p.dataset.count) return;
  p.dataset.asked = p.dataset.count;
  countAll(p).catch(() => {});
}
countList();
document.addEventListener("stint:shown", countList);

// On wide windows a click on a row of the list of runs opens the run beside it; a second one, or one with a key held, the run
// itself, and so does Enter (whose click has no detail). j and k then change the run.
const opened = () => new URL(location).searchParams.get("run");
const isWide = () => matchMedia("(min-width: 1181px)").matches;
function openBeside(row) {
  const url = new URL(location);
  url.searchParams.set("run", row.dataset.beside);
  for (const r of row.parentElement.children) r.classList.toggle("current", r === row);
  go(url.href, opened() !== null);
  if (opened() !== null) history.replaceState(null, "", url);
}
document.addEventListener("click", (e) => {
  const row = e.target.closest?.("tr[data-beside]");
  if (!row || !root.dataset.live || !isWide() || e.detail === 0 || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  if (e.target.closest("input, button, label") || e.target.closest("a") && opened() === row.dataset.beside || String(getSelection())) return;
  e.preventDefault();
  openBeside(row);
});
let following = 0;
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || palette.open || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
  const row = main.querySelector("tr[data-beside].current");
  if ((e.key === "j" || e.key === "k") && row && opened() !== null) {
    clearTimeout(following);
    following = setTimeout(openBeside, 120, row);
  } else if (e.key === "Escape") document.getElementById("close-aside")?.click();
});
function markOpened() {
  const id = opened();
  for (const r of main.querySelectorAll("tr[data-beside]")) r.classList.toggle("on", r.dataset.beside === id);
}
document.addEventListener("stint:shown", markOpened);
