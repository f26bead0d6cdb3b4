//! Files that are built into the binary, under names that change with their content.
//!
//! A name such as `/assets/docs.0123456789abcdef.css` means the same bytes for ever, so a client that has fetched it never
//! asks again, and a new release never meets an old file. Pages refer to a file by [`Assets::url`].

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::lifecycle::{Exit, StartError};
use crate::shared::hex;

/// Where the files are, on this server and on the CDN before it.
pub(crate) const FOLDER: &str = "/assets/";
/// How many bytes of the hash are in a name: enough that no two versions of a file share one.
const HASH_BYTES: usize = 8;

/// Marks an answer whose body is of the process's own memory, however many take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident;

/// Marks an answer that lies packed, and keeps what it unpacks to once somebody has wanted it so.
#[derive(Clone, Default)]
pub(crate) struct Unpacked(Arc<OnceCell<Bytes>>);

impl Unpacked {
    /// What is kept, or else what `plain` makes of it.
    pub(crate) async fn get_or(&self, plain: impl Future<Output = Result<Bytes>>) -> Result<Bytes> {
        self.0.get_or_try_init(|| plain).await.cloned()
    }
}

/// A file that is built in: a row of [`crate::module::Module::assets`].
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its name as the author knows it, such as `docs.css`; unique in the product.
    pub name: &'static str,
    /// Its media type, with `charset=utf-8` for text.
    pub media_type: &'static str,
    /// `include_bytes!("docs.css")`.
    pub bytes: &'static [u8],
}

/// Every file of every module.
pub struct Assets {
    /// What stands before [`FOLDER`] in a page: nothing, or the CDN.
    base: String,
    files: Vec<AssetFile>,
}

/// A file with what follows from its content.
pub(crate) struct AssetFile {
    pub(crate) asset: Asset,
    pub(crate) etag: HeaderValue,
    /// With the base and the folder; the last part is the file's name on the wire.
    url: String,
}

impl Assets {
    /// The files under `/assets/`; pages refer to them below `base`, which is `ASSET_BASE_URL`.
    ///
    /// # Errors
    /// `Exit::Internal` when two files have one name.
    pub fn new(base: Option<&str>, assets: impl Iterator<Item = &'static Asset>) -> Result<Self, StartError> {
        let base = base.unwrap_or_default().trim_end_matches('/').to_owned();
        let mut files: Vec<AssetFile> = Vec::new();
        for asset in assets {
            if files.iter().any(|file| file.asset.name == asset.name) {
                let message = format!("Two assets have the name {}", asset.name);
                return Err(StartError::new(Exit::Internal, message));
            }
            files.push(AssetFile::new(&base, *asset));
        }
        Ok(Self { base, files })
    }

    /// What a page refers to the file as.
    ///
    /// # Errors
    /// `core.internal` when no module has such a file: a fault of the page.
    pub fn url(&self, name: &str) -> Result<&str> {
        let file = self.files.iter().find(|file| file.asset.name == name);
        file.map(|file| file.url.as_str()).ok_or_else(|| Error::internal(format!("no asset is named {name}")))
    }

    /// The file that has this name on the wire, hash and all.
    pub(crate) fn find(&self, hashed: &str) -> Option<&AssetFile> {
        let name = |file: &&AssetFile| file.url.get(self.base.len() + FOLDER.len()..) == Some(hashed);
        self.files.iter().find(name)
    }
}

impl AssetFile {
    fn new(base: &str, asset: Asset) -> Self {
        let digest = digest(&SHA256, asset.bytes);
        let hash = hex(&digest.as_ref()[..HASH_BYTES]);
        let url = match asset.name.rsplit_once('.') {
            Some((stem, extension)) => format!("{base}{FOLDER}{stem}.{hash}.{extension}"),
            None => format!("{base}{FOLDER}{}.{hash}", asset.name),
        };
        let etag = HeaderValue::try_from(format!("\"{hash}\""));
        Self { asset, etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")), url }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static STYLE: Asset = Asset { name: "a.css", media_type: "text/css; charset=utf-8", bytes: b"a {}" };
    static OTHER: Asset = Asset { name: "b", media_type: "text/plain", bytes: b"" };

    #[test]
    fn a_name_holds_the_hash_and_finds_the_file() {
        let assets = Assets::new(None, [&STYLE, &OTHER].into_iter()).unwrap();
        // sha256sum of "a {}" and of nothing.
        assert_eq!(assets.url("a.css").unwrap(), "/assets/a.9a4487ccbedf68e5.css");
        assert_eq!(assets.url("b").unwrap(), "/assets/b.e3b0c44298fc1c14");
        assert_eq!(assets.find("b.e3b0c44298fc1c14").unwrap().asset.name, "b");
        for wrong in ["", "b", "a.css", "a.9a4487ccbedf68e6.css", "/assets/b.e3b0c44298fc1c14"] {
            assert!(assets.find(wrong).is_none(), "{wrong}");
        }
        assert_eq!(assets.url("c").unwrap_err().code().status, 500);
    }

    #[test]
    fn pages_refer_to_the_cdn_and_the_server_answers_the_same_name() {
        for base in ["https://cdn.example/erp", "https://cdn.example/erp/"] {
            let assets = Assets::new(Some(base), [&OTHER].into_iter()).unwrap();
            assert_eq!(assets.url("b").unwrap(), "https://cdn.example/erp/assets/b.e3b0c44298fc1c14");
            assert!(assets.find("b.e3b0c44298fc1c14").is_some());
        }
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        assert!(Assets::new(None, [&OTHER, &OTHER].into_iter()).is_err());
    }
}
