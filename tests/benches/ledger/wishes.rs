//! Names that are taken once, as a ledger would have it that does nothing else: many wish for one each, and one
//! writes for all of them.

use tokio::sync::{mpsc, oneshot};

use crate::{CLIENTS, Pace, pace};

/// A name, and who waits until it is on disk.
pub(crate) type Wish = (Vec<u8>, oneshot::Sender<()>);

/// A way to the one who writes.
pub(crate) fn channel() -> (mpsc::Sender<Wish>, mpsc::Receiver<Wish>) {
    mpsc::channel(CLIENTS)
}

/// Wishes for so many names.
pub(crate) async fn make(count: usize, wish: mpsc::Sender<Wish>) -> Pace {
    pace((0..count).map(name).collect(), move |name| {
        let wish = wish.clone();
        async move {
            let (done, written) = oneshot::channel();
            wish.send((name, done)).await.unwrap();
            written.await.unwrap();
        }
    })
    .await
}

/// Names of 32 bytes lie anywhere, as those of keys do.
fn name(number: usize) -> Vec<u8> {
    let spread = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread.to_be_bytes().repeat(4)
}
