// Saves the reload and counts words. Everything here also works without it: the form posts, the server answers a page.
"use strict";

const WORDS = /@?[\p{L}\p{N}_]+(?:['’][\p{L}\p{N}_]+)*/gu;

function countWords() {
  const essay = document.getElementById("essay");
  const count = document.getElementById("count");
  if (!essay || !count) return;
  const words = (essay.value.match(WORDS) || []).length;
  const characters = essay.value.length;
  const tooLong = characters > Number(count.dataset.max);
  count.textContent = tooLong
    ? `${characters.toLocaleString("en")} characters: more than the ${Number(count.dataset.max).toLocaleString("en")} that are accepted.`
    : `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}.`;
}

function describePrompt() {
  const prompt = document.getElementById("prompt_id");
  const detail = document.getElementById("prompt_id-detail");
  if (prompt && detail && prompt.selectedOptions.length) detail.textContent = prompt.selectedOptions[0].dataset.detail;
}

// A model that does not score the chosen task is not offered for it; without JavaScript the answer says so.
function offerModels() {
  const prompt = document.getElementById("prompt_id");
  const model = document.getElementById("model");
  if (!prompt || !model) return;
  for (const option of model.options) {
    option.disabled = !option.dataset.prompts.split(" ").includes(prompt.value);
    option.hidden = option.disabled;
  }
  const chosen = model.selectedOptions[0];
  const offered = [...model.options].find((option) => !option.disabled);
  if (offered && (!chosen || chosen.disabled)) model.value = offered.value;
}

function show(page) {
  const answer = new DOMParser().parseFromString(page, "text/html");
  if (!answer.getElementById("form")) throw new Error("not ready");
  const written = document.getElementById("essay").value;
  document.title = answer.title;
  document.getElementById("main").replaceWith(answer.getElementById("main"));
  // An answer to a request that was too large to be read comes without the text.
  const essay = document.getElementById("essay");
  if (!essay.value) essay.value = written;
  countWords();
  offerModels();
  const wrong = document.querySelector("[aria-invalid=true]");
  const target = wrong || document.getElementById("result-title") || document.getElementById("main");
  target.focus({ preventScroll: true });
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  (target.closest(".result") || target).scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

async function score(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  document.getElementById("busy").textContent = "Scoring with every model…";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, event.submitter)) });
    show(await answer.text());
  } catch {
    button.removeAttribute("aria-disabled");
    document.getElementById("busy").textContent = "The service cannot answer just now. Your text is still here: try again.";
  }
}

async function reloadWhenReady() {
  const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
  if (answer && answer.ok) window.location.reload();
  else window.setTimeout(reloadWhenReady, 1000);
}

document.addEventListener("input", (event) => {
  if (event.target.id === "essay") countWords();
  if (event.target.id === "prompt_id") {
    describePrompt();
    offerModels();
  }
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "form") score(event);
});
countWords();
describePrompt();
offerModels();
if (document.querySelector("[data-waiting]")) reloadWhenReady();
