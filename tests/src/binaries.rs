//! Where the built programs are.

use std::path::PathBuf;

use cli::stack::process::Binary;

/// The programs of this build, as a stack takes them: the one binary `millrace`.
///
/// # Panics
/// It is not built; the message says how to build it.
pub fn millrace() -> Binary {
    Binary::Millrace(path("millrace"))
}

/// The stand-alone programs `issuer`, `relayer` and `settler` of this build.
///
/// # Panics
/// One is not built; the message says how to build it.
pub fn each() -> Binary {
    for name in ["issuer", "relayer", "settler"] {
        path(name);
    }
    Binary::EachIn(dir())
}

/// The program `name` of this build.
///
/// # Panics
/// It is not built; the message says how to build it.
pub fn path(name: &str) -> PathBuf {
    let path = dir().join(name);
    assert!(path.is_file(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

/// `$MILLRACE_BIN_DIR`, else the directory of this profile: a test runs as `target/<profile>/deps/<test>`.
fn dir() -> PathBuf {
    if let Some(named) = std::env::var_os("MILLRACE_BIN_DIR") {
        return PathBuf::from(named);
    }
    let test = std::env::current_exe().expect("the system knows where a running test was started from");
    let above = test.ancestors().nth(2).expect("a test lies two levels below the profile's directory");
    above.to_owned()
}
