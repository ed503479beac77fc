//! The invitations of a group, and who asks to be let in. Pure, like the group.

use bytes::Bytes;
use tern_proto::v1;
use tern_storage::records::InvitationRecord;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::{Invitation, InvitationHash};
use tern_wire::ids::UserId;
use tern_wire::limits::INVITATIONS_MAX;

use crate::limits::ASKING_MAX;
use crate::mutations::{Mutation, is};

const UNKNOWN: Refusal =
    Refusal::new(Reason::InvitationUnknown, "there is no such invitation, or somebody has ended it");
const EXPIRED: Refusal = Refusal::new(Reason::InvitationExpired, "that invitation has expired");
const SPENT: Refusal = Refusal::new(Reason::InvitationSpent, "as many have come by that invitation as may");
const APPROVAL: Refusal =
    Refusal::new(Reason::ApprovalNeeded, "by that invitation one asks, and is let in by members");
const TOO_MANY: Refusal =
    Refusal::new(Reason::TooManyInvitations, "a group has at most 16 invitations: end one");
const TOO_MANY_ASK: Refusal = Refusal::new(Reason::TooManyMembers, "too many ask to be let in");
const ASKED: Refusal = Refusal::new(Reason::AlreadyAMember, "you have asked already");
const NOT_ASKED: Refusal = Refusal::new(Reason::NotAMember, "that person has not asked to be let in");

/// What somebody may be who has no part in a group.
pub(super) const UNKNOWN_INVITATION: Refusal = UNKNOWN;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Invitations {
    all: Vec<Given>,
    asking: Vec<UserId>,
}

/// An invitation, and how many have come by it.
#[derive(Debug)]
struct Given {
    invitation: Invitation,
    uses: u32,
}

impl Given {
    fn is_good(&self, now_ms: u64) -> Result<(), Refusal> {
        let Invitation { expires_ms, uses_max, .. } = self.invitation;
        if is(Mutation::TakeOldInvitation) {
            return Ok(());
        }
        if expires_ms > 0 && now_ms >= expires_ms {
            return Err(EXPIRED);
        }
        if uses_max > 0 && self.uses >= uses_max { Err(SPENT) } else { Ok(()) }
    }

    /// As it is told: with the uses that are left.
    fn shown(&self) -> v1::Invitation {
        let Invitation { hash, expires_ms, uses_max, wants_approval } = self.invitation;
        let uses_max = uses_max.saturating_sub(if uses_max > 0 { self.uses } else { 0 });
        v1::Invitation { hash: Bytes::copy_from_slice(&hash), expires_ms, uses_max, wants_approval }
    }
}

impl Invitations {
    fn given(&self, hash: &InvitationHash) -> Option<&Given> {
        self.all.iter().find(|given| given.invitation.hash == *hash)
    }

    /// Whether one more may be made.
    pub(super) fn may_make(&self, invitation: &Invitation, now_ms: u64) -> Result<(), Refusal> {
        let good = self.all.iter().filter(|given| given.is_good(now_ms).is_ok()).count();
        if good >= INVITATIONS_MAX {
            return Err(TOO_MANY);
        }
        match self.given(&invitation.hash) {
            Some(_) => Err(Refusal::new(Reason::InvalidArgument, "that invitation is there already")),
            None => Ok(()),
        }
    }

    pub(super) fn make(&mut self, invitation: Invitation, now_ms: u64) {
        // Those that are good no more need not be told from those that never were, when there is no room.
        if self.all.len() >= 2 * INVITATIONS_MAX {
            self.all.retain(|given| given.is_good(now_ms).is_ok());
        }
        self.all.push(Given { invitation, uses: 0 });
    }

    pub(super) fn may_end(&self, hash: &InvitationHash) -> Result<(), Refusal> {
        self.given(hash).map(drop).ok_or(UNKNOWN)
    }

    pub(super) fn end(&mut self, hash: &InvitationHash) {
        self.all.retain(|given| given.invitation.hash != *hash);
    }

    /// Whether somebody may come by an invitation.
    pub(super) fn may_join(&self, hash: &InvitationHash, now_ms: u64) -> Result<(), Refusal> {
        let given = self.given(hash).ok_or(UNKNOWN)?;
        given.is_good(now_ms)?;
        if given.invitation.wants_approval { Err(APPROVAL) } else { Ok(()) }
    }

    /// Whether somebody may ask to be let in.
    pub(super) fn may_ask(&self, user: UserId, hash: &InvitationHash, now_ms: u64) -> Result<(), Refusal> {
        self.given(hash).ok_or(UNKNOWN)?.is_good(now_ms)?;
        if self.asking.contains(&user) {
            return Err(ASKED);
        }
        if self.asking.len() >= ASKING_MAX { Err(TOO_MANY_ASK) } else { Ok(()) }
    }

    pub(super) fn may_decline(&self, user: UserId) -> Result<(), Refusal> {
        if self.asking.contains(&user) { Ok(()) } else { Err(NOT_ASKED) }
    }

    /// Somebody has come by an invitation.
    pub(super) fn used(&mut self, hash: &InvitationHash) {
        let given = self.all.iter_mut().find(|given| given.invitation.hash == *hash);
        given.into_iter().for_each(|given| given.uses += 1);
    }

    /// Somebody asks to be let in: that counts as a use.
    pub(super) fn asked(&mut self, user: UserId, hash: &InvitationHash) {
        self.used(hash);
        self.asking.push(user);
    }

    /// Somebody asks no more: they have come, or are not let in.
    pub(super) fn answered(&mut self, user: UserId) {
        self.asking.retain(|asking| *asking != user);
    }

    /// Those that are good, and who asks.
    pub(super) fn shown(&self, now_ms: u64) -> (Vec<v1::Invitation>, Vec<u64>) {
        let good = self.all.iter().filter(|given| given.is_good(now_ms).is_ok());
        (good.map(Given::shown).collect(), self.asking.iter().map(|user| user.get()).collect())
    }

    /// The invitation of a secret, to whoever has that.
    pub(super) fn shown_one(&self, hash: &InvitationHash, now_ms: u64) -> Result<v1::Invitation, Refusal> {
        let given = self.given(hash).ok_or(UNKNOWN)?;
        given.is_good(now_ms)?;
        Ok(given.shown())
    }

    pub(super) fn records(&self) -> (Vec<InvitationRecord>, Vec<u64>) {
        let record = |given: &Given| {
            let Invitation { hash, expires_ms, uses_max, wants_approval } = given.invitation;
            let hash = Bytes::copy_from_slice(&hash);
            InvitationRecord { hash, expires_ms, uses_max, uses: given.uses, wants_approval }
        };
        (self.all.iter().map(record).collect(), self.asking.iter().map(|user| user.get()).collect())
    }

    /// What was stored; `None` if it is not what was written.
    pub(super) fn of_records(records: &[InvitationRecord], asking: &[u64]) -> Option<Self> {
        let given = |record: &InvitationRecord| {
            let InvitationRecord { expires_ms, uses_max, uses, wants_approval, .. } = *record;
            let hash = record.hash[..].try_into().ok()?;
            Some(Given { invitation: Invitation { hash, expires_ms, uses_max, wants_approval }, uses })
        };
        Some(Self {
            all: records.iter().map(given).collect::<Option<_>>()?,
            asking: asking.iter().map(|user| UserId::new(*user)).collect::<Option<_>>()?,
        })
    }
}
