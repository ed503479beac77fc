//! How a profile becomes a device of an account: by a one-time code, and the account's PIN if it has one, or by another device's link.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use serde_json::json;
use tern_client::{Account, DeviceLink, Error, Options, Reason, Registrar};

use crate::commands::{self, Done, ask, print, print_json, print_lines};
use crate::profile::ProfileArgs;
use crate::who;

/// Which account.
#[derive(Args)]
pub struct Register {
    /// One's own phone
    #[arg(value_parser = who::phone)]
    phone: String,
    /// The name that others see; an account that exists keeps its own if this is left out
    #[arg(long, default_value = "", value_parser = who::name)]
    name: String,
    /// The code of an earlier request; without it a code is sent, and asked for
    #[arg(long)]
    code: Option<String>,
    /// The account's PIN; without it, it is asked for if there is one
    #[arg(long, default_value = "", hide_default_value = true)]
    pin: String,
    /// What this device is called in the list of one's devices
    #[arg(long, default_value = "terminal")]
    device: String,
    /// Empty a profile that is registered with another phone or server, or holds messages that have not been sent
    #[arg(long)]
    replace: bool,
}

/// Makes the profile a device of a phone's account.
pub async fn register(profile: &ProfileArgs, mut register: Register, json: bool) -> Done {
    let options = profile.to_register()?;
    let (mut code, mut attempts) = match register.code.take() {
        // What is given is what is tried.
        Some(code) => (code, 1),
        None => {
            let attempts = register.ask_for_code(&options).await?;
            (read_line()?, attempts)
        }
    };
    let account = loop {
        match register.verify(&options, &code).await {
            Err(Error::Refused { reason: Reason::CodeWrong, .. }) if attempts > 1 => {
                attempts -= 1;
                let tries = match attempts {
                    1 => "one more try".to_owned(),
                    more => format!("{more} more tries"),
                };
                prompt(&format!("that is not the code that was sent; {tries}: "));
                code = read_line()?;
            }
            Err(Error::Refused { reason: Reason::InvalidArgument, .. })
                if attempts > 1 && !is_code(&code) =>
            {
                prompt("a code is six digits: ");
                code = read_line()?;
            }
            // Whoever has given one with the command is told that it is wrong.
            Err(Error::Refused { reason: Reason::PinNeeded, .. }) if std::io::stdin().is_terminal() => {
                register.pin = read_pin("the account has a PIN: ")?;
            }
            Err(Error::Refused { reason: Reason::PinWrong, .. }) if std::io::stdin().is_terminal() => {
                register.pin = read_pin("that is not the PIN: ")?;
            }
            done => break done?,
        }
    };
    profile.remember(&options)?;
    tell_registered(profile, &register.phone, (account.user_id, account.device_id), json)
}

impl Register {
    async fn verify(&self, options: &Options, code: &str) -> Result<Account, Error> {
        let mut registrar = Registrar::connect(options).await?.replacing(self.replace);
        registrar.set_pin(&self.pin);
        let account = registrar.verify(&self.phone, code, &self.name, &self.device).await?;
        registrar.close().await;
        Ok(account)
    }

    /// Has a code sent. A person takes longer than a server waits for a login, so this connection ends before. Gives how often a wrong
    /// one may be tried.
    async fn ask_for_code(&self, options: &Options) -> Result<u32, Error> {
        let mut registrar = Registrar::connect(options).await?.replacing(self.replace);
        let sent = registrar.register(&self.phone).await?;
        registrar.close().await;
        let (digits, minutes) = (sent.digits, sent.expires_in_ms.div_ceil(60_000));
        prompt(&format!(
            "a code of {digits} digits was sent to {}, good for {minutes} minutes: ",
            self.phone
        ));
        Ok(sent.attempts)
    }
}

/// Says of which account the profile is a device now.
fn tell_registered(profile: &ProfileArgs, phone: &str, (user, device): (u64, u32), json: bool) -> Done {
    if json {
        print_json(&json!({ "user_id": user, "device_id": device, "phone": phone }));
    } else {
        let place = profile.place()?;
        print(&format!("{phone} is user {user}, and this profile its device {device}: {place}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the profile a device of the account whose device has shown a link.
pub async fn link(profile: &ProfileArgs, link: &DeviceLink, device: &str, replace: bool, json: bool) -> Done {
    let options = profile.to_register()?;
    let mut registrar = Registrar::connect(&options).await?.replacing(replace);
    let account = registrar.link(link, device).await?;
    registrar.close().await;
    profile.remember(&options)?;
    tell_registered(profile, &account.phone, (account.user_id, account.device_id), json)
}

/// Sets the account's PIN, which is asked for, or none.
pub async fn lock(profile: &ProfileArgs, off: bool, json: bool) -> Done {
    let pin = match off {
        true => String::new(),
        false => {
            let pin = read_pin("a PIN of 4 to 64 characters: ")?;
            if std::io::stdin().is_terminal() && read_pin("the same once more: ")? != pin {
                return Err(commands::not_possible("that is another one: nothing has changed"));
            }
            pin
        }
    };
    let answer = ask(profile, "set_pin", json!({ "pin": pin })).await?;
    print_lines(&answer, json, |answer| {
        let has = answer["has_pin"] == true;
        vec![if has { "the account has this PIN now" } else { "the account has no PIN" }.to_owned()]
    });
    Ok(ExitCode::SUCCESS)
}

/// Has the account end, with its PIN, which is asked for.
pub async fn delete_account(profile: &ProfileArgs, has_pin: bool, json: bool) -> Done {
    let pin = if has_pin { read_pin("the account's PIN: ")? } else { String::new() };
    let answer = ask(profile, "delete_account", json!({ "pin": pin })).await?;
    print_lines(&answer, json, |answer| {
        let at = crate::shown::time_of(answer["ends_ms"].as_u64().unwrap_or_default());
        vec![
            format!("the account ends at {at}; no device of it is let in any more"),
            "whoever registers its phone before keeps it, as it was (`tern register`)".to_owned(),
        ]
    });
    Ok(ExitCode::SUCCESS)
}

fn is_code(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn prompt(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{text}");
    let _ = stderr.flush();
}

fn read_line() -> Result<String, Error> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if !std::io::stdin().is_terminal() {
        prompt("\n");
    }
    match read {
        Ok(1..) => Ok(line.trim().to_owned()),
        _ => Err(Error::Config("no code was given: register again with --code CODE".to_owned())),
    }
}

/// Reads a PIN; from a terminal, without showing it.
fn read_pin(text: &str) -> Result<String, Error> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| Error::Config(error.to_string()))?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    prompt(text);
    let io = |error: std::io::Error| Error::Config(format!("the terminal: {error}"));
    enable_raw_mode().map_err(io)?;
    let typed = read_hidden().map_err(io);
    disable_raw_mode().map_err(io)?;
    prompt("\n");
    typed?.ok_or_else(|| Error::Config("no PIN was given".to_owned()))
}

/// What is typed up to Enter; `None`: it was given up.
fn read_hidden() -> std::io::Result<Option<String>> {
    let mut typed = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Enter => return Ok(Some(typed)),
            KeyCode::Esc => return Ok(None),
            KeyCode::Char('c' | 'd') if is_control => return Ok(None),
            KeyCode::Char(character) if !is_control => typed.push(character),
            KeyCode::Backspace => drop(typed.pop()),
            _ => {}
        }
    }
}
