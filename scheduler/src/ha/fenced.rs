//! An object store that writes only while a [`Tenure`] lasts. Reading is everybody's.

use super::tenure::Tenure;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_proto::error::Error;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Fenced {
    store: Arc<dyn ObjectStore>,
    tenure: Tenure,
}

impl Fenced {
    /// Writes to `store` for as long as `tenure` lasts.
    pub fn over(store: Arc<dyn ObjectStore>, tenure: Tenure) -> Arc<dyn ObjectStore> {
        match tenure.claim() {
            Some(_) => Arc::new(Self { store, tenure }),
            None => store,
        }
    }

    async fn guard<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        self.tenure.guard(async { write.await.map_err(Refused::Store) }).await.map_err(Refused::into_store)
    }
}

/// Why a write did not come about.
enum Refused {
    Tenure(Error),
    Store(object_store::Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Tenure(error)
    }
}

impl Refused {
    fn into_store(self) -> object_store::Error {
        match self {
            Self::Tenure(error) => unconfirmed(error),
            Self::Store(error) => error,
        }
    }
}

fn unconfirmed(error: Error) -> object_store::Error {
    object_store::Error::Generic { store: "headwater", source: Box::new(error) }
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Fenced {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.guard(self.store.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.guard(self.store.put_multipart_opts(location, options)).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let tenure = self.tenure.clone();
        let guarded = locations.then(move |location| {
            let tenure = tenure.clone();
            async move {
                tenure.confirm().await.map_err(unconfirmed)?;
                location
            }
        });
        self.store.delete_stream(guarded.boxed())
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.guard(self.store.copy_opts(from, to, options)).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.guard(self.store.rename_opts(from, to, options)).await
    }
}
