// Assembles the parts of the page.

import { ask, watchKey } from "./api.js";
import { startColumn } from "./column.js";
import { byId } from "./elements.js";
import { startLive } from "./live.js";
import { chosenThreshold, showThreshold, startThreshold } from "./threshold.js";
import { startTry } from "./try.js";

let shown = "";

async function showBundle({ bundle: id }) {
  if (id === shown) return;
  const [bundle, facts] = await Promise.all([ask("/v1/bundle"), ask("/v1/watch/reference")]);
  byId("name").textContent = document.title = bundle.name;
  byId("about").textContent = [
    `${bundle.labels.length} labels: ${bundle.labels.slice(0, 8).join(", ")}${bundle.labels.length > 8 ? ", …" : ""}`,
    `${bundle.encoder}, ${bundle.precision}`,
    facts.decoder ? `decoder: ${facts.decoder}` : "no decoder",
    `bundle ${bundle.bundle_id}`,
  ].join(" · ");
  byId("decoder").hidden = !facts.decoder;
  showThreshold(bundle.threshold, facts.reference);
  shown = id;
}

startThreshold();
startTry(chosenThreshold);
startColumn(chosenThreshold);
watchKey(startLive(showBundle));
