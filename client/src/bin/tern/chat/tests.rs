//! The chat on a screen that is not there.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use serde_json::json;
use tern_client::{Error, Event, HistoryPage, Kind, Message, PRIVATE, Person, Reason, Sent};

use super::keys::Action;
use super::picker::{Picked, Picker};
use super::state::Chat;
use super::view;
use crate::who::Who;

const ME: u64 = 1;
const PEER: u64 = 2;

fn message(seq: u64, sender: u64, text: &str) -> Message {
    Message {
        chat: PEER,
        seq,
        sender,
        time_ms: seq * 60_000,
        body: text.into(),
        own: sender == ME,
        kind: Kind::Text,
        ..Message::default()
    }
}

fn chat() -> Chat {
    let chat =
        Person { user_id: PEER, name: "Bob".to_owned(), phone: "+15550002".to_owned(), ..Person::default() };
    let mut chat = Chat::new(chat);
    chat.take(Event::Connected);
    chat
}

fn receipt(delivered_upto: u64, read_upto: u64) -> Event {
    Event::Receipt { chat: PEER, delivered_upto, read_upto, own: false }
}

fn draw(chat: &mut Chat, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
    terminal.draw(|frame| view::draw(chat, frame)).expect("drawn");
    terminal.backend().clone()
}

fn rows(screen: &TestBackend) -> Vec<String> {
    let buffer = screen.buffer();
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(row).collect()
}

fn row_with(screen: &TestBackend, text: &str) -> String {
    let rows = rows(screen);
    rows.iter().find(|row| row.contains(text)).unwrap_or_else(|| panic!("{text:?} not in {rows:#?}")).clone()
}

#[test]
fn a_draft_goes_on_on_another_device_unless_something_else_is_written_there() {
    let draft = |text: &str| {
        let what = tern_client::Private::Draft(PEER, text.into(), 0).to_body();
        Event::Message(Message { chat: PRIVATE, kind: Kind::Private, body: what, ..message(9, ME, "") })
    };
    let mut chat = chat();
    chat.take_kept(super::state::Kept {
        gone: Vec::new(),
        draft: String::new(),
        told: "from the phone".to_owned(),
        hidden: Default::default(),
    });
    assert_eq!(chat.draft_to_tell(), None);
    assert_eq!(chat.input.text(), "from the phone");
    chat.take(draft("from the phone, more"));
    assert_eq!(chat.input.text(), "from the phone, more");
    chat.edit(&insert(" here"));
    chat.take(draft("otherwise"));
    assert_eq!(chat.input.text(), "from the phone, more here", "what is written stays");
    assert_eq!(chat.draft_to_tell().as_deref(), Some("from the phone, more here"));
    assert_eq!(chat.draft_to_tell(), None);
    chat.send();
    assert_eq!(chat.draft_to_tell().as_deref(), Some(""), "what is sent is no draft any more");
}

#[test]
fn what_has_ended_leaves_the_screen_and_the_timer_is_told() {
    let mut chat = chat();
    chat.take(Event::Message(message(1, PEER, "stays")));
    let body = prost::Message::encode_to_vec(&tern_client::body::Timer { after_ms: 3_600_000 });
    chat.take(Event::Message(Message { kind: Kind::Timer, body, ..message(2, ME, "") }));
    for (seq, expires_ms) in [(3, 100), (4, 200)] {
        chat.take(Event::Message(Message { expires_ms, ..message(seq, PEER, &format!("goes-{seq}")) }));
    }
    chat.marked = Some(3);
    assert_eq!(chat.end(99), Some(100));
    assert!(
        row_with(&draw(&mut chat, 60, 12), "you: ").contains("(messages disappear after 1h from here on)")
    );
    row_with(&draw(&mut chat, 60, 12), "goes-3");
    assert_eq!((chat.end(100), chat.marked), (Some(200), None));
    let screen = draw(&mut chat, 60, 12);
    assert!(!rows(&screen).iter().any(|row| row.contains("goes-3")));
    row_with(&screen, "goes-4");
    assert_eq!(chat.end(200), None);
    row_with(&draw(&mut chat, 60, 12), "stays");
}

#[test]
fn ticks_turn_from_sent_to_delivered_to_read() {
    let mut chat = chat();
    for seq in 1..=3 {
        chat.take(Event::Message(message(seq, ME, &format!("message-{seq}"))));
    }
    chat.take(receipt(2, 1));
    let screen = draw(&mut chat, 60, 12);
    assert!(row_with(&screen, "message-1").trim_end().ends_with(" ✓✓"));
    assert!(row_with(&screen, "message-2").trim_end().ends_with(" ✓✓"));
    assert!(row_with(&screen, "message-3").trim_end().ends_with(" ✓"));
    assert!(!row_with(&screen, "message-3").contains("✓✓"));
    let rows = rows(&screen);
    let tick_colour = |text: &str| {
        let y = rows.iter().position(|row| row.contains(text)).expect("shown") as u16;
        let buffer = screen.buffer();
        let x = (0..60).rev().find(|x| buffer[(*x, y)].symbol() == "✓").expect("a tick");
        buffer[(x, y)].fg
    };
    assert_eq!(tick_colour("message-1"), Color::Cyan);
    assert_ne!(tick_colour("message-2"), Color::Cyan);
}

#[test]
fn a_message_that_was_refused_says_why_and_one_on_its_way_has_no_tick() {
    let mut chat = chat();
    chat.edit(&Action::Insert("hello".to_owned()));
    let (first, text) = chat.send().expect("sent");
    assert_eq!(text.body, b"hello");
    assert!(chat.input.text().is_empty());
    let row = row_with(&draw(&mut chat, 60, 8), "hello");
    assert!(row.contains('…') && !row.contains('✓'));
    let refused =
        Error::Refused { reason: Reason::RateLimited, retry_after_ms: 0, detail: "slow down".to_owned() };
    chat.sent(first, Err(refused));
    row_with(&draw(&mut chat, 80, 8), "slow down");
    chat.edit(&Action::Insert("again".to_owned()));
    let (second, _) = chat.send().expect("sent");
    chat.take(Event::Message(message(1, ME, "again")));
    chat.sent(second, Ok(Sent { chat: PEER, seq: 1, time_ms: 1 }));
    let screen = draw(&mut chat, 60, 8);
    assert_eq!(rows(&screen).iter().filter(|row| row.contains("again")).count(), 1);
    assert!(row_with(&screen, "again").contains('✓'));
}

#[test]
fn scrolling_reaches_the_oldest_message_and_asks_for_those_before_it() {
    let mut chat = chat();
    assert!(chat.wants_older(), "the first page is read at once");
    let messages = (51..=100).map(|seq| message(seq, PEER, &format!("number-{seq}"))).collect();
    chat.page(Ok(HistoryPage { messages, more: true, head: 100, delivered_upto: 0, read_upto: 0 }));
    let screen = draw(&mut chat, 40, 13);
    row_with(&screen, "number-100");
    assert!(!chat.wants_older());
    for _ in 0..20 {
        chat.edit(&Action::ScrollPages(1));
        draw(&mut chat, 40, 13);
    }
    row_with(&draw(&mut chat, 40, 13), "number-51");
    assert!(chat.wants_older());
    assert_eq!(chat.oldest(), 51);
    let messages = (1..=50).map(|seq| message(seq, PEER, &format!("number-{seq}"))).collect();
    chat.page(Ok(HistoryPage { messages, more: false, head: 100, delivered_upto: 0, read_upto: 0 }));
    row_with(&draw(&mut chat, 40, 13), "number-51");
    chat.edit(&Action::Scroll(i32::MAX));
    row_with(&draw(&mut chat, 40, 13), "number-1 ");
    assert!(!chat.wants_older());
    chat.edit(&Action::Scroll(-i32::MAX));
    row_with(&draw(&mut chat, 40, 13), "number-100");
}

#[test]
fn long_and_wide_text_is_wrapped_and_nothing_of_it_is_lost() {
    let mut chat = chat();
    let text = "the quick brown fox 漢字漢字漢字漢字漢字 jumps👩‍👩‍👧over aVeryLongWordThatFitsNowhereAtAllInSuchANarrowColumn";
    chat.take(Event::Message(message(1, PEER, text)));
    let screen = draw(&mut chat, 30, 20);
    let shown: String = rows(&screen)[1..18].concat().split_whitespace().collect();
    for part in ["quick", "brown", "漢", "jumps", "aVeryLong"] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphabetic).collect::<String>();
    assert!(letters(&shown).ends_with(&letters(text)), "{shown}");
}

#[test]
fn no_size_of_the_terminal_and_no_text_breaks_the_screen() {
    let mut chat = chat();
    let nasty = "\x1b[2J\x1b]0;owned\x07 \u{202e}txet \0 e\u{301} 👨‍👩‍👧‍👦 \n\n\t漢字";
    for seq in 1..=20 {
        chat.take(Event::Message(message(seq, if seq % 2 == 0 { ME } else { PEER }, nasty)));
    }
    chat.edit(&Action::Insert(nasty.to_owned()));
    chat.edit(&Action::Left);
    for width in 1..=40 {
        for height in 1..=12 {
            let screen = draw(&mut chat, width, height);
            assert!(rows(&screen).iter().all(|row| !row.contains(char::is_control)));
        }
    }
}

fn written(chat: &Chat) -> (String, usize) {
    (chat.input.text().to_owned(), chat.input.around().0.len())
}

#[test]
fn the_input_is_edited_by_whole_characters() {
    let mut chat = chat();
    chat.edit(&Action::Insert("añ漢".to_owned()));
    chat.edit(&Action::Left);
    chat.edit(&Action::Backspace);
    assert_eq!(written(&chat), ("a漢".to_owned(), 1));
    chat.edit(&Action::Delete);
    chat.edit(&Action::Delete);
    chat.edit(&Action::Home);
    chat.edit(&Action::Backspace);
    chat.edit(&Action::Left);
    assert_eq!(chat.input.text(), "a");
    chat.edit(&Action::End);
    chat.edit(&Action::CutToHome);
    assert!(chat.input.text().is_empty());
    assert!(chat.send().is_none(), "nothing is not sent");
    chat.edit(&Action::Insert("x".repeat(64 * 1024 + 1)));
    assert!(chat.send().is_none());
    assert!(!chat.input.text().is_empty(), "what is too long is not lost");
}

#[test]
fn what_is_pasted_is_what_is_sent() {
    let mut chat = chat();
    let pasted = "line one\r\nline two\n\tindented\rline four\x1b[2J\0";
    chat.edit(&Action::Insert(pasted.to_owned()));
    let screen = draw(&mut chat, 60, 24);
    for line in ["> line one", "  line two", "      indented", "  line four"] {
        row_with(&screen, line);
    }
    let (_, text) = chat.send().expect("sent");
    assert_eq!(text.body, b"line one\nline two\n\tindented\nline four[2J");
}

#[test]
fn words_and_lines_are_moved_over_cut_and_put_back_as_in_a_shell() {
    let mut chat = chat();
    chat.edit(&Action::Insert("the quick, brown\nfox jumps".to_owned()));
    chat.edit(&Action::CutWord);
    assert_eq!(written(&chat).0, "the quick, brown\nfox ");
    chat.edit(&Action::Up);
    assert_eq!(written(&chat).1, 4, "the same column above");
    chat.edit(&Action::WordRight);
    assert_eq!(written(&chat).1, 9);
    chat.edit(&Action::CutToEnd);
    assert_eq!(written(&chat).0, "the quick\nfox ");
    chat.edit(&Action::CutToEnd);
    assert_eq!(written(&chat).0, "the quickfox ", "at its end the line's own end goes");
    chat.edit(&Action::PutBack);
    assert_eq!(written(&chat).0, "the quick\nfox ");
    chat.edit(&Action::Down);
    assert_eq!(written(&chat).1, 10, "it is in the last line already: that scrolls");
    chat.edit(&Action::WordLeft);
    assert_eq!(written(&chat).1, 4);
    chat.edit(&Action::CutToHome);
    assert_eq!(written(&chat), ("quick\nfox ".to_owned(), 0));
    chat.edit(&Action::Home);
    chat.edit(&Action::WordLeft);
    chat.edit(&Action::Up);
    assert_eq!(written(&chat).1, 0);
}

#[test]
fn a_key_that_means_nothing_writes_nothing() {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    let of = |code, modifiers| super::keys::action(&KeyEvent::new(code, modifiers));
    assert_eq!(of(KeyCode::Char('q'), KeyModifiers::ALT), Action::Nothing);
    assert_eq!(of(KeyCode::Char('q'), KeyModifiers::CONTROL), Action::Nothing);
    assert_eq!(of(KeyCode::Enter, KeyModifiers::ALT), Action::Insert("\n".to_owned()));
    assert_eq!(of(KeyCode::Enter, KeyModifiers::NONE), Action::Send);
    assert_eq!(of(KeyCode::Char('é'), KeyModifiers::NONE), Action::Insert("é".to_owned()));
}

#[test]
fn a_question_mark_helps_where_nothing_is_written_and_can_be_written() {
    use super::keys::{Help, action};
    use ratatui::crossterm::event::{KeyCode, KeyEvent};
    let mut help = Help::default();
    let mut press = |code, is_written| {
        let key = KeyEvent::from(code);
        (help.takes(&key, &action(&key), is_written), help.shown)
    };
    let question = KeyCode::Char('?');
    assert_eq!(press(question, true), (false, false), "in a text it is written");
    assert_eq!(press(question, false), (true, true));
    assert_eq!(press(KeyCode::Char('q'), false), (true, false), "any key goes back, and does nothing else");
    assert_eq!((press(question, false), press(question, false)), ((true, true), (false, false)));
    assert_eq!((press(KeyCode::F(1), true), press(KeyCode::Esc, true)), ((true, true), (true, false)));
}

#[test]
fn what_is_below_the_screen_is_not_read_and_what_is_on_it_stays() {
    let mut chat = chat();
    for seq in 1..=30 {
        chat.take(Event::Message(message(seq, PEER, &format!("number-{seq}."))));
    }
    draw(&mut chat, 40, 13);
    assert_eq!(chat.newly_seen(), Some(30), "the newest is on the screen");
    chat.edit(&Action::ScrollPages(1));
    let before = draw(&mut chat, 40, 13);
    for seq in [31, 33, 35] {
        chat.take(Event::Message(message(seq, PEER, &format!("number-{seq}."))));
        chat.take(Event::Message(message(seq + 1, ME, "mine")));
    }
    let after = draw(&mut chat, 40, 13);
    assert_eq!(chat.newly_seen(), None, "nobody has seen them");
    assert_eq!(chat.unseen(), 3);
    row_with(&after, "3 new messages");
    let text = |screen: &TestBackend| rows(screen)[1..10].to_vec();
    assert_eq!(text(&before), text(&after), "what is being read does not move");
    chat.edit(&Action::ToNewest);
    row_with(&draw(&mut chat, 40, 13), "number-35.");
    assert_eq!((chat.newly_seen(), chat.unseen()), (Some(35), 0));
}

#[test]
fn what_lies_under_the_bar_at_the_lower_edge_has_not_been_seen() {
    let mut chat = chat();
    for seq in 1..=40 {
        chat.take(Event::Message(message(seq, PEER, &format!("number-{seq}."))));
    }
    // Nothing was on a screen yet when one scrolls.
    chat.scroll = 5;
    let screen = draw(&mut chat, 70, 9);
    let upto = chat.newly_seen().expect("some of them");
    row_with(&screen, &format!("number-{upto}."));
    let below = format!("number-{}.", upto + 1);
    assert!(
        rows(&screen).iter().all(|row| !row.contains(&below) || row.contains('↓')),
        "{below}: {:#?}",
        rows(&screen)
    );
    assert!(chat.unseen() > 0);
}

#[test]
fn a_long_message_of_ones_own_reads_like_text() {
    let mut chat = chat();
    chat.take(Event::Message(message(1, ME, "fn main() {\n    body();\n}")));
    let screen = draw(&mut chat, 50, 10);
    let columns: Vec<usize> = ["fn main()", "body();", "}"]
        .iter()
        .map(|text| row_with(&screen, text).find(text).expect("there"))
        .collect();
    assert_eq!(columns[1], columns[0] + 4, "its lines begin at one edge");
    assert_eq!(columns[2], columns[0]);
    assert!(row_with(&screen, "}").trim_end().ends_with('✓'));
}

#[test]
fn only_what_the_peer_wrote_is_marked_read_and_once() {
    let mut chat = chat();
    chat.take(Event::Message(message(1, PEER, "one")));
    assert_eq!(chat.newly_seen(), None, "it has not been on the screen");
    draw(&mut chat, 40, 8);
    assert_eq!(chat.newly_seen(), Some(1));
    assert_eq!(chat.newly_seen(), None);
    chat.take(Event::Message(message(2, ME, "two")));
    draw(&mut chat, 40, 8);
    assert_eq!(chat.newly_seen(), None);
    chat.take(Event::Message(Message { chat: 77, ..message(9, PEER, "elsewhere") }));
    draw(&mut chat, 40, 8);
    assert_eq!(chat.newly_seen(), None);
}

#[test]
fn a_lost_connection_is_shown() {
    let mut chat = chat();
    let (why, cause) = ("the cable".to_owned(), tern_client::Cause::Offline);
    chat.take(Event::Disconnected { why, cause, retry_in: Duration::from_secs(1) });
    let screen = draw(&mut chat, 80, 6);
    assert!(rows(&screen)[0].contains("connecting") && rows(&screen)[0].contains("the cable"));
    chat.take(Event::Connected);
    assert!(!rows(&draw(&mut chat, 80, 6))[0].contains("the cable"));
}

#[test]
fn what_the_server_has_lost_is_shown_as_lost_and_no_tick_is_kept_that_is_not_true() {
    let mut chat = chat();
    for seq in 1..=3 {
        chat.take(Event::Message(message(seq, ME, &format!("mine-{seq}"))));
    }
    chat.take(Event::Message(message(4, PEER, "theirs-4")));
    chat.take(receipt(4, 4));
    chat.take(Event::Rewound { chat: PEER, upto: 1 });
    chat.take(Event::Message(Message { time_ms: 1, ..message(2, ME, "another-2") }));
    for gone in [message(2, ME, "mine-2"), message(3, ME, "mine-3"), message(4, PEER, "theirs-4")] {
        chat.take(Event::Gone(gone));
    }
    let screen = draw(&mut chat, 70, 14);
    assert!(row_with(&screen, "mine-1").trim_end().ends_with(" ✓✓"));
    assert!(row_with(&screen, "another-2").trim_end().ends_with(" ✓"));
    assert!(!row_with(&screen, "another-2").contains("✓✓"), "nobody has that");
    for lost in ["mine-2", "mine-3"] {
        assert!(row_with(&screen, lost).contains("✗ lost by the server"));
    }
    assert_eq!(rows(&screen).iter().filter(|row| row.contains("theirs-4")).count(), 1);
    row_with(&screen, "✗ gone from the server");
    // What comes again after all is there.
    chat.take(Event::Message(message(3, ME, "mine-3")));
    let screen = draw(&mut chat, 70, 14);
    assert!(row_with(&screen, "mine-3").trim_end().ends_with(" ✓"));
}

#[test]
fn another_device_of_ones_account_and_a_new_name_are_told_on_the_screen() {
    let mut chat = chat();
    let device_name = "thief\x1b[2J".to_owned();
    chat.take(Event::DeviceAdded { device_id: 3, device_name, time_ms: 1 });
    chat.take(Event::Connected);
    let person =
        Person { user_id: PEER, name: "Robert".to_owned(), phone: String::new(), ..Person::default() };
    chat.take(Event::PersonChanged(person));
    let head = rows(&draw(&mut chat, 120, 6))[0].clone();
    assert!(head.contains("device 3 was added to your account: thief"), "{head}");
    assert!(head.contains("Robert") && head.contains("+15550002"), "{head}");
}

#[test]
fn a_device_that_is_looked_for_says_so_on_its_screen() {
    let mut chat = chat();
    chat.take(Event::Ring { device_id: 2, device_name: "laptop\x1b[2J".to_owned() });
    let head = rows(&draw(&mut chat, 120, 6))[0].clone();
    assert!(head.contains("your device 2 rings this one: laptop"), "{head}");
}

fn insert(text: &str) -> Action {
    Action::Insert(text.to_owned())
}

#[test]
fn a_search_finds_what_is_loaded_up_and_down_and_shows_it() {
    let mut chat = chat();
    for seq in 1..=60 {
        let text = if seq % 20 == 7 { format!("the Straße of {seq}") } else { format!("message {seq}") };
        chat.take(Event::Message(message(seq, PEER, &text)));
    }
    draw(&mut chat, 40, 10);
    chat.begin_search();
    assert!(chat.edit_search(&insert("STRASSE")));
    assert!(rows(&draw(&mut chat, 70, 10)).concat().contains("nothing so in what is loaded"));
    (0..7).for_each(|_| assert!(chat.edit_search(&Action::Backspace)));
    assert!(chat.edit_search(&insert("straße")), "whatever the case");
    let found = |chat: &mut Chat| {
        let screen = draw(chat, 40, 10);
        let rows = rows(&screen);
        let y = rows.iter().position(|row| row.contains("Straße"));
        let y = y.unwrap_or_else(|| panic!("{rows:#?}")) as u16;
        let marked = (0..40).any(|x| screen.buffer()[(x, y)].modifier.contains(Modifier::REVERSED));
        assert!(marked, "it is set off");
        rows[usize::from(y)].clone()
    };
    assert!(found(&mut chat).contains("of 47"));
    chat.edit_search(&Action::Search);
    assert!(found(&mut chat).contains("of 27"));
    chat.edit_search(&Action::Up);
    assert!(found(&mut chat).contains("of 7"));
    chat.edit_search(&Action::Search);
    assert!(found(&mut chat).contains("of 7"), "there is no other");
    chat.edit_search(&Action::SearchDown);
    assert!(found(&mut chat).contains("of 27"));
    assert!(chat.edit_search(&Action::Leave));
    assert!(!chat.edit_search(&Action::Leave), "it is over");
    assert!(rows(&draw(&mut chat, 40, 10)).concat().contains("of 27"), "and stays where it was found");
    assert_eq!(chat.input.text(), "", "nothing of it was written");
}

#[test]
fn a_draft_is_kept_when_it_has_changed_and_never_takes_the_place_of_what_is_written() {
    let mut chat = chat();
    chat.begin_with("a draft".to_owned());
    assert_eq!(chat.draft_to_keep(), None, "it is kept so");
    chat.edit(&insert(" goes on"));
    assert_eq!(chat.draft_to_keep().as_deref(), Some("a draft goes on"));
    assert_eq!(chat.draft_to_keep(), None);
    chat.begin_with("another".to_owned());
    assert_eq!(chat.input.text(), "a draft goes on");
    chat.send().expect("something is written");
    assert_eq!(chat.draft_to_keep().as_deref(), Some(""), "what is sent is no draft any more");
}

#[test]
fn what_is_written_is_seen_in_a_terminal_of_a_line_or_two() {
    for height in 1..=6 {
        let mut chat = chat();
        chat.take(Event::Message(message(1, PEER, "hello")));
        chat.edit(&insert("answer"));
        let shown = rows(&draw(&mut chat, 30, height)).concat();
        assert!(shown.contains("> answer"), "{height}: {shown}");
        assert_eq!(shown.contains("hello"), height > 1, "{height}: {shown}");
    }
}

#[test]
fn lines_that_terminals_measure_differently_are_known() {
    let mut chat = chat();
    for (seq, text) in
        [(1, "plain 漢字"), (2, "a family 👨‍👩‍👧"), (3, "a flag 🇨🇭"), (4, "a thumb 👍🏽"), (5, "a smile 😀")]
    {
        chat.take(Event::Message(message(seq, PEER, text)));
    }
    let screen = draw(&mut chat, 40, 12);
    let doubtful: Vec<_> = view::doubtful(screen.buffer()).into_iter().map(|(_, row)| row).collect();
    assert_eq!(doubtful.len(), 3, "{doubtful:?}");
    assert!(doubtful.iter().all(|row| !row.contains("plain") && !row.contains("smile")), "{doubtful:?}");
}

#[test]
fn the_list_of_chats_is_searched_by_name_and_phone_and_takes_a_phone_that_is_not_there() {
    let chat = |chat: u64, name: &str, phone: &str, unread: u64| json!({ "chat": chat, "name": name, "phone": phone, "unread": unread, "head": 1, "last": null });
    let mut picker = Picker::default();
    picker.list(vec![chat(5, "Bob", "+15550002", 2), chat(6, "Carol", "+15550003", 0)]);
    let mut terminal = Terminal::new(TestBackend::new(60, 6)).expect("a screen in memory");
    terminal.draw(|frame| picker.draw(frame)).expect("drawn");
    let shown = rows(terminal.backend());
    assert!(shown[1].contains("2  +15550002  Bob") && shown[2].contains("Carol"), "{shown:#?}");
    assert_eq!(picker.key(&Action::Send), Picked::Known(5));
    picker.key(&Action::Down);
    picker.key(&Action::Down);
    assert_eq!(picker.key(&Action::Send), Picked::Known(6), "it stays within the list");
    picker.key(&insert("0002"));
    assert_eq!(picker.key(&Action::Send), Picked::Known(5), "by phone");
    picker.key(&Action::CutToHome);
    picker.key(&insert("CAR"));
    assert_eq!(picker.key(&Action::Send), Picked::Known(6), "by name, whatever the case");
    picker.key(&Action::CutToHome);
    picker.key(&insert("nobody"));
    assert_eq!(picker.key(&Action::Send), Picked::Stay);
    assert!(picker.notice.as_deref().is_some_and(|why| why.contains("a phone is")));
    picker.key(&Action::CutToHome);
    picker.key(&insert("+1 555 0009"));
    assert_eq!(picker.key(&Action::Send), Picked::Typed(Who::Phone("+15550009".to_owned())));
    assert_eq!(picker.key(&Action::Leave), Picked::Leave);
}

#[test]
fn in_a_group_each_message_says_whose_it_is_and_what_became_of_it_stands_between() {
    use prost::Message as _;
    use tern_proto::v1::{self, group_change::Change};
    let group = (1 << 42) + 7;
    let mut chat = Chat::new(Person {
        user_id: group,
        name: "Friends".to_owned(),
        phone: String::new(),
        ..Person::default()
    });
    assert!(chat.is_group() && !chat.wants_name(), "a group has no phone");
    let said =
        |seq, sender, text: &str| Event::Message(Message { chat: group, ..message(seq, sender, text) });
    let added = v1::GroupChange { change: Some(Change::Added(v1::Members { user_ids: vec![4] })) };
    let change =
        Message { chat: group, kind: Kind::Group, body: added.encode_to_vec(), ..message(2, PEER, "") };
    chat.take(Event::Message(Message { chat: group, ..message(1, ME, "hello") }));
    chat.take(Event::Message(change));
    chat.take(said(3, 4, "thanks, 漢字"));
    assert_eq!(chat.strangers(), [PEER, 4]);
    chat.meet(PEER, "Bob".to_owned());
    let screen = draw(&mut chat, 60, 12);
    row_with(&screen, "Friends");
    assert!(row_with(&screen, "hello").contains('✓'));
    row_with(&screen, "Bob added @4");
    chat.meet(4, "Dan".to_owned());
    assert!(chat.strangers().is_empty());
    let screen = draw(&mut chat, 60, 12);
    row_with(&screen, "Bob added Dan");
    let shown = rows(&screen);
    let at = shown.iter().position(|row| row.contains("thanks")).expect("shown");
    assert_eq!(shown[at - 1].trim(), "Dan", "{shown:#?}");
    assert_eq!(chat.shown_upto, 3, "all of it has been seen");

    let named = |seq, name: &str| {
        let body = v1::GroupChange { change: Some(Change::Name(name.to_owned())) }.encode_to_vec();
        Event::Message(Message { chat: group, kind: Kind::Group, body, ..message(seq, PEER, "") })
    };
    chat.take(named(5, "Good friends"));
    chat.take(named(4, "Foes"));
    let screen = draw(&mut chat, 60, 12);
    assert!(rows(&screen)[0].contains("Good friends"), "the newest name counts");
}

fn about(seq: u64, sender: u64, kind: Kind, to: u64, body: &[u8]) -> Event {
    let envelope = tern_client::Envelope::about(to);
    Event::Message(Message { kind, body: body.to_vec(), envelope, ..message(seq, sender, "") })
}

/// What a key leads to that sends something: the message.
fn sends(chat: &mut Chat, action: &Action) -> tern_client::NewMessage {
    match chat.mark(action) {
        super::about::Marked::Send(_, message) => message,
        _ => panic!("{action:?} sends nothing"),
    }
}

fn typed(chat: &mut Chat, text: &str) {
    assert!(matches!(chat.mark(&insert(text)), super::about::Marked::Other), "it is written");
    chat.edit(&insert(text));
}

#[test]
fn what_is_about_a_message_is_shown_with_it_and_not_for_itself() {
    let mut chat = chat();
    for event in [message(1, PEER, "helo"), message(2, ME, "who is there?")] {
        chat.take(Event::Message(event));
    }
    chat.take(about(3, PEER, Kind::Edit, 1, b"hello"));
    chat.take(about(4, ME, Kind::Reaction, 1, "👍".as_bytes()));
    chat.take(about(5, PEER, Kind::Text, 2, b"me"));
    chat.take(about(6, PEER, Kind::Pin, 2, b""));
    let screen = draw(&mut chat, 60, 14);
    let shown = rows(&screen);
    row_with(&screen, "hello");
    assert!(row_with(&screen, "👍").contains("edited"), "{shown:#?}");
    row_with(&screen, "pinned");
    row_with(&screen, "│ me: who is there?");
    assert!(!shown.iter().any(|row| row.contains("helo ")), "{shown:#?}");
    assert_eq!(chat.shown_upto, 6, "that it is pinned has been seen too");
    chat.take(about(7, PEER, Kind::Deletion, 1, b""));
    chat.take(about(8, ME, Kind::Reaction, 1, b""));
    let screen = draw(&mut chat, 60, 14);
    row_with(&screen, "(deleted)");
    assert!(!rows(&screen).iter().any(|row| row.contains("hello") || row.contains('👍')));
}

#[test]
fn a_marked_message_is_replied_to_edited_deleted_and_reacted_to_by_keys() {
    let mut chat = chat();
    for event in [message(1, PEER, "hello"), message(2, ME, "helo you")] {
        chat.take(Event::Message(event));
    }
    typed_is_kept(&mut chat);
    // Up marks the newest, further up the one before; the foot says what can be done.
    assert!(matches!(chat.mark(&Action::Mark(true)), super::about::Marked::Done));
    assert!(matches!(chat.mark(&Action::Mark(true)), super::about::Marked::Done));
    assert_eq!(chat.marked, Some(1));
    row_with(&draw(&mut chat, 90, 12), "r reply, e edit");
    chat.mark(&insert("e"));
    assert_eq!(chat.notice.as_deref(), Some("only your own texts are edited"));
    chat.mark(&insert("r"));
    row_with(&draw(&mut chat, 90, 12), "to Bob: hello");
    typed(&mut chat, "hi");
    let (_, reply) = chat.send().expect("a reply");
    assert_eq!((reply.envelope.about, &reply.body[..]), (1, &b"hi"[..]));
    // One's own is edited, with what it reads in the input.
    chat.mark(&Action::Mark(true));
    chat.mark(&insert("e"));
    assert_eq!(chat.input.text(), "helo you");
    chat.input.set("hello you".to_owned());
    let edit = sends(&mut chat, &Action::Send);
    assert_eq!((edit.kind, edit.envelope.about, &edit.body[..]), (Kind::Edit, 2, &b"hello you"[..]));
    chat.mark(&Action::Mark(true));
    chat.mark(&insert("+"));
    typed(&mut chat, "🙂");
    let reaction = sends(&mut chat, &Action::Send);
    assert_eq!((reaction.kind, &reaction.body[..]), (Kind::Reaction, "🙂".as_bytes()));
    // Nothing is deleted by one key.
    chat.mark(&Action::Mark(true));
    chat.mark(&insert("d"));
    row_with(&draw(&mut chat, 90, 12), "for everyone?");
    chat.mark(&insert("n"));
    chat.mark(&insert("d"));
    let deletion = sends(&mut chat, &insert("y"));
    assert_eq!((deletion.kind, deletion.envelope.about, deletion.body.len()), (Kind::Deletion, 2, 0));
    assert!(matches!(chat.mark(&Action::Leave), super::about::Marked::Other), "nothing is marked any more");
}

/// What was being written comes back when something about a message has been done.
fn typed_is_kept(chat: &mut Chat) {
    chat.edit(&insert("a draft"));
    chat.mark(&Action::Mark(true));
    chat.mark(&insert("+"));
    assert_eq!(chat.input.text(), "");
    chat.mark(&Action::Leave);
    assert_eq!(chat.input.text(), "a draft");
    chat.input.take();
}

#[test]
fn a_poll_counts_its_votes_and_takes_only_answers_that_it_has() {
    use prost::Message as _;
    let answers = vec!["now".to_owned(), "later".to_owned()];
    let poll = tern_client::body::Poll { question: "when?".to_owned(), answers, choices_max: 1 };
    let mut chat = chat();
    let poll = Message { kind: Kind::Poll, body: poll.encode_to_vec(), ..message(1, PEER, "") };
    chat.take(Event::Message(poll));
    let vote = |answers: Vec<u32>| tern_client::body::Vote { answers }.encode_to_vec();
    chat.take(about(2, PEER, Kind::Vote, 1, &vote(vec![1])));
    let screen = draw(&mut chat, 60, 12);
    row_with(&screen, "? when?");
    row_with(&screen, "1) now");
    row_with(&screen, "2) later — 1");
    chat.mark(&Action::Mark(true));
    chat.mark(&insert("v"));
    for wrong in ["3", "0", "x", "1 2"] {
        chat.input.set(wrong.to_owned());
        assert!(matches!(chat.mark(&Action::Send), super::about::Marked::Done), "{wrong}");
    }
    chat.input.set("1".to_owned());
    let sent = sends(&mut chat, &Action::Send);
    assert_eq!((sent.kind, sent.envelope.about, sent.body), (Kind::Vote, 1, vote(vec![0])));
}
