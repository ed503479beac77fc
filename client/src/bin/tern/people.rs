//! Whom one knows, whom one blocks, and what others may see of one: as commands, as methods, as JSON.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{Audience, Category, Contact, Privacy};

use crate::commands::{self, ask, print_lines};
use crate::media;
use crate::methods::{Failure, Session, parse, who};
use crate::private::YesOrNo;
use crate::profile::ProfileArgs;
use crate::shown::{self, clean_line};
use crate::who::Who;

/// Other people, as one sees them and is seen by them.
#[derive(Subcommand)]
pub enum People {
    /// Print one's contacts, as far as this profile has heard; or name one, on all of one's devices
    Contacts {
        /// Whom to name
        #[arg(requires = "what")]
        who: Option<Who>,
        /// What one calls them
        #[arg(long, group = "what")]
        name: Option<String>,
        /// They are none of one's contacts any more
        #[arg(long, group = "what")]
        remove: bool,
    },
    /// Print who of an address book is here, and lets one find them
    Discover {
        /// Phones: a plus sign and 8 to 15 digits
        #[arg(required_unless_present = "from", value_parser = crate::who::phone)]
        numbers: Vec<String>,
        /// Those that stand at the beginnings of the lines of this file; `-`: of standard input
        #[arg(long, value_name = "FILE", conflicts_with = "numbers")]
        from: Option<PathBuf>,
    },
    /// Print what a person says of themselves, and their picture, as far as they let one see it; or, without WHO, oneself, as it is after what
    /// is changed here
    Profile {
        /// Of whom
        who: Option<Who>,
        /// What one says of oneself; empty for nothing
        #[arg(long, conflicts_with = "who")]
        about: Option<String>,
        /// One's picture
        #[arg(long, value_name = "FILE", conflicts_with = "who")]
        picture: Option<PathBuf>,
        /// None any more
        #[arg(long, conflicts_with_all = ["who", "picture"])]
        no_picture: bool,
    },
    /// Show a link, as a QR code and as text, by which others add one without one's number
    Card {
        /// Another one: those who have the one before, and have not followed it, do not find one by it any more
        #[arg(long)]
        renew: bool,
    },
    /// Add somebody as a contact by the link that they show (`tern card`)
    Add {
        /// The link
        link: tern_client::Card,
        /// What one calls them; without it, what they call themselves
        #[arg(long)]
        name: Option<String>,
    },
    /// Block somebody: what they send is shown to nobody, and they learn nothing. Without WHO, print whom one blocks
    Block {
        /// Whom
        who: Option<Who>,
    },
    /// Block somebody no more: what comes from then on is shown
    Unblock {
        /// Whom
        who: Who,
    },
    /// Tell the operators of the server of somebody, or of messages of theirs. Who is reported learns nothing
    Report {
        /// Whom, or the chat in which the messages stand
        who: Who,
        /// The messages, by their numbers: they are attached as one sees them. Without, it is the person who is reported
        seqs: Vec<u64>,
        /// What is wrong
        #[arg(long, value_name = "CATEGORY", default_value = "other")]
        category: What,
        /// What there is to say of it
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Say what others may see of one, and do, on all of one's devices; what is not said stays. Prints how it is then
    Privacy {
        /// Who sees when one was here last
        #[arg(long, value_name = "WHOM")]
        last_seen: Option<Whom>,
        /// Who sees that one is here
        #[arg(long, value_name = "WHOM")]
        online: Option<Whom>,
        /// Who sees one's picture
        #[arg(long, value_name = "WHOM")]
        picture: Option<Whom>,
        /// Who sees what one says of oneself
        #[arg(long, value_name = "WHOM")]
        about: Option<Whom>,
        /// Who may take one into a group
        #[arg(long, value_name = "WHOM")]
        groups: Option<Whom>,
        /// Who finds one by one's number
        #[arg(long, value_name = "WHOM")]
        found_by_phone: Option<Whom>,
        /// Whether in direct chats others are told what one has read, and one is told what they have
        #[arg(long, value_name = "YES_OR_NO")]
        read_receipts: Option<YesOrNo>,
    },
}

/// An audience.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whom {
    Everyone,
    Contacts,
    Nobody,
}

/// What is wrong with what is reported.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    Other,
    Spam,
    Abuse,
    Violence,
    Sexual,
    Impersonation,
}

const SETTINGS: [&str; 6] = ["last_seen", "online", "picture", "about", "groups", "found_by_phone"];

/// Does one of these.
pub async fn run(profile: &ProfileArgs, people: People, json: bool) -> commands::Done {
    let (method, params) = match people {
        People::Contacts { who: None, .. } => ("contacts", Map::new()),
        People::Contacts { who: Some(who), name, remove } => {
            let mut contact = who.params();
            contact.extend([
                ("name".to_owned(), name.unwrap_or_default().into()),
                ("is_one".to_owned(), (!remove).into()),
            ]);
            ("set_contacts", Map::from_iter([("contacts".to_owned(), json!([contact]))]))
        }
        People::Discover { numbers, from } => {
            let numbers = from.map_or(Ok(numbers), |file| numbers_of(&file))?;
            ("discover", Map::from_iter([("phones".to_owned(), numbers.into())]))
        }
        People::Profile { who, about, picture, no_picture } => {
            let mut params = who.map(|who| who.params()).unwrap_or_default();
            let medium = media::picture(profile, picture.as_deref(), no_picture).await?;
            let is_asked = about.is_none() && medium.is_none();
            params.extend(about.map(|about| ("about".to_owned(), about.into())));
            params.extend(medium.map(|medium| ("medium".to_owned(), medium)));
            (if is_asked { "profile" } else { "set_profile" }, params)
        }
        People::Card { renew } => ("card", Map::from_iter([("renew".to_owned(), renew.into())])),
        People::Add { link, name } => {
            let mut params = Map::from_iter([("link".to_owned(), link.to_string().into())]);
            params.extend(name.map(|name| ("name".to_owned(), name.into())));
            ("add", params)
        }
        People::Block { who: None } => ("blocked", Map::new()),
        People::Block { who: Some(who) } => ("block", with(who, "is_blocked", true)),
        People::Unblock { who } => ("block", with(who, "is_blocked", false)),
        People::Report { who, seqs, category, comment } => {
            let mut params = who.params();
            params.insert("category".to_owned(), what_name(category).into());
            params.extend((!seqs.is_empty()).then(|| ("seqs".to_owned(), seqs.into())));
            params.extend(comment.map(|comment| ("comment".to_owned(), comment.into())));
            ("report", params)
        }
        People::Privacy { last_seen, online, picture, about, groups, found_by_phone, read_receipts } => {
            let said = [last_seen, online, picture, about, groups, found_by_phone];
            let mut params = Map::new();
            for (setting, whom) in SETTINGS.into_iter().zip(said) {
                params.extend(whom.map(|whom| (setting.to_owned(), name_of(whom).into())));
            }
            let said = read_receipts.map(|said| Value::from(said == YesOrNo::Yes));
            params.extend(said.map(|said| ("read_receipts".to_owned(), said)));
            (if params.is_empty() { "privacy" } else { "set_privacy" }, params)
        }
    };
    let answer = ask(profile, method, params.into()).await?;
    print_lines(&answer, json, lines);
    Ok(ExitCode::SUCCESS)
}

/// The first words of the lines of a file: lines that do not begin with a phone are passed over.
fn numbers_of(file: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error| commands::not_possible(format!("{}: {error}", file.display()));
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    let text = text.map_err(unreadable)?;
    let words = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(words.filter_map(|word| crate::who::phone(word).ok()).collect())
}

fn with(who: Who, key: &str, value: bool) -> Map<String, Value> {
    let mut params = who.params();
    params.insert(key.to_owned(), value.into());
    params
}

fn what_name(what: What) -> &'static str {
    match what {
        What::Other => "other",
        What::Spam => "spam",
        What::Abuse => "abuse",
        What::Violence => "violence",
        What::Sexual => "sexual",
        What::Impersonation => "impersonation",
    }
}

fn category_of(name: &str) -> Result<Category, Failure> {
    Ok(match name {
        "other" => Category::Other,
        "spam" => Category::Spam,
        "abuse" => Category::Abuse,
        "violence" => Category::Violence,
        "sexual" => Category::Sexual,
        "impersonation" => Category::Impersonation,
        _ => {
            let all = "category is other, spam, abuse, violence, sexual or impersonation";
            return Err(Failure::Params(all.to_owned()));
        }
    })
}

fn name_of(whom: Whom) -> &'static str {
    match whom {
        Whom::Everyone => "everyone",
        Whom::Contacts => "contacts",
        Whom::Nobody => "nobody",
    }
}

fn lines(answer: &Value) -> Vec<String> {
    if let Some(contacts) = answer["contacts"].as_array() {
        let line = |contact: &Value| {
            format!("@{} {}", contact["chat"], clean_line(contact["name"].as_str().unwrap_or_default()))
        };
        return contacts.iter().map(line).collect();
    }
    if let Some(found) = answer["found"].as_array() {
        let line =
            |found: &Value| format!("{} @{}", found["phone"].as_str().unwrap_or_default(), found["chat"]);
        let left = answer["left"].as_array().filter(|left| !left.is_empty()).map(|left| {
            let wait = answer["retry_after_ms"].as_u64().unwrap_or_default().div_ceil(1000);
            format!("{} numbers were not asked about: try again in {wait} s", left.len())
        });
        return found.iter().map(line).chain(left).collect();
    }
    if let Some(blocked) = answer["blocked"].as_array() {
        return blocked.iter().map(|user| format!("@{user}")).collect();
    }
    if let Some(link) = answer["link"].as_str() {
        return commands::qr_lines(link).into_iter().chain([link.to_owned()]).collect();
    }
    if answer.get("version").is_some() {
        return profile_lines(answer);
    }
    match answer.as_object() {
        Some(settings) if settings.contains_key("last_seen") => {
            let value = |value: &Value| match value {
                Value::Bool(true) => "yes".to_owned(),
                Value::Bool(false) => "no".to_owned(),
                value => value.as_str().unwrap_or_default().to_owned(),
            };
            settings.iter().map(|(key, said)| format!("{} {}", key.replace('_', "-"), value(said))).collect()
        }
        _ => vec!["done".to_owned()],
    }
}

fn profile_lines(person: &Value) -> Vec<String> {
    let text = |key: &str| clean_line(person[key].as_str().unwrap_or_default());
    let picture = match person["medium"].as_str() {
        Some(_) => format!("tern save @{} --picture", person["chat"]),
        // What other clients call theirs.
        None => {
            let named = STANDARD.decode(text("picture")).unwrap_or_default();
            clean_line(&String::from_utf8_lossy(&named))
        }
    };
    let lines =
        [("name", text("name")), ("phone", text("phone")), ("about", text("about")), ("picture", picture)];
    let lines = lines.into_iter().filter(|(_, said)| !said.is_empty());
    let lines = lines.map(|(what, said)| format!("{what:<8} {said}"));
    [format!("{:<8} @{}", "user", person["chat"])].into_iter().chain(lines).collect()
}

/// A contact, for programs.
pub fn contact_json(contact: &Contact) -> Value {
    json!({ "chat": contact.user_id, "name": contact.name, "is_one": contact.is_one })
}

/// What others may see of one, and do, for programs.
pub fn privacy_json(privacy: &Privacy) -> Value {
    let Privacy { last_seen, online, picture, about, groups, found_by_phone, hides_reads } = *privacy;
    let name = |audience| match audience {
        Audience::Everyone => "everyone",
        Audience::Contacts => "contacts",
        Audience::Nobody => "nobody",
    };
    json!({
        "last_seen": name(last_seen), "online": name(online), "picture": name(picture), "about": name(about),
        "groups": name(groups), "found_by_phone": name(found_by_phone), "read_receipts": !hides_reads,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetContacts {
    contacts: Vec<SetContact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetContact {
    chat: Option<u64>,
    phone: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default = "yes")]
    is_one: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discover {
    phones: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    chat: Option<u64>,
    phone: Option<String>,
    #[serde(default = "yes")]
    is_blocked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    chat: Option<u64>,
    phone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    #[serde(default)]
    renew: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    link: String,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetProfile {
    about: Option<String>,
    picture: Option<String>,
    medium: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPrivacy {
    last_seen: Option<String>,
    online: Option<String>,
    picture: Option<String>,
    about: Option<String>,
    groups: Option<String>,
    found_by_phone: Option<String>,
    read_receipts: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    chat: Option<u64>,
    phone: Option<String>,
    #[serde(default)]
    seqs: Vec<u64>,
    category: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn yes() -> bool {
    true
}

fn audience(said: Option<String>, before: Audience) -> Result<Audience, Failure> {
    match said.as_deref() {
        None => Ok(before),
        Some("everyone") => Ok(Audience::Everyone),
        Some("contacts") => Ok(Audience::Contacts),
        Some("nobody") => Ok(Audience::Nobody),
        Some(_) => Err(Failure::Params("who it is for is everyone, contacts or nobody".to_owned())),
    }
}

impl Session {
    /// Methods about other people.
    pub async fn people(&self, method: &str, params: Value) -> Result<Value, Failure> {
        match method {
            "contacts" => {
                let Nothing {} = parse(params)?;
                let contacts = self.client.contacts().await?;
                Ok(json!({ "contacts": contacts.iter().map(contact_json).collect::<Vec<_>>() }))
            }
            "set_contacts" => {
                let SetContacts { contacts } = parse(params)?;
                let mut named = Vec::with_capacity(contacts.len());
                for SetContact { chat, phone, name, is_one } in contacts {
                    named.push(Contact { user_id: self.number(chat, phone).await?, name, is_one });
                }
                self.why(self.client.set_contacts(&named).await).await?;
                Ok(json!({ "named": named.len() }))
            }
            "block" => {
                let Block { chat, phone, is_blocked } = parse(params)?;
                let user_id = self.number(chat, phone).await?;
                let sent = self.why(self.client.block(user_id, is_blocked).await).await?;
                Ok(json!({ "seq": sent.seq, "time_ms": sent.time_ms }))
            }
            "discover" => self.discover(parse(params)?).await,
            "report" => self.report(parse(params)?).await,
            "blocked" => {
                let Nothing {} = parse(params)?;
                Ok(json!({ "blocked": self.client.blocked().await? }))
            }
            "privacy" => {
                let Nothing {} = parse(params)?;
                Ok(privacy_json(&self.client.privacy().await?))
            }
            "set_privacy" => self.set_privacy(parse(params)?).await,
            "profile" => {
                let Profile { chat, phone } = parse(params)?;
                let of = match (chat, phone) {
                    (None, None) => None,
                    (chat, phone) => Some(who(chat, phone)?),
                };
                self.profile(of).await
            }
            "set_profile" => self.set_profile(parse(params)?).await,
            "card" => {
                let Card { renew } = parse(params)?;
                let card = self.why(self.client.card(renew).await).await?;
                Ok(json!({ "link": card.to_string() }))
            }
            "add" => self.add(parse(params)?).await,
            _ => Err(Failure::Method),
        }
    }

    /// Who of an address book is here.
    async fn discover(&self, Discover { phones }: Discover) -> Result<Value, Failure> {
        let discovered = self.why(self.client.discover(&phones).await).await?;
        let found = discovered.found.iter().map(|(phone, user)| json!({ "phone": phone, "chat": user }));
        Ok(json!({
            "found": found.collect::<Vec<_>>(), "left": discovered.left,
            "retry_after_ms": discovered.retry_after_ms,
        }))
    }

    /// The operators are told of somebody, or of messages.
    async fn report(&self, report: Report) -> Result<Value, Failure> {
        let Report { chat, phone, seqs, category, comment } = report;
        let chat = self.number(chat, phone).await?;
        let category = category_of(&category)?;
        let reported = match seqs.as_slice() {
            [] => self.client.report_person(chat, category, &comment).await,
            seqs => self.client.report_messages(chat, seqs, category, &comment).await,
        };
        self.why(reported).await?;
        Ok(json!({ "reported": true }))
    }

    /// Somebody is a contact, by the card that they have passed on.
    async fn add(&self, add: Add) -> Result<Value, Failure> {
        let card: tern_client::Card =
            add.link.parse().map_err(|why: &str| Failure::Params(why.to_owned()))?;
        let person = self.why(self.client.lookup_card(&card).await).await?;
        let name = add.name.unwrap_or_else(|| person.name.clone());
        let contact = Contact { user_id: person.user_id, name, is_one: true };
        self.why(self.client.set_contacts(&[contact]).await).await?;
        Ok(shown::profile_json(&person))
    }

    /// What a person is to one now; without one, oneself.
    async fn profile(&self, who: Option<Who>) -> Result<Value, Failure> {
        let user_id = match who {
            Some(who) => self.person(&who).await?.user_id,
            None => self.client.account().user_id,
        };
        let person = self.why(self.client.profile(user_id).await).await?;
        Ok(shown::profile_json(&person))
    }

    async fn set_profile(&self, profile: SetProfile) -> Result<Value, Failure> {
        let SetProfile { about, picture, medium } = profile;
        let picture = picture.map(|picture| STANDARD.decode(picture)).transpose();
        let picture = picture.map_err(|_| Failure::Params("a picture's name is base64".to_owned()))?;
        let medium = medium.as_deref().map(media::picture_of).transpose()?;
        let picture = medium.map(|medium| medium.map_or(Vec::new(), |id| id.as_bytes().to_vec())).or(picture);
        self.why(self.client.set_profile(about, picture).await).await?;
        self.profile(None).await
    }

    /// What is not said stays as this profile has heard it.
    async fn set_privacy(&self, said: SetPrivacy) -> Result<Value, Failure> {
        let before = self.client.privacy().await?;
        let SetPrivacy { last_seen, online, picture, about, groups, found_by_phone, read_receipts } = said;
        let privacy = Privacy {
            last_seen: audience(last_seen, before.last_seen)?,
            online: audience(online, before.online)?,
            picture: audience(picture, before.picture)?,
            about: audience(about, before.about)?,
            groups: audience(groups, before.groups)?,
            found_by_phone: audience(found_by_phone, before.found_by_phone)?,
            hides_reads: read_receipts.map_or(before.hides_reads, |told| !told),
        };
        self.why(self.client.set_privacy(privacy).await).await?;
        Ok(privacy_json(&privacy))
    }
}
