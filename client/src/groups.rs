//! Groups: made, changed, asked about. What is said in them is sent, read and told as in every chat.

use prost::Message as _;
use tern_proto::v1::{self, client_frame, group_change, lookup, server_frame};
use tern_wire::group::{Role, Settings};
use tern_wire::ids::{GROUPS_FROM, MediaId};

use crate::account::WRONG_KIND;
use crate::client::{Client, Sent};
use crate::driver::Call;
use crate::error::Error;
use crate::invitations::Invitation;
use crate::media::named_by;
use crate::message::{Kind, NewMessage};
use crate::store::Person;

/// What a group begins as.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NewGroup {
    /// What it is called: not empty, at most 100 bytes.
    pub name: String,
    /// What it is about: at most 2048 bytes.
    pub description: String,
    /// Names a picture: the 16 bytes of a medium, or anything else of at most 1024 bytes, of which the server knows nothing.
    pub picture: Vec<u8>,
    /// Who may do what.
    pub settings: Settings,
    /// Beside oneself, each once.
    pub members: Vec<u64>,
}

/// Shows no content.
impl std::fmt::Debug for NewGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewGroup {{ {} members }}", self.members.len())
    }
}

/// A group.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub chat: u64,
    /// What it is called.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Names its picture.
    pub picture: Vec<u8>,
    /// Who may do what.
    pub settings: Settings,
    /// In the order in which they came.
    pub members: Vec<GroupMember>,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: u64,
    /// Messages that are sent now disappear after so many ms; 0: they stay.
    pub timer_ms: u64,
    /// Those that are good, for those who may add members.
    pub invitations: Vec<Invitation>,
    /// Who asks to be let in, for the same.
    pub asking: Vec<u64>,
}

/// Shows no content.
impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group {{ {}, {} members }}", self.chat, self.members.len())
    }
}

/// A member of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupMember {
    /// Who.
    pub user_id: u64,
    /// What they may.
    pub role: Role,
    /// Everything up to here has reached a device of theirs.
    pub delivered_upto: u64,
    /// They have read everything up to here.
    pub read_upto: u64,
}

/// Whether a chat is a group, by its number.
pub fn is_group(chat: u64) -> bool {
    chat >= GROUPS_FROM
}

impl Client {
    /// Makes a group, and waits until it is there. Like a message it is kept first, and made once, over any number of connections and
    /// restarts.
    pub async fn create_group(&self, group: NewGroup) -> Result<Sent, Error> {
        let NewGroup { name, description, picture, settings, members } = group;
        let settings = Some(settings.to_wire());
        let made = v1::GroupMade { name, description, picture: picture.into(), settings, members };
        self.keep_change(0, group_change::Change::Made(made)).await
    }

    /// Adds people to a group.
    pub async fn add_members(&self, group: u64, user_ids: Vec<u64>) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Added(v1::Members { user_ids })).await
    }

    /// Removes somebody from a group.
    pub async fn remove_member(&self, group: u64, user_id: u64) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Removed(user_id)).await
    }

    /// Leaves a group.
    pub async fn leave_group(&self, group: u64) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Left(v1::Left {})).await
    }

    /// Makes somebody an admin of a group, or a member like others.
    pub async fn set_role(&self, group: u64, user_id: u64, role: Role) -> Result<Sent, Error> {
        let role = v1::RoleGiven { user_id, role: role.number() };
        self.keep_change(group, group_change::Change::Role(role)).await
    }

    /// Calls a group something else.
    pub async fn rename_group(&self, group: u64, name: impl Into<String>) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Name(name.into())).await
    }

    /// Says what a group is about.
    pub async fn describe_group(&self, group: u64, text: impl Into<String>) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Description(text.into())).await
    }

    /// Gives a group a medium that was uploaded as its picture, which the server keeps for as long; or none any more.
    pub async fn set_group_picture(&self, group: u64, medium: Option<MediaId>) -> Result<Sent, Error> {
        self.picture_group(group, named_by(medium)).await
    }

    /// Gives a group another picture: the 16 bytes of a medium, or what else its members take for the name of one.
    pub async fn picture_group(&self, group: u64, picture: impl Into<Vec<u8>>) -> Result<Sent, Error> {
        let picture = picture.into().into();
        self.keep_change(group, group_change::Change::Picture(picture)).await
    }

    /// Says who may do what in a group.
    pub async fn set_group(&self, group: u64, settings: Settings) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Settings(settings.to_wire())).await
    }

    pub(crate) async fn keep_change(&self, chat: u64, change: group_change::Change) -> Result<Sent, Error> {
        let body = v1::GroupChange { change: Some(change) }.encode_to_vec();
        let kind = Kind::Group;
        self.keep_message(NewMessage { chat, kind, body, ..NewMessage::default() }).await?.sent().await
    }

    /// What a group is, and who its members are.
    pub async fn group(&self, chat: u64) -> Result<Group, Error> {
        let request = client_frame::Request::AboutGroup(v1::AboutGroup { chat, ..Default::default() });
        match self.ask(request).await? {
            server_frame::Message::Group(group) => group_of(*group).ok_or(WRONG_KIND),
            _ => Err(WRONG_KIND),
        }
    }

    /// Who a chat is with: a person, or a group, by what it is called, with its number in place of a user's. What is known is told at
    /// once.
    pub async fn lookup_chat(&self, chat: u64) -> Result<Person, Error> {
        if !is_group(chat) {
            return self.lookup_user(chat).await;
        }
        if let Some(known) = self.local(move |store| store.person(chat)).await? {
            return Ok(known);
        }
        let person = Person {
            user_id: chat,
            name: self.group(chat).await?.name,
            phone: String::new(),
            ..Person::default()
        };
        let kept = person.clone();
        self.local(move |store| store.set_person(&kept)).await?;
        Ok(person)
    }

    /// Who a member of a group is, or was. Known people are told at once.
    pub async fn lookup_member(&self, group: u64, user_id: u64) -> Result<Person, Error> {
        let known = self.local(move |store| store.person(user_id)).await?;
        if let Some(known) = known.filter(|known| !known.name.is_empty()) {
            return Ok(known);
        }
        let by = Some(lookup::By::UserId(user_id));
        let request = client_frame::Request::Lookup(v1::Lookup { by, group });
        self.call(|answer| Call::LookUpMember { request, answer }).await
    }
}

fn group_of(group: v1::Group) -> Option<Group> {
    let v1::Group { chat, name, description, picture, settings, members, created_ms, timer_ms, .. } = group;
    let invitations = group.invitations.into_iter().map(Invitation::of_wire).collect();
    let asking = group.asking;
    let settings = Settings::of_wire(settings.unwrap_or_default())?;
    let member = |member: v1::Member| {
        let v1::Member { user_id, role, delivered_upto, read_upto } = member;
        // A role that is not known may do what all may.
        let role = Role::of_number(role).unwrap_or_default();
        GroupMember { user_id, role, delivered_upto, read_upto }
    };
    let members = members.into_iter().map(member).collect();
    let picture = picture.into();
    Some(Group {
        chat,
        name,
        description,
        picture,
        settings,
        members,
        created_ms,
        timer_ms,
        invitations,
        asking,
    })
}
