"use strict";
const byId = (id) => document.getElementById(id);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

/** An element; texts in it are texts, whatever they hold. */
function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside.filter((one) => one !== null && one !== undefined));
  return element;
}

/* ------------------------------------------------------------------ colours */

const THEMES = { auto: ["◐ auto", "as the system"], light: ["☀ light", "light"], dark: ["☾ dark", "dark"] };

function remembered() {
  try { return localStorage.getItem("jrt-theme") || "auto"; } catch { return "auto"; } // a file may have no storage
}

function setTheme(name) {
  const root = document.documentElement;
  if (name === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = name;
  byId("theme").textContent = THEMES[name][0];
  byId("theme").setAttribute("aria-label", `Colours: ${THEMES[name][1]}`);
  try { localStorage.setItem("jrt-theme", name); } catch { /* the choice then lasts as long as the page */ }
}

let theme = THEMES[remembered()] ? remembered() : "auto";
setTheme(theme);
byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(theme = names[(names.indexOf(theme) + 1) % names.length]);
});

/* ------------------------------------------------------------------ filters */

const FACETS = JSON.parse(byId("facets").textContent);
const selects = all("#filters select");
const listeners = []; // called with the numbers of the runs that are left

/** The runs that every filter leaves. */
function left() {
  const wanted = selects.filter((select) => select.value).map((select) => [Number(select.dataset.at), select.value]);
  const cells = FACETS.map((values, cell) => cell);
  return new Set(cells.filter((cell) => wanted.every(([at, value]) => FACETS[cell][at] === value)));
}

const cellsOf = (element) => element.dataset.cells.split(" ").map(Number);

function filterTables(cells) {
  let shown = 0, total = 0;
  for (const figure of all("figure.table")) {
    const heads = all("thead th", figure);
    const hidden = heads.map((head) => "cells" in head.dataset && !cellsOf(head).some((cell) => cells.has(cell)));
    heads.forEach((head, at) => { head.hidden = hidden[at]; });
    let rows = 0;
    for (const body of all("tbody", figure)) {
      let inside = 0;
      for (const row of all("tr:not(.heading)", body)) {
        row.hidden = "cells" in row.dataset && !cellsOf(row).some((cell) => cells.has(cell));
        [...row.cells].forEach((entry, at) => { entry.hidden = hidden[at]; });
        inside += !row.hidden;
        total += 1;
      }
      body.hidden = !inside;
      rows += inside;
    }
    const empty = figure.querySelector(".empty"), table = figure.querySelector(".scroll");
    if (table) { empty.hidden = rows > 0; table.hidden = !rows; }
    shown += rows;
  }
  byId("filtered").textContent = cells.size < FACETS.length ? `${cells.size} of ${FACETS.length} runs, ${shown} of ${total} rows` : "";
}

function applyFilters() {
  const cells = left();
  filterTables(cells);
  for (const listener of listeners) listener(cells);
}

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("change", applyFilters);
byId("filters").addEventListener("reset", () => setTimeout(applyFilters));

/* ------------------------------------------------- tables larger than their box */

/** Says below a table in which directions there is more of it than is seen. */
function hint(box) {
  const ways = [box.scrollWidth > box.clientWidth + 1 ? "to the side" : "", box.scrollHeight > box.clientHeight + 1 ? "down" : ""].filter(Boolean);
  box.nextElementSibling.hidden = !ways.length;
  box.nextElementSibling.textContent = `There is more of this table: scroll it ${ways.join(" and ")}.`;
}

const boxes = all(".scroll");
const sizes = new ResizeObserver((changed) => changed.forEach((one) => hint(one.target.closest(".scroll"))));
for (const box of boxes) { sizes.observe(box); sizes.observe(box.firstElementChild); }

/* ------------------------------------------------------------------ sorting */

const numeric = (entry) => (entry.dataset.v === undefined ? NaN : Number(entry.dataset.v));

function compare(one, other, at) {
  const a = numeric(one.cells[at]), b = numeric(other.cells[at]);
  if (!Number.isNaN(a) || !Number.isNaN(b)) return Number.isNaN(a) ? -1 : Number.isNaN(b) ? 1 : a - b;
  return one.cells[at].textContent.localeCompare(other.cells[at].textContent, undefined, { numeric: true });
}

for (const table of all("table:not(.grouped)")) {
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("button") && event.target.closest("th");
    if (!head) return;
    const falling = head.getAttribute("aria-sort") === "descending" ? false : head.classList.contains("number") || head.getAttribute("aria-sort") === "ascending";
    for (const other of all("th", table.tHead)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(a, b, head.cellIndex) * (falling ? -1 : 1));
    table.tBodies[0].append(...rows);
  });
}
