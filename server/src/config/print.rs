//! The configuration as text: every key with what it means, and what differs between two of them.

use super::{Config, LimitsTable};

impl Config {
    /// As TOML, every key with what it means.
    pub fn to_toml(&self) -> String {
        let values = toml::Table::try_from(self).expect("a configuration is tables, strings and numbers");
        let mut text = String::new();
        for (table, keys) in help() {
            if !table.is_empty() {
                text += &format!("\n[{table}]\n");
            }
            for (key, help) in keys {
                text += &format!("# {help}\n");
                // What is not set stands there as what it would be.
                text += &match value_of(&values, table, key) {
                    Some(value) => format!("{key} = {value}\n"),
                    None => format!("# {key} = \"\"\n"),
                };
            }
        }
        text
    }

    /// Limits that are not as they are by themselves, as `--limit` takes them.
    pub fn changed_limits(&self) -> Vec<String> {
        let of = |limits: &LimitsTable| toml::Table::try_from(limits).expect("numbers");
        let usual = of(&LimitsTable::default());
        let changed = of(&self.limits).into_iter().filter(|(key, value)| usual.get(key) != Some(value));
        changed.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Keys whose values differ from another configuration's, as `table.key`.
    pub fn differs_in(&self, other: &Self) -> Vec<String> {
        let of = |config: &Self| {
            toml::Table::try_from(config).expect("a configuration is tables, strings and numbers")
        };
        let (mine, others) = (of(self), of(other));
        let mut keys = Vec::new();
        for (table, of_table) in help() {
            let differs =
                |(key, _): &(&str, String)| value_of(&mine, table, key) != value_of(&others, table, key);
            let name = |(key, _): (&str, String)| {
                if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
            };
            keys.extend(of_table.into_iter().filter(differs).map(name));
        }
        // These are in no printed table.
        if self.sms.authorization != other.sms.authorization {
            keys.push("sms.authorization".to_owned());
        }
        if self.filter.authorization != other.filter.authorization {
            keys.push("filter.authorization".to_owned());
        }
        keys
    }
}

/// What a key of a table is set to; the table without a name is all of it, and one in another is named `outer.inner`.
fn value_of<'a>(all: &'a toml::Table, table: &str, key: &str) -> Option<&'a toml::Value> {
    let names = table.split('.').filter(|name| !name.is_empty());
    let table = names.into_iter().try_fold(all, |outer, name| outer.get(name)?.as_table())?;
    table.get(key)
}

/// Every key by its table, and what it means; but for the limits, which say it themselves.
const KEYS: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("listen", "Address to listen on."),
            ("data_dir", "Directory of the store, the admin socket and the development certificate."),
            ("cores", "Threads with a ring and a share of the users each; 0: one a CPU. At most 256."),
            (
                "engine",
                "Where the data lies: \"embedded\", on disk, \"fdb\", in FoundationDB, or \"memory\", which forgets all at the end.",
            ),
        ],
    ),
    (
        "tls",
        &[
            (
                "certificate",
                "Certificate chain (PEM), the server's own first. Not set: a development certificate.",
            ),
            ("key", "The certificate's private key (PEM). Goes with it."),
            (
                "allow_development_certificate",
                "Serve the development certificate although other machines can connect.",
            ),
        ],
    ),
    (
        "network",
        &[
            (
                "proxy_protocol_from",
                "Balancers' ranges of addresses: from there each connection begins with a PROXY header of version 2.",
            ),
            ("shared_addresses", "Unrelated people share addresses: nothing is limited by address."),
        ],
    ),
    (
        "sms",
        &[
            (
                "webhook",
                "URL that one-time codes are POSTed to as JSON. Not set: they are printed, on loopback alone.",
            ),
            (
                "authorization",
                "What the header Authorization of those says, like \"Bearer …\". It is never printed.",
            ),
        ],
    ),
    (
        "filter",
        &[
            (
                "webhook",
                "URL that what people say is POSTed to as JSON before it is sent: a content filter. Not set: there is none.",
            ),
            (
                "authorization",
                "What the header Authorization of those says, like \"Bearer …\". It is never printed.",
            ),
            ("timeout_ms", "How long its answer is waited for. 1 to 10000."),
            (
                "when_down",
                "What becomes of messages that it has not answered for: \"pass\", or \"refuse\", for now.",
            ),
            ("chats", "Whose messages it is asked about: \"all\", \"direct\" or \"groups\"."),
            ("in_flight_max", "Questions at once. 1 to 1000."),
        ],
    ),
    (
        "metrics",
        &[
            ("enabled", "Whether there are /metrics, /healthz and /readyz."),
            ("listen", "Their address, on loopback unless it is allowed elsewhere."),
            (
                "allow_elsewhere",
                "They may be off loopback, where whoever can connect may read them: a container's network, say.",
            ),
        ],
    ),
    (
        "media",
        &[
            ("enabled", "Whether media are taken, and had."),
            (
                "listen",
                "Address of the HTTPS listener for them. Not set: the address of the clients' listener, and the next port.",
            ),
            ("url", "URL under which clients reach it: a name, a CDN. Not set: https:// and its address."),
            ("dir", "Directory of media. Not set: media in the data directory."),
            (
                "bucket",
                "Bucket in which they lie instead, as s3://BUCKET/PREFIX: what speaks S3. How it is reached, and as whom, the environment \
                 says: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL. What is under way lies in the directory.",
            ),
            (
                "bucket_direct",
                "Send whoever has a link to the bucket, by a link that it gives: clients must reach it.",
            ),
            (
                "previews",
                "Whether previews are made of them: by tern-preview, beside ternd, a process for each, locked in.",
            ),
            ("threads", "Threads that serve them, beside the cores. 1 to 256."),
        ],
    ),
    (
        "push",
        &[
            ("threads", "Threads that speak to push services, beside the cores. 1 to 64."),
            ("in_flight_max", "Requests in flight to each push service. Beyond, notices wait. 1 to 10000."),
            (
                "held_max",
                "Notices that are held for each service. Beyond, they wait in the store, and are looked at again. 1 to 1048576.",
            ),
            (
                "tries_max",
                "How often a notice is tried. Beyond, it is a dead letter: it is counted, and goes. 1 to 100.",
            ),
            ("retry_ms", "The longest wait behind the first try; it doubles with each. 1 to 60000."),
            (
                "failures_max",
                "Failures of a service in a row from which on its notices wait, and one tries now and then. 1 to 1000.",
            ),
            ("timeout_ms", "How long a push service's answer may take. 100 to 60000."),
            (
                "roots",
                "Whom certificates of push services are to come from (PEM), and no others. Not set: those whom this machine trusts.",
            ),
        ],
    ),
    (
        "push.apns",
        &[
            ("key_file", "Key of APNs: the .p8 file from Apple. Not set: nobody is told by Apple."),
            ("key_id", "That key's id, ten characters."),
            ("team_id", "The id of the team whose key it is."),
            ("topic", "The app's bundle id."),
            ("server", "\"production\", \"sandbox\" for apps from Xcode, or a URL with https://."),
        ],
    ),
    (
        "push.fcm",
        &[
            (
                "account_file",
                "Service account of Firebase: the JSON file from Google. Not set: nobody is told by FCM.",
            ),
            ("url", "Where FCM takes messages."),
        ],
    ),
    (
        "push.web_push",
        &[
            (
                "contact",
                "Whom browsers' push services ask if something is wrong: mailto: or https:. Not set: there is no Web Push.",
            ),
            (
                "key_file",
                "Key (PEM, P-256), to which browsers subscribe. Not set: web-push-key.pem in the data directory, made at the first start.",
            ),
            ("hosts", "Hosts of browsers' push services that are told, and those below them. None: all."),
            ("private_hosts", "Also hosts with addresses that are not public: for tests."),
        ],
    ),
    (
        "push.webhook",
        &[
            (
                "url",
                "URL of a program of yours that tells devices that sleep, by POSTs of JSON. Not set: there is none.",
            ),
            ("key_file", "Key that signs those POSTs: what is in this file, but for white space at its end."),
            ("key_id", "What the program knows that key by."),
        ],
    ),
    (
        "admin",
        &[
            ("socket", "Path of the admin socket. Not set: ternd.sock in the data directory."),
            ("allow_provision", "Let `ternctl provision` make verified users outside development mode."),
        ],
    ),
    (
        "log",
        &[
            ("format", "Form of the log: \"auto\", \"human\" or \"json\"."),
            (
                "filter",
                "What is logged: error, warn, info, debug, or a filter like tern_server=debug. Read again on SIGHUP.",
            ),
        ],
    ),
    (
        "latency",
        &[(
            "ack_p99_ms",
            "Aim: 99 of 100 messages acknowledged within so many ms; what the disk leaves of it makes groups larger. 0: at once.",
        )],
    ),
    (
        "trace",
        &[("every", "Follow each message whose client id is a multiple of this, for GET /traces. 0: none.")],
    ),
    (
        "fdb",
        &[
            (
                "cluster_file",
                "FoundationDB's cluster file: who the coordinators are. It must be writable: FoundationDB changes it.",
            ),
            ("prefix", "What all keys begin with, so that FoundationDB may hold other things too."),
            ("lanes", "Transactions under way at once; 0: one a core, and at most 8."),
            (
                "datacenter_id",
                "The data center that this process is in, as FoundationDB's own processes name theirs. Empty: not said.",
            ),
            ("machine_id", "The machine, likewise."),
            (
                "certificate",
                "Certificate chain towards FoundationDB (PEM). Not set: no TLS, or as FDB_TLS_CERTIFICATE_FILE says.",
            ),
            ("key", "Its private key (PEM). Goes with it."),
            ("ca", "Who signs FoundationDB's certificates (PEM)."),
            ("verify_peers", "What those must say, in FoundationDB's words, like \"Check.Valid=1\"."),
        ],
    ),
    (
        "balance",
        &[("automatic", "Move slots to other cores when a core has been busier than others for a minute.")],
    ),
];

/// Every key by its table, and what it means.
fn help() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let plain = KEYS
        .iter()
        .map(|(table, keys)| (*table, keys.iter().map(|(key, help)| (*key, (*help).to_owned())).collect()));
    let limits = LimitsTable::help()
        .into_iter()
        .map(|(key, help, range)| (key, format!("{help} {} to {}.", range.start(), range.end())))
        .collect();
    plain.chain([("limits", limits)]).collect()
}
