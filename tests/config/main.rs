//! The config as an operator meets it: what files become, what mistakes print, and that nothing makes it panic.

use clap::Parser;
use switchyard::config::{Overrides, Plan, Problem, load_with};

#[path = "../certificates/authority.rs"]
mod authority;
mod balance;
mod health;
mod identity;
mod limits;
#[cfg(feature = "k8s")]
mod manifests;
mod methods;
mod mistakes;
mod never_a_panic;
mod operators;
mod pools;
mod protos;
mod registries;
mod routes;
mod routes_wrong;
mod satellite;
mod sound;
mod sources;
mod tls;
mod written;

const EXAMPLE: &str = include_str!("../../config/switchyard.yaml");

fn read(text: &str) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    read_with(text, &[], &[])
}

fn read_with(text: &str, flags: &[&str], variables: &[(&str, &str)]) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    load_with(text, "switchyard.yaml", &overrides(flags), variables)
}

fn overrides(flags: &[&str]) -> Overrides {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        overrides: Overrides,
    }
    Cli::parse_from(["switchyard"].iter().chain(flags)).overrides
}

fn plan(text: &str) -> Plan {
    let (plan, warnings) = read(text).expect("a sound config");
    assert_eq!(warnings, []);
    plan
}

fn said(outcome: Result<(Plan, Vec<Problem>), Vec<Problem>>) -> String {
    let problems = match outcome {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_says(text: &str, expected: &str) {
    let said = said(read(text));
    assert!(said == expected.trim_matches('\n'), "\n--- said\n{said}\n--- expected\n{expected}");
}
