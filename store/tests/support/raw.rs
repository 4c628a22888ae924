//! Changes rows without the store's knowledge.

use redb::{Database, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
/// Changes the rows of one table without the store's knowledge.
pub(crate) type Edit = fn(&Path, &str, &mut dyn FnMut(&mut Rows));

pub(crate) fn edit<const N: usize>(path: &Path, name: &str, change: &mut dyn FnMut(&mut Rows)) {
    let table: TableDefinition<'_, &[u8; N], &[u8]> = TableDefinition::new(name);
    let db = Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut table = txn.open_table(table).unwrap();
        let row = |row: Result<(redb::AccessGuard<'_, &[u8; N]>, _), _>| {
            let (key, value): (_, redb::AccessGuard<'_, &[u8]>) = row.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        };
        let before: Rows = table.iter().unwrap().map(row).collect();
        let mut after = before.clone();
        change(&mut after);
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            let key: &[u8; N] = key.as_slice().try_into().unwrap();
            table.remove(key).unwrap().unwrap();
        }
        for (key, value) in &after {
            if before.get(key) != Some(value) {
                let key: &[u8; N] = key.as_slice().try_into().unwrap();
                table.insert(key, value.as_slice()).unwrap();
            }
        }
    }
    txn.commit().unwrap();
}
