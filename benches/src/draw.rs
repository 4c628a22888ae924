//! Plots of lines with several points, as SVG. Ranges follow the points.

use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::error::{BenchError, Doing, Result};
use crate::report::Plot;

const SIZE: (u32, u32) = (760, 380);
/// Colours that can be told apart without seeing red or green.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
];
const MARGIN: i32 = 12;
const LABEL_SPACE: u32 = 56;

/// Draws all plots into a folder.
pub(crate) fn all(plots: &[Plot], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(format!("making {}", folder.display()))?;
    for plot in plots {
        let mut text = String::new();
        one(plot, &mut text)
            .map_err(|e| BenchError::wrong(format!("drawing {}: {e}", plot.name)))?;
        let path = folder.join(plot.name).with_extension("svg");
        std::fs::write(&path, text).doing(format!("writing {}", path.display()))?;
    }
    Ok(())
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn one(plot: &Plot, text: &mut String) -> Drawn {
    let points = plot.curves.iter().flat_map(|curve| &curve.points);
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.copied().unzip();
    let (x, y) = (bounds(&xs, plot.powers.0), bounds(&ys, plot.powers.1));
    match plot.powers {
        (false, false) => curves(plot, text, x.0..x.1, y.0..y.1),
        (true, false) => curves(plot, text, (x.0..x.1).log_scale(), y.0..y.1),
        (false, true) => curves(plot, text, x.0..x.1, (y.0..y.1).log_scale()),
        (true, true) => curves(plot, text, (x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
    }
}

/// From zero, or slightly below the least on a logarithmic axis, to slightly above the greatest.
fn bounds(values: &[f64], powers: bool) -> (f64, f64) {
    let most = values.iter().copied().fold(f64::MIN, f64::max).max(1e-9);
    let least = values.iter().copied().fold(most, f64::min).max(1e-9);
    if powers {
        (least * 0.8, most * 1.25)
    } else {
        // Leaves room for the legend.
        (0.0, most * 1.35)
    }
}

fn curves<X, Y>(
    plot: &Plot,
    text: &mut String,
    x: impl AsRangedCoord<CoordDescType = X, Value = f64>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&plot.title, ("sans-serif", 16))
        .margin(MARGIN)
        .x_label_area_size(LABEL_SPACE)
        .y_label_area_size(LABEL_SPACE)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(8)
        .x_desc(plot.axes.0)
        .y_desc(plot.axes.1)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .light_line_style(WHITE)
        .draw()?;
    for (curve, colour) in plot.curves.iter().zip(COLOURS) {
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Returns a short number for an axis.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that plotters requires"
)]
fn number(value: &f64) -> String {
    match *value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e4 => format!("{} k", v / 1e3),
        v if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v => format!("{v:.2}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Curve;

    #[test]
    fn every_curve_and_axis_is_named_in_the_picture() {
        for powers in [(false, false), (true, false), (false, true), (true, true)] {
            let plot = Plot {
                name: "p",
                title: "the heading".to_owned(),
                axes: ("seconds", "metres"),
                powers,
                curves: vec![Curve {
                    name: "the curve".to_owned(),
                    points: vec![(1.0, 2.0), (10.0, 30.0)],
                }],
            };
            let mut text = String::new();
            one(&plot, &mut text).unwrap();
            for wanted in ["the heading", "seconds", "metres", "the curve", "polyline"] {
                assert!(text.contains(wanted), "{powers:?}: {wanted}");
            }
        }
    }

    #[test]
    fn a_plot_of_nothing_is_drawn_too() {
        let plot = Plot {
            name: "p",
            title: String::new(),
            axes: ("x", "y"),
            powers: (true, true),
            curves: Vec::new(),
        };
        one(&plot, &mut String::new()).unwrap();
    }
}
