//! Groups: the methods about them, and the commands that ask these.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{
    Group, GroupLink, GroupPreview, GroupSettings, NewGroup, NewInvitation, Person, Role, Sent, is_group,
};

use crate::commands::{Done, ask, print_lines};
use crate::media;
use crate::methods::{Answer, Failure, Session, parse};
use crate::profile::ProfileArgs;
use crate::shown;
use crate::who::Who;

/// Names of members that are asked for in one go.
const NAMES_ASKED_MAX: usize = 64;

/// Somebody, or several: by user ids, by phones, or both.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct People {
    #[serde(default)]
    users: Vec<u64>,
    #[serde(default)]
    phones: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Those {
    /// All members
    All,
    /// The admins alone
    Admins,
}

/// Who may do what; what is left out stays as it is.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Settings {
    senders: Option<Those>,
    editors: Option<Those>,
    adders: Option<Those>,
    shows_history: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    members: People,
    #[serde(default)]
    settings: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    chat: u64,
    #[serde(default)]
    expires_ms: u64,
    #[serde(default)]
    uses: u32,
    #[serde(default)]
    approval: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByLink {
    link: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    chat: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    chat: u64,
    add: Option<People>,
    remove: Option<People>,
    leave: Option<bool>,
    promote: Option<People>,
    demote: Option<People>,
    name: Option<String>,
    description: Option<String>,
    settings: Option<Settings>,
    medium: Option<String>,
    decline: Option<People>,
    end_invitation: Option<String>,
}

impl Settings {
    fn over(self, before: GroupSettings) -> GroupSettings {
        let who = |who: Option<Those>, before| match who {
            Some(Those::All) => tern_client::Who::All,
            Some(Those::Admins) => tern_client::Who::Admins,
            None => before,
        };
        GroupSettings {
            senders: who(self.senders, before.senders),
            editors: who(self.editors, before.editors),
            adders: who(self.adders, before.adders),
            shows_history: self.shows_history.unwrap_or(before.shows_history),
        }
    }
}

fn check(chat: u64) -> Result<(), Failure> {
    if is_group(chat) { Ok(()) } else { Err(Failure::Params("that is no group".to_owned())) }
}

fn sent_json(sent: Sent) -> Value {
    json!({ "chat": sent.chat, "seq": sent.seq, "time_ms": sent.time_ms })
}

impl Session {
    /// Begins a method about groups.
    pub fn begin_of_group(self: Arc<Self>, method: &str, params: Value) -> Result<Answer, Failure> {
        let session = self;
        Ok(match method {
            "create_group" => {
                let create = parse(params)?;
                Box::pin(async move { session.create_group(create).await })
            }
            "group" => {
                let About { chat } = parse(params)?;
                check(chat)?;
                Box::pin(async move { session.about_group(chat).await })
            }
            "change_group" => {
                let change: Change = parse(params)?;
                check(change.chat)?;
                Box::pin(async move { session.change_group(change).await })
            }
            "invite" => {
                let invite: Invite = parse(params)?;
                check(invite.chat)?;
                Box::pin(async move { session.invite(invite).await })
            }
            "preview" | "join" => {
                let ByLink { link } = parse(params)?;
                let link = link.parse::<GroupLink>().map_err(|why| Failure::Params(why.to_owned()))?;
                let joins = method == "join";
                Box::pin(async move { session.follow(&link, joins).await })
            }
            _ => return Err(Failure::Method),
        })
    }

    async fn invite(&self, invite: Invite) -> Result<Value, Failure> {
        let Invite { chat, expires_ms, uses, approval } = invite;
        let invitation = NewInvitation { expires_ms, uses_max: uses, wants_approval: approval };
        let link = self.why(self.client.invite(chat, invitation).await).await?;
        Ok(json!({ "chat": chat, "link": link.to_string() }))
    }

    /// What a link leads to; and there, if that is wanted.
    async fn follow(&self, link: &GroupLink, joins: bool) -> Result<Value, Failure> {
        let preview = self.why(self.client.preview(link).await).await?;
        let GroupPreview { chat, name, description, size, is_member, wants_approval } = preview;
        let mut told = json!({
            "chat": chat, "name": name, "description": description, "size": size, "member": is_member,
            "wants_approval": wants_approval,
        });
        if joins && !is_member {
            let sent = if wants_approval {
                self.client.ask_to_join(link).await
            } else {
                self.client.join(link).await
            };
            self.why(sent).await?;
            told["member"] = (!wants_approval).into();
            told["asked"] = wants_approval.into();
        }
        Ok(told)
    }

    async fn ids(&self, people: People) -> Result<Vec<u64>, Failure> {
        let mut ids = people.users;
        for phone in people.phones {
            let phone = crate::who::phone(&phone).map_err(Failure::Params)?;
            ids.push(self.person(&Who::Phone(phone)).await?.user_id);
        }
        Ok(ids)
    }

    async fn one(&self, people: People) -> Result<u64, Failure> {
        match self.ids(people).await?[..] {
            [id] => Ok(id),
            _ => Err(Failure::Params("one person is to be named".to_owned())),
        }
    }

    async fn create_group(&self, create: Create) -> Result<Value, Failure> {
        let Create { name, description, members, settings } = create;
        let (members, settings) = (self.ids(members).await?, settings.over(GroupSettings::default()));
        let group = NewGroup { name, description, settings, members, picture: Vec::new() };
        let made = self.why(self.client.create_group(group).await).await?;
        Ok(sent_json(made))
    }

    async fn about_group(&self, chat: u64) -> Result<Value, Failure> {
        let group = self.why(self.client.group(chat).await).await?;
        let people = self.names_of(&group).await;
        Ok(shown::group_json(&group, &people))
    }

    /// What the members of a group are called, as far as that is known or can be asked for.
    async fn names_of(&self, group: &Group) -> BTreeMap<u64, Person> {
        let mut people = BTreeMap::new();
        for member in group.members.iter().take(NAMES_ASKED_MAX) {
            if let Ok(person) = self.client.lookup_member(group.chat, member.user_id).await {
                people.insert(member.user_id, person);
            }
        }
        people
    }

    async fn change_group(&self, change: Change) -> Result<Value, Failure> {
        let Change { chat, add, remove, leave, promote, demote, name, description, settings, .. } = change;
        let (decline, ended, medium) = (change.decline, change.end_invitation, change.medium);
        let client = &self.client;
        let asked = [add.is_some(), remove.is_some(), leave == Some(true), promote.is_some()];
        let more = [demote.is_some(), name.is_some(), description.is_some(), settings.is_some()];
        let rest = [decline.is_some(), ended.is_some(), medium.is_some()];
        if asked.into_iter().chain(more).chain(rest).filter(|is| *is).count() != 1 {
            return Err(Failure::Params("one thing is to be changed".to_owned()));
        }
        let sent = if let Some(people) = add {
            client.add_members(chat, self.ids(people).await?).await
        } else if let Some(people) = remove {
            client.remove_member(chat, self.one(people).await?).await
        } else if let Some(people) = promote {
            client.set_role(chat, self.one(people).await?, Role::Admin).await
        } else if let Some(people) = demote {
            client.set_role(chat, self.one(people).await?, Role::Member).await
        } else if let Some(people) = decline {
            client.decline(chat, self.one(people).await?).await
        } else if let Some(hash) = ended {
            let hash = STANDARD.decode(hash);
            let hash = hash.map_err(|_| Failure::Params("an invitation is named by its hash".to_owned()))?;
            client.end_invitation(chat, hash).await
        } else if let Some(name) = name {
            client.rename_group(chat, name).await
        } else if let Some(text) = description {
            client.describe_group(chat, text).await
        } else if let Some(medium) = medium {
            client.set_group_picture(chat, media::picture_of(&medium)?).await
        } else if let Some(settings) = settings {
            let before = self.why(client.group(chat).await).await?.settings;
            client.set_group(chat, settings.over(before)).await
        } else {
            client.leave_group(chat).await
        };
        Ok(sent_json(self.why(sent).await?))
    }
}

/// What is done about groups.
#[derive(Subcommand)]
pub enum Groups {
    /// Make a group of oneself and others, and print its number
    New {
        /// What it is called
        name: String,
        /// Its members, beside oneself
        who: Vec<Who>,
        /// What it is about
        #[arg(long, default_value = "")]
        about: String,
        #[command(flatten)]
        may: May,
    },
    /// Print what a group is, and who its members are
    Show {
        /// Which group
        group: Who,
    },
    /// Add people
    Add {
        /// To which group
        group: Who,
        /// Whom
        #[arg(required = true)]
        who: Vec<Who>,
    },
    /// Remove somebody
    Remove {
        /// From which group
        group: Who,
        /// Whom
        who: Who,
    },
    /// Leave a group
    Leave {
        /// Which
        group: Who,
    },
    /// Make somebody an admin
    Promote {
        /// Of which group
        group: Who,
        /// Whom
        who: Who,
    },
    /// Make an admin a member like others
    Demote {
        /// Of which group
        group: Who,
        /// Whom
        who: Who,
    },
    /// Call a group something else
    Rename {
        /// Which group
        group: Who,
        /// What
        name: String,
    },
    /// Say what a group is about
    Describe {
        /// Which group
        group: Who,
        /// What
        text: String,
    },
    /// Make an invitation, and print its link: whoever has that may come
    Invite {
        /// To which group
        group: Who,
        /// In how many hours it ends; never by itself without
        #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=8784))]
        expires: Option<u32>,
        /// How many may come by it; without, any number
        #[arg(long, value_name = "N", default_value_t = 0)]
        uses: u32,
        /// Whoever has it asks, and is let in (`add`) or not (`decline`)
        #[arg(long)]
        approval: bool,
    },
    /// End an invitation: nobody comes by it any more
    Uninvite {
        /// To which group
        group: Who,
        /// The invitation's hash, as `show` with --json has it
        hash: String,
    },
    /// Do not let somebody in who has asked
    Decline {
        /// Into which group
        group: Who,
        /// Whom
        who: Who,
    },
    /// Come into a group by a link, or ask to be let in
    Join {
        /// The link that `invite` has printed
        link: String,
        /// Only print what it leads to
        #[arg(long)]
        preview: bool,
    },
    /// Say who may do what, or give it another picture
    Set {
        /// In which group
        group: Who,
        #[command(flatten)]
        may: May,
        /// Its picture
        #[arg(long, value_name = "FILE", conflicts_with = "May")]
        picture: Option<PathBuf>,
        /// None any more
        #[arg(long, conflicts_with_all = ["May", "picture"])]
        no_picture: bool,
    },
}

/// Who may do what.
#[derive(clap::Args)]
pub struct May {
    /// Who may send messages
    #[arg(long)]
    senders: Option<Those>,
    /// Who may change name, description and picture
    #[arg(long)]
    editors: Option<Those>,
    /// Who may add members
    #[arg(long)]
    adders: Option<Those>,
    /// Whether those who come later see what was said before
    #[arg(long)]
    history: Option<bool>,
}

impl May {
    fn params(self) -> Value {
        let mut params = Map::new();
        let who = |who: Those| if who == Those::All { "all" } else { "admins" };
        let whos = [("senders", self.senders), ("editors", self.editors), ("adders", self.adders)];
        params.extend(whos.into_iter().filter_map(|(key, may)| Some((key.to_owned(), who(may?).into()))));
        params.extend(self.history.map(|shows| ("shows_history".to_owned(), shows.into())));
        params.into()
    }
}

fn people(who: &[Who]) -> Value {
    let (mut users, mut phones) = (Vec::new(), Vec::new());
    for who in who {
        match who {
            Who::User(id) => users.push(*id),
            Who::Phone(phone) => phones.push(phone.clone()),
        }
    }
    json!({ "users": users, "phones": phones })
}

fn chat(group: &Who) -> Result<u64, Failure> {
    match group {
        Who::User(id) if is_group(*id) => Ok(*id),
        _ => Err(Failure::Params("a group is @ and the number that `tern chats` shows".to_owned())),
    }
}

/// What became of a link, for people.
fn join_lines(told: &Value) -> Vec<String> {
    let name = shown::clean_line(told["name"].as_str().unwrap_or_default());
    let state = match (told["member"] == true, told["asked"] == true, told["wants_approval"] == true) {
        (true, ..) => "you are in it",
        (_, true, _) => "you have asked to be let in",
        (.., true) => "whoever comes asks to be let in",
        _ => "you may come",
    };
    vec![format!("group @{} “{name}”, {} members: {state}", told["chat"], told["size"])]
}

/// Does something about groups.
pub async fn run(profile: &ProfileArgs, groups: Groups, json: bool) -> Done {
    let (group, change) = match groups {
        Groups::New { name, who, about, may } => {
            let create = json!({
                "name": name, "description": about, "members": people(&who), "settings": may.params(),
            });
            let made = ask(profile, "create_group", create).await?;
            print_lines(&made, json, |made| vec![format!("group @{}", made["chat"])]);
            return Ok(ExitCode::SUCCESS);
        }
        Groups::Show { group } => {
            let about = ask(profile, "group", json!({ "chat": chat(&group)? })).await?;
            print_lines(&about, json, crate::tables::group);
            return Ok(ExitCode::SUCCESS);
        }
        Groups::Invite { group, expires, uses, approval } => {
            let expires_ms = expires.map_or(0, crate::private::in_hours_ms);
            let invite = json!({
                "chat": chat(&group)?, "expires_ms": expires_ms, "uses": uses, "approval": approval,
            });
            let made = ask(profile, "invite", invite).await?;
            print_lines(&made, json, |made| vec![made["link"].as_str().unwrap_or_default().to_owned()]);
            return Ok(ExitCode::SUCCESS);
        }
        Groups::Join { link, preview } => {
            let method = if preview { "preview" } else { "join" };
            let told = ask(profile, method, json!({ "link": link })).await?;
            print_lines(&told, json, join_lines);
            return Ok(ExitCode::SUCCESS);
        }
        Groups::Uninvite { group, hash } => (group, json!({ "end_invitation": hash })),
        Groups::Decline { group, who } => (group, json!({ "decline": people(&[who]) })),
        Groups::Add { group, who } => (group, json!({ "add": people(&who) })),
        Groups::Remove { group, who } => (group, json!({ "remove": people(&[who]) })),
        Groups::Leave { group } => (group, json!({ "leave": true })),
        Groups::Promote { group, who } => (group, json!({ "promote": people(&[who]) })),
        Groups::Demote { group, who } => (group, json!({ "demote": people(&[who]) })),
        Groups::Rename { group, name } => (group, json!({ "name": name })),
        Groups::Describe { group, text } => (group, json!({ "description": text })),
        Groups::Set { group, may, picture, no_picture } => {
            let medium = media::picture(profile, picture.as_deref(), no_picture).await?;
            let settings = || json!({ "settings": may.params() });
            (group, medium.map_or_else(settings, |medium| json!({ "medium": medium })))
        }
    };
    let mut params = change;
    params["chat"] = chat(&group)?.into();
    let sent = ask(profile, "change_group", params).await?;
    print_lines(&sent, json, |sent| vec![format!("seq {}", sent["seq"])]);
    Ok(ExitCode::SUCCESS)
}
