//! Pictures of curves, as SVG that reads on a light page and on a dark one.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use crate::figure::Chart;

/// Width and height, in pixels.
const SIZE: (u32, u32) = (860, 480);

/// Text, axes and grid: a grey of the middle, apart from black as well as from white.
const INK: RGBColor = RGBColor(125, 133, 144);

/// Curves, in turn, likewise.
const CURVES: [RGBColor; 4] =
    [RGBColor(47, 129, 247), RGBColor(219, 109, 40), RGBColor(163, 113, 247), RGBColor(46, 160, 67)];

const FONT: &str = "sans-serif";
const TITLE_PX: i32 = 18;
const TEXT_PX: i32 = 14;
const MARGIN_PX: i32 = 14;
const X_LABELS_PX: i32 = 48;
const Y_LABELS_PX: i32 = 78;
const POINT_PX: i32 = 4;
const STROKE_PX: u32 = 2;

/// How much of the grid shows.
const GRID_OPACITY: f64 = 0.25;

/// Space above the highest point, as a factor.
const HEADROOM: f64 = 1.1;

/// Draws a chart into a folder.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(chart: &Chart, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.svg", chart.file));
    // No background: that of the page shows.
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    let points = || chart.curves.iter().flat_map(|(_, points)| points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let y_max = above(points().map(|(_, y)| *y).fold(0.0, f64::max));
    let y_min = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let mut builder = ChartBuilder::on(&area);
    builder
        .caption(&chart.title, (FONT, TITLE_PX).into_font().color(&INK))
        .margin(MARGIN_PX)
        .x_label_area_size(X_LABELS_PX)
        .y_label_area_size(Y_LABELS_PX);
    let drawn = if chart.y_is_logarithmic {
        let built = builder.build_cartesian_2d(0.0..x_max, (y_min..y_max).log_scale());
        built.map_err(|error| error.to_string()).and_then(|context| fill(context, chart))
    } else {
        let built = builder.build_cartesian_2d(0.0..x_max, 0.0..y_max);
        built.map_err(|error| error.to_string()).and_then(|context| fill(context, chart))
    };
    drawn
        .and_then(|()| area.present().map_err(|error| error.to_string()))
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn fill<'a, Y>(
    mut context: ChartContext<'a, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    chart: &Chart,
) -> Result<(), String>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = || (FONT, TEXT_PX).into_font().color(&INK);
    context
        .configure_mesh()
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .axis_style(INK)
        .bold_line_style(INK.mix(GRID_OPACITY))
        .light_line_style(TRANSPARENT)
        .label_style(text())
        .axis_desc_style(text())
        .draw()
        .map_err(|error| error.to_string())?;
    for ((name, points), color) in chart.curves.iter().zip(CURVES.iter().cycle()) {
        let style = color.stroke_width(STROKE_PX);
        let series = LineSeries::new(points.iter().copied(), style).point_size(POINT_PX.unsigned_abs());
        context
            .draw_series(series)
            .map_err(|error| error.to_string())?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + MARGIN_PX, y)], style));
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(INK.mix(GRID_OPACITY))
        .label_font(text())
        .draw()
        .map_err(|error| error.to_string())
}

/// A number of an axis, without the digits that say nothing.
fn label(value: &f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::float_arithmetic, reason = "the end of an axis")]
fn above(value: f64) -> f64 {
    value * HEADROOM
}
