//! Synthetic users of the randomuser shape, flat as the classic pipeline has them, from a seed.
//!
//! User `index` of a seed is always the same user, whoever makes it and in whatever order: each takes a fixed number
//! of words from a ChaCha8 stream, at a position that its index gives. About 565 bytes of JSON in [`Shape::Full`] and
//! 437 in [`Shape::Classic`]; some four million a second on one core in a release build, since everything is copied into one buffer.
//!
//! What breaks naive pipelines is here as in the real service: postcodes that are now a number, now a text; national
//! ids that are null; names in other scripts; e-mail addresses that two people share.

use super::nations::{NATIONS, Nation};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Which fields a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The twelve fields of the classic pipeline.
    Classic,
    /// These and `country`, `city`, `nat`, `latitude`, `longitude`, `id_value`.
    Full,
}

impl Shape {
    /// Columns as `from_json` takes them.
    pub fn ddl(self) -> &'static str {
        match self {
            Self::Classic => {
                "id STRING, first_name STRING, last_name STRING, gender STRING, address STRING, post_code STRING, \
                 email STRING, username STRING, dob STRING, registered_date STRING, phone STRING, picture STRING"
            }
            Self::Full => {
                "id STRING, first_name STRING, last_name STRING, gender STRING, address STRING, post_code STRING, \
                 email STRING, username STRING, dob STRING, registered_date STRING, phone STRING, picture STRING, \
                 country STRING, city STRING, nat STRING, latitude DOUBLE, longitude DOUBLE, id_value STRING"
            }
        }
    }
}

/// Where a user's id stands in its JSON text: the key of its Kafka record.
pub const ID: Range<usize> = 8..44;

/// Words of 32 bits that each user takes from the stream.
const WORDS: usize = 32;
/// 1945-01-01 and 2005-12-31 in days since 1970: nobody is younger than that.
const BORN: Range<i32> = -9131..13149;
/// 2002-01-01 and 2024-12-31.
const REGISTERED: Range<i32> = 11688..20089;

const ADJECTIVES: &[&str] = &[
    "angry",
    "beautiful",
    "big",
    "black",
    "blue",
    "brown",
    "crazy",
    "golden",
    "green",
    "happy",
    "heavy",
    "lazy",
    "orange",
    "organic",
    "purple",
    "red",
    "sad",
    "silver",
    "small",
    "ticklish",
    "tiny",
    "white",
    "yellow",
];
const ANIMALS: &[&str] = &[
    "bear",
    "bird",
    "butterfly",
    "cat",
    "dog",
    "duck",
    "elephant",
    "fish",
    "frog",
    "goose",
    "gorilla",
    "kangaroo",
    "koala",
    "ladybug",
    "leopard",
    "lion",
    "meercat",
    "mouse",
    "ostrich",
    "panda",
    "peacock",
    "rabbit",
    "snake",
    "swan",
    "tiger",
    "wolf",
    "zebra",
];

/// A name as it is shown, and as it stands in an e-mail address.
struct Name {
    shown: &'static str,
    plain: String,
}

struct Stock {
    nation: &'static Nation,
    male: Vec<Name>,
    female: Vec<Name>,
    last: Vec<Name>,
}

/// Makes users.
pub struct Generator {
    rng: ChaCha8Rng,
    /// Index of the user at which `rng` stands.
    next: u64,
    shape: Shape,
    stocks: Vec<Stock>,
}

impl Generator {
    /// Users of `seed`.
    pub fn new(seed: u64, shape: Shape) -> Self {
        let names =
            |names: &[&'static str]| names.iter().map(|shown| Name { shown, plain: plain(shown) }).collect::<Vec<_>>();
        let stocks = NATIONS
            .iter()
            .map(|nation| Stock {
                nation,
                male: names(nation.male),
                female: names(nation.female),
                last: names(nation.last),
            })
            .collect();
        Self { rng: ChaCha8Rng::seed_from_u64(seed), next: 0, shape, stocks }
    }

    /// Appends user `index` to `out` as one JSON object, without a line end.
    pub fn write(&mut self, index: u64, out: &mut Vec<u8>) {
        if index != self.next {
            self.rng.set_word_pos(u128::from(index) * WORDS as u128);
        }
        self.next = index.wrapping_add(1);
        let mut bytes = [0; WORDS * 4];
        self.rng.fill_bytes(&mut bytes);
        let mut words = Words { bytes: &bytes, at: 0 };

        out.reserve(1024);
        let id: [u8; 16] = words.take();
        let stock = words.pick(&self.stocks);
        let nation = stock.nation;
        let female = words.below(2) == 0;
        let first = words.pick(if female { &stock.female } else { &stock.male });
        let last = words.pick(&stock.last);
        let city = *words.pick::<&str>(nation.city);

        put(out, "{\"id\": \"");
        uuid_v4(out, id);
        put(out, "\", \"first_name\": \"");
        put(out, first.shown);
        put(out, "\", \"last_name\": \"");
        put(out, last.shown);
        put(
            out,
            if female {
                "\", \"gender\": \"female\", \"address\": \""
            } else {
                "\", \"gender\": \"male\", \"address\": \""
            },
        );
        number(out, 1 + words.below(9999));
        out.push(b' ');
        put(out, words.pick::<&str>(nation.street));
        put(out, ", ");
        put(out, city);
        put(out, ", ");
        put(out, words.pick::<&str>(nation.state));
        put(out, ", ");
        put(out, nation.country);
        match nation.post_code {
            Some(pattern) => {
                put(out, "\", \"post_code\": \"");
                template(out, pattern, words.wide());
                put(out, "\", \"email\": \"");
            }
            None => {
                put(out, "\", \"post_code\": ");
                number(out, 10_000 + words.below(90_000));
                words.below(1);
                put(out, ", \"email\": \"");
            }
        }
        put(out, &first.plain);
        out.push(b'.');
        put(out, &last.plain);
        put(out, "@example.com\", \"username\": \"");
        put(out, words.pick::<&str>(ADJECTIVES));
        put(out, words.pick::<&str>(ANIMALS));
        number(out, 100 + words.below(900));
        put(out, "\", \"dob\": \"");
        moment(out, &BORN, &mut words);
        put(out, "\", \"registered_date\": \"");
        moment(out, &REGISTERED, &mut words);
        put(out, "\", \"phone\": \"");
        template(out, nation.phone, words.wide());
        put(out, "\", \"picture\": \"https://randomuser.me/api/portraits/");
        put(out, if female { "women/" } else { "men/" });
        number(out, words.below(100));
        put(out, ".jpg\"");
        if self.shape == Shape::Full {
            put(out, ", \"country\": \"");
            put(out, nation.country);
            put(out, "\", \"city\": \"");
            put(out, city);
            put(out, "\", \"nat\": \"");
            put(out, nation.nat);
            put(out, "\", \"latitude\": ");
            degrees(out, 90, &mut words);
            put(out, ", \"longitude\": ");
            degrees(out, 180, &mut words);
            match nation.id {
                Some(pattern) => {
                    put(out, ", \"id_value\": \"");
                    template(out, pattern, words.wide());
                    out.push(b'"');
                }
                None => put(out, ", \"id_value\": null"),
            }
        }
        out.push(b'}');
    }

    /// User `index` alone.
    pub fn user(&mut self, index: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(index, &mut out);
        out
    }
}

/// One user's share of the random stream, taken from its front.
struct Words<'a> {
    bytes: &'a [u8; WORDS * 4],
    at: usize,
}

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes[self.at..self.at + N].try_into().expect("the slice has N bytes");
        self.at += N;
        taken
    }
    fn wide(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    /// A number below `bound`; the bias of a multiplication in place of a division is below one in a million.
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(u32::from_le_bytes(self.take())) * u64::from(bound)) >> 32) as u32
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, value: u32) {
    let mut digits = [0; 10];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn uuid_v4(out: &mut Vec<u8>, mut id: [u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in id {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
}

/// Fills `#` with digits and `@` with capital letters. 64 bits are 19 digits, more than any pattern asks for.
fn template(out: &mut Vec<u8>, pattern: &str, mut entropy: u64) {
    for symbol in pattern.bytes() {
        out.push(match symbol {
            b'#' => {
                let digit = b'0' + (entropy % 10) as u8;
                entropy /= 10;
                digit
            }
            b'@' => {
                let letter = b'A' + (entropy % 26) as u8;
                entropy /= 26;
                letter
            }
            other => other,
        });
    }
}

/// `digits` digits of `value`, with zeros in front.
fn padded<const DIGITS: usize>(out: &mut Vec<u8>, mut value: u32) {
    let mut text = [b'0'; DIGITS];
    for place in text.iter_mut().rev() {
        *place += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text);
}

/// A moment of one of `days`, as ISO-8601 with milliseconds.
fn moment(out: &mut Vec<u8>, days: &Range<i32>, words: &mut Words<'_>) {
    let (year, month, day) = date(days.start + words.below((days.end - days.start) as u32) as i32);
    let ms = words.below(86_400_000);
    padded::<4>(out, year);
    out.push(b'-');
    padded::<2>(out, month);
    out.push(b'-');
    padded::<2>(out, day);
    out.push(b'T');
    padded::<2>(out, ms / 3_600_000);
    out.push(b':');
    padded::<2>(out, ms / 60_000 % 60);
    out.push(b':');
    padded::<2>(out, ms / 1000 % 60);
    out.push(b'.');
    padded::<3>(out, ms % 1000);
    out.push(b'Z');
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last one; the shift moves day 0 to 0000-03-01, which keeps every quotient positive.
fn date(days: i32) -> (u32, u32, u32) {
    let shifted = (days + 719_468) as u32;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
}

/// Degrees with four decimals, within plus and minus `limit`.
fn degrees(out: &mut Vec<u8>, limit: u32, words: &mut Words<'_>) {
    let value = words.below(limit * 20_000) as i64 - i64::from(limit) * 10_000;
    if value < 0 {
        out.push(b'-');
    }
    let value = value.unsigned_abs() as u32;
    number(out, value / 10_000);
    out.push(b'.');
    padded::<4>(out, value % 10_000);
}

/// A name in the 26 letters, as e-mail addresses have it.
fn plain(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        out.push_str(match letter {
            'a'..='z' | '0'..='9' => {
                out.push(letter);
                continue;
            }
            'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' => "a",
            'ç' | 'ć' | 'č' => "c",
            'đ' => "dj",
            'é' | 'è' | 'ê' | 'ë' | 'ě' => "e",
            'ğ' => "g",
            'í' | 'ì' | 'î' | 'ï' | 'ı' => "i",
            'ñ' => "n",
            'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' => "o",
            'ş' | 'š' => "s",
            'ß' => "ss",
            'ú' | 'ù' | 'û' | 'ü' => "u",
            'ý' | 'ÿ' => "y",
            'ž' => "z",
            'æ' => "ae",
            'œ' => "oe",
            'ا' | 'آ' | 'أ' | 'ع' => "a",
            'ب' => "b",
            'پ' => "p",
            'ت' | 'ط' => "t",
            'ث' | 'س' | 'ص' => "s",
            'ج' => "j",
            'چ' => "ch",
            'ح' | 'ه' => "h",
            'خ' => "kh",
            'د' => "d",
            'ذ' | 'ز' | 'ض' | 'ظ' => "z",
            'ر' => "r",
            'ژ' => "zh",
            'ش' => "sh",
            'غ' | 'ق' => "gh",
            'ف' => "f",
            'ک' | 'ك' => "k",
            'گ' => "g",
            'ل' => "l",
            'م' => "m",
            'ن' => "n",
            'و' => "v",
            'ی' | 'ي' | 'ئ' => "y",
            _ => "",
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    fn users(seed: u64, shape: Shape, indices: impl Iterator<Item = u64>) -> Vec<(Value, usize)> {
        let mut generator = Generator::new(seed, shape);
        indices
            .map(|index| {
                let text = generator.user(index);
                (serde_json::from_slice(&text).expect("a user is JSON"), text.len())
            })
            .collect()
    }

    #[test]
    fn same_seed_and_index_same_user() {
        let mut forwards = Generator::new(7, Shape::Full);
        let in_order: Vec<_> = (0..50).map(|index| forwards.user(index)).collect();
        let mut jumping = Generator::new(7, Shape::Full);
        for index in [49, 0, 17, 18, 3, 3] {
            assert_eq!(jumping.user(index), in_order[index as usize], "user {index}");
        }
        assert_ne!(Generator::new(8, Shape::Full).user(0), in_order[0]);
        // The same users in every version: benchmarks and tables that live on depend on it.
        assert_eq!(&in_order[0][ID], FIRST_ID_OF_SEED_7.as_bytes());
    }

    const FIRST_ID_OF_SEED_7: &str = "bb43d723-3453-4528-ba29-9b2ed359012b";

    #[test]
    fn shape_of_the_service() {
        let users = users(1, Shape::Full, 0..2000);
        let share = |test: &dyn Fn(&Value) -> bool| {
            users.iter().filter(|(user, _)| test(user)).count() as f64 / users.len() as f64
        };
        let keys: Vec<_> = users[0].0.as_object().expect("an object").keys().map(String::as_str).collect();
        let declared: Vec<_> =
            Shape::Full.ddl().split(", ").map(|column| column.split(' ').next().expect("a name")).collect();
        assert_eq!(keys, declared);
        assert!((0.82..0.89).contains(&share(&|user| user["post_code"].is_number())));
        assert!((0.15..0.23).contains(&share(&|user| user["id_value"].is_null())));
        assert!(share(&|user| !user["first_name"].as_str().is_some_and(str::is_ascii)) > 0.05);
        let ids: HashSet<_> = users.iter().map(|(user, _)| user["id"].to_string()).collect();
        assert_eq!(ids.len(), users.len());
        let nations: HashSet<_> = users.iter().map(|(user, _)| user["nat"].to_string()).collect();
        assert_eq!(nations.len(), NATIONS.len());
        let id: uuid::Uuid = users[0].0["id"].as_str().expect("a text").parse().expect("a UUID");
        assert_eq!(id.get_version_num(), 4);
        for (user, _) in &users {
            let email = user["email"].as_str().expect("a text");
            assert!(email.is_ascii() && !email.starts_with('.') && !email.contains(".@"), "{user}");
        }
    }

    #[test]
    fn sizes() {
        for (shape, expect) in [(Shape::Classic, 430.0..445.0), (Shape::Full, 550.0..580.0)] {
            let users = users(1, shape, 0..2000);
            let mean = users.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / users.len() as f64;
            assert!(expect.contains(&mean), "{shape:?}: {mean} bytes");
        }
    }

    #[test]
    fn stock_needs_no_escape() {
        for nation in NATIONS {
            let lists = [nation.male, nation.female, nation.last, nation.street, nation.city, nation.state];
            for text in lists.into_iter().flatten().chain([&nation.country]) {
                assert_eq!(serde_json::to_string(text).expect("a text"), format!("\"{text}\""));
            }
        }
    }

    #[test]
    fn dates() {
        fn check(days: i32, expect: (u32, u32, u32)) {
            assert_eq!(date(days), expect, "day {days}");
        }
        check(0, (1970, 1, 1));
        check(-1, (1969, 12, 31));
        check(59, (1970, 3, 1));
        check(11_016, (2000, 2, 29));
        check(11_017, (2000, 3, 1));
        check(BORN.start, (1945, 1, 1));
        check(BORN.end - 1, (2005, 12, 31));
        check(REGISTERED.start, (2002, 1, 1));
        check(REGISTERED.end - 1, (2024, 12, 31));
    }

    #[test]
    fn templates() {
        fn check(pattern: &str, entropy: u64, expect: &str) {
            let mut out = Vec::new();
            template(&mut out, pattern, entropy);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expect);
        }
        check("(##) #", 321, "(12) 3");
        check("@# @", 0, "A0 A");
        check("756.@", 25, "756.Z");
    }
}
