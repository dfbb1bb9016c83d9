#!/usr/bin/env node
// Writes the chart's Grafana dashboards. What every panel needs (data source, unit, thresholds, a text for no data) stands
// once in the builders below.
// Usage: charts/dashboards.mjs            writes them
//        charts/dashboards.mjs --check    checks that they are what it writes
//        charts/dashboards.mjs --rules    prints their expressions as a rules file, for promtool to parse

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const datasource = { type: "prometheus", uid: "${datasource}" };
const SCHEMA_VERSION = 42; // Grafana 12; earlier ones take it as it is
const WIDTH = 24;

// ---- builders

/** Colours by value: a base colour, then `[from, colour]` upwards. */
const steps = (base, ...rest) => ({
  mode: "absolute",
  steps: [{ color: base, value: null }, ...rest.map(([value, color]) => ({ color, value }))],
});
const plain = steps("blue");
const anyIsRed = steps("green", [1, "red"]);
const anyIsOrange = steps("green", [1, "orange"]);
const zeroIsRed = steps("red", [1, "green"]);

/** Words for values: `{0: ["down", "red"]}`. */
const words = (map) => [
  {
    type: "value",
    options: Object.fromEntries(
      Object.entries(map).map(([value, [text, color]], index) => [value, { text, color, index }]),
    ),
  },
];
const yesNo = words({ 0: ["no", "red"], 1: ["yes", "green"] });
const noYes = words({ 0: ["no", "green"], 1: ["yes", "red"] });
const health = words({ 0: ["healthy", "green"], 1: ["warning", "orange"], 2: ["critical", "red"] });

/** A query as time series; `[expression, legend]`. */
const series = (queries) =>
  queries.map(([expr, legendFormat], index) => ({
    refId: String.fromCharCode(65 + index),
    datasource,
    expr,
    legendFormat,
    range: true,
    instant: false,
    editorMode: "code",
  }));
/** A query of now, as rows of a table. */
const rows = (queries) =>
  queries.map((expr, index) => ({
    refId: String.fromCharCode(65 + index),
    datasource,
    expr,
    format: "table",
    range: false,
    instant: true,
    editorMode: "code",
  }));

const panel = (type, title, description, { unit, thresholds, noValue, ...defaults }, rest) => ({
  type,
  title,
  description,
  datasource,
  fieldConfig: { defaults: { unit, thresholds, noValue, color: { mode: "thresholds" }, ...defaults }, overrides: [] },
  ...rest,
});

/** One number of now. */
const stat = (title, description, expr, { unit = "short", thresholds = plain, noValue = "–", mappings = [], ...more } = {}) =>
  panel("stat", title, description, { unit, thresholds, noValue, mappings, ...more.defaults }, {
    targets: [{ ...series([[expr, more.legend ?? "__auto"]])[0], range: false, instant: true }],
    options: {
      reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
      colorMode: "value",
      graphMode: "none",
      justifyMode: "auto",
      orientation: "auto",
      textMode: more.textMode ?? "auto",
      wideLayout: true,
    },
  });

/** Lines over time. */
const graph = (title, description, queries, { unit = "short", thresholds = plain, noValue, stacked = false, ...more } = {}) =>
  panel(
    "timeseries",
    title,
    description,
    {
      unit,
      thresholds,
      noValue: noValue ?? "nothing in this range",
      color: { mode: "palette-classic" },
      custom: {
        drawStyle: "line",
        lineInterpolation: "linear",
        lineWidth: 1,
        fillOpacity: stacked ? 30 : 5,
        showPoints: "never",
        spanNulls: false,
        stacking: { mode: stacked ? "normal" : "none", group: "A" },
        thresholdsStyle: { mode: more.showThresholds ? "line" : "off" },
        axisPlacement: "auto",
      },
      min: 0,
      ...more.defaults,
    },
    {
      targets: series(queries),
      options: {
        legend: { displayMode: "list", placement: "bottom", showLegend: true, calcs: [] },
        tooltip: { mode: "multi", sort: "desc" },
      },
    },
  );

/**
 * A table: one query for each column of values, joined by the labels that they share. `columns` maps a label or a query
 * (`Value #A`) to its title, in the order of display, with what is special about it.
 */
const table = (title, description, queries, columns, { noValue = "nothing to show", sort } = {}) => {
  const value = (key) => (/^[A-Z]$/.test(key) ? (queries.length > 1 ? `Value #${key}` : "Value") : key);
  const shown = columns.map(([key, name, special]) => [value(key), name, special ?? {}]);
  return {
    ...panel("table", title, description, { unit: "short", thresholds: plain, noValue, custom: { align: "auto", filterable: true } }, {
      targets: rows(queries),
      options: { showHeader: true, cellHeight: "sm", ...(sort ? { sortBy: [{ displayName: sort, desc: true }] } : {}) },
      transformations: [
        ...(queries.length > 1 ? [{ id: "merge", options: {} }] : []),
        { id: "filterFieldsByName", options: { include: { names: shown.map(([key]) => key) } } },
        {
          id: "organize",
          options: {
            indexByName: Object.fromEntries(shown.map(([key], index) => [key, index])),
            renameByName: Object.fromEntries(shown.map(([key, name]) => [key, name])),
            excludeByName: {},
          },
        },
      ],
    }),
    fieldConfig: {
      defaults: {
        unit: "short",
        thresholds: plain,
        noValue,
        color: { mode: "thresholds" },
        custom: { align: "auto", filterable: true },
      },
      // The text for no data is that of the whole table: an empty cell has its own.
      overrides: shown.map(([, name, { colored, ...special }]) => ({
        matcher: { id: "byName", options: name },
        properties: [
          ...Object.entries({ noValue: "–", ...special }).map(([id, value]) => ({ id, value })),
          ...(colored || special.mappings ? [{ id: "custom.cellOptions", value: { type: "color-text" } }] : []),
        ],
      })),
    },
  };
};

const query = (name, label, expr, more = {}) => ({
  type: "query",
  name,
  label,
  datasource,
  query: { qryType: 1, query: expr, refId: "PrometheusVariableQueryEditor-VariableQuery" },
  refresh: 2,
  sort: 1,
  regex: "",
  hide: 0,
  multi: false,
  includeAll: false,
  skipUrlSync: false,
  options: [],
  ...more,
});
const all = { multi: true, includeAll: true, allValue: ".*", current: { text: ["All"], value: ["$__all"] } };

/** Puts panels beside one another, in rows as wide as the page: `[[width, height, panel], …]` or the title of a row. */
const layout = (lines) => {
  const panels = [];
  let y = 0;
  for (const line of lines) {
    if (typeof line === "string") {
      panels.push({ type: "row", title: line, collapsed: false, panels: [], gridPos: { x: 0, y, w: WIDTH, h: 1 } });
      y += 1;
      continue;
    }
    let x = 0;
    for (const [w, h, panel] of line) {
      panels.push({ ...panel, gridPos: { x, y, w, h } });
      x += w;
    }
    if (x !== WIDTH) throw new Error(`a row is ${x} wide, not ${WIDTH}: ${line.map(([, , { title }]) => title).join(", ")}`);
    y += Math.max(...line.map(([, h]) => h));
  }
  return panels.map((panel, index) => ({ id: index + 1, ...panel }));
};

const uid = (name) => `timescaledb-policy-${name}`;
const keepRange = "${__url_time_range}";
const toDatabase = `/d/${uid("database")}?var-datasource=\${datasource}&var-namespace=\${__data.fields.namespace}&var-database=\${__data.fields.database}&${keepRange}`;
const dashboard = (name, title, description, variables, lines) => ({
  uid: uid(name),
  title: `TimescaleDB / ${title}`,
  description,
  tags: ["timescaledb", "timescaledb-policy-operator"],
  schemaVersion: SCHEMA_VERSION,
  version: 1,
  editable: true,
  graphTooltip: 1,
  fiscalYearStartMonth: 0,
  weekStart: "",
  timezone: "",
  refresh: "1m",
  time: { from: "now-24h", to: "now" },
  timepicker: {},
  annotations: { list: [] },
  links: [
    {
      type: "dashboards",
      title: "TimescaleDB",
      tags: ["timescaledb-policy-operator"],
      asDropdown: true,
      includeVars: true,
      keepTime: true,
      targetBlank: false,
      icon: "external link",
      tooltip: "The other dashboards about TimescaleDB",
      url: "",
    },
  ],
  templating: {
    list: [
      {
        type: "datasource",
        name: "datasource",
        label: "Data source",
        query: "prometheus",
        regex: "",
        refresh: 1,
        hide: 0,
        multi: false,
        includeAll: false,
        skipUrlSync: false,
        options: [],
      },
      ...variables,
    ],
  },
  panels: layout(lines),
});

// ---- what the panels of several dashboards ask

const inSync = "InSync|Overridden";
const jobColumns = [
  ["job_id", "Job"],
  ["policy", "Policy"],
  ["schema", "Schema"],
  ["table", "Table"],
  ["A", "Healthy", { mappings: yesNo }],
  ["B", "Scheduled", { mappings: words({ 0: ["no", "orange"], 1: ["yes", "green"] }) }],
  ["C", "Failures in a row", { thresholds: anyIsRed, colored: true }],
  ["D", "Overdue", { unit: "s", thresholds: steps("green", [1, "orange"], [1800, "red"]), colored: true }],
  ["E", "Never started", { mappings: noYes }],
  ["F", "Last success", { unit: "dateTimeFromNow" }],
  ["G", "Last duration", { unit: "s" }],
  ["H", "Next start", { unit: "dateTimeFromNow" }],
];
const jobs = (matchers, noValue) => {
  const by = "max by (job_id, policy, schema, table)";
  return table(
    "Jobs",
    "Policies and other jobs of TimescaleDB. A job that is not scheduled is paused, or TimescaleDB has given it up. The error of a failed one is in the condition JobHealthy of its resource.",
    [
      `${by} (timescaledb_job_healthy{${matchers}})`,
      `${by} (timescaledb_job_scheduled{${matchers}})`,
      `${by} (timescaledb_job_consecutive_failures{${matchers}})`,
      `${by} (timescaledb_job_overdue_seconds{${matchers}})`,
      `${by} (timescaledb_job_never_started{${matchers}})`,
      `${by} (timescaledb_job_last_success_timestamp_seconds{${matchers}}) * 1000`,
      `${by} (timescaledb_job_last_run_duration_seconds{${matchers}})`,
      `${by} (timescaledb_job_next_start_timestamp_seconds{${matchers}}) * 1000`,
    ],
    jobColumns,
    { noValue, sort: "Failures in a row" },
  );
};
/** What fires, with its runbook. */
const alerts = (matchers) =>
  table(
    "Alerts",
    "Alerts about TimescaleDB that fire now. The name leads to the runbook.",
    [`max by (alertname, severity, namespace, database, schema, table, job_id) (ALERTS{alertname=~"TimescaleDB.*",alertstate="firing"${matchers}})`],
    [
      [
        "alertname",
        "Alert",
        {
          links: [
            {
              title: "Runbook",
              url: "https://github.com/timescaledb-policy-operator/timescaledb-policy-operator/blob/main/docs/runbooks/${__value.raw}.md",
              targetBlank: true,
            },
          ],
        },
      ],
      ["severity", "Severity", { mappings: words({ critical: ["critical", "red"], warning: ["warning", "orange"] }) }],
      ["namespace", "Namespace"],
      ["database", "Database"],
      ["schema", "Schema"],
      ["table", "Table"],
      ["job_id", "Job"],
    ],
    { noValue: "no alert fires" },
  );

// ---- fleet

const fleet = () => {
  const m = 'namespace=~"$namespace"';
  const each = "max by (namespace, database)";
  const tables = "max by (namespace, database, schema, table)";
  const job = "by (namespace, database, job_id)";
  const sum = (metric) => `sum(${tables} (${metric}{${m}}))`;
  return dashboard(
    "fleet",
    "Fleet",
    "All databases that timescaledb-policy-operator looks after.",
    [query("namespace", "Namespace", "label_values(timescaledb_up, namespace)", all)],
    [
      [
        [3, 4, stat("Databases", "TimescaleDatabase resources that the operator looks after.", `count(${each} (timescaledb_up{${m}}))`, { noValue: "none" })],
        [3, 4, stat("Down", "Databases that the last pass could not observe.", `count(${each} (timescaledb_up{${m}}) == 0) or vector(0)`, { thresholds: anyIsRed })],
        [3, 4, stat("Not in sync", "Resources that do not say InSync. The table below has the reasons.", `sum(max by (namespace, database, kind, reason) (timescaledb_policy_operator_resources{${m},reason!~"${inSync}"})) or vector(0)`, { thresholds: anyIsOrange })],
        [3, 4, stat("Waiting for approval", "Resources whose plan loses data and waits for somebody to approve it.", `sum(max by (namespace, database, kind) (timescaledb_policy_operator_resources{${m},reason="ApprovalRequired"})) or vector(0)`, { thresholds: anyIsOrange })],
        [3, 4, stat("Unhealthy jobs", "Jobs of TimescaleDB that somebody has to look at.", `count(min ${job} (timescaledb_job_healthy{${m}}) == 0) or vector(0)`, { thresholds: anyIsRed })],
        [3, 4, stat("Unhealthy tables", "Hypertables and aggregates over a threshold of their database's health.", `count(${tables} (timescaledb_hypertable_health{${m}}) > 0) or vector(0)`, { thresholds: anyIsOrange })],
        [3, 4, stat("Size", "Bytes on disk of all databases.", `sum(${each} (timescaledb_database_size_bytes{${m}}))`, { unit: "bytes", noValue: "not read yet" })],
        [3, 4, stat("Saved", "Bytes that compression has saved.", `${sum("timescaledb_hypertable_before_compression_bytes")} - ${sum("timescaledb_hypertable_after_compression_bytes")}`, { unit: "bytes", noValue: "nothing compressed" })],
      ],
      [
        [
          WIDTH,
          9,
          table(
            "Databases",
            "One row for each TimescaleDatabase. The name leads to its dashboard.",
            [
              `${each} (timescaledb_up{${m}})`,
              `max by (namespace, database, timescaledb_version, postgres_version) (timescaledb_info{${m}})`,
              `sum by (namespace, database) (max by (namespace, database, kind, reason) (timescaledb_policy_operator_resources{${m},reason!~"${inSync}"}))`,
              `count by (namespace, database) (min ${job} (timescaledb_job_healthy{${m}}) == 0)`,
              `${each} (timescaledb_database_size_bytes{${m}})`,
              `sum by (namespace, database) (${tables} (timescaledb_hypertable_chunks{${m}}))`,
              `sum by (namespace, database) (${tables} (timescaledb_hypertable_before_compression_bytes{${m}})) / sum by (namespace, database) (${tables} (timescaledb_hypertable_after_compression_bytes{${m}}) > 0)`,
              `${each} (timescaledb_continuous_aggregate_lag_seconds{${m}})`,
              `time() - ${each} (timescaledb_observation_timestamp_seconds{${m}})`,
            ],
            [
              ["namespace", "Namespace"],
              ["database", "Database", { links: [{ title: "Show this database", url: toDatabase }] }],
              ["A", "State", { mappings: words({ 0: ["down", "red"], 1: ["up", "green"] }) }],
              ["timescaledb_version", "TimescaleDB"],
              ["postgres_version", "PostgreSQL"],
              ["C", "Not in sync", { thresholds: anyIsOrange, colored: true, noValue: "0" }],
              ["D", "Unhealthy jobs", { thresholds: anyIsRed, colored: true, noValue: "0" }],
              ["E", "Size", { unit: "bytes" }],
              ["F", "Chunks"],
              ["G", "Compression", { unit: "suffix:x", decimals: 1 }],
              ["H", "Largest lag", { unit: "s", thresholds: steps("green", [1, "orange"], [1800, "red"]), colored: true }],
              ["I", "Observed ago", { unit: "s" }],
            ],
            { noValue: "no TimescaleDatabase, or the operator is not scraped", sort: "Not in sync" },
          ),
        ],
      ],
      [
        [14, 8, alerts(`,namespace=~"$namespace|"`)],
        [
          10,
          8,
          table(
            "Not in sync",
            "Resources by the reason they give. docs/troubleshooting.md has a section for each reason.",
            [`max by (namespace, database, kind, reason) (timescaledb_policy_operator_resources{${m},reason!~"${inSync}"}) > 0`],
            [
              ["namespace", "Namespace"],
              ["database", "Database", { links: [{ title: "Show this database", url: toDatabase }] }],
              ["kind", "Kind"],
              ["reason", "Reason"],
              ["A", "Resources", { thresholds: steps("orange"), colored: true }],
            ],
            { noValue: "everything is in sync" },
          ),
        ],
      ],
      [
        [12, 8, graph("Size", "Bytes on disk of the ten largest databases.", [[`topk(10, ${each} (timescaledb_database_size_bytes{${m}}))`, "{{namespace}}/{{database}}"]], { unit: "bytes", noValue: "not read yet" })],
        [12, 8, graph("Not in sync", "Resources by reason, over all databases.", [[`sum by (reason) (max by (namespace, database, kind, reason) (timescaledb_policy_operator_resources{${m},reason!~"${inSync}"}))`, "{{reason}}"]], { stacked: true, noValue: "everything is in sync", defaults: { decimals: 0 } })],
      ],
      [
        [12, 8, graph("Failed runs of jobs", "Runs that ended with an error, for each hour.", [[`sum by (namespace, database) (max by (namespace, database, job_id) (increase(timescaledb_job_failures_total{${m}}[1h]))) > 0`, "{{namespace}}/{{database}}"]], { thresholds: steps("green", [1, "red"]), noValue: "no job has failed" })],
        [12, 8, graph("Lag of continuous aggregates", "The largest lag of each database: how much less far an aggregate is materialised than its refresh policy should have done.", [[`topk(10, ${each} (timescaledb_continuous_aggregate_lag_seconds{${m}}))`, "{{namespace}}/{{database}}"]], { unit: "s", thresholds: steps("green", [1800, "red"]), showThresholds: true, noValue: "no aggregate with a refresh policy" })],
      ],
    ],
  );
};

// ---- one database

const database = () => {
  const m = 'namespace="$namespace",database="$database"';
  const one = (metric) => `max(${metric}{${m}})`;
  const by = "max by (schema, table, kind)";
  const toTable = `/d/${uid("hypertable")}?var-datasource=\${datasource}&var-namespace=\${namespace}&var-database=\${database}&var-schema=\${__data.fields.schema}&var-table=\${__data.fields.table}&${keepRange}`;
  const named = (metric, top = 10) => [[`topk(${top}, max by (schema, table) (${metric}{${m}}))`, "{{schema}}.{{table}}"]];
  return dashboard(
    "database",
    "Database",
    "One database: its resources, jobs, background workers, hypertables and continuous aggregates.",
    [
      query("namespace", "Namespace", "label_values(timescaledb_up, namespace)"),
      query("database", "Database", 'label_values(timescaledb_up{namespace="$namespace"}, database)'),
    ],
    [
      [
        [3, 4, stat("State", "Whether the last pass could observe the database. All else is old when it could not.", one("timescaledb_up"), { thresholds: zeroIsRed, mappings: words({ 0: ["down", "red"], 1: ["up", "green"] }), noValue: "not looked after" })],
        [3, 4, stat("TimescaleDB", "Version of the extension.", `max by (timescaledb_version) (timescaledb_info{${m}})`, { legend: "{{timescaledb_version}}", textMode: "name", noValue: "unknown" })],
        [3, 4, stat("Size", "Bytes on disk (pg_database_size).", one("timescaledb_database_size_bytes"), { unit: "bytes", noValue: "not read yet" })],
        [3, 4, stat("Compression", "Bytes of the compressed chunks before, by bytes after.", `sum(${by} (timescaledb_hypertable_before_compression_bytes{${m}})) / (sum(${by} (timescaledb_hypertable_after_compression_bytes{${m}})) > 0)`, { unit: "suffix:x", noValue: "nothing compressed", defaults: { decimals: 1 } })],
        [3, 4, stat("Cache hits", "Share of blocks found in the shared buffers in the last hour.", `max(increase(timescaledb_blocks_hit_total{${m}}[1h])) / ((max(increase(timescaledb_blocks_hit_total{${m}}[1h])) + max(increase(timescaledb_blocks_read_total{${m}}[1h]))) > 0)`, { unit: "percentunit", thresholds: steps("red", [0.9, "orange"], [0.99, "green"]), noValue: "idle", defaults: { max: 1, decimals: 1 } })],
        [3, 4, stat("Scheduler", "Whether a scheduler of TimescaleDB runs for this database. Without one no job runs.", one("timescaledb_scheduler_running"), { thresholds: zeroIsRed, mappings: words({ 0: ["stopped", "red"], 1: ["runs", "green"] }), noValue: "cannot be seen" })],
        [3, 4, stat("Observed ago", "Age of the last observation of the catalog.", `time() - ${one("timescaledb_observation_timestamp_seconds")}`, { unit: "s", thresholds: steps("green", [300, "orange"], [3600, "red"]), noValue: "never" })],
        [3, 4, stat("Statistics ago", "Age of the last reading of sizes and backlogs (spec.statisticsInterval).", `time() - ${one("timescaledb_statistics_timestamp_seconds")}`, { unit: "s", thresholds: steps("green", [1800, "orange"], [7200, "red"]), noValue: "never" })],
      ],
      [
        [
          8,
          8,
          table(
            "Resources",
            "Resources attached to this database, by the reason they give. docs/troubleshooting.md has a section for each reason.",
            [`max by (kind, reason) (timescaledb_policy_operator_resources{${m}}) > 0`],
            [
              ["kind", "Kind"],
              ["reason", "Reason"],
              ["A", "Resources"],
            ],
            { noValue: "no resource is attached" },
          ),
        ],
        [16, 8, alerts(`,${m}`)],
      ],
      "Jobs",
      [[WIDTH, 10, jobs(m, "no job has been seen yet")]],
      [
        [8, 8, graph("Background workers", "Workers of TimescaleDB on the server, of all its databases, and how many there may be.", [[one("timescaledb_background_workers_running"), "running"], [one("timescaledb_background_workers_limit"), "limit"]], { noValue: "not read yet", defaults: { decimals: 0 } })],
        [8, 8, graph("Runs of jobs", "Runs begun and runs that ended with an error, for each hour.", [[`sum(max by (job_id) (increase(timescaledb_job_runs_total{${m}}[1h])))`, "runs"], [`sum(max by (job_id) (increase(timescaledb_job_failures_total{${m}}[1h])))`, "failures"]], { noValue: "no job has run" })],
        [8, 8, graph("Duration of jobs", "How long the last run took, of the ten that took longest.", [[`topk(10, max by (job_id, policy, table) (timescaledb_job_last_run_duration_seconds{${m}}))`, "{{job_id}} {{policy}} {{table}}"]], { unit: "s", noValue: "no job has run" })],
      ],
      "Hypertables and continuous aggregates",
      [
        [
          WIDTH,
          10,
          table(
            "Tables",
            "The name leads to the table's dashboard.",
            [
              `${by} (timescaledb_hypertable_health{${m}})`,
              `${by} (timescaledb_hypertable_chunks{${m}})`,
              `${by} (timescaledb_hypertable_compressed_chunks{${m}})`,
              `${by} (timescaledb_hypertable_size_bytes{${m}})`,
              `${by} (timescaledb_hypertable_compression_ratio{${m}})`,
              `${by} (timescaledb_hypertable_chunks_to_compress{${m}})`,
              `${by} (timescaledb_hypertable_chunks_to_drop{${m}})`,
              `${by} (timescaledb_hypertable_oldest_data_timestamp_seconds{${m}}) * 1000`,
            ],
            [
              ["schema", "Schema"],
              ["table", "Table", { links: [{ title: "Show this table", url: toTable }] }],
              ["kind", "Kind"],
              ["A", "Health", { mappings: health }],
              ["B", "Chunks", { thresholds: steps("green", [1001, "red"]), colored: true }],
              ["C", "Compressed"],
              ["D", "Size", { unit: "bytes" }],
              ["E", "Ratio", { unit: "suffix:x", decimals: 1 }],
              ["F", "To compress", { thresholds: steps("green", [11, "orange"]), colored: true }],
              ["G", "To drop", { thresholds: steps("green", [11, "orange"]), colored: true }],
              ["H", "Oldest data", { unit: "dateTimeFromNow" }],
            ],
            { noValue: "no hypertable has been read yet", sort: "Size" },
          ),
        ],
      ],
      [
        [12, 8, graph("Size of tables", "Bytes on disk of the ten largest.", named("timescaledb_hypertable_size_bytes"), { unit: "bytes", noValue: "not read yet" })],
        [12, 8, graph("Compression ratio", "Bytes before by bytes after, of the compressed chunks.", named("timescaledb_hypertable_compression_ratio", 20), { unit: "suffix:x", noValue: "nothing compressed" })],
      ],
      [
        [12, 8, graph("Chunks to compress", "Chunks older than the compression policy allows. They go with the next run; what stays is a backlog.", named("timescaledb_hypertable_chunks_to_compress"), { thresholds: steps("green", [11, "orange"]), noValue: "no compression policy" })],
        [12, 8, graph("Chunks to drop", "Chunks that the retention policy drops at its next run.", named("timescaledb_hypertable_chunks_to_drop"), { thresholds: steps("green", [11, "orange"]), noValue: "no retention policy" })],
      ],
      [
        [12, 8, graph("Lag of continuous aggregates", "How much less far each is materialised than its refresh policy should have done.", named("timescaledb_continuous_aggregate_lag_seconds", 20), { unit: "s", thresholds: steps("green", [1800, "red"]), showThresholds: true, noValue: "no aggregate with a refresh policy" })],
        [12, 8, graph("Invalidations", "Ranges written to since they were materialised, which the next refresh does again.", named("timescaledb_continuous_aggregate_invalidations", 20), { noValue: "no continuous aggregate" })],
      ],
    ],
  );
};

// ---- one hypertable or aggregate

const hypertable = () => {
  const m = 'namespace="$namespace",database="$database",schema="$schema",table="$table"';
  const one = (metric) => `max(${metric}{${m}})`;
  const line = (metric, legend) => [one(metric), legend];
  const scope = 'namespace="$namespace",database="$database"';
  return dashboard(
    "hypertable",
    "Hypertable",
    "One hypertable or continuous aggregate: chunks, sizes, compression, backlogs, lag and jobs.",
    [
      query("namespace", "Namespace", "label_values(timescaledb_up, namespace)"),
      query("database", "Database", 'label_values(timescaledb_up{namespace="$namespace"}, database)'),
      query("schema", "Schema", `label_values(timescaledb_hypertable_chunks{${scope}}, schema)`),
      query("table", "Table", `label_values(timescaledb_hypertable_chunks{${scope},schema="$schema"}, table)`),
    ],
    [
      [
        [3, 4, stat("Health", "By the thresholds of the TimescaleDatabase. The resource's status has the reasons.", one("timescaledb_hypertable_health"), { mappings: health, noValue: "unknown" })],
        [3, 4, stat("Chunks", "More than 1000 make planning slow.", one("timescaledb_hypertable_chunks"), { thresholds: steps("green", [1001, "red"]), noValue: "none" })],
        [3, 4, stat("Compressed", "Share of the chunks that is compressed.", `${one("timescaledb_hypertable_compressed_chunks")} / (${one("timescaledb_hypertable_chunks")} > 0)`, { unit: "percentunit", noValue: "no chunks", defaults: { max: 1, decimals: 0 } })],
        [3, 4, stat("Ratio", "Bytes of the compressed chunks before, by bytes after.", one("timescaledb_hypertable_compression_ratio"), { unit: "suffix:x", noValue: "nothing compressed", defaults: { decimals: 1 } })],
        [3, 4, stat("Size", "Bytes on disk, with indexes and compressed data.", one("timescaledb_hypertable_size_bytes"), { unit: "bytes", noValue: "not read yet" })],
        [3, 4, stat("Oldest data", "Where the range of the oldest chunk begins.", `${one("timescaledb_hypertable_oldest_data_timestamp_seconds")} * 1000`, { unit: "dateTimeFromNow", noValue: "no chunks, or integer time" })],
        [3, 4, stat("Newest data", "Where the range of the newest chunk ends; in the future while it is written to.", `${one("timescaledb_hypertable_newest_data_timestamp_seconds")} * 1000`, { unit: "dateTimeFromNow", noValue: "no chunks, or integer time" })],
        [3, 4, stat("Lag", "Of an aggregate: how much less far it is materialised than its refresh policy should have done.", one("timescaledb_continuous_aggregate_lag_seconds"), { unit: "s", thresholds: steps("green", [1, "orange"], [1800, "red"]), noValue: "no refresh policy" })],
      ],
      [[WIDTH, 6, jobs(m, "no policy on this table")]],
      [
        [12, 8, graph("Chunks", "Compressed and other chunks.", [line("timescaledb_hypertable_compressed_chunks", "compressed"), [`${one("timescaledb_hypertable_chunks")} - ${one("timescaledb_hypertable_compressed_chunks")}`, "not compressed"]], { stacked: true, noValue: "no chunks", defaults: { decimals: 0 } })],
        [12, 8, graph("Backlogs", "Chunks older than a policy allows. They go with the next run; what stays is a backlog.", [line("timescaledb_hypertable_chunks_to_compress", "to compress"), line("timescaledb_hypertable_chunks_to_drop", "to drop")], { thresholds: steps("green", [11, "orange"]), showThresholds: true, noValue: "no compression or retention policy", defaults: { decimals: 0 } })],
      ],
      [
        [12, 8, graph("Size", "Bytes on disk, and those of the compressed chunks before and after compression.", [line("timescaledb_hypertable_size_bytes", "on disk"), line("timescaledb_hypertable_before_compression_bytes", "before compression"), line("timescaledb_hypertable_after_compression_bytes", "after compression")], { unit: "bytes", noValue: "not read yet" })],
        [12, 8, graph("Compression ratio", "Bytes before by bytes after, of the compressed chunks.", [line("timescaledb_hypertable_compression_ratio", "ratio")], { unit: "suffix:x", noValue: "nothing compressed" })],
      ],
      [
        [12, 8, graph("Lag", "Of an aggregate: how much less far it is materialised than its refresh policy should have done.", [line("timescaledb_continuous_aggregate_lag_seconds", "lag")], { unit: "s", thresholds: steps("green", [1800, "red"]), showThresholds: true, noValue: "no refresh policy" })],
        [12, 8, graph("Invalidations", "Of an aggregate: ranges written to since they were materialised, which the next refresh does again.", [line("timescaledb_continuous_aggregate_invalidations", "ranges")], { noValue: "not a continuous aggregate" })],
      ],
      [
        [12, 8, graph("Duration of jobs", "How long the last run took.", [[`max by (job_id, policy) (timescaledb_job_last_run_duration_seconds{${m}})`, "{{job_id}} {{policy}}"]], { unit: "s", noValue: "no job has run" })],
        [12, 8, graph("Runs of jobs", "Runs begun, and runs that ended with an error, for each hour.", [[`max by (job_id, policy) (increase(timescaledb_job_runs_total{${m}}[1h]))`, "{{job_id}} {{policy}} runs"], [`max by (job_id, policy) (increase(timescaledb_job_failures_total{${m}}[1h])) > 0`, "{{job_id}} {{policy}} failures"]], { noValue: "no job has run" })],
      ],
    ],
  );
};

// ---- the operator itself

const operator = () => {
  const p = "timescaledb_policy_operator";
  const m = 'job=~"$job"';
  const rate = (metric) => `rate(${p}_${metric}{${m}}[$__rate_interval])`;
  return dashboard(
    "operator",
    "Operator",
    "timescaledb-policy-operator itself: its passes, what it does to databases and to the API, and what goes wrong.",
    [query("job", "Job", `label_values(${p}_build_info, job)`, all)],
    [
      [
        [4, 4, stat("Leaders", "Instances that act: one for each release.", `sum(${p}_leader{${m}})`, { thresholds: zeroIsRed, noValue: "not scraped" })],
        [4, 4, stat("Instances", "Instances that Prometheus scrapes.", `count(${p}_build_info{${m}})`, { thresholds: zeroIsRed, noValue: "not scraped" })],
        [4, 4, stat("Version", "Of the instances.", `max by (version) (${p}_build_info{${m}})`, { legend: "{{version}}", textMode: "name", noValue: "not scraped" })],
        [4, 4, stat("Passes running", "Databases that are looked at right now.", `sum(${p}_passes_running{${m}})`, { noValue: "not scraped" })],
        [4, 4, stat("Long steps", "Steps that run beside their pass: rows moved into a hypertable, indexes built.", `sum(${p}_long_steps{${m}})`, { noValue: "not scraped" })],
        [4, 4, stat("Connections", "Connections open to databases.", `sum(${p}_connections{${m}})`, { noValue: "not scraped" })],
      ],
      [
        [12, 8, graph("Passes", "Passes over databases in a second, by outcome: ok, or the class of the error.", [[`sum by (outcome) (${rate("passes_total")})`, "{{outcome}}"]], { unit: "ops", noValue: "no pass in this range" })],
        [12, 8, graph("Duration of a pass", "Median and 99th percentile, long steps not included.", [[`histogram_quantile(0.5, sum by (le) (${rate("pass_duration_seconds_bucket")}))`, "median"], [`histogram_quantile(0.99, sum by (le) (${rate("pass_duration_seconds_bucket")}))`, "99 %"]], { unit: "s", noValue: "no pass in this range" })],
      ],
      [
        [12, 8, graph("Steps", "Steps carried out on databases, for each hour, by action and outcome.", [[`sum by (action, outcome) (increase(${p}_steps_total{${m}}[1h])) > 0`, "{{action}} {{outcome}}"]], { noValue: "nothing was changed in this range" })],
        [12, 8, graph("Drift", "Objects that had drifted, and those that were put right, for each hour.", [[`sum by (kind) (increase(${p}_drift_total{${m}}[1h])) > 0`, "{{kind}} found"], [`sum by (kind) (increase(${p}_drift_corrected_total{${m}}[1h])) > 0`, "{{kind}} corrected"]], { noValue: "no drift in this range" })],
      ],
      [
        [12, 8, graph("Errors", "Errors for each hour, by class and by the reason that the resource shows.", [[`sum by (class, reason) (increase(${p}_errors_total{${m}}[1h])) > 0`, "{{class}} {{reason}}"]], { thresholds: steps("green", [1, "red"]), noValue: "no error in this range" })],
        [12, 8, graph("Resources", "Resources by the reason they give, over all databases. A target of a selector counts as one.", [[`sum by (reason) (max by (namespace, database, kind, reason) (${p}_resources))`, "{{reason}}"]], { stacked: true, noValue: "no resource is attached to a database", defaults: { decimals: 0 } })],
      ],
      [
        [8, 8, graph("Writes to the API", "In a second, by what is written. None while nothing changes.", [[`sum by (kind, write) (${rate("api_writes_total")}) > 0`, "{{kind}} {{write}}"]], { unit: "wps", noValue: "nothing was written in this range" })],
        [8, 8, graph("SQL statements", "In a second, transaction control not counted.", [[`sum(${rate("statements_total")})`, "statements"]], { unit: "ops", noValue: "no statement in this range" })],
        [8, 8, graph("Connections", "Open to databases, and passes and long steps that run.", [[`sum(${p}_connections{${m}})`, "connections"], [`sum(${p}_passes_running{${m}})`, "passes"], [`sum(${p}_long_steps{${m}})`, "long steps"]], { noValue: "not scraped", defaults: { decimals: 0 } })],
      ],
    ],
  );
};

// ---- write, check or print

const folder = join(dirname(fileURLToPath(import.meta.url)), "timescaledb-policy-operator", "dashboards");
const dashboards = [fleet(), database(), hypertable(), operator()];
const files = new Map(dashboards.map((d) => [`${d.uid}.json`, `${JSON.stringify(d, null, 2)}\n`]));

switch (process.argv[2]) {
  case undefined:
    for (const [name, text] of files) writeFileSync(join(folder, name), text);
    break;
  case "--check": {
    const there = readdirSync(folder);
    const differ = [...new Set([...files.keys(), ...there])].filter(
      (name) => !there.includes(name) || readFileSync(join(folder, name), "utf8") !== files.get(name),
    );
    if (differ.length > 0) {
      console.error(`${differ.join(", ")}: not what charts/dashboards.mjs writes; run make generate`);
      process.exit(1);
    }
    break;
  }
  case "--rules": {
    // What Grafana puts in: a range for its own variable, any text for those of the dashboard.
    const rules = dashboards.flatMap(({ uid, panels }) =>
      panels.flatMap(({ id, targets = [] }) =>
        targets.map(({ refId, expr }) => ({
          record: `${uid.replaceAll("-", "_")}:panel_${id}:${refId}`,
          expr: expr.replaceAll("$__rate_interval", "5m").replace(/\$\w+/g, "x"),
        })),
      ),
    );
    console.log(JSON.stringify({ groups: [{ name: "dashboards", rules }] }, null, 1));
    break;
  }
  default:
    console.error(`unknown argument ${process.argv[2]}`);
    process.exit(2);
}
