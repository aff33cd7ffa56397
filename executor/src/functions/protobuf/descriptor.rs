//! Descriptors of messages: from descriptor sets, and from the text of `.proto` files.

use headwater_proto::error::{Error, Result};
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// The name of a text that has none.
const MAIN: &str = "headwater/schema.proto";

/// Files by name.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((name, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Compiles the text of a `.proto` file to a `FileDescriptorSet`, which holds what it imports too and itself last.
/// Imports are found among `references` and Google's own.
///
/// # Errors
/// `PROTOBUF_SCHEMA_INVALID` with what is wrong and where.
pub fn compile(text: &str, references: &[(String, String)]) -> Result<Vec<u8>> {
    let mut resolver = ChainFileResolver::new();
    let mut texts = vec![(MAIN.to_string(), text.to_string())];
    texts.extend(references.iter().cloned());
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    match compiler.open_file(MAIN) {
        Ok(compiler) => Ok(compiler.encode_file_descriptor_set()),
        Err(error) => Err(Error::invalid("PROTOBUF_SCHEMA_INVALID", format!("the schema is no .proto text: {error}"))),
    }
}

/// The descriptors of a `FileDescriptorSet`.
///
/// # Errors
/// `CANNOT_PARSE_PROTOBUF_DESCRIPTOR`.
pub fn pool(bytes: &[u8]) -> Result<DescriptorPool> {
    DescriptorPool::decode(bytes).map_err(|error| {
        Error::invalid(
            "CANNOT_PARSE_PROTOBUF_DESCRIPTOR",
            format!(
                "the descriptors cannot be read: {error}: make them by protoc --include_imports \
                 --descriptor_set_out=FILE"
            ),
        )
    })
}

/// The schema's own file: the last one, which imports the others.
pub fn main_file(pool: &DescriptorPool) -> Option<FileDescriptor> {
    pool.files().last()
}

/// The message of this name, with or without its package. An empty name: the first of the schema's own file.
///
/// # Errors
/// `PROTOBUF_MESSAGE_NOT_FOUND` with the names there are.
pub fn message(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor> {
    if name.is_empty() {
        let first = main_file(pool).and_then(|file| file.messages().next());
        return first.ok_or_else(|| Error::invalid("PROTOBUF_MESSAGE_NOT_FOUND", "the descriptors hold no message"));
    }
    if let Some(found) = pool.get_message_by_name(name.trim_start_matches('.')) {
        return Ok(found);
    }
    let files: Vec<_> = pool.files().collect();
    let own = files.iter().rev().flat_map(|file| file.messages().collect::<Vec<_>>());
    let mut found = own.chain(pool.all_messages()).filter(|message| message.name() == name);
    found.next().ok_or_else(|| {
        let names: Vec<_> = main_file(pool)
            .map(|file| file.messages().map(|message| message.full_name().to_string()).collect())
            .unwrap_or_default();
        Error::invalid(
            "PROTOBUF_MESSAGE_NOT_FOUND",
            format!("unable to locate message {name} in the descriptors: there are {}", names.join(", ")),
        )
    })
}

/// How the wire format leads from a file to one of its messages.
pub fn indexes(message: &MessageDescriptor) -> Vec<usize> {
    let mut indexes = vec![];
    let mut current = message.clone();
    loop {
        let parent = current.parent_message();
        let position = match &parent {
            Some(parent) => parent.child_messages().position(|child| child == current),
            None => current.parent_file().messages().position(|own| own == current),
        };
        indexes.insert(0, position.unwrap_or_default());
        match parent {
            Some(parent) => current = parent,
            None => return indexes,
        }
    }
}

/// The message that indexes lead to.
pub fn message_at(file: &FileDescriptor, indexes: &[usize]) -> Option<MessageDescriptor> {
    let (first, rest) = indexes.split_first()?;
    let first = file.messages().nth(*first)?;
    rest.iter().try_fold(first, |message, index| message.child_messages().nth(*index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compiled() {
        let text = r#"syntax = "proto3"; package a.b;
            import "other.proto"; import "google/protobuf/timestamp.proto";
            message First { google.protobuf.Timestamp at = 1; x.Other other = 2; }
            message Second { message Inner { message Deep {} } Inner inner = 1; }"#;
        let other = r#"syntax = "proto3"; package x; message Other { string s = 1; }"#;
        let bytes = compile(text, &[("other.proto".into(), other.into())]).expect("compiles");
        let pool = pool(&bytes).expect("a set");
        assert_eq!(main_file(&pool).expect("a file").name(), MAIN);
        for (name, full, path) in [
            ("", "a.b.First", &[0][..]),
            ("Second", "a.b.Second", &[1]),
            ("a.b.Second.Inner.Deep", "a.b.Second.Inner.Deep", &[1, 0, 0]),
            ("Other", "x.Other", &[0]),
        ] {
            let found = message(&pool, name).expect(name);
            assert_eq!((found.full_name(), indexes(&found).as_slice()), (full, path));
            let at = message_at(&found.parent_file(), path).expect("a path");
            assert_eq!(at.full_name(), full);
        }
        let error = message(&pool, "Third").expect_err("no such message").to_string();
        assert!(error.contains("a.b.First, a.b.Second"), "{error}");
        let error = compile("syntax = \"proto3\"; message {", &[]).expect_err("no schema").to_string();
        assert!(error.starts_with("[PROTOBUF_SCHEMA_INVALID]"), "{error}");
        assert!(compile(text, &[]).expect_err("an import is missing").to_string().contains("other.proto"));
        assert!(super::pool(b"\xff").is_err());
    }
}
