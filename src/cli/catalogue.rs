//! `switchyard catalogue`: every method the gateway knows and how far it takes its calls apart.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::route::Routes;
use crate::route::describe::Described;

/// Prints every method: whose traffic it is, how far its calls come apart, what decides the backend.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only methods whose path contains this
    pub part: Option<String>,
    /// Config file whose `methods:` are printed, too
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "SWITCHYARD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print one JSON array instead of text
    #[arg(long)]
    pub json: bool,
}

/// Columns of the table: a heading, and what stands under it.
type Column = (&'static str, fn(&Described) -> &str);

const COLUMNS: [Column; 8] = [
    ("METHOD", |row| &row.method),
    ("FLOW", |row| &row.flow),
    ("SPLIT", |row| &row.split),
    ("KEY", |row| &row.key),
    ("STICKY", |row| &row.sticky),
    ("ORDER", |row| &row.order),
    ("REPLY", |row| &row.reply),
    ("REPLAY", |row| &row.replay),
];

/// What is said below a row, where there is something to say.
const NOTES: [Column; 4] = [
    ("also called", |row| &row.package_less),
    ("carries", |row| &row.carries),
    ("needs", |row| &row.needs),
    ("stand-in", |row| &row.stand_in),
];

/// Prints; 1 when nothing matches, 2 when the config is unsound.
pub fn run(args: &Args) -> ExitCode {
    match super::routes(args.config.as_deref()) {
        // A reader that went away (`catalogue | head`) is no failure.
        Ok(routes) => print(args, &routes, &mut io::stdout().lock()).unwrap_or(ExitCode::SUCCESS),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn print(args: &Args, routes: &Routes, out: &mut impl Write) -> io::Result<ExitCode> {
    let part = args.part.as_deref().unwrap_or_default();
    let is_asked = |row: &Described| row.method.contains(part) || row.package_less.contains(part);
    let rows: Vec<Described> = routes.all().into_iter().map(|route| route.method.describe()).filter(is_asked).collect();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    } else {
        table(&rows, out)?;
    }
    if rows.is_empty() {
        eprintln!("no method's path contains {part:?}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Described], out: &mut impl Write) -> io::Result<()> {
    let width = |(heading, of): &Column| rows.iter().map(|row| of(row).len()).max().unwrap_or(0).max(heading.len());
    let widths: Vec<usize> = COLUMNS.iter().map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(COLUMNS.iter().map(|(heading, _)| *heading).collect()))?;
    for row in rows {
        writeln!(out, "{}", line(COLUMNS.iter().map(|(_, of)| of(row)).collect()))?;
        for (name, of) in NOTES.iter().filter(|(_, of)| !of(row).is_empty()) {
            writeln!(out, "    {name}: {}", of(row))?;
        }
    }
    writeln!(out, "{} methods; sticky `hash` counts where the pool's balance is hash", rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(part: Option<&str>, json: bool) -> String {
        let args = Args { part: part.map(str::to_owned), config: None, json };
        let mut out = Vec::new();
        print(&args, &Routes::of_catalogue(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_method_has_a_row_with_its_contract() {
        let text = printed(None, false);
        for path in ["/skywalking.v3.LogReportService/collect", "/anycable.RPC/Command"] {
            assert!(text.lines().any(|line| line.starts_with(path)), "{text}");
        }
        assert!(text.contains("carries: service (first_non_empty)"), "{text}");
        assert!(text.contains("carries: node_info+connection (latest)"), "{text}");
        assert!(text.ends_with("is hash\n"), "{text}");
    }

    #[test]
    fn json_has_the_rows_asked_for() {
        let rows: serde_json::Value = serde_json::from_str(&printed(Some("collectBatch"), true)).unwrap();
        let row = &rows.as_array().unwrap()[0];
        assert_eq!(
            (&row["split"], &row["sticky"], &row["key"]),
            (&"each".into(), &"always".into(), &"last service+instance".into())
        );
    }
}
