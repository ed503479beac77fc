//! Line charts and stacked bars as SVG, for reports that GitHub shows.
//! Knows nothing of what it draws, and never fails: a value that has no place on its axis is left out.

use std::ops::RangeInclusive;

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    /// There are eleven colours: a twelfth line has the first one's.
    pub series: Vec<Series>,
    /// Places on the axes that say something.
    pub marks: Vec<Mark>,
    /// Where it comes from, below it in small print: a copied picture tells it too.
    pub source: String,
}

/// A place on an axis: a dashed line across, with its name. It is on the chart if the lines are.
#[derive(Clone, Debug)]
pub enum Mark {
    X(f64, String),
    Y(f64, String),
}

/// What an axis shows: what is counted, with its unit, and where a value stands.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
}

/// How a value becomes a position on an axis. Of values beyond 1e100 none has a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly, and always with zero.
    Linear,
    /// By decades, without zero and less.
    Log,
    /// Quantiles from 0 to 1 - 1e-8, as HdrHistogram draws them: at log10(1 / (1 - q)).
    Percentile,
}

/// One line through points, x and y, in their order. A point left out is a gap in it.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// For what is not measured, or lies on top of another line.
    pub dashed: bool,
}

impl Series {
    /// A plain line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, dashed: false }
    }
}

/// Horizontal bars, each a name and a stack of parts. A part's name has one colour in all bars; a part below
/// zero is left out.
#[derive(Clone, Debug)]
pub struct Bars {
    pub title: String,
    pub unit: String,
    pub bars: Vec<(String, Vec<(String, f64)>)>,
    /// As of a [`Plot`].
    pub source: String,
}

const WIDTH: f64 = 760.0;
const EDGE: f64 = 20.0;
const LEGEND_ROW: f64 = 22.0;
const PLOT_HEIGHT: f64 = 284.0;
const BAR_ROW: f64 = 48.0;
const BAR_HEIGHT: f64 = 28.0;
/// Right of the chart: a bar's sum.
const RIGHT: f64 = 48.0;
/// Left of the chart, at most: its numbers or the names of the bars.
const LEFT_MAX: f64 = 200.0;
/// Below the chart: its numbers and the label.
const FOOT: f64 = 78.0;
/// A line with more points has no marks on them.
const MARKS_MAX: usize = 40;

/// So that no sum and no power of ten overflows.
const VALUES: RangeInclusive<f64> = 1e-100..=1e100;
/// So many that their numbers do not touch.
const INTERVALS_MAX: f64 = 8.0;
/// What rounding may have added to a position, in intervals.
const ROUNDING: f64 = 1e-9;
/// No run has the samples to know more of its tail.
const QUANTILES: RangeInclusive<f64> = 0.0..=1.0 - 1e-8;
/// The ticks of quantiles, in percent.
const NINES: [&str; 9] = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999", "99.999999"];

/// Okabe and Ito's, told apart by all kinds of sight; grey instead of the yellow, which is too pale; and four of Tol's muted.
const COLOURS: [&str; 11] = [
    "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#999", "#332288", "#882255",
    "#ddcc77", "#117733",
];

/// Those that are so dark that white is read better on them.
const DARK: [usize; 4] = [0, 7, 8, 10];

/// Sizes of text, and which end of it stands at its place.
const TITLE: f64 = 16.0;
const LABEL: f64 = 13.0;
const NUMBER: f64 = 12.0;
const START: &str = "text-anchor='start'";
const MIDDLE: &str = "text-anchor='middle'";
const END: &str = "text-anchor='end'";

impl Plot {
    /// The chart as an SVG document, 760 wide and about 420 high.
    pub fn to_svg(&self) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let (mut svg, y) = Svg::begin(&self.title, &names);
        svg.text(START, LABEL, (EDGE, y), WIDTH - 2.0 * EDGE, &self.y.label);
        let lines: Vec<Vec<_>> = self.series.iter().map(|series| self.positions(&series.points)).collect();
        let x_ruler = self.x.scale.ruler(lines.iter().flatten().flatten().map(|(x, _)| *x));
        let y_ruler = self.y.scale.ruler(lines.iter().flatten().flatten().map(|(_, y)| *y));
        let frame = Frame::new(y + 14.0, PLOT_HEIGHT, x_ruler, y_ruler);
        frame.draw(&mut svg, &self.x.label, true);
        for mark in &self.marks {
            self.draw_mark(&mut svg, &frame, mark);
        }
        let drawn = || lines.iter().zip(&self.series).zip(COLOURS.iter().cycle());
        // What is dashed lies below what it would hide.
        for dashed in [true, false] {
            for ((line, _), colour) in drawn().filter(|((_, series), _)| series.dashed == dashed) {
                svg.line(&frame, line, colour, dashed);
            }
        }
        svg.end(&self.title, &self.source, frame.bottom + FOOT)
    }

    fn draw_mark(&self, svg: &mut Svg, frame: &Frame, mark: &Mark) {
        let (place, name) = match mark {
            Mark::X(value, name) => (self.x.scale.position(*value).map(|at| (at, frame.y.low)), name),
            Mark::Y(value, name) => (self.y.scale.position(*value).map(|at| (frame.x.low, at)), name),
        };
        let Some(place) = place else { return };
        let shares = [frame.x.share(place.0), frame.y.share(place.1)];
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return;
        }
        let (x, y) = frame.place(place);
        let path = match mark {
            Mark::X(..) => format!("M{x:.1} {:.1}V{:.1}", frame.top, frame.bottom),
            Mark::Y(..) => format!("M{x:.1} {y:.1}H{:.1}", WIDTH - RIGHT),
        };
        svg.0 += &format!("<path d='{path}' stroke='#57606a' stroke-dasharray='3 3'/>\n");
        match mark {
            Mark::X(..) => svg.text(START, NUMBER, (x + 4.0, frame.top + 12.0), 200.0, name),
            Mark::Y(..) => svg.text(END, NUMBER, (WIDTH - RIGHT - 4.0, y - 4.0), 200.0, name),
        }
    }

    fn positions(&self, points: &[(f64, f64)]) -> Vec<Option<(f64, f64)>> {
        let both = |(x, y): &(f64, f64)| self.x.scale.position(*x).zip(self.y.scale.position(*y));
        points.iter().map(both).collect()
    }
}

impl Bars {
    /// The chart as an SVG document, 760 wide and as high as its bars need.
    pub fn to_svg(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.bars.iter().flat_map(|(_, parts)| parts) {
            names.extend((!names.contains(&name.as_str())).then_some(name.as_str()));
        }
        let (mut svg, y) = Svg::begin(&self.title, &names);
        let sums = self.bars.iter().map(|(_, parts)| parts.iter().map(|(_, value)| length(*value)).sum());
        let rows = self.bars.len() as f64;
        let middles = (0..self.bars.len()).map(|row| rows - row as f64 - 0.5);
        let ticks = middles.zip(self.bars.iter().map(|(name, _)| name.clone())).collect();
        let y_ruler = Ruler { low: 0.0, high: rows.max(1.0), ticks };
        let frame = Frame::new(y - 6.0, BAR_ROW * rows.max(1.0), Scale::Linear.ruler(sums), y_ruler);
        frame.draw(&mut svg, &self.unit, false);
        for ((middle, _), (_, parts)) in frame.y.ticks.iter().zip(&self.bars) {
            bar(&mut svg, &frame, *middle, parts, &names);
        }
        svg.end(&self.title, &self.source, frame.bottom + FOOT)
    }
}

/// One bar: its parts, each with its number where there is room, and their sum at the end.
fn bar(svg: &mut Svg, frame: &Frame, middle: f64, parts: &[(String, f64)], names: &[&str]) {
    let mut sum = 0.0;
    for (name, value) in parts {
        let ((left, y), value) = (frame.place((sum, middle)), length(*value));
        sum += value;
        let (top, width) = (y - BAR_HEIGHT / 2.0, frame.place((sum, middle)).0 - left);
        let at = names.iter().position(|known| known == name).unwrap_or(0) % COLOURS.len();
        let look = format!("height='{BAR_HEIGHT}' fill='{}' stroke='#fff'", COLOURS[at]);
        svg.0 += &format!("<rect x='{left:.1}' y='{top:.1}' width='{width:.1}' {look}/>\n");
        let ink = if DARK.contains(&at) { "fill='#fff'" } else { "fill='#000'" };
        if text_width(&number(value), NUMBER) + 6.0 < width {
            let look = format!("{MIDDLE} {ink}");
            svg.text(&look, NUMBER, (left + width / 2.0, y + 4.0), width, &number(value));
        }
    }
    let (x, y) = frame.place((sum, middle));
    svg.text(START, LABEL, (x + 6.0, y + 4.5), RIGHT - 8.0, &number(sum));
}

/// A part's value, or nothing.
fn length(value: f64) -> f64 {
    if VALUES.contains(&value) { value } else { 0.0 }
}

/// Where the lines or bars are in the document.
struct Frame {
    left: f64,
    top: f64,
    bottom: f64,
    x: Ruler,
    y: Ruler,
}

impl Frame {
    fn new(top: f64, height: f64, x: Ruler, y: Ruler) -> Self {
        let names = y.ticks.iter().map(|(_, name)| text_width(name, NUMBER));
        let left = EDGE + 8.0 + names.fold(20.0, f64::max).min(LEFT_MAX);
        Self { left, top, bottom: top + height, x, y }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (width, height) = (WIDTH - RIGHT - self.left, self.bottom - self.top);
        (self.left + width * self.x.share(x), self.bottom - height * self.y.share(y))
    }

    /// The grid, with or without its rows, the numbers, and the label below.
    fn draw(&self, svg: &mut Svg, label: &str, rows: bool) {
        let (Self { left, top, bottom, .. }, right) = (self, WIDTH - RIGHT);
        let mut grid = String::new();
        for (position, name) in &self.x.ticks {
            let (x, _) = self.place((*position, 0.0));
            grid += &format!("M{x:.1} {top:.1}V{bottom:.1}");
            svg.text(MIDDLE, NUMBER, (x, bottom + 20.0), 76.0, name);
        }
        for (position, name) in &self.y.ticks {
            let (_, y) = self.place((0.0, *position));
            grid += &if rows { format!("M{left:.1} {y:.1}H{right:.1}") } else { String::new() };
            svg.text(END, NUMBER, (left - 8.0, y + 4.0), LEFT_MAX, name);
        }
        svg.0 += &format!("<path d='{grid}' stroke='#e4e8ec'/>\n");
        let axes = format!("M{left:.1} {top:.1}V{bottom:.1}H{right:.1}");
        svg.0 += &format!("<path d='{axes}' fill='none' stroke='#8c959f'/>\n");
        svg.text(MIDDLE, LABEL, ((left + right) / 2.0, bottom + 42.0), right - left, label);
    }
}

impl Scale {
    fn position(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => (value == 0.0 || VALUES.contains(&value.abs())).then_some(value),
            Self::Log => VALUES.contains(&value).then(|| value.log10()),
            Self::Percentile => QUANTILES.contains(&value).then(|| -(1.0 - value).log10()),
        }
    }

    fn ruler(self, positions: impl Iterator<Item = f64>) -> Ruler {
        let ends = positions.map(|at| (at, at)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (low, high) = ends.unwrap_or((0.0, 1.0));
        match self {
            Self::Linear => Ruler::linear(low.min(0.0), high.max(0.0)),
            Self::Log => Ruler::log(low, high),
            Self::Percentile => Ruler::nines(high.max(1.0)),
        }
    }
}

/// An axis: the positions at its ends, and those with a number.
struct Ruler {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Ruler {
    fn linear(low: f64, high: f64) -> Self {
        let high = if low == high { low + 1.0 } else { high };
        let step = round_up((high - low) / INTERVALS_MAX);
        let first = (low / step + ROUNDING).floor() as i64;
        let last = (high / step - ROUNDING).ceil() as i64;
        let ticks = (first..=last).map(|at| at as f64 * step).map(|at| (at, number(at))).collect();
        Self { low: first as f64 * step, high: last as f64 * step, ticks }
    }

    /// From one round number to another: 1, 2 and 5 of each decade, or only decades where there are many.
    fn log(low: f64, high: f64) -> Self {
        let (low, high) = if high - low < 0.1 { (low - 0.1, high + 0.1) } else { (low, high) };
        let digits: &[f64] = if high - low <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let step = ((high - low) / INTERVALS_MAX).ceil() as i32;
        let decades = (low.floor() as i32..=high.ceil() as i32 + step).step_by(step as usize);
        let round =
            decades.flat_map(|power| digits.iter().map(move |digit| f64::from(power) + digit.log10()));
        let first = round.clone().take_while(|at| *at <= low + ROUNDING).fold(low, |_, at| at);
        let last = round.clone().find(|at| *at >= high - ROUNDING).unwrap_or(high);
        let shown = round.filter(|at| (first..=last).contains(at));
        Self { low: first, high: last, ticks: shown.map(|at| (at, number(10f64.powf(at)))).collect() }
    }

    fn nines(high: f64) -> Self {
        let ticks = (0u8..).map(f64::from).zip(NINES.map(|nines| format!("{nines} %")));
        Self { low: 0.0, high, ticks: ticks.take_while(|(at, _)| *at <= high + ROUNDING).collect() }
    }

    /// Where a position stands between the ends, from 0 to 1.
    fn share(&self, position: f64) -> f64 {
        (position - self.low) / (self.high - self.low)
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * decade >= value * (1.0 - ROUNDING));
    digit.unwrap_or(10.0) * decade
}

/// Three digits at most, and k, M or G for thousands.
fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    match rounded.abs() {
        size if size != 0.0 && !(1e-3..1e12).contains(&size) => format!("{rounded:e}"),
        size if size >= 1e9 => format!("{}G", rounded / 1e9),
        size if size >= 1e6 => format!("{}M", rounded / 1e6),
        size if size >= 1e3 => format!("{}k", rounded / 1e3),
        _ => format!("{rounded}"),
    }
}

/// Rather too much than too little: each system has its own font.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// The document as it grows.
struct Svg(String);

impl Svg {
    /// The title, and rows of names, each with its colour. Returns where the next row of text stands as well.
    fn begin(title: &str, names: &[&str]) -> (Self, f64) {
        let (mut svg, mut x, mut y) = (Self(String::new()), EDGE, 56.0);
        svg.text(&format!("{START} font-weight='600'"), TITLE, (EDGE, 32.0), WIDTH - 2.0 * EDGE, title);
        for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
            let width = 18.0 + text_width(name, LABEL);
            if x > EDGE && x + width > WIDTH - EDGE {
                (x, y) = (EDGE, y + LEGEND_ROW);
            }
            let top = y - 10.5;
            svg.0 += &format!("<rect x='{x:.1}' y='{top}' width='12' height='12' rx='2' fill='{colour}'/>\n");
            svg.text(START, LABEL, (x + 18.0, y), WIDTH - 2.0 * EDGE - 18.0, name);
            x += width + 16.0;
        }
        (svg, if names.is_empty() { y } else { y + LEGEND_ROW + 4.0 })
    }

    /// Text at a place, made smaller where it needs more than its room.
    fn text(&mut self, look: &str, size: f64, (x, y): (f64, f64), room: f64, text: &str) {
        let size = size * (room / text_width(text, size).max(1.0)).min(1.0);
        let text = escape(text);
        self.0 += &format!("<text x='{x:.1}' y='{y:.1}' font-size='{size:.1}' {look}>{text}</text>\n");
    }

    /// A line through positions, with gaps where there is none, and marks on few points.
    fn line(&mut self, frame: &Frame, positions: &[Option<(f64, f64)>], colour: &str, dashed: bool) {
        let (mut path, mut marks, mut joined) = (String::new(), String::new(), false);
        for position in positions {
            if let Some((x, y)) = position.map(|position| frame.place(position)) {
                // `h0` makes a dot of a point without neighbours.
                path += &if joined { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}h0") };
                marks += &format!("<circle cx='{x:.1}' cy='{y:.1}' r='3.5'/>");
            }
            joined = position.is_some();
        }
        let look = "fill='none' stroke-width='2' stroke-linejoin='round' stroke-linecap='round'";
        let dashes = if dashed { " stroke-dasharray='6 5'" } else { "" };
        self.0 += &format!("<path d='{path}' stroke='{colour}' {look}{dashes}/>\n");
        if positions.len() <= MARKS_MAX {
            self.0 += &format!("<g fill='{colour}' stroke='#fff'>{marks}</g>\n");
        }
    }

    /// The whole document, on white, whatever the page's colour is.
    fn end(mut self, title: &str, source: &str, height: f64) -> String {
        self.text(
            &format!("{START} fill='#6e7781'"),
            11.0,
            (EDGE, height - 12.0),
            WIDTH - 2.0 * EDGE,
            source,
        );
        let fonts = "-apple-system, BlinkMacSystemFont, Segoe UI, Noto Sans, Helvetica, Arial, sans-serif";
        let size = format!("width='{WIDTH}' height='{height}'");
        let mut all = format!("<svg xmlns='http://www.w3.org/2000/svg' {size} ");
        all += &format!(
            "viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{}' font-family='{fonts}'>\n",
            escape(title)
        );
        all + &format!("<rect {size} rx='6' fill='#fff'/>\n<g fill='#32383f'>\n{}</g></svg>\n", self.0)
    }
}

/// Text that is safe in an element and in an attribute.
fn escape(text: &str) -> String {
    let text = text.replace(char::is_control, " ").replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALES: [Scale; 3] = [Scale::Linear, Scale::Log, Scale::Percentile];
    const ODD: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, 1.0, f64::MAX, 5e-324];

    fn svg(x: Scale, y: Scale, points: &[(f64, f64)]) -> String {
        let axis = |scale| Axis { label: "ms".into(), scale };
        let series = vec![Series::new("tern", points.to_vec())];
        let marks =
            ODD.iter().flat_map(|at| [Mark::X(*at, "here".into()), Mark::Y(*at, "there".into())]).collect();
        Plot { title: "p99".into(), x: axis(x), y: axis(y), series, marks, source: "here".into() }.to_svg()
    }

    fn bars(name: &str, values: &[f64]) -> String {
        let parts = values.iter().map(|value| (name.to_string(), *value)).collect();
        let bars = vec![(name.into(), parts)];
        Bars { title: name.into(), unit: name.into(), bars, source: "here".into() }.to_svg()
    }

    fn check_ticks(scale: Scale, values: &[f64], expect: &str) {
        let positions: Vec<f64> = values.iter().filter_map(|value| scale.position(*value)).collect();
        let ruler = scale.ruler(positions.iter().copied());
        let names: Vec<&str> = ruler.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names.join(", "), expect, "{scale:?} of {values:?}");
        for share in positions.iter().map(|position| ruler.share(*position)) {
            assert!((-1e-6..=1.0 + 1e-6).contains(&share), "{scale:?} of {values:?}: {share}");
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        check_ticks(Scale::Linear, &[3.0, 11.3], "0, 2, 4, 6, 8, 10, 12");
        check_ticks(Scale::Linear, &[0.3], "0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3");
        check_ticks(Scale::Linear, &[-4e6, 1e4], "-4M, -3M, -2M, -1M, 0, 1M");
        check_ticks(Scale::Linear, &[49_999.0, 50_001.0], "0, 10k, 20k, 30k, 40k, 50k, 60k");
        check_ticks(Scale::Log, &[0.03, 0.4], "0.02, 0.05, 0.1, 0.2, 0.5");
        check_ticks(Scale::Log, &[0.0, 1000.0], "500, 1k, 2k");
        check_ticks(Scale::Log, &[1.0, 90_000.0], "1, 10, 100, 1k, 10k, 100k");
        check_ticks(Scale::Log, &[1e-9, 1e9], "1e-9, 1e-6, 0.001, 1, 1k, 1M, 1G");
        check_ticks(Scale::Percentile, &[0.5, 0.9995, 1.0], "0 %, 90 %, 99 %, 99.9 %");
    }

    #[test]
    fn all_that_is_drawn_has_a_place() {
        let pairs: Vec<_> = ODD.iter().flat_map(|a| ODD.map(|b| (*a, b))).collect();
        let cases = pairs.chunks(1).chain([&[][..], &[(0.7, 0.7); 3], &pairs]);
        let plots = cases.flat_map(|case| SCALES.map(|x| SCALES.map(|y| svg(x, y, case)))).flatten();
        for text in plots.chain([bars("part", &[]), bars("part", &[0.0]), bars("part", &ODD)]) {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn zero_has_no_place_on_a_log_scale() {
        let text = svg(Scale::Linear, Scale::Log, &[(0.0, 10.0), (1.0, 0.0), (2.0, 10.0), (3.0, 100.0)]);
        assert_eq!(text.matches("<circle").count(), 3, "{text}");
        assert_eq!(text.matches("h0").count(), 2, "a gap in the line: {text}");
    }

    #[test]
    fn a_mark_lies_where_the_lines_are_or_nowhere() {
        let marked = |at: f64| {
            let (x, y) = (Scale::Linear, Scale::Log);
            let axis = |scale| Axis { label: "ms".into(), scale };
            let series = vec![Series::new("tern", vec![(0.0, 1.0), (10.0, 100.0)])];
            let marks = vec![Mark::Y(at, "the aim".into())];
            Plot { title: "p99".into(), x: axis(x), y: axis(y), series, marks, source: String::new() }
                .to_svg()
        };
        assert!(marked(10.0).contains("the aim"));
        for beyond in [0.0, 0.01, 1e5, f64::NAN] {
            assert!(!marked(beyond).contains("the aim"), "{beyond}");
        }
    }

    #[test]
    fn text_is_escaped() {
        let text = bars("<a b=\"c\" d='e'>&\n", &[1.0]);
        assert_eq!(text.matches(">&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp; <").count(), 4, "{text}");
        assert!(!text.contains("<a"), "{text}");
    }

    #[test]
    fn a_bar_ends_with_its_sum() {
        assert!(bars("cpu", &[1.25, -2.0, 3.0]).contains(">4.25</text>"));
    }
}
