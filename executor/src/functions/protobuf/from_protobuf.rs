//! `from_protobuf(binary, messageName, descriptors[, options])`, where descriptors are a path or bytes, and
//! `from_protobuf(binary[, messageName], options)` with a schema registry.

use super::options::Options;
use super::reader::Reader;
use crate::functions::avro::check_input;
use crate::functions::bind::{self, Bound};
use crate::functions::json::external;
use crate::registry::Bounded;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use headwater_proto::error::Error;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

const NAME: &str = "from_protobuf";

/// Readers that a process keeps: one for each use of the function in a query.
const READERS_MAX: usize = 256;

static READERS: LazyLock<Mutex<Bounded<Bound, Arc<Reader>>>> = LazyLock::new(Mutex::default);

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FromProtobuf {
    signature: Signature,
}

impl Default for FromProtobuf {
    fn default() -> Self {
        let counts = (2..=4).map(TypeSignature::Any).collect();
        Self { signature: Signature::one_of(counts, Volatility::Immutable) }
    }
}

pub(in crate::functions) fn reader(bound: Bound) -> Result<Arc<Reader>> {
    if let Some(known) = READERS.lock().unwrap_or_else(PoisonError::into_inner).get(&bound) {
        return Ok(Arc::clone(known));
    }
    let options = Options::parse(NAME, &bound.options().map_err(external)?).map_err(external)?;
    let Some(descriptors) = bound.descriptor.as_deref() else {
        return Err(external(Error::internal("from_protobuf was planned without descriptors")));
    };
    let name = bound.schema.as_deref().unwrap_or_default();
    let reader = Arc::new(Reader::new(name, descriptors, &options).map_err(external)?);
    READERS.lock().unwrap_or_else(PoisonError::into_inner).insert(bound, Arc::clone(&reader), READERS_MAX);
    Ok(reader)
}

impl ScalarUDFImpl for FromProtobuf {
    fn name(&self) -> &str {
        NAME
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of from_protobuf depends on its descriptors, not on types")
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_input(NAME, args.arg_fields[0].data_type()).map_err(external)?;
        let reader = reader(bind::of_literals(NAME, &args.scalar_arguments[1..])?)?;
        Ok(Arc::new(Field::new(NAME, reader.data_type().clone(), true)))
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        bind::simplify(NAME, args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let reader = reader(bind::of_values(NAME, &args.args[1..])?)?;
        if reader.data_type() != args.return_field.data_type() {
            return Err(external(Error::invalid(
                "PROTOBUF_INCOMPATIBLE_SCHEMA",
                "from_protobuf: its options change its type, so they must be literals: write map('key', 'value')",
            )));
        }
        match &args.args[0] {
            ColumnarValue::Array(array) => reader.read(array).map(ColumnarValue::Array).map_err(external),
            ColumnarValue::Scalar(scalar) => {
                let result = reader.read(&scalar.to_array()?).map_err(external)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}
