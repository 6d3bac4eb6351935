//! The port to the files of a node.
//!
//! Reads and appends are synchronous and land in the page cache. Durability is asynchronous: [`Disk::sync`] and
//! [`Disk::replace`] return a [`Ticket`], and the driver later hands `Input::Synced` with it to the node. What must be
//! durable before something else happens waits inside the core.
//!
//! Paths are relative to the host's root, `/`-separated, without a leading slash: `data/purchases-0/00….log`.

#[cfg(any(test, feature = "testing"))]
pub mod mem;

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::Rope;

/// An open file of this process. Ids are the disk's, and end with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A durability request under way: comes back in `Input::Synced`, exactly once, unless the process dies first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why a file operation failed. After a failed write or sync the log directory goes offline, as Kafka's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DiskError {
    /// No such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// It exists already (rename onto a directory, mkdir of a file).
    #[error("file exists")]
    Exists,
    /// No space is left on the device.
    #[error("no space left on device")]
    Full,
    /// The medium failed to read or write.
    #[error("input/output error")]
    Io,
    /// A read reaches beyond the end of the file.
    #[error("unexpected end of file")]
    Eof,
}

/// The files of one host, as one process sees them.
pub trait Disk {
    /// Opens a file for reading and appending; creates it when `create` is set and it is missing.
    fn open(&mut self, path: &str, create: bool) -> Result<FileId, DiskError>;

    /// Closes an open file. Says nothing of durability.
    fn close(&mut self, file: FileId);

    /// Makes a directory and its missing parents; one that exists is no error.
    fn mkdir(&mut self, path: &str) -> Result<(), DiskError>;

    /// The names in a directory, sorted by bytes.
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError>;

    /// Renames a file or a directory; an existing file at `to` is replaced. Open files stay open.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file, or a directory with all that is in it.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;

    /// The length of an open file, in bytes.
    fn len(&mut self, file: FileId) -> Result<u64, DiskError>;

    /// Appends `len` bytes from `offset` to `out`, sharing the cached chunks. [`DiskError::Eof`] if the file is shorter.
    fn read(&mut self, file: FileId, offset: u64, len: usize, out: &mut Rope) -> Result<(), DiskError>;

    /// Copies `out.len()` bytes from `offset`: for headers and other small things. [`DiskError::Eof`] as above.
    fn read_at(&mut self, file: FileId, offset: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Appends all pieces at the end of the file; on an error none or a part of them was written.
    fn append(&mut self, file: FileId, pieces: &[Bytes]) -> Result<(), DiskError>;

    /// Cuts an open file to `len` bytes.
    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError>;

    /// Replaces a whole small file: temporary file, fsync, rename, fsync of the directory, as one operation.
    ///
    /// Reads see the new content at once; it is durable when the ticket comes back.
    fn replace(&mut self, path: &str, content: Bytes) -> Ticket;

    /// Flushes an open file.
    fn sync(&mut self, file: FileId) -> Ticket;

    /// Flushes a directory: the names in it.
    fn sync_dir(&mut self, path: &str) -> Ticket;

    /// The whole content of a small file.
    fn read_file(&mut self, path: &str) -> Result<Bytes, DiskError> {
        let file = self.open(path, false)?;
        let len = self.len(file)?;
        let mut rope = Rope::new();
        let result = self.read(file, 0, len as usize, &mut rope);
        self.close(file);
        result.map(|()| rope.to_bytes())
    }

    /// Whether a file or directory is there.
    fn exists(&mut self, path: &str) -> bool;
}
