//! One object version as a file: its head, its scan, its size and what is known of its authenticity.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::head::{self, Head, SMALL};
use super::reads::{Awaited, Reads, Told};
use super::scan::Scan;
use super::{Listed, Shared, Sizes};
use crate::error::{Error, Kind, Result};
use crate::store::Waited;

pub struct LogFile {
    shared: Arc<Shared>,
    object: Arc<Listed>,
    /// The inner error is a verdict; a failure of the storage leaves the cell empty.
    head: OnceCell<Result<Arc<Head>>>,
    /// How the last attempt to fetch it failed, for those who waited.
    waited: Waited,
    /// The last answer was that the object is archived. Asked again each time: somebody may have restored it.
    archived: Mutex<Option<Error>>,
    scan: Mutex<Option<Arc<Scan>>>,
    /// Whether the cache folder has a proof was asked.
    recalled: OnceCell<()>,
    handles: AtomicU32,
    opening: Mutex<()>,
    /// Somebody follows the scan for the kernel's page cache.
    followed: tokio::sync::Mutex<()>,
    /// Bytes that the follower has given away.
    filled: AtomicU64,
    reads: Reads,
}

/// See [`LogFile::scan`].
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// What `stat` may say.
#[derive(Clone, Debug)]
pub enum Size {
    /// Bytes of text, from a whole pass over the object.
    Exact(u64),
    /// From the gzip trailer; it may be wrong, so nobody may keep it.
    Hint(u64),
    /// The file cannot be opened, for this reason.
    Unreadable(Error),
}

/// The `auth` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Unproven,
    Proven,
    Unauthenticated,
    Failed,
}

impl Auth {
    pub const ALL: [Auth; 4] = [Auth::Unproven, Auth::Proven, Auth::Unauthenticated, Auth::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Auth::Unproven => "unproven",
            Auth::Proven => "proven",
            Auth::Unauthenticated => "unauthenticated",
            Auth::Failed => "failed",
        }
    }
}

impl LogFile {
    pub(super) fn new(shared: Arc<Shared>, object: Listed) -> Arc<Self> {
        let (head, waited, archived, scan, recalled) = Default::default();
        let (handles, opening, followed, filled) = Default::default();
        Arc::new(LogFile {
            shared,
            object: Arc::new(object),
            head,
            waited,
            archived,
            scan,
            recalled,
            handles,
            opening,
            followed,
            filled,
            reads: Reads::new(),
        })
    }

    pub fn object(&self) -> &Listed {
        &self.object
    }

    /// The head, fetched once for all who ask; a failure is one for all who wait.
    pub async fn head(&self) -> Result<Arc<Head>> {
        let since = self.waited.begin();
        let fetch = || async {
            self.waited.check(since)?;
            match head::fetch(&self.shared, &self.object).await {
                Ok(head) => Ok(Ok(Arc::new(head))),
                Err(e) if e.kind().is_verdict() => Ok(Err(e)),
                Err(e) => {
                    self.waited.failed(&e);
                    Err(e)
                }
            }
        };
        let result = self.head.get_or_try_init(fetch).await;
        *self.archived.lock().unwrap_or_else(PoisonError::into_inner) =
            result.as_ref().err().filter(|e| e.kind() == Kind::Archived).cloned();
        result?.clone()
    }

    /// The head, if it is known.
    pub fn known_head(&self) -> Option<Result<Arc<Head>>> {
        self.head.get().cloned()
    }

    /// Checks that the file can be opened and starts its scan; [`LogFile::close`] must follow. `first` is called when the
    /// file is neither open nor proven: after sizes have stopped being hints, and before anybody's open returns.
    pub async fn open(&self, first: impl FnOnce()) -> Result<()> {
        self.scan_unless(Duration::ZERO).await?;
        if let Some(Err(e)) = self.outcome() {
            return Err(e);
        }
        let _others_wait = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.handles.fetch_add(1, Ordering::SeqCst) == 0 {
            let proven = self.proven_size().is_some();
            self.reads.begin(proven);
            if !proven {
                first();
            }
        }
        Ok(())
    }

    pub fn close(&self) {
        self.handles.fetch_sub(1, Ordering::SeqCst);
    }

    /// `len` bytes of text from `offset`, fewer only where the file ends.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let scan = self.scan().await?;
        match scan.read(offset, len).await {
            Err(_) if scan.is_lost() => self.scan().await?.read(offset, len).await,
            other => other,
        }
    }

    /// Says that `text` is going to be read, until what this returns is dropped: when the reader has it.
    pub fn awaits(&self, text: Range<u64>) -> Awaited {
        self.reads.awaits(text)
    }

    /// Whether any of it is being read.
    pub fn is_awaited(&self, text: &Range<u64>) -> bool {
        self.reads.is_awaited(text)
    }

    pub fn is_open(&self) -> bool {
        self.handles.load(Ordering::SeqCst) > 0
    }

    /// To be called before text is given to the kernel's page cache.
    pub fn count_filled(&self, bytes: usize) {
        self.filled.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// Bytes given to the page cache so far.
    pub fn filled(&self) -> u64 {
        self.filled.load(Ordering::SeqCst)
    }

    /// The place of the one follower, until it is dropped; None if there is one already.
    pub(super) fn follower(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.followed.try_lock().ok()
    }

    /// To be called with a read at `offset` that meets the end of the file, or begins behind it; what it returns is dropped
    /// when the reader has its answer. None, and at once, where no size was ever told that is too large.
    pub async fn at_end(&self, offset: u64) -> Option<Told> {
        let size = self.proven_size().filter(|size| self.overstated(*size))?;
        self.reads.at_end(offset, size).await
    }

    /// A hint told before the end was known was too large.
    pub(super) fn overstated(&self, size: u64) -> bool {
        matches!(self.head.get(), Some(Ok(head)) if head.size_hint.is_some_and(|hint| hint > size))
    }

    /// Says that reads go on behind `text`.
    pub async fn read_ahead(&self, text: Range<u64>) -> Result<()> {
        self.scan().await?.read_ahead(text);
        Ok(())
    }

    /// The size as `stat` may show it (DESIGN section 5). An error is a failure of the storage: nothing is invented. For
    /// a file that is open, damage is an error too: with size 0 its reader would see a clean end of file.
    pub async fn size(&self) -> Result<Size> {
        let head = match self.head().await {
            Ok(head) => head,
            Err(e) if e.kind().is_verdict() || e.kind() == Kind::Archived => return Ok(Size::Unreadable(e)),
            Err(e) => return Err(e),
        };
        self.recall(&head).await;
        let hint = head.size_hint.filter(|_| {
            self.shared.policy.sizes == Sizes::Hint
                && self.object.size > SMALL
                && !self.is_open()
                && self.outcome().is_none()
        });
        if let Some(hint) = hint {
            return Ok(Size::Hint(hint));
        }
        match self.scan().await?.size().await {
            Ok(size) => Ok(Size::Exact(size)),
            Err(e) if e.kind().is_verdict() && !self.is_open() => Ok(Size::Unreadable(e)),
            Err(e) => Err(e),
        }
    }

    /// The exact size, if a pass has ended well.
    pub fn proven_size(&self) -> Option<u64> {
        self.outcome()?.ok()
    }

    pub fn auth(&self) -> Auth {
        let authenticated = match self.head.get() {
            Some(Ok(head)) => head.authenticated,
            Some(Err(_)) => return Auth::Failed,
            None => return Auth::Unproven,
        };
        match self.outcome() {
            Some(Err(_)) => Auth::Failed,
            _ if !authenticated => Auth::Unauthenticated,
            Some(Ok(_)) => Auth::Proven,
            None => Auth::Unproven,
        }
    }

    /// Why the file cannot be read, if that is known.
    pub fn verdict(&self) -> Option<Error> {
        match self.head.get() {
            Some(Err(e)) => Some(e.clone()),
            Some(Ok(_)) => self.outcome()?.err(),
            None => self.archived.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// How the scan ended; a failure of the storage counts as not having run.
    fn outcome(&self) -> Option<Result<u64>> {
        let scan = self.scan.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        scan.done().filter(|done| done.as_ref().err().is_none_or(|e| e.kind().is_verdict()))
    }

    /// The scan, if there is one.
    pub(super) fn known_scan(&self) -> Option<Arc<Scan>> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up an earlier pass whose proof is in the cache folder.
    async fn recall(&self, head: &Arc<Head>) {
        let recall = || async {
            if let Some(scan) = Scan::recall(&self.shared, &self.object, head).await {
                *self.scan.lock().unwrap_or_else(PoisonError::into_inner) = Some(scan);
            }
        };
        self.recalled.get_or_init(recall).await;
    }

    /// The scan: running, or done; started if there is none, the last one failed for the storage's sake, or the proof that it
    /// was recalled from is gone.
    ///
    /// Such a failure is told again for a moment to those who have the file open: the kernel asks once more for a page
    /// whose read-ahead failed, and programs for a size that they could not get; they would wait for every deadline anew.
    pub(super) async fn scan(&self) -> Result<Arc<Scan>> {
        self.scan_unless(TOLD_AGAIN).await
    }

    async fn scan_unless(&self, told_again: Duration) -> Result<Arc<Scan>> {
        let head = self.head().await?;
        self.recall(&head).await;
        let mut current = self.scan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = current.as_ref() {
            match scan.broken() {
                None if !scan.is_lost() => return Ok(Arc::clone(scan)),
                Some(since) if self.is_open() && since < told_again => return Ok(Arc::clone(scan)),
                _ => {}
            }
        }
        let scan = Scan::start(&self.shared, &self.object, head)?;
        *current = Some(Arc::clone(&scan));
        Ok(scan)
    }
}
