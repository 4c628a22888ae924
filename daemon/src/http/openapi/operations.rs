//! The operations of a path.

use utoipa::openapi::path::{Operation, PathItem};

/// Returns the operations of a path, of the methods that the API uses.
pub(in crate::http) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}
