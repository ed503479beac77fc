//! A user's card: who has it may know what the user is called, without a number. The user passes it on, and renews it when too many have
//! it. A card that is none, or no more, is as that of nobody, to the last step.

use aws_lc_rs::constant_time;
use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::UserRecord;
use tern_storage::{Direction, KeyRange, Rows, ScanLimit, keys};
use tern_wire::ids::{CardSecret, UserId};

use super::relations::UNKNOWN_USER;
use super::users::UNREADABLE;
use super::waits::{After, Then};
use super::{Accounts, Cx, ScanFor, slot_of};
use crate::message::{Shown, Unreadable, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// Somebody says that they have somebody's card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carded {
    pub(super) asker: UserId,
    origin: Origin,
    of: UserId,
    secret: CardSecret,
}

impl Accounts {
    /// Gives a user the card, which is made if there is none; or another one, and the one before is good no more.
    pub(super) fn new_card(&mut self, cx: &mut Cx, id: UserId, origin: Origin, renew: bool) {
        if let Err(refusal) = self.budgets.link(id, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let drawn = cx.entropy().nonce();
        let Some(record) = self.record(id) else { return cx.refuse(origin, UNKNOWN_USER) };
        if renew || record.card.is_empty() {
            record.card = Bytes::copy_from_slice(&drawn);
            cx.put(slot_of(id), keys::user(id.get()), record);
        }
        let card = v1::Card { user_id: id.get(), secret: record.card.clone() };
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::Card(card))));
    }

    /// Whom a user looks up by a card. As with a phone, the asker's owner finds out by what is durable.
    pub(super) fn look_up_card(cx: &mut Cx, asker: UserId, origin: Origin, of: UserId, secret: CardSecret) {
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        let carded = Carded { asker, origin, of, secret };
        let range = KeyRange::of_key(&keys::user(of.get()));
        cx.scan(range, Direction::Forwards, one, ScanFor::Card(Box::new(carded)));
    }

    /// What is written of the one whose card it is said to be has come.
    pub(super) fn card_read(cx: &mut Cx, carded: Carded, rows: Result<Rows, Unreadable>) {
        let Carded { asker, origin, of, secret } = carded;
        let Ok(rows) = rows else { return cx.refuse(origin, UNREADABLE) };
        let Ok(record) = rows.rows.first().map(|(_, value)| UserRecord::decode(&value[..])).transpose()
        else {
            cx.damaged("an account", &keys::user(of.get()));
            return cx.refuse(origin, UNREADABLE);
        };
        let is_it = |record: &UserRecord| {
            record.deleted_ms == 0 && constant_time::verify_slices_are_equal(&record.card, &secret.0).is_ok()
        };
        if record.as_ref().is_some_and(|record| is_it(record) || is(Mutation::TakeAnyCard)) {
            cx.tell_user(
                of,
                UserOp::Describe(origin, Shown { to: asker, name: true, phone: false, picture: None }),
            );
        } else {
            cx.refuse(origin, UNKNOWN_USER);
        }
    }
}
