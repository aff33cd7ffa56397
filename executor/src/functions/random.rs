//! Functions whose value depends on the place of a row: which plan partition it is in, and how many came before it there.
//!
//! As a scalar function they cannot be computed, which sees neither: the analyzer has them computed by
//! [`PlacedExec`](crate::operators::placed::PlacedExec), one [`Column`] each, and puts its columns in their place. Numbers
//! of a seed are Spark's, who gives each partition a generator of seed + partition. Without a seed they are anybody's, and
//! are plain functions.

use super::collections::{gather, range};
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;
use rand::Rng;
use std::sync::Arc;

use Param::{Array as List, Int, Long};

/// Names of the functions here.
pub const NAMES: &[&str] =
    &["rand", "randn", "uuid", "shuffle", "randstr", "monotonically_increasing_id", "spark_partition_id"];

/// Bits of `monotonically_increasing_id` that number the rows of a partition.
const ROW_BITS: u32 = 33;
const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The functions.
pub fn functions() -> Vec<Function> {
    const TEXT: Returns = Returns::Type(|| DataType::Utf8);
    const DOUBLE: Returns = Returns::Type(|| DataType::Float64);
    vec![
        Function::new("rand", &[], DOUBLE, |call| {
            unseeded(call, 0)?;
            call.rows::<Float64Type>(|_| Ok(Some(rand::rng().random())))
        })
        .optional(&[Long])
        .alias(&["random"])
        .nulls()
        .volatile(),
        Function::new("randn", &[], DOUBLE, |call| {
            unseeded(call, 0)?;
            let mut gauss = Gauss::of(rand::rng().random());
            call.rows::<Float64Type>(|_| Ok(Some(gauss.draw())))
        })
        .optional(&[Long])
        .nulls()
        .volatile(),
        Function::new("uuid", &[], TEXT, |call| {
            unseeded(call, 0)?;
            call.text_rows(|_| Ok(Some(uuid::Uuid::new_v4().to_string())))
        })
        .optional(&[Long])
        .nulls()
        .volatile(),
        Function::new("shuffle", &[List], Returns::Arg(0), |call| {
            use rand::seq::SliceRandom;
            unseeded(call, 1)?;
            let all = call.lists(0);
            gather(call, all.values(), |i| {
                let mut order: Vec<Option<usize>> = range(all, i).map(Some).collect();
                order.shuffle(&mut rand::rng());
                Ok(order)
            })
        })
        .optional(&[Long])
        .volatile(),
        Function::new("randstr", &[Int], TEXT, |call| {
            unseeded(call, 1)?;
            let mut random = XorShift::of(rand::rng().random());
            call.text_rows(|i| Ok(Some(random.text(checked_length(call.ints(0).value(i))?))))
        })
        .optional(&[Long])
        .volatile(),
        Function::new("monotonically_increasing_id", &[], Returns::Type(|| DataType::Int64), misplaced).volatile(),
        Function::new("spark_partition_id", &[], Returns::Type(|| DataType::Int32), misplaced).volatile(),
        // Of a table of files: the analyzer has the scan tell it.
        Function::new("input_file_name", &[], TEXT, misplaced).volatile(),
    ]
}

/// Calls with a seed are the analyzer's to replace; where it does not come, they have no place.
fn unseeded(call: &Call<'_>, seed: usize) -> Result<()> {
    if call.has(seed) { misplaced(call).map(|_| ()) } else { Ok(()) }
}

fn misplaced(_: &Call<'_>) -> Result<ArrayRef> {
    invalid(
        "INVALID_NON_DETERMINISTIC_EXPRESSIONS",
        "a function that depends on the place of a row (a seed, monotonically_increasing_id) cannot stand here: compute \
         it in a SELECT list below",
    )
}

fn checked_length(length: i32) -> Result<usize> {
    match usize::try_from(length) {
        Ok(length) => Ok(length),
        Err(_) => invalid(
            "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
            format!("the length of `randstr` must be between 0 and 2147483647, but is {length}"),
        ),
    }
}

/// What is computed for each row by its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub enum Column {
    /// The partition's number.
    Partition,
    /// The partition's number, and in its lower bits the row's.
    Row,
    /// From 0 to 1.
    Uniform(i64),
    /// Of mean 0 and deviation 1.
    Normal(i64),
    /// A UUID of version 4.
    Uuid(i64),
    /// So many letters and digits.
    Text(i64, u32),
    /// The items of a list that stands in the input, in another order.
    Shuffled(i64, usize),
}

impl Column {
    /// The column that a call is, by the function's name and its literal arguments; none for what is no such call.
    ///
    /// # Errors
    /// `SEED_EXPRESSION_IS_UNFOLDABLE`; a length that is negative or no literal.
    pub fn of(name: &str, args: &[Option<&ScalarValue>]) -> Result<Option<Self>> {
        let seed = |at: usize| -> Result<i64> {
            match args.get(at).copied().flatten() {
                Some(ScalarValue::Int64(Some(seed))) => Ok(*seed),
                Some(ScalarValue::Int32(Some(seed))) => Ok(i64::from(*seed)),
                Some(null) if null.is_null() => Ok(0),
                _ => invalid("SEED_EXPRESSION_IS_UNFOLDABLE", format!("the seed of `{name}` must be a literal")),
            }
        };
        Ok(Some(match (name, args.len()) {
            ("spark_partition_id", 0) => Self::Partition,
            ("monotonically_increasing_id", 0) => Self::Row,
            ("rand", 1) => Self::Uniform(seed(0)?),
            ("randn", 1) => Self::Normal(seed(0)?),
            ("uuid", 1) => Self::Uuid(seed(0)?),
            ("randstr", 2) => match args[0] {
                Some(ScalarValue::Int32(Some(length))) => Self::Text(seed(1)?, checked_length(*length)? as u32),
                _ => {
                    return invalid(
                        "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                        "the length of `randstr` must be a literal",
                    );
                }
            },
            // Where the list is the caller says.
            ("shuffle", 2) => Self::Shuffled(seed(1)?, 0),
            _ => return Ok(None),
        }))
    }

    /// Its type; `list` is that of what is shuffled.
    pub fn data_type(&self, list: Option<&DataType>) -> DataType {
        match self {
            Self::Partition => DataType::Int32,
            Self::Row => DataType::Int64,
            Self::Uniform(_) | Self::Normal(_) => DataType::Float64,
            Self::Uuid(_) | Self::Text(..) => DataType::Utf8,
            Self::Shuffled(..) => list.cloned().unwrap_or_else(|| ddl::array_of(DataType::Null)),
        }
    }

    /// What makes its values in one partition.
    pub fn start(&self, partition: i32) -> Maker {
        let seed = |seed: &i64| seed.wrapping_add(i64::from(partition));
        match self {
            Self::Partition => Maker::Partition(partition),
            Self::Row => Maker::Row(i64::from(partition) << ROW_BITS),
            Self::Uniform(own) => Maker::Uniform(XorShift::of(seed(own))),
            Self::Normal(own) => Maker::Normal(Gauss::of(seed(own))),
            Self::Uuid(own) => Maker::Uuid(Box::new(Twister::of(seed(own)))),
            Self::Text(own, length) => Maker::Text(XorShift::of(seed(own)), *length as usize),
            Self::Shuffled(own, at) => Maker::Shuffled(Box::new(Twister::of(seed(own))), *at),
        }
    }
}

/// Makes a column's values, row after row.
#[derive(Debug)]
pub enum Maker {
    /// The same for all.
    Partition(i32),
    /// The next row's.
    Row(i64),
    /// See [`Column::Uniform`].
    Uniform(XorShift),
    /// See [`Column::Normal`].
    Normal(Gauss),
    /// See [`Column::Uuid`].
    Uuid(Box<Twister>),
    /// See [`Column::Text`].
    Text(XorShift, usize),
    /// See [`Column::Shuffled`].
    Shuffled(Box<Twister>, usize),
}

impl Maker {
    /// The values of the next rows, of which `input` is what the input has.
    ///
    /// # Errors
    /// An input that is not what was planned.
    pub fn next(&mut self, rows: usize, input: &[ArrayRef]) -> Result<ArrayRef> {
        Ok(match self {
            Self::Partition(partition) => Arc::new(Int32Array::from(vec![*partition; rows])),
            Self::Row(next) => {
                let first = *next;
                *next += rows as i64;
                Arc::new(Int64Array::from_iter_values(first..*next))
            }
            Self::Uniform(random) => Arc::new(Float64Array::from_iter_values((0..rows).map(|_| random.double()))),
            Self::Normal(random) => Arc::new(Float64Array::from_iter_values((0..rows).map(|_| random.draw()))),
            Self::Uuid(random) => Arc::new(StringArray::from_iter_values((0..rows).map(|_| random.uuid()))),
            Self::Text(random, length) => {
                Arc::new(StringArray::from_iter_values((0..rows).map(|_| random.text(*length))))
            }
            Self::Shuffled(random, at) => {
                let Some(list) = input.get(*at).and_then(|column| column.as_list_opt::<i32>()) else {
                    return Err(external(Error::internal("shuffle of what is no list")));
                };
                shuffled(list, random)?
            }
        })
    }
}

fn shuffled(list: &ListArray, random: &mut Twister) -> Result<ArrayRef> {
    let DataType::List(item) = list.data_type() else { return Err(external(Error::internal("a list was expected"))) };
    let mut places: Vec<u64> = vec![];
    let mut lengths = vec![];
    for row in 0..list.len() {
        let own = if list.is_valid(row) { range(list, row) } else { 0..0 };
        lengths.push(own.len());
        places.extend(random.order(own.len()).into_iter().map(|at| (own.start + at) as u64));
    }
    let values = arrow::compute::take(list.values(), &UInt64Array::from(places), None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, list.nulls().cloned())?))
}

/// Spark's `XORShiftRandom`, with what `java.util.Random` makes of its bits.
#[derive(Debug, Clone)]
pub struct XorShift(u64);

impl XorShift {
    /// Of a seed.
    pub fn of(seed: i64) -> Self {
        /// Scala's seed for hashes of arrays.
        const ARRAY: u32 = 0x3c07_4a61;
        let bytes = seed.to_be_bytes();
        let low = murmur(bytes, ARRAY);
        let high = murmur(bytes, low);
        Self(u64::from(high) << 32 | u64::from(low))
    }

    fn bits(&mut self, bits: u32) -> u32 {
        let mut next = self.0 ^ (self.0 << 21);
        next ^= next >> 35;
        next ^= next << 4;
        self.0 = next;
        (next & ((1 << bits) - 1)) as u32
    }

    /// From 0 to 1.
    pub fn double(&mut self) -> f64 {
        let high = u64::from(self.bits(26)) << 27;
        (high + u64::from(self.bits(27))) as f64 / (1_u64 << 53) as f64
    }

    /// So many letters and digits.
    pub fn text(&mut self, length: usize) -> String {
        let letter = |random: &mut Self| char::from(LETTERS[((random.bits(32) as i32) % 62).unsigned_abs() as usize]);
        (0..length).map(|_| letter(self)).collect()
    }
}

/// MurmurHash3 of eight bytes.
fn murmur(bytes: [u8; 8], seed: u32) -> u32 {
    let mut hash = seed;
    for word in bytes.chunks_exact(4) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash ^= word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= 8;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// `java.util.Random.nextGaussian` over [`XorShift`]: the polar method, which makes two at a time.
#[derive(Debug, Clone)]
pub struct Gauss {
    random: XorShift,
    kept: Option<f64>,
}

impl Gauss {
    /// Of a seed.
    pub fn of(seed: i64) -> Self {
        Self { random: XorShift::of(seed), kept: None }
    }

    /// The next number.
    pub fn draw(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let (x, y) = (2.0 * self.random.double() - 1.0, 2.0 * self.random.double() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.kept = Some(y * scale);
                return x * scale;
            }
        }
    }
}

const TWISTER_WORDS: usize = 624;

/// The Mersenne Twister, as commons-math seeds it, from which Spark takes UUIDs and orders.
pub struct Twister {
    words: [u32; TWISTER_WORDS],
    next: usize,
}

impl std::fmt::Debug for Twister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twister").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Twister {
    /// Of a seed.
    pub fn of(seed: i64) -> Self {
        let key = [(seed >> 32) as u32, seed as u32];
        let mut words = [0_u32; TWISTER_WORDS];
        words[0] = 19_650_218;
        for at in 1..TWISTER_WORDS {
            let before = words[at - 1];
            words[at] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at as u32);
        }
        let mut at = 1;
        for step in 0..TWISTER_WORDS {
            let before = words[at - 1];
            let from = step % key.len();
            words[at] = (words[at] ^ (before ^ (before >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[from])
                .wrapping_add(from as u32);
            at += 1;
            if at == TWISTER_WORDS {
                words[0] = words[TWISTER_WORDS - 1];
                at = 1;
            }
        }
        for _ in 1..TWISTER_WORDS {
            let before = words[at - 1];
            words[at] = (words[at] ^ (before ^ (before >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(at as u32);
            at += 1;
            if at == TWISTER_WORDS {
                words[0] = words[TWISTER_WORDS - 1];
                at = 1;
            }
        }
        words[0] = 0x8000_0000;
        Self { words, next: TWISTER_WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == TWISTER_WORDS {
            for at in 0..TWISTER_WORDS {
                let joined = self.words[at] & 0x8000_0000 | self.words[(at + 1) % TWISTER_WORDS] & 0x7fff_ffff;
                let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[at] = self.words[(at + 397) % TWISTER_WORDS] ^ (joined >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// Below `n`, which is positive.
    fn below(&mut self, n: u32) -> u32 {
        if n.is_power_of_two() {
            return ((u64::from(n) * u64::from(self.word() >> 1)) >> 31) as u32;
        }
        loop {
            let bits = self.word() >> 1;
            let value = bits % n;
            // What would make small values likelier.
            if u64::from(bits) - u64::from(value) + u64::from(n - 1) <= i32::MAX as u64 {
                return value;
            }
        }
    }

    fn uuid(&mut self) -> String {
        let high = self.long() & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = self.long() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        uuid::Uuid::from_u64_pair(high, low).to_string()
    }

    /// The numbers below `length` in some order.
    fn order(&mut self, length: usize) -> Vec<usize> {
        let mut order = vec![0; length];
        for at in 0..length {
            let with = self.below(at as u32 + 1) as usize;
            order[at] = order[with];
            order[with] = at;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_seed_are_sparks() {
        assert_eq!(XorShift::of(0).double(), 0.7604953758285915);
        assert_eq!(XorShift::of(42).double(), 0.619189370225301);
        assert_eq!(Gauss::of(0).draw(), 1.6034991609278433);
        assert_eq!(Gauss::of(42).draw(), 2.384479054241165);
    }

    #[test]
    fn an_order_has_each_once() {
        for length in [0, 1, 2, 7, 100] {
            let mut order = Twister::of(5).order(length);
            order.sort_unstable();
            assert_eq!(order, (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_are_numbered_within_their_partition() {
        let mut ids = Column::Row.start(2);
        let first = ids.next(2, &[]).expect("numbers");
        let second = ids.next(1, &[]).expect("numbers");
        assert_eq!(first.as_primitive::<arrow::datatypes::Int64Type>().values(), &[2 << 33, (2 << 33) + 1]);
        assert_eq!(second.as_primitive::<arrow::datatypes::Int64Type>().values(), &[(2 << 33) + 2]);
    }
}
