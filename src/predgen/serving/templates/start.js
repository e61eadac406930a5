"use strict";
// All that comes from data is put in as text, never as markup.
const $ = (id) => document.getElementById(id);
const ROWS_AT_ONCE = 100;
const SHARES = Array.from({ length: 99 }, (_, index) => (index + 1) / 100);
let models = [], limits = {}, outcome = [], stopped = false;

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

async function ask(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if ($("key")) headers.Authorization = "Bearer " + $("key").value.trim();
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (response.status === 401) throw new Error("The server does not know this key.");
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ? answer.error.message : `The server answered ${response.status}.`);
  return answer;
}

const chosen = () => models.find((model) => model.name === $("model").value);
// 0.1 + 0.2 is shown as 0.3; whole numbers keep all of their digits.
const number = (value, digits = 12) => Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
const short = (value) => number(value, Math.abs(value) < 1e4 ? 6 : 12);
const shown = (value) => value === null || value === undefined ? "" : typeof value === "number" ? number(value) : String(value);

// The models

async function connect() {
  $("fault").textContent = "";
  try {
    const facts = await ask("v1/models");
    models = facts.models;
    limits = facts.limits;
  } catch (error) {
    $("all").hidden = true;
    $("fault").textContent = error.message;
    return;
  }
  $("model").replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  $("all").hidden = false;
  choose();
}

function choose() {
  const model = chosen();
  const calibrated = model.calibrated ? "calibrated" : "not calibrated";
  $("about").textContent =
    `Predicts ${model.target.join(", ")}: ${model.describes}. Method ${model.method} over ${model.backbone}, ${calibrated}.`;
  $("inputs").replaceChildren(...model.inputs.map((name, index) => {
    const field = make("div"), label = make("label", name), text = make("textarea");
    label.htmlFor = text.id = `input-${index}`;
    text.required = true;
    text.rows = 3;
    field.append(label, text);
    return field;
  }));
  const words = {
    probabilities: "probabilities", std: "standard deviation", interval: "interval of 90 %", quantiles: "distribution",
    written_tokens: "written tokens",
  };
  const offered = Object.keys(words).filter((name) => model.offers[name]);
  $("options").hidden = offered.length === 0;
  $("choice").replaceChildren(...offered.map((name) => {
    const label = make("label"), box = make("input");
    box.type = "checkbox";
    box.id = `option-${name}`;
    box.checked = true;
    label.append(box, document.createTextNode(words[name]));
    return label;
  }));
  const columns = model.inputs.length > 1 ? `columns ${model.inputs.join(", ")}` : `column ${model.inputs[0]}`;
  $("table-hint").textContent =
    `Paste from a spreadsheet, or CSV. It needs the ${columns}; all others are kept. ` +
    "It is asked for what is marked above, but for the distribution and the written tokens.";
  $("answer").replaceChildren();
}

const on = (name) => Boolean($(`option-${name}`) && $(`option-${name}`).checked);

function asked() {
  return { probabilities: on("probabilities"), std: on("std"), interval: on("interval") ? 0.9 : null };
}

// One row

async function predictOne(event) {
  event.preventDefault();
  const model = chosen(), row = {};
  model.inputs.forEach((name, index) => { row[name] = $(`input-${index}`).value; });
  const button = event.submitter || $("one").querySelector("button");
  button.disabled = true;
  try {
    const quantiles = on("quantiles") ? SHARES : null, written_tokens = on("written_tokens");
    const { answers } = await ask("v1/predict", { model: model.name, row, ...asked(), quantiles, written_tokens });
    $("answer").replaceChildren(card(model, answers[0]));
  } catch (error) {
    const fault = make("p", error.message, "error");
    $("answer").replaceChildren(fault);
  } finally {
    button.disabled = false;
  }
}

function card(model, answer) {
  const whole = make("div", undefined, "answer");
  for (const field of model.fields) whole.append(cardOf(field, answer, model));
  if (answer.written !== null) whole.append(make("p", `Written: ${answer.written}`, "hint"));
  if (answer.written_tokens) whole.append(tokens(answer.written_tokens));
  return whole;
}

function cardOf(field, answer, model) {
  const part = make("section");
  part.append(make("h3", field.name || model.target.join(", ")));
  const value = answer[field.prediction];
  part.append(make("p", value === null ? "No valid answer" : typeof value === "number" ? short(value) : shown(value), "value"));
  if (field.std && typeof answer[field.std] === "number")
    part.append(make("p", `Standard deviation ${number(answer[field.std], 4)}`));
  const [low, high] = field.interval;
  if (field.interval.length === 1 && answer[low] !== undefined)
    part.append(make("p", `Set of 90 %: ${shown(answer[low]).split("|").join(", ") || "empty"}`));
  if (field.interval.length === 2 && answer[low] !== undefined) {
    const end = (column) => answer[column] === null ? "open" : short(answer[column]);
    part.append(make("p", `Interval of 90 %: ${end(low)} to ${end(high)}`));
  }
  if (field.quantile && answer[`${field.quantile}_0.5`] !== undefined) part.append(distribution(field, answer, value));
  const shares = field.probabilities.map(([label, column]) => [label, answer[column]]);
  if (shares.length && shares.every(([, share]) => typeof share === "number")) part.append(bars(shares));
  return part;
}

// The curve P(number ≤ x) from its quantiles, a step at each; the text below it says the same to those who do not see it.
function distribution(field, answer, value) {
  const points = SHARES.map((share) => [answer[`${field.quantile}_${share}`], share]);
  if (points.some(([at]) => typeof at !== "number")) return make("p", "The distribution is not known.");
  const at = (share) => short(answer[`${field.quantile}_${share}`]);
  const figure = make("figure", undefined, "curve");
  const ends = field.interval.length === 2 ? field.interval.map((column) => answer[column]) : [];
  const marks = [...points.map(([x]) => x), ...ends, value].filter((x) => typeof x === "number");
  const [least, most] = [Math.min(...marks), Math.max(...marks)], width = most - least || 1;
  const x = (mark) => (4 + 592 * (most > least ? (mark - least) / width : 0.5)).toFixed(1);
  const y = (share) => (4 + 132 * (1 - share)).toFixed(1);
  const image = draw("svg", { viewBox: "0 0 600 140", role: "img", "aria-label": "Curve of the distribution" });
  if (ends.some((end) => typeof end === "number")) {
    const [low, high] = ends.map((end, index) => Number(x(typeof end === "number" ? end : [least, most][index])));
    image.append(draw("rect", { class: "band", x: low, y: 4, width: Math.max(high - low, 1), height: 132 }));
  }
  image.append(draw("line", { class: "ground", x1: 0, x2: 600, y1: 136, y2: 136 }));
  let path = `M${x(Math.min(least, points[0][0]))} ${y(0)}`;
  points.forEach(([mark, share]) => { path += `H${x(mark)}V${y(share)}`; });
  image.append(draw("path", { class: "line", d: `${path}H${x(most)}` }));
  if (typeof value === "number") image.append(draw("line", { class: "value", x1: x(value), x2: x(value), y1: 4, y2: 136 }));
  const scale = make("div", undefined, "scale");
  scale.setAttribute("aria-hidden", "true");
  scale.append(make("span", short(least)), make("span", short(most)));
  const words = `The written number is at most ${at(0.05)} with a probability of 5 %, ${at(0.25)} of 25 %, ${at(0.5)} of 50 %, ` +
    `${at(0.75)} of 75 %, ${at(0.95)} of 95 %.`;
  figure.append(image, scale, make("figcaption", words));
  return figure;
}

function draw(tag, attributes) {
  const element = document.createElementNS($("svg").content.firstElementChild.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Each token with its probability after the prompt and the tokens before it.
function tokens(written) {
  const part = make("section"), list = make("ol", undefined, "tokens"), heading = make("h3", "Token by token");
  for (const { token, probability } of written) {
    const item = make("li"), track = make("div", undefined, "track"), bar = make("div", undefined, "bar");
    bar.style.width = `${100 * probability}%`;
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    item.append(make("code", token), track, make("span", `${(100 * probability).toFixed(1)} %`, "share"));
    list.append(item);
  }
  const whole = written.reduce((product, { probability }) => product * probability, 1);
  part.append(heading, list, make("p", `Together ${number(100 * whole, 4)} %.`, "hint"));
  return part;
}

function bars(shares) {
  const list = make("ul", undefined, "bars");
  for (const [label, share] of [...shares].sort((one, other) => other[1] - one[1])) {
    const item = make("li"), track = make("span", undefined, "track"), bar = make("div", undefined, "bar");
    bar.style.width = `${100 * share}%`;
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    item.append(make("span", label, "name"), track, make("span", `${(100 * share).toFixed(1)} %`, "share"));
    list.append(item);
  }
  return list;
}

// A table

function parse(text) {
  // Cells may stand in quotes, as spreadsheets and CSV have them; a tab in the first line says what parts them.
  const between = text.split("\n", 1)[0].includes("\t") ? "\t" : ",";
  const rows = [];
  let row = [], cell = "", quoted = false, start = true;
  const end = () => { row.push(cell); cell = ""; start = true; };
  const endRow = () => { end(); if (row.length > 1 || row[0].trim()) rows.push(row); row = []; };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') { cell += '"'; at++; }
      else quoted = false;
    } else if (sign === '"' && start) { quoted = true; start = false; }
    else if (sign === between) end();
    else if (sign === "\n") endRow();
    else if (sign !== "\r") { cell += sign; start = false; }
  }
  if (cell || row.length || quoted) endRow();
  return rows;
}

async function predictTable(event) {
  event.preventDefault();
  const model = chosen(), say = (text) => { $("progress").textContent = text; };
  $("result").hidden = true;
  const [header, ...rows] = parse($("table").value.replace(/^[\r\n]+|[\r\n]+$/g, ""));
  const fault = header ? wrongWith(model, header, rows) : "Paste a table first.";
  if (fault) { say(fault); return; }
  const places = model.inputs.map((name) => header.indexOf(name));
  stopped = false;
  busy(true);
  outcome = [];
  const size = Math.min(ROWS_AT_ONCE, limits.rows);
  try {
    for (let first = 0; first < rows.length && !stopped; first += size) {
      say(`${first} of ${rows.length} rows`);
      const part = rows.slice(first, first + size);
      const asRow = (row) => Object.fromEntries(model.inputs.map((name, at) => [name, row[places[at]]]));
      const { answers } = await ask("v1/predict", { model: model.name, rows: part.map(asRow), ...asked() })
        .catch((error) => { throw new Error(first ? `Rows from ${first + 1} on: ${error.message}` : error.message); });
      if (!outcome.length) outcome.push([...header, ...Object.keys(answers[0])]);
      answers.forEach((answer, at) => outcome.push([...part[at], ...Object.values(answer).map(shown)]));
    }
    say(`${Math.max(0, outcome.length - 1)} of ${rows.length} rows have an answer.`);
  } catch (error) {
    say(`${error.message} ${Math.max(0, outcome.length - 1)} of ${rows.length} rows have an answer.`);
  } finally {
    busy(false);
    if (outcome.length) showTable();
  }
}

function wrongWith(model, header, rows) {
  const missing = model.inputs.filter((name) => !header.includes(name));
  if (missing.length) return `The first line lacks ${missing.join(", ")}; it has ${header.join(", ")}.`;
  if (!rows.length) return "There is no row below the columns' names.";
  const uneven = rows.findIndex((row) => row.length !== header.length);
  return uneven < 0 ? "" : `Row ${uneven + 1} has ${rows[uneven].length} cells, the first line ${header.length}.`;
}

function busy(now) {
  $("run").disabled = now;
  $("stop").hidden = !now;
}

function showTable() {
  const [header, ...rows] = outcome;
  const line = (cells, tag) => {
    const row = make("tr");
    row.append(...cells.map((cell) => { const made = make(tag, cell); made.title = cell; return made; }));
    return row;
  };
  const head = make("thead"), body = make("tbody"), first = line(header, "th");
  first.querySelectorAll("th").forEach((cell) => { cell.scope = "col"; });
  head.append(first);
  body.append(...rows.map((row) => line(row, "td")));
  $("rows").replaceChildren(head, body);
  $("result").hidden = false;
}

function written(between) {
  const cell = (text) => /["\r\n\t,;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return outcome.map((row) => row.map(cell).join(between)).join("\r\n") + "\r\n";
}

async function copy() {
  try {
    await navigator.clipboard.writeText(written("\t"));
    $("progress").textContent = "Copied.";
  } catch {
    $("table").value = written("\t");
    $("table").select();
    $("progress").textContent = "The browser does not let this page copy. The rows stand in the field above, marked.";
  }
}

function download() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([written(",")], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

$("model").addEventListener("change", choose);
$("one").addEventListener("submit", predictOne);
$("many").addEventListener("submit", predictTable);
$("stop").addEventListener("click", () => { stopped = true; });
$("copy").addEventListener("click", copy);
$("download").addEventListener("click", download);
if ($("unlock")) {
  $("unlock").addEventListener("submit", (event) => { event.preventDefault(); connect(); });
} else connect();
