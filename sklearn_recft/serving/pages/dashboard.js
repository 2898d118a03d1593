// Reads the JSON routes of this service and draws them. Texts from the service are set as texts only,
// never as HTML, and keys are read from their fields when they are needed.
"use strict";

const SECONDS = 10;
const TILES = [
  ["Recent loss", "loss_recent", digits, (f) => note("all", f.loss)],
  ["Drift", "drift", digits, () => "recent / usual loss", (v) => v > 1.2],
  ["Hit rate", "hit_rate", percent, (f) => count(f.n_lists, "shown list")],
  ["NDCG of hits", "ndcg", digits],
  ["Calibration gap", "calibration_gap", digits, null, (v) => v > 0.2],
  ["Events learned", "seq", whole],
  ["Sequence lag", "lag", whole, () => "stored, not learned", (v) => v > 10000],
  ["Snapshot age", "snapshot_age", duration, null, (v) => v > 172800],
  ["Unknown items", "unknown_items", percent, null, (v) => v > 0.5],
  ["Still to erase", "forget_pending", whole, () => "users", (v) => v > 0],
];
const CHARTS = [
  { title: "Prequential loss", series: [["recent", "loss_recent"], ["usual", "loss_usual"]] },
  { title: "Hit rate and NDCG of shown lists", series: [["hit rate", "hit_rate"], ["NDCG", "ndcg"]], from: 0 },
  { title: "Calibration gap", series: [["gap", "calibration_gap"]], from: 0 },
  { title: "Drift", series: [["recent / usual loss", "drift"]], bound: 1.2 },
];
const element = (id) => document.getElementById(id);
const secured = document.documentElement.dataset.keys === "needed";
let latest = null;
let timer = 0;

// ------------------------------------------------------------------ the service

class Refused extends Error {}

async function ask(method, path, key, body) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body && JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch {
    throw new Refused("The service does not answer, or the key holds characters that no key has.");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(`${answer.status} ${found.title ?? ""}: ${found.detail ?? ""}`);
  return found;
}

function tell(text, done = false) {
  const place = element("message");
  place.textContent = text;
  place.classList.toggle("done", done);
  place.hidden = !text;
}

async function attempt(action) {
  try {
    tell("");
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.message);
  }
}

// ------------------------------------------------------------------ texts

function make(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function digits(value) {
  if (value === 0) return "0";
  return Math.abs(value) >= 100 || Math.abs(value) < 0.001
    ? value.toPrecision(3)
    : value.toFixed(Math.abs(value) >= 10 ? 2 : 3);
}
function percent(value) { return `${(100 * value).toFixed(1)} %`; }
function whole(value) { return Math.round(value).toLocaleString("en"); }
function duration(value) {
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [unit, size] = units.find(([, seconds]) => value >= 2 * seconds) ?? ["s", 1];
  return `${Math.round(value / size)} ${unit}`;
}
function note(name, value) { return value === null || value === undefined ? "" : `${name}: ${digits(value)}`; }
function count(value, name) { return value === null ? "" : `${whole(value)} ${name}${value === 1 ? "" : "s"}`; }
function clock(seconds, span) {
  const long = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  const short = { hour: "2-digit", minute: "2-digit", ...(span < 600 ? { second: "2-digit" } : {}) };
  return new Date(1000 * seconds).toLocaleString("en-GB", span > 86400 ? long : short);
}
function idText(id) { return typeof id === "number" ? `${id} (number)` : id; }

// ------------------------------------------------------------------ figures

function showTiles(figures) {
  const tiles = TILES.map(([name, key, format, about, isBad]) => {
    const value = figures[key] ?? null;
    const tile = make("div");
    const bad = value !== null && isBad !== undefined && isBad(value);
    tile.classList.toggle("bad", bad);
    tile.append(make("dt", bad ? `${name} (alert)` : name));
    tile.append(make("dd", value === null ? "–" : format(value)));
    tile.append(make("dd", about ? about(figures) : "", "note"));
    return tile;
  });
  element("tiles").replaceChildren(...tiles);
}

function draw(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function bounds(chart, columns) {
  const values = columns.flat().filter((value) => value !== null);
  if (!values.length) return null;
  let low = chart.from ?? Math.min(...values);
  let high = Math.max(...values, chart.bound ?? -Infinity);
  if (chart.bound) low = Math.min(low, 1);
  const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 0.1;
  high += room;
  if (chart.from === undefined) low -= room;
  return [low, high];
}

function showChart(figure, chart, found) {
  const width = Math.max(200, figure.clientWidth);
  const times = found.time;
  const columns = chart.series.map(([, key]) => found.figures[key] ?? times.map(() => null));
  const legend = make("div", undefined, "legend");
  chart.series.forEach(([name], row) => {
    const last = columns[row].at(-1);
    legend.append(make("span", `${name}: ${last === null ? "–" : digits(last)}`, row ? "second" : "first"));
  });
  if (chart.bound) legend.append(make("em", `alert above ${chart.bound}`, "muted"));
  const range = bounds(chart, columns);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${range ? 160 : 48}`, role: "img" });
  svg.setAttribute("aria-label", `${chart.title}. ${legend.textContent}. ${times.length} points in time.`);
  figure.replaceChildren(make("figcaption", chart.title), legend, svg);
  if (range === null) {
    svg.classList.add("empty");
    svg.append(draw("text", { x: 0, y: 28 }, "Not defined yet: it needs more events."));
    return;
  }
  const [left, right, top, bottom] = [48, width - 6, 8, 138];
  const span = times.at(-1) - times[0];
  const x = (time) => (span ? left + ((time - times[0]) / span) * (right - left) : right);
  const y = (value) => bottom - ((value - range[0]) / (range[1] - range[0])) * (bottom - top);
  for (const share of [0, 0.5, 1]) {
    const value = range[0] + share * (range[1] - range[0]);
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, digits(value)));
  }
  svg.append(draw("text", { x: left, y: 156 }, clock(times[0], span)));
  svg.append(draw("text", { x: right, y: 156, "text-anchor": "end" }, clock(times.at(-1), span)));
  if (chart.bound) {
    svg.append(draw("line", { class: "bound", x1: left, x2: right, y1: y(chart.bound), y2: y(chart.bound) }));
  }
  found.model.forEach((name, row) => {
    if (row && name !== found.model[row - 1]) {
      svg.append(draw("line", { class: "change", x1: x(times[row]), x2: x(times[row]), y1: top, y2: bottom }));
    }
  });
  columns.forEach((column, row) => {
    let path = "";
    let pen = "M";
    column.forEach((value, place) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${x(times[place]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    const name = row ? "second" : "first";
    svg.append(draw("path", { class: `series ${name}`, d: path }));
    const last = column.at(-1);
    if (last !== null) svg.append(draw("circle", { class: name, cx: x(times.at(-1)), cy: y(last), r: 3.5 }));
  });
}

function showCharts() {
  if (!latest) return;
  const place = element("charts");
  while (place.children.length < CHARTS.length) place.append(make("figure"));
  CHARTS.forEach((chart, row) => showChart(place.children[row], chart, latest));
}

async function refresh() {
  clearTimeout(timer);
  const found = await ask("GET", "/v1/quality", element("key").value);
  latest = found;
  const now = Object.fromEntries(Object.entries(found.figures).map(([name, column]) => [name, column.at(-1)]));
  const state = now.ready ? "Ready" : "Not ready";
  element("about").textContent =
    `${state}. Model ${found.model.at(-1)}, loss: ${found.metric}. Read at ${clock(found.time.at(-1), 0)}.`;
  showTiles(now);
  showCharts();
  timer = setTimeout(poll, 1000 * SECONDS);
}

function poll() {
  if (document.hidden) timer = setTimeout(poll, 1000 * SECONDS);
  else attempt(refresh);
}

// ------------------------------------------------------------------ models

async function showModels() {
  const { models } = await ask("GET", "/v1/models", element("admin-key").value);
  const byName = new Map();  // a snapshot may have the name of the model that it is equal to
  for (const one of models) byName.set(one.name, { ...one, live: one.live || byName.get(one.name)?.live });
  const rows = [...byName.values()].map((model) => {
    const row = make("tr");
    const name = make("td");
    name.append(make("code", model.name));
    const digest = make("td");
    digest.append(make("code", model.digest.slice(0, 12)));
    const state = make("td");
    if (model.live) {
      state.append(make("span", "live", "live"));
    } else {
      const button = make("button", "Promote");
      button.type = "button";
      button.setAttribute("aria-label", `Promote ${model.name}`);
      button.addEventListener("click", () => change(
        `Promote ${model.name}? It goes live, and learns the events after ${whole(model.seq)} again.`,
        `/v1/models/${encodeURIComponent(model.name)}/promote`,
      ));
      state.append(button);
    }
    row.append(name, state, make("td", whole(model.seq), "number"), make("td", model.kind), digest);
    return row;
  });
  element("models").tBodies[0].replaceChildren(...rows.reverse());
  element("models").hidden = false;
  element("rollback").disabled = false;
}

function confirmed(question) {
  const dialog = element("confirm");
  element("question").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function change(question, path) {
  if (!(await confirmed(question))) return;
  await attempt(async () => {
    const { model } = await ask("POST", path, element("admin-key").value);
    await showModels();
    if (latest) await refresh();
    tell(`Model ${model} is live.`, true);
  });
}

// ------------------------------------------------------------------ a user's list

async function showList() {
  const typed = element("user").value;
  const isNumber = element("kind").value === "number";
  if (isNumber && !Number.isSafeInteger(Number(typed))) throw new Refused("The user id is no whole number.");
  const { lists } = await ask("POST", "/v1/recommend", element("key").value, {
    users: [isNumber ? Number(typed) : typed], n: 10, remember: false, because: latest?.reasons ?? false,
  });
  const places = lists[0].items.map((item) => {
    const place = make("li");
    place.append(make("span", digits(item.score), "score"), make("strong", idText(item.item_id)));
    if (item.because) {
      const reasons = item.because.map((one) => `${idText(one.item_id)} (${digits(one.contribution)})`);
      place.append(make("p", reasons.length ? `because of ${reasons.join(", ")}` : "no past items behind it", "muted"));
    }
    return place;
  });
  element("list").replaceChildren(...places);
  if (!places.length) tell("The list is empty.");
  else if (latest && !latest.reasons) tell("This model gives no reasons.", true);
}

// ------------------------------------------------------------------ start

function on(id, action) {
  element(id).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(action);
  });
}

on("connect", refresh);
on("admin", showModels);
on("look", showList);
element("rollback").addEventListener("click", () => change(
  "Roll back? The saved model before goes live, and the events since then are left out.",
  "/v1/models/rollback",
));
new ResizeObserver(showCharts).observe(element("main"));
if (!secured) {
  element("key-field").hidden = true;
  element("admin-field").hidden = true;
  element("key-note").hidden = true;
  element("connect").querySelector("button").textContent = "Refresh";
  attempt(refresh);
}
