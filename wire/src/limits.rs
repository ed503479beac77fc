//! The limits of the protocol, derived values included. Operators may lower the configurable ones.

/// The longest body of a message, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest frame from a connection that is not logged in, without its length prefix.
pub const FRAME_BYTES_MAX_BEFORE_LOGIN: usize = 4 * 1024;

/// Unanswered requests of a connection that is not logged in. Beyond: `OVERLOADED`.
pub const REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN: u32 = 8;

/// The longest frame from a logged-in connection. A body that is too long but not absurd still gets a typed refusal
/// and keeps its connection, so this is well above [`BODY_BYTES_MAX`].
pub const FRAME_BYTES_MAX: usize = 128 * 1024;

/// The longest frame that the server sends: a history page of full-length bodies ends before it.
pub const SERVER_FRAME_BYTES_MAX: usize = 256 * 1024;

/// A history page or catch-up step stops before its bodies exceed this.
pub const PAGE_BYTES_MAX: usize = 128 * 1024;

/// Entries in one history page.
pub const HISTORY_ENTRIES_MAX: usize = 256;

/// Chats in one `ChatsPage`, and known ones in one `Chats`.
pub const CHATS_MAX: usize = 64;

/// Positions in one `Resume`.
pub const POSITIONS_MAX: usize = 1024;

/// Generations in one `Resume`. Beyond: `INVALID_ARGUMENT`; a client with more names none.
pub const GENERATIONS_MAX: usize = 16;

/// Every number of the protocol is below this, so that clients may keep it in a double. A `client_id` that is not:
/// `INVALID_ARGUMENT`.
pub const NUMBERS_END: u64 = 1 << 53;

/// Bytes of a display name.
pub const NAME_BYTES_MAX: usize = 100;

/// Bytes of a device name, and of a client's name and version.
pub const LABEL_BYTES_MAX: usize = 64;

/// Members of a group. Beyond: `TOO_MANY_MEMBERS`.
pub const GROUP_MEMBERS_MAX: usize = 1024;

/// Bytes of what a group is about.
pub const GROUP_DESCRIPTION_BYTES_MAX: usize = 2048;

/// Bytes that name a group's picture.
pub const GROUP_PICTURE_BYTES_MAX: usize = 1024;

/// Characters of what somebody says of themselves.
pub const ABOUT_CHARS_MAX: usize = 140;

/// Bytes that name somebody's picture.
pub const PICTURE_BYTES_MAX: usize = 1024;

/// Bytes of a token, access or refresh.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// Bytes of an account's PIN.
pub const PIN_BYTES: std::ops::RangeInclusive<usize> = 4..=64;

/// Bytes of a refresh nonce, exactly.
pub const NONCE_BYTES: usize = 16;

// One body of the greatest length and a whole page of bodies must each fit the frame that carries them.
const _: () = assert!(BODY_BYTES_MAX + 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_MAX + BODY_BYTES_MAX + HISTORY_ENTRIES_MAX * 64 <= SERVER_FRAME_BYTES_MAX);
const _: () =
    assert!(PAGE_BYTES_MAX + BODY_BYTES_MAX + CHATS_MAX * (NAME_BYTES_MAX + 160) <= SERVER_FRAME_BYTES_MAX);
const _: () = assert!(POSITIONS_MAX * 44 + GENERATIONS_MAX * 10 + 64 <= FRAME_BYTES_MAX);

/// Media that go with a message, at most.
pub const MEDIA_MAX: usize = 16;

/// Whom a message mentions, at most.
pub const MENTIONS_MAX: usize = 64;

/// The longest reaction, in bytes.
pub const REACTION_BYTES_MAX: usize = 64;

/// After how many ms messages may be made to disappear: a second to a year.
pub const TIMER_MS: std::ops::RangeInclusive<u64> = 1_000..=365 * 24 * 3_600_000;

/// The longest vote, in bytes.
pub const VOTE_BYTES_MAX: usize = 1024;

/// Messages that are hidden by one entry of a private log.
pub const HIDDEN_MAX: usize = 256;

/// People whose presence a device shows.
pub const SUBSCRIBED_USERS_MAX: usize = 256;

/// Groups that a device shows.
pub const SUBSCRIBED_GROUPS_MAX: usize = 16;

/// People whom one entry of a private log makes contacts, or makes none any more.
pub const CONTACTS_AT_ONCE_MAX: usize = 256;

/// Bytes of what somebody calls a contact.
pub const CONTACT_NAME_BYTES_MAX: usize = 256;

/// Numbers that are asked for by one `Discover`. Each is a question of its own to the store: as many of them as chats in a page, so that
/// nobody who looks through an address book is in the way of others.
pub const DISCOVERED_MAX: usize = 64;

/// Messages of one report, and within how many places they lie.
pub const REPORTED_MAX: usize = 20;
/// See there.
pub const REPORTED_SPAN_MAX: u64 = 64;

/// Bytes of what somebody says of what they report.
pub const COMMENT_BYTES_MAX: usize = 1_000;

/// Characters of a story of text.
pub const STORY_CHARS_MAX: usize = 700;

/// Bytes of the body of a story: it lies in the feed of everybody who may see it.
pub const STORY_BODY_BYTES_MAX: usize = 4_096;

/// Media that go with a story: one, and its preview.
pub const STORY_MEDIA_MAX: usize = 2;

/// People who are named as those for whom a story is, or is not.
pub const STORY_NAMED_MAX: usize = 1_000;

/// Bytes of the secret of an invitation.
pub const SECRET_BYTES: usize = 16;

/// Invitations of a group that are good at a time.
pub const INVITATIONS_MAX: usize = 16;

/// Characters of a token of APNs.
pub const PUSH_APNS_CHARS_MAX: usize = 200;

/// Characters of a token of FCM.
pub const PUSH_FCM_CHARS_MAX: usize = 4096;

/// Characters of a URL of Web Push.
pub const PUSH_ENDPOINT_CHARS_MAX: usize = 2048;

/// Bytes of a key of Web Push: a point of P-256, uncompressed.
pub const PUSH_POINT_BYTES: usize = 65;

/// Bytes of a secret of Web Push (RFC 8291, section 3.2).
pub const PUSH_AUTH_BYTES: usize = 16;

/// Characters of what a program of the operator's knows a device by.
pub const PUSH_ADDRESS_CHARS_MAX: usize = 256;

/// Characters of the name of a time zone.
pub const PUSH_ZONE_CHARS_MAX: usize = 64;
