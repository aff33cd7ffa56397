//! Base64 as Jackson reads and writes it: the standard alphabet, padded, on one line.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends what `text` encodes; false when it is not base64. White space between groups is passed over.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut group = 0_u32;
    let mut count = 0;
    let mut padding = 0;
    for byte in text.iter().copied().filter(|byte| *byte > b' ') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                padding += 1;
                0
            }
            _ => return false,
        };
        if padding > 0 && byte != b'=' {
            return false;
        }
        group = group << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            out.extend_from_slice(&group.to_be_bytes()[1..4 - padding]);
            (group, count) = (0, 0);
        }
    }
    count == 0
}

/// Appends `bytes` in base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            let mut back = Vec::new();
            assert!(decode(text.as_bytes(), &mut back));
            assert_eq!(back, plain.as_bytes());
        }
        for bad in ["Z", "Zg", "Zg=", "Zg==Zg==", "Z===", "=", "Zm9!", "Zg=a", "Zg==="] {
            assert!(!decode(bad.as_bytes(), &mut Vec::new()), "{bad}");
        }
    }
}
