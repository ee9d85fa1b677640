//! Writes of any length, cut into transactions that every store takes.

use super::{Compare, MAX_TXN_OPS, Op, Store, StoreError, Txn, TxnOutcome};

/// About how many bytes go into one transaction: far below etcd's bound, so that one batch delays no lease renewal for long.
const BATCH_BYTES: usize = 512 << 10;

/// Writes `ops` in order, each batch in a transaction of its own under all of `guards`.
///
/// A batch is all or nothing, the whole is not: the first refused batch ends it, and those before it stay written. The
/// guards must therefore hold on keys that `ops` do not change (a leader's fence does). No key may appear twice.
/// Without operations the guards alone are asked for.
///
/// # Errors
/// As `Store::txn`; batches before the failed one stay written.
pub async fn write_batches(store: &dyn Store, ops: Vec<Op>, guards: &[Compare]) -> Result<TxnOutcome, StoreError> {
    let mut batches = split(ops).into_iter();
    let mut outcome = send(store, batches.next().unwrap_or_default(), guards).await?;
    for batch in batches {
        if matches!(outcome, TxnOutcome::Refused { .. }) {
            break;
        }
        outcome = send(store, batch, guards).await?;
    }
    Ok(outcome)
}

async fn send(store: &dyn Store, ops: Vec<Op>, guards: &[Compare]) -> Result<TxnOutcome, StoreError> {
    store.txn(Txn { compares: guards.to_vec(), ops }).await
}

fn split(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut batches: Vec<Vec<Op>> = Vec::new();
    let mut bytes = 0_usize;
    for op in ops {
        bytes = bytes.saturating_add(op.bytes());
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_TXN_OPS && bytes <= BATCH_BYTES => batch.push(op),
            _ => {
                bytes = op.bytes();
                batches.push(vec![op]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_keep_order_and_both_bounds(sizes in prop::collection::vec(0_usize..200_000, 0..400)) {
            let ops: Vec<_> = sizes.iter().enumerate()
                .map(|(i, n)| Op::Put { key: format!("k{i}"), value: Bytes::from(vec![0; *n]), lease: None })
                .collect();
            let batches = split(ops.clone());
            for batch in &batches {
                prop_assert!(!batch.is_empty() && batch.len() <= MAX_TXN_OPS);
                prop_assert!(batch.len() == 1 || batch.iter().map(Op::bytes).sum::<usize>() <= BATCH_BYTES);
            }
            prop_assert_eq!(batches.concat(), ops);
        }
    }
}
