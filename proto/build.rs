//! Compiles the .proto files with protox, a compiler in Rust, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=protos");
    let ours = protox::compile(["protos/engine/query.proto", "protos/engine/ingest.proto"], ["protos"])?;
    tonic_prost_build::configure().compile_fds(ours)?;
    let sparks = protox::compile(["protos/spark/connect/base.proto"], ["protos"])?;
    let mut config = tonic_prost_build::Config::new();
    config.prost_path("crate::deep");
    tonic_prost_build::configure().compile_fds_with_config(sparks, config)?;
    Ok(())
}
