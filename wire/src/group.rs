//! What changes a group, parsed at the boundary: see `GroupChange` in the schema.

use aws_lc_rs::digest;
use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::{self, group_change};

use crate::errors::{Reason, Refusal};
use crate::ids::{UserId, is_plain};
use crate::limits::{
    GROUP_DESCRIPTION_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_PICTURE_BYTES_MAX, NAME_BYTES_MAX, NUMBERS_END,
    SECRET_BYTES,
};

/// What becomes of a group, well-formed.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Made(Made),
    /// These become members: at least one, each once, rising.
    Added(Vec<UserId>),
    /// This one is a member no more.
    Removed(UserId),
    /// Who says so is a member no more.
    Left,
    /// This one has another role.
    Role(UserId, Role),
    /// It has another name.
    Name(String),
    /// It is described otherwise.
    Description(String),
    /// It has another picture.
    Picture(Bytes),
    /// Others may do something in it.
    Settings(Settings),
    /// Whoever has the secret of this invitation may come.
    Invitation(Invitation),
    /// The invitation of this hash is good no more.
    InvitationEnded(InvitationHash),
    /// Who says so has come by the invitation of this hash.
    Joined(InvitationHash),
    /// Who says so has the invitation of this hash, and asks to be let in.
    Asked(InvitationHash),
    /// This one had asked, and is not let in.
    Declined(UserId),
}

/// SHA-256 of an invitation's secret.
pub type InvitationHash = [u8; 32];

/// An invitation: see the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Of its secret.
    pub hash: InvitationHash,
    /// When it ends, in ms since the Unix epoch; 0: when somebody ends it.
    pub expires_ms: u64,
    /// How many may come by it; 0: any number.
    pub uses_max: u32,
    /// Whoever has it is let in by those who may add members.
    pub wants_approval: bool,
}

/// The hash of an invitation's secret; `None` if it is none.
pub fn invitation_hash(secret: &[u8]) -> Option<InvitationHash> {
    let hash = (secret.len() == SECRET_BYTES).then(|| digest::digest(&digest::SHA256, secret))?;
    hash.as_ref().try_into().ok()
}

/// What a group begins as.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    /// What it is called: not empty.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Names its picture.
    pub picture: Bytes,
    /// Who may do what.
    pub settings: Settings,
    /// Each once, rising; its creator may be among them.
    pub members: Vec<UserId>,
}

/// Who may do what in a group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    /// Send messages.
    pub senders: Who,
    /// Change name, description and picture.
    pub editors: Who,
    /// Add members.
    pub adders: Who,
    /// Those who come later see all that was said before.
    pub shows_history: bool,
}

/// Some of the members of a group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Who {
    /// All.
    #[default]
    All,
    /// The admins, its creator among them.
    Admins,
}

/// What a member of a group may do. Higher roles may do more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Role {
    /// What all may.
    #[default]
    Member,
    /// What admins may.
    Admin,
    /// An admin whom nobody removes or demotes.
    Creator,
}

/// Shows no content.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Made(made) => write!(f, "Made {{ {} members }}", made.members.len()),
            Self::Added(users) => write!(f, "Added({} users)", users.len()),
            Self::Removed(user) => write!(f, "Removed({user:?})"),
            Self::Left => write!(f, "Left"),
            Self::Role(user, role) => write!(f, "Role({user:?}, {role:?})"),
            Self::Name(_) | Self::Description(_) | Self::Picture(_) => write!(f, "Edited"),
            Self::Settings(settings) => write!(f, "{settings:?}"),
            Self::Invitation(_) => write!(f, "Invitation"),
            Self::InvitationEnded(_) => write!(f, "InvitationEnded"),
            Self::Joined(_) => write!(f, "Joined"),
            Self::Asked(_) => write!(f, "Asked"),
            Self::Declined(user) => write!(f, "Declined({user:?})"),
        }
    }
}

impl Who {
    /// As on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::All => v1::Who::All,
            Self::Admins => v1::Who::Admins,
        }
        .into()
    }

    /// `None` for a number that stands for nothing.
    pub fn of_number(number: i32) -> Option<Self> {
        match v1::Who::try_from(number).ok()? {
            v1::Who::All => Some(Self::All),
            v1::Who::Admins => Some(Self::Admins),
        }
    }

    /// Whether somebody of this role is among them.
    pub fn has(self, role: Role) -> bool {
        self == Self::All || role >= Role::Admin
    }
}

impl Role {
    /// As on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::Member => v1::Role::Member,
            Self::Admin => v1::Role::Admin,
            Self::Creator => v1::Role::Creator,
        }
        .into()
    }

    /// `None` for a number that stands for nothing.
    pub fn of_number(number: i32) -> Option<Self> {
        match v1::Role::try_from(number).ok()? {
            v1::Role::Member => Some(Self::Member),
            v1::Role::Admin => Some(Self::Admin),
            v1::Role::Creator => Some(Self::Creator),
        }
    }
}

impl Settings {
    /// From the wire; `None` where it says what is not known.
    pub fn of_wire(raw: v1::GroupSettings) -> Option<Self> {
        Some(Self {
            senders: Who::of_number(raw.senders)?,
            editors: Who::of_number(raw.editors)?,
            adders: Who::of_number(raw.adders)?,
            shows_history: raw.shows_history,
        })
    }

    /// As on the wire.
    pub fn to_wire(self) -> v1::GroupSettings {
        let Self { senders, editors, adders, shows_history } = self;
        v1::GroupSettings {
            senders: senders.number(),
            editors: editors.number(),
            adders: adders.number(),
            shows_history,
        }
    }
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

impl Change {
    /// The change that the body of an entry of `KIND_GROUP` says.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        const NONE: Refusal = invalid("the body is no GroupChange that this server knows");
        let raw = v1::GroupChange::decode(body).map_err(|_| NONE)?;
        Ok(match raw.change.ok_or(NONE)? {
            group_change::Change::Made(raw) => Self::Made(made(raw)?),
            group_change::Change::Added(raw) => {
                let users = users(&raw.user_ids)?;
                if users.is_empty() {
                    return Err(invalid("nobody is named"));
                }
                Self::Added(users)
            }
            group_change::Change::Removed(id) => Self::Removed(user(id)?),
            group_change::Change::Left(_) => Self::Left,
            group_change::Change::Role(raw) => {
                let role = Role::of_number(raw.role).filter(|role| *role != Role::Creator);
                let role = role.ok_or(invalid("that role can't be given"))?;
                Self::Role(user(raw.user_id)?, role)
            }
            group_change::Change::Name(name) => Self::Name(name_of(name)?),
            group_change::Change::Description(text) => Self::Description(description(text)?),
            group_change::Change::Picture(picture) => Self::Picture(picture_of(picture)?),
            group_change::Change::Settings(raw) => Self::Settings(settings(raw)?),
            group_change::Change::Invitation(raw) => Self::Invitation(invitation(&raw)?),
            group_change::Change::InvitationEnded(hash) => Self::InvitationEnded(hash_of(&hash)?),
            group_change::Change::Joined(secret) => Self::Joined(secret_of(&secret)?),
            group_change::Change::Asked(secret) => Self::Asked(secret_of(&secret)?),
            group_change::Change::Declined(id) => Self::Declined(user(id)?),
        })
    }
}

/// What a group begins as.
pub(crate) fn made(raw: v1::GroupMade) -> Result<Made, Refusal> {
    Ok(Made {
        name: name_of(raw.name)?,
        description: description(raw.description)?,
        picture: picture_of(raw.picture)?,
        settings: settings(raw.settings.unwrap_or_default())?,
        members: users(&raw.members)?,
    })
}

fn invitation(raw: &v1::Invitation) -> Result<Invitation, Refusal> {
    let v1::Invitation { expires_ms, uses_max, wants_approval, .. } = *raw;
    if expires_ms >= NUMBERS_END {
        return Err(invalid("an invitation ends before 2^53"));
    }
    Ok(Invitation { hash: hash_of(&raw.hash)?, expires_ms, uses_max, wants_approval })
}

fn hash_of(hash: &[u8]) -> Result<InvitationHash, Refusal> {
    hash.try_into().map_err(|_| invalid("an invitation is named by the 32 bytes of a SHA-256"))
}

fn secret_of(secret: &[u8]) -> Result<InvitationHash, Refusal> {
    invitation_hash(secret).ok_or(invalid("the secret of an invitation has 16 bytes"))
}

fn user(id: u64) -> Result<UserId, Refusal> {
    UserId::new(id).ok_or(invalid("no user is named"))
}

fn users(ids: &[u64]) -> Result<Vec<UserId>, Refusal> {
    if ids.len() > GROUP_MEMBERS_MAX {
        return Err(Refusal::new(Reason::TooManyMembers, "a group has at most 1024 members"));
    }
    let mut users = ids.iter().map(|id| user(*id)).collect::<Result<Vec<_>, _>>()?;
    users.sort_unstable();
    if users.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("somebody is named twice"));
    }
    Ok(users)
}

fn name_of(name: String) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_plain(&name) {
        return Err(invalid("a group's name is empty, too long, or has characters that turn what follows"));
    }
    Ok(name)
}

fn description(text: String) -> Result<String, Refusal> {
    let is_plain = text.lines().all(is_plain);
    if text.len() > GROUP_DESCRIPTION_BYTES_MAX || !is_plain {
        return Err(invalid("a description is too long, or has characters that turn what follows"));
    }
    Ok(text)
}

fn picture_of(picture: Bytes) -> Result<Bytes, Refusal> {
    if picture.len() > GROUP_PICTURE_BYTES_MAX {
        return Err(invalid("a picture is named by at most 1024 bytes"));
    }
    Ok(picture)
}

fn settings(raw: v1::GroupSettings) -> Result<Settings, Refusal> {
    Settings::of_wire(raw).ok_or(invalid("a setting has a value that is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: group_change::Change) -> Result<Change, Reason> {
        let body = v1::GroupChange { change: Some(change) }.encode_to_vec();
        Change::parse(&body).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn what_is_no_change_is_refused_by_reason() {
        use group_change::Change as Raw;
        let added = |ids: Vec<u64>| parse(Raw::Added(v1::Members { user_ids: ids }));
        let user = |id| UserId::new(id).expect("a user");
        assert_eq!(added(vec![9, 3]), Ok(Change::Added(vec![user(3), user(9)])));
        for bad in [vec![], vec![0], vec![3, 3]] {
            assert_eq!(added(bad), Err(Reason::InvalidArgument));
        }
        assert_eq!(added((1..=1025).collect()), Err(Reason::TooManyMembers));
        assert_eq!(parse(Raw::Name(String::new())), Err(Reason::InvalidArgument));
        assert_eq!(parse(Raw::Name("x".repeat(101))), Err(Reason::InvalidArgument));
        assert_eq!(parse(Raw::Name("a\nb".into())), Err(Reason::InvalidArgument));
        assert!(parse(Raw::Description("a\nb".into())).is_ok(), "a description has lines");
        assert_eq!(parse(Raw::Description("a\u{202e}b".into())), Err(Reason::InvalidArgument));
        assert_eq!(parse(Raw::Description("x".repeat(2049))), Err(Reason::InvalidArgument));
        assert_eq!(parse(Raw::Picture(vec![0; 1025].into())), Err(Reason::InvalidArgument));
        let role = |role| parse(Raw::Role(v1::RoleGiven { user_id: 3, role }));
        assert_eq!(role(1), Ok(Change::Role(user(3), Role::Admin)));
        assert_eq!((role(2), role(7)), (Err(Reason::InvalidArgument), Err(Reason::InvalidArgument)));
        assert_eq!(parse(Raw::Joined(vec![1; 15].into())), Err(Reason::InvalidArgument));
        assert!(matches!(parse(Raw::Joined(vec![1; 16].into())), Ok(Change::Joined(_))));
        assert_eq!(parse(Raw::InvitationEnded(vec![1; 16].into())), Err(Reason::InvalidArgument));
        let invited = |hash: usize, expires_ms| {
            let hash = vec![1; hash].into();
            parse(Raw::Invitation(v1::Invitation { hash, expires_ms, ..Default::default() }))
        };
        assert!(invited(32, 5).is_ok());
        assert_eq!(
            (invited(31, 5), invited(32, 1 << 53)),
            (Err(Reason::InvalidArgument), Err(Reason::InvalidArgument))
        );
        let settings = v1::GroupSettings { adders: 9, ..Default::default() };
        assert_eq!(parse(Raw::Settings(settings)), Err(Reason::InvalidArgument));
        for bytes in [&b""[..], b"\xff", b"text"] {
            assert_eq!(Change::parse(bytes).map_err(|refusal| refusal.reason), Err(Reason::InvalidArgument));
        }
    }

    #[test]
    fn roles_rise_by_what_they_may() {
        assert!(Who::All.has(Role::Member) && !Who::Admins.has(Role::Member));
        assert!(Who::Admins.has(Role::Admin) && Who::Admins.has(Role::Creator));
    }
}
