//! The plot of a forecast, as SVG.

use plotters::prelude::*;

use super::{Course, Report};
use crate::catalog::history::float;

const SIZE: (u32, u32) = (960, 480);
const PAST: RGBColor = RGBColor(60, 72, 88);
const COMING: RGBColor = RGBColor(31, 119, 180);
const LIMIT: RGBColor = RGBColor(200, 60, 50);

/// History, forecast with its band, and the size that was asked for, of all tables together.
///
/// # Errors
/// When the plot cannot be drawn, which is a defect.
pub fn svg(report: &Report) -> Result<String, String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let Course { history, forecast, .. } = &report.total;
    let at = |time: jiff::Timestamp| time.as_second();
    let now = at(report.now);
    let first = history.first().map_or(now, |past| at(past.at));
    let last = forecast.last().map_or(now + 1, |point| at(point.at));
    let sizes = history.iter().map(|past| past.bytes).chain(forecast.iter().map(|point| point.high));
    let highest = sizes.map(float).fold(1.0, f64::max);
    // One that is far off would press everything else to the ground.
    let limit = report.until.map(|until| float(until.bytes)).filter(|limit| *limit <= highest * 2.5);
    let highest = highest.max(limit.unwrap_or(0.0));
    let (unit, unit_name) = unit(highest);

    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Storage: history and forecast", ("sans-serif", 20))
        .margin(16)
        .margin_right(48)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d(first..last, 0.0..highest / unit * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 228, 232))
        .axis_style(RGBColor(160, 165, 172))
        .label_style(("sans-serif", 13))
        .x_labels(8)
        .x_label_formatter(&|seconds| {
            jiff::Timestamp::from_second(*seconds)
                .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d").to_string())
        })
        .y_label_formatter(&|size| format!("{size} {unit_name}"))
        .draw()?;
    let band = forecast.iter().map(|point| (at(point.at), float(point.high) / unit));
    let back = forecast.iter().rev().map(|point| (at(point.at), float(point.low) / unit));
    let outline: Vec<_> = band.chain(back).collect();
    chart
        .draw_series(std::iter::once(Polygon::new(outline, COMING.mix(0.18))))?
        .label("9 of 10 chances")
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], COMING.mix(0.18).filled()));
    chart
        .draw_series(LineSeries::new(
            history.iter().map(|past| (at(past.at), float(past.bytes) / unit)),
            PAST.stroke_width(2),
        ))?
        .label("chunks that are there")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], PAST.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(
            forecast.iter().map(|point| (at(point.at), float(point.bytes) / unit)),
            COMING.stroke_width(2),
        ))?
        .label("forecast")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], COMING.stroke_width(2)));
    if let Some(limit) = limit.map(|limit| limit / unit) {
        chart
            .draw_series(LineSeries::new([(first, limit), (last, limit)], LIMIT.stroke_width(1)))?
            .label("size asked for")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], LIMIT.stroke_width(1)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}

/// The largest binary unit that is no larger than the size.
fn unit(size: f64) -> (f64, &'static str) {
    let units = [("PiB", 5), ("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)];
    let units = units.map(|(name, power)| (1024_f64.powi(power), name));
    units.into_iter().find(|(bytes, _)| *bytes <= size).unwrap_or((1.0, "B"))
}
