// Calls to the service, the API key, and error messages for people.

import { byId } from "./elements.js";

const KEY = "hybrid-api-key";
const WAITS = 6;
const LONGEST_WAIT_S = 15;

/** A request that got no answer: `item` is the index of the text in question, `retryAfter` the seconds to wait. */
export class Refusal extends Error {
  constructor(message, { status = 0, item = null, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.item = item;
    this.retryAfter = retryAfter;
  }
}

/** Send a GET, or a POST if there is a body, and return the decoded reply. */
export async function ask(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = { accept: "application/json", ...(key && { authorization: `Bearer ${key}` }), ...(body && { "content-type": "application/json" }) };
  let response;
  try {
    // Relative to the page, which a proxy may serve below a prefix.
    response = await fetch(path.slice(1), { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service cannot be reached. It may be starting again, or the network is down.");
  }
  if (response.ok) return response.json();
  throw await refusal(response);
}

/** Classify texts; waits and tries again while the service is overloaded. */
export async function classify(request, signal) {
  for (let wait = 1; ; wait += 1) {
    try {
      return await ask("/v1/classify", request, signal);
    } catch (error) {
      if (error.status !== 429 || wait === WAITS) throw error;
      await pause(Math.min(error.retryAfter || 1, LONGEST_WAIT_S), signal);
    }
  }
}

/** Let the user enter an API key, and call `onKey` for each new key. */
export function watchKey(onKey) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, byId("key").value.trim());
    byId("key").value = "";
    byId("key-form").hidden = true;
    onKey();
  });
}

async function refusal(response) {
  const refused = (await response.json().catch(() => ({}))).error ?? {};
  const retryAfter = Number(response.headers.get("retry-after")) || 0;
  if (response.status === 401) {
    const hadKey = sessionStorage.getItem(KEY) !== null;
    sessionStorage.removeItem(KEY);
    byId("key-form").hidden = false;
    return new Refusal(hadKey ? "The service does not know this API key." : "The service asks for an API key.", { status: 401 });
  }
  const explanations = {
    429: "The service is overloaded. Try again in a moment.",
    503: "The service accepts no requests at the moment: its engine is restarting, or it is shutting down.",
    504: "No answer came in time.",
  };
  const text = [explanations[response.status], refused.message && sentence(refused.message)].filter(Boolean).join(" ");
  const message = text || `The service answered with status ${response.status}.`;
  return new Refusal(message, { status: response.status, item: refused.item ?? null, retryAfter });
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
