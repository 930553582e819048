// The threshold as a slider, with the accuracy and the share of escalations that the calibration rows predict.

import { byId, draw, make, percent } from "./elements.js";

const WIDTH = 320;
const HEIGHT = 110;
const GUTTER = 36;

let facts = null;
let chosen = null;

/** Return the threshold chosen on the page; null: the bundle's own. */
export function chosenThreshold() {
  return chosen;
}

/** Set up the slider and the button that resets it. */
export function startThreshold() {
  byId("slider").addEventListener("input", () => choose(Number(byId("slider").value)));
  byId("own-threshold").addEventListener("click", showOwn);
}

/** Show the curve of a bundle: its manifest's threshold, and its reference, which may be null. */
export function showThreshold(threshold, reference) {
  facts = { threshold, reference };
  byId("no-curve").hidden = reference !== null;
  byId("curve-part").hidden = reference === null;
  if (reference === null) {
    chosen = null;
    return;
  }
  byId("slider").max = reference.curve.length - 1;
  drawCurve();
  listPromises(reference);
  showOwn();
}

/** List what each accuracy that could be promised takes; bundles of earlier versions do not know. */
function listPromises(reference) {
  const promises = reference.promises ?? [];
  byId("promises").hidden = promises.length === 0;
  byId("promise-list").replaceChildren(...promises.map((promise) => make("li", {}, describePromise(promise, reference.n_rows))));
}

function describePromise({ target, threshold, kept, rows_needed }, n_rows) {
  const promised = `${Number((100 * target).toFixed(1))} % right`;
  if (threshold !== null) return `${promised}: a threshold of ${threshold} keeps ${percent(kept)}`;
  const needed = rows_needed ? `about ${rows_needed.toLocaleString("en")} would` : "no number of rows would";
  return `${promised}: ${n_rows} calibration rows do not support it; ${needed}`;
}

function showOwn() {
  const { threshold, reference } = facts;
  chosen = null;
  byId("own-threshold").disabled = true;
  if (threshold.met) {
    show(nearest(threshold.value));
    return;
  }
  byId("slider").value = reference.curve.length - 1;
  for (const id of ["at-accuracy", "at-bound"]) byId(id).textContent = "–";
  byId("at-threshold").textContent = "none";
  byId("at-escalated").textContent = "100 %";
  mark(null);
  const needed = threshold.rows_needed ? `; about ${threshold.rows_needed.toLocaleString("en")} rows would` : "";
  describe(`The ${reference.n_rows} calibration rows do not support ${percent(threshold.target)} at any threshold${needed}, so with the bundle’s own threshold every text escalates. Move the slider to choose one for this page.`);
}

function choose(index) {
  const point = facts.reference.curve[index];
  chosen = Math.min(1, Math.max(0, point.threshold));
  byId("own-threshold").disabled = false;
  show(index);
}

function show(index) {
  const { threshold, reference } = facts;
  const { threshold: value, kept, accuracy, lower_bound } = reference.curve[index];
  byId("slider").value = index;
  byId("slider").setAttribute("aria-valuetext", `${value.toFixed(3)}: ${percent(1 - kept)} escalate, ${percent(accuracy)} right among the rest`);
  byId("at-threshold").textContent = value.toFixed(3);
  byId("at-escalated").textContent = percent(1 - kept);
  byId("at-accuracy").textContent = percent(accuracy);
  byId("at-bound").textContent = percent(lower_bound);
  mark(reference.curve[index]);
  const right = reference.trusted ? "right" : "right, by labels that are not all gold,";
  const onRows = `Of the ${reference.n_rows} calibration rows this keeps ${Math.round(kept * reference.n_rows)}, ${right} in ${percent(accuracy)}.`;
  const promise = chosen === null
    ? `This is the bundle’s own threshold: with probability ${percent(1 - threshold.delta)}, at least ${percent(threshold.target)} of the texts it keeps are right.`
    : `The ${percent(1 - reference.delta)} guarantee applies to a threshold you chose before looking at this chart, not to the best of several you try. It is used for the texts on this page; the service keeps its own.`;
  describe(`${onRows} ${promise}`);
}

function nearest(value) {
  const { curve } = facts.reference;
  return curve.reduce((best, point, i) => (Math.abs(point.threshold - value) < Math.abs(curve[best].threshold - value) ? i : best), 0);
}

function describe(text) {
  byId("curve-says").textContent = text;
}

/** Draw the accuracy and its lower bound against the share that escalates. */
function drawCurve() {
  const { curve } = facts.reference;
  const floor = Math.floor(Math.min(...curve.map((point) => point.lower_bound)) * 20) / 20;
  facts.place = (escalated, share) => [GUTTER + escalated * (WIDTH - GUTTER - 4), 4 + ((1 - share) / (1 - floor || 1)) * (HEIGHT - 8)];
  const along = (pick) => curve.map((point) => facts.place(1 - point.kept, pick(point)).map((v) => v.toFixed(1)).join(" "));
  const upper = along((point) => point.accuracy);
  const lower = along((point) => point.lower_bound);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Accuracy of what is kept, by the share that escalates" },
    draw("path", { class: "band", d: `M${upper.join("L")}L${[...lower].reverse().join("L")}Z` }),
    draw("path", { class: "line first", d: `M${upper.join("L")}` }),
    draw("line", { class: "marker", id: "marker", y1: 0, y2: HEIGHT }),
    draw("circle", { class: "marker", id: "dot", r: 3.5 }),
    draw("text", { x: GUTTER - 5, y: 10, "text-anchor": "end" }, "100 %"),
    draw("text", { x: GUTTER - 5, y: HEIGHT - 4, "text-anchor": "end" }, percent(floor)),
  );
  const scale = make("div", { class: "times quiet", "aria-hidden": "true" }, make("span", {}, "0 % escalate"), make("span", {}, "100 %"));
  byId("curve").replaceChildren(make("p", { class: "quiet", "aria-hidden": "true" }, "Right among the rest, by the share that escalates"), svg, scale);
}

function mark(point) {
  for (const id of ["marker", "dot"]) byId(id).setAttribute("visibility", point ? "visible" : "hidden");
  if (!point) return;
  const [x, y] = facts.place(1 - point.kept, point.accuracy);
  byId("marker").setAttribute("x1", x);
  byId("marker").setAttribute("x2", x);
  byId("dot").setAttribute("cx", x);
  byId("dot").setAttribute("cy", y);
}
