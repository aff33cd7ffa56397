//! Finding a field by its key. Records of a stream have the same keys in the same order, so the key that followed the
//! last one before is compared first, eight bytes at a time; only a surprise costs a search.

use std::collections::HashMap;

/// Longest key, quotes included, that is compared as two words.
const WORDS_BYTES: usize = 16;
/// Keys outside the schema that are remembered, so that skipping them is as quick as finding a field.
const STRANGERS_MAX: usize = 64;

/// Keys left out of a record that cost no search.
const LEFT_OUT_MAX: usize = 4;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The field at this index.
    Field(usize),
    /// Nothing of the schema.
    Skip,
}

struct Entry {
    /// With its quotes.
    quoted: Vec<u8>,
    words: [u64; 2],
    masks: [u64; 2],
    target: Target,
    /// The entry that came after this one last time.
    next: usize,
}

/// Keys of one struct.
pub(crate) struct Keys {
    /// The first stands for the beginning of a record; the rest are keys.
    entries: Vec<Entry>,
    by_name: HashMap<Vec<u8>, usize>,
    strangers: usize,
}

/// The beginning of a record, for [`Keys::guess`].
pub(crate) const BEGIN: usize = 0;

impl Entry {
    fn new(name: &str, target: Target, next: usize) -> Self {
        let mut quoted = [b"\"", name.as_bytes(), b"\""].concat();
        if name.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
            // JSON can only write this name with escapes, which are left to the search: no text has this byte.
            quoted = vec![0xff; WORDS_BYTES + 1];
        }
        let mut words = [0; 2];
        let mut masks = [0; 2];
        if quoted.len() <= WORDS_BYTES {
            let mut padded = [0; WORDS_BYTES];
            padded[..quoted.len()].copy_from_slice(&quoted);
            let mut covered = [0; WORDS_BYTES];
            covered[..quoted.len()].fill(0xff);
            words = halves(&padded);
            masks = halves(&covered);
        }
        Self { quoted, words, masks, target, next }
    }
}

#[inline(always)]
fn halves(bytes: &[u8; WORDS_BYTES]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

impl Keys {
    pub(crate) fn new<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut keys = Self {
            entries: vec![Entry { target: Target::Skip, ..Entry::new("", Target::Skip, 1) }],
            by_name: HashMap::new(),
            strangers: 0,
        };
        for (index, name) in names {
            keys.add(name, Target::Field(index));
        }
        keys
    }
    fn add(&mut self, name: &str, target: Target) -> usize {
        let index = self.entries.len();
        self.entries.push(Entry::new(name, target, index + 1));
        self.by_name.insert(name.as_bytes().to_vec(), index);
        index
    }
    /// Compares the key that came after entry `last` in the record before with the text at `at`. On a match: its
    /// entry, what it stands for, and where the text goes on.
    #[inline(always)]
    pub(crate) fn guess(&self, last: usize, text: &[u8], at: usize) -> Option<(usize, Target, usize)> {
        let index = self.entries[last].next;
        let entry = self.entries.get(index)?;
        let len = entry.quoted.len();
        let same = match text.get(at..at + WORDS_BYTES) {
            Some(window) if len <= WORDS_BYTES => {
                let window: &[u8; WORDS_BYTES] = window.try_into().expect("the slice has this length");
                let words = halves(window);
                (((words[0] ^ entry.words[0]) & entry.masks[0]) | ((words[1] ^ entry.words[1]) & entry.masks[1])) == 0
            }
            _ => text.get(at..at + len) == Some(entry.quoted.as_slice()),
        };
        if same { Some((index, entry.target, at + len)) } else { None }
    }
    /// As [`Keys::guess`] after a wrong guess, for records that leave some keys out: tries those that came next.
    pub(crate) fn guess_on(&self, last: usize, text: &[u8], at: usize) -> Option<(usize, Target, usize)> {
        let mut left_out = last;
        for _ in 0..LEFT_OUT_MAX {
            left_out = self.entries[left_out].next;
            if left_out >= self.entries.len() {
                return None;
            }
            let found = self.guess(left_out, text, at);
            if found.is_some() {
                return found;
            }
        }
        None
    }
    /// Looks a key up by name and remembers that it came after `last`.
    #[cold]
    pub(crate) fn find(&mut self, last: usize, name: &[u8]) -> (usize, Target) {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None if self.strangers < STRANGERS_MAX => {
                let Ok(name) = std::str::from_utf8(name) else {
                    return (last, Target::Skip);
                };
                self.strangers += 1;
                self.add(name, Target::Skip)
            }
            None => return (last, Target::Skip),
        };
        self.entries[last].next = index;
        (index, self.entries[index].target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_learned() {
        let mut keys = Keys::new([(0, "a"), (1, "a_long_name_of_more_than_16"), (2, "c")].into_iter());
        let text = br#""a":1,"a_long_name_of_more_than_16":2,"c":3          "#;
        let (a, target, end) = keys.guess(BEGIN, text, 0).expect("first");
        assert_eq!((target, end), (Target::Field(0), 3));
        let (long, target, end) = keys.guess(a, text, 6).expect("second");
        assert_eq!((target, &text[end..end + 1]), (Target::Field(1), &b":"[..]));
        assert!(keys.guess(long, text, 0).is_none());

        assert_eq!(keys.find(BEGIN, b"c").1, Target::Field(2));
        assert_eq!(keys.guess(BEGIN, br#""c""#, 0).map(|found| found.1), Some(Target::Field(2)));
        let (stranger, target) = keys.find(BEGIN, b"x");
        assert_eq!(target, Target::Skip);
        assert_eq!(keys.guess(BEGIN, br#""x""#, 0).map(|found| found.0), Some(stranger));
    }

    #[test]
    fn keys_left_out_are_passed_over() {
        let keys = Keys::new(["a", "b", "c", "d", "e", "f", "g"].into_iter().enumerate());
        let target = |text: &[u8]| keys.guess_on(BEGIN, text, 0).map(|found| found.1);
        assert_eq!(target(br#""b":1"#), Some(Target::Field(1)));
        assert_eq!(target(br#""e":1"#), Some(Target::Field(4)));
        assert_eq!(target(br#""f":1"#), None);
        let few = Keys::new([(0, "a")].into_iter());
        assert!(few.guess_on(BEGIN, br#""z":1"#, 0).is_none());
    }

    #[test]
    fn prefixes_differ() {
        let keys = Keys::new([(0, "name")].into_iter());
        assert!(keys.guess(BEGIN, br#""names":"0123456789""#, 0).is_none());
        assert!(keys.guess(BEGIN, br#""nam":"0123456789""#, 0).is_none());
        assert!(keys.guess(BEGIN, br#""name"#, 0).is_none());
        let keys = Keys::new([(0, "a\"b")].into_iter());
        assert!(keys.guess(BEGIN, br#""a"b":"0123456789""#, 0).is_none());
    }

    #[test]
    fn strangers_are_bounded() {
        let mut keys = Keys::new([(0, "a")].into_iter());
        for index in 0..10_000 {
            assert_eq!(keys.find(BEGIN, format!("k{index}").as_bytes()).1, Target::Skip);
        }
        assert!(keys.entries.len() <= STRANGERS_MAX + 2);
        assert_eq!(keys.find(BEGIN, b"a").1, Target::Field(0));
    }
}
