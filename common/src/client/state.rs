//! What a payer keeps of one channel between payments, in a file: whoever reads it can pay, and whoever loses it cannot.
//!
//! One JSON object: `channel_id`, `terms` (as they were sent to the issuer), `seed` (base58 of 32 bytes, from which the
//! chain or tree grows), and `shown`: the highest amount whose proof may have left this machine. It is raised on disk
//! before a proof is sent, so that no crash makes the payer forget what the payee may hold; a higher amount than that can
//! only be a lie, or the seed has got about.
//!
//! One program at a time holds a file: the lock is on whatever file has the name, and each new version is locked before
//! it takes the name over.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ClientError, Purse};
use crate::amount::Amount;
use crate::channel::Terms;
use crate::ids::{ChannelId, Hash};

/// What the file holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The channel.
    pub channel_id: ChannelId,
    /// What it was opened with, or is to be.
    pub terms: Terms,
    /// What the chain or tree grows from. Whoever knows it can pay everything.
    pub seed: Hash,
    /// The highest amount whose proof may have been shown to anyone.
    pub shown: Amount,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed pays.
        f.debug_struct("State")
            .field("channel_id", &self.channel_id)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// Why a state file cannot be used. Never carries the seed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, read or written.
    #[error("state file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another program pays with it at this moment.
    #[error("state file {path}: another program is paying with it")]
    InUse {
        /// The file.
        path: String,
    },
    /// It holds something else.
    #[error("state file {path} does not have the documented form: {detail}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Its channel was opened with another seed, or in a scheme without one.
    #[error("state file {path}: {source}")]
    Client {
        /// The file.
        path: String,
        /// What does not fit.
        source: ClientError,
    },
}

/// A state file, held by this program alone.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: State,
    /// Keeps the lock.
    held: File,
}

impl StateFile {
    /// Writes a new file that only its owner can read, with nothing shown yet. Is on disk when this returns.
    ///
    /// # Errors
    /// [`StateError::Io`], also if there is such a file already: it is money, and is never replaced.
    pub fn create(path: &Path, terms: Terms, seed: Hash) -> Result<StateFile, StateError> {
        let state = State { channel_id: terms.id(), terms, seed, shown: Amount::ZERO };
        let io = |source| StateError::Io { path: path.display().to_string(), source };
        let held = create_whole(path, &state).map_err(io)?;
        Ok(StateFile { path: path.to_owned(), state, held })
    }

    /// Reads a file, with the purse that grows from it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<(StateFile, Purse), StateError> {
        let name = || path.display().to_string();
        let mut held = hold(path)?;
        let mut text = Vec::new();
        held.read_to_end(&mut text).map_err(|source| StateError::Io { path: name(), source })?;
        let unreadable = |detail: String| StateError::Unreadable { path: name(), detail };
        // In its own words the reader may quote the seed.
        let state: State = serde_json::from_slice(&text).map_err(|error| {
            unreadable(format!("{:?} at line {}, column {}", error.classify(), error.line(), error.column()))
        })?;
        if state.terms.id() != state.channel_id {
            return Err(unreadable("channel_id is not that of the terms".to_owned()));
        }
        let purse = Purse::of(state.terms.scheme, state.seed)
            .map_err(|source| StateError::Client { path: name(), source })?;
        Ok((StateFile { path: path.to_owned(), state, held }, purse))
    }

    /// What it holds.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Notes that the proof of `amount` may be shown from here on. Is on disk when this returns.
    ///
    /// # Errors
    /// [`StateError::Io`]: then the proof must not be shown.
    pub fn raise(&mut self, amount: Amount) -> Result<(), StateError> {
        if amount <= self.state.shown {
            return Ok(());
        }
        let state = State { shown: amount, ..self.state.clone() };
        self.held = self
            .replace(&state)
            .map_err(|source| StateError::Io { path: self.path.display().to_string(), source })?;
        self.state = state;
        Ok(())
    }

    /// Puts a new version in the place of the file: at each moment the name stands for a whole one.
    fn replace(&self, state: &State) -> io::Result<File> {
        let next = beside(&self.path, ".new");
        // Left by a crash before it took over the name: nothing that it notes was shown.
        remove_if_there(&next)?;
        let held = write_new(&next, state)?;
        std::fs::rename(&next, &self.path)?;
        sync_folder(&self.path)?;
        Ok(held)
    }
}

/// Makes a file that is whole once it has its name, which must be free.
fn create_whole(path: &Path, state: &State) -> io::Result<File> {
    // Not the name of anyone else who makes this file at the same time: one seed must not end up in the other's file.
    let whole = beside(path, &format!(".new-{}", std::process::id()));
    remove_if_there(&whole)?;
    let held = write_new(&whole, state)?;
    let linked = std::fs::hard_link(&whole, path);
    std::fs::remove_file(&whole)?;
    linked?;
    sync_folder(path)?;
    Ok(held)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file that does not exist yet, locked, and has it on disk.
fn write_new(path: &Path, state: &State) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.try_lock()?;
    let mut text = serde_json::to_vec_pretty(state)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(file)
}

/// Has the name of a file on disk too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens and locks the file of this name.
fn hold(path: &Path) -> Result<File, StateError> {
    let name = || path.display().to_string();
    let io = |source| StateError::Io { path: name(), source };
    loop {
        let file = File::open(path).map_err(io)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => StateError::InUse { path: name() },
            std::fs::TryLockError::Error(source) => io(source),
        })?;
        // Between the two a new version may have taken over the name, and the lock would be on what nobody reads.
        if same_file(&file, path).map_err(io)? {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (held, named) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
}

#[cfg(not(unix))]
fn same_file(_: &File, _: &Path) -> io::Result<bool> {
    // A file that someone has open cannot be replaced there.
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("millrace-state-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("the directory for temporary files is writable");
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("channel.state")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn terms(purse: &Purse) -> Terms {
        Terms { capacity: Amount::new(100), scheme: purse.scheme(), ..crate::testing::terms(7) }
    }

    fn purse() -> Purse {
        Purse::payword(Hash([9; 32]), Amount::new(5), 20).expect("a chain")
    }

    #[test]
    fn what_was_shown_is_there_after_the_program_is_not() {
        let folder = Folder::new("raise");
        let mut file = StateFile::create(&folder.file(), terms(&purse()), Hash([9; 32])).expect("a new file");
        for (raise, shown) in [(10, 10), (5, 10), (35, 35)] {
            file.raise(Amount::new(raise)).expect("written");
            assert_eq!(file.state().shown, Amount::new(shown));
        }
        // What a crash in the middle of the next version would leave.
        std::fs::write(folder.0.join("channel.state.new"), "{\"chan").expect("written");
        drop(file);
        let (mut file, grown) = StateFile::open(&folder.file()).expect("there");
        assert_eq!((file.state().shown, grown.scheme()), (Amount::new(35), purse().scheme()));
        file.raise(Amount::new(40)).expect("a crash before does not stand in the way");
    }

    #[test]
    fn a_state_file_is_its_owners_alone_and_is_never_replaced() {
        let folder = Folder::new("own");
        let mut file = StateFile::create(&folder.file(), terms(&purse()), Hash([9; 32])).expect("a new file");
        file.raise(Amount::new(5)).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.file()).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(file);
        let before = std::fs::read(folder.file()).expect("there");
        let again = StateFile::create(&folder.file(), terms(&purse()), Hash([8; 32]));
        assert!(matches!(again, Err(StateError::Io { .. })), "{again:?}");
        assert_eq!(std::fs::read(folder.file()).expect("there"), before);
    }

    #[test]
    fn one_program_at_a_time_holds_a_file_whatever_version_of_it() {
        let folder = Folder::new("hold");
        let mut file = StateFile::create(&folder.file(), terms(&purse()), Hash([9; 32])).expect("a new file");
        let in_use = || matches!(StateFile::open(&folder.file()), Err(StateError::InUse { .. }));
        assert!(in_use());
        file.raise(Amount::new(5)).expect("written");
        assert!(in_use(), "the next version is held too");
        drop(file);
        StateFile::open(&folder.file()).expect("nobody holds it");
    }

    #[test]
    fn files_that_do_not_fit_together_are_refused_without_a_word_of_their_seed() {
        let folder = Folder::new("spoil");
        let create = || StateFile::create(&folder.file(), terms(&purse()), Hash([9; 32])).expect("new");
        let text = { std::fs::read_to_string(create().path).expect("there") };
        let seed = Hash([9; 32]).to_string();
        let spoiled = [
            text.replace(&seed, &Hash([8; 32]).to_string()),
            text.replace("\"capacity\": \"100\"", "\"capacity\": \"101\""),
            text.replace(&seed, &format!("{seed}0")),
            text.replace("\"shown\"", "\"known\""),
            text.replace("\"shown\": \"0\"", "\"shown\": 0"),
        ];
        for spoiled in spoiled {
            assert_ne!(spoiled, text, "something was spoiled");
            std::fs::write(folder.file(), &spoiled).expect("written");
            let error = StateFile::open(&folder.file()).expect_err("spoiled");
            assert!(!format!("{error} {error:?}").contains(&seed), "{error}");
        }
        std::fs::write(folder.file(), &text).expect("written");
        let (file, _) = StateFile::open(&folder.file()).expect("as it was");
        assert!(!format!("{file:?}").contains(&seed));
    }
}
