// Many texts, one per line: classified in batches, shown as a table, and downloaded as CSV.

import { Refusal, classify } from "./api.js";
import { byId, make } from "./elements.js";
import { csv } from "./csv.js";

const BATCH = 32;
const MOST_SHOWN = 500;

/** Set up the form; `threshold()` returns the threshold chosen on the page, or null. */
export function startColumn(threshold) {
  let running = null;
  let rows = [];
  byId("stop").addEventListener("click", () => running?.abort());
  byId("download").addEventListener("click", () => download(csv(rows)));
  byId("column-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    const mine = running;
    rows = byId("lines").value.split(/\r\n|\r|\n/).filter((line) => line.trim()).map((text) => ({ text, answer: null, error: "" }));
    begin(rows.length);
    let note = "";
    try {
      await askAll(rows, threshold(), mine.signal);
    } catch (error) {
      if (running !== mine) return;
      if (!mine.signal.aborted && !(error instanceof Refusal)) throw error;
      note = mine.signal.aborted ? "Stopped." : error.message;
    }
    end(rows, note);
  });
}

async function askAll(rows, threshold, signal) {
  for (let start = 0; start < rows.length; start += BATCH) {
    const batch = rows.slice(start, start + BATCH);
    await askSome(batch, threshold, signal);
    signal.throwIfAborted();
    tell(rows, Math.min(start + BATCH, rows.length));
  }
}

/** Fill in the answers of a batch. A row that the service refuses is marked, and the others are sent again without it. */
async function askSome(batch, threshold, signal) {
  const open = [...batch];
  while (open.length) {
    try {
      const reply = await classify({ inputs: open.map((row) => row.text), threshold }, signal);
      reply.answers.forEach((answer, i) => (open[i].answer = answer));
      reply.failed.forEach((failed) => (open[failed.item].error = failed.message));
      return;
    } catch (error) {
      if (!(error instanceof Refusal) || error.item === null) throw error;
      open.splice(error.item, 1)[0].error = error.message;
    }
  }
}

function begin(n) {
  byId("progress").max = Math.max(1, n);
  byId("progress").value = 0;
  for (const id of ["progress", "stop"]) byId(id).hidden = false;
  for (const id of ["download", "table"]) byId(id).hidden = true;
  byId("column-says").textContent = `0 of ${n}`;
}

function tell(rows, n_done) {
  byId("progress").value = n_done;
  byId("column-says").textContent = `${n_done} of ${rows.length}`;
}

function end(rows, note) {
  const done = rows.filter((row) => row.answer);
  const unsure = done.filter((row) => row.answer.status !== "accepted").length;
  const refused = rows.filter((row) => row.error).length;
  for (const id of ["progress", "stop"]) byId(id).hidden = true;
  byId("download").hidden = !done.length;
  byId("column-says").textContent = [
    `${done.length} of ${rows.length} answered, ${unsure} below the threshold.`,
    refused && `${refused} could not be answered.`,
    note,
  ].filter(Boolean).join(" ");
  byId("table").hidden = !rows.length;
  byId("table").replaceChildren(table(rows));
}

function table(rows) {
  const heads = ["text", "label", "confidence", "status", "source"];
  const shown = rows.slice(0, MOST_SHOWN);
  const hidden = rows.length - shown.length;
  return make("table", {},
    make("caption", {}, hidden ? `The first ${MOST_SHOWN} of ${rows.length}; the download has all.` : `${rows.length} texts`),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...shown.map(line)),
  );
}

function line({ text, answer, error }) {
  if (!answer) return make("tr", {}, make("td", { class: "text" }, text), make("td", { colspan: 4, class: "error" }, error || "not asked"));
  return make("tr", {},
    make("td", { class: "text" }, text, ...(answer.truncated ? [make("span", { class: "warning" }, " (truncated)")] : [])),
    make("td", {}, answer.label === null ? "–" : answer.labels.join(", ") || "none"),
    make("td", { class: "number" }, answer.confidence.toFixed(3)),
    make("td", {}, make("span", { class: `pill ${answer.status}` }, answer.status)),
    make("td", {}, answer.source),
  );
}

function download(content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  make("a", { href: url, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
