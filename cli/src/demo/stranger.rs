//! A program that nobody registered, though it runs as the same user.

use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::failure::Failure;

/// It asks, and gets nothing.
pub(super) async fn refuse(stage: &mut Stage, stranger: &mut Program) -> Result<(), Failure> {
    let act = async {
        let report = stranger.order(&Order::Fetch).await?;
        let Report::Refused(why) = &report else {
            return Err(stranger.unexpected("a refusal", &report));
        };
        Ok(((), format!("a stranger of the same user asked who it is: refused ({why})")))
    };
    stage.step("a stranger is refused an identity", act).await
}
