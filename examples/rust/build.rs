//! Generates the client from the descriptors of the contract. Needs no protoc.

use prost::Message;

const PROTOSET: &str = "../../generated/taskwell.protoset";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTOSET}");
    let descriptors = prost_types::FileDescriptorSet::decode(&*std::fs::read(PROTOSET)?)?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
