//! `to_protobuf(struct, messageName, descriptors[, options])`, where descriptors are a path or bytes, and
//! `to_protobuf(struct[, messageName], options)` with a schema registry.

use super::options::Options;
use super::writer::Writer;
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

const NAME: &str = "to_protobuf";

/// Writers that a process keeps: one for each use of the function in a query.
const WRITERS_MAX: usize = 256;

static WRITERS: LazyLock<Mutex<Bounded<Bound, Arc<Writer>>>> = LazyLock::new(Mutex::default);

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ToProtobuf {
    signature: Signature,
}

impl Default for ToProtobuf {
    fn default() -> Self {
        let counts = (2..=4).map(TypeSignature::Any).collect();
        // It may register a schema: not to be folded while planning.
        Self { signature: Signature::one_of(counts, Volatility::Stable) }
    }
}

fn writer(bound: Bound) -> Result<Arc<Writer>> {
    if let Some(known) = WRITERS.lock().unwrap_or_else(PoisonError::into_inner).get(&bound) {
        return Ok(Arc::clone(known));
    }
    let options = Options::parse(NAME, &bound.options().map_err(external)?).map_err(external)?;
    let Some(descriptors) = bound.descriptor.as_deref() else {
        return Err(external(Error::internal("to_protobuf was planned without descriptors")));
    };
    let name = bound.schema.as_deref().unwrap_or_default();
    let writer = Arc::new(Writer::new(name, descriptors, &options).map_err(external)?);
    WRITERS.lock().unwrap_or_else(PoisonError::into_inner).insert(bound, Arc::clone(&writer), WRITERS_MAX);
    Ok(writer)
}

impl ScalarUDFImpl for ToProtobuf {
    fn name(&self) -> &str {
        NAME
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("whether to_protobuf can write a type depends on its descriptors")
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let writer = writer(bind::of_literals(NAME, &args.scalar_arguments[1..])?)?;
        writer.check(args.arg_fields[0].data_type()).map_err(external)?;
        Ok(Arc::new(Field::new(NAME, DataType::Binary, true)))
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        bind::simplify(NAME, args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let writer = writer(bind::of_values(NAME, &args.args[1..])?)?;
        match &args.args[0] {
            ColumnarValue::Array(array) => writer.write(array).map(ColumnarValue::Array).map_err(external),
            ColumnarValue::Scalar(scalar) => {
                let result = writer.write(&scalar.to_array()?).map_err(external)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}
