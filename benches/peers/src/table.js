// The output: a table of figures, a table of ratios, settings and notes.

const text = (value, digits = 0) =>
  value === undefined
    ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const mib = (bytes) => (bytes === undefined ? "–" : `${text(bytes / 1024 / 1024)} MiB`);
const times = (value) => (value === undefined ? "–" : `${text(value, 2)}×`);

function lines(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)];
}

/** Returns the text of a report (see `bench.js`). */
export function table(report) {
  const { lanes, options } = report;
  const heads = [
    "accepted/s, worker off",
    "accepted and delivered/s",
    `latency at ${options.steadyRate}/s, p50 · p99`,
    "memory (PSS)",
    `with ${text(options.waiting)} waiting`,
  ];
  const figures = lanes.map(({ name, figures: f }) => [
    name,
    text(f.accept_rate),
    text(f.rate),
    f.p50_ms === undefined ? "–" : `${text(f.p50_ms, 1)} · ${text(f.p99_ms, 1)} ms`,
    mib(f.memory_bytes),
    mib(f.waiting_bytes),
  ]);
  const ratios = lanes
    .filter(({ ratios }) => ratios)
    .map(({ name, ratios: r }) => [
      name,
      times(r.accept_rate),
      times(r.rate),
      `${times(r.p50_ms)} · ${times(r.p99_ms)}`,
      times(r.memory_bytes),
      times(r.waiting_bytes),
    ]);
  const settings = lanes.map(
    ({ name, settings, variant }) => `  ${name}: ${variant ? `${JSON.stringify(variant)}; ` : ""}${settings}`,
  );
  return [
    ...lines([["figures", ...heads], ...figures]),
    "",
    ...lines([["ours ÷ peer", ...heads], ...ratios]),
    "",
    "settings",
    ...settings,
    ...(report.notes.length > 0 ? ["", "notes", ...report.notes.map((note) => `  ${note}`)] : []),
    ...(report.wrong.length > 0 ? ["", ...report.wrong.map((wrong) => `WRONG ${wrong}`)] : []),
  ].join("\n");
}
