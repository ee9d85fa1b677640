use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;

use super::{
    args::{EtcdOptions, ServeOptions},
    *,
};

fn serve_with(flags: &[&str], peers: Option<&str>) -> Result<ServeOptions, String> {
    let words = ["bellwether", "serve"].iter().chain(flags).map(OsString::from);
    let cli = parse(words).map_err(|e| e.to_string())?;
    let Command::Serve(args) = cli.command else { panic!("not serve") };
    let env = |name: &str| match name {
        "ETCD_PEERS" => peers.map(str::to_owned),
        "STATE_DIRECTORY" => Some("/state".to_owned()),
        _ => None,
    };
    args.options(env, "host-1").map_err(|e| e.to_string())
}

fn serve(flags: &[&str]) -> Result<ServeOptions, String> {
    serve_with(flags, None)
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn defaults_are_the_issues() {
    let o = serve(&[]).unwrap();
    assert_eq!(o.listen.to_string(), "0.0.0.0:8080");
    assert_eq!((o.node.as_str(), o.region, o.environment.as_str()), ("host-1", None, "local"));
    assert_eq!((o.etcd, o.key_prefix.as_str(), o.data_dir), (None, "/ft", PathBuf::from("/state")));
    assert_eq!((o.graphite, o.vulcand, o.socks_proxy), (None, None, None));
    assert_eq!((o.session_ttl, o.mass_removal_hold), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(o.drain_delay, Duration::from_secs(5));
    assert_eq!(serve(&["--drain-delay", "0"]).unwrap().drain_delay, Duration::ZERO);
    assert!(o.warnings.is_empty() && o.sev_1_apps.is_empty());
}

#[test]
fn ft_names_are_kept() {
    let want = EtcdOptions {
        endpoints: vec!["http://a:4001".into(), "http://b:2379".into()],
        user: None,
        ca: None,
        client_cert: None,
    };
    assert_eq!(serve(&["--etcd-peers", "http://a:4001, b"]).unwrap().etcd, Some(want.clone()));
    assert_eq!(serve(&["--etcd-endpoints", "http://a:4001,b"]).unwrap().etcd, Some(want.clone()));
    assert_eq!(serve_with(&[], Some("http://a:4001,b")).unwrap().etcd, Some(want));
    let both = serve_with(&["--etcd-endpoints", "c"], Some("http://a:4001")).unwrap().etcd.unwrap();
    assert_eq!(both.endpoints, ["http://c:2379"], "a flag beats FT's variable");
    let o = serve(&["--vulcand", "localhost:8080", "--sev-1-apps", "a, b,", "--socks-proxy", ""]).unwrap();
    assert_eq!(o.vulcand.unwrap().to_string(), "localhost:8080");
    assert_eq!((o.sev_1_apps, o.socks_proxy), (vec!["a".to_owned(), "b".to_owned()], None));
}

#[test]
fn every_flag_is_an_environment_variable_too() {
    let command = command();
    let serve = command.find_subcommand("serve").unwrap();
    let named = |long: &str| {
        let arg = serve.get_arguments().find(|a| a.get_long() == Some(long)).unwrap_or_else(|| panic!("no --{long}"));
        arg.get_env().unwrap_or_else(|| panic!("--{long} has no variable")).to_str().unwrap().to_owned()
    };
    for (long, variable) in [
        ("environment", "ENVIRONMENT"),
        ("etcd-endpoints", "ETCD_ENDPOINTS"),
        ("vulcand", "VULCAND_ADDRESS"),
        ("socks-proxy", "SOCKS_PROXY"),
        ("graphite-host", "GRAPHITE_HOST"),
        ("graphite-port", "GRAPHITE_PORT"),
        ("sev-1-apps", "SEV_1_APPS"),
    ] {
        assert_eq!(named(long), variable);
    }
    for long in "listen advertise-url node region etcd-user etcd-password-file etcd-ca etcd-cert etcd-key key-prefix \
                 data-dir catalog graphite-prefix graphite-interval session-ttl admin-token-file admin-listen tls-cert \
                 statsd statsd-prefix metrics-targets \
                 tls-key client-ca mass-removal-hold log-format log-level max-probes max-probes-per-host cluster-token-file \
                 cluster-ca"
        .split_whitespace()
    {
        assert_eq!(named(long), format!("BELLWETHER_{}", long.to_uppercase().replace('-', "_")));
    }
}

#[test]
fn flags_that_belong_together_are_checked() {
    for (flags, said) in [
        (&["--tls-cert", "c"][..], "--tls-cert needs --tls-key"),
        (&["--tls-key", "k"], "--tls-key needs --tls-cert"),
        (&["--client-ca", "c"], "--client-ca needs --tls-cert"),
        (&["--etcd-user", "u", "--etcd-endpoints", "a"], "--etcd-user needs --etcd-password-file"),
        (&["--etcd-ca", "c"], "--etcd-ca needs --etcd-endpoints"),
        (&["--etcd-ca", "c", "--etcd-endpoints", "http://a:1"], "needs --etcd-endpoints with https://"),
        (&["--etcd-cert", "c", "--etcd-endpoints", "a"], "--etcd-cert needs --etcd-key"),
        (&["--etcd-endpoints", "http://a:1,https://b:1"], "mixes http:// and https://"),
        (&["--etcd-endpoints", "a", "--catalog", "f"], "bellwether apply -f"),
        (&["--admin-listen", "0.0.0.0:8080"], "must differ"),
    ] {
        let error = serve(flags).unwrap_err();
        assert!(error.contains(said), "{flags:?}: {error}");
    }
    let tls = serve(&["--etcd-ca", "c", "--etcd-endpoints", "a"]).unwrap().etcd.unwrap();
    assert_eq!(tls.endpoints, ["https://a:2379"], "a CA asks for TLS");
}

#[test]
fn doubtful_values_warn() {
    assert!(serve(&["--session-ttl", "3s"]).unwrap().warnings.first().unwrap().contains("below 5s"));
    assert!(serve(&["--admin-listen", "0.0.0.0:9"]).unwrap().warnings.first().unwrap().contains("--admin-token-file"));
}

#[test]
fn a_wrong_value_says_what_was_expected() {
    for (flags, said) in [
        (&["--log-format", "jsno"][..], "json"),
        (&["--session-ttl", "31s"], "3s to 30s"),
        (&["--graphite-interval", "1 min"], "did you mean 1m?"),
        (&["--graphite-port", "0"], "1 to 65535"),
        (&["--graphite-port", "carbon"], "1 to 65535"),
        (&["--node", "a/b"], "A-Z a-z 0-9 . _ -"),
        (&["--max-probes", "0"], "at least 1"),
        (&["--etcd-endpiont", "a"], "--etcd-endpoints"),
    ] {
        let error = serve(flags).unwrap_err();
        assert!(error.contains(said), "{flags:?}: {error}");
    }
}

#[test]
fn wrong_verbs_name_the_nearest() {
    let said = |words: &[&str]| parse(words.iter().map(OsString::from)).unwrap_err().to_string();
    assert!(said(&["bellwether", "stauts"]).contains("'status'"));
    assert!(said(&["bellwether", "get", "tragets"]).contains("'targets'"));
    assert!(said(&["bellwether", "ack", "a", "-m", " "]).contains("no ack"));
    assert!(said(&["bellwether", "ack", "a"]).contains("--message"));
    assert!(said(&["bellwether", "cluster-ack"]).contains("--message"));
    assert!(
        said(&["bellwether", "ack", "a", "-m", "x", "--for", "1h", "--until", "2026-01-31T12:00:00Z"])
            .contains("cannot be used with")
    );
}

proptest! {
    #[test]
    fn arguments_never_panic(words in proptest::collection::vec("(--[a-z-]{1,12}|[a-z0-9:/.,-]{0,12})", 0..6)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = serve(&words);
    }
}
