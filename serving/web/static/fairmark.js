// Saves the reload, counts words, reads files, keeps a list. The form also works without: it posts, the server answers.
"use strict";

const WORDS = /@?[\p{L}\p{N}_]+(?:['’][\p{L}\p{N}_]+)*/gu;
const HISTORY = "fairmark-history";
const MOST_KEPT = 50;
const SLOW_MS = 5000;
const TIMEOUT_MS = 90000;

const element = (id) => document.getElementById(id);
const countOf = (text) => (text.match(WORDS) || []).length;

function countWords() {
  const essay = element("essay");
  const count = element("count");
  if (!essay || !count) return;
  const words = countOf(essay.value);
  const characters = essay.value.length;
  const tooLong = characters > Number(count.dataset.max);
  count.textContent = tooLong
    ? `${characters.toLocaleString("en")} characters: more than the ${Number(count.dataset.max).toLocaleString("en")} that are accepted.`
    : `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}.`;
}

function describeChoice() {
  const prompt = element("prompt_id");
  const model = element("model");
  if (!prompt || !model || !prompt.selectedOptions.length || !model.selectedOptions.length) return;
  element("prompt_id-detail").textContent = prompt.selectedOptions[0].dataset.detail;
  element("model-detail").textContent = JSON.parse(model.selectedOptions[0].dataset.details)[prompt.value] || "";
}

// A model that does not score the chosen task is not offered for it; without JavaScript the answer says so.
function offerModels() {
  const prompt = element("prompt_id");
  const model = element("model");
  if (!prompt || !model) return;
  for (const option of model.options) {
    option.disabled = !option.dataset.prompts.split(" ").includes(prompt.value);
    option.hidden = option.disabled;
  }
  const chosen = model.selectedOptions[0];
  const offered = [...model.options].find((option) => !option.disabled);
  if (offered && (!chosen || chosen.disabled)) model.value = offered.value;
}

function refresh() {
  countWords();
  offerModels();
  describeChoice();
}

function show(page) {
  const answer = new DOMParser().parseFromString(page, "text/html");
  if (!answer.getElementById("form")) throw new Error("not ready");
  const written = element("essay").value;
  const key = element("api_key")?.value;
  document.title = answer.title;
  element("main").replaceWith(answer.getElementById("main"));
  // An answer to a request that was too large to be read comes without the text.
  const essay = element("essay");
  if (!essay.value) essay.value = written;
  // The server never sends a key back.
  if (key) element("api_key").value = key;
  refresh();
  const wrong = document.querySelector("[aria-invalid=true]");
  const target = wrong || element("explanation-title") || element("result-title") || element("main");
  target.focus({ preventScroll: true });
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  (target.closest(".explanation, .result") || target).scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

async function score(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  const explains = event.submitter?.name === "explain";
  const label = event.submitter?.textContent;
  if (explains) event.submitter.textContent = "Scoring once without each sentence…";
  element("busy").textContent = explains ? "Scoring once without each sentence…" : "Scoring with every model…";
  const slow = window.setTimeout(() => {
    element("busy").textContent = "Still scoring: the service is slow just now. Your text is safe here.";
  }, SLOW_MS);
  const fields = new FormData(form, event.submitter);
  fields.delete("file"); // its text stands in the form already
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(fields), signal });
    show(await answer.text());
    if (!explains) remember();
  } catch (error) {
    if (explains) event.submitter.textContent = label;
    button.removeAttribute("aria-disabled");
    const late = error.name === "TimeoutError";
    element("busy").textContent = late
      ? "The service did not answer within a minute and a half. Your text is still here: try again later."
      : "The service cannot answer just now. Your text is still here: try again.";
  } finally {
    window.clearTimeout(slow);
  }
}

// A file's text goes into the form, so that its writer sees what will be scored.
async function readFile(file) {
  const state = element("file-state");
  const input = element("file");
  state.classList.remove("wrong");
  state.textContent = `Reading ${file.name}…`;
  try {
    if (file.size > Number(input.dataset.max)) throw new Error(`${file.name} is larger than ${input.dataset.max / 1e6} MB.`);
    const body = new FormData();
    body.append("file", file);
    const key = element("api_key")?.value;
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch("/text", { method: "POST", body, headers }).catch(() => null);
    if (!answer) throw new Error("The service cannot answer just now. Try again.");
    const given = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(sentences(given.error) || "The service cannot read files just now. Try again.");
    element("essay").value = given.text;
    state.textContent = `Read ${file.name}. Look it over above, then score it.`;
    countWords();
  } catch (error) {
    state.classList.add("wrong");
    state.textContent = error.message;
  }
  input.value = "";
}

function sentences(error) {
  if (!error) return "";
  return [error.message, error.hint].filter(Boolean).map((part) => `${part[0].toUpperCase()}${part.slice(1)}.`).join(" ");
}

function kept() {
  try {
    return JSON.parse(window.sessionStorage.getItem(HISTORY)) || [];
  } catch {
    return [];
  }
}

function remember() {
  const result = element("result");
  if (!result) return;
  const first = element("essay").value.trim().split(/\s+/).slice(0, 8).join(" ");
  const entry = {
    essay: `${first.slice(0, 60)}…`,
    task: element("prompt_id").selectedOptions[0].textContent,
    model: result.dataset.model,
    score: result.querySelector(".score").textContent,
    likely: result.dataset.likely,
  };
  try {
    window.sessionStorage.setItem(HISTORY, JSON.stringify([entry, ...kept()].slice(0, MOST_KEPT)));
  } catch {
    return; // a browser that keeps nothing
  }
  listHistory();
}

function listHistory() {
  const section = element("history");
  if (!section) return;
  const entries = kept();
  section.hidden = !entries.length;
  section.querySelector("tbody").replaceChildren(
    ...entries.map((entry) => {
      const row = document.createElement("tr");
      const essay = document.createElement("th");
      essay.scope = "row";
      essay.textContent = entry.essay;
      row.append(essay);
      for (const [text, kind] of [[`${entry.task}, ${entry.model}`, "wide"], [entry.score, "number strong"], [entry.likely, "number"]]) {
        const cell = document.createElement("td");
        cell.className = kind;
        cell.textContent = text;
        row.append(cell);
      }
      return row;
    }),
  );
}

async function reloadWhenReady() {
  const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
  if (answer && answer.ok) window.location.reload();
  else window.setTimeout(reloadWhenReady, 1000);
}

document.addEventListener("input", (event) => {
  if (event.target.id === "essay") countWords();
  if (event.target.id === "prompt_id") offerModels();
  if (["prompt_id", "model"].includes(event.target.id)) describeChoice();
});
document.addEventListener("change", (event) => {
  if (event.target.id === "file" && event.target.files.length) readFile(event.target.files[0]);
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "form") score(event);
});
document.addEventListener("click", (event) => {
  if (event.target.id === "print") window.print();
  if (event.target.id === "forget") {
    window.sessionStorage.removeItem(HISTORY);
    listHistory();
    element("essay").focus();
  }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files") || !element("form")) return;
    event.preventDefault();
    element("form").classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) readFile(event.dataTransfer.files[0]);
  });
}
document.documentElement.classList.add("script");
refresh();
listHistory();
if (document.querySelector("[data-waiting]")) reloadWhenReady();
