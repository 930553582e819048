// The state of the service, polled about once a second while the page is visible.

import { ask } from "./api.js";
import { lines, pairs } from "./chart.js";
import { byId, duration, percent } from "./elements.js";

const EVERY_MS = 1000;
const AFTER_FAILURE_MS = 5000;
const N_SECONDS = 120;

/** Poll; `onState(state)` gets every reply. Return a function that polls at once. */
export function startLive(onState) {
  let timer = 0;
  let asking = false;
  async function tick() {
    clearTimeout(timer);
    if (document.hidden || asking) return;
    asking = true;
    let next = EVERY_MS;
    try {
      const state = await ask("/v1/watch");
      byId("contact").textContent = "";
      show(state);
      await onState(state);
    } catch (error) {
      next = AFTER_FAILURE_MS;
      byId("health").className = "pill bad";
      byId("health").textContent = "no contact";
      byId("contact").textContent = error.message;
    } finally {
      asking = false;
    }
    timer = setTimeout(tick, next);
  }
  document.addEventListener("visibilitychange", tick);
  tick();
  return tick;
}

function show({ engine, breaker, live, drift }) {
  const ready = engine === "ready";
  byId("health").className = `pill ${ready && breaker === "closed" ? "accepted" : ready ? "escalated" : "bad"}`;
  byId("health").textContent = !ready ? `engine ${engine}` : breaker === "closed" ? "ready" : breaker === "open" ? "ready, decoder paused (circuit open)" : `ready, decoder being tried (circuit ${breaker})`;
  byId("charts").replaceChildren(...charts(live));
  const alarms = drift.found.filter((quantity) => quantity.alarm);
  const noAlarm = `The last ${drift.n_recent} texts look like the calibration rows.`;
  const alarm = `Alarm: ${alarms.map((quantity) => quantity.says).join("; ")}.`;
  setText(byId("drift-says"), drift.why_not ? `${drift.why_not}.` : alarms.length ? alarm : noAlarm);
  byId("drift-says").className = alarms.length ? "warning" : "quiet";
  byId("drifts").replaceChildren(...drift.found.map((quantity) => pairs(quantity)));
}

/** Set a text only if it differs, because a screen reader announces every change. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function charts(live) {
  const { seconds } = live;
  const over = (pick) => seconds.map(pick);
  const rate = (share) => (share === null ? "–" : percent(share));
  const time = (value) => (value === null ? "–" : duration(value));
  return [
    lines({
      title: "Texts per second", n_seconds: N_SECONDS, format: String, least: 1,
      series: [{ name: "texts", kind: "first", values: over((s) => s.texts) }],
      now: live.texts_a_second.toFixed(1),
    }),
    lines({
      title: "Latency", n_seconds: N_SECONDS, format: duration, least: 0.001,
      series: [{ name: "median", kind: "first", values: over((s) => s.p50_s) }, { name: "95 %", kind: "second", values: over((s) => s.p95_s) }],
      now: `${time(live.p50_s)}, 95 % in ${time(live.p95_s)}, 99 % in ${time(live.p99_s)}`,
    }),
    lines({
      title: "Below the threshold", n_seconds: N_SECONDS, format: percent, least: 1,
      series: [{ name: "below", kind: "first", values: over((s) => (s.texts ? s.below / s.texts : null)) }],
      now: rate(live.below_share),
    }),
    lines({
      title: "Refused", n_seconds: N_SECONDS, format: percent, least: 1,
      series: [{ name: "refused", kind: "second", values: over((s) => (s.requests + s.refused ? s.refused / (s.requests + s.refused) : null)) }],
      now: rate(live.refused_share),
    }),
  ];
}
