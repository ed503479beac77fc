//! Stories: as commands, as methods, as JSON.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::body::{Media, StoryText};
use tern_client::{Kind, NewStory, Story, StoryAudience, StoryId, StoryNews, story_number};

use crate::commands::{self, ask, not_possible, print_lines, text_to_send};
use crate::media;
use crate::methods::{Answer, Failure, Session, parse};
use crate::profile::ProfileArgs;
use crate::shown::{clean_line, time_of};
use crate::talk::NewMedium;
use crate::who::Who;

/// What one shows for a day, and what others show.
#[derive(Subcommand)]
pub enum Stories {
    /// Post a story, and print its number when the server has it in durable storage
    Post {
        /// What it says; `-`, or nothing where something is piped in: what stands on standard input
        #[arg(long, conflicts_with = "file")]
        text: Option<String>,
        /// A picture or a video instead
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What the file is, as image/png, if that is not to be seen by how it begins
        #[arg(long = "type", value_name = "TYPE", requires = "file")]
        of: Option<String>,
        /// What there is to say of the file
        #[arg(long, value_name = "TEXT", requires = "file")]
        caption: Option<String>,
        /// The ground of a text: 6 hexadecimal digits of red, green and blue
        #[arg(long, value_name = "RRGGBB", value_parser = color, conflicts_with = "file")]
        background: Option<u32>,
        /// Whom it is for
        #[arg(long, value_name = "WHOM", default_value = "contacts")]
        to: Whom,
        /// Who is named: not, or alone. For each one once
        #[arg(long, value_name = "WHO")]
        who: Vec<Who>,
    },
    /// Print the stories that are there: one's own, and those of others
    List,
    /// Print a story, and say that one has seen it
    View {
        /// Whose
        who: Who,
        /// Which, as `tern story list` shows it
        number: u64,
    },
    /// Print who has seen a story of one's own
    Viewers {
        /// Which
        number: u64,
    },
    /// Delete a story of one's own, for everyone
    Delete {
        /// Which
        number: u64,
    },
    /// Say that one does not care for somebody's stories, on all of one's devices
    Mute {
        /// Whose
        who: Who,
        /// One does again
        #[arg(long)]
        off: bool,
    },
}

/// Whom a story is for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whom {
    /// One's contacts
    Contacts,
    /// One's contacts, without those who are named
    Except,
    /// Those of one's contacts who are named
    Only,
    /// One's contacts, and all with whom one has a chat
    Everyone,
}

fn color(written: &str) -> Result<u32, String> {
    let is_one = written.len() == 6;
    let color = u32::from_str_radix(written, 16).ok().filter(|_| is_one);
    color.ok_or_else(|| "a color is 6 hexadecimal digits".to_owned())
}

fn name_of(whom: Whom) -> &'static str {
    match whom {
        Whom::Contacts => "contacts",
        Whom::Except => "except",
        Whom::Only => "only",
        Whom::Everyone => "everyone",
    }
}

/// Does one of these.
pub async fn run(profile: &ProfileArgs, stories: Stories, json: bool) -> commands::Done {
    let (method, params) = match stories {
        Stories::Post { text, file, of, caption, background, to, who } => {
            let mut params = Map::from_iter([("audience".to_owned(), name_of(to).into())]);
            let mut users = Vec::new();
            for who in who {
                users.push(number_of(profile, &who).await?);
            }
            params.insert("users".to_owned(), users.into());
            let text = match file {
                Some(file) => {
                    params.insert("medium".to_owned(), media::upload(profile, &file, of).await?);
                    caption.unwrap_or_default()
                }
                None => text_to_send(text)?,
            };
            params.insert("text".to_owned(), text.into());
            params.extend(background.map(|color| ("background".to_owned(), color.into())));
            // Whoever has the profile may end before it answers: asked again, it is the same story.
            params.insert("number".to_owned(), story_number()?.into());
            ("post_story", params)
        }
        Stories::List => return list(profile, json).await,
        Stories::View { who, number } => return view(profile, &who, number, json).await,
        Stories::Viewers { number } => {
            ("story_viewers", Map::from_iter([("number".to_owned(), number.into())]))
        }
        Stories::Delete { number } => {
            ("delete_story", Map::from_iter([("number".to_owned(), number.into())]))
        }
        Stories::Mute { who, off } => {
            let mut params = who.params();
            params.insert("is_muted".to_owned(), (!off).into());
            ("mute_stories", params)
        }
    };
    let answer = ask(profile, method, params.into()).await?;
    print_lines(&answer, json, lines);
    Ok(ExitCode::SUCCESS)
}

/// The number of a user.
async fn number_of(profile: &ProfileArgs, who: &Who) -> Result<u64, Failure> {
    match who {
        Who::User(user_id) => Ok(*user_id),
        Who::Phone(_) => {
            let found = ask(profile, "lookup", who.params().into()).await?;
            found["chat"].as_u64().ok_or_else(|| not_possible("nobody has that phone"))
        }
    }
}

/// All pages of stories.
async fn all(profile: &ProfileArgs) -> Result<Vec<Value>, Failure> {
    let (mut stories, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut page = ask(profile, "stories", json!({ "after": after })).await?;
        if let Value::Array(more) = page["stories"].take() {
            stories.extend(more);
        }
        after = page["next"].take();
        if after.is_null() {
            return Ok(stories);
        }
    }
}

async fn list(profile: &ProfileArgs, json: bool) -> commands::Done {
    let stories = json!({ "stories": all(profile).await? });
    print_lines(&stories, json, |told| told["stories"].as_array().into_iter().flatten().map(line).collect());
    Ok(ExitCode::SUCCESS)
}

async fn view(profile: &ProfileArgs, who: &Who, number: u64, json: bool) -> commands::Done {
    let user_id = number_of(profile, who).await?;
    let is_it = |story: &&Value| story["user_id"] == user_id && story["number"] == number;
    let stories = all(profile).await?;
    let story =
        stories.iter().find(is_it).ok_or_else(|| not_possible("there is no such story for you to see"))?;
    ask(profile, "see_story", json!({ "user_id": user_id, "number": number })).await?;
    print_lines(story, json, |story| {
        let links = story["links"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let text = story["text"].as_str().unwrap_or_default().lines().map(clean_line);
        text.chain(links.map(clean_line)).collect()
    });
    Ok(ExitCode::SUCCESS)
}

/// A story of a list, for people.
fn line(story: &Value) -> String {
    let text = clean_line(story["text"].as_str().unwrap_or_default());
    let what = match story["type"].as_str() {
        Some(of) => format!("({}) {text}", clean_line(of)),
        None => text,
    };
    let marks = [("seen", story["seen"] == true), ("muted", story["muted"] == true)];
    let marks: String =
        marks.iter().filter(|(_, is_so)| *is_so).map(|(mark, _)| format!(", {mark}")).collect();
    let time = time_of(story["time_ms"].as_u64().unwrap_or_default());
    format!("@{} {} {time}{marks}: {what}", story["user_id"], story["number"])
}

fn lines(answer: &Value) -> Vec<String> {
    if let Some(viewers) = answer["viewers"].as_array() {
        let line = |viewer: &Value| {
            format!("@{} {}", viewer["user_id"], time_of(viewer["time_ms"].as_u64().unwrap_or_default()))
        };
        return viewers.iter().map(line).collect();
    }
    match (answer.get("expires_ms"), answer.get("number")) {
        (Some(_), Some(number)) => vec![format!("story {number}")],
        _ => vec!["done".to_owned()],
    }
}

/// A story, for programs; without what one's own server alone knows.
fn shown_json(story: &Story) -> Map<String, Value> {
    let is_media = story.kind == Kind::Media;
    let media = story.body_as::<Media>().filter(|_| is_media).unwrap_or_default();
    let text = story.body_as::<StoryText>().filter(|_| !is_media).unwrap_or_default();
    let of = is_media.then_some(media.r#type);
    let said = if is_media { media.caption } else { text.text };
    let object = json!({
        "user_id": story.id.user_id, "number": story.id.number, "time_ms": story.time_ms,
        "expires_ms": story.expires_ms, "type": of, "text": said, "background": text.background,
        "color": text.color, "font": text.font,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// A story, for programs.
pub fn story_json(story: &Story) -> Value {
    let mut object = shown_json(story);
    let (audience, users) = match &story.audience {
        StoryAudience::Contacts => ("contacts", Vec::new()),
        StoryAudience::Except(users) => ("except", users.clone()),
        StoryAudience::Only(users) => ("only", users.clone()),
        StoryAudience::Everyone => ("everyone", Vec::new()),
    };
    let links: Vec<_> = story.links.iter().map(|(url, _)| url.as_str()).collect();
    object.extend([
        ("links".to_owned(), links.into()),
        ("seen".to_owned(), story.seen.into()),
        ("muted".to_owned(), story.muted.into()),
        ("audience".to_owned(), audience.into()),
        ("users".to_owned(), users.into()),
    ]);
    object.into()
}

fn id_json(id: StoryId) -> Value {
    json!({ "user_id": id.user_id, "number": id.number })
}

/// What is told of stories, for programs: the event, and its fields.
pub fn news_json(news: &StoryNews) -> (&'static str, Value) {
    match news {
        StoryNews::Posted(story) => ("story_posted", shown_json(story).into()),
        StoryNews::Gone(id) => ("story_gone", id_json(*id)),
        StoryNews::Seen(id) => ("story_seen", id_json(*id)),
    }
}

/// The same, for people.
pub fn news_text(news: &StoryNews) -> Option<String> {
    match news {
        StoryNews::Posted(Story { id: StoryId { user_id, number }, .. }) => {
            Some(format!("@{user_id} has a story: tern story view @{user_id} {number}"))
        }
        StoryNews::Gone(StoryId { user_id, .. }) => {
            Some(format!("a story of @{user_id} is not there any more"))
        }
        StoryNews::Seen(_) => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Post {
    #[serde(default)]
    text: String,
    #[serde(default)]
    background: u32,
    #[serde(default)]
    color: u32,
    #[serde(default)]
    font: u32,
    medium: Option<NewMedium>,
    audience: Option<String>,
    #[serde(default)]
    users: Vec<u64>,
    number: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    user_id: u64,
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    after: Option<Id>,
    #[serde(default)]
    limit: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Viewers {
    number: u64,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mute {
    chat: Option<u64>,
    phone: Option<String>,
    #[serde(default = "yes")]
    is_muted: bool,
}

fn yes() -> bool {
    true
}

impl Post {
    fn into_story(self) -> Result<NewStory, Failure> {
        let refused = |why: &str| Err(Failure::Params(why.to_owned()));
        let audience = match (self.audience.as_deref(), self.users.is_empty()) {
            (None | Some("contacts"), true) => StoryAudience::Contacts,
            (Some("everyone"), true) => StoryAudience::Everyone,
            // Whoever names some means fewer than all.
            (None | Some("contacts" | "everyone"), false) => {
                return refused("a story for some, or for all but some, is for only or except");
            }
            (Some("only"), true) => return refused("a story for only some is for at least one"),
            (Some("except"), _) => StoryAudience::Except(self.users),
            (Some("only"), false) => StoryAudience::Only(self.users),
            (Some(_), _) => return refused("a story is for contacts, except, only or everyone"),
        };
        let Self { text, background, color, font, .. } = self;
        Ok(match self.medium {
            Some(medium) => {
                let id = medium.id()?;
                let body = medium.body(text).encode_to_vec();
                NewStory { kind: Kind::Media, body, media: vec![id], audience }
            }
            None => {
                let body = StoryText { text, background, color, font }.encode_to_vec();
                NewStory { kind: Kind::Text, body, media: Vec::new(), audience }
            }
        })
    }
}

impl Session {
    /// Begins a method of stories, or of groups.
    pub fn begin_of_stories(self: Arc<Self>, method: &str, params: Value) -> Result<Answer, Failure> {
        match method {
            "post_story" | "stories" | "see_story" | "story_viewers" | "delete_story" | "mute_stories" => {
                let (session, method) = (self, method.to_owned());
                Ok(Box::pin(async move { session.stories(&method, params).await }))
            }
            _ => self.begin_of_group(method, params),
        }
    }

    /// Methods of stories.
    async fn stories(&self, method: &str, params: Value) -> Result<Value, Failure> {
        match method {
            "post_story" => self.post_story(parse(params)?).await,
            "stories" => {
                let List { after, limit } = parse(params)?;
                let after = after.map(|Id { user_id, number }| StoryId { user_id, number });
                let (stories, next) = self.why(self.client.stories(after, limit).await).await?;
                let stories: Vec<_> = stories.iter().map(story_json).collect();
                Ok(json!({ "stories": stories, "next": next.map(id_json) }))
            }
            "see_story" => {
                let Id { user_id, number } = parse(params)?;
                self.why(self.client.see_story(StoryId { user_id, number }).await).await?;
                Ok(json!({ "user_id": user_id, "number": number }))
            }
            "story_viewers" => {
                let Viewers { number, after, limit } = parse(params)?;
                let (viewers, next) = self.why(self.client.story_viewers(number, after, limit).await).await?;
                let viewer = |viewer: &tern_client::Viewer| json!({ "user_id": viewer.user_id, "time_ms": viewer.time_ms });
                Ok(json!({ "viewers": viewers.iter().map(viewer).collect::<Vec<_>>(), "next": next }))
            }
            "delete_story" => {
                let Own { number } = parse(params)?;
                self.why(self.client.delete_story(number).await).await?;
                Ok(json!({ "number": number }))
            }
            _ => {
                let Mute { chat, phone, is_muted } = parse(params)?;
                let user_id = self.number(chat, phone).await?;
                let sent = self.why(self.client.mute_stories(user_id, is_muted).await).await?;
                Ok(json!({ "seq": sent.seq, "time_ms": sent.time_ms }))
            }
        }
    }

    async fn post_story(&self, post: Post) -> Result<Value, Failure> {
        let number = match post.number {
            Some(number) => number,
            None => story_number()?,
        };
        let story = post.into_story()?;
        let (time_ms, expires_ms) = self.why(self.client.post_story(number, &story).await).await?;
        let user_id = self.client.account().user_id;
        Ok(json!({ "user_id": user_id, "number": number, "time_ms": time_ms, "expires_ms": expires_ms }))
    }
}
