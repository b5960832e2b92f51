//! The numbers of inodes: derived from the bucket and what the node is, so the same in every mount.

use sha2::{Digest, Sha256};

/// Numbers below it are not made from names.
pub const FIRST: u64 = 16;

/// What a file is: its key, and the version that the ETag stands for.
pub(super) fn of_file(bucket: &str, key: &str, etag: &str) -> u64 {
    number(&[bucket, "file", key, etag])
}

/// Of the parts that tell a node from all others, the bucket first.
pub fn number(parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // 0 is no inode, 1 the root, and so on; the top bit stays clear for programs that take inode numbers for signed.
    (u64::from_le_bytes(first) >> 1).max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tools and reports remember stays true with every version of this program.
    #[test]
    fn numbers_never_change() {
        assert_eq!(of_file("archive", "prod/shareable/k", "e"), 6_097_457_556_930_120_975);
        assert_eq!(number(&["archive", "dir", "prod"]), 6_054_439_759_926_619_575);
        assert_ne!(of_file("archive", "a", "bc"), of_file("archive", "ab", "c"));
    }
}
