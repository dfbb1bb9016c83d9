//! What was measured, as Markdown.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    catalog::Catalog, changes::Latencies, fleet::Fleet, growth::Grown, long::Long, ms5::Ms5, plots, support::Result,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
const TEMPLATE: &str = include_str!("page.md.template");
const NOT_MEASURED: &str = "Not measured in this run.";

pub struct Report {
    machine: String,
    versions: String,
    pub grown: Vec<Grown>,
    pub fleet: Option<Fleet>,
    pub long: Option<Long>,
    pub ms5: Option<Ms5>,
    pub catalogs: Vec<Catalog>,
}

impl Report {
    pub async fn begin(native: bool) -> Result<Self> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("", |(_, model)| model);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = format!("{cores} cores ({model}), {:.0} GiB of memory", memory / 1024.0 / 1024.0);
        let database = crate::database::Database::start().await?;
        let postgres: String = database.value("SELECT split_part(version(), ' ', 2)").await?;
        let extension: String =
            database.value("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").await?;
        database.end().await?;
        let cluster = crate::cluster::Cluster::start().await?;
        let kubernetes = cluster.client().apiserver_version().await?.git_version;
        let how = if native { "native" } else { "WebAssembly" };
        let versions = format!(
            "timescaledb-policy-operator {} (release), TimescaleDB {extension} on PostgreSQL {postgres} ({how}), Kubernetes API server {kubernetes} (etcd without fsync)",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Self { machine, versions, grown: Vec::new(), fleet: None, long: None, ms5: None, catalogs: Vec::new() })
    }

    /// Writes the page and its plots as far as they are measured, where the server is a native one.
    pub fn save(&self, native: bool) -> Result<()> {
        if !native {
            return Ok(());
        }
        std::fs::write(PAGE, self.page())?;
        plots::draw(self, &Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images"))
    }

    /// Prints the targets, and where nothing was written the whole page.
    pub fn print(&self, native: bool) {
        println!("{}", if native { self.targets() } else { self.page() });
    }

    fn page(&self) -> String {
        let mut page = TEMPLATE.to_owned();
        for (mark, text) in [
            ("machine", self.machine.clone()),
            ("versions", self.versions.clone()),
            ("targets", self.targets()),
            ("convergence", self.convergence()),
            ("steady", self.steady()),
            ("changes", self.changes()),
            ("memory", self.memory()),
            ("restart", self.restart()),
            ("fleet", self.fleet()),
            ("long", self.long()),
            ("ms5", self.ms5()),
            ("catalogs", self.catalogs()),
        ] {
            page = page.replace(&format!("<!-- {mark} -->"), text.trim_end());
        }
        page
    }

    fn of(&self, resources: usize) -> Option<&Grown> {
        self.grown.iter().find(|grown| grown.resources == resources)
    }

    fn targets(&self) -> String {
        let mut rows = vec![["", "target", "measured", ""].map(str::to_owned)];
        let mut add = |what: &str, target: &str, measured: String, met: bool| {
            rows.push([
                what.to_owned(),
                target.to_owned(),
                measured,
                if met { "met" } else { "**missed**" }.to_owned(),
            ]);
        };
        if let Some(Grown { convergence: c, .. }) = self.of(1000) {
            let ratio = c.took.as_secs_f64() / (c.script + c.bare).as_secs_f64();
            add("first convergence of 1,000 resources", "≤ 1.3 × the raw cost", format!("{ratio:.2} ×"), ratio <= 1.3);
        }
        if let Some(Grown { convergence: c, .. }) = self.of(10_000) {
            add("first convergence of 10,000 resources", "≤ 60 s", seconds(c.took), c.took <= Duration::from_secs(60));
        }
        if let (Some(few), Some(many)) = (self.grown.first(), self.grown.last()) {
            let (a, b) = (few.steady.statements, many.steady.statements);
            let what = format!(
                "queries of a resync, {} and {} resources",
                thousands(few.resources),
                thousands(many.resources)
            );
            add(&what, "the same", format!("{a:.0} and {b:.0}"), (a - b).abs() < 0.05);
            let writes: f64 = self.grown.iter().map(|grown| grown.steady.writes).sum();
            add("API writes of a resync", "0", format!("{writes:.0}"), writes == 0.0);
            let each = many.steady.cpu.as_secs_f64() * 1e3 * 100.0 / many.resources as f64;
            let what = format!("CPU of a resync for 100 of {} resources", thousands(many.resources));
            add(&what, "≤ 1 ms", format!("{each:.2} ms"), each <= 1.0);
        }
        for grown in self.grown.iter().filter(|grown| grown.resources >= 1000) {
            let (n, idle) = (thousands(grown.resources), grown.idle.catalog(0.5));
            add(
                &format!("a change, visible in the database, of {n}, idle, p50"),
                "≤ 100 ms",
                milliseconds(idle),
                idle.as_millis() <= 100,
            );
            let p99 = grown.idle.catalog(0.99);
            add("the same, p99", "≤ 1 s", milliseconds(p99), p99.as_secs_f64() <= 1.0);
        }
        if let Some(Grown { restart, .. }) = self.of(1000) {
            add(
                "restart with 1,000 resources, all observed",
                "≤ 5 s",
                seconds(restart.took),
                restart.took.as_secs_f64() <= 5.0,
            );
        }
        for grown in self.grown.iter().filter(|grown| grown.resources >= 1000) {
            let writes = grown.restart.writes as f64 + grown.restart.steps;
            add(
                &format!("writes of a restart with {} resources", thousands(grown.resources)),
                "0",
                format!("{writes:.0}"),
                writes == 0.0,
            );
        }
        for (resources, most) in [(1000, 30.0), (10_000, 100.0)] {
            if let Some(grown) = self.of(resources) {
                let what = format!("resident memory at {} resources", thousands(resources));
                add(&what, &format!("≤ {most} MiB"), mebibytes(grown.memory), grown.memory <= most);
            }
        }
        if let Some(most) = self.grown.iter().map(|grown| grown.steady.connections).max_by(f64::total_cmp) {
            add("connections in the steady state", "1", format!("{most:.0}"), most <= 1.0);
        }
        table(&rows)
    }

    fn convergence(&self) -> String {
        let mut rows = vec![
            [
                "resources",
                "converged",
                "SQL alone",
                "statuses alone",
                "ratio",
                "CPU",
                "passes",
                "statements",
                "steps",
                "statuses",
                "finalizers",
                "events",
            ]
            .map(str::to_owned),
        ];
        for Grown { resources, convergence: c, .. } in &self.grown {
            rows.push([
                thousands(*resources),
                seconds(c.took),
                seconds(c.script),
                seconds(c.bare),
                format!("{:.2}", c.took.as_secs_f64() / (c.script + c.bare).as_secs_f64()),
                seconds(c.cpu),
                number(c.passes),
                number(c.statements),
                number(c.steps),
                number(c.statuses),
                number(c.finalizers),
                number(c.events),
            ]);
        }
        table(&rows)
    }

    fn steady(&self) -> String {
        let mut rows = vec![
            [
                "resources",
                "queries",
                "KiB sent",
                "KiB received",
                "API requests",
                "API writes",
                "CPU",
                "CPU for 100",
                "duration",
            ]
            .map(str::to_owned),
        ];
        for Grown { resources, steady: s, .. } in &self.grown {
            rows.push([
                thousands(*resources),
                format!("{:.1}", s.statements),
                format!("{:.1}", s.bytes[0] / 1024.0),
                format!("{:.1}", s.bytes[1] / 1024.0),
                format!("{:.1}", s.requests),
                number(s.writes),
                milliseconds(s.cpu),
                format!("{:.2} ms", s.cpu.as_secs_f64() * 1e5 / *resources as f64),
                milliseconds(s.took),
            ]);
        }
        table(&rows)
    }

    fn changes(&self) -> String {
        let mut rows = vec![
            ["resources", "meanwhile", "changes", "catalog p50", "p95", "p99", "status p50", "p95", "p99"]
                .map(str::to_owned),
        ];
        for grown in &self.grown {
            for (meanwhile, latencies) in [("nothing", &grown.idle), ("a resync every second", &grown.busy)] {
                let [a, b, c, d, e, f] = quantiles(latencies);
                rows.push([
                    thousands(grown.resources),
                    meanwhile.to_owned(),
                    latencies.len().to_string(),
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                ]);
            }
        }
        table(&rows)
    }

    fn memory(&self) -> String {
        let mut rows = vec![
            ["resources", "converged", "peak until then", "peak of a new list", "after a restart"].map(str::to_owned),
        ];
        for grown in &self.grown {
            let all = [grown.memory, grown.peak, grown.relist_peak, grown.restarted_memory].map(mebibytes);
            let [a, b, c, d] = all;
            rows.push([thousands(grown.resources), a, b, c, d]);
        }
        table(&rows)
    }

    fn restart(&self) -> String {
        let mut rows =
            vec![["resources", "all observed after", "writes to the API", "steps on the database"].map(str::to_owned)];
        for Grown { resources, restart, .. } in &self.grown {
            rows.push([
                thousands(*resources),
                seconds(restart.took),
                restart.writes.to_string(),
                number(restart.steps),
            ]);
        }
        table(&rows)
    }

    fn fleet(&self) -> String {
        let Some(fleet) = &self.fleet else { return NOT_MEASURED.to_owned() };
        let mut text = format!(
            "{} databases with {} resources each converge in {}, with {} of resident memory and {} connections then. A pass over one of them takes {} of CPU.\n\n",
            fleet.databases,
            fleet.resources / fleet.databases,
            seconds(fleet.convergence),
            mebibytes(fleet.memory),
            number(fleet.connections),
            milliseconds(fleet.cpu),
        );
        let mut rows = vec![
            ["trouble", "passes in a minute", "changes", "catalog p50", "p95", "p99", "status p50", "p95", "p99"]
                .map(str::to_owned),
        ];
        for trouble in &fleet.troubles {
            let [a, b, c, d, e, f] = quantiles(&trouble.latencies);
            rows.push([
                trouble.what.to_owned(),
                number(trouble.passes),
                trouble.latencies.len().to_string(),
                a,
                b,
                c,
                d,
                e,
                f,
            ]);
        }
        text.push_str(&table(&rows));
        text
    }

    fn long(&self) -> String {
        let Some(long) = &self.long else { return NOT_MEASURED.to_owned() };
        let mut rows = vec![
            ["meanwhile", "took", "status after", "changes", "catalog p50", "p95", "p99", "status p50", "p95", "p99"]
                .map(str::to_owned),
        ];
        let mut add = |what: &str, times: [String; 2], latencies: &Latencies| {
            let ([took, ready], [a, b, c, d, e, f]) = (times, quantiles(latencies));
            rows.push([what.to_owned(), took, ready, latencies.len().to_string(), a, b, c, d, e, f]);
        };
        add("nothing", ["", ""].map(str::to_owned), &long.idle);
        for statement in &long.statements {
            add(statement.what, [seconds(statement.took), seconds(statement.ready)], &statement.latencies);
        }
        let size = mebibytes(long.bytes as f64 / 1024.0 / 1024.0);
        format!("{} rows, {size} without indexes, in 20 chunks of a day.\n\n{}", thousands(long.rows), table(&rows))
    }

    fn ms5(&self) -> String {
        let Some(ms5) = &self.ms5 else { return NOT_MEASURED.to_owned() };
        let rows: i64 = ms5.tables.iter().map(|table| table.rows).sum();
        let mut text = format!(
            "{} rows, {} of `metric_hist` in a second. All {} resources were in sync {} after the start of the operator, and the jobs of the compression policies took {}.\n\n",
            thousands(rows as usize),
            ms5.rate,
            ms5.resources,
            seconds(ms5.ready),
            seconds(ms5.compressing),
        );
        let mut sizes = vec![
            [
                "table",
                "rows",
                "plain table",
                "hypertable",
                "compressed chunks",
                "their size before",
                "after",
                "saved",
                "claimed",
            ]
            .map(str::to_owned),
        ];
        let size = |bytes: i64| mebibytes(bytes as f64 / 1024.0 / 1024.0);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let saved = |before: i64, after: i64| {
            if before > 0 { percent(1.0 - after as f64 / before as f64) } else { String::new() }
        };
        for of in &ms5.tables {
            sizes.push([
                format!("`{}`", of.name),
                thousands(of.rows as usize),
                size(of.plain),
                size(of.hypertable),
                format!("{} of {}", of.compressed, of.chunks),
                size(of.before),
                size(of.after),
                saved(of.before, of.after),
                of.claimed.map(percent).unwrap_or_default(),
            ]);
        }
        let sum = |of: fn(&crate::ms5::Table) -> i64| ms5.tables.iter().map(of).sum::<i64>();
        let (before, after) = (sum(|table| table.before), sum(|table| table.after));
        sizes.push([
            "all".to_owned(),
            thousands(rows as usize),
            size(sum(|table| table.plain)),
            size(sum(|table| table.hypertable)),
            format!("{} of {}", sum(|table| table.compressed), sum(|table| table.chunks)),
            size(before),
            size(after),
            saved(before, after),
            "80 %".to_owned(),
        ]);
        text.push_str(&table(&sizes));

        let ratio = |some: Duration, other: Duration| format!("{:.1} ×", some.as_secs_f64() / other.as_secs_f64());
        let columns = ["query", "plain table", "hypertable", "aggregate", "hypertable / aggregate", "claimed"];
        let mut dashboards = vec![columns.map(str::to_owned)];
        for of in &ms5.dashboards {
            dashboards.push([
                of.what.to_owned(),
                milliseconds(of.plain),
                milliseconds(of.hypertable),
                milliseconds(of.aggregate),
                ratio(of.hypertable, of.aggregate),
                of.claimed.to_owned(),
            ]);
        }
        let _ = write!(text, "\n{}", table(&dashboards));

        let columns = ["`metric_hist`", "plain table", "hypertable", "hypertable / plain table", "claimed"];
        let mut accesses = vec![columns.map(str::to_owned)];
        for of in &ms5.accesses {
            accesses.push([
                of.what.to_owned(),
                milliseconds(of.before),
                milliseconds(of.after),
                format!("{:.2} ×", of.after.as_secs_f64() / of.before.as_secs_f64()),
                of.claimed.to_owned(),
            ]);
        }
        let _ = write!(text, "\n{}", table(&accesses));
        text
    }

    fn catalogs(&self) -> String {
        let (Some(small), Some(large)) = (self.catalogs.first(), self.catalogs.last()) else {
            return NOT_MEASURED.to_owned();
        };
        let chunks = |catalog: &Catalog| format!("{} chunks", thousands(catalog.chunks));
        let mut rows = vec![[
            "query (`sql/`)".to_owned(),
            chunks(small),
            chunks(large),
            "ratio".to_owned(),
            "rows of the answer".to_owned(),
            "its size".to_owned(),
            "most rows read by a node of the plan".to_owned(),
        ]];
        for (few, many) in small.queries.iter().zip(&large.queries) {
            rows.push([
                many.name.to_owned(),
                milliseconds(few.took),
                milliseconds(many.took),
                format!("{:.1}", many.took.as_secs_f64() / few.took.as_secs_f64()),
                many.rows.to_string(),
                format!("{:.1} KiB", many.bytes as f64 / 1024.0),
                format!("{}: {}", many.widest.0, thousands(many.widest.1 as usize)),
            ]);
        }
        table(&rows)
    }
}

fn quantiles(latencies: &Latencies) -> [String; 6] {
    let (catalog, status) = (|q| milliseconds(latencies.catalog(q)), |q| milliseconds(latencies.status(q)));
    [catalog(0.5), catalog(0.95), catalog(0.99), status(0.5), status(0.95), status(0.99)]
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if n == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(N));
        }
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

fn mebibytes(mebibytes: f64) -> String {
    format!("{mebibytes:.1} MiB")
}

fn number(value: f64) -> String {
    thousands(value.round() as usize)
}

fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
