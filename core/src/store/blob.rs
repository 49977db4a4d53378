//! A blob that stays where its row has it. A document may be large: a copy of it is new pages of memory.

use bytes::Bytes;
use sqlx::{ColumnIndex, Decode, Row, Type};

struct Blob<R> {
    row: R,
    column: usize,
}

impl<R> AsRef<[u8]> for Blob<R>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    fn as_ref(&self) -> &[u8] {
        // It was read once before.
        self.row.try_get(self.column).unwrap_or_default()
    }
}

/// The bytes in a column. They keep the row.
///
/// # Errors
/// The column holds none.
pub(super) fn blob<R>(row: R, column: usize) -> Result<Bytes, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get::<&[u8], _>(column)?;
    Ok(Bytes::from_owner(Blob { row, column }))
}
