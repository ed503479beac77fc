//! Draws a chat: a line about the peer, the messages, the input.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use ratatui_image::sliced::{SignedPosition, SlicedImage};
use tern_client::{Kind, Message, Standing};

use super::about;
use super::pictures::{Picture, picture_of};
use super::state::{Chat, Search};
use crate::{shown, talk};

/// Columns that a message leaves free on the other side.
const MARGIN: u16 = 8;

/// Lines of what is being written that are shown at once.
const INPUT_LINES_MAX: usize = 8;

/// Draws it. The chat learns how much fits.
pub fn draw(chat: &mut Chat, frame: &mut Frame<'_>) {
    let written = chat.input.text().matches('\n').count() + 1;
    // However much is written, most of the screen is for what was said.
    let most = (usize::from(frame.area().height) / 3).clamp(1, INPUT_LINES_MAX);
    let foot =
        Constraint::Length((written.min(most) + 1 + usize::from(chat.writing_line().is_some())) as u16);
    // In few lines what is being written comes first, then what was said.
    let (head, foot) = match frame.area().height {
        0..=2 => (Constraint::Length(0), Constraint::Length(1)),
        3..=5 => (Constraint::Length(1), Constraint::Length(1)),
        _ => (Constraint::Length(1), foot),
    };
    let [head, middle, foot] = Layout::vertical([head, Constraint::Fill(1), foot]).areas(frame.area());
    frame.render_widget(header(chat), head);
    draw_messages(chat, frame, middle);
    match &chat.search {
        Some(search) => draw_search(search, frame, foot),
        None => draw_input(chat, frame, foot),
    }
}

/// The lines on the screen with characters of which terminals think differently how wide they are: joined and flagged emoji.
pub fn doubtful(screen: &Buffer) -> Vec<(u16, String)> {
    let is_doubtful = |symbol: &str| {
        let joined =
            |c| matches!(c, '\u{200d}' | '\u{fe0f}' | '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}');
        !is_picture(symbol) && (symbol.chars().any(joined) || symbol.chars().count() > 2)
    };
    let area = screen.area;
    let row = |y| (area.left()..area.right()).map(move |x| screen[(x, y)].symbol());
    let text = |y| row(y).filter(|symbol| !is_picture(symbol)).collect();
    let rows = (area.top()..area.bottom()).filter(|y| row(*y).any(is_doubtful));
    rows.map(|y| (y, text(y))).collect()
}

/// Whether a cell is a part of a picture: of sixels, or a place of kitty's protocol.
fn is_picture(symbol: &str) -> bool {
    symbol.contains(['\x1b', '\u{10eeee}'])
}

/// What the keys mean.
pub fn draw_help(frame: &mut Frame<'_>) {
    const HELP: [(&str, &str); 19] = [
        ("Enter", "send"),
        ("Alt-Enter, Ctrl-J", "a new line; pasted text stays as it is"),
        ("a file dropped, or its path", "is offered; Enter sends it, Esc leaves it as text"),
        ("arrows, Ctrl-B -F", "move; Up and Down scroll where there is no line"),
        ("Home, End, Ctrl-A -E", "to the begin and the end of the line"),
        ("Alt-B -F, Ctrl-Left -Right", "move by words"),
        ("Ctrl-U -K -W, Alt-Backspace", "cut to the line's begin, its end, a word"),
        ("Ctrl-Y", "put back what was cut"),
        ("Alt-Up -Down, Ctrl-Up -Down", "mark one; then r replies, e edits, d deletes,"),
        ("", "+ reacts, p pins, v votes, s stars, x hides"),
        ("PgUp, PgDn, the wheel", "scroll; older messages come by themselves"),
        ("Ctrl-End", "to the newest"),
        ("Ctrl-R, Ctrl-S", "search up and down in what is loaded"),
        ("Ctrl-G, /chats", "go to another chat"),
        ("Ctrl-L", "paint the screen anew"),
        ("Ctrl-Z", "back to the shell, until fg"),
        ("?, F1, /help", "this; a second ? writes it"),
        ("Esc, Ctrl-C, /quit", "leave; what is written stays as a draft"),
        ("", "any key goes back"),
    ];
    let widest = HELP.iter().map(|(keys, _)| keys.len()).max().unwrap_or(0);
    let line = |(keys, what): &(&'static str, &'static str)| {
        Line::from(vec![format!("  {keys:widest$}  ").bold(), (*what).into()])
    };
    let lines: Vec<_> = HELP.iter().map(line).collect();
    frame.render_widget(Paragraph::new(lines), frame.area());
}

fn draw_search(search: &Search, frame: &mut Frame<'_>, area: Rect) {
    let foot = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    let text = search.text.text();
    let note = match (text, search.at) {
        ("", _) => "  Ctrl-R up, Ctrl-S down, Esc back",
        (_, None) => "  nothing so in what is loaded: PgUp loads more",
        (_, Some(_)) => "",
    };
    let line = Line::from(vec![
        Span::from("search: ").bold(),
        Span::from(shown::clean_line(text)),
        Span::from(note).dim(),
    ]);
    frame.render_widget(Paragraph::new(line), foot);
    let column = Span::raw(shown::clean_line(search.text.around().0)).width() + 8;
    let column = column.min(usize::from(foot.width).saturating_sub(1));
    frame.set_cursor_position(Position::new(foot.x + column as u16, foot.y));
}

/// Sets off a text in a line, wherever it stands within one of its pieces.
fn highlight(line: Line<'static>, wanted: &str) -> Line<'static> {
    let mut spans = Vec::new();
    for span in line.spans {
        let lower = span.content.to_lowercase();
        if lower.len() != span.content.len() || !lower.contains(wanted) {
            // Of letters that change their length with their case it is not known where they are.
            spans.push(span);
            continue;
        }
        let mut rest = 0;
        for (at, found) in lower.match_indices(wanted) {
            let (Some(before), Some(it)) =
                (span.content.get(rest..at), span.content.get(at..at + found.len()))
            else {
                continue;
            };
            spans.push(Span::styled(before.to_owned(), span.style));
            spans.push(Span::styled(it.to_owned(), span.style.reversed()));
            rest = at + found.len();
        }
        spans.push(Span::styled(span.content[rest..].to_owned(), span.style));
    }
    Line { spans, ..line }
}

fn header(chat: &Chat) -> Paragraph<'_> {
    let peer = chat.peer();
    let mut spans = vec![Span::from(format!(" {} ", shown::name_of(peer))).bold()];
    spans.push(Span::from(shown::clean_line(&peer.phone)).dim());
    spans.push(match chat.connected {
        true => Span::from("  ● connected").green(),
        false => Span::from("  ○ connecting").yellow(),
    });
    let presence = chat.presence_text();
    if !presence.is_empty() {
        spans.push(Span::from(format!("  {presence}")).italic());
    }
    if let Some(warning) = &chat.warning {
        spans.push(Span::from(format!("  {warning}")).red().bold());
    }
    let uploads = chat.uploads_text();
    if !uploads.is_empty() {
        spans.push(Span::from(format!("  {uploads}")).yellow());
    }
    if let Some(notice) = &chat.notice {
        spans.push(Span::from(format!("  {notice}")).yellow());
    }
    if !chat.elsewhere.is_empty() {
        spans.push(Span::from(format!("  {}", chat.elsewhere)).cyan());
    }
    Paragraph::new(Line::from(spans)).style(Style::new().reversed())
}

fn draw_messages(chat: &mut Chat, frame: &mut Frame<'_>, area: Rect) {
    let Laid { lines, ends, begins, pictures } = lines(chat, area.width);
    chat.keep_in_place(lines.len());
    let height = usize::from(area.height);
    if let Some(seq) = chat.jump.take()
        && let Some((_, begin)) = begins.iter().find(|(begun, _)| *begun == seq)
    {
        // With some of what follows below it.
        chat.scroll = lines.len().saturating_sub(begin + height.div_ceil(2));
    }
    chat.page_lines = height;
    chat.scroll = chat.scroll.min(lines.len().saturating_sub(height));
    let end = lines.len() - chat.scroll;
    let start = end.saturating_sub(height);
    chat.lines_above = start;
    chat.in_view = in_view(&begins, start, end);
    let has_bar = chat.scroll > 0 && height > 1;
    // What lies under the bar has not been seen.
    let visible = end - usize::from(has_bar && end > start);
    let shown = ends.iter().rev().find(|(_, upto)| *upto <= visible);
    if height > 0 {
        chat.shown_upto = shown.map_or(0, |(seq, _)| *seq).max(chat.shown_upto);
    }
    let wanted = chat.search.as_ref().map(|search| search.text.text().to_lowercase());
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    let marked = |line| match &wanted {
        Some(wanted) => highlight(line, wanted),
        None => line,
    };
    let shown: Vec<_> = lines.into_iter().skip(start).take(end - start).map(marked).collect();
    // A short chat lies at the bottom, beside the input.
    let blank = height - shown.len();
    let rows = Rect { y: area.y + blank as u16, height: shown.len() as u16, ..area };
    frame.render_widget(Paragraph::new(shown), rows);
    // The bar is not written over a picture: some terminals would not show it.
    let above_bar = Rect { height: rows.height.saturating_sub(u16::from(has_bar)), ..rows };
    draw_pictures(chat, &pictures, start, frame, above_bar);
    if has_bar {
        let below = match chat.unseen() {
            0 => " ↓ Ctrl-End: to the newest ".to_owned(),
            1 => " ↓ 1 new message, Ctrl-End ".to_owned(),
            new => format!(" ↓ {new} new messages, Ctrl-End "),
        };
        let row = Rect { y: area.y + area.height - 1, height: 1, ..area };
        frame.render_widget(Paragraph::new(Line::from(below.reversed()).right_aligned()), row);
    }
}

/// The first and the last message of which something is on the screen.
fn in_view(begins: &[(u64, usize)], start: usize, end: usize) -> (u64, u64) {
    let first = begins.iter().rev().find(|(_, begin)| *begin <= start).or(begins.first());
    let last = begins.iter().rev().find(|(_, begin)| *begin < end);
    let seq = |found: Option<&(u64, usize)>| found.map_or(0, |(seq, _)| *seq);
    (seq(first), seq(last))
}

/// Draws those pictures for which lines are left free: the terminal has them as wholes.
fn draw_pictures(chat: &Chat, pictures: &[Placed], start: usize, frame: &mut Frame<'_>, area: Rect) {
    for Placed { seq, line, column } in pictures {
        let above = i16::try_from(*line as i64 - start as i64);
        if let (Some(Picture::Graphics(drawn)), Ok(y)) = (chat.pictures.get(*seq), above) {
            let position = SignedPosition { x: *column as i16, y };
            frame.render_widget(SlicedImage::new(drawn, position), area);
        }
    }
}

/// Where a picture is that the terminal draws.
struct Placed {
    seq: u64,
    /// The first of its lines, of all of the chat.
    line: usize,
    column: u16,
}

/// A chat in lines.
struct Laid {
    lines: Vec<Line<'static>>,
    /// Behind which line each of the peer's messages ends.
    ends: Vec<(u64, usize)>,
    /// With which line each message begins.
    begins: Vec<(u64, usize)>,
    pictures: Vec<Placed>,
}

fn lines(chat: &Chat, width: u16) -> Laid {
    let (mut lines, mut ends, mut begins, mut pictures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut gone = chat.gone.values().peekable();
    for message in chat.messages.values() {
        while let Some(message) = gone.next_if(|lost| lost.seq <= message.seq) {
            lost(&mut lines, message, width);
        }
        let Some(standing) = chat.standing(message.seq) else {
            if matches!(message.kind, Kind::Group | Kind::Timer) {
                changed(&mut lines, chat, message, width);
            } else if matches!(message.kind, Kind::Lost | Kind::Unknown) {
                theirs(&mut lines, &shown::text_of_message(message), width, time_of(message));
            }
            // What is about a message is shown with it.
            ends.push((message.seq, lines.len()));
            continue;
        };
        let begin = lines.len();
        begins.push((message.seq, begin));
        if !message.own && chat.is_group() {
            lines.push(Line::from(chat.name_of(message.sender).bold()));
        }
        pictures.extend(picture(&mut lines, chat, &standing.message, width));
        said(&mut lines, chat, &standing, width);
        if chat.marked == Some(message.seq) {
            lines[begin..].iter_mut().for_each(|line| line.style = line.style.reversed());
        }
        if !message.own {
            ends.push((message.seq, lines.len()));
        }
    }
    gone.for_each(|message| lost(&mut lines, message, width));
    for pending in &chat.pending {
        let text = shown::clean(&pending.text);
        let state = match &pending.failed {
            None => Span::from("…").dim(),
            Some(why) => Span::from(format!("✗ {why}")).red(),
        };
        own(&mut lines, &text, width, vec![state]);
    }
    Laid { lines, ends, begins, pictures }
}

/// The picture of a message, above what is said: in lines of its own, or in free ones, for the terminal to draw it.
fn picture(lines: &mut Vec<Line<'static>>, chat: &Chat, message: &Message, width: u16) -> Option<Placed> {
    let picture = chat.pictures.get(message.seq).filter(|_| picture_of(message).is_some())?;
    let size = picture.size();
    // As the text below it.
    let beside = time_of(message).width() as u16 + 2;
    let beside = if beside * 3 > width { 0 } else { beside };
    let (left, right) = (beside, width.checked_sub(size.width)?);
    let column = if message.own { right } else { left.min(right) };
    let line = lines.len();
    match picture {
        Picture::Blocks(rows) => {
            let indent = || Span::from(" ".repeat(usize::from(column)));
            lines.extend(rows.iter().map(|row| std::iter::once(indent()).chain(row.spans.clone()).collect()));
            None
        }
        Picture::Graphics(_) => {
            lines.extend(std::iter::repeat_n(Line::default(), usize::from(size.height)));
            Some(Placed { seq: message.seq, line, column })
        }
    }
}

/// A message, with what was said of it.
fn said(lines: &mut Vec<Line<'static>>, chat: &Chat, standing: &Standing, width: u16) {
    let message = &standing.message;
    let wide = width.saturating_sub(MARGIN).max(1);
    let aside = |lines: &mut Vec<Line<'static>>, text: &str| {
        for line in wrap(text, wide) {
            let line = Line::from(line.dim());
            lines.push(if message.own { line.right_aligned() } else { line });
        }
    };
    if let Some(above) = about::above(chat, message) {
        aside(lines, &above);
    }
    let text = about::text_of(standing);
    let time = time_of(message);
    if message.own {
        let ticks = shown::ticks(message.seq, chat.delivered_upto);
        let style = match message.seq <= chat.read_upto {
            true => Style::new().fg(Color::Cyan).bold(),
            false => Style::new().dim(),
        };
        own(lines, &text, width, vec![time, " ".into(), Span::styled(ticks, style)]);
    } else {
        theirs(lines, &text, width, time);
    }
    let remarks = chat.remarks(standing);
    if !remarks.is_empty() {
        aside(lines, &remarks);
    }
}

/// What became of a group: in the middle.
fn changed(lines: &mut Vec<Line<'static>>, chat: &Chat, message: &Message, width: u16) {
    let who = match message.own {
        true => "you".to_owned(),
        false if chat.is_group() => chat.name_of(message.sender),
        false => shown::name_of(chat.peer()),
    };
    let text = match message.kind {
        Kind::Timer => format!("{who}: {}", talk::timer_text(message)),
        _ => format!("{who} {}", shown::change_text(message, |user| chat.name_of(user))),
    };
    for line in wrap(&text, width.saturating_sub(MARGIN).max(1)) {
        lines.push(Line::from(line.dim()).centered());
    }
}

fn time_of(message: &Message) -> Span<'static> {
    Span::from(shown::time_of(message.time_ms)).dim()
}

/// A message that the server has no more.
fn lost(lines: &mut Vec<Line<'static>>, message: &Message, width: u16) {
    let (text, time) = (shown::text_of_message(message), time_of(message));
    if message.own {
        own(lines, &text, width, vec![time, " ".into(), Span::from("✗ lost by the server").red()]);
    } else {
        theirs(lines, &text, width, time);
        lines.push(Line::from("✗ gone from the server".red()));
    }
}

/// A message of one's own: to the right, with what became of it behind its last line. One of several lines is a block of text that
/// begins at one edge.
fn own(lines: &mut Vec<Line<'static>>, text: &str, width: u16, state: Vec<Span<'static>>) {
    let wrapped = wrap(text, width.saturating_sub(MARGIN).max(1));
    let state_width: usize = state.iter().map(Span::width).sum::<usize>() + 2;
    let columns = |line: &String| Span::raw(line.as_str()).width();
    let (block, last) = (wrapped.iter().map(columns).max().unwrap_or(0), wrapped.last().map_or(0, columns));
    let beside = block.max(last + state_width);
    let fits = beside <= usize::from(width);
    // With one line, or what became of it beside the last, all of it ends at the right edge.
    let indent = usize::from(width).saturating_sub(if fits { beside } else { block });
    for line in wrapped {
        lines.push(Line::from(vec![" ".repeat(indent).into(), line.into()]));
    }
    match lines.last_mut() {
        Some(line) if fits => {
            line.spans.push(" ".repeat(beside - last - state_width + 2).into());
            line.spans.extend(state);
        }
        _ => lines.push(Line::from(state).right_aligned()),
    }
}

/// A message of the peer's: to the left, behind its time.
fn theirs(lines: &mut Vec<Line<'static>>, text: &str, width: u16, time: Span<'static>) {
    let mut indent = time.width() + 2;
    let mut before = vec![time, "  ".into()];
    if indent * 3 > usize::from(width) {
        // Beside the time there would be hardly room for text.
        lines.push(Line::from(std::mem::take(&mut before)));
        indent = 0;
    }
    let columns = usize::from(width.saturating_sub(MARGIN)).saturating_sub(indent).max(1);
    for line in wrap(text, columns as u16) {
        before.push(line.into());
        lines.push(Line::from(std::mem::replace(&mut before, vec![" ".repeat(indent).into()])));
    }
}

/// Breaks text into lines of at most `width` columns: between words where there are any, inside of them where not.
fn wrap(text: &str, width: u16) -> Vec<String> {
    text.split('\n').flat_map(|line| wrap_line(line, usize::from(width))).collect()
}

fn wrap_line(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut columns) = (String::new(), 0);
    // The byte behind the last space of the line, and the columns up to there.
    let mut space = None;
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        let wide = Span::raw(grapheme.symbol).width();
        if columns + wide > width && !line.is_empty() {
            let rest = match space.take() {
                Some((at, before)) => {
                    columns -= before;
                    line.split_off(at)
                }
                None => {
                    columns = 0;
                    String::new()
                }
            };
            lines.push(std::mem::replace(&mut line, rest).trim_end().to_owned());
        }
        line.push_str(grapheme.symbol);
        columns += wide;
        if grapheme.symbol == " " {
            space = Some((line.len(), columns));
        }
    }
    lines.push(line);
    lines
}

/// The input shows the lines around its cursor, and of the cursor's line the part around it.
fn draw_input(chat: &Chat, frame: &mut Frame<'_>, area: Rect) {
    // In one line there is no room for more than what is written.
    let borders = if area.height > 1 { Borders::TOP } else { Borders::NONE };
    let block = Block::new().borders(borders).border_style(Style::new().dim());
    let mut inner = block.inner(area);
    frame.render_widget(block, area);
    if inner.height == 1
        && let Some(offer) = chat.offer.text()
    {
        // It must be seen before a key can be for it.
        return frame.render_widget(Paragraph::new(offer.yellow()), inner);
    }
    if let Some(line) = chat.writing_line().filter(|_| inner.height > 1) {
        let row = Rect { height: 1, ..inner };
        frame.render_widget(Paragraph::new(line.yellow()), row);
        inner = Rect { y: inner.y + 1, height: inner.height - 1, ..inner };
    }
    if chat.input.text().is_empty() && chat.writing_line().is_some() {
        frame.render_widget(Paragraph::new("> "), inner);
        return frame.set_cursor_position(Position::new(inner.x + 2, inner.y));
    }
    if chat.input.text().is_empty() {
        let help = "> write; Enter: send, Alt-Enter: new line, Ctrl-G: chats, ?: help, Esc: leave";
        frame.render_widget(Paragraph::new(help.dim()), inner);
        return frame.set_cursor_position(Position::new(inner.x + 2, inner.y));
    }
    let visible = shown::clean;
    let (before, _) = chat.input.around();
    let at = before.matches('\n').count();
    let column = Span::raw(visible(before.rsplit('\n').next().unwrap_or_default())).width() + 2;
    let hidden = (column + 1).saturating_sub(usize::from(inner.width));
    let height = usize::from(inner.height).max(1);
    let first = (at + 1).saturating_sub(height);
    for (row, (number, line)) in
        chat.input.text().split('\n').enumerate().skip(first).take(height).enumerate()
    {
        let mark = if number == 0 { "> " } else { "  " };
        let hidden = if number == at { hidden } else { 0 };
        let line = Paragraph::new(format!("{mark}{}", visible(line)))
            .scroll((0, hidden.min(u16::MAX.into()) as u16));
        frame.render_widget(line, Rect { y: inner.y + row as u16, height: 1, ..inner });
    }
    frame.set_cursor_position(Position::new(
        inner.x + column.saturating_sub(hidden) as u16,
        inner.y + (at - first) as u16,
    ));
}
