/* -------------------------------------------- samples: unpacking and the list */

const ROW = 56, MORE = 6; // height of a row as in the style sheet; rows kept above and below what is seen
const browser = { data: null, items: [], at: -1, a: 0, b: -1, pieces: new Map() };

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** A piece, unpacked once; the oldest of many are forgotten. */
function piece(id) {
  if (!browser.pieces.has(id)) {
    browser.pieces.set(id, unpack(id));
    if (browser.pieces.size > 60) browser.pieces.delete(browser.pieces.keys().next().value);
  }
  return browser.pieces.get(id);
}

const sideName = (side) => side.name.filter(Boolean).join(" · ");
const side = (letter) => browser.data.sides[browser[letter]];

function prepare(data) {
  const count = data.questions[0].length;
  for (const one of data.sides) {
    one.place = new Int32Array(count).fill(-1); // question -> its place in the columns of this side
    one.question.forEach((question, place) => { one.place[question] = place; });
  }
  const [, documents, asked, gold] = data.questions;
  data.words = asked.map((text, at) => `${documents[at]}\n${text}\n${gold[at].join("\n")}`.toLowerCase());
  browser.data = data;
}

const score = (letter, question) => {
  const one = side(letter), place = one ? one.place[question] : -1;
  return place < 0 ? undefined : one.score[place];
};
const answer = (letter, question) => {
  const one = side(letter), place = one ? one.place[question] : -1;
  return place < 0 ? "" : one.answer[place] || "";
};
const answerLogged = (letter, question) => side(letter).answer[side(letter).place[question]] !== null;
const wrong = (letter, question) => { const found = score(letter, question); return found !== undefined && !(found >= 1); };
const differ = (question) => {
  const [a, b] = [score("a", question), score("b", question)];
  return a !== undefined && b !== undefined && a !== b;
};
const kindOf = (letter, question) => { const one = side(letter), place = one ? one.place[question] : -1; return place < 0 ? -1 : one.kind[place]; };

const SHOW = {
  all: () => true, differ, a: (q) => wrong("a", q), b: (q) => wrong("b", q), both: (q) => wrong("a", q) && wrong("b", q),
};

function choose() {
  const { data } = browser;
  const task = byId("filter-task").value, text = byId("filter-text").value.trim().toLowerCase();
  const show = SHOW[byId("show").value], kind = byId("kind").value;
  const before = browser.items[browser.at];
  const found = [];
  for (let q = 0; q < data.words.length; q += 1) {
    if (score("a", q) === undefined && score("b", q) === undefined) continue;
    if (task && data.tasks[data.questions[0][q]] !== task) continue;
    if (!show(q) || (kind && kindOf("a", q) !== Number(kind) && kindOf("b", q) !== Number(kind))) continue;
    if (text && !data.words[q].includes(text) && !answer("a", q).toLowerCase().includes(text) && !answer("b", q).toLowerCase().includes(text)) continue;
    found.push(q);
  }
  if (byId("order").value === "differ") {
    const rank = side("b") ? (q) => (differ(q) ? 0 : 1) : (q) => (wrong("a", q) ? 0 : 1);
    found.sort((x, y) => rank(x) - rank(y) || x - y);
  }
  browser.items = found;
  const apart = found.filter(differ).length;
  byId("count").textContent = `${found.length.toLocaleString("en")} of ${data.words.length.toLocaleString("en")} questions` + (side("b") ? `; A and B differ on ${apart.toLocaleString("en")}` : "");
  byId("tall").style.height = `${found.length * ROW}px`;
  byId("list").scrollTop = 0;
  const again = found.indexOf(before);
  move(again >= 0 ? again : found.length ? 0 : -1, false);
}

function sign(letter, question) {
  const found = score(letter, question);
  if (found === undefined) return ["dim", "· not asked"];
  if (found === null) return ["dim", "· not read"];
  if (found > 0 && found < 1) return ["dim", found.toFixed(2)];
  return found >= 1 ? ["right", "✓"] : ["wrong", "✗"];
}

function said(letter, question) {
  const [look, word] = sign(letter, question);
  const text = answer(letter, question);
  const instead = look === "dim" ? "" : answerLogged(letter, question) ? "(nothing)" : "";
  return make("span", { class: look }, make("span", { class: "tag" }, `${letter.toUpperCase()} ${word}`), text || instead);
}

function rowAt(at) {
  const question = browser.items[at], [tasks, documents, asked, gold] = browser.data.questions;
  const row = make("div", {
    class: "row", role: "option", id: `row-${at}`, "aria-selected": String(at === browser.at),
    "aria-setsize": browser.items.length, "aria-posinset": at + 1, style: `top:${at * ROW}px`,
  });
  row.append(
    make("div", {}, make("span", { class: "dim" }, `${browser.data.tasks[tasks[question]]} · `), asked[question] || documents[question], gold[question].length ? make("span", { class: "dim" }, ` → ${gold[question].join(" | ")}`) : ""),
    make("div", { class: "said" }, said("a", question), side("b") ? said("b", question) : ""),
  );
  return row;
}

function draw() {
  const list = byId("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - MORE);
  const last = Math.min(browser.items.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + MORE);
  const rows = [];
  for (let at = first; at < last; at += 1) rows.push(rowAt(at));
  if (browser.at >= 0 && (browser.at < first || browser.at >= last)) rows.push(rowAt(browser.at)); // what aria names is there
  byId("tall").replaceChildren(...rows);
}

function move(to, seen = true) {
  const list = byId("list"), most = browser.items.length - 1;
  browser.at = Math.min(Math.max(to, most < 0 ? -1 : 0), most);
  if (seen && browser.at >= 0) {
    const top = browser.at * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
  draw();
  if (browser.at >= 0) list.setAttribute("aria-activedescendant", `row-${browser.at}`); else list.removeAttribute("aria-activedescendant");
  showDetail(browser.items[browser.at]);
}

/* ------------------------------------------------------- which two are compared */

function fillSides(cells) {
  const { sides } = browser.data;
  const open = sides.map((one, at) => at).filter((at) => sides[at].cells.some((cell) => cells.has(cell)));
  if (!open.includes(browser.a)) browser.a = open.length ? open[0] : -1;
  if (!open.includes(browser.b) || browser.b === browser.a) browser.b = other(open);
  for (const letter of ["a", "b"]) {
    const options = open.map((at) => make("option", { value: at }, sideName(sides[at])));
    byId(`side-${letter}`).replaceChildren(...(letter === "b" ? [make("option", { value: -1 }, "none")] : []), ...options);
    byId(`side-${letter}`).value = browser[letter];
  }
}

/** The first to compare A with: another model under the same condition, else the same model under another. */
function other(open) {
  const { sides } = browser.data, rest = open.filter((at) => at !== browser.a);
  if (browser.a < 0 || !rest.length) return -1;
  const [model, layout] = sides[browser.a].name;
  const shares = (at) => sides[at].question.some((question) => sides[browser.a].place[question] >= 0);
  return rest.filter(shares).find((at) => sides[at].name[0] !== model && sides[at].name[1] === layout) ?? rest.find(shares) ?? -1;
}

function startBrowser(data) {
  prepare(data);
  browser.a = Math.max(0, data.sides.findIndex((one) => one.name[1] === "read once"));
  byId("kind").append(...data.kinds.map(([kind, told], at) => make("option", { value: at, title: told }, kind)));
  const refresh = (cells) => { fillSides(cells); choose(); };
  listeners.push(refresh);
  for (const letter of ["a", "b"]) {
    byId(`side-${letter}`).addEventListener("change", (event) => { browser[letter] = Number(event.target.value); choose(); });
  }
  for (const id of ["show", "kind", "order"]) byId(id).addEventListener("change", choose);
  byId("filter-text").addEventListener("input", choose);
  let waiting = false;
  byId("list").addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  });
  new ResizeObserver(draw).observe(byId("list"));
  byId("list").addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) move(Number(row.id.slice(4)));
  });
  refresh(left());
}

/* ----------------------------------------------------------------- keyboard */

const page = () => Math.max(1, Math.floor(byId("list").clientHeight / ROW) - 1);
const KEYS = {
  ArrowDown: () => move(browser.at + 1), ArrowUp: () => move(browser.at - 1), PageDown: () => move(browser.at + page()),
  PageUp: () => move(browser.at - page()), Home: () => move(0), End: () => move(browser.items.length - 1), Enter: () => byId("detail").focus(),
};
const ANYWHERE = {
  j: () => { byId("list").focus(); move(browser.at + 1); }, k: () => { byId("list").focus(); move(browser.at - 1); },
  "/": () => byId("filter-text").focus(), n: () => nextPlace(1), p: () => nextPlace(-1), Escape: () => byId("list").focus(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !browser.data) return;
  const writing = event.target.closest("input, select, textarea");
  if (writing && event.key !== "Escape") {
    if (event.key === "Enter" && event.target.id === "filter-text") byId("list").focus();
    return;
  }
  const act = (event.target.id === "list" && KEYS[event.key]) || ANYWHERE[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

document.addEventListener("keydown", onKey);
