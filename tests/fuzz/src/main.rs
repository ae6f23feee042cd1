//! libFuzzer's entry: one program for all targets, so that there is one build. `MILLRACE_FUZZ_TARGET` says which runs.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Check> = LazyLock::new(|| {
    let name = std::env::var("MILLRACE_FUZZ_TARGET").expect("MILLRACE_FUZZ_TARGET names a target");
    fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
