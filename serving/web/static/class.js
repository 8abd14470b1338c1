// A class: essays from a table or files, sent in batches; scores as a table, a drawing and a CSV. The scores stay in the
// tab, under a mark of each essay, so that a reload or a service that was away costs no essay a second time.
"use strict";

const KEPT = "fairmark-class";
const ESSAYS_AT_ONCE = 8;
const MOST_TRIES = 6;
const LONGEST_PAUSE_S = 20;
const TIMEOUT_MS = 120000;
const KEEP_EVERY_MS = 1000;
// Errors of one essay that are the service's, not the essay's.
const ASK_AGAIN = new Set(["overloaded", "deadline_passed", "not_ready"]);
const SVG = "http://www.w3.org/2000/svg";

const element = (id) => document.getElementById(id);
const run = { essays: [], marks: [], outcomes: new Map(), drawn: [], stopped: true, name: "" };
const judges = "judges" in element("class-form").dataset;
const startLabel = element("start").textContent;
let lastKept = 0;

class Away extends Error {}

/** 53 bits and the length of what identifies a score: never shown, never sent. */
function markOf(...parts) {
  let [high, low] = [0xdeadbeef, 0x41c6ce57];
  const text = parts.join("\u0000");
  for (let place = 0; place < text.length; place += 1) {
    const code = text.charCodeAt(place);
    high = Math.imul(high ^ code, 2654435761);
    low = Math.imul(low ^ code, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return `${(2097151 & low).toString(36)}.${(high >>> 0).toString(36)}.${text.length}`;
}

function kept() {
  try {
    return JSON.parse(window.sessionStorage.getItem(KEPT)) || {};
  } catch {
    return {};
  }
}

function keep(now) {
  // Writing all of it takes time: not after every batch.
  if (!now && performance.now() - lastKept < KEEP_EVERY_MS) return;
  lastKept = performance.now();
  try {
    window.sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(run.outcomes)));
  } catch {
    // A browser that keeps nothing, or is full: the scores are on the page still.
  }
}

const plural = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "");

function describeChoice() {
  const prompt = element("prompt_id");
  const model = element("model");
  for (const option of model.options) {
    option.disabled = option.hidden = !option.dataset.prompts.split(" ").includes(prompt.value);
  }
  const offered = [...model.options].find((option) => !option.disabled);
  if (offered && model.selectedOptions[0]?.disabled !== false) model.value = offered.value;
  element("prompt_id-detail").textContent = prompt.selectedOptions[0].dataset.detail;
  element("model-detail").textContent = JSON.parse(model.selectedOptions[0].dataset.details)[prompt.value] || "";
}

// --- Essays out of files

async function essaysOf(files) {
  const essays = [];
  for (const file of files) {
    if (/\.(csv|tsv)$/i.test(file.name)) essays.push(...essaysOfTable(decode(new Uint8Array(await file.arrayBuffer()))));
    else if (/\.zip$/i.test(file.name)) {
      for (const { name, bytes } of await filesOfZip(await file.arrayBuffer())) essays.push(fileEssay(name, bytes));
    } else if (ESSAY_FILES.test(file.name)) essays.push(fileEssay(file.name, new Uint8Array(await file.arrayBuffer())));
    else throw new Error(`${file.name}: expected .csv, .zip, .txt, .md, .docx or .pdf.`);
  }
  if (!essays.length) throw new Error("There is no essay in it.");
  return essays;
}

/** Word and PDF are turned into text by the service, when their turn comes. */
function fileEssay(name, bytes) {
  return /\.(docx|pdf)$/i.test(name) ? { id: name, bytes } : { id: name, text: decode(bytes) };
}

// --- Asking the service

const sleep = (seconds) => new Promise((resolve) => window.setTimeout(resolve, seconds * 1000));

/** The answer to a request that may be made again: waits as `Retry-After` says, and says so. Throws Away in the end. */
async function ask(path, options) {
  for (let failures = 0; ; ) {
    let answer = null;
    try {
      answer = await fetch(path, { method: "POST", signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
    } catch {
      // Gone, or too late: the same as a service that is busy.
    }
    if (answer && ![429, 502, 503, 504].includes(answer.status)) {
      const given = await answer.json().catch(() => ({}));
      // A wrong key is no essay's fault: nothing is kept of it, so that the right one goes on.
      if ([401, 403].includes(answer.status)) throw new Away(given.error?.message || "the key was refused");
      return { ok: answer.ok, given };
    }
    failures += 1;
    if (failures >= MOST_TRIES || run.stopped) throw new Away(answer ? "the service is too busy" : "the service does not answer");
    const asked = Number(answer?.headers.get("retry-after")) || 0;
    const pause = Math.min(LONGEST_PAUSE_S, Math.max(asked, 2 ** (failures - 1)));
    say(`The service ${answer ? "is busy" : "does not answer"}: trying again in ${plural(pause, "second", "seconds")}.`);
    await sleep(pause);
  }
}

function authorization() {
  const key = element("api_key")?.value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

const remark = (error) => ({ error: [error?.message, error?.hint].map(sentence).filter(Boolean).join(" ") || "No answer." });

async function readText(essay) {
  if (!essay.bytes) return;
  const body = new FormData();
  body.append("file", new Blob([essay.bytes]), essay.id.split("/").pop());
  const { ok, given } = await ask("/text", { body, headers: authorization() });
  essay.content = contentOf(essay);
  if (ok) essay.text = given.text;
  else essay.error = remark(given.error).error;
  essay.bytes = null;
}

async function scoreBatch(essays, prompt, model) {
  const body = JSON.stringify({ essays: essays.map(({ text }) => ({ essay: text, prompt_id: prompt, model })) });
  const { ok, given } = await ask("/score_batch", { body, headers: { "Content-Type": "application/json", ...authorization() } });
  if (ok) return given.results.map(({ result, error }) => (result ? outcomeOf(result) : { ...remark(error), code: error?.code }));
  if (essays.length === 1) return [remark(given.error)];
  // One of them is at fault: only it should fail.
  const outcomes = [];
  for (const essay of essays) outcomes.push(...(await scoreBatch([essay], prompt, model)));
  return outcomes;
}

function outcomeOf(result) {
  return {
    score: result.score,
    low: result.interval[0],
    high: result.interval[1],
    unit: result.unit_score,
    range: result.score_range,
    look: result.hand_off,
    flags: result.flags.map(({ message }) => message),
    model: `${result.model.name} ${result.model.version}`,
  };
}

// --- The run

async function start(event) {
  event.preventDefault();
  const files = [...element("file").files];
  const failed = element("file-error");
  failed.hidden = true;
  try {
    if (files.length) {
      run.essays = await essaysOf(files);
      run.name = files.length === 1 ? files[0].name : `${files.length} files`;
    }
    if (!run.essays.length) throw new Error("Choose a file with essays first.");
    if (judges) requireMarks(run.essays);
  } catch (error) {
    failed.textContent = `Error: ${error.message}`;
    failed.hidden = false;
    element("file").focus();
    return;
  }
  await work(element("prompt_id").value, element("model").value);
}

async function work(prompt, model) {
  run.outcomes = new Map(Object.entries(kept()));
  run.stopped = false;
  show(true);
  run.marks = run.essays.map((essay) => markOf(prompt, model, essay.id, contentOf(essay)));
  run.drawn = [];
  element("rows").replaceChildren();
  const waiting = run.essays.map((_, place) => place).filter((place) => !run.outcomes.has(run.marks[place]));
  const begun = { at: performance.now(), done: 0, earlier: run.essays.length - waiting.length };
  let stuck = 0;
  draw();
  progress(begun);
  try {
    while (waiting.length && !run.stopped) {
      const places = await nextBatch(waiting);
      const sent = places.filter((place) => run.essays[place].text !== undefined && !run.essays[place].error);
      const answers = sent.length ? await scoreBatch(sent.map((place) => run.essays[place]), prompt, model) : [];
      const again = [];
      places.forEach((place) => {
        const answer = sent.includes(place) ? answers[sent.indexOf(place)] : { error: run.essays[place].error };
        if (ASK_AGAIN.has(answer.code)) again.push(place);
        else run.outcomes.set(run.marks[place], answer);
      });
      stuck = again.length ? stuck + 1 : 0;
      if (stuck === MOST_TRIES) throw new Away("the service is too busy");
      if (stuck) await sleep(2 ** (stuck - 1));
      waiting.unshift(...again);
      begun.done += places.length - again.length;
      keep(!waiting.length || run.stopped);
      draw();
      progress(begun);
    }
    finish(begun, run.stopped ? "Stopped." : "");
  } catch (error) {
    if (!(error instanceof Away)) throw error;
    keep(true);
    finish(begun, `Stopped, since ${error.message}.`);
  }
}

function contentOf(essay) {
  if (essay.bytes) return new TextDecoder("windows-1252").decode(essay.bytes);
  return essay.content ?? essay.text ?? essay.error;
}

/** The next essays, as many as one request may hold. */
async function nextBatch(waiting) {
  const { batch, bytes } = element("class-form").dataset;
  const most = Math.min(Number(batch), ESSAYS_AT_ONCE);
  const places = [];
  let size = 0;
  while (waiting.length && places.length < most) {
    const essay = run.essays[waiting[0]];
    await readText(essay);
    size += 3 * (essay.text || "").length + 200;
    if (places.length && size > Number(bytes)) break;
    places.push(waiting.shift());
  }
  return places;
}

// --- What is seen

function say(words) {
  element("busy").textContent = words;
}

function show(working) {
  element("work").hidden = false;
  element("stop").hidden = !working;
  element("start").setAttribute("aria-disabled", String(working));
}

function progress(begun) {
  const done = begun.earlier + begun.done;
  element("bar").max = run.essays.length;
  element("bar").value = done;
  const left = ((run.essays.length - done) * (performance.now() - begun.at)) / Math.max(1, begun.done) / 1000;
  const time = begun.done ? `, about ${left < 90 ? plural(Math.ceil(left), "second", "seconds") : plural(Math.round(left / 60), "minute", "minutes")} left` : "";
  const earlier = begun.earlier ? `; ${begun.earlier.toLocaleString("en")} were there already` : "";
  say(`${done.toLocaleString("en")} of ${plural(run.essays.length, "essay", "essays")}${time}${earlier}.`);
}

function finish(begun, why) {
  run.stopped = true;
  show(false);
  const left = run.essays.length - begun.earlier - begun.done;
  if (left) {
    element("start").textContent = "Go on";
    say(`${why} ${plural(left, "essay is", "essays are")} left; what is scored stays. Press “Go on” when you like.`.trim());
    element("start").focus();
    return;
  }
  element("start").textContent = startLabel;
  const seconds = (performance.now() - begun.at) / 1000;
  say(`Done: ${plural(run.essays.length, "essay", "essays")} in ${plural(Math.round(seconds), "second", "seconds")}.`);
  if (judges) judge();
  else element("results-title").focus();
}

// --- A class that its teacher marked

function requireMarks(essays) {
  const unmarked = essays.find((essay) => !essay.error && typeof essay.marks?.[0] !== "number");
  if (unmarked) throw new Error(`${unmarked.id}: it has no score of yours. Each row needs a number in the column score.`);
}

async function judge() {
  const scored = finished().filter(({ outcome }) => outcome.score !== undefined);
  const essays = scored.map(({ essay: { marks }, outcome }) => ({
    score: outcome.score,
    unit_score: outcome.unit,
    interval: [outcome.low, outcome.high],
    human_score: marks[0],
    rater_scores: marks.slice(1).every((mark) => mark !== null) ? marks.slice(1) : null,
  }));
  element("validity").hidden = true;
  if (!essays.length) return say("No essay got a score; the table says why.");
  const body = JSON.stringify({ prompt_id: element("prompt_id").value, model: element("model").value, essays });
  try {
    const { ok, given } = await ask("/validity", { body, headers: { "Content-Type": "application/json", ...authorization() } });
    if (!ok) return say(`Not compared. ${remark(given.error).error}`);
    showValidity(given);
  } catch (error) {
    if (!(error instanceof Away)) throw error;
    say(`Scored, but not compared, since ${error.message}. Press “${startLabel}” again.`);
  }
}

function showValidity(given) {
  const [head, ...rest] = given.answer.split(/(?<=^[^:.]+)[:.] /);
  element("validity-title").textContent = head;
  element("validity-answer").textContent = sentence(rest.join(" "));
  element("validity").dataset.use = given.use;
  element("bars").replaceChildren(...given.bars.map(barRow));
  element("validity").hidden = false;
  element("validity-title").focus();
}

function barRow(bar) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = bar.title;
  const found = document.createElement("span");
  found.className = "kind";
  found.textContent = sentence(bar.found);
  name.append(found);
  row.append(name);
  const verdict = bar.verdict === "cannot_tell" ? "cannot tell" : `${bar.verdict}${bar.sure ? "" : ", not sure"}`;
  for (const [text, kind] of [[bar.asked, "number"], [verdict, `verdict ${bar.verdict}`]]) {
    const cell = document.createElement("td");
    cell.className = kind;
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

/** Essays that have an outcome, in the order of the input. */
function finished() {
  const all = run.essays.map((essay, place) => ({ place, essay, outcome: run.outcomes.get(run.marks[place]) }));
  return all.filter(({ outcome }) => outcome);
}

function draw() {
  const rows = finished();
  element("results").hidden = !rows.length;
  if (!rows.length) return;
  const scored = rows.filter(({ outcome }) => outcome.score !== undefined);
  const look = scored.filter(({ outcome }) => outcome.look).length;
  const without = rows.length - scored.length;
  element("summary").textContent = [
    `${plural(scored.length, "essay has a score", "essays have a score")} (${run.name}).`,
    look ? `${plural(look, "should be read", "should be read")} by a person.` : "",
    without ? `${plural(without, "could not be scored", "could not be scored")}; the table says why.` : "",
  ].filter(Boolean).join(" ");
  // One that had to wait longer than its neighbours belongs between them.
  if (run.drawn.some((place, index) => rows[index]?.place !== place)) {
    run.drawn = [];
    element("rows").replaceChildren();
  }
  element("rows").append(...rows.slice(run.drawn.length).map(({ essay, outcome }) => tableRow(essay, outcome)));
  run.drawn = rows.map(({ place }) => place);
  drawBars(scored.map(({ outcome }) => outcome));
}

function tableRow(essay, outcome) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = essay.id;
  row.append(name);
  const likely = outcome.score === undefined ? "" : outcome.low === outcome.high ? String(outcome.low) : `${outcome.low} to ${outcome.high}`;
  const remarks = outcome.error ? `Not scored. ${outcome.error}` : outcome.look ? `To be read by a person. ${outcome.flags.join(" ")}` : "";
  for (const [text, kind] of [[outcome.score ?? "–", "number strong"], [likely, "number"], [remarks, "remarks"]]) {
    const cell = document.createElement("td");
    cell.className = kind;
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

function drawBars(outcomes) {
  const figure = element("distribution");
  figure.hidden = !outcomes.length;
  if (!outcomes.length) return;
  const { low, high, step } = outcomes[0].range;
  const grades = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, index) => low + index * step);
  const counts = grades.map((grade) => outcomes.filter(({ score }) => Math.abs(score - grade) < step / 2).length);
  const most = Math.max(...counts);
  const width = 100 / grades.length;
  const labelled = Math.ceil(grades.length / 13);
  const marks = counts.flatMap((count, index) => {
    const centre = `${(index + 0.5) * width}%`;
    const height = (110 * count) / most;
    const bar = svg("rect", { x: `${(index + 0.15) * width}%`, width: `${0.7 * width}%`, y: 135 - height, height });
    const number = count ? [svg("text", { x: centre, y: 130 - height }, count)] : [];
    const label = index % labelled ? [] : [svg("text", { x: centre, y: 158 }, Number(grades[index].toFixed(2)))];
    return [bar, ...number, ...label];
  });
  const axis = svg("line", { x1: "0%", x2: "100%", y1: 135, y2: 135 });
  figure.querySelector("svg").replaceChildren(axis, ...marks);
  const words = grades.map((grade, index) => [grade, counts[index]]).filter(([, count]) => count);
  element("distribution-words").textContent = `Essays by score: ${words.map(([grade, count]) => `${Number(grade.toFixed(2))}: ${count}`).join(", ")}.`;
}

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function csv() {
  const head = ["essay_id", "score", "low", "high", "hand_off", "flags", "model", "error"];
  const lines = finished().map(({ essay, outcome }) => [
    essay.id,
    outcome.score,
    outcome.low,
    outcome.high,
    outcome.score === undefined ? "" : outcome.look ? "yes" : "no",
    (outcome.flags || []).join(" "),
    outcome.model,
    outcome.error,
  ]);
  return `\ufeff${[head, ...lines].map(csvLine).join("\r\n")}\r\n`;
}

let saved = "";

document.addEventListener("input", (event) => {
  if (["prompt_id", "model"].includes(event.target.id)) describeChoice();
});
document.addEventListener("change", (event) => {
  if (event.target.id !== "file") return;
  element("start").textContent = startLabel;
});
document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (element("start").getAttribute("aria-disabled") !== "true") start(event);
});
document.addEventListener("click", (event) => {
  if (event.target.id === "stop") {
    run.stopped = true;
    say("Stopping after the essays that are under way…");
  }
  if (event.target.id === "save") {
    URL.revokeObjectURL(saved);
    saved = event.target.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  }
  if (event.target.id === "forget") {
    window.sessionStorage.removeItem(KEPT);
    run.outcomes.clear();
    run.essays = run.drawn = [];
    element("class-form").reset();
    element("rows").replaceChildren();
    element("results").hidden = element("work").hidden = true;
    if (judges) element("validity").hidden = true;
    describeChoice();
    element("file").focus();
  }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    element("class-form").classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) element("file").files = event.dataTransfer.files;
  });
}
document.documentElement.classList.add("script");
describeChoice();
