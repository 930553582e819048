// Answers as CSV (RFC 4180).

const COLUMNS = ["text", "label", "confidence", "status", "source", "encoder_label", "encoder_confidence", "threshold", "escalation", "rationale", "reason", "truncated", "tokens", "bundle_id"];

/** Return the rows as CSV with a column a label; a byte-order mark tells spreadsheets that it is UTF-8. */
export function csv(rows) {
  const labels = [...new Set(rows.flatMap((row) => (row.answer ? Object.keys(row.answer.probs) : [])))].sort();
  const head = [...COLUMNS, ...labels.map((label) => `probability of ${label}`), "error"];
  const lines = rows.map(({ text, answer, error }) => [
    text,
    ...COLUMNS.slice(1).map((name) => answer?.[name] ?? ""),
    ...labels.map((label) => answer?.probs[label] ?? ""),
    error,
  ]);
  return "\uFEFF" + [head, ...lines].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

/** Return a quoted cell; a text that a spreadsheet would run as a formula gets an apostrophe before it. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return `"${text.replaceAll('"', '""')}"`;
}
