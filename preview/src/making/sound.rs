//! Of recordings: Opus in Ogg (RFC 7845), as voice notes are. Of a file that has several streams, the first.

use std::ops::Range;

use opus_pure::{MAX_PACKET_SAMPLES, OggOpusReader, OggPacket, OpusDecoder, OpusHead, Trim, packet};

use crate::limits::{DURATION_MS_MAX, WAVE_PARTS};
use crate::preview::{Malformed, Preview, Refusal};

/// Samples in a second, as they are decoded and counted here: what is above 8 kHz says nothing of how loud a voice is, and takes time.
const RATE_HZ: i32 = 16_000;

/// Packets that are decoded for a wave form. Of a recording of more, runs of [`RUN_PACKETS`] are, evenly over all of it: it is 400 s of
/// what encoders usually make, and a second of time.
const DECODED_PACKETS_MAX: u64 = 20_000;

/// Packets that are decoded one after another, for each needs those before it. About half a second.
const RUN_PACKETS: u64 = 25;

/// Below this nothing is to be heard, and loudness is that of rounding: -80 dB of the loudest that there is.
const AUDIBLE_RMS: f64 = 1e-4;

/// How long a recording is.
struct Length {
    packets: u64,
    /// At [`RATE_HZ`], in each channel, without what the encoder has put before and after.
    samples: u64,
}

/// See [`preview_of`](crate::preview_of).
pub(super) fn preview_of(bytes: &[u8]) -> Result<Preview, Refusal> {
    check_first_page(bytes)?;
    let length = length_of(bytes)?;
    let duration_ms = length.samples * 1_000 / RATE_HZ.unsigned_abs() as u64;
    match duration_ms {
        0 => Err(Refusal::Malformed(Malformed::Nothing)),
        1..=DURATION_MS_MAX => {
            let wave = wave_of(bytes, &length)?;
            Ok(Preview { duration_ms: Some(duration_ms), wave, ..Preview::default() })
        }
        _ => Err(Refusal::Malformed(Malformed::Body)),
    }
}

/// Whether the file is Ogg, and Opus is in it: there may be anything, as Vorbis. A page has 26 bytes, the number of its segments, as many
/// lengths, and then what it carries (RFC 3533, 6).
fn check_first_page(bytes: &[u8]) -> Result<(), Refusal> {
    let malformed = Refusal::Malformed(Malformed::Head);
    if !bytes.starts_with(b"OggS") {
        return Err(malformed);
    }
    let segments = usize::from(*bytes.get(26).ok_or(malformed)?);
    let carried = bytes.get(27 + segments..).ok_or(malformed)?;
    if carried.starts_with(b"OpusHead") { Ok(()) } else { Err(Refusal::Unsupported) }
}

/// Counts what is there: a position that the file says (its granules) may make it shorter, as RFC 7845 has it for the end, and can't make
/// it longer than its packets are.
fn length_of(bytes: &[u8]) -> Result<Length, Refusal> {
    let (mut packets, mut samples) = (0, 0);
    walk(bytes, |trim, packet, samples_of_packet| {
        packets += 1;
        trim.keep_range(packet, samples_of_packet);
        samples = trim.samples_emitted();
    })?;
    Ok(Length { packets, samples })
}

/// Goes through the packets of a recording, with how many samples each has, and what says which of them count.
fn walk(bytes: &[u8], mut each: impl FnMut(&mut Trim, &OggPacket, usize)) -> Result<(), Refusal> {
    let malformed = |_| Refusal::Malformed(Malformed::Body);
    let mut reader = OggOpusReader::new(bytes).map_err(|_| Refusal::Malformed(Malformed::Head))?;
    let mut trim = Trim::new(reader.head(), RATE_HZ, 1).map_err(malformed)?;
    let mut packet = OggPacket::default();
    while reader.read_packet_into(&mut packet).map_err(malformed)? {
        let samples = packet::samples(&packet.data, RATE_HZ).map_err(malformed)?;
        each(&mut trim, &packet, samples);
    }
    Ok(())
}

/// See [`Preview::wave`]. Empty if the recording has more than two channels.
fn wave_of(bytes: &[u8], length: &Length) -> Result<Vec<u8>, Refusal> {
    let head = OggOpusReader::new(bytes).map_err(|_| Refusal::Malformed(Malformed::Head))?.head().clone();
    let Ok(decoder) = head.decoder(RATE_HZ) else { return Ok(Vec::new()) };
    let mut loudness = Loudness::new(decoder, &head, length.samples);
    let runs = length.packets.div_ceil(DECODED_PACKETS_MAX).max(1);
    let mut at = 0_u64;
    walk(bytes, |trim, packet, samples| {
        let begin = trim.samples_emitted();
        let kept = trim.keep_range(packet, samples);
        if (at / RUN_PACKETS).is_multiple_of(runs) {
            loudness.add(packet, begin, kept);
        }
        at += 1;
    })?;
    Ok(loudness.wave())
}

/// How loud each part of a recording is.
struct Loudness {
    decoder: OpusDecoder,
    channels: usize,
    samples: u64,
    decoded: Vec<f32>,
    /// Of each part: the sum of the squares of its samples, and how many.
    parts: [(f64, u64); WAVE_PARTS],
}

impl Loudness {
    fn new(decoder: OpusDecoder, head: &OpusHead, samples: u64) -> Self {
        let channels = usize::from(head.channel_count);
        let decoded = vec![0.0; MAX_PACKET_SAMPLES * channels];
        Self { decoder, channels, samples, decoded, parts: [(0.0, 0); WAVE_PARTS] }
    }

    /// Decodes a packet of which these samples count, the first of which is this one of the recording.
    fn add(&mut self, packet: &OggPacket, begin: u64, kept: Range<usize>) {
        // One that can't be decoded is not heard, as with whoever plays it.
        let Ok(samples) = self.decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut self.decoded) else {
            return;
        };
        let kept = kept.start.min(samples)..kept.end.min(samples);
        let decoded = &self.decoded[kept.start * self.channels..kept.end * self.channels];
        for (position, sample) in (begin..).zip(decoded.chunks_exact(self.channels)) {
            let part = (position * WAVE_PARTS as u64 / self.samples.max(1)) as usize;
            let Some((sum, count)) = self.parts.get_mut(part) else { return };
            *sum += sample.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            *count += self.channels as u64;
        }
    }

    fn wave(&self) -> Vec<u8> {
        let rms = self.parts.map(|(sum, count)| (sum / count.max(1) as f64).sqrt());
        let loudest = rms.iter().copied().fold(0.0, f64::max);
        if loudest < AUDIBLE_RMS {
            return vec![0; WAVE_PARTS];
        }
        // A cast from what is no number gives 0, and from what is too large, 255.
        rms.iter().map(|rms| (rms / loudest * 255.0).round() as u8).collect()
    }
}
