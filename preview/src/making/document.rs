//! Of documents: PDF. Nothing of a page is drawn: how many there are is counted, and the first one is measured.

use hayro_syntax::{LoadPdfError, Pdf};

use crate::limits::SIDE_PX_MAX;
use crate::preview::{Malformed, Preview, Refusal};

/// Bytes in which a PDF says that it is one: Acrobat reads those that have something before.
const HEAD_BYTES: usize = 1 << 10;

/// See [`preview_of`](crate::preview_of). One that is encrypted has nothing that can be said.
pub(super) fn preview_of(bytes: &[u8]) -> Result<Preview, Refusal> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    if !head.windows(5).any(|window| window == b"%PDF-") {
        return Err(Refusal::Malformed(Malformed::Head));
    }
    let pdf = match Pdf::new(bytes.to_vec()) {
        Ok(pdf) => pdf,
        Err(LoadPdfError::Decryption(_)) => return Ok(Preview::default()),
        Err(LoadPdfError::Invalid) => return Err(Refusal::Malformed(Malformed::Body)),
    };
    let first = pdf.pages().first().ok_or(Refusal::Malformed(Malformed::Nothing))?;
    let (width, height) = first.render_dimensions();
    let size = points(width).zip(points(height));
    Ok(Preview {
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        pages: u32::try_from(pdf.pages().len()).ok(),
        ..Preview::default()
    })
}

/// A length in whole points, if it can be one.
fn points(length: f32) -> Option<u32> {
    let rounded = length.round();
    // What is no number is not in the range.
    (1.0..=SIDE_PX_MAX as f32).contains(&rounded).then_some(rounded as u32)
}
