//! Whether the machine's clock can be believed.

use claviger_runtime::settings::Section;

use crate::clock::{Date, Trust};

/// The table `[clock]`.
pub(super) fn read(section: &mut Section<'_>) -> Trust {
    let trusted = section.value::<bool>("trusted").unwrap_or(true);
    let floor = section.value::<Date>("not-before").map(|date| date.0);
    match (trusted, floor) {
        (false, Some(floor)) => Trust::Floor(floor),
        (false, None) => {
            let advice = "needs `not-before`, too: say when the image was built";
            section.problem("trusted", &trusted, advice);
            Trust::Clock
        }
        (true, Some(_)) => {
            let advice = "means nothing with a clock that is believed; set `trusted = false`";
            section.problem("not-before", &"set", advice);
            Trust::Clock
        }
        (true, None) => Trust::Clock,
    }
}
