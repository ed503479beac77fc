//! What a configuration may say, and how it is said when it is wrong.

use clap::Parser as _;

use super::*;

fn load(toml: &str, flags: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ternd.toml");
    std::fs::write(&file, toml).expect("written");
    let mut arguments = vec!["ternd", "--config", file.to_str().expect("UTF-8")];
    arguments.extend(flags);
    let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
    Config::load(&flags).map_err(|error| error.to_string())
}

#[test]
fn flags_override_the_file_and_the_file_the_built_in_values() {
    let config =
        load("cores = 3\n[limits]\ncode_attempts_max = 5", &["--limit", "devices_max=2"]).expect("valid");
    assert_eq!((config.cores, config.limits.code_attempts_max, config.limits.devices_max), (3, 5, 2));
    assert_eq!(load("cores = 3", &["--cores", "7"]).expect("valid").cores, 7);
    assert_eq!(load("", &[]).expect("valid").listen, loopback(7443));
}

#[test]
fn what_is_printed_can_be_read_back() {
    let config = load("", &[]).expect("valid");
    let again = load(&config.to_toml(), &[]).expect("its own output");
    assert_eq!(config.to_toml(), again.to_toml());
    let set =
        "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[sms]\nwebhook = \"https://x/\"\n[admin]\nsocket = \"s\"";
    let config = load(set, &["--limit", "devices_max=3,sends_burst=7"]).expect("valid");
    let again = load(&config.to_toml(), &[]).expect("its own output");
    assert!(config.differs_in(&again).is_empty(), "{:?}", config.differs_in(&again));
    assert_eq!(config.changed_limits(), ["devices_max=3", "sends_burst=7"]);
}

#[test]
fn every_key_is_printed_with_what_it_means() {
    let set =
        "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[sms]\nwebhook = \"https://x/\"\n[admin]\nsocket = \"s\"";
    let config = load(set, &[]).expect("valid");
    let all = toml::Table::try_from(&config).expect("TOML");
    let mut keys = Vec::new();
    let mut tables = vec![all];
    while let Some(table) = tables.pop() {
        for (name, value) in table {
            match value {
                toml::Value::Table(inner) => tables.push(inner),
                _ => keys.push(name),
            }
        }
    }
    let text = config.to_toml();
    let lines: Vec<&str> = text.lines().collect();
    for key in keys {
        let at = lines.iter().position(|line| line.starts_with(&format!("{key} = ")));
        let at = at.unwrap_or_else(|| panic!("{key} is not printed"));
        assert!(lines[at - 1].starts_with("# ") && lines[at - 1].len() > 10, "{key} is not explained");
    }
    let bare = load("", &[]).expect("valid").to_toml();
    for unset in ["# certificate = ", "# webhook = ", "# authorization = ", "# socket = "] {
        assert!(bare.contains(unset), "{unset} is not in\n{bare}");
    }
}

#[test]
fn what_a_reload_can_not_change_is_named() {
    let (before, after) = (
        load("", &[]).expect("valid"),
        load("cores = 3\n[log]\nfilter = \"debug\"\n[limits]\ndevices_max = 2", &[]).expect("valid"),
    );
    assert_eq!(before.differs_in(&after), ["cores", "log.filter", "limits.devices_max"]);
}

#[test]
fn a_mistake_on_the_line_of_a_secret_does_not_tell_it() {
    for line in
        ["authorisation = \"Bearer s3cret\"", "authorization = Bearer s3cret", "authorization = [\"s3cret\"]"]
    {
        let error = load(&format!("[sms]\n{line}\n"), &[]).expect_err("it is wrong");
        assert!(error.contains("line 2: ") && !error.contains("s3cret"), "{error}");
    }
    let before = load("[sms]\nauthorization = \"s3cret-1\"", &[]).expect("valid");
    let after = load("[sms]\nauthorization = \"s3cret-2\"", &[]).expect("valid");
    assert_eq!(before.differs_in(&after), ["sms.authorization"], "a change of it is named");
    assert!(!before.to_toml().contains("s3cret"));
    assert!(load("", &["--trace-every", &u64::MAX.to_string()]).is_err(), "what can't be printed is refused");
}

#[test]
fn the_largest_values_can_be_printed() {
    let largest: Vec<_> =
        LimitsTable::help().into_iter().map(|(key, _, range)| (key, *range.end())).collect();
    for (key, value) in largest {
        // The largest power of two, where it must be one.
        let value = if key == "receive_buffers" { 32_768 } else { value };
        let config = load("", &["--limit", &format!("{key}={value}")]).expect(key);
        assert!(config.to_toml().contains(&format!("{key} = {value}\n")), "{key}");
    }
}

#[test]
fn a_wrong_configuration_says_what_is_wrong() {
    let cases: [(&str, &[&str], &str); 12] = [
        ("corse = 3", &[], "corse"),
        ("[limits]\ncode_attempts_max = 0", &[], "limits.code_attempts_max = 0 is out of range: 1 to 100"),
        ("[limits]\nbody_bytes_max = 65537", &[], "limits.body_bytes_max = 65537"),
        ("[limits]\nreceive_buffers = 1000", &[], "no power of two"),
        ("[tls]\nkey = \"k\"", &[], "go together"),
        ("listen = \"0.0.0.0:1\"", &[], "sms.webhook"),
        ("listen = \"0.0.0.0:1\"\n[sms]\nwebhook = \"http://x\"", &[], "--certificate"),
        ("[sms]\nwebhook = \"example.org\"", &[], "no URL"),
        ("[metrics]\nlisten = \"0.0.0.0:1\"", &[], "not on loopback"),
        ("", &["--limit", "nonsense=1"], "--limit nonsense=1: there is no such limit"),
        ("", &["--limit", "devices_max=x"], "not KEY=NUMBER"),
        ("", &["--cores", "300"], "cores = 300"),
    ];
    for (toml, flags, expected) in cases {
        let error = load(toml, flags).expect_err(expected);
        assert!(error.contains(expected), "{error:?} does not name {expected:?}");
    }
}

#[test]
fn a_content_filter_is_off_unless_it_is_named_and_its_secret_is_not_printed() {
    assert_eq!(load("", &[]).expect("valid").filter.webhook, None);
    let set = "[filter]\nwebhook = \"https://x/\"\nauthorization = \"Bearer y\"\nwhen_down = \"refuse\"\nchats = \"groups\"";
    let config = load(set, &["--filter-timeout-ms", "70"]).expect("valid");
    let filtering = config.filter.filtering();
    assert_eq!((filtering.direct, filtering.groups, filtering.passes_unanswered), (false, true, false));
    assert!(
        filtering.timeout_ms > config.filter.timeout_ms,
        "those who ask say first that there is no answer"
    );
    let printed = config.to_toml();
    assert!(printed.contains("when_down = \"refuse\"") && printed.contains("timeout_ms = 70"), "{printed}");
    assert!(!printed.contains("Bearer y"));
    assert_eq!(
        load("", &[])
            .expect("valid")
            .differs_in(&config)
            .iter()
            .filter(|key| key.starts_with("filter."))
            .count(),
        5
    );
    for wrong in [
        "webhook = \"ftp://x/\"",
        "authorization = \"a\\nb\"",
        "timeout_ms = 0",
        "timeout_ms = 10001",
        "in_flight_max = 0",
        "in_flight_max = 1001",
        "when_down = \"perhaps\"",
        "chats = \"none\"",
    ] {
        assert!(load(&format!("[filter]\n{wrong}"), &[]).is_err(), "{wrong}");
    }
}

#[test]
fn push_services_are_off_unless_they_are_named_and_half_of_one_is_none() {
    let config = load("", &[]).expect("valid");
    assert!(config.push.apns.key_file.is_none() && config.push.web_push.contact.is_none());
    let set = "[push]\nheld_max = 7\n[push.apns]\nkey_file = \"k\"\nkey_id = \"A\"\nteam_id = \"B\"\ntopic = \"org.example\"\n\
               [push.web_push]\ncontact = \"mailto:a@b\"\nhosts = []";
    let config = load(set, &["--push-apns-server", "sandbox"]).expect("valid");
    assert_eq!(config.push.apns.url(), tern_push::apns::SANDBOX);
    let again = load(&config.to_toml(), &[]).expect("its own output");
    assert!(config.differs_in(&again).is_empty(), "{:?}", config.differs_in(&again));
    let changed = load("[push.webhook]\nkey_id = \"2\"", &[]).expect("valid");
    assert_eq!(load("", &[]).expect("valid").differs_in(&changed), ["push.webhook.key_id"]);
    for wrong in [
        "[push]\nheld_max = 0",
        "[push]\ntries_max = 101",
        "[push.apns]\nkey_file = \"k\"",
        "[push.apns]\nserver = \"http://x\"",
        "[push.webhook]\nurl = \"http://127.0.0.1/\"",
        "[push.webhook]\nurl = \"ftp://x\"\nkey_file = \"k\"",
        "[push.web_push]\nkey_file = \"k\"",
        "[push.fcm]\naccount = \"k\"",
    ] {
        assert!(load(wrong, &[]).is_err(), "{wrong}");
    }
}
