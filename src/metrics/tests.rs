//! What Prometheus is shown, held against the table.

use super::*;

/// Resolves every handle there is.
fn touch_everything() {
    let _ = Received::of("agents", "other", Counter::noop());
    let _ = Backend::of("oap", "oap-0:11800").answers("OK");
    let _ = (Totals::resolve(), Totals::of_copies(), Listener::of("agents"), Budget::resolve());
    let _ = Discovery::of("oap");
    let _ = Descriptors::resolve();
    Route::of("noise", Some("nobody reads it")).count(RouteOutcome::Dropped, 1);
    let _ = (refused("admin", RefusedReason::Tls), tls_reloads("pool.tls", ReloadResult::Failed));
    let _ = tls_certificate_expiry("pool.tls.ca");
    let _ = (replies("agents", "OK"), conservation_violations(), config_last_reload_successful());
    let _ = (config_last_reload_success_timestamp(), pool_tier("oap"), affinity_entries("oap"));
    admin_verbs(Verb::Reload, VerbResult::Done).increment(1);
}

#[test]
fn every_metric_is_rendered_with_help_and_type() {
    let prometheus = install();
    touch_everything();
    run_upkeep(&prometheus);
    let text = prometheus.render();
    for metric in table::ALL {
        let help = format!("# HELP {} {}\n", metric.name, metric.help);
        let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.name());
        assert!(text.contains(&help), "no {help}");
        assert!(text.contains(&kind), "no {kind}");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE switchyard_")) {
        let name = format!("switchyard_{}", line.split(' ').next().unwrap());
        assert!(table::ALL.iter().any(|metric| metric.name == name), "{name} is not in the table");
    }
}

#[test]
fn a_second_install_answers_the_same_counts() {
    let first = install();
    replies("second-install", "OK").increment(3);
    for prometheus in [first, install()] {
        let text = prometheus.render();
        assert!(text.lines().any(|line| line.contains("listener=\"second-install\"") && line.ends_with(" 3")));
    }
}

#[test]
fn labels_say_what_the_table_promises() {
    let prometheus = install();
    Backend::of("oap", "b\"ad\nname").answers("UNAVAILABLE").increment(1);
    let text = prometheus.render();
    let line = text
        .lines()
        .find(|line| line.starts_with("switchyard_backend_answers_total") && line.contains("UNAVAILABLE"))
        .unwrap();
    for label in ["pool=\"oap\"", "backend=\"b\\\"ad\\nname\"", "code=\"UNAVAILABLE\""] {
        assert!(line.contains(label), "{label} is not in {line}");
    }
}
