//! Stored keys and records: whatever bytes a damaged table gives, they are read as something or as nothing.

use prost::Message;
use tern_shard::tokens::KeysRecord;
use tern_storage::records::{
    ChatSettingsRecord, ClientMessageRecord, CountsRecord, DeviceRecord, EndRecord, EntryRecord,
    LastSeenRecord, LogRecord, MemberRecord, MembersRecord, NumberRecord, PhoneRecord, PrivacyRecord,
    ReportRecord, StoreRecord, TicketKeysRecord, UserRecord,
};
use tern_storage::{Key, LogId, Slot, keys};

/// The data is a key.
pub fn keys(data: &[u8]) {
    let key = Key::from_raw(data);
    let told = keys::describe(data);
    if let Some((b"p", phone)) = data.get(3..).map(|phone| (&data[..1], phone))
        && phone.len() >= 5
        && phone.iter().all(u8::is_ascii_digit)
    {
        // A slot has at most four digits.
        let phone = String::from_utf8_lossy(phone).into_owned();
        assert!(!told.contains(&phone), "a phone was told");
    }
    assert!(!format!("{key:?}").is_empty());
    let slot = key.slot();
    assert!(slot.is_none_or(|slot| Slot::new(slot.number()) == Some(slot)));
    if let Some(log) = keys::log_of(data) {
        let id = &data[data.len() - keys::LOG_ID_BYTES..];
        assert_eq!(log.to_bytes(), id, "another log's bytes");
        assert_eq!(LogId::from_bytes(id), Some(log));
        let (low, high) = match log {
            LogId::Direct(low, high) => (low, high),
            LogId::Group(of) | LogId::Private(of) => (of, 0),
        };
        assert!(!matches!(log, LogId::Direct(..)) || LogId::direct(high, low) == log);
        let entry = keys::entry(log, low);
        assert_eq!(keys::number_of(entry.as_ref()), Some(low));
        assert_eq!(entry.slot(), Some(Slot::of_log(log)));
        let mark = keys::inbox_mark(low, high as u32, log);
        assert_eq!(keys::log_of(mark.as_ref()), Some(log));
        assert_eq!(keys::device_of(keys::device(low, high as u32).as_ref()), Some(high as u32));
        let marks = keys::inbox_marks(low, high as u32, Some(log));
        assert!(mark < marks.start && marks.start < marks.end);
    }
    assert_eq!(LogId::from_bytes(data).is_some(), data.len() == 17 && keys::log_of(data).is_some());
    assert_eq!(keys::number_of(data).is_some(), data.len() >= 8);
    assert_eq!(keys::device_of(data).is_some(), data.len() >= 4);
}

/// Script: which record, then its bytes.
pub fn stored(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 18 {
        0 => check::<PhoneRecord>(bytes),
        1 => check::<UserRecord>(bytes),
        2 => check::<DeviceRecord>(bytes),
        3 => check::<LogRecord>(bytes),
        4 => check::<EntryRecord>(bytes),
        5 => check::<ClientMessageRecord>(bytes),
        6 => check::<MemberRecord>(bytes),
        7 => check::<StoreRecord>(bytes),
        8 => check::<NumberRecord>(bytes),
        9 => check::<MembersRecord>(bytes),
        10 => check::<KeysRecord>(bytes),
        11 => check::<ChatSettingsRecord>(bytes),
        12 => check::<PrivacyRecord>(bytes),
        13 => check::<LastSeenRecord>(bytes),
        14 => check::<ReportRecord>(bytes),
        15 => check::<TicketKeysRecord>(bytes),
        16 => check::<CountsRecord>(bytes),
        _ => check::<EndRecord>(bytes),
    }
}

/// A record that was read says the same when it is written again.
fn check<R: Message + PartialEq + Default>(bytes: &[u8]) {
    let Ok(record) = R::decode(bytes) else { return };
    let again = record.encode_to_vec();
    assert!(again.len() <= bytes.len() + 16, "a record has grown");
    assert!(R::decode(&again[..]).is_ok_and(|read| read == record), "a record is not what was written");
}
