//! Exchanging refresh tokens.

use tern_proto::v1;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::request::Refresh;

use super::waits::{After, Then};
use super::{Accounts, Cx};
use crate::entry::Author;
use crate::reply::{Origin, Reply};
use crate::tokens::{Access, RefreshToken, token_hash};

const TOKEN_EXPIRED: Refusal =
    Refusal::new(Reason::TokenExpired, "the refresh token has ended: register again");
const TOKEN_REUSED: Refusal =
    Refusal::new(Reason::TokenReused, "the refresh token was used before: the session has ended");

impl Accounts {
    /// Exchanges a refresh token. A token that was exchanged before is refused, and ends the session, unless it comes
    /// with the nonce of that exchange: then it is the retry of a client that has not seen the answer. One that is ahead of the
    /// record was made by exchanges that the store has lost since, put back from a copy: it is the newest there is.
    pub(super) fn refresh(&mut self, cx: &mut Cx, origin: Origin, author: Author, refresh: &Refresh) {
        let token = match self.keys.read_refresh_token(&refresh.token) {
            Ok(token) => token,
            Err(refusal) => return cx.refuse(origin, refusal),
        };
        if let Some(refusal) = self.bar(author.user, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let keys = self.keys.clone();
        let spared_ms = self.spared_upto_ms(cx, author.user, token.expires_ms);
        let lives = self.user(author.user).record.is_some();
        let device = self.device(author).filter(|device| lives && device.stands_for(token.session));
        let Some(device) = device else {
            let refusal = self.ended(author.user);
            return cx.refuse(origin, refusal);
        };
        let record = &device.record;
        let session = record.session;
        if token_hash(&refresh.token) == record.refresh_hash || token.generation > record.generation {
            if cx.now_ms >= token.expires_ms.max(spared_ms) {
                return cx.refuse(origin, TOKEN_EXPIRED);
            }
            self.is_here_today(cx, author);
            let record = self.device_record(author).expect("its token has just been compared");
            record.generation = token.generation.saturating_add(1);
            record.refresh_expires_ms = cx.now_ms + cx.limits().refresh_token_valid_ms;
            let expires_ms = record.refresh_expires_ms;
            let generation = record.generation;
            let next =
                keys.refresh_token(RefreshToken { author, session, generation, expires_ms }, &refresh.nonce);
            record.refresh_hash = token_hash(&next);
            let session = self.session_of(cx, Access { author, session }, next, expires_ms);
            return self.write_device(cx, author, Then::Reply(origin, Reply::Session(Box::new(session))));
        }
        let expires_ms = record.refresh_expires_ms;
        let current = RefreshToken { author, session, generation: record.generation, expires_ms };
        let again = keys.refresh_token(current, &refresh.nonce);
        if token.generation.checked_add(1) == Some(record.generation)
            && token_hash(&again) == record.refresh_hash
        {
            let session = self.session_of(cx, Access { author, session }, again, expires_ms);
            let then = Then::Reply(origin, Reply::Session(Box::new(session)));
            return self.after(cx, After::of_user(author.user, then));
        }
        // Answered first: it may be the device's own connection, which ends.
        let then = Then::Reply(origin, Reply::Refused(TOKEN_REUSED));
        self.after(cx, After::of_user(author.user, then));
        self.end_session(cx, author);
    }

    /// Up to when a token that ended while its account was suspended is good: nobody could exchange it then. 0: it did not.
    fn spared_upto_ms(&mut self, cx: &Cx, user: UserId, expires_ms: u64) -> u64 {
        let valid_ms = cx.limits().refresh_token_valid_ms;
        let record = self.record(user).filter(|record| record.suspended_ms > 0);
        let suspended = record.map(|record| record.suspended_ms..record.suspended_until_ms);
        let spared = suspended.filter(|suspended| suspended.contains(&expires_ms));
        spared.map_or(0, |suspended| suspended.end.saturating_add(valid_ms))
    }

    /// What a client gets of a session: a new access token, and this refresh token.
    pub(super) fn session_of(
        &self,
        cx: &Cx,
        access: Access,
        refresh_token: String,
        refresh_expires_ms: u64,
    ) -> v1::Session {
        let access_expires_ms = cx.now_ms + cx.limits().access_token_valid_ms;
        v1::Session {
            phone: String::new(),
            user_id: access.author.user.get(),
            device_id: access.author.device.get(),
            access_token: self.keys.access_token(access, access_expires_ms),
            access_expires_ms,
            refresh_token,
            refresh_expires_ms,
        }
    }
}
