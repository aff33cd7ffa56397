//! `to_avro(column[, jsonFormatSchema[, options]])` and
//! `to_avro(column, subject, schemaRegistryAddress[, jsonFormatSchema][, options])`.

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
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

const NAME: &str = "to_avro";

/// Writers that a process keeps: one for each use of the function in a query.
const WRITERS_MAX: usize = 256;

static WRITERS: LazyLock<Mutex<Bounded<Bound, Arc<Writer>>>> = LazyLock::new(Mutex::default);

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ToAvro {
    signature: Signature,
}

impl Default for ToAvro {
    fn default() -> Self {
        let counts = (1..=5).map(TypeSignature::Any).collect();
        // It may register a schema: not to be folded while planning.
        Self { signature: Signature::one_of(counts, Volatility::Stable) }
    }
}

fn writer(bound: Bound) -> Result<Arc<Writer>> {
    if let Some(known) = WRITERS.lock().unwrap_or_else(PoisonError::into_inner).get(&bound) {
        return Ok(Arc::clone(known));
    }
    let options = Options::parse(NAME, &bound.options().map_err(external)?).map_err(external)?;
    let writer = Arc::new(Writer::new(bound.schema.as_deref().unwrap_or_default(), &options).map_err(external)?);
    WRITERS.lock().unwrap_or_else(PoisonError::into_inner).insert(bound, Arc::clone(&writer), WRITERS_MAX);
    Ok(writer)
}

impl ScalarUDFImpl for ToAvro {
    fn name(&self) -> &str {
        NAME
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("whether to_avro can write a type depends on its schema argument")
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
