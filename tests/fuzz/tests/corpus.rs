//! Every fuzz target over the kept corpus and over seeded mutations of it, in every run of the tests: what libFuzzer
//! has found once stays found, and a target cannot rot between two runs of `tests/fuzz.sh`.

use std::path::{Path, PathBuf};

use fuzz::{TARGETS, seeds};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Mutations of each target.
const MUTATIONS: usize = 4_000;

/// More bytes than this no kept file may have, and no mutation.
const LEN_MAX: usize = 8_192;

/// More files than this are no help to a minute of fuzzing.
const FILES_MAX: usize = 100;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept corpus of a target, in the order of the files' names.
fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = corpus(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a readable file");
            (path, bytes)
        })
        .collect()
}

/// One to four changes of the kinds that libFuzzer makes too.
fn mutate(rng: &mut SmallRng, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let pick = |rng: &mut SmallRng| inputs[rng.random_range(0..inputs.len())].1.clone();
    let mut bytes = pick(rng);
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.insert(at, *b"{}[]\":,0919-\n\\\0\xff".get(rng.random_range(0..16)).unwrap_or(&0)),
            3 => bytes.truncate(at),
            4 => {
                let end = rng.random_range(at..=bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let other = pick(rng);
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(LEN_MAX);
    }
    bytes
}

#[test]
fn nothing_that_was_kept_breaks_a_decoder() {
    for (target, check) in TARGETS {
        for (path, bytes) in kept(target) {
            assert!(bytes.len() <= LEN_MAX, "{}: {} bytes", path.display(), bytes.len());
            // A panic names the decoder's line; the name of the file is in the output above it.
            eprintln!("{}", path.display());
            check(&bytes);
        }
    }
}

#[test]
fn no_mutation_of_what_was_kept_breaks_a_decoder() {
    for (target, check) in TARGETS {
        let inputs = kept(target);
        for seed in 0..MUTATIONS {
            let mut rng = SmallRng::seed_from_u64(u64::try_from(seed).expect("a small number"));
            let bytes = mutate(&mut rng, &inputs);
            let held = std::panic::catch_unwind(|| check(&bytes));
            assert!(held.is_ok(), "{target}, seed {seed}: {}", bytes.escape_ascii());
        }
    }
}

#[test]
fn every_target_keeps_its_seeds_and_not_too_much_besides() {
    for (target, _) in TARGETS {
        let dir = corpus(target);
        let seeds = seeds::of(target);
        assert!(seeds.len() >= 8, "{target} has {} seeds", seeds.len());
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(&dir).expect("a writable tree");
            for (i, seed) in seeds.iter().enumerate() {
                std::fs::write(dir.join(format!("seed-{i:02}")), seed).expect("a writable tree");
            }
        }
        let kept = kept(target);
        for (i, seed) in seeds.iter().enumerate() {
            let name = format!("seed-{i:02}");
            let found = kept.iter().find(|(path, _)| path.ends_with(&name)).map(|(_, bytes)| bytes);
            assert_eq!(found, Some(seed), "{target}/{name}: run UPDATE_CORPUS=1 cargo test -p fuzz");
        }
        assert!(kept.len() <= FILES_MAX, "{target} keeps {} files", kept.len());
    }
}

#[test]
fn every_folder_of_the_corpus_is_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<String> = std::fs::read_dir(root)
        .expect("a corpus")
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
}
