//! A server's data at one moment, to which it can be put back: what a restored backup is.

use std::path::Path;

use tempfile::TempDir;

use super::Redis;

/// The append-only file as it was.
#[derive(Debug)]
pub struct Snapshot {
    dir: TempDir,
}

const DATA: &str = "appendonlydir";

impl Snapshot {
    /// Of a server's directory. What was answered is in the file, though perhaps not on disk.
    pub(super) fn of(dir: &Path) -> Snapshot {
        let copy = tempfile::tempdir().expect("the directory for temporary files is writable");
        copy_files(&dir.join(DATA), &copy.path().join(DATA));
        Snapshot { dir: copy }
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a writable directory");
    for entry in std::fs::read_dir(from).expect("a server with an append-only file") {
        let entry = entry.expect("a readable entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("room for a copy");
    }
}

impl Redis {
    /// What the server holds now. Of the process tier only.
    ///
    /// # Panics
    /// The server is in another tier, or its files cannot be read.
    pub fn snapshot(&mut self) -> Snapshot {
        Snapshot::of(self.server.process().dir())
    }

    /// Kills the server, puts its data back to what it was, and starts it again at the same address.
    ///
    /// # Panics
    /// It does not come back.
    pub async fn restore(&mut self, snapshot: &Snapshot) {
        let dir = self.server.process().dir().join(DATA);
        self.kill().await;
        std::fs::remove_dir_all(&dir).expect("the server's own directory");
        copy_files(&snapshot.dir.path().join(DATA), &dir);
        self.restart().await;
    }
}
