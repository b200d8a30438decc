//! Whatever a process's control groups are called, the outermost container counts, and one that lies
//! where others than root make groups is never taken for one that root made.
#![no_main]

use claviger_attestors::cgroup::{Viewpoint, find};
use libfuzzer_sys::fuzz_target;

const ID: &str = "aff34703e5e1f89443e9a1bffcc80f43f74d4808a2dd22c8f88c08547b323934";

fuzz_target!(|text: &[u8]| {
    let nobody = Viewpoint::default();
    let found = find(text, &nobody);
    drop(find(text, &Viewpoint::parse(text)));
    let Ok(text) = str::from_utf8(text) else { return };
    if let Ok(Some(container)) = &found {
        assert_eq!(container.id.as_str().len(), 64);
        assert!(container.is_where(container));
        assert!(!(container.rooted && container.user.is_some()));
    }
    // What is made below changes nothing, unless there was no container to make it in.
    let Some(path) = text.strip_prefix("0::").filter(|path| !path.contains('\n')) else { return };
    let below = format!("0::{path}/pod2c48913c-b29f-11e7-9350-020968147796/{ID}");
    if let (Ok(Some(container)), Ok(Some(still))) = (&found, find(below.as_bytes(), &nobody)) {
        assert_eq!(container, &still);
    }
    // In the groups of a user, nothing is root's.
    let users = format!("0::/user.slice/user-7.slice/user@7.service{path}");
    if let Ok(Some(container)) = find(users.as_bytes(), &nobody) {
        assert!(!container.rooted && container.user == Some(7));
    }
});
