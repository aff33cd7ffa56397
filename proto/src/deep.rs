//! Prost, as the messages of Spark Connect are made with it: they may be nested as deep as Spark takes them.
//!
//! Prost's own limit, for every message that is decoded, is 100 levels, and a DataFrame has two for each call that made
//! it. Only what Spark's clients send is to be deeper. So the code that is generated for `spark.connect` names this
//! module in the place of prost; what it calls to decode a message inside a message counts the levels by itself, and
//! takes more stack when it needs some: a deep plan is answered or refused, and never ends the process.

pub use prost::*;

/// Spark's `spark.connect.grpc.marshallerRecursionLimit`.
pub const NESTING_MAX: u32 = 1024;

/// See the module.
pub mod encoding {
    pub use prost::encoding::*;

    /// See the module.
    pub mod message {
        use super::super::{Levels, too_deep};
        use prost::bytes::Buf;
        use prost::encoding::{DecodeContext, WireType};
        use prost::{DecodeError, Message};

        pub use prost::encoding::message::{encode, encode_repeated, encoded_len, encoded_len_repeated};

        /// Decodes a message that is a field of another.
        pub fn merge<M: Message, B: Buf>(
            wire_type: WireType,
            message: &mut M,
            buffer: &mut B,
            _: DecodeContext,
        ) -> Result<(), DecodeError> {
            let Some(levels) = Levels::enter() else { return Err(too_deep()) };
            // A context of its own: prost counts from nothing again.
            let context = DecodeContext::default();
            let merged = levels.with_stack(|| prost::encoding::message::merge(wire_type, message, buffer, context));
            // Each level would add its name to the error, which would be too long to be sent.
            merged.map_err(|error| if levels.exceeded() { too_deep() } else { error })
        }

        /// Decodes one more of a field that is a list of messages.
        pub fn merge_repeated<M: Message + Default>(
            wire_type: WireType,
            messages: &mut Vec<M>,
            buffer: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            let mut message = M::default();
            merge(wire_type, &mut message, buffer, context)?;
            messages.push(message);
            Ok(())
        }
    }
}

thread_local! {
    /// Messages that are being decoded, one inside the other, and whether they were too many.
    static LEVELS: std::cell::Cell<(u32, bool)> = const { std::cell::Cell::new((0, false)) };
}

/// One level, as long as it lives.
struct Levels;

impl Levels {
    /// With less than this left, and a debug build's frames, more is taken.
    const STACK_LEFT: usize = 128 << 10;
    const STACK_MORE: usize = 2 << 20;

    fn enter() -> Option<Self> {
        let (levels, exceeded) = LEVELS.get();
        if levels >= NESTING_MAX {
            LEVELS.set((levels, true));
            return None;
        }
        LEVELS.set((levels + 1, exceeded && levels > 0));
        Some(Self)
    }
    fn exceeded(&self) -> bool {
        LEVELS.get().1
    }
    fn with_stack<T>(&self, work: impl FnOnce() -> T) -> T {
        stacker::maybe_grow(Self::STACK_LEFT, Self::STACK_MORE, work)
    }
}

impl Drop for Levels {
    fn drop(&mut self) {
        let (levels, exceeded) = LEVELS.get();
        LEVELS.set((levels - 1, exceeded));
    }
}

// Hidden, and all there is to make one with.
#[expect(deprecated)]
fn too_deep() -> DecodeError {
    DecodeError::new(format!(
        "the plan is nested more than {NESTING_MAX} messages deep: divide it by a temporary view or localCheckpoint(), or \
         use withColumns in place of withColumn in a loop"
    ))
}

#[cfg(test)]
mod tests {
    use crate::spark::relation::RelType;
    use crate::spark::{Limit, Plan, Relation, plan};
    use prost::Message;

    /// Bytes of a relation under so many limits, made from the inside out: nothing but decoding is recursive.
    fn nested(limits: usize) -> Vec<u8> {
        let mut bytes = Relation::default().encode_to_vec();
        for _ in 0..limits {
            let mut limit = vec![0x0a];
            prost::encoding::encode_varint(bytes.len() as u64, &mut limit);
            limit.extend_from_slice(&bytes);
            let mut relation = vec![0x42];
            prost::encoding::encode_varint(limit.len() as u64, &mut relation);
            relation.extend_from_slice(&limit);
            bytes = relation;
        }
        bytes
    }

    fn depth(relation: &Relation) -> usize {
        let (mut relation, mut depth) = (relation, 0);
        while let Some(RelType::Limit(limit)) = &relation.rel_type {
            let Limit { input: Some(input), .. } = limit.as_ref() else { break };
            relation = input;
            depth += 1;
        }
        depth
    }

    #[test]
    fn deep_plans_are_decoded_on_a_small_stack() {
        let work = || {
            assert_eq!(depth(&Relation::decode(nested(500).as_slice()).expect("is decoded")), 500);
            let error = Relation::decode(nested(600).as_slice()).expect_err("is too deep").to_string();
            assert!(error.contains("nested more than 1024 messages deep"), "{error}");
            assert!(error.len() < 500, "{error}");
            // The count begins anew, and so does the error.
            assert_eq!(depth(&Relation::decode(nested(500).as_slice()).expect("is decoded")), 500);
            let broken = Relation::decode([0x42, 0x05].as_slice()).expect_err("is cut off").to_string();
            assert!(!broken.contains("nested"), "{broken}");
            let plan = Plan { op_type: Some(plan::OpType::Root(Relation::default())) };
            assert_eq!(Plan::decode(plan.encode_to_vec().as_slice()), Ok(plan));
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(work).expect("a thread").join().expect("no panic");
    }
}
