//! Voice notes.

use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

/// Samples in a second, and in a packet of 20 ms.
const RATE: usize = 48_000;
const FRAME: usize = RATE / 50;

/// A recording of seconds, in each of which there is a tone so loud, from 0 to 1.
pub fn note(seconds: &[f32], channels: usize) -> Vec<u8> {
    let tone = |at: usize| (at as f32 * 440.0 * std::f32::consts::TAU / RATE as f32).sin();
    let samples = seconds.len() * RATE;
    let pcm: Vec<f32> =
        (0..samples).flat_map(|at| std::iter::repeat_n(tone(at) * seconds[at / RATE], channels)).collect();
    let mut encoder = OpusEncoder::new(RATE as i32, channels, Application::Voip).expect("it may be so");
    encoder.bitrate_bps = 24_000;
    encoder.complexity = 0;
    let head = OpusHead::for_encoder(&encoder, RATE as u32);
    let end = u64::from(head.pre_skip) + samples as u64;
    let packets = end.div_ceil(FRAME as u64);
    let mut writer = OggOpusWriter::new(Vec::new(), head).expect("memory takes it");
    let (mut block, mut packet) = (vec![0.0; FRAME * channels], vec![0; MAX_PACKET_BYTES]);
    for at in 0..packets as usize {
        let from = (at * FRAME * channels).min(pcm.len());
        let piece = &pcm[from..(from + block.len()).min(pcm.len())];
        block.fill(0.0);
        block[..piece.len()].copy_from_slice(piece);
        let bytes = encoder.encode(&block, FRAME, &mut packet).expect("it can be encoded");
        let length = (end - writer.granule() as u64).min(FRAME as u64);
        writer.write_packet_with_duration(&packet[..bytes], length as u32).expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

/// A recording of these packets, each of which is said to have so many samples.
pub fn of_packets<'a>(packets: impl IntoIterator<Item = (&'a [u8], u32)>) -> Vec<u8> {
    let head = OpusHead::new(1, RATE as u32).expect("it may be so");
    let mut writer = OggOpusWriter::new(Vec::new(), head).expect("memory takes it");
    for (packet, samples) in packets {
        writer.write_packet_with_duration(packet, samples).expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

/// A recording whose last page says that it ends here, in samples (RFC 3533, 6: bytes 6 to 13 of a page).
pub fn that_ends_at(mut bytes: Vec<u8>, granule: i64) -> Vec<u8> {
    let begin = bytes.windows(4).rposition(|magic| magic == b"OggS").expect("it has a page");
    let page = &mut bytes[begin..];
    page[6..14].copy_from_slice(&granule.to_le_bytes());
    page[22..26].fill(0);
    let crc = crc32(page);
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// As Ogg has it: from the highest bit on, and neither begun nor ended with ones.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| {
            (crc << 1) ^ (0x04c1_1db7 & (crc >> 31).wrapping_neg())
        })
    })
}
