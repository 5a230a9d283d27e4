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
