//! Plan nodes and expressions on the wire: one arm for each of ours, behind a magic; everything else is Ballista's.

use crate::functions::closed::ClosedCall;
use crate::operators::one_task::OneTaskExec;
use crate::operators::placed::PlacedExec;
use crate::operators::sink::SinkExec;
use crate::operators::source_scan::SourceScanExec;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::sync::Arc;

/// The codec that scheduler and executors give to Ballista.
pub fn ballista_codec() -> BallistaCodec<LogicalPlanNode, PhysicalPlanNode> {
    BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(HeadwaterPhysicalCodec::default()))
}

/// 0xff never begins a protobuf message (wire type 7 does not exist), so Ballista's own bytes cannot be mistaken.
const MAGIC: &[u8; 3] = b"\xffHW";
const PLACED: u8 = b'P';
const SOURCE_SCAN: u8 = b'R';
const SINK: u8 = b'W';
const ONE_TASK: u8 = b'1';
const CLOSED_CALL: u8 = b'C';

/// Encodes Headwater's plan nodes and expressions, and Ballista's through it.
#[derive(Debug, Default)]
pub struct HeadwaterPhysicalCodec {
    ballista: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for HeadwaterPhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match buf.strip_prefix(MAGIC.as_slice()) {
            Some([PLACED, rest @ ..]) => Ok(Arc::new(PlacedExec::decode(rest, inputs)?)),
            Some([SOURCE_SCAN, rest @ ..]) => Ok(Arc::new(SourceScanExec::decode(rest, inputs)?)),
            Some([SINK, rest @ ..]) => Ok(Arc::new(SinkExec::decode(rest, inputs)?)),
            Some([ONE_TASK, rest @ ..]) => Ok(Arc::new(OneTaskExec::decode(rest, ctx, self)?)),
            Some(other) => {
                internal_err!("unknown plan node {:?}: do all processes run the same version?", other.first())
            }
            None => self.ballista.try_decode(buf, inputs, ctx, converter),
        }
    }
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let mut put = |tag: u8, body: Vec<u8>| {
            buf.extend_from_slice(MAGIC);
            buf.push(tag);
            buf.extend_from_slice(&body);
        };
        if let Some(scan) = node.downcast_ref::<SourceScanExec>() {
            put(SOURCE_SCAN, scan.encode()?);
            return Ok(());
        }
        if let Some(placed) = node.downcast_ref::<PlacedExec>() {
            put(PLACED, placed.encode());
            return Ok(());
        }
        if let Some(sink) = node.downcast_ref::<SinkExec>() {
            put(SINK, sink.encode());
            return Ok(());
        }
        if let Some(whole) = node.downcast_ref::<OneTaskExec>() {
            put(ONE_TASK, whole.encode(self)?);
            return Ok(());
        }
        self.ballista.try_encode(node, buf, converter)
    }
    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        ctx: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match buf.strip_prefix(MAGIC.as_slice()) {
            Some([CLOSED_CALL, rest @ ..]) => Ok(Arc::new(ClosedCall::decode(rest, inputs, ctx)?)),
            Some(other) => {
                internal_err!("unknown expression {:?}: do all processes run the same version?", other.first())
            }
            None => self.ballista.try_decode_expr(buf, inputs, ctx),
        }
    }
    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        ctx: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        let Some(call) = node.downcast_ref::<ClosedCall>() else {
            return self.ballista.try_encode_expr(node, buf, ctx);
        };
        buf.extend_from_slice(MAGIC);
        buf.push(CLOSED_CALL);
        buf.extend_from_slice(&call.encode(ctx)?);
        Ok(())
    }
    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.ballista.try_decode_udf(name, buf)
    }
    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ballista.try_encode_udf(node, buf)
    }
    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.ballista.try_decode_udaf(name, buf)
    }
    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ballista.try_encode_udaf(node, buf)
    }
    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.ballista.try_decode_udwf(name, buf)
    }
    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ballista.try_encode_udwf(node, buf)
    }
}
