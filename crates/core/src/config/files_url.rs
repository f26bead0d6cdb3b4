//! Where files are kept: `FILES_URL`.

use std::path::PathBuf;

use form_urlencoded::parse as query_of;
use reqwest::Url;

use super::Setting;
use super::value::Value;

/// Where files are kept, as `FILES_URL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesUrl {
    /// A folder: `file:///var/lib/erp/files`.
    Folder(PathBuf),
    /// A bucket of S3, or of a store that speaks as S3 does.
    Bucket(Bucket),
}

/// A bucket: `s3://bucket/prefix?endpoint=https://s3.example.com&region=eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What the keys of all objects begin with; may be empty.
    pub prefix: String,
    /// Where another store than Amazon's is: scheme, host and port.
    pub endpoint: Option<String>,
    /// Its region. Default: `us-east-1`, which stores without regions take.
    pub region: String,
}

impl Bucket {
    /// Whether the store is reached over a network without TLS.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let endpoint = self.endpoint.as_deref().and_then(|endpoint| Url::parse(endpoint).ok());
        endpoint.is_some_and(|url| url.scheme() == "http" && !is_this_machine(&url))
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

impl Value for FilesUrl {
    const KIND: &'static str =
        "file:///absolute/path or s3://bucket/prefix?endpoint=https://host&region=name";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        if text.split(['/', '?']).any(|part| matches!(part, "." | "..")) {
            return None; // the parser would resolve them without a word
        }
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        match url.scheme() {
            "file" if plain && url.query().is_none() => folder(text, &url),
            "s3" if plain && url.port().is_none() => bucket(&url).map(Self::Bucket),
            _ => None,
        }
    }
}

/// Three slashes, so that nobody loses the first part of a path to a host.
fn folder(text: &str, url: &Url) -> Option<FilesUrl> {
    let absolute = text.get(..8)?.eq_ignore_ascii_case("file:///");
    let path = url.to_file_path().ok().filter(|path| absolute && path.parent().is_some())?;
    Some(FilesUrl::Folder(path))
}

fn bucket(url: &Url) -> Option<Bucket> {
    let name = url.host_str().filter(|name| is_bucket(name))?.to_owned();
    let prefix = url.path().trim_matches('/');
    let well_formed = prefix.split('/').all(|part| prefix.is_empty() || is_part(part));
    let mut bucket =
        Bucket { name, prefix: prefix.to_owned(), endpoint: None, region: "us-east-1".to_owned() };
    for (key, value) in query_of(url.query().unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "endpoint" => bucket.endpoint = Some(endpoint(&value)?),
            "region" if is_part(&value) => bucket.region = value.into_owned(),
            _ => return None,
        }
    }
    well_formed.then_some(bucket)
}

fn endpoint(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    let known = matches!(url.scheme(), "https" | "http") && url.has_host();
    (bare && known).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// As S3 names buckets, without the dots that no certificate covers.
fn is_bucket(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(fits)
}

fn is_part(part: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !part.is_empty() && part.len() <= 100 && part.bytes().all(fits) && !part.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<FilesUrl> {
        FilesUrl::parse(&Setting::named("FILES_URL"), text)
    }

    #[test]
    fn a_folder_is_an_absolute_path_and_a_bucket_has_a_name() {
        assert_eq!(read("file:///srv/files"), Some(FilesUrl::Folder("/srv/files".into())));
        assert_eq!(read("file:///srv/a%20b"), Some(FilesUrl::Folder("/srv/a b".into())));
        let Some(FilesUrl::Bucket(bucket)) =
            read("s3://erp-files/prod/one?endpoint=http://127.0.0.1:9000/&region=eu-central-1")
        else {
            panic!("a bucket")
        };
        assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), ("erp-files", "prod/one"));
        assert_eq!(bucket.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!((bucket.region.as_str(), bucket.is_in_the_clear()), ("eu-central-1", false));
        let Some(FilesUrl::Bucket(open)) = read("s3://erp-files?endpoint=http://store.example") else {
            panic!("a bucket")
        };
        assert!(open.is_in_the_clear());
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for wrong in [
            "",
            "files",
            "/srv/files",
            "file://srv/files",
            "file:///",
            "file:///srv?x=1",
            "s3://",
            "s3://a",
            "s3://key:secret@erp-files",
            "s3://erp-files:9000",
            "s3://Erp.Files",
            "s3://erp-files/../other",
            "s3://erp-files/a//b",
            "s3://erp-files?endpoint=ftp://host",
            "s3://erp-files?endpoint=https://user:secret@host",
            "s3://erp-files?endpoint=https://host/path",
            "s3://erp-files?secret_key=hunter2",
            "https://erp-files.s3.amazonaws.com",
            "gs://erp-files",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
