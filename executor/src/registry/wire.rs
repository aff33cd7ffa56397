//! Confluent's wire format: what stands before a record's own bytes.
//!
//! ```text
//! 00 │ schema id, 4 bytes, big-endian │ Protobuf only: message indexes │ the record
//! ```
//!
//! Message indexes lead from the file to the message: a count and that many numbers, all zigzag varints; the common
//! case of the file's first message, `[0]`, is the single byte 0.

/// First byte of every record.
pub const MAGIC: u8 = 0;
/// Length of what stands before an Avro record.
pub const HEADER: usize = 5;

/// Indexes are few: messages nest some levels deep.
const INDEXES_MAX: i64 = 100;

/// The schema's id and what follows it. None: not this format.
pub fn split(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes {
        [MAGIC, a, b, c, d, rest @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => None,
    }
}

/// What to write before an Avro record.
pub fn header(id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Message indexes and the message. None: cut off, or no such numbers.
pub fn split_indexes(mut bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let count = zigzag(&mut bytes)?;
    if count == 0 {
        return Some((vec![0], bytes));
    }
    if !(1..=INDEXES_MAX).contains(&count) {
        return None;
    }
    let indexes = (0..count).map(|_| usize::try_from(zigzag(&mut bytes)?).ok()).collect::<Option<Vec<_>>>()?;
    Some((indexes, bytes))
}

/// Writes message indexes.
pub fn push_indexes(indexes: &[usize], out: &mut Vec<u8>) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    push_zigzag(indexes.len() as i64, out);
    indexes.iter().for_each(|index| push_zigzag(*index as i64, out));
}

/// Reads a zigzag varint, which Avro's numbers are too.
#[inline]
pub fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        if at == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Writes a zigzag varint.
#[inline]
pub fn push_zigzag(value: i64, out: &mut Vec<u8>) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, bytes) in [
            (0, &[0_u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = vec![];
            push_zigzag(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            let mut rest = bytes;
            assert_eq!((zigzag(&mut rest), rest.len()), (Some(value), 0));
        }
        for broken in [&[][..], &[0x80], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert_eq!(zigzag(&mut { broken }), None, "{broken:?}");
        }
    }

    #[test]
    fn headers() {
        assert_eq!(header(258), [0, 0, 0, 1, 2]);
        assert_eq!(split(&[0, 0, 0, 1, 2, 9]), Some((258, &[9_u8][..])));
        for broken in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 9]] {
            assert_eq!(split(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn indexes() {
        for (indexes, bytes) in [(&[0][..], &[0_u8][..]), (&[1], &[2, 2]), (&[2, 0, 3], &[6, 4, 0, 6])] {
            let mut out = vec![];
            push_indexes(indexes, &mut out);
            assert_eq!(out, bytes);
            out.push(7);
            assert_eq!(split_indexes(&out), Some((indexes.to_vec(), &[7_u8][..])));
        }
        // [0] in its long form is as good.
        assert_eq!(split_indexes(&[2, 0]), Some((vec![0], &[][..])));
        for broken in [&[][..], &[1], &[2], &[2, 1], &[0xfe, 0xff, 3]] {
            assert_eq!(split_indexes(broken), None, "{broken:?}");
        }
    }
}
