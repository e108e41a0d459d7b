//! Plots, as SVG that stands in a page. Colours are classes, so that the page decides between light and dark.

use std::fmt::Write as _;

/// The size of a plot, and the room around it for its axes.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are, from 0.
    Linear,
    /// Each factor of ten takes as much room.
    Logarithmic,
}

/// One line, or one layer.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Which colour, from 0.
    pub color: usize,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What stands below that.
    pub note: &'a str,
    /// How its values become places.
    pub scale: Scale,
    /// Whether the series lie one upon the other.
    pub stacked: bool,
    /// The marks below: places and texts. None: seconds.
    pub marks: Vec<(f64, String)>,
    /// How a value is written.
    pub value: fn(f64) -> String,
    /// What is plotted.
    pub series: Vec<Series>,
}

/// Text in a page.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot<'_> {
    /// As a figure of a page; nothing, if there is nothing to show.
    #[must_use]
    pub fn figure(&self) -> String {
        let series: Vec<_> = self.series.iter().filter(|series| series.points.len() > 1).collect();
        if series.is_empty() {
            return String::new();
        }
        let layers = self.layers(&series);
        let xs = || layers.iter().flat_map(|layer| layer.iter().map(|(x, ..)| *x));
        let (first, last) = (xs().fold(f64::MAX, f64::min), xs().fold(f64::MIN, f64::max));
        let last = if last > first { last } else { first + 1.0 };
        let top = layers.iter().flatten().map(|(_, _, y)| *y).fold(0.0, f64::max);
        let positive = layers.iter().flatten().map(|(_, _, y)| *y).filter(|y| *y > 0.0).fold(f64::MAX, f64::min);
        let ticks = self.ticks(positive, top);
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let place_x = |x: f64| LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let place_y = |y: f64| {
            let share = match self.scale {
                Scale::Linear => y / high,
                Scale::Logarithmic => (y.max(low) / low).ln() / (high / low).ln(),
            };
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(self.title));
        // Writing to a string cannot fail.
        for tick in &ticks {
            let (y, text) = (place_y(*tick), (self.value)(*tick));
            let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
            let _ = write!(svg, r#"<text class="y" x="{}" y="{:.1}">{}</text>"#, LEFT - 6.0, y + 4.0, escape(&text));
        }
        for (x, text) in self.marks(first, last) {
            let _ =
                write!(svg, r#"<text class="x" x="{:.1}" y="{}">{}</text>"#, place_x(x), HEIGHT - 8.0, escape(&text));
        }
        for (series, layer) in series.iter().zip(&layers).rev() {
            let upper = || layer.iter().map(|(x, _, y)| (place_x(*x), place_y(*y)));
            let name = escape(&series.name);
            if self.stacked {
                let lower = layer.iter().rev().map(|(x, y, _)| (place_x(*x), place_y(*y)));
                let area = path(upper().chain(lower));
                let _ = write!(svg, r#"<path class="area c{}" d="{area}Z"><title>{name}</title></path>"#, series.color);
            } else {
                let dashed = if series.dashed { " dashed" } else { "" };
                let line = path(upper());
                let _ = write!(
                    svg,
                    r#"<path class="line c{}{dashed}" d="{line}"><title>{name}</title></path>"#,
                    series.color
                );
            }
        }
        svg.push_str("</svg>");
        let key = |series: &&Series| {
            let dashed = if series.dashed { " dashed" } else { "" };
            format!(r#"<span><i class="c{}{dashed}"></i>{}</span>"#, series.color, escape(&series.name))
        };
        let keys: String = series.iter().map(key).collect();
        let (title, note) = (escape(self.title), escape(self.note));
        format!(r#"<figure><figcaption><b>{title}</b> {note}</figcaption><div class="keys">{keys}</div>{svg}</figure>"#)
    }

    /// Each series as x, lower and upper edge.
    fn layers(&self, series: &[&Series]) -> Vec<Vec<(f64, f64, f64)>> {
        let mut floor: Vec<f64> = Vec::new();
        let mut layers = Vec::new();
        for series in series {
            let mut layer = Vec::with_capacity(series.points.len());
            for (n, (x, y)) in series.points.iter().enumerate() {
                let low = if self.stacked { floor.get(n).copied().unwrap_or(0.0) } else { 0.0 };
                layer.push((*x, low, low + y));
            }
            floor = layer.iter().map(|(_, _, upper)| *upper).collect();
            layers.push(layer);
        }
        layers
    }

    fn ticks(&self, positive: f64, top: f64) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let top = if top > 0.0 { top } else { 1.0 };
                let rough = top / 4.0;
                let magnitude = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * magnitude).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                (0..=(top / step).ceil() as u32).map(|n| f64::from(n) * step).collect()
            }
            Scale::Logarithmic => {
                let low = positive.min(top.max(1.0)).max(1.0).log10().floor() as i32;
                let high = (top.max(1.0).log10().ceil() as i32).max(low + 1);
                (low..=high).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }

    fn marks(&self, first: f64, last: f64) -> Vec<(f64, String)> {
        if !self.marks.is_empty() {
            return self.marks.iter().filter(|(x, _)| (first..=last).contains(x)).cloned().collect();
        }
        let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0];
        let step = steps.into_iter().find(|step| (last - first) / step <= 8.0).unwrap_or(86_400.0);
        let from = (first / step).ceil() as u64;
        let marks = (from..).map(|n| n as f64 * step).take_while(|at| *at <= last);
        let text = |at: f64| if step < 60.0 { format!("{at:.0} s") } else { format!("{:.0} min", at / 60.0) };
        marks.map(|at| (at, text(at))).collect()
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (n, (x, y)) in points.enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(path, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' });
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, stacked: bool, series: Vec<Series>) -> Plot<'static> {
        Plot { title: "A <b>", note: "", scale, stacked, marks: Vec::new(), value: |value| format!("{value}"), series }
    }

    fn series(points: &[(f64, f64)]) -> Series {
        Series { name: "one & other".into(), color: 0, dashed: false, points: points.to_vec() }
    }

    #[test]
    fn nothing_is_plotted_of_nothing() {
        assert_eq!(plot(Scale::Linear, false, vec![series(&[(0.0, 1.0)])]).figure(), "");
    }

    #[test]
    fn values_stand_where_they_should() {
        let svg = plot(Scale::Linear, false, vec![series(&[(0.0, 0.0), (10.0, 4.0)])]).figure();
        // From the lower left corner to the upper right one, within the room for axes.
        assert!(svg.contains(r#"d="M58.0 214.0L616.0 10.0""#), "{svg}");
        assert!(svg.contains("A &lt;b&gt;") && svg.contains("one &amp; other"));
        let svg = plot(Scale::Logarithmic, false, vec![series(&[(0.0, 10.0), (1.0, 100.0), (2.0, 1_000.0)])]).figure();
        assert!(svg.contains(r#"d="M58.0 214.0L337.0 112.0L616.0 10.0""#), "{svg}");
    }

    #[test]
    fn layers_lie_upon_each_other() {
        let layers = vec![series(&[(0.0, 1.0), (1.0, 1.0)]), series(&[(0.0, 3.0), (1.0, 3.0)])];
        let svg = plot(Scale::Linear, true, layers).figure();
        assert!(svg.contains(r#"d="M58.0 10.0L616.0 10.0L616.0 163.0L58.0 163.0Z""#), "{svg}");
    }

    #[test]
    fn values_that_do_not_change_are_plotted_all_the_same() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = plot(scale, false, vec![series(&[(0.0, 0.0), (1.0, 0.0)])]).figure();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
