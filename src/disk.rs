//! Small files that a node keeps below its data directory, replaced whole (write aside, sync, rename; 0600). A trait, so
//! that a simulation can crash a node and keep its disk. What is in the files is left to who writes them.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Where files are kept. Calls block: they are made off the runtime's workers where a file is large.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// A file's content; none where there is no such file.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file whole: after a crash it is the old one or the new one.
    ///
    /// # Errors
    /// It could not be written; the old one stands.
    fn save(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// A file's content, where it is no longer than `most` bytes.
    ///
    /// # Errors
    /// It is there and cannot be read, or is longer.
    fn load_at_most(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.load(name)?.map_or(Ok(None), |content| fits(content, most))
    }

    /// Puts more at a file's end, making it where there is none. After a crash the last piece may be cut off.
    ///
    /// # Errors
    /// It could not be written, or not whole.
    fn append(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut whole = self.load(name)?.unwrap_or_default();
        whole.extend_from_slice(content);
        self.save(name, &whole)
    }
}

fn fits(content: Vec<u8>, most: u64) -> io::Result<Option<Vec<u8>>> {
    if content.len() as u64 <= most {
        return Ok(Some(content));
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")))
}

/// Keeps nothing: without a data directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Disk for Nowhere {
    fn load(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn save(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A directory.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Made when something is first saved.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Disk for Directory {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn load_at_most(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.0.join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut content = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut content)?;
        fits(content, most)
    }

    fn append(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(self.0.join(name))?;
        file.write_all(content)?;
        file.sync_data()
    }

    fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let (path, aside) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(aside, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::new(&dir.path().join("a"));
        assert_eq!(disk.load("x").unwrap(), None);
        disk.save("x", b"1").unwrap();
        disk.save("x", b"2").unwrap();
        assert_eq!(disk.load("x").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(Nowhere.load("x").unwrap(), None);
        disk.append("x", b"34").unwrap();
        disk.append("y", b"5").unwrap();
        assert_eq!(disk.load_at_most("x", 3).unwrap().as_deref(), Some(&b"234"[..]));
        assert_eq!(disk.load_at_most("x", 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(disk.load("y").unwrap().as_deref(), Some(&b"5"[..]));
        assert_eq!(disk.load_at_most("z", 2).unwrap(), None);
        use std::os::unix::fs::PermissionsExt as _;
        for name in ["x", "y"] {
            assert_eq!(fs::metadata(dir.path().join("a").join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
