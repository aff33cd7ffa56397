//! What our scalar functions share: parameters as Spark names them, implicit casts, and rows in and out.
//!
//! A function is a row of a table: name, parameters, result type, and what it does to arrays. What it needs of a session
//! (ANSI mode, time zone) is an argument: the analyzer turns `date_format(t, p)` into `date_format@(t, p, context)`, so
//! that executors need to know nothing of the session.

use super::coercion;
use super::datetime::Zone;
use super::ddl;
use super::interval_fields;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Date32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, PrimitiveArray, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use headwater_proto::error::Error;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Ends the names of functions whose last argument is a [`Context`].
pub const WITH_CONTEXT: &str = "@";

/// What a parameter takes; arguments of other types are cast where Spark casts implicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// Anything, as it is.
    Any,
    /// STRING.
    Text,
    /// BINARY; text is its bytes.
    Binary,
    /// STRING or BINARY, as it is.
    TextOrBinary,
    /// BOOLEAN.
    Boolean,
    /// INT.
    Int,
    /// BIGINT.
    Long,
    /// DOUBLE.
    Double,
    /// Any number as it is; text is DOUBLE.
    Number,
    /// DATE.
    Date,
    /// TIMESTAMP.
    Timestamp,
    /// TIMESTAMP_NTZ.
    TimestampNtz,
    /// ARRAY.
    Array,
    /// MAP.
    Map,
    /// STRUCT.
    Struct,
    /// All parameters of this kind get their common type.
    Common,
}

/// What a function knows of the session that planned it.
#[derive(Debug, Clone)]
pub struct Context {
    /// `spark.sql.ansi.enabled`.
    pub ansi: bool,
    /// `spark.sql.session.timeZone`.
    pub zone: Zone,
    /// Its name, as it was set.
    pub zone_name: String,
}

impl Context {
    /// The argument's text for these settings.
    pub fn encode(ansi: bool, zone: &str) -> String {
        format!("{} {zone}", if ansi { "ansi" } else { "legacy" })
    }

    /// Back from the argument's text.
    ///
    /// # Errors
    /// Text that [`Context::encode`] did not make.
    pub fn decode(text: &str) -> Result<Self> {
        let (mode, zone_name) = text.split_once(' ').ok_or_else(|| external(Error::internal("no context")))?;
        let zone = Zone::parse(zone_name).ok_or_else(|| {
            external(Error::invalid("INVALID_TIMEZONE", format!("there is no time zone {zone_name:?}")))
        })?;
        Ok(Self { ansi: mode == "ansi", zone, zone_name: zone_name.to_string() })
    }
}

impl Default for Context {
    fn default() -> Self {
        Self { ansi: true, zone: Zone::UTC, zone_name: "UTC".into() }
    }
}

/// One call: arguments of the types that the parameters say, all of the same length.
pub struct Call<'a> {
    /// Arguments.
    pub args: Vec<ArrayRef>,
    /// How many rows are asked for.
    pub rows: usize,
    /// The type to return.
    pub return_type: &'a DataType,
    /// Of the session.
    pub context: Context,
    /// A null in any argument makes a null.
    pub strict: bool,
}

impl Call<'_> {
    /// Argument `i` as text.
    pub fn text(&self, i: usize) -> &StringArray {
        self.args[i].as_string()
    }
    /// Argument `i` as bytes.
    pub fn binary(&self, i: usize) -> &BinaryArray {
        self.args[i].as_binary()
    }
    /// Argument `i` as booleans.
    pub fn bools(&self, i: usize) -> &BooleanArray {
        self.args[i].as_boolean()
    }
    /// Argument `i` as INT.
    pub fn ints(&self, i: usize) -> &Int32Array {
        self.args[i].as_primitive()
    }
    /// Argument `i` as BIGINT.
    pub fn longs(&self, i: usize) -> &Int64Array {
        self.args[i].as_primitive()
    }
    /// Argument `i` as DOUBLE.
    pub fn doubles(&self, i: usize) -> &Float64Array {
        self.args[i].as_primitive()
    }
    /// Argument `i` as DATE.
    pub fn dates(&self, i: usize) -> &Date32Array {
        self.args[i].as_primitive()
    }
    /// Argument `i` as TIMESTAMP or TIMESTAMP_NTZ.
    pub fn times(&self, i: usize) -> &TimestampMicrosecondArray {
        self.args[i].as_primitive()
    }
    /// Argument `i` as ARRAY.
    pub fn lists(&self, i: usize) -> &ListArray {
        self.args[i].as_list()
    }
    /// Argument `i` as MAP.
    pub fn maps(&self, i: usize) -> &MapArray {
        self.args[i].as_map()
    }
    /// Whether there is an argument `i`.
    pub fn has(&self, i: usize) -> bool {
        i < self.args.len()
    }
    /// Whether a strict function has nothing to do at `row`.
    pub fn skip(&self, row: usize) -> bool {
        // An array of nothing but nulls has no bits that say so.
        self.strict && self.args.iter().any(|arg| *arg.data_type() == DataType::Null || arg.is_null(row))
    }

    /// A row of text each.
    pub fn text_rows(&self, mut f: impl FnMut(usize) -> Result<Option<String>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::new();
        for row in 0..self.rows {
            if self.skip(row) {
                builder.append_null();
            } else {
                builder.append_option(f(row)?);
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    /// A row of bytes each.
    pub fn binary_rows(&self, mut f: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
        let mut builder = BinaryBuilder::new();
        for row in 0..self.rows {
            if self.skip(row) {
                builder.append_null();
            } else {
                builder.append_option(f(row)?);
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    /// A boolean each.
    pub fn bool_rows(&self, mut f: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
        let rows = (0..self.rows).map(|row| if self.skip(row) { Ok(None) } else { f(row) });
        Ok(Arc::new(rows.collect::<Result<BooleanArray>>()?))
    }

    /// A number, date or timestamp each; the array takes the type that is asked for.
    pub fn rows<T: ArrowPrimitiveType>(
        &self,
        mut f: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let rows = (0..self.rows).map(|row| if self.skip(row) { Ok(None) } else { f(row) });
        let array = rows.collect::<Result<PrimitiveArray<T>>>()?;
        Ok(Arc::new(array.with_data_type(self.return_type.clone())))
    }
}

/// How the result's type follows from the arguments'.
#[derive(Clone, Copy)]
pub enum Returns {
    /// Always this.
    Type(fn() -> DataType),
    /// That of an argument.
    Arg(usize),
    /// By the arguments' types.
    Of(fn(&[DataType]) -> Result<DataType>),
    /// By types and constants.
    Constant(fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>),
}

/// What a function does.
pub type Run = fn(&Call<'_>) -> Result<ArrayRef>;
/// Types that arguments are cast to.
pub type Coerce = fn(&[DataType]) -> Result<Vec<DataType>>;

/// The name of the fields of an interval, where they are not all of them, by arguments and constants.
pub type IntervalFields = fn(&[FieldRef], &[Option<&ScalarValue>]) -> Option<String>;

/// A function of ours.
#[derive(Clone)]
pub struct Function {
    name: String,
    aliases: Vec<String>,
    required: &'static [Param],
    optional: &'static [Param],
    rest: Option<Param>,
    coerce: Option<Coerce>,
    returns: Returns,
    run: Run,
    strict: bool,
    context: bool,
    resolved: bool,
    interval: Option<IntervalFields>,
    signature: Signature,
}

impl Function {
    /// A strict, immutable function of these parameters.
    pub fn new(name: &str, required: &'static [Param], returns: Returns, run: Run) -> Self {
        Self {
            name: name.to_string(),
            aliases: vec![],
            required,
            optional: &[],
            rest: None,
            coerce: None,
            returns,
            run,
            strict: true,
            context: false,
            resolved: false,
            interval: None,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
    /// Other names.
    pub fn alias(mut self, names: &[&str]) -> Self {
        self.aliases.extend(names.iter().map(|name| name.to_string()));
        self
    }
    /// Parameters that may be left out.
    pub fn optional(mut self, params: &'static [Param]) -> Self {
        self.optional = params;
        self
    }
    /// Any number of these follow.
    pub fn rest(mut self, param: Param) -> Self {
        self.rest = Some(param);
        self
    }
    /// Types of arguments by a rule of its own.
    pub fn coerced(mut self, coerce: Coerce) -> Self {
        self.coerce = Some(coerce);
        self
    }
    /// Nulls are its own business.
    pub fn nulls(mut self) -> Self {
        self.strict = false;
        self
    }
    /// Another value at every row.
    pub fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }
    /// The fields of the interval that it makes.
    pub fn interval(mut self, fields: IntervalFields) -> Self {
        self.interval = Some(fields);
        self
    }
    /// It needs ANSI mode or time zone.
    pub fn with_context(mut self) -> Self {
        self.context = true;
        self
    }
    /// What is registered: the function, and where it needs one the function that has its context.
    pub fn all(self) -> Vec<Self> {
        if !self.context {
            return vec![self];
        }
        let mut resolved = self.clone();
        resolved.name = format!("{}{WITH_CONTEXT}", self.name);
        resolved.aliases.clear();
        resolved.resolved = true;
        vec![self, resolved]
    }
    /// Whether the analyzer has to add the context.
    pub fn wants_context(&self) -> bool {
        self.context && !self.resolved
    }

    fn own<'a, T>(&self, args: &'a [T]) -> &'a [T] {
        if self.resolved { &args[..args.len().saturating_sub(1)] } else { args }
    }

    fn param(&self, i: usize) -> Param {
        let fixed = self.required.iter().chain(self.optional).nth(i).copied();
        fixed.or(self.rest).unwrap_or(Param::Any)
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let (least, most) = (self.required.len(), self.required.len() + self.optional.len());
        if count >= least && (self.rest.is_some() || count <= most) {
            return Ok(());
        }
        let expect = match () {
            () if self.rest.is_some() => format!("at least {least}"),
            () if least == most => least.to_string(),
            () => format!("{least} to {most}"),
        };
        Err(external(Error::invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `{}` requires {expect} parameters but the actual number is {count}", self.shown()),
        )))
    }

    fn shown(&self) -> &str {
        self.name.trim_end_matches(WITH_CONTEXT)
    }

    fn coerce_own(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.check_count(types.len())?;
        if let Some(coerce) = self.coerce {
            return coerce(types);
        }
        let common = || {
            let of = types.iter().enumerate().filter(|(i, _)| self.param(*i) == Param::Common).map(|(_, one)| one);
            coercion::common(of).ok_or_else(|| {
                let shown = types.iter().map(ddl::type_name).collect::<Vec<_>>().join(", ");
                external(Error::invalid(
                    "DATATYPE_MISMATCH.DATA_DIFF_TYPES",
                    format!("`{}` takes arguments of one type, not ({shown}): cast them", self.shown()),
                ))
            })
        };
        types
            .iter()
            .enumerate()
            .map(|(i, actual)| match self.param(i) {
                Param::Common => common(),
                param => param.accept(actual).ok_or_else(|| mismatch(self.shown(), i, &param.shown(), actual)),
            })
            .collect()
    }
}

/// `DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE` for argument `i` of a function.
pub fn mismatch(function: &str, i: usize, expect: &str, actual: &DataType) -> DataFusionError {
    external(Error::invalid(
        "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
        format!(
            "parameter {} of `{function}` requires the {expect} type, however it has the type {}: cast it",
            i + 1,
            ddl::type_name(actual)
        ),
    ))
}

/// An error of ours on its way through DataFusion.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of the request on its way through DataFusion.
pub fn invalid<T>(class: &str, message: impl std::fmt::Display) -> Result<T> {
    Err(external(Error::invalid(class, message)))
}

impl Param {
    fn shown(self) -> String {
        let name = match self {
            Param::Any | Param::Common => "ANY",
            Param::Text => "STRING",
            Param::Binary => "BINARY",
            Param::TextOrBinary => "STRING or BINARY",
            Param::Boolean => "BOOLEAN",
            Param::Int => "INT",
            Param::Long => "BIGINT",
            Param::Double => "DOUBLE",
            Param::Number => "NUMERIC",
            Param::Date => "DATE",
            Param::Timestamp => "TIMESTAMP",
            Param::TimestampNtz => "TIMESTAMP_NTZ",
            Param::Array => "ARRAY",
            Param::Map => "MAP",
            Param::Struct => "STRUCT",
        };
        format!("\"{name}\"")
    }

    /// The type that an argument is cast to; none where Spark would not.
    fn accept(self, actual: &DataType) -> Option<DataType> {
        use DataType as T;
        let text = coercion::is_text(actual);
        let number = actual.is_numeric();
        let temporal = matches!(actual, T::Date32 | T::Date64 | T::Timestamp(..));
        let binary = matches!(actual, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
        let null = matches!(actual, T::Null);
        let ntz = || T::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
        match self {
            Param::Any | Param::Common => Some(actual.clone()),
            Param::Text => {
                let simple = text || number || temporal || binary || null || matches!(actual, T::Boolean);
                let interval = matches!(actual, T::Interval(_) | T::Duration(_));
                (simple || interval).then_some(T::Utf8)
            }
            Param::Binary => (binary || text || null).then_some(T::Binary),
            Param::TextOrBinary if binary => Some(T::Binary),
            Param::TextOrBinary => Param::Text.accept(actual),
            Param::Boolean => (matches!(actual, T::Boolean) || text || null).then_some(T::Boolean),
            Param::Int => (actual.is_integer() || text || null).then_some(T::Int32),
            Param::Long => (number || text || null).then_some(T::Int64),
            Param::Double => (number || text || null).then_some(T::Float64),
            Param::Number if text || null => Some(T::Float64),
            Param::Number => number.then(|| actual.clone()),
            Param::Date => (temporal || text || null).then_some(T::Date32),
            Param::Timestamp => (temporal || text || null).then(ddl::timestamp),
            Param::TimestampNtz => (temporal || text || null).then(ntz),
            Param::Array if null => Some(ddl::array_of(T::Null)),
            Param::Array => match actual {
                T::List(_) => Some(actual.clone()),
                T::LargeList(item) | T::FixedSizeList(item, _) => Some(T::List(Arc::clone(item))),
                _ => None,
            },
            Param::Map if null => Some(ddl::map_of(T::Null, T::Null)),
            Param::Map => matches!(actual, T::Map(..)).then(|| actual.clone()),
            Param::Struct => matches!(actual, T::Struct(_)).then(|| actual.clone()),
        }
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let own = self.coerce_own(self.own(arg_types))?;
        match self.returns {
            Returns::Type(make) => Ok(make()),
            Returns::Arg(i) => Ok(own[i].clone()),
            Returns::Of(make) => make(&own),
            Returns::Constant(make) => make(&own, &vec![None; own.len()]),
        }
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let data_type = match self.returns {
            Returns::Constant(make) => make(&self.coerce_own(self.own(&types))?, self.own(args.scalar_arguments))?,
            _ => self.return_type(&types)?,
        };
        let field = Field::new(self.name(), data_type, true);
        let fields = self.interval.and_then(|of| of(self.own(args.arg_fields), self.own(args.scalar_arguments)));
        Ok(Arc::new(match fields {
            Some(fields) => field.with_metadata([(interval_fields::KEY.to_string(), fields)].into()),
            None => field,
        }))
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let mut types = self.coerce_own(self.own(arg_types))?;
        if self.resolved {
            types.push(DataType::Utf8);
        }
        Ok(types)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let context = match (self.context, self.resolved, args.args.last()) {
            (true, true, Some(ColumnarValue::Scalar(scalar))) => match scalar.try_as_str() {
                Some(Some(text)) => Context::decode(text)?,
                _ => return Err(external(Error::internal(format!("{} was given no context", self.name)))),
            },
            (true, ..) => return Err(external(Error::internal(format!("{} was not analyzed", self.name)))),
            _ => Context::default(),
        };
        let own = self.own(&args.args);
        let volatile = self.signature.volatility == Volatility::Volatile;
        let scalar = !volatile && own.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = own.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let return_type = args.return_field.data_type();
        let call = Call { args: arrays, rows, return_type, context, strict: self.strict };
        let result = (self.run)(&call)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}
