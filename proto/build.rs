//! Compiles the .proto files with protox, a compiler in Rust, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=protos");
    let files = protox::compile(
        ["protos/engine/query.proto", "protos/engine/ingest.proto", "protos/spark/connect/base.proto"],
        ["protos"],
    )?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
