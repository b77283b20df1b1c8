//! Line charts as SVG, with nothing but what a browser draws.

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 176.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// Colours of the lines, in order.
const COLOURS: [&str; 6] = ["#c2410c", "#1d4ed8", "#15803d", "#6b7280", "#a21caf", "#b45309"];

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
    /// Lines by their names.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// One direction of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it counts.
    pub name: &'static str,
    /// Values with a mark, and what stands there; the first and the last are the ends.
    pub marks: Vec<(f64, String)>,
    /// Equal factors, not equal differences, are equally far apart.
    pub is_logarithmic: bool,
}

impl Axis {
    /// With marks where they are asked for.
    pub fn at(name: &'static str, marks: &[f64], is_logarithmic: bool, show: impl Fn(f64) -> String) -> Self {
        Self { name, marks: marks.iter().map(|mark| (*mark, show(*mark))).collect(), is_logarithmic }
    }

    /// 0 at the first mark, 1 at the last.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.max(1e-300).ln() } else { value };
        let ends = self.marks.first().zip(self.marks.last());
        let (low, high) = ends.map_or((0.0, 1.0), |(low, high)| (scale(low.0), scale(high.0)));
        ((scale(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

impl Chart {
    /// As a file.
    pub fn svg(&self) -> String {
        let (width, height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        self.grid(&mut svg);
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            self.line(&mut svg, points, colour);
            let (x, y) = (LEFT + WIDTH + 12.0, TOP + 14.0 + 20.0 * number as f64);
            add(&mut svg, &format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{name}</text>"));
        }
        svg + "</svg>\n"
    }

    fn grid(&self, svg: &mut String) {
        for (value, shown) in &self.x.marks {
            let x = self.x_of(*value);
            let (bottom, below) = (TOP + HEIGHT, TOP + HEIGHT + 18.0);
            let ends = format!("x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"");
            add(svg, &format!("<line {ends} stroke=\"#e5e7eb\"/>"));
            add(svg, &format!("<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{shown}</text>"));
        }
        for (value, shown) in &self.y.marks {
            let y = self.y_of(*value);
            let (right, beside) = (LEFT + WIDTH, LEFT - 8.0);
            let ends = format!("x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"");
            add(svg, &format!("<line {ends} stroke=\"#e5e7eb\"/>"));
            add(
                svg,
                &format!("<text x=\"{beside}\" y=\"{:.1}\" text-anchor=\"end\">{shown}</text>", y + 4.0),
            );
        }
        let (middle, bottom) = (LEFT + WIDTH / 2.0, TOP + HEIGHT + 38.0);
        add(
            svg,
            &format!("<text x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\">{}</text>", self.x.name),
        );
        let middle = TOP + HEIGHT / 2.0;
        let turned = format!("transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\"");
        add(svg, &format!("<text {turned}>{}</text>", self.y.name));
    }

    fn line(&self, svg: &mut String, points: &[(f64, f64)], colour: &str) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let step = if at == 0 { 'M' } else { 'L' };
            path += &format!("{step}{:.1} {:.1}", self.x_of(*x), self.y_of(*y));
            if points.len() <= 20 {
                let place = format!("cx=\"{:.1}\" cy=\"{:.1}\"", self.x_of(*x), self.y_of(*y));
                add(svg, &format!("<circle {place} r=\"2.6\" fill=\"{colour}\"/>"));
            }
        }
        add(svg, &format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"));
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + WIDTH * self.x.place(value)
    }

    fn y_of(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - self.y.place(value))
    }
}

fn add(svg: &mut String, line: &str) {
    svg.push_str(line);
    svg.push('\n');
}
