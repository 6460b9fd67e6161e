"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawings = new Map();
  for (const element of document.querySelectorAll("script[data-for]")) {
    drawings.set(element.dataset.for, JSON.parse(element.textContent));
  }

  // the page's own colours, which follow the reader's system
  function dressed(figure) {
    const text = colour("--text"), quiet = colour("--quiet"), grid = colour("--grid");
    const layout = structuredClone(figure.layout), data = structuredClone(figure.data);
    layout.font = { ...layout.font, color: text };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: colour("--raised"), bordercolor: colour("--line") };
    layout.hoverlabel.font = { ...layout.hoverlabel.font, color: text };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) {
        Object.assign(layout[key], { gridcolor: grid, linecolor: grid, tickcolor: grid });
        layout[key].title = { ...layout[key].title, font: { color: quiet, size: 12 } };
      }
    }
    for (const trace of data) {
      if (trace.type === "heatmap") trace.textfont = { color: text, size: 12 };
      if (trace.type === "icicle") {
        trace.marker = { ...trace.marker, line: { width: 1, color: colour("--ground") } };
        trace.root = { color: colour("--raised") };
        layout.iciclecolorway = ["#3d7fd0", "#2f9468", "#c4508c", "#8a66d6", "#1d93a6", "#a5713f", "#b8741a", "#7c8c1f"];
      }
    }
    return [data, layout];
  }

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const config = { displayModeBar: false, responsive: true, displaylogo: false };
  function draw(name) {
    const [data, layout] = dressed(drawings.get(name));
    if (still) layout.transition = { duration: 0 };
    return Plotly.react(name, data, layout, config);
  }

  // what is far below is drawn when it comes near
  const drawn = new Set();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target.id)) {
        drawn.add(entry.target.id);
        draw(entry.target.id);
      }
    }
  }, { rootMargin: "800px" });
  for (const name of drawings.keys()) near.observe(document.getElementById(name));
  function drawAll() {
    for (const name of drawings.keys()) { drawn.add(name); draw(name); }
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", drawAll);
  if (location.hash === "#all") drawAll();

  // a column's heading sorts by it: numbers from the largest, words from A; once more turns it round
  function key(row, column) {
    const cell = row.cells[column], value = cell.dataset.value;
    return value === undefined ? cell.textContent.trim().toLowerCase() : Number(value);
  }
  function compare(a, b) {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, "en");
    return typeof a === "number" ? 1 : -1; // an empty cell is below all numbers
  }
  for (const button of document.querySelectorAll(".sortable th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
      const column = heading.cellIndex, rows = [...body.rows];
      const first = rows.some((row) => row.cells[column].dataset.value !== undefined) ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      for (const each of heading.parentElement.cells) {
        if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
      }
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...rows.sort((a, b) => sign * compare(key(a, column), key(b, column))));
    });
  }

  const all = document.getElementById("all-cards");
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(open));
    all.textContent = open ? "Close all cards" : "Open all cards";
    for (const card of document.querySelectorAll("details.card")) card.open = open;
  });
})();
