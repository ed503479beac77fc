//! The checked-in generated code is what the schema gives.

use std::path::Path;

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = root.join("schema");
    let descriptors = protox::compile([schema.join("tern.proto")], [&schema]).expect("the schema compiles");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut config = prost_build::Config::new();
    // What is rare and large makes no other frame larger.
    config.bytes(["."]).boxed(".tern.v1.ServerFrame.message.group").out_dir(out);
    config.compile_fds(descriptors).expect("code is generated");
    std::fs::read_to_string(out.join("tern.v1.rs")).expect("the generator wrote its file")
}

#[test]
fn generated_code_is_current() {
    let generated = generate();
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated.rs");
    if std::env::var_os("TERN_REGENERATE").is_some() {
        std::fs::write(&checked_in, &generated).expect("src/generated.rs can be written");
    }
    let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        current == generated,
        "src/generated.rs is not what schema/tern.proto gives: run `TERN_REGENERATE=1 cargo test -p tern-proto`"
    );
}
