//! Paths as they are found on real nodes, and paths that somebody made up to be taken for another.

use super::*;

const A: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
const B: &str = "aff34703e5e1f89443e9a1bffcc80f43f74d4808a2dd22c8f88c08547b323934";
const POD: &str = "2c48913c-b29f-11e7-9350-020968147796";
const POD_: &str = "2c48913c_b29f_11e7_9350_020968147796";
const OTHER_POD: &str = "daa5c7ee-3484-4533-af39-3591564fd03e";

/// Writes ids for their names: `A`, `B`, `POD`, `POD_`, `OTHER` between braces.
fn spell(path: &str) -> String {
    [("{A}", A), ("{B}", B), ("{POD}", POD), ("{POD_}", POD_), ("{OTHER}", OTHER_POD)]
        .iter()
        .fold(path.to_owned(), |path, (name, id)| path.replace(name, id))
}

fn found(lines: &str) -> Option<Container> {
    find(spell(lines).as_bytes(), &Viewpoint::default()).unwrap()
}

/// What is found on one path of version 2.
fn on(path: &str) -> Option<Container> {
    found(&format!("0::{path}\n"))
}

#[test]
fn pods_of_every_runtime_are_known() {
    use Runtime::{Containerd, CriO, Docker, Unnamed};

    for (path, runtime) in [
        // The kubelet's cgroupfs driver.
        ("/kubepods/burstable/pod{POD}/{A}", Unnamed),
        ("/kubepods/besteffort/pod{POD}/{A}", Unnamed),
        ("/kubepods/pod{POD}/{A}", Unnamed),
        ("/kubepods/burstable/pod{POD}/crio-{A}", CriO),
        // Its systemd driver.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/\
             cri-containerd-{A}.scope",
            Containerd,
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/\
             docker-{A}.scope",
            Docker,
        ),
        ("/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope", CriO),
        ("/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope/container", CriO),
        // A kubelet with a root of its own, as kind's and as of newer kubeadm.
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod{POD_}.slice/cri-containerd-{A}.scope",
            Containerd,
        ),
        ("/kubelet/kubepods/burstable/pod{POD}/{A}", Unnamed),
        // A runtime that does not speak with systemd under a kubelet that does.
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{A}",
            Containerd,
        ),
        ("/kubepods-besteffort-pod{POD_}.slice:cri-containerd:{A}", Containerd),
        // Seen from a container of another quality of service, and of the same.
        (
            "/../../../kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/\
             cri-containerd-{A}.scope",
            Containerd,
        ),
        ("/../../kubepods-besteffort-pod{POD_}.slice/cri-containerd-{A}.scope", Containerd),
        ("/../../pod{POD}/{A}", Unnamed),
        ("/../../../burstable/pod{POD}/{A}", Unnamed),
    ] {
        let container = on(path).unwrap();
        assert_eq!(container.id.as_str(), A, "{path}");
        assert_eq!(container.pod.as_ref().map(PodUid::as_str), Some(POD), "{path}");
        assert_eq!((container.runtime, container.user), (runtime, None), "{path}");
        assert!(container.rooted, "{path}");
    }
}

#[test]
fn a_pod_made_from_a_file_has_a_short_uid() {
    let uid = "0123456789abcdef0123456789abcdef";
    for path in [
        format!("/kubepods/burstable/pod{uid}/{A}"),
        format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{A}.scope"),
    ] {
        assert_eq!(on(&path).unwrap().pod, PodUid::parse(uid), "{path}");
    }
}

#[test]
fn containers_without_a_pod_are_known() {
    use Runtime::{Containerd, CriO, Docker, Podman, Unnamed};

    for (path, runtime, user, rooted) in [
        ("/docker/{A}", Unnamed, None, true),
        ("/system.slice/docker-{A}.scope", Docker, None, true),
        ("/system.slice/docker-{A}.scope/init.scope", Docker, None, true),
        ("/system.slice:docker:{A}", Docker, None, true),
        ("/machine.slice/libpod-{A}.scope", Podman, None, true),
        ("/machine.slice/libpod-{A}.scope/container", Podman, None, true),
        ("/libpod_parent/libpod-{A}", Podman, None, false),
        ("/system.slice/web.service/libpod-payload-{A}", Podman, None, false),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            Podman,
            Some(1_000),
            false,
        ),
        (
            "/user.slice/user-7.slice/user@7.service/app.slice/x.service/libpod-payload-{A}",
            Podman,
            Some(7),
            false,
        ),
        ("/system.slice/nerdctl-{A}.scope", Containerd, None, true),
        ("/default/{A}", Unnamed, None, false),
        ("/ecs/0d1b3d3a/{A}", Unnamed, None, false),
        ("/crio-{A}.scope", CriO, None, true),
        // Beside the agent, in its own pod; and in another user's place.
        ("/../cri-containerd-{A}.scope", Containerd, None, true),
        ("/../{A}", Unnamed, None, true),
        ("/../../../user-8.slice/user@8.service/libpod-{A}.scope", Podman, Some(8), false),
    ] {
        let container = on(path).unwrap();
        assert_eq!(container.id.as_str(), A, "{path}");
        assert_eq!(container.pod, None, "{path}");
        assert_eq!((container.runtime, container.user), (runtime, user), "{path}");
        assert_eq!(container.rooted, rooted, "{path}");
        assert_eq!(container.beside_us, path.starts_with("/.."), "{path}");
    }
}

#[test]
fn what_is_no_container_is_none() {
    for path in [
        "/",
        "",
        "/init.scope",
        "/system.slice/sshd.service",
        "/user.slice/user-1000.slice/session-3.scope",
        "/kubepods/burstable/pod{POD}",
        "/kubepods.slice/kubepods-pod{POD_}.slice",
        // What watches a container, and is none.
        "/kubepods.slice/kubepods-pod{POD_}.slice/crio-conmon-{A}.scope",
        "/machine.slice/libpod-conmon-{A}.scope",
        "/kubepods/burstable/pod{POD}/crio-conmon-{A}",
        // Garden's ids are no ids of ours.
        "/garden/70eb4a80-1a0b-4bbc-5ea8-f0d0b9f1e2d3",
        // Almost an id.
        "/docker/{A}0",
        "/docker/9BCA8D63D5FA610783847915BCFF0ECAC1273E5B4BED3F6FA1B07350E0135961",
        "/docker/{A}.scope",
        "/docker/x{A}",
        "/system.slice/docker-{A}.service",
        "/system.slice/evil-{A}.scope",
        "/docker-{A}.scope (deleted)",
        // Not as the kernel writes paths.
        "docker/{A}",
        "/docker/../{A}",
        "/docker//{A}",
        "/docker/./{A}",
        "/../docker/../{A}",
    ] {
        assert_eq!(on(path), None, "{path}");
    }
    assert_eq!(on(&format!("{}/{{A}}", "/x".repeat(64))), None);
    for line in ["", "0", "0:", "x::/docker/{A}", "::/docker/{A}", "-1::/docker/{A}"] {
        assert_eq!(found(line), None, "{line}");
    }
    assert_eq!(
        find(&[b"0::/docker/\xff/", A.as_bytes()].concat(), &Viewpoint::default()),
        Ok(None)
    );
}

/// Whoever has control groups of their own can name what is below them as they like.
#[test]
fn what_a_process_makes_below_itself_deceives_nobody() {
    let own = on("/kubepods/burstable/pod{POD}/{A}").unwrap();
    for below in [
        "/{B}",
        "/kubepods/burstable/pod{OTHER}/{B}",
        "/pod{OTHER}/{B}",
        "/docker-{B}.scope",
        "/kubepods.slice/kubepods-pod{OTHER}.slice/cri-containerd-{B}.scope",
        "/user.slice/user-0.slice/libpod-{B}.scope",
    ] {
        let path = format!("/kubepods/burstable/pod{{POD}}/{{A}}{below}");
        assert_eq!(on(&path).unwrap(), own, "{path}");
    }
}

/// Where others than root make groups, nothing is a pod's.
#[test]
fn what_a_user_makes_is_not_roots() {
    let pod = "kubepods/burstable/pod{POD}/{A}";
    let slice = "kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope";
    for place in [
        "/user.slice/user-1000.slice/user@1000.service",
        "/user.slice/user-1000.slice/user@1000.service/system.slice/containerd.service",
        "/user.slice/user-1000.slice/session-1.scope",
        "/user.slice",
        "/system.slice/web.service",
        "/system.slice/run-r3f.scope",
        "/user/joe/0",
        "/lxc.payload.box",
        "/../../../user.slice/user-1000.slice/user@1000.service",
        "/machine.slice/libpod-conmon-{B}.scope",
        "/init.scope",
    ] {
        for below in [pod, slice] {
            let path = format!("{place}/{below}");
            assert!(!on(&path).unwrap().rooted, "{path}");
        }
    }
}

/// A name within a user's own groups does not make them another's.
#[test]
fn nobody_takes_the_place_of_another_user() {
    for (path, user) in [
        ("/user.slice/user-1.slice/user@1.service/user-2.slice/libpod-{A}.scope", Some(1)),
        ("/user.slice/user-1.slice/user.slice/user-2.slice/libpod-{A}.scope", Some(1)),
        ("/system.slice/web.service/user-2.slice/libpod-{A}.scope", None),
        ("/system.slice/web.service/user.slice/user-2.slice/libpod-{A}.scope", None),
        ("/x.slice/user-2.slice/libpod-{A}.scope", None),
        ("/user.slice/x/user-2.slice/libpod-{A}.scope", None),
        ("/user.slice/user-2x.slice/libpod-{A}.scope", None),
    ] {
        let container = on(path).unwrap();
        assert_eq!((container.user, container.rooted), (user, false), "{path}");
    }
}

#[test]
fn hierarchies_must_agree() {
    let lines = "12:pids:/kubepods/burstable/pod{POD}/{A}\n4:cpu,cpuacct:/\nnonsense\n\
                 1:name=systemd:/kubepods/burstable/pod{POD}/{A}\n0::/system.slice/kubelet.service\n";
    let container = found(lines).unwrap();
    assert_eq!((container.id.as_str(), container.rooted), (A, true));
    assert_eq!(container.places.keys().copied().collect::<Vec<_>>(), [1, 12]);

    let refused = |lines: &str| find(spell(lines).as_bytes(), &Viewpoint::default()).unwrap_err();
    let [a, b] = [A, B].map(|id| ContainerId::parse(id).unwrap());
    assert_eq!(refused("2:x:/docker/{A}\n1:y:/docker/{B}\n"), Ambiguous::Containers(a, b));
    let pods = "2:x:/kubepods/pod{POD}/{A}\n1:y:/kubepods/pod{OTHER}/{A}\n";
    let [one, other] = [POD, OTHER_POD].map(|uid| PodUid::parse(uid).unwrap());
    assert_eq!(refused(pods), Ambiguous::Pods(one, other));
    let users = "2:x:/user.slice/user-1.slice/libpod-{A}\n1:y:/libpod-{A}\n";
    assert_eq!(refused(users), Ambiguous::Users);

    // One hierarchy in which somebody else makes groups spoils all.
    let one_open = "2:x:/kubepods/pod{POD}/{A}\n1:y:/user/joe/0/kubepods/pod{POD}/{A}\n";
    assert!(!found(one_open).unwrap().rooted);
}

/// As in kind: the node is a container of Docker's, and the agent runs in it.
#[test]
fn a_container_that_holds_the_agent_is_looked_into() {
    let agent = Viewpoint::parse(
        spell("2:x:/docker/{B}/kubepods/besteffort/pod{OTHER}/{B}\n0::/docker/{B}/x.service\n")
            .as_bytes(),
    );
    let see = |lines: &str| find(spell(lines).as_bytes(), &agent).unwrap().unwrap();
    let inside =
        see("2:x:/docker/{B}/kubelet/kubepods/besteffort/pod{POD}/{A}\n0::/docker/{B}/y.service\n");
    assert_eq!((inside.id.as_str(), inside.rooted), (A, true));
    assert_eq!(inside.pod.as_ref().map(PodUid::as_str), Some(POD));
    // Beside the agent in the node, and in no pod.
    assert_eq!(see("2:x:/docker/{B}/y.service\n").id.as_str(), B);
    // In the agent's own container.
    let own = see("2:x:/docker/{B}/kubepods/besteffort/pod{OTHER}/{B}\n0::/docker/{B}/x.service\n");
    assert_eq!(own.pod.as_ref().map(PodUid::as_str), Some(OTHER_POD));
    // For another agent, the node is a container like any other.
    let node = found("2:x:/docker/{B}/kubelet/kubepods/besteffort/pod{POD}/{A}\n").unwrap();
    assert_eq!((node.id.as_str(), node.pod), (B, None));
    // A node's users do not make pods, either.
    let users = see("2:x:/docker/{B}/user.slice/user-1.slice/kubepods/pod{POD}/{A}\n");
    assert_eq!((users.rooted, users.user), (false, Some(1)));
}

#[test]
fn the_same_name_elsewhere_is_another_container() {
    let main = found("2:x:/docker/{A}\n1:y:/docker/{A}\n0::/docker/{A}\n").unwrap();
    assert!(found("2:x:/docker/{A}/sub\n1:y:/docker/{A}\n").unwrap().is_where(&main));
    for elsewhere in ["2:x:/docker/x/{A}\n", "2:x:/docker/{A}\n1:y:/x/{A}\n", "5:z:/docker/{A}\n"] {
        assert!(!found(elsewhere).unwrap().is_where(&main), "{elsewhere}");
    }
    assert!(!on("/docker/{B}").unwrap().is_where(&main));
}

#[test]
fn we_are_somewhere() {
    let text = read(&ProcDir::own().unwrap()).unwrap();
    let viewpoint = Viewpoint::own().unwrap();
    assert_eq!(viewpoint, Viewpoint::parse(&text));
    // Whoever is in our container is not told apart from us by what holds us both.
    let ours = find(&text, &viewpoint).unwrap();
    assert!(ours.is_none_or(|ours| ours.is_where(&ours)));
}
