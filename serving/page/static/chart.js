// Small charts: lines over time, and two distributions side by side.

import { draw, make, percent } from "./elements.js";

const WIDTH = 320;
const HEIGHT = 96;

/**
 * Return a figure of lines over the last seconds. `series` is a list of {name, values, kind}; a null value is a gap.
 * `format` formats a value; `least` is the smallest top of the scale; `now` is the text of the current figures.
 */
export function lines({ title, series, n_seconds, format, least, now }) {
  const highest = Math.max(least, ...series.flatMap(({ values }) => values.filter((value) => value !== null)));
  const top = rounded(highest);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${now}`, preserveAspectRatio: "none" });
  for (const share of [0, 0.5, 1]) {
    const y = HEIGHT - 1 - share * (HEIGHT - 2);
    svg.append(draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  for (const { values, kind } of series) {
    const place = (value, i) => [WIDTH - ((values.length - 1 - i) * WIDTH) / (n_seconds - 1), HEIGHT - 1 - (value / top) * (HEIGHT - 2)];
    svg.append(draw("path", { class: `line ${kind}`, d: path(values, place) }));
  }
  const legend = series.length > 1 ? make("span", { class: "legend" }, ...series.map(({ name, kind }) => make("span", { class: `key ${kind}` }, name))) : "";
  return make("figure", {},
    make("figcaption", {}, make("span", {}, title), legend, make("strong", {}, now)),
    make("div", { class: "plot" }, svg, make("span", { class: "top", "aria-hidden": "true" }, format(top))),
    make("div", { class: "times quiet", "aria-hidden": "true" }, make("span", {}, `${n_seconds} s ago`), make("span", {}, "now")),
  );
}

/** Return a figure of the shares of recent texts beside those of the calibration rows, cell by cell. */
export function pairs({ title, cells, recent, reference, alarm, says }) {
  const top = Math.max(0.01, ...recent, ...reference);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${says}`, preserveAspectRatio: "none" });
  const width = WIDTH / cells.length;
  cells.forEach((cell, i) => {
    const both = draw("g", {}, draw("title", {}, `${cell}: ${percent(recent[i])} now, ${percent(reference[i])} at calibration`));
    both.append(block("reference", i * width + width * 0.1, width * 0.38, reference[i] / top));
    both.append(block("recent", i * width + width * 0.52, width * 0.38, recent[i] / top));
    svg.append(both);
  });
  return make("figure", { class: alarm ? "alarm" : null },
    make("figcaption", {}, make("span", {}, title), make("strong", {}, alarm ? "drifted" : "no drift")),
    make("div", { class: "plot" }, svg),
    make("div", { class: "times quiet", "aria-hidden": "true" }, make("span", {}, cells[0]), make("span", {}, cells.length > 1 ? cells.at(-1) : "")),
    make("p", { class: alarm ? "warning" : "quiet" }, says),
  );
}

/** Return the path through the points that are there. */
export function path(values, place) {
  let pen = "M";
  return values.map((value, i) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const [x, y] = place(value, i);
    const step = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    // A point between two gaps would have no line of its own.
    const alone = pen === "M" && (i + 1 === values.length || values[i + 1] === null) ? "h0.1" : "";
    pen = "L";
    return step + alone;
  }).join("");
}

function block(kind, x, width, share) {
  const height = Math.max(share > 0 ? 1 : 0, share * (HEIGHT - 2));
  return draw("rect", { class: kind, x: x.toFixed(2), y: (HEIGHT - height).toFixed(2), width: width.toFixed(2), height: height.toFixed(2) });
}

/** Return the next of 1, 2, 5, 10, ... at or above a value. */
function rounded(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.9999);
}
