//! `pool.health`: what it takes, what its defaults depend on, and what is wrong with it.

use std::time::Duration;

use switchyard::pool::Check;
use switchyard::pool::health::HealthSettings;

use super::{assert_says, plan};

fn health(text: &str) -> HealthSettings {
    plan(&format!("to: a:1\npool: {{ health: {{ {text} }} }}")).pools[0].health.clone()
}

#[test]
fn backends_that_are_up_are_asked_once_a_check_is_written() {
    assert_eq!(health(""), HealthSettings::default());
    assert_eq!(health("rise: 2").interval, None);
    assert_eq!(health("check: connect").interval, Some(Duration::from_secs(5)));
    assert_eq!(health("check: tcp, interval: off").interval, None);
    assert_eq!(health("interval: 1s").interval, Some(Duration::from_secs(1)));
}

#[test]
fn each_check_has_settings_of_its_own() {
    assert_eq!(health("check: grpc").check, Check::Grpc { service: String::new() });
    assert_eq!(health("check: grpc, service: my.pkg.Service").check, Check::Grpc { service: "my.pkg.Service".into() });
    assert_eq!(health("check: tcp").check, Check::Tcp);
    let oap = Check::Http { path: "/healthcheck".into(), port: 12_800 };
    assert_eq!(health("check: http, port: 12800").check, oap);
    let other = Check::Http { path: "/up?deep=1".into(), port: 80 };
    assert_eq!(health("check: http, port: 80, path: '/up?deep=1'").check, other);
}

#[test]
fn what_is_wrong_with_health_is_told_with_its_mend() {
    let text = "
to: a:1
pool:
  eject_after: 5
  health: { chek: grpc, fall: 0, eject_max: 50, panic_below: 101%, slow_start: 1h30m }
pools:
  one: { endpoints: b:1, health: { check: http } }
  two: { endpoints: c:1, health: { service: a.B, port: 80, path: up } }
  three: { endpoints: d:1, health: { check: grpc, service: /a.B/Check, ejection: 2m } }
  four: { endpoints: e:1, health: { check: ping, ejection_max: 500ms } }
";
    let expected = r#"
switchyard.yaml:4:3: error: pool.eject_after: there is no such setting
  4 |   eject_after: 5
    |   ^^^^^^^^^^^
  mend: it is `pool.health.fall:` now
switchyard.yaml:5:13: error: pool.health.chek: there is no such setting
  5 |   health: { chek: grpc, fall: 0, eject_max: 50, panic_below: 101%, slow_…
    |             ^^^^
  mend: did you mean `check`?
switchyard.yaml:5:31: error: pool.health.fall: 0 is less than 1
  5 | …th: { chek: grpc, fall: 0, eject_max: 50, panic_below: 101%, slow_start:…
    |                          ^
  mend: write 1 to 1000
switchyard.yaml:5:45: error: pool.health.eject_max: "50" has no unit
  5 | …pc, fall: 0, eject_max: 50, panic_below: 101%, slow_start: 1h30m }
    |                          ^^
  mend: write 50%
switchyard.yaml:5:62: error: pool.health.panic_below: "101%" is not a share of the pool
  5 | …t_max: 50, panic_below: 101%, slow_start: 1h30m }
    |                          ^^^^
  mend: write 0% to 100%, such as 50%
switchyard.yaml:5:80: error: pool.health.slow_start: "h30m" is not a unit of time
  5 | …elow: 101%, slow_start: 1h30m }
    |                          ^^^^^
  mend: write 1s or 1ms (units: ns, us, ms, s, m, h, d)
switchyard.yaml:7:43: error: pools.one.health.check: nothing is said of the port that answers HTTP; the backend's own speaks gRPC
  7 |   one: { endpoints: b:1, health: { check: http } }
    |                                           ^^^^
  mend: write `port: 12800`, or whichever answers; or `check: grpc`
switchyard.yaml:8:45: error: pools.two.health.service: says nothing to `check: connect`
  8 |   two: { endpoints: c:1, health: { service: a.B, port: 80, path: up } }
    |                                             ^^^
  mend: write `check: grpc`, or remove it
switchyard.yaml:8:56: error: pools.two.health.port: says nothing to `check: connect`
  8 |   two: { endpoints: c:1, health: { service: a.B, port: 80, path: up } }
    |                                                        ^^
  mend: write `check: http`, or remove it
switchyard.yaml:8:66: error: pools.two.health.path: "up" is no path to ask for
  8 |   two: { endpoints: c:1, health: { service: a.B, port: 80, path: up } }
    |                                                                  ^^
  mend: write it as `/healthcheck`
switchyard.yaml:9:60: error: pools.three.health.service: is a path, not the name of a service
  9 | …{ check: grpc, service: /a.B/Check, ejection: 2m } }
    |                          ^^^^^^^^^^
  mend: write it as in `pkg.Service`
switchyard.yaml:9:82: error: pools.three.health.ejection: the first ejection, 2m, is longer than the longest, 30s
  9 | …: /a.B/Check, ejection: 2m } }
    |                          ^^
  mend: set ejection to 30s or less, or raise ejection_max
switchyard.yaml:10:44: error: pools.four.health.check: "ping" is not one of connect, grpc, tcp, http
  10 |   four: { endpoints: e:1, health: { check: ping, ejection_max: 500ms } }
     |                                            ^^^^
  mend: write one of connect, grpc, tcp, http
switchyard.yaml:10:64: error: pools.four.health.ejection_max: the first ejection, 1s, is longer than the longest, 500ms
  10 |   four: { endpoints: e:1, health: { check: ping, ejection_max: 500ms } }
     |                                                                ^^^^^
  mend: set ejection to 500ms or less, or raise ejection_max
"#;
    assert_says(text, expected);
}
