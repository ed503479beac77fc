//! Invitations to groups: made and ended by those who may add members, passed on as a link, followed by whoever has it.

use std::str::FromStr;

use tern_proto::v1::{self, client_frame, group_change, server_frame};
use tern_wire::group::invitation_hash;
use tern_wire::ids::GroupId;
use tern_wire::limits::SECRET_BYTES;

use crate::account::WRONG_KIND;
use crate::client::{Client, Sent};
use crate::error::Error;
use crate::link_text;

/// What an invitation begins with, as text.
const SCHEME: &str = "tern:join/";

/// A link to a group: whoever has it may come, or ask to be let in. As text it is `tern:join/` and 32 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GroupLink {
    group: u64,
    secret: [u8; SECRET_BYTES],
}

/// Shows no secret.
impl std::fmt::Debug for GroupLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupLink {{ to {} }}", self.group)
    }
}

impl std::fmt::Display for GroupLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&link_text::write(SCHEME, self.group, &self.secret))
    }
}

impl FromStr for GroupLink {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NONE: &str = "a link to a group is tern:join/ and 32 characters";
        let (group, secret) = link_text::read(SCHEME, text).ok_or(NONE)?;
        let group = GroupId::new(group).ok_or(NONE)?.get();
        Ok(Self { group, secret })
    }
}

impl GroupLink {
    /// The group's number.
    pub fn group(&self) -> u64 {
        self.group
    }

    fn hash(&self) -> Vec<u8> {
        invitation_hash(&self.secret).expect("a secret is as long as that").to_vec()
    }
}

/// What an invitation is to be.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NewInvitation {
    /// When it ends, in ms since the Unix epoch; 0: when somebody ends it.
    pub expires_ms: u64,
    /// How many may come by it; 0: any number.
    pub uses_max: u32,
    /// Whoever has it asks, and is let in by those who may add members.
    pub wants_approval: bool,
}

/// An invitation that is good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// By which it is ended: the SHA-256 of its secret.
    pub hash: Vec<u8>,
    /// When it ends, in ms since the Unix epoch; 0: when somebody ends it.
    pub expires_ms: u64,
    /// How many may still come by it; 0: any number.
    pub uses_left: u32,
    /// Whoever has it asks, and is let in by those who may add members.
    pub wants_approval: bool,
}

/// What a link leads to.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupPreview {
    /// The group's number.
    pub chat: u64,
    /// What it is called.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// How many members it has.
    pub size: u32,
    /// One is in it already.
    pub is_member: bool,
    /// Whoever has the link asks to be let in.
    pub wants_approval: bool,
}

/// Shows no content.
impl std::fmt::Debug for GroupPreview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupPreview {{ {} of {} members }}", self.chat, self.size)
    }
}

impl Invitation {
    pub(crate) fn of_wire(raw: v1::Invitation) -> Self {
        let v1::Invitation { hash, expires_ms, uses_max, wants_approval } = raw;
        Self { hash: hash.into(), expires_ms, uses_left: uses_max, wants_approval }
    }
}

impl Client {
    /// Makes an invitation to a group. Its link is known to nobody else: the group has its hash alone.
    pub async fn invite(&self, group: u64, invitation: NewInvitation) -> Result<GroupLink, Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| Error::Config(format!("no entropy: {error}")))?;
        let link = GroupLink { group, secret };
        let NewInvitation { expires_ms, uses_max, wants_approval } = invitation;
        let raw = v1::Invitation { hash: link.hash().into(), expires_ms, uses_max, wants_approval };
        self.keep_change(group, group_change::Change::Invitation(raw)).await?;
        Ok(link)
    }

    /// Ends an invitation: nobody comes by it any more.
    pub async fn end_invitation(&self, group: u64, hash: Vec<u8>) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::InvitationEnded(hash.into())).await
    }

    /// What a link leads to.
    pub async fn preview(&self, link: &GroupLink) -> Result<GroupPreview, Error> {
        let request = v1::AboutGroup { chat: link.group, secret: link.secret.to_vec().into() };
        let answer = self.ask(client_frame::Request::AboutGroup(request)).await?;
        let server_frame::Message::Group(group) = answer else { return Err(WRONG_KIND) };
        let v1::Group { chat, name, description, size, members, invitation, .. } = *group;
        let wants_approval = invitation.is_some_and(|invitation| invitation.wants_approval);
        Ok(GroupPreview { chat, name, description, size, is_member: !members.is_empty(), wants_approval })
    }

    /// Comes into a group by a link, and waits until that is so.
    pub async fn join(&self, link: &GroupLink) -> Result<Sent, Error> {
        self.keep_change(link.group, group_change::Change::Joined(link.secret.to_vec().into())).await
    }

    /// Asks to be let into a group by a link.
    pub async fn ask_to_join(&self, link: &GroupLink) -> Result<Sent, Error> {
        self.keep_change(link.group, group_change::Change::Asked(link.secret.to_vec().into())).await
    }

    /// Does not let somebody in who has asked. (Whoever is let in is added: [`Client::add_members`].)
    pub async fn decline(&self, group: u64, user_id: u64) -> Result<Sent, Error> {
        self.keep_change(group, group_change::Change::Declined(user_id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_its_text_says_and_nothing_else_is_one() {
        let link = GroupLink { group: (1 << 42) + 7, secret: [9; SECRET_BYTES] };
        let text = link.to_string();
        assert_eq!((text.parse(), text.len()), (Ok(link), SCHEME.len() + 32));
        assert!(!format!("{link:?}").contains(&text[SCHEME.len()..]), "no secret is shown");
        let person = GroupLink { group: 7, ..link }.to_string();
        for bad in ["", "tern:join/", &text[1..], &text[..text.len() - 1], &format!("{text}A"), &person] {
            assert!(bad.parse::<GroupLink>().is_err(), "{bad}");
        }
    }
}
