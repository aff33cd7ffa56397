//! Finding the end of a string sixteen bytes at a time.

/// Index of the first byte from `at` that is `quote`, a backslash or a control character; the length if none is.
#[inline(always)]
pub(super) fn special(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    #[cfg(target_arch = "x86_64")]
    while at + 16 <= bytes.len() {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        };
        // SAFETY: SSE2 is part of every x86_64, the load need not be aligned, and the loop's condition keeps its 16
        // bytes inside the slice.
        let found = unsafe {
            let window = _mm_loadu_si128(bytes.as_ptr().add(at).cast());
            let control = _mm_cmpeq_epi8(_mm_min_epu8(window, _mm_set1_epi8(0x1f)), window);
            let quotes = _mm_cmpeq_epi8(window, _mm_set1_epi8(quote as i8));
            let backslashes = _mm_cmpeq_epi8(window, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(control, quotes), backslashes))
        };
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    while let Some(window) = bytes.get(at..at + 8) {
        let found = special_in_word(u64::from_le_bytes(window.try_into().expect("the slice has this length")), quote);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\\' && bytes[at] >= b' ' {
        at += 1;
    }
    at
}

/// The highest bit of each special byte; bytes above the first such may be marked wrongly.
#[inline(always)]
fn special_in_word(word: u64, quote: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quotes = zero_bytes(word ^ (ONES * u64::from(quote)));
    let backslashes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
    (control | quotes | backslashes) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_special_byte_at_every_place() {
        for len in 0..70 {
            for at in 0..=len {
                for special_byte in [b'"', b'\\', 0, 0x1f, b'\n'] {
                    for filler in [b'a', b' ', 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']'] {
                        let mut bytes = vec![filler; len];
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = special_byte;
                        }
                        let expect = at.min(len);
                        assert_eq!(special(&bytes, 0, b'"'), expect, "{len} {at} {special_byte} {filler}");
                        for start in 0..=at {
                            assert_eq!(special(&bytes, start, b'"'), expect);
                        }
                    }
                }
            }
        }
        assert_eq!(special(b"it's \"x", 0, b'\''), 2);
    }
}
