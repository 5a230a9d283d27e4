// The graph of a workflow: the wheel, buttons and keys zoom, dragging pans, and a small map shows which part is seen.
// Without this the graph scrolls. The server draws it anew with each update; stint:shown zooms that as it was.
let zoom = 1, zoomed = "";
function graphParts() {
  const box = main.querySelector(".graph-box");
  if (!box) return null;
  const pane = box.querySelector(".scroll"), svg = pane.querySelector(".graph"), whole = svg.viewBox.baseVal;
  return { box, pane, svg, whole, map: box.querySelector(".minimap") };
}
function showSeen() {
  const g = graphParts();
  if (!g) return;
  const seen = g.map.querySelector(".seen"), { pane, whole } = g;
  const all = pane.scrollWidth <= pane.clientWidth + 1 && pane.scrollHeight <= pane.clientHeight + 1;
  g.map.toggleAttribute("hidden", all);
  for (const [name, value] of Object.entries({ x: whole.x + pane.scrollLeft / zoom, y: whole.y + pane.scrollTop / zoom,
    width: Math.min(pane.clientWidth / zoom, whole.width), height: Math.min(pane.clientHeight / zoom, whole.height) })) seen.setAttribute(name, value);
}
function drawZoomed() {
  const g = graphParts();
  if (!g) return;
  if (zoomed !== location.pathname) [zoom, zoomed] = [1, location.pathname];
  g.svg.setAttribute("width", g.whole.width * zoom);
  g.svg.setAttribute("height", g.whole.height * zoom);
  showSeen();
}
// zoomTo keeps the place of the graph that is at a place of the window.
function zoomTo(to, left, top) {
  const { pane } = graphParts(), at = pane.getBoundingClientRect();
  left = (left ?? at.left + pane.clientWidth / 2) - at.left;
  top = (top ?? at.top + pane.clientHeight / 2) - at.top;
  const x = (pane.scrollLeft + left) / zoom, y = (pane.scrollTop + top) / zoom;
  zoom = Math.min(Math.max(to, 0.1), 3);
  drawZoomed();
  pane.scrollTo(x * zoom - left, y * zoom - top);
  showSeen();
}
function fitGraph() {
  const { pane, whole } = graphParts();
  const high = parseFloat(getComputedStyle(pane).maxHeight) || innerHeight;
  zoomTo(Math.min(pane.clientWidth / whole.width, (high - 2) / whole.height, 3));
}
document.addEventListener("click", (e) => {
  const way = e.target.closest?.("[data-zoom]")?.dataset.zoom;
  if (way === "0") fitGraph();
  else if (way) zoomTo(zoom * 1.25 ** +way);
});
document.addEventListener("wheel", (e) => {
  const pane = e.target.closest?.(".graph-box .scroll");
  if (!pane || !(e.ctrlKey || e.metaKey || pane.contains(document.activeElement))) return;
  e.preventDefault();
  zoomTo(zoom * 2 ** (-e.deltaY / (e.deltaMode ? 12 : 300)), e.clientX, e.clientY);
}, { passive: false });
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || !e.target.closest?.(".graph-box .scroll")) return;
  if (e.key === "0") fitGraph();
  else if (e.key === "+" || e.key === "-") zoomTo(zoom * 1.25 ** (e.key === "+" ? 1 : -1));
});
let held = null;
function goTo(map, e) {
  const g = graphParts(), at = map.getBoundingClientRect(), size = Math.min(at.width / g.whole.width, at.height / g.whole.height);
  const x = (e.clientX - at.left - (at.width - g.whole.width * size) / 2) / size, y = (e.clientY - at.top - (at.height - g.whole.height * size) / 2) / size;
  g.pane.scrollTo(x * zoom - g.pane.clientWidth / 2, y * zoom - g.pane.clientHeight / 2);
}
document.addEventListener("pointerdown", (e) => {
  const map = e.target.closest?.(".minimap"), pane = e.target.closest?.(".graph-box .scroll");
  if (map) goTo(held = map, e);
  else if (pane && e.button === 0 && e.pointerType === "mouse") held = { pane, x: e.clientX, y: e.clientY, left: pane.scrollLeft, top: pane.scrollTop, moved: false };
});
document.addEventListener("pointermove", (e) => {
  if (!held) return;
  if (held.nodeType) return goTo(held, e);
  const x = e.clientX - held.x, y = e.clientY - held.y;
  held.moved ||= Math.hypot(x, y) > 4;
  if (held.moved) held.pane.scrollTo(held.left - x, held.top - y);
});
let dragged = false;
document.addEventListener("pointerup", () => {
  dragged = Boolean(held?.moved);
  held = null;
  setTimeout(() => { dragged = false; });
});
document.addEventListener("click", (e) => {
  if (!dragged) return;
  e.preventDefault(); // it was no click on a task
  e.stopPropagation();
}, true);
document.addEventListener("dragstart", (e) => { if (e.target.closest?.(".graph")) e.preventDefault(); });
document.addEventListener("scroll", (e) => { if (e.target.closest?.(".graph-box")) showSeen(); }, true);
addEventListener("resize", showSeen);
document.addEventListener("stint:shown", drawZoomed);
drawZoomed();
