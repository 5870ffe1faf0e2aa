//! What lies in `docker/` fits Larder and itself. `tests/docker/run` brings it up.

use crate::support::proxy::{command, root};
use larder::config::{Overrides, Settings};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    root().join("docker").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// What follows `start` on the one line that begins with it.
#[track_caller]
fn value<'a>(text: &'a str, start: &str) -> &'a str {
    let mut found = text.lines().filter_map(|line| line.trim().strip_prefix(start));
    let value = found.next().unwrap_or_else(|| panic!("no {start}"));
    assert_eq!(found.next(), None, "{start} twice");
    value.trim()
}

#[test]
fn the_compose_files_agree_with_their_configurations() {
    for (compose, config) in [("compose.yaml", "larder.toml"), ("compose.ci.yaml", "larder.ci.toml")] {
        let checked = command().arg("check").arg(path(config)).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let settings =
            Settings::load(&Overrides { config: Some(path(config)), ..Overrides::default() }).unwrap();
        let compose = text(compose);
        let subnet = value(&compose, "- subnet:");
        let served: Vec<_> = settings.access.clients.listed.iter().map(ToString::to_string).collect();
        assert_eq!((served, settings.access.clients.auto), (vec![subnet.to_owned()], false), "{config}");
        let grace = larder::config::units::duration(value(&compose, "stop_grace_period:")).unwrap();
        assert!(grace > settings.server.drain, "{config}");
        assert!(compose.contains(&format!("./{config}:")), "{config}");
    }
    for (compose, clients) in [("compose.yaml", &["app"][..]), ("compose.ci.yaml", &["job"])] {
        let compose = text(compose);
        // The names below `services:`, up to the next section.
        let services = compose.split("\nservices:\n").nth(1).unwrap().lines();
        let services = services.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
        let services = services.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
        let services: Vec<_> = services.filter(|name| name.chars().all(char::is_alphanumeric)).collect();
        assert!(services.contains(&"larder") && services.contains(&clients[0]), "{services:?}");
        let direct: Vec<_> = value(&compose, "no_proxy:").split(',').collect();
        for service in services.iter().filter(|service| !clients.contains(service)) {
            assert!(direct.contains(service), "{service} is asked through the proxy: {direct:?}");
        }
        assert!(direct.contains(&"localhost"), "{direct:?}");
        if let Some(upper) = compose.lines().find_map(|line| line.trim().strip_prefix("NO_PROXY: ")) {
            assert_eq!(upper, value(&compose, "no_proxy:"));
        }
    }
    let target = text("prometheus.yml");
    let settings =
        Settings::load(&Overrides { config: Some(path("larder.toml")), ..Overrides::default() }).unwrap();
    assert!(settings.admin.hosts.iter().any(|host| target.contains(&format!("\"{host}:9128\""))));
    // Grafana finds its dashboard where the provider looks for it, and its data where Prometheus is.
    let compose = text("compose.yaml");
    let provider = text("grafana/provisioning/dashboards/larder.yaml");
    let folder = value(&provider, "path:");
    assert!(compose.contains(&format!("- ../config/grafana:{folder}:ro")), "{folder}");
    assert!(compose.contains("- ./grafana/provisioning:/etc/grafana/provisioning:ro"));
    let home = value(&compose, "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH:");
    assert!(
        root()
            .join("config/grafana")
            .join(home.strip_prefix(folder).unwrap().trim_start_matches('/'))
            .exists()
    );
    let source = text("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!((value(&source, "type:"), value(&source, "url:")), ("prometheus", "http://prometheus:9090"));
    for mounted in text("compose.yaml").lines().filter_map(|line| line.trim().strip_prefix("- ../")) {
        let file = root().join(mounted.split(':').next().unwrap());
        assert!(file.exists(), "{file:?}");
    }
}
