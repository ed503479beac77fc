//! Documents.

/// A PDF of these objects, the first of which is the catalogue.
pub fn pdf(objects: &[&[u8]], trailer: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut offsets = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        offsets.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", at + 1).bytes());
        bytes.extend(*object);
        bytes.extend(b"\nendobj\n");
    }
    let xref = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for offset in offsets {
        bytes.extend(format!("{offset:010} 00000 n \n").bytes());
    }
    let size = objects.len() + 1;
    bytes
        .extend(format!("trailer\n<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{xref}\n%%EOF\n").bytes());
    bytes
}

/// Two pages of US Letter, the first of which lies on its side.
pub fn letter() -> Vec<u8> {
    pdf(
        &[
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2/MediaBox[0 0 612 792]>>",
            b"<</Type/Page/Parent 2 0 R/Rotate 90>>",
            b"<</Type/Page/Parent 2 0 R/Contents 5 0 R>>",
            b"<</Length 9>>stream\n0 0 m h f\n\nendstream",
        ],
        "",
    )
}

/// A stream object, of what is deflated.
pub fn deflated(entries: &str, zlib: &[u8]) -> Vec<u8> {
    let head = format!("<<{entries}/Length {}>>stream\n", zlib.len());
    [head.as_bytes(), zlib, b"\nendstream"].concat()
}
