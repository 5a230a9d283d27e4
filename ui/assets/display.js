// How the viewer wants pages to look: theme, density and exact times. It runs before anything is painted.
for (const name of ["theme", "density", "times"]) {
  let value = null;
  try { value = localStorage.getItem("stint-" + name); } catch { /* no storage: the look is not kept */ }
  if (value) document.documentElement.dataset[name] = value;
}
document.documentElement.classList.add("scripts");
