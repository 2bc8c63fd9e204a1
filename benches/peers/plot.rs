//! The pictures of docs/performance.md, as SVG.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::growth::{Growth, Step};
use crate::peer::Peer;
use crate::report::{Runs, median};
use crate::row::Group;
use crate::sample::Sample;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const FAINT: RGBColor = RGBColor(0xd8, 0xd8, 0xd8);
const FONT: &str = "sans-serif";
const WIDTH: u32 = 860;
/// Left of the bars, for the names of rows; right of them, for what is written behind the longest.
const NAMES: i32 = 150;
const FIGURES: i32 = 90;
const TOP: i32 = 56;
const BAR: i32 = 13;
const GAP: i32 = 10;

/// A picture of bars for each table that has something to show.
pub fn peers(directory: &Path, runs: &[Runs]) -> io::Result<()> {
    let cpu = |sample: &Sample| sample.cpu_us_per_message;
    let kib = |sample: &Sample| sample.rss_per_connection_bytes / 1024.0;
    bars(
        directory,
        "saturated",
        "CPU a message, as fast as it takes them (µs; bars: Switchyard = 1)",
        runs,
        Group::Saturated,
        cpu,
    )?;
    bars(
        directory,
        "agents",
        "CPU a message, at the pace of agents (µs; bars: Switchyard = 1)",
        runs,
        Group::Paced,
        cpu,
    )?;
    bars(directory, "connections", "Memory a connection (KiB; bars: Switchyard = 1)", runs, Group::Connections, kib)
}

/// Each row's peers by their ratio to Switchyard, which is what one run can claim; the figure itself stands behind the bar.
fn bars(
    directory: &Path,
    name: &str,
    title: &str,
    runs: &[Runs],
    group: Group,
    look: fn(&Sample) -> f64,
) -> io::Result<()> {
    let rows: Vec<(&str, Vec<(Peer, f64)>)> = runs
        .iter()
        .filter(|runs| runs.row.group == group)
        .map(|runs| {
            let figure = |(peer, samples): &(Peer, Vec<_>)| median(samples, look).map(|figure| (*peer, figure));
            (runs.row.name, runs.peers.iter().filter_map(figure).collect())
        })
        .filter(|(_, figures): &(_, Vec<(Peer, f64)>)| figures.iter().any(|it| it.0 == Peer::Switchyard && it.1 > 0.0))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ratio = |figures: &[(Peer, f64)], figure: f64| {
        let mine = figures.iter().find(|(peer, _)| *peer == Peer::Switchyard).map_or(1.0, |(_, mine)| *mine);
        figure / mine
    };
    let most = rows.iter().flat_map(|(_, all)| all.iter().map(|(_, it)| ratio(all, *it))).fold(1.0, f64::max);
    let bars: usize = rows.iter().map(|(_, figures)| figures.len()).sum();
    let height = TOP + bars as i32 * BAR + rows.len() as i32 * GAP;
    let scale = f64::from(WIDTH as i32 - NAMES - FIGURES) / most;
    draw(directory, name, (WIDTH, height as u32), |area| {
        head(area, title)?;
        let mut y = TOP;
        for (row, figures) in &rows {
            let middle = y + figures.len() as i32 * BAR / 2;
            text(area, row, (NAMES - 10, middle), 14, HPos::Right)?;
            for (peer, figure) in figures {
                let x = NAMES + (ratio(figures, *figure) * scale) as i32;
                area.draw(&Rectangle::new([(NAMES, y), (x, y + BAR - 2)], colour(*peer).filled())).map_err(drawn)?;
                text(area, &format!("{figure:.2}"), (x + 5, y + BAR / 2), 11, HPos::Left)?;
                y += BAR;
            }
            y += GAP;
        }
        let one = NAMES + scale as i32;
        area.draw(&PathElement::new([(one, TOP - 4), (one, height - GAP / 2)], INK.stroke_width(1))).map_err(drawn)
    })
}

/// Title and the peers' colours.
fn head(area: &Area<'_>, title: &str) -> io::Result<()> {
    text(area, title, (10, 14), 15, HPos::Left)?;
    for (at, peer) in Peer::ALL.into_iter().enumerate() {
        let x = NAMES + at as i32 * 110;
        area.draw(&Rectangle::new([(x, 32), (x + 12, 44)], colour(peer).filled())).map_err(drawn)?;
        text(area, peer.name(), (x + 18, 38), 13, HPos::Left)?;
    }
    Ok(())
}

/// CPU and memory along what grows, side by side, all axes logarithmic: work that does not grow is a level line.
pub fn growth(directory: &Path, growth: &Growth, steps: &[Step]) -> io::Result<()> {
    let points = |look: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        let point = |(step, runs): &Step| median(&runs.peers[0].1, look).map(|figure| (f64::from(*step), figure));
        steps.iter().filter_map(point).filter(|(_, figure)| *figure > 0.0).collect()
    };
    let cpu = points(|sample| sample.cpu_us_per_message);
    let rss = points(|sample| sample.rss_peak_bytes as f64 / 1048576.0);
    if cpu.len() < 2 {
        return Ok(());
    }
    draw(directory, &format!("growth-{}", growth.name), (WIDTH, 300), |area| {
        let (left, right) = area.split_horizontally(WIDTH as i32 / 2);
        line(&left, "CPU a message, µs", growth.what, &cpu)?;
        line(&right, "peak RSS, MiB", growth.what, &rss)
    })
}

fn line(area: &Area<'_>, title: &str, what: &str, points: &[(f64, f64)]) -> io::Result<()> {
    let range = |values: Vec<f64>, room: f64| {
        let (least, most) =
            values.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
        (least / room..most * room).log_scale()
    };
    let xs = range(points.iter().map(|(x, _)| *x).collect(), 1.2);
    let ys = range(points.iter().map(|(_, y)| *y).collect(), 3.0);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, (FONT, 15).into_font().color(&INK))
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(xs, ys)
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style((FONT, 12).into_font().color(&INK))
        .x_desc(what)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .y_labels(4)
        .draw()
        .map_err(drawn)?;
    let colour = colour(Peer::Switchyard);
    chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2))).map_err(drawn)?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled()))).map_err(drawn)?;
    let label = |point: &(f64, f64)| {
        let pos = Pos::new(HPos::Center, VPos::Bottom);
        let style = (FONT, 11).into_font().color(&INK).pos(pos);
        EmptyElement::at(*point) + Text::new(format!("{:.1}", point.1), (0, -8), style)
    };
    chart.draw_series(points.iter().map(label)).map_err(drawn)?;
    Ok(())
}

/// 20000 as `20k`.
fn short(number: f64) -> String {
    match number {
        1e6.. => format!("{:.0}M", number / 1e6),
        1e3.. => format!("{:.0}k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

fn draw(
    directory: &Path,
    name: &str,
    size: (u32, u32),
    picture: impl FnOnce(&Area<'_>) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{name}.svg"));
    let area = SVGBackend::new(&path, size).into_drawing_area();
    area.fill(&WHITE).map_err(drawn)?;
    picture(&area)?;
    area.present().map_err(drawn)
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, side: HPos) -> io::Result<()> {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text, at, style)).map_err(drawn)
}

fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Switchyard => RGBColor(0xd9, 0x4f, 0x1e),
        Peer::Envoy => RGBColor(0x6a, 0x4c, 0x93),
        Peer::Haproxy => RGBColor(0x2a, 0x6f, 0x97),
        Peer::Nginx => RGBColor(0x4f, 0x9d, 0x69),
        Peer::Naive => RGBColor(0x9a, 0x9a, 0x9a),
    }
}

fn drawn(error: impl Display) -> io::Error {
    io::Error::other(format!("a picture cannot be drawn: {error}"))
}
