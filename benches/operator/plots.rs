//! The plots of the report, as SVG.

use std::path::Path;

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::combinators::IntoLogRange,
    prelude::{IntoDrawingArea, SVGBackend},
    series::LineSeries,
    style::{BLACK, Color, RGBColor, WHITE},
};

use crate::{
    report::Report,
    support::{Error, Result},
};

/// A line: what it shows, and its points.
type Line = (&'static str, Vec<(f64, f64)>);

const COLOURS: [RGBColor; 3] = [RGBColor(0, 92, 175), RGBColor(190, 90, 20), RGBColor(90, 90, 90)];

pub fn draw(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let of = |value: &dyn Fn(&crate::growth::Grown) -> f64| -> Vec<(f64, f64)> {
        report.grown.iter().map(|grown| (grown.resources as f64, value(grown))).collect()
    };
    let convergence = [
        ("operator", of(&|g| g.convergence.took.as_secs_f64())),
        ("the same SQL and statuses alone", of(&|g| (g.convergence.script + g.convergence.bare).as_secs_f64())),
    ];
    plot(&folder.join("bench-convergence.svg"), "First convergence", "seconds", &convergence)?;
    let steady = [
        ("CPU of a resync", of(&|g| g.steady.cpu.as_secs_f64() * 1e3)),
        ("1 ms for 100 resources", of(&|g| g.resources as f64 / 100.0)),
    ];
    plot(&folder.join("bench-resync.svg"), "Resync with nothing to do", "milliseconds", &steady)?;
    let memory = [
        ("converged", of(&|g| g.memory)),
        ("peak of a new list", of(&|g| g.relist_peak)),
        ("after a restart", of(&|g| g.restarted_memory)),
    ];
    plot(&folder.join("bench-memory.svg"), "Resident memory", "MiB", &memory)
}

fn plot(file: &Path, caption: &str, unit: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let bound = |of: fn(&(f64, f64)) -> f64, pick: fn(f64, f64) -> f64, start: f64| points().map(of).fold(start, pick);
    let (left, right) = (bound(|p| p.0, f64::min, f64::MAX), bound(|p| p.0, f64::max, 1.0));
    let (low, high) = (bound(|p| p.1, f64::min, f64::MAX), bound(|p| p.1, f64::max, 0.0));
    if points().count() < 2 || right <= left {
        return Ok(());
    }
    let area = SVGBackend::new(file, (720, 400)).into_drawing_area();
    area.fill(&WHITE).map_err(plotted)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right * 1.1).log_scale(), (low.max(0.001) * 0.7..high * 1.5).log_scale())
        .map_err(plotted)?;
    chart
        .configure_mesh()
        .x_desc("resources")
        .y_desc(unit)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()
        .map_err(plotted)?;
    for ((label, points), colour) in lines.iter().zip(COLOURS) {
        let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(series)
            .map_err(plotted)?
            .label(*label)
            .legend(move |(x, y)| plotters::prelude::PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(plotted)?;
    area.present().map_err(plotted)
}

fn plotted(error: impl std::fmt::Display) -> Error {
    error.to_string().into()
}
