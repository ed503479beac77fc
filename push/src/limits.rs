//! The bounds of pushing, each with what happens when it is reached. Those of a lane that an operator may set are in
//! [`Settings`](crate::Settings).

use std::time::Duration;

/// Bytes of a collapse key, and of a reference to a chat. Beyond, there is none: [`Invalid`](crate::Invalid).
pub const OPAQUE_BYTES_MAX: usize = 64;

/// Characters of a device's token of APNs. Apple gives 64 now and says that it may be more. Beyond, it is no token.
pub const APNS_TOKEN_CHARS_MAX: usize = 200;

/// Characters of a registration token of FCM: Google gives about 160 now, and names no bound. Beyond, it is no token.
pub const FCM_TOKEN_CHARS_MAX: usize = 4096;

/// Characters of the address of a webhook's device. Beyond, it is none.
pub const ADDRESS_CHARS_MAX: usize = 256;

/// Characters of the URL to which a browser wants its pushes. Beyond, it is none.
pub const ENDPOINT_CHARS_MAX: usize = 2048;

/// Bytes of a payload of APNs ("Generating a remote notification"). Beyond, the preview is shortened.
pub const APNS_PAYLOAD_BYTES_MAX: usize = 4096;

/// The same for a call's.
pub const APNS_VOIP_BYTES_MAX: usize = 5120;

/// Bytes of a message of FCM without its token: 4096 of data and notification ("About FCM messages"), less what it counts besides.
pub const FCM_MESSAGE_BYTES_MAX: usize = 4000;

/// Bytes of an encrypted body that every push service takes (RFC 8030, section 7.2). Beyond, the preview is shortened.
pub const WEB_PUSH_BODY_BYTES_MAX: usize = 4096;

/// Bytes of a webhook's body. Beyond, the preview is shortened.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 64 << 10;

/// How long a push may wait at a service (FCM, "Set the lifespan of a message"). A later end is sent as this.
pub const TTL_MAX: Duration = Duration::from_secs(28 * 24 * 3600);

/// Bytes of an answer that are read. What is behind them is not looked at.
pub const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Hosts of Web Push of which something is remembered. Beyond, those go of which there is nothing to remember.
pub const HOSTS_MAX: usize = 4096;

/// Requests in flight to one host of Web Push, which whoever subscribes has chosen: a slow one must not have all places of the lane.
/// Beyond, the notice waits for [`HOST_BUSY_WAIT`].
pub const HOST_IN_FLIGHT_MAX: usize = 64;

/// How long a notice waits for a place at its host, before it asks again.
pub const HOST_BUSY_WAIT: Duration = Duration::from_millis(200);

/// Failures of one host of Web Push in a row. Beyond, its notices wait until a probe has been answered.
pub const HOST_FAILURES_MAX: u32 = 5;
