//! What APNs says (Apple, "Handling notification responses from APNs"), and what is done about it.

use std::time::Duration;

use crate::service::{Answer, Reason, Trouble};

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// This.
    Answer(Answer),
    /// The token that says who sends is over: it is tried once more with a new one.
    ExpiredProviderToken,
}

/// A device that has registered after APNs had said that its token is none is tried again.
pub(super) const REGISTERED_SINCE: Answer = Answer::Later { trouble: Trouble::Device, after: None };

/// What a status and a reason say.
pub(super) fn read(status: u16, reason: &str, after: Option<Duration>) -> Said {
    let later = |trouble| Answer::Later { trouble, after };
    Said::Answer(match (status, reason) {
        (200, _) => Answer::Delivered,
        (403, "ExpiredProviderToken") => return Said::ExpiredProviderToken,
        (400, "BadDeviceToken" | "DeviceTokenNotForTopic") | (410, _) => Answer::Dead,
        // The connection had nothing to do for too long: another one is made.
        (400, "IdleTimeout") => later(Trouble::Device),
        (429, "TooManyProviderTokenUpdates") => later(Trouble::Busy),
        (429, _) => later(Trouble::Device),
        (500.., _) => later(Trouble::Down),
        _ => Answer::Refused(Reason::coded(reason, "a refusal without a reason")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Option<Duration> = Some(Duration::from_secs(7));

    fn check(status: u16, reasons: &[&str], expect: impl Fn(&str) -> Answer) {
        for reason in reasons {
            assert_eq!(read(status, reason, AFTER), Said::Answer(expect(reason)), "{status} {reason}");
        }
    }

    #[test]
    fn each_answer_of_apns_means_one_thing() {
        let later = |trouble| move |_: &str| Answer::Later { trouble, after: AFTER };
        let refused = |reason: &str| Answer::Refused(Reason::coded(reason, "none"));
        check(200, &[""], |_| Answer::Delivered);
        check(400, &["BadDeviceToken", "DeviceTokenNotForTopic"], |_| Answer::Dead);
        check(410, &["Unregistered", "ExpiredToken"], |_| Answer::Dead);
        check(429, &["TooManyRequests"], later(Trouble::Device));
        check(429, &["TooManyProviderTokenUpdates"], later(Trouble::Busy));
        check(500, &["InternalServerError"], later(Trouble::Down));
        check(503, &["ServiceUnavailable", "Shutdown"], later(Trouble::Down));
        check(400, &["IdleTimeout"], later(Trouble::Device));
        check(
            400,
            &[
                "BadCollapseId",
                "BadExpirationDate",
                "BadMessageId",
                "BadPriority",
                "BadTopic",
                "DuplicateHeaders",
                "InvalidPushType",
                "MissingDeviceToken",
                "MissingTopic",
                "PayloadEmpty",
                "TopicDisallowed",
            ],
            refused,
        );
        check(
            403,
            &[
                "BadCertificate",
                "BadCertificateEnvironment",
                "Forbidden",
                "InvalidProviderToken",
                "MissingProviderToken",
                "UnrelatedKeyIdInToken",
                "BadEnvironmentKeyIdInToken",
            ],
            refused,
        );
        check(404, &["BadPath"], refused);
        check(405, &["MethodNotAllowed"], refused);
        check(413, &["PayloadTooLarge"], refused);
        assert_eq!(read(403, "ExpiredProviderToken", None), Said::ExpiredProviderToken);
    }

    #[test]
    fn a_reason_that_is_no_code_is_not_passed_on() {
        check(400, &["", "the token abcdef is bad"], |_| {
            Answer::Refused(Reason::of("a refusal without a reason"))
        });
    }
}
