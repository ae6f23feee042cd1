//! Where segments of the journal are kept: a local directory, or a bucket of an object store. Written once, each under a
//! number that only one writer can take.

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use common::journal::line::Header;
use common::journal::segment::{self, Fault, Head, Lines, Segment};
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode, PutOptions, PutPayload, RetryConfig,
};
use url::Url;

/// The folder of the segments below the journal's place.
const FOLDER: &str = "segments";

/// What a segment's name ends in, so that `zstdcat` and people know it.
const EXTENSION: &str = ".ndjson.zst";

/// Attempts of a bucket's client of its own before it says that something failed.
const BUCKET_RETRIES: usize = 2;

/// And for how long at most.
const BUCKET_RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// A place that no journal can be in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a directory, file:///…, s3://bucket/…, gs://bucket/… or az://container/…{}", .detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct InvalidPlace {
    detail: Option<String>,
}

/// Why segments could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The store did not do it; trying again may help.
    #[error("{place} cannot be read or written: {detail}")]
    Unavailable {
        /// The journal's place.
        place: String,
        /// What the store said.
        detail: String,
    },
    /// The store answers, and what it holds is damaged.
    #[error("the journal in {place} is damaged: {fault}")]
    Damaged {
        /// The journal's place.
        place: String,
        /// What was found.
        fault: Fault,
    },
}

/// What became of an attempt to write a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there, and will be after a crash.
    Now,
    /// A segment of this number was there before, of this or of another writer.
    Taken,
}

/// A segment in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// Its size in bytes, compressed.
    pub bytes: u64,
}

/// A folder of up to a thousand segments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folder(Path);

/// Where a journal is.
#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Bucket(Url, Arc<OnceLock<Opened>>),
}

/// A store, and where in it the journal is.
type Opened = (Arc<dyn ObjectStore>, Path);

/// The segments of one journal.
#[derive(Clone, Debug)]
pub struct JournalStore {
    place: Place,
}

impl JournalStore {
    /// The journal at `url`: a directory, or one of the URLs that [`InvalidPlace`] names. Nothing is opened yet.
    ///
    /// # Errors
    /// [`InvalidPlace`].
    pub fn at(url: &str) -> Result<JournalStore, InvalidPlace> {
        let invalid = |detail: &str| InvalidPlace { detail: Some(detail.to_owned()) };
        let place = match url.split_once("://") {
            _ if url.is_empty() => return Err(InvalidPlace { detail: None }),
            None => Place::Directory(PathBuf::from(url)),
            Some(("file", _)) => {
                let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
                Place::Directory(parsed.to_file_path().map_err(|()| invalid("not a path of this machine"))?)
            }
            Some(("s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss", _)) => {
                let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
                if parsed.password().is_some() || parsed.query().is_some() {
                    return Err(invalid("no credentials in the URL: they are taken from the environment"));
                }
                if parsed.host_str().is_none_or(str::is_empty) {
                    return Err(invalid("no bucket is named"));
                }
                Place::Bucket(parsed, Arc::default())
            }
            Some(_) => return Err(InvalidPlace { detail: None }),
        };
        Ok(JournalStore { place })
    }

    /// The journal's place, as people know it.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Directory(path) => path.display().to_string(),
            Place::Bucket(url, _) => url.to_string(),
        }
    }

    fn unavailable(&self, error: impl std::fmt::Display) -> JournalError {
        JournalError::Unavailable { place: self.place(), detail: error.to_string() }
    }

    /// The store behind it. A directory is looked at each time, as it may be mounted at any time; the client of a bucket
    /// keeps its connections.
    fn open(&self) -> Result<Opened, JournalError> {
        match &self.place {
            Place::Directory(path) => {
                create_durably(path).map_err(|error| self.unavailable(error))?;
                // The file and the directories above it are flushed before a segment counts as written.
                let store =
                    LocalFileSystem::new_with_prefix(path).map_err(|error| self.unavailable(error))?;
                Ok((Arc::new(store.with_fsync(true)), Path::default()))
            }
            Place::Bucket(url, opened) => {
                if let Some(opened) = opened.get() {
                    return Ok(opened.clone());
                }
                let bucket = bucket(url).map_err(|error| self.unavailable(error))?;
                Ok(opened.get_or_init(|| bucket).clone())
            }
        }
    }

    /// The store, to read what is there: makes nothing.
    fn open_to_read(&self) -> Result<Opened, JournalError> {
        match &self.place {
            Place::Directory(path) if !path.is_dir() => Err(self.unavailable("no such directory")),
            _ => self.open(),
        }
    }

    /// All segments, by number.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn list(&self) -> Result<Vec<Listed>, JournalError> {
        let (store, prefix) = self.open_to_read()?;
        self.list_in(&*store, prefix.join(FOLDER)).await
    }

    async fn list_in(&self, store: &dyn ObjectStore, folder: Path) -> Result<Vec<Listed>, JournalError> {
        let mut listed: Vec<Listed> = store
            .list(Some(&folder))
            .try_filter_map(async |object| {
                let number = object.location.filename().and_then(number_of);
                Ok(number.map(|number| Listed { number, bytes: object.size }))
            })
            .try_collect()
            .await
            .map_err(|error| self.unavailable(error))?;
        listed.sort_by_key(|segment| segment.number);
        Ok(listed)
    }

    /// The folders that segments are in, by their numbers: whoever wants the first or the last segments need not list
    /// all. For the settler: makes the directory where there is none.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn folders(&self) -> Result<Vec<Folder>, JournalError> {
        let (store, prefix) = self.open()?;
        let found = store.list_with_delimiter(Some(&prefix.join(FOLDER))).await;
        let found = found.map_err(|error| self.unavailable(error))?;
        let mut folders: Vec<Folder> = found.common_prefixes.into_iter().map(Folder).collect();
        folders.sort();
        Ok(folders)
    }

    /// The segments of a folder, by number.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn list_folder(&self, folder: &Folder) -> Result<Vec<Listed>, JournalError> {
        let (store, _) = self.open()?;
        self.list_in(&*store, folder.0.clone()).await
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`], also if it is not there.
    pub async fn get(&self, number: u64) -> Result<Bytes, JournalError> {
        let (store, prefix) = self.open_to_read()?;
        let object = store.get(&path_of(&prefix, number)).await.map_err(|error| self.unavailable(error))?;
        object.bytes().await.map_err(|error| self.unavailable(error))
    }

    /// The header of a segment.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn header(&self, number: u64) -> Result<Header, JournalError> {
        let bytes = self.get(number).await?;
        let header = Lines::new(number, &bytes).and_then(|mut lines| lines.header());
        header.map(|(header, _)| header).map_err(|fault| self.damaged(fault))
    }

    fn damaged(&self, fault: Fault) -> JournalError {
        JournalError::Damaged { place: self.place(), fault }
    }

    /// The last segment, read and checked; `None` if there is none. Makes the directory where there is none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last(&self) -> Result<Option<Segment>, JournalError> {
        for folder in self.folders().await?.iter().rev() {
            if let Some(last) = self.list_folder(folder).await?.pop() {
                let bytes = self.get(last.number).await?;
                let read = segment::read(last.number, &bytes, |_, _, _| ());
                return read.map(Some).map_err(|fault| self.damaged(fault));
            }
        }
        Ok(None)
    }

    /// Writes a segment under its number, if no other has it. Once this returns [`Written::Now`] the segment survives
    /// the loss of power.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`]: it may have been written. Writing it again is safe.
    pub async fn write(&self, head: &Head, bytes: Vec<u8>) -> Result<Written, JournalError> {
        let (store, prefix) = self.open()?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = path_of(&prefix, head.number);
        match store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Written::Now),
            // A store that answers late to the first attempt of two says it too.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Written::Taken)
            }
            Err(error) => Err(self.unavailable(error)),
        }
    }

    /// Removes a segment that is past its time.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn delete(&self, number: u64) -> Result<(), JournalError> {
        let (store, prefix) = self.open_to_read()?;
        store.delete(&path_of(&prefix, number)).await.map_err(|error| self.unavailable(error))
    }
}

/// Numbers have twenty digits, so that the order of names is theirs; a thousand segments share a folder, named by what
/// their numbers begin with.
fn path_of(prefix: &Path, number: u64) -> Path {
    let thousands = format!("{:017}", number / 1_000);
    prefix.clone().join(FOLDER).join(thousands).join(format!("{number:020}{EXTENSION}"))
}

/// The number in a segment's name; `None` for whatever else lies there.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The client of a bucket, with credentials from the environment.
fn bucket(url: &Url) -> object_store::Result<Opened> {
    // The settler tries for ever: what fails is to be known soon.
    let retry = RetryConfig {
        max_retries: BUCKET_RETRIES,
        retry_timeout: BUCKET_RETRY_TIMEOUT,
        ..RetryConfig::default()
    };
    let (scheme, prefix) = ObjectStoreScheme::parse(url)?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            Arc::new(AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry).build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry).build()?)
        }
        _ => Arc::new(MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry).build()?),
    };
    Ok((store, prefix))
}

/// Makes a directory that is still there after the loss of power.
fn create_durably(path: &FilePath) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    for made in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        std::fs::File::open(made)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &tempfile::TempDir) -> JournalStore {
        JournalStore::at(&dir.path().join("a/journal").display().to_string()).expect("a directory")
    }

    fn head(number: u64) -> Head {
        Head { number, ..Head::NONE }
    }

    #[tokio::test]
    async fn a_number_is_taken_once() {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let store = store(&dir);
        assert!(store.list().await.is_err(), "looking makes nothing");
        assert_eq!(store.last().await, Ok(None));
        assert_eq!(store.list().await, Ok(Vec::new()));
        assert_eq!(store.write(&head(10), b"ten".to_vec()).await, Ok(Written::Now));
        assert_eq!(store.write(&head(10), b"other".to_vec()).await, Ok(Written::Taken));
        assert_eq!(store.get(10).await.expect("there").as_ref(), b"ten");
        assert_eq!(store.write(&head(9), b"nine".to_vec()).await, Ok(Written::Now));
        assert_eq!(store.write(&head(12_345), b"more".to_vec()).await, Ok(Written::Now));
        std::fs::write(dir.path().join("a/journal/segments/notes.txt"), "x").expect("writable");
        let numbers: Vec<u64> =
            store.list().await.expect("there").iter().map(|listed| listed.number).collect();
        assert_eq!(numbers, [9, 10, 12_345]);
        let folders = store.folders().await.expect("there");
        assert_eq!(folders.len(), 2);
        assert_eq!(store.list_folder(&folders[0]).await.expect("there").len(), 2);
        assert!(
            matches!(store.last().await, Err(JournalError::Damaged { fault, .. }) if fault.segment == 12_345)
        );
        store.delete(12_345).await.expect("there");
        assert!(
            matches!(store.last().await, Err(JournalError::Damaged { .. })),
            "of a folder that is empty the one before"
        );
        store.delete(10).await.expect("there");
        assert_eq!(store.list().await.expect("there").len(), 1);
    }

    #[test]
    fn places_are_directories_and_buckets() {
        for url in
            ["journal", "/var/lib/journal", "file:///var/lib/journal", "s3://b/p", "gs://b", "az://c/p"]
        {
            assert!(JournalStore::at(url).is_ok(), "{url}");
        }
        for url in ["", "memory:///", "memory://", "http://h/p", "s3://", "s3://a:b@bucket", "s3://b/p?sig=x"]
        {
            assert!(JournalStore::at(url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_sort_as_their_numbers() {
        let path = path_of(&Path::from("a/b"), 7);
        assert_eq!(path.as_ref(), "a/b/segments/00000000000000000/00000000000000000007.ndjson.zst");
        assert_eq!(path.filename().and_then(number_of), Some(7));
        assert_eq!(number_of("7.ndjson.zst"), None);
        assert_eq!(number_of("0000000000000000000x.ndjson.zst"), None);
    }
}
