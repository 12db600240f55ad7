/* ---------------------------------------------- one question: answers and prompts */

const SVG = "http:" + "//www.w3.org/2000/svg"; // a name, never fetched
let shown = 0; // counts what was asked for, so that a late piece does not overwrite a newer one
let places = [], here = -1;

async function promptOf(one, place) {
  const number = one.prompt[place];
  if (number < 0) return null;
  const size = browser.data.sizes[0];
  const [text, spans, whole] = (await piece(`prompts-${Math.floor(number / size)}`))[number % size];
  return { number, text, whole, spans: spans.map((span) => span.map((at) => unit(text, at))) };
}

/** A place in a text in JavaScript's UTF-16 units, from its place in characters. */
function unit(text, at) {
  return /[\ud800-\udfff]/.test(text) ? [...text].slice(0, at).join("").length : at;
}

async function detailOf(one, place) {
  const number = one.detail[place], size = browser.data.sizes[1];
  return (await piece(`details-${Math.floor(number / size)}`))[number % size];
}

async function load(letter, question) {
  const one = side(letter), place = one ? one.place[question] : -1;
  if (place < 0) return null;
  const [prompt, detail] = await Promise.all([promptOf(one, place), detailOf(one, place)]);
  const [whole, ended, figures, copied] = detail, text = prompt ? prompt.text : "";
  const end = ended === null ? null : unit(text, ended), took = copied && [unit(text, copied[0]), copied[1]];
  const line = one.answer[place];
  return { letter, name: sideName(one), prompt, end, figures, took, kind: one.kind[place], line, answer: whole ?? line };
}

async function showDetail(question) {
  const turn = (shown += 1), detail = byId("detail");
  if (question === undefined) { detail.replaceChildren(make("p", { class: "dim" }, "No question is left by the filters.")); return; }
  const loaded = (await Promise.all([load("a", question), load("b", question)])).filter(Boolean);
  if (turn !== shown) return;
  const [tasks, documents, asked, gold] = browser.data.questions;
  const chips = make("div", { class: "gold" }, "accepted:", ...gold[question].map((text) => make("span", {}, text)));
  detail.replaceChildren(
    make("p", { class: "dim" }, `${browser.data.tasks[tasks[question]]} · document ${documents[question]}`),
    make("h3", {}, asked[question] || "(the log names no question)"),
    gold[question].length ? chips : make("p", { class: "dim" }, "accepted answers: not in this log"),
    make("div", { class: "two" }, ...loaded.map((one) => sideBox(one, question))),
    ...promptBoxes(loaded),
  );
  detail.scrollTop = 0;
  places = all("mark[data-first]", detail);
  here = -1;
}

function sideBox(one, question) {
  const [look, word] = sign(one.letter, question);
  const words = { "✓": "✓ right", "✗": "✗ wrong" }[word] || word;
  const figures = one.figures.map((value, at) => [browser.data.figures[at], value]).filter(([, value]) => value !== null);
  const list = make("dl");
  for (const [name, value] of figures) list.append(make("dt", {}, name), make("dd", {}, value.toLocaleString("en", { maximumSignificantDigits: 4 })));
  return make(
    "section", { class: `side ${one.letter}`, "aria-label": `Answer ${one.letter.toUpperCase()}` },
    make("h4", {}, `${one.letter.toUpperCase()}: ${one.name}`),
    make("div", { class: look }, make("span", { class: "tag" }, words)),
    make("div", { class: "said-whole" }, one.answer === null ? "the answer is not in this log" : one.answer || "(nothing)"),
    one.kind < 0 ? null : missLine(one), list,
  );
}

function missLine(one) {
  const [kind, told] = browser.data.kinds[one.kind];
  const from = one.took ? `: from “${one.took[1]}”` : "";
  return make("p", { class: "miss" }, make("b", {}, kind), from, make("span", { class: "dim" }, ` (${told})`));
}

/** One prompt for both where they were given the same; else two side by side. */
function promptBoxes(loaded) {
  const same = loaded.length === 2 && loaded[0].prompt && loaded[1].prompt && loaded[0].prompt.number === loaded[1].prompt.number;
  if (same) return [promptBox(loaded[0].prompt, loaded)];
  return [make("div", { class: "two" }, ...loaded.map((one) => promptBox(one.prompt, [one])))];
}

function promptBox(prompt, sides) {
  const letters = sides.map((one) => one.letter.toUpperCase()).join(" and ");
  if (!prompt) return make("div", {}, make("h4", {}, `Prompt of ${letters}`), make("p", { class: "dim" }, "not in this log"));
  const title = prompt.whole ? `Prompt of ${letters}` : `Document of ${letters} (the prompt is not in this log)`;
  return make("div", {}, make("h4", {}, title), legend(prompt, sides), strip(prompt, sides), promptText(prompt, sides));
}

/** Up to where all that have a prefix have one; only of a prompt that was logged. */
function common(prompt, sides) {
  const ends = sides.map((one) => one.end).filter((end) => end);
  return prompt.whole && ends.length ? Math.min(prompt.text.length, ...ends) : 0;
}

const letterOf = (one) => one.letter.toUpperCase();

function edges(prompt, sides) {
  const inside = sides.filter((one) => one.end !== null && one.end > 0 && one.end < prompt.text.length);
  const ends = [...new Set(inside.map((one) => one.end))];
  return ends.map((end) => [end, inside.filter((one) => one.end === end)]);
}

function prefixWords(prompt, one) {
  if (one.end === null) return "prefix boundary not in this log";
  if (one.end === 0) return "no prefix: causal from the first token";
  if (one.end >= prompt.text.length) return "prefix: the whole prompt";
  return `prefix: the first ${one.end.toLocaleString("en")} of ${prompt.text.length.toLocaleString("en")} characters`;
}

function legend(prompt, sides) {
  const count = prompt.spans.length, box = make("div", { class: "legend" });
  const found = count ? make("span", {}, make("mark", {}, ` ${count} `), ` place${count === 1 ? "" : "s"} of an accepted answer`) : make("span", {}, "no accepted answer stands here");
  box.append(found);
  if (count) {
    for (const [word, by] of [["previous", -1], ["next", 1]]) {
      const button = make("button", { type: "button" }, word);
      button.addEventListener("click", () => nextPlace(by, button.closest("div").parentElement));
      box.append(button);
    }
  }
  if (prompt.whole) {
    const words = sides.map((one) => prefixWords(prompt, one));
    box.append(...(words.length > 1 && words[0] === words[1] ? [words[0]] : words.map((text, at) => `${words.length > 1 ? `${letterOf(sides[at])}: ` : ""}${text}`)).map((text) => make("span", {}, text)));
  }
  return box;
}

/** The whole prompt as a line: where answers stand, where the prefix ends, what was copied. */
function strip(prompt, sides) {
  const svg = document.createElementNS(SVG, "svg"), length = Math.max(1, prompt.text.length);
  const rect = (look, from, to, top, height, least = 0) => {
    const shape = document.createElementNS(SVG, "rect");
    const values = { class: look, x: from, y: top, width: Math.max(to - from, length * least), height };
    for (const [name, value] of Object.entries(values)) shape.setAttribute(name, value);
    svg.append(shape);
  };
  svg.setAttribute("class", "strip");
  svg.setAttribute("viewBox", `0 0 ${length} 18`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const percent = (place) => `${Math.round((100 * place) / length)} %`;
  const ends = edges(prompt, sides).map(([end]) => end), last = common(prompt, sides);
  svg.setAttribute("aria-label", `Answers at ${prompt.spans.map(([start]) => percent(start)).join(", ") || "no place"} of the prompt; prefix ends at ${ends.map(percent).join(", ") || percent(last)}`);
  rect("all", 0, length, 4, 10);
  if (last) rect("in", 0, last, 4, 10);
  for (const [start, end] of prompt.spans) rect("hit", start, end, 2, 14, 0.004);
  for (const one of sides) if (one.took) rect("took", one.took[0], one.took[0] + (one.line || "").length, 8, 8, 0.004);
  for (const end of ends) rect("edge", end, end, 0, 18, 0.003);
  return svg;
}

/** Where what a side wrote stands: as far as the texts agree. */
function took(prompt, one) {
  if (!one.took || !prompt.whole) return null;
  const [start] = one.took, line = one.line || "";
  let same = 0;
  while (same < line.length && prompt.text[start + same] === line[same]) same += 1;
  return [start, start + Math.max(same, 1)];
}

function promptText(prompt, sides) {
  const { text, spans } = prompt, box = make("div", { class: "prompt" });
  const ends = edges(prompt, sides), last = common(prompt, sides);
  const copied = sides.map((one) => took(prompt, one)).filter(Boolean);
  const cuts = new Set([0, text.length, ...spans.flat(), ...copied.flat(), ...ends.map(([end]) => end), last]);
  const ordered = [...cuts].filter((cut) => cut <= text.length).sort((a, b) => a - b);
  for (let at = 0; at + 1 < ordered.length; at += 1) {
    const [from, to] = [ordered[at], ordered[at + 1]];
    const edge = ends.find(([end]) => end === from);
    if (edge) box.append(edgeLine(edge[1], sides.length > 1));
    const span = spans.find(([start, end]) => start <= from && to <= end);
    const looks = [from < last ? "in" : "", copied.some(([start, end]) => start <= from && to <= end) ? "took" : ""].filter(Boolean).join(" ");
    const part = make(span ? "mark" : "span", looks ? { class: looks } : {}, text.slice(from, to));
    if (span && span[0] === from) part.dataset.first = "";
    box.append(part);
  }
  return box;
}

function edgeLine(sides, several) {
  const whose = several ? ` of ${sides.map(letterOf).join(" and ")}` : "";
  const tokens = sides[0].figures[2], told = tokens === null ? "" : `, ${tokens.toLocaleString("en")} tokens`;
  return make("span", { class: "edge-line", role: "separator" }, `▲ prefix${whose}${told} · causal from here ▼`);
}

/** Go to the next place of an answer, in one prompt or in all. */
function nextPlace(by, box = byId("detail")) {
  const found = places.filter((mark) => box.contains(mark));
  if (!found.length) return;
  const now = found.indexOf(places[here]);
  for (const mark of all("mark.now")) mark.classList.remove("now");
  const chosen = found[now < 0 ? (by > 0 ? 0 : found.length - 1) : (now + by + found.length) % found.length];
  here = places.indexOf(chosen);
  chosen.classList.add("now");
  chosen.scrollIntoView({ block: "center" });
}

if (byId("index")) unpack("index").then(startBrowser);
applyFilters();
