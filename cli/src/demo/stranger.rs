//! A program that nobody registered, though it runs as the same user.

use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::failure::Failure;

/// It asks, and gets nothing.
pub(super) async fn refuse(stage: &mut Stage, stranger: &mut Program) -> Result<(), Failure> {
    let act = async {
        match stranger.order(&Order::Fetch).await? {
            Report::Refused(why) => {
                Ok(((), format!("a stranger of the same user asked who it is: refused ({why})")))
            }
            report => Err(stranger.unexpected("a refusal", &report)),
        }
    };
    stage.step("a stranger is refused an identity", act).await
}
