//! What somebody uploads: whether they may, how much there is of theirs, and that it has come. The listener for media asks for them.
//!
//! Of each upload a row (`k`) says how much it is, from when it begins: what is there of an account is the sum of its rows. When all of it
//! has come, the medium's own row is written with it, in one batch, and another one, by which it is found if nothing has it in time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::{KeptRecord, MediumRecord};
use tern_storage::{Direction, Key, Rows, ScanLimit, keys};
use tern_wire::ids::{MediaId, UserId};

use super::attach::REVOKED;
use super::waits::{After, GetFor, ScanFor, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::{AdminResponse, NoUpload, UploadAsk};
use crate::entry::Author;
use crate::limits::{KEPT_ROWS_AT_ONCE, UPLOAD_ABANDONED_MS};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};
use crate::tokens::Access;

/// An upload that is to begin, while what there is of its account is added up.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    question: u64,
    user: UserId,
    medium: MediaId,
    bytes: u64,
    /// What there is, as far as it was read.
    sum: u64,
}

impl Beginning {
    pub(super) fn user(&self) -> UserId {
        self.user
    }
}

/// A medium that is whole, while it is read whether that was said before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Come {
    question: u64,
    user: UserId,
    medium: MediaId,
    bytes: u64,
}

/// Uploads that are about to begin, by account, in their order: what one adds up must have the rows of those before it.
#[derive(Debug, Default)]
pub(super) struct Beginnings(BTreeMap<UserId, VecDeque<Box<Beginning>>>);

/// Uploads of an account that are about to begin. Beyond, whoever uploads is to try again.
const BEGINNINGS_MAX: usize = 16;

fn answer(cx: &mut Cx, question: u64, answer: Result<(), NoUpload>) {
    cx.answer(question, AdminResponse::Upload(answer));
}

impl Accounts {
    /// Something is asked of an account that uploads something.
    pub(super) fn upload(&mut self, cx: &mut Cx, id: UserId, question: u64, ask: UploadAsk) {
        if self.record(id).is_none() {
            return answer(cx, question, Err(NoUpload::Ended));
        }
        let bar = self.bar(id, cx.now_ms);
        match ask {
            // What has come is the account's.
            UploadAsk::Whole { medium, bytes } => {
                medium_whole(cx, Come { question, user: id, medium, bytes })
            }
            UploadAsk::Who(device, session) => {
                let device = self.user(id).devices.get_mut(&device);
                let lives = device.is_some_and(|device| device.stands_for(session));
                let barred = bar.map_or(Ok(()), |_| Err(NoUpload::Barred));
                answer(cx, question, if lives { barred } else { Err(NoUpload::Ended) });
            }
            UploadAsk::Begin { .. } if bar.is_some() => answer(cx, question, Err(NoUpload::Barred)),
            UploadAsk::Begin { medium, bytes } => self.want_upload(cx, id, question, (medium, bytes)),
        }
    }

    /// Says where a device that lives uploads media, and by which token.
    pub(super) fn about_media(&mut self, cx: &mut Cx, author: Author, origin: Origin) {
        let Some(device) = self.device(author) else { return cx.refuse(origin, REVOKED) };
        let access = Access { author, session: device.record.session };
        let access_expires_ms = cx.now_ms + cx.limits().access_token_valid_ms;
        let access_token = self.keys.access_token(access, access_expires_ms);
        let place = v1::MediaPlace { url: cx.media_url(), access_token, access_expires_ms };
        cx.reply(origin, Reply::MediaPlace(Box::new(place)));
    }

    fn want_upload(&mut self, cx: &mut Cx, id: UserId, question: u64, (medium, bytes): (MediaId, u64)) {
        if let Err(refusal) = self.budgets.upload(id, cx.now_ms) {
            return answer(cx, question, Err(NoUpload::TooMany(refusal.retry_after_ms.into())));
        }
        let beginning = Beginning { question, user: id, medium, bytes, sum: 0 };
        let beginnings = self.beginnings.0.entry(id).or_default();
        if beginnings.len() >= BEGINNINGS_MAX {
            return answer(cx, question, Err(NoUpload::Unavailable));
        }
        beginnings.push_back(Box::new(beginning));
        if beginnings.len() == 1 {
            self.begin_next(cx, id);
        }
    }

    /// The first that is about to begin of an account does, or does not.
    fn begin_next(&mut self, cx: &mut Cx, id: UserId) {
        let Some(beginning) = self.beginnings.0.get(&id).and_then(|beginnings| beginnings.front()) else {
            self.beginnings.0.remove(&id);
            return;
        };
        match cx.limits().uploaded_bytes_max {
            0 => self.begin_upload(cx, &beginning.clone()),
            _ if cx.may_read() => add_up(cx, beginning.clone(), None),
            _ => self.upload_begun(cx, (id, beginning.question), Err(NoUpload::Unavailable)),
        }
    }

    /// Whoever wanted to begin an upload is answered, and the next one's turn has come.
    pub(super) fn upload_begun(
        &mut self,
        cx: &mut Cx,
        (id, question): (UserId, u64),
        answered: Result<(), NoUpload>,
    ) {
        answer(cx, question, answered);
        if let Some(beginnings) = self.beginnings.0.get_mut(&id) {
            beginnings.pop_front_if(|beginning| beginning.question == question);
        }
        self.begin_next(cx, id);
    }

    /// Some of what there is of an account is read.
    pub(super) fn kept_read(
        &mut self,
        cx: &mut Cx,
        mut beginning: Box<Beginning>,
        rows: Result<Rows, Unreadable>,
    ) {
        let (id, question) = (beginning.user, beginning.question);
        let Ok(rows) = rows else {
            return self.upload_begun(cx, (id, question), Err(NoUpload::Unavailable));
        };
        for (key, value) in &rows.rows {
            let Ok(record) = KeptRecord::decode(&value[..]) else {
                cx.damaged("what somebody has uploaded", &Key::from_raw(key));
                continue;
            };
            let is_abandoned =
                !record.whole && cx.now_ms.saturating_sub(record.begun_ms) >= UPLOAD_ABANDONED_MS;
            if is_abandoned {
                cx.delete_lazily(slot_of(id), Key::from_raw(key));
            } else {
                beginning.sum = beginning.sum.saturating_add(record.bytes);
            }
        }
        if let Some(last) = rows.goes_on_behind() {
            return add_up(cx, beginning, Some(&last));
        }
        if beginning.sum.saturating_add(beginning.bytes) > cx.limits().uploaded_bytes_max
            && !is(Mutation::NoQuota)
        {
            return self.upload_begun(cx, (id, question), Err(NoUpload::NoRoom));
        }
        self.begin_upload(cx, &beginning);
    }

    fn begin_upload(&mut self, cx: &mut Cx, beginning: &Beginning) {
        let Beginning { question, user: id, medium, bytes, .. } = *beginning;
        // It may have left the memory since.
        if !cx.is_here(slot_of(id)) || !cx.may_write(0) {
            return self.upload_begun(cx, (id, question), Err(NoUpload::Unavailable));
        }
        let record = KeptRecord { bytes, begun_ms: cx.now_ms, whole: false };
        cx.put(slot_of(id), keys::kept(id.get(), medium.as_bytes()), &record);
        let then = Then::UploadBegun(id, question);
        self.after(cx, After { user: None, phone: None, then });
    }

    /// It is known whether it was said before that a medium is whole. Then it is as it was: messages may have it by now, or it is about to be
    /// removed.
    pub(super) fn whole_read(&mut self, cx: &mut Cx, come: &Come, record: Result<Option<Bytes>, Unreadable>) {
        let Come { question, user: id, medium, bytes } = *come;
        match record {
            Ok(Some(_)) if !is(Mutation::RewriteMedium) => return answer(cx, question, Ok(())),
            Ok(_) if cx.is_here(slot_of(id)) && cx.may_write(0) => {}
            _ => return answer(cx, question, Err(NoUpload::Unavailable)),
        }
        let (slot, now_ms) = (slot_of(id), cx.now_ms);
        let look_ms = now_ms + cx.limits().media_unsent_ms;
        let record = MediumRecord { owner: id.get(), bytes, made_ms: now_ms, look_ms, ends_ms: 0 };
        cx.put(slot, keys::medium(medium.as_bytes()), &record);
        cx.put_bytes(slot, keys::look(look_ms, medium.as_bytes(), None), &[]);
        let kept = KeptRecord { bytes, begun_ms: now_ms, whole: true };
        cx.put(slot, keys::kept(id.get(), medium.as_bytes()), &kept);
        // The account may have left the memory since.
        self.after(cx, After { user: None, phone: None, then: Then::UploadWhole(id, question) });
    }
}

/// All of a medium has come, and lies where media lie.
fn medium_whole(cx: &mut Cx, come: Come) {
    if !cx.may_read() {
        return answer(cx, come.question, Err(NoUpload::Unavailable));
    }
    cx.get(keys::medium(come.medium.as_bytes()), GetFor::Whole(Box::new(come)));
}

/// Reads some of what there is of an account. That one does at a time, as one job.
fn add_up(cx: &mut Cx, beginning: Box<Beginning>, after: Option<&Key>) {
    let range = keys::all_kept(beginning.user.get(), after);
    let limit = ScanLimit { rows: KEPT_ROWS_AT_ONCE, bytes: usize::MAX };
    cx.scan(range, Direction::Forwards, limit, ScanFor::Kept(beginning));
}
