//! The client library as `tern-conform` tries it: docs/CONFORM.md. It does what lines of JSON say, and says what it shows.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tern_client::{Client, Error, Event, Message, Options, Registrar, State, Trust, store::Store};
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn say(value: &Value) {
    // Whoever does not read it any more has ended this.
    let _ = writeln!(std::io::stdout(), "{value}");
}

fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| Error::Config(format!("{name} is not set: tern-conform starts this")))
}

async fn register(options: &Options, phone: &str, code: &str) -> Result<(), Error> {
    let mut registrar = Registrar::connect(options).await?;
    registrar.register(phone).await?;
    registrar.verify(phone, code, "Ann", "conform").await?;
    registrar.close().await;
    Ok(())
}

/// Keeps a message, and says what becomes of it.
async fn send(client: &Client, order: &Value) {
    let tag = order["tag"].clone();
    let (chat, text) =
        (order["chat"].as_u64().unwrap_or_default(), order["text"].as_str().unwrap_or_default());
    let kept = client.keep(chat, text).await;
    tokio::spawn(async move {
        let sent = match kept {
            Ok(kept) => kept.sent().await,
            Err(error) => Err(error),
        };
        say(&match sent {
            Ok(sent) => json!({ "sent": { "tag": tag, "seq": sent.seq } }),
            Err(error) => json!({ "refused": { "tag": tag, "why": error.to_string() } }),
        });
    });
}

async fn run() -> Result<(), Error> {
    let state = PathBuf::from(variable("TERN_CONFORM_STATE")?);
    let trust = Trust::CaFile(variable("TERN_CONFORM_CA")?.into());
    let options = Options::new(variable("TERN_CONFORM_SERVER")?, trust, State::Dir(state.clone()));
    if Store::open(&state)?.account()?.is_none() {
        let (phone, code) = (variable("TERN_CONFORM_PHONE")?, variable("TERN_CONFORM_CODE")?);
        while let Err(error) = register(&options, &phone, &code).await {
            if !matches!(error, Error::Connection(_) | Error::TimedOut) {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let (client, mut events) = Client::start(options).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return Ok(()) };
                let order: Value = serde_json::from_str(&line).unwrap_or_default();
                if !order["send"].is_null() {
                    send(&client, &order["send"]).await;
                }
                if let Some(chat) = order["have"]["chat"].as_u64() {
                    let kept = client.kept(chat, 0, 10_000).await?;
                    let seqs: Vec<_> = kept.iter().map(|message| message.seq).collect();
                    let text = |message: &Message| String::from_utf8_lossy(&message.body).into_owned();
                    let texts: Vec<_> = kept.iter().map(text).collect();
                    say(&json!({ "have": { "chat": chat, "seqs": seqs, "texts": texts } }));
                }
            }
            event = events.next() => match event {
                Some(Event::Message(message)) => {
                    let text = String::from_utf8_lossy(&message.body).into_owned();
                    let (chat, seq, own) = (message.chat, message.seq, message.own);
                    say(&json!({ "message": { "chat": chat, "seq": seq, "own": own, "text": text } }));
                }
                Some(Event::Receipt { chat, delivered_upto, read_upto, own: false }) => {
                    let marks = json!({ "chat": chat, "delivered_upto": delivered_upto, "read_upto": read_upto });
                    say(&json!({ "receipt": marks }));
                }
                Some(Event::Gone(message)) => {
                    say(&json!({ "gone": { "chat": message.chat, "seq": message.seq } }));
                }
                Some(Event::SessionEnded(reason)) => say(&json!({ "ended": { "reason": reason.name() } })),
                Some(Event::OtherStore) => say(&json!({ "ended": { "reason": "another store" } })),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
