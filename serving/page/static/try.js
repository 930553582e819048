// A single text: its probabilities, the threshold, the decision, and the decoder's explanation.

import { Refusal, classify } from "./api.js";
import { byId, make, percent } from "./elements.js";

const MOST_BARS = 12;

/** Set up the form; `threshold()` returns the threshold chosen on the page, or null. */
export function startTry(threshold) {
  let asking = null;
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("try-form").requestSubmit();
  });
  byId("try-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    asking?.abort();
    asking = new AbortController();
    const mine = asking;
    byId("answer").setAttribute("aria-busy", "true");
    try {
      const request = { inputs: byId("text").value, escalate: byId("escalate").value, threshold: threshold() };
      const reply = await classify(request, mine.signal);
      show(render(reply.answers[0]));
    } catch (error) {
      if (mine.signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      show([make("p", { class: "error", role: "alert" }, error.message)]);
    }
  });
}

function show(children) {
  byId("answer").removeAttribute("aria-busy");
  byId("answer").replaceChildren(...children);
}

function render(answer) {
  const probs = Object.entries(answer.probs);
  const shown = probs.slice(0, MOST_BARS);
  return [
    make("p", { class: "label" }, make("strong", {}, labelText(answer)), " ", make("span", { class: `pill ${answer.status}` }, answer.status)),
    make("p", {}, decision(answer)),
    ...(answer.rationale ? [make("blockquote", {}, make("p", {}, answer.rationale), make("footer", { class: "quiet" }, "the decoder’s reasoning"))] : []),
    make("ul", { class: "bars", "aria-label": "Probabilities" }, ...shown.map(([label, p]) => bar(label, p, answer))),
    ...(probs.length > shown.length ? [make("p", { class: "quiet" }, `and ${probs.length - shown.length} more labels`)] : []),
    make("p", { class: answer.truncated ? "warning" : "quiet" }, reading(answer)),
  ];
}

function labelText(answer) {
  if (answer.label === null) return "no answer";
  return answer.labels.length ? answer.labels.join(", ") : "none of the labels";
}

/** Explain the decision in a sentence. */
export function decision(answer) {
  const sure = answer.encoder_confidence.toFixed(3);
  const limit = answer.threshold > 1 ? "every text of this bundle escalates" : `the threshold is ${answer.threshold}`;
  if (answer.status === "accepted") return `The encoder is sure enough: its confidence is ${sure}, and ${limit}.`;
  const unsure = `The encoder’s confidence is ${sure}, and ${limit}.`;
  const why = answer.reason ? ` (${answer.reason.replaceAll("_", " ")})` : "";
  if (answer.status === "abstained") return `${unsure} The decoder gave no answer${why}, and the service abstains.`;
  if (answer.source === "both") return `${unsure} The decoder was asked; this combines its vote with the encoder’s probabilities.`;
  if (answer.source === "decoder") return `${unsure} The decoder was asked, and this is its answer.`;
  if (answer.escalation === "none") return `${unsure} No decoder was asked: the encoder’s answer stands, flagged for review.`;
  if (answer.escalation === "undecided") return `${unsure} The decoder could not decide${why}: the encoder’s answer stands, flagged.`;
  return `${unsure} The decoder could not be asked${why}: the encoder’s answer stands, flagged.`;
}

function bar(label, p, answer) {
  const fill = make("span", { class: answer.labels.includes(label) ? "fill chosen" : "fill" });
  fill.style.width = `${p * 100}%`;
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
  if (answer.threshold <= 1) {
    const mark = make("span", { class: "mark", title: "threshold" });
    mark.style.left = `${answer.threshold * 100}%`;
    track.append(mark);
  }
  return make("li", {}, make("span", { class: "name" }, label), track, make("span", { class: "value" }, percent(p)));
}

function reading(answer) {
  const read = `The encoder read ${answer.tokens} token${answer.tokens === 1 ? "" : "s"}`;
  return answer.truncated ? `${read}; the text is longer, and the rest was cut off.` : `${read}, the whole text.`;
}
