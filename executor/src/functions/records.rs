//! `from_avro`, `to_avro`, `from_protobuf` and `to_protobuf`: what the functions of both formats have in common. A call
//! has one reader or writer in a process, made of its constant arguments as [`bind`] leaves them.

use super::bind::{self, Bound};
use super::json::external;
use super::{avro, ddl, protobuf};
use crate::registry::Bounded;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use headwater_proto::error::{Error, Result};
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Readers, and as many writers, that a process keeps: one for each use of a function in a query.
const KEPT_MAX: usize = 256;

type PlanResult<T> = datafusion::error::Result<T>;
type Kept<T> = LazyLock<Mutex<Bounded<(Format, Bound), Arc<T>>>>;

static READERS: Kept<dyn RecordReader> = LazyLock::new(Mutex::default);
static WRITERS: Kept<dyn RecordWriter> = LazyLock::new(Mutex::default);

/// Makes rows of records.
pub trait RecordReader: Debug + Send + Sync {
    /// The type of what is read.
    fn data_type(&self) -> &DataType;
    /// Reads each row; null for null.
    ///
    /// # Errors
    /// A bad record in mode FAILFAST; a registry that is away.
    fn read(&self, array: &ArrayRef) -> Result<ArrayRef>;
}

/// Makes records of rows.
pub trait RecordWriter: Debug + Send + Sync {
    /// Whether values of this type can be written.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, data_type: &DataType) -> Result<()>;
    /// Writes each row; null for null.
    ///
    /// # Errors
    /// Values that the schema does not allow; what the registry says.
    fn write(&self, array: &ArrayRef) -> Result<ArrayRef>;
}

/// What records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Avro.
    Avro,
    /// Protobuf.
    Protobuf,
}

impl Format {
    /// The reader of a call of `from_avro` or `from_protobuf`.
    ///
    /// # Errors
    /// Arguments that are missing or wrong.
    pub fn reader(self, bound: Bound) -> Result<Arc<dyn RecordReader>> {
        kept(&READERS, (self, bound), |bound| {
            Ok(match self {
                Self::Avro => Arc::new(avro::Reader::of(bound)?),
                Self::Protobuf => Arc::new(protobuf::Reader::of(bound)?),
            })
        })
    }

    fn writer(self, bound: Bound) -> Result<Arc<dyn RecordWriter>> {
        kept(&WRITERS, (self, bound), |bound| {
            Ok(match self {
                Self::Avro => Arc::new(avro::Writer::of(bound)?),
                Self::Protobuf => Arc::new(protobuf::Writer::of(bound)?),
            })
        })
    }
}

fn kept<T: ?Sized>(all: &Kept<T>, key: (Format, Bound), make: impl FnOnce(&Bound) -> Result<Arc<T>>) -> Result<Arc<T>> {
    if let Some(known) = all.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Arc::clone(known));
    }
    let made = make(&key.1)?;
    all.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&made), KEPT_MAX);
    Ok(made)
}

/// All four functions.
pub fn functions() -> [ScalarUDF; 4] {
    let signature = |counts: RangeInclusive<usize>, volatility| {
        Signature::one_of(counts.map(TypeSignature::Any).collect(), volatility)
    };
    let from = |name, format| {
        let signature = signature(2..=4, Volatility::Immutable);
        ScalarUDF::from(FromRecords { name, format, signature })
    };
    let to = |name, format, counts| {
        // They may register a schema: not to be folded while planning.
        let signature = signature(counts, Volatility::Stable);
        ScalarUDF::from(ToRecords { name, format, signature })
    };
    [
        from("from_avro", Format::Avro),
        to("to_avro", Format::Avro, 1..=5),
        from("from_protobuf", Format::Protobuf),
        to("to_protobuf", Format::Protobuf, 2..=4),
    ]
}

/// `from_avro`, `from_protobuf`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FromRecords {
    name: &'static str,
    format: Format,
    signature: Signature,
}

impl ScalarUDFImpl for FromRecords {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> PlanResult<DataType> {
        internal_err!("the type of {} depends on its schema, not on types", self.name)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        check_input(self.name, args.arg_fields[0].data_type()).map_err(external)?;
        let bound = bind::of_literals(self.name, &args.scalar_arguments[1..])?;
        let reader = self.format.reader(bound).map_err(external)?;
        Ok(Arc::new(Field::new(self.name, reader.data_type().clone(), true)))
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> PlanResult<ExprSimplifyResult> {
        bind::simplify(self.name, args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let bound = bind::of_values(self.name, &args.args[1..])?;
        let reader = self.format.reader(bound).map_err(external)?;
        if reader.data_type() != args.return_field.data_type() {
            let class = match self.format {
                Format::Avro => "AVRO_INCOMPATIBLE_SCHEMA",
                Format::Protobuf => "PROTOBUF_INCOMPATIBLE_SCHEMA",
            };
            let why = "its options change its type, so they must be literals: write map('key', 'value')";
            return Err(external(Error::invalid(class, format!("{}: {why}", self.name))));
        }
        each(&args.args[0], |array| reader.read(array))
    }
}

/// `to_avro`, `to_protobuf`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToRecords {
    name: &'static str,
    format: Format,
    signature: Signature,
}

impl ScalarUDFImpl for ToRecords {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> PlanResult<DataType> {
        internal_err!("whether {} can write a type depends on its schema", self.name)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let bound = bind::of_literals(self.name, &args.scalar_arguments[1..])?;
        let writer = self.format.writer(bound).map_err(external)?;
        writer.check(args.arg_fields[0].data_type()).map_err(external)?;
        Ok(Arc::new(Field::new(self.name, DataType::Binary, true)))
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> PlanResult<ExprSimplifyResult> {
        bind::simplify(self.name, args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let bound = bind::of_values(self.name, &args.args[1..])?;
        let writer = self.format.writer(bound).map_err(external)?;
        each(&args.args[0], |array| writer.write(array))
    }
}

/// A column of a column, a value of a value.
fn each(value: &ColumnarValue, made: impl FnOnce(&ArrayRef) -> Result<ArrayRef>) -> PlanResult<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => made(array).map(ColumnarValue::Array).map_err(external),
        ColumnarValue::Scalar(scalar) => {
            let result = made(&scalar.to_array()?).map_err(external)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
        }
    }
}

/// Refuses what is no bytes.
fn check_input(function: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Null => Ok(()),
        other => Err(Error::invalid(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("{function} reads BINARY, its first argument is {}", ddl::type_name(other)),
        )),
    }
}
