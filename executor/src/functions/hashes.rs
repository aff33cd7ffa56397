//! `hash`: Spark's Murmur3 of 32 bits, over values of any type.

use super::native::{Call, Function, Param, Returns, external};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, TimestampMicrosecondType,
};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

/// Spark's.
const SEED: u32 = 42;

/// The functions.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new("hash", &[Param::Any], Returns::Type(|| DataType::Int32), |call: &Call<'_>| {
            let hashes = (0..call.rows).map(|row| {
                let hash = call.args.iter().try_fold(SEED, |seed, column| value(column, row, seed))?;
                Ok(hash as i32)
            });
            Ok(Arc::new(Int32Array::from_iter_values(hashes.collect::<Result<Vec<_>>>()?)) as ArrayRef)
        })
        .rest(Param::Any)
        .nulls(),
        // What `xxhash64` takes for a decimal of many digits.
        Function::new("decimal_bytes", &[Param::Any], Returns::Type(|| DataType::Binary), |call: &Call<'_>| {
            let Some(numbers) = call.args[0].as_primitive_opt::<Decimal128Type>() else {
                return Err(external(Error::internal("decimal_bytes takes decimals")));
            };
            call.binary_rows(|i| Ok(Some(shortest(numbers.value(i)))))
        }),
    ]
}

fn value(array: &ArrayRef, row: usize, seed: u32) -> Result<u32> {
    use DataType as T;
    if array.is_null(row) {
        return Ok(seed);
    }
    Ok(match array.data_type() {
        T::Null => seed,
        T::Boolean => int(u32::from(array.as_boolean().value(row)), seed),
        T::Int8 => int(array.as_primitive::<Int8Type>().value(row) as u32, seed),
        T::Int16 => int(array.as_primitive::<Int16Type>().value(row) as u32, seed),
        T::Int32 => int(array.as_primitive::<Int32Type>().value(row) as u32, seed),
        T::Date32 => int(array.as_primitive::<Date32Type>().value(row) as u32, seed),
        T::Int64 => long(array.as_primitive::<Int64Type>().value(row) as u64, seed),
        T::Timestamp(..) => long(array.as_primitive::<TimestampMicrosecondType>().value(row) as u64, seed),
        T::Duration(_) => long(array.as_primitive::<DurationMicrosecondType>().value(row) as u64, seed),
        T::Interval(IntervalUnit::YearMonth) => {
            int(array.as_primitive::<IntervalYearMonthType>().value(row) as u32, seed)
        }
        // -0.0 is 0.0, and every NaN Java's.
        T::Float32 => {
            let n = array.as_primitive::<Float32Type>().value(row);
            int(
                if n == 0.0 {
                    0
                } else if n.is_nan() {
                    0x7fc0_0000
                } else {
                    n.to_bits()
                },
                seed,
            )
        }
        T::Float64 => {
            let n = array.as_primitive::<Float64Type>().value(row);
            long(
                if n == 0.0 {
                    0
                } else if n.is_nan() {
                    0x7ff8_0000_0000_0000
                } else {
                    n.to_bits()
                },
                seed,
            )
        }
        T::Decimal128(precision, _) => {
            let n = array.as_primitive::<Decimal128Type>().value(row);
            if *precision <= 18 { long(n as i64 as u64, seed) } else { bytes(&shortest(n), seed) }
        }
        T::Utf8 => bytes(array.as_string::<i32>().value(row).as_bytes(), seed),
        T::Utf8View => bytes(array.as_string_view().value(row).as_bytes(), seed),
        T::LargeUtf8 => bytes(array.as_string::<i64>().value(row).as_bytes(), seed),
        T::Binary => bytes(array.as_binary::<i32>().value(row), seed),
        T::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).try_fold(seed, |seed, at| value(&items, at, seed))?
        }
        T::Struct(_) => array.as_struct().columns().iter().try_fold(seed, |seed, column| value(column, row, seed))?,
        other => {
            return Err(external(Error::invalid(
                "DATATYPE_MISMATCH.HASH_MAP_TYPE",
                format!("`hash` of {} is not supported", super::ddl::type_name(other)),
            )));
        }
    })
}

/// A whole number's bytes as Java's BigInteger has them.
fn shortest(n: i128) -> Vec<u8> {
    let all = n.to_be_bytes();
    let sign = if n < 0 { 0xff } else { 0 };
    let mut begin = 0;
    while begin < 15 && all[begin] == sign && (all[begin + 1] & 0x80) == (sign & 0x80) {
        begin += 1;
    }
    all[begin..].to_vec()
}

fn mix_k(k: u32) -> u32 {
    k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mix_h(h: u32, k: u32) -> u32 {
    (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(h: u32, length: u32) -> u32 {
    let mut h = h ^ length;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

fn int(n: u32, seed: u32) -> u32 {
    finish(mix_h(seed, mix_k(n)), 4)
}

fn long(n: u64, seed: u32) -> u32 {
    finish(mix_h(mix_h(seed, mix_k(n as u32)), mix_k((n >> 32) as u32)), 8)
}

fn bytes(all: &[u8], seed: u32) -> u32 {
    let words = all.chunks_exact(4);
    // Spark takes the bytes at the end one by one, sign extended.
    let rest = words.remainder();
    let mut h = seed;
    for word in words {
        h = mix_h(h, mix_k(u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
    }
    for byte in rest {
        h = mix_h(h, mix_k(*byte as i8 as u32));
    }
    finish(h, all.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sparks() {
        assert_eq!(int(1, SEED) as i32, -559_580_957);
        assert_eq!(long(1, SEED) as i32, -1_712_319_331);
        assert_eq!(bytes(b"Spark", SEED) as i32, 228_093_765);
        assert_eq!(shortest(-1), [0xff]);
        assert_eq!(shortest(128), [0, 128]);
    }
}
