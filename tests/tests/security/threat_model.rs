//! The threat model names tests; this one sees that they are there.

use std::path::Path;

#[test]
fn every_test_and_file_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let mut named = 0;
    // Between backquotes: `path/file.rs::function`, `path/file`.
    for word in
        page.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains([' ', '{']))
    {
        let (file, function) = word.split_once("::").map_or((word, None), |(file, f)| (file, Some(f)));
        if !file.contains('.') {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("there is no {file}"));
        if let Some(function) = function {
            assert!(text.contains(&format!("fn {function}(")), "{file} has no function {function}");
        }
        named += 1;
    }
    assert!(named > 25, "the page names its proofs: {named}");
}
