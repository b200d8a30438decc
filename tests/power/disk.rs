//! A disk, a file system and a kernel that has promised no more than it had to.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::path::Path;

use super::content::{Content, PAGE, SECTOR, pieces};
use super::dice::Dice;
use super::recording::{Deed, Operation, Recording};

/// When a name is durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Names {
    /// When its directory was synced.
    Strict,
    /// When anything was synced after it was made; what is not durable yet becomes so in its order.
    Journaled,
}

/// What a cut leaves of what was not durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Nothing,
    /// The first so many things.
    Prefix,
    /// Any of them, torn at the borders of pages, sometimes of sectors.
    Subset,
    /// As after a kill.
    All,
}

/// A file or directory; numbers of the file system are given again.
type Node = usize;

/// The root of the tree.
const ROOT: Node = 0;

/// In which directory which name means what.
type Entry = (Node, String, Option<Node>);

/// What is not durable yet.
enum Pending {
    Data { node: Node, offset: usize, data: Range<usize> },
    Length { node: Node, length: usize },
    Entries(Vec<Entry>),
}

/// The names and contents there are.
#[derive(Clone, Default)]
struct Tree {
    directories: HashMap<Node, BTreeMap<String, Node>>,
    files: HashMap<Node, Content>,
}

pub(crate) struct Disk<'a> {
    recording: &'a Recording,
    names: Names,
    durable: Tree,
    /// The directories as the processes see them.
    seen: Tree,
    pending: Vec<(usize, Pending)>,
    nodes: HashMap<u64, Node>,
    made: usize,
    /// When a thread began the sync that it is in.
    syncs: HashMap<u32, usize>,
    time: usize,
}

impl<'a> Disk<'a> {
    pub(crate) fn new(recording: &'a Recording, names: Names) -> Self {
        let mut tree = Tree::default();
        tree.directories.insert(ROOT, BTreeMap::new());
        Self {
            recording,
            names,
            durable: tree.clone(),
            seen: tree,
            pending: Vec::new(),
            nodes: HashMap::new(),
            made: ROOT,
            syncs: HashMap::new(),
            time: 0,
        }
    }

    /// How many things are not durable.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn apply(&mut self, operation: &Operation) {
        self.time += 1;
        let node = self.nodes.get(&operation.inode).copied();
        match &operation.deed {
            Deed::Root => {
                self.nodes.insert(operation.inode, ROOT);
            }
            Deed::Create { path } => {
                let node = self.make(operation.inode);
                self.durable.files.insert(node, Content::default());
                self.name(path, Some(node));
            }
            Deed::Open { path } => self.found(path, node),
            Deed::MakeDirectory { path } => {
                let node = self.make(operation.inode);
                self.durable.directories.insert(node, BTreeMap::new());
                self.seen.directories.insert(node, BTreeMap::new());
                self.name(path, Some(node));
            }
            Deed::Link { path } => self.name(path, node),
            Deed::Remove { path } => self.name(path, None),
            Deed::Rename { from, to } => {
                let node = self.find(from).expect("what is renamed exists");
                let entries = [self.entry(from, None), self.entry(to, Some(node))];
                self.enter(entries.to_vec());
            }
            Deed::Write { offset, data } => {
                let (node, offset) = (node.unwrap(), usize::try_from(*offset).unwrap());
                self.pend(Pending::Data { node, offset, data: data.clone() });
            }
            Deed::Truncate { length } => {
                let (node, length) = (node.unwrap(), usize::try_from(*length).unwrap());
                self.pend(Pending::Length { node, length });
            }
            Deed::SyncBegins => {
                self.syncs.insert(operation.thread, self.time);
            }
            Deed::SyncEnds => {
                let began = self.syncs.remove(&operation.thread).expect("it began");
                self.sync(node.unwrap(), began);
            }
            Deed::Promised(_) => {}
        }
    }

    /// What is called `path` is `node`. If it was called otherwise, it was renamed since, and nobody has
    /// noticed when.
    fn found(&mut self, path: &str, node: Option<Node>) {
        if self.find(path) == node {
            return;
        }
        let is = |(_, found): &(&String, &Node)| Some(**found) == node;
        let mut all = self.seen.directories.iter();
        let known = all.find_map(|(at, names)| Some((*at, names.iter().find(is)?.0.clone())));
        let (directory, name) = known.unwrap_or_else(|| panic!("{path} came from nowhere"));
        let entries = vec![(directory, name, None), self.entry(path, node)];
        self.enter(entries);
    }

    fn make(&mut self, inode: u64) -> Node {
        self.made += 1;
        self.nodes.insert(inode, self.made);
        self.made
    }

    fn pend(&mut self, what: Pending) {
        self.pending.push((self.time, what));
    }

    fn split<'p>(&self, path: &'p str) -> (Node, &'p str) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.find(parent).expect("its directory exists"), name)
    }

    fn find(&self, path: &str) -> Option<Node> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |at, name| self.seen.directories.get(&at)?.get(name).copied())
    }

    fn entry(&self, path: &str, node: Option<Node>) -> Entry {
        let (directory, name) = self.split(path);
        (directory, name.to_owned(), node)
    }

    fn name(&mut self, path: &str, node: Option<Node>) {
        let entry = self.entry(path, node);
        self.enter(vec![entry]);
    }

    fn enter(&mut self, entries: Vec<Entry>) {
        self.seen.enter(&entries);
        self.pend(Pending::Entries(entries));
    }

    /// Makes durable what had been done to `node` when a sync of it `began`.
    fn sync(&mut self, node: Node, began: usize) {
        let names = self.names;
        let covered = |(time, what): &(usize, Pending)| {
            *time < began
                && match what {
                    Pending::Data { node: of, .. } | Pending::Length { node: of, .. } => {
                        *of == node
                    }
                    Pending::Entries(entries) => {
                        names == Names::Journaled || entries.iter().any(|(at, ..)| *at == node)
                    }
                }
        };
        let (done, rest): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(covered);
        self.pending = rest;
        for (_, what) in done {
            self.durable.apply(&what, self.recording);
        }
    }

    /// Stores in `directory` what a cut leaves.
    pub(crate) fn cut(&self, fate: Fate, dice: &mut Dice, directory: &Path) {
        let mut left = self.durable.clone();
        let all = self.pending.iter().map(|(_, what)| what);
        match fate {
            Fate::Nothing => {}
            Fate::All => all.for_each(|what| left.apply(what, self.recording)),
            Fate::Prefix => {
                let some = dice.below(self.pending.len() + 1);
                all.take(some).for_each(|what| left.apply(what, self.recording));
            }
            Fate::Subset => self.subset(&mut left, dice),
        }
        left.store(ROOT, directory);
    }

    fn subset(&self, left: &mut Tree, dice: &mut Dice) {
        let chance = *dice.one(&[10, 50, 90]);
        // With a journal, no name is durable before an earlier one is.
        let mut names_go_on = true;
        for (_, what) in &self.pending {
            match what {
                Pending::Entries(_) => {
                    let happens = dice.is(chance) && names_go_on;
                    names_go_on &= happens || self.names == Names::Strict;
                    if happens {
                        left.apply(what, self.recording);
                    }
                }
                Pending::Length { .. } => {
                    if dice.is(chance) {
                        left.apply(what, self.recording);
                    }
                }
                Pending::Data { node, offset, data } => {
                    let (file, data) = (left.file(*node), self.recording.data(data));
                    let size = if dice.is(20) { SECTOR } else { PAGE };
                    for (at, piece) in pieces(*offset, data, size) {
                        if dice.is(chance) {
                            file.write(at, piece);
                        }
                    }
                    if dice.is(chance) {
                        file.lengthen(offset + data.len());
                    }
                }
            }
        }
    }

    /// Whether the files in `directory` are what was recorded.
    pub(crate) fn is_as_seen(&self, directory: &Path) {
        let mut all = self.durable.clone();
        self.pending.iter().for_each(|(_, what)| all.apply(what, self.recording));
        all.compare(ROOT, directory);
    }
}

impl Tree {
    fn enter(&mut self, entries: &[Entry]) {
        for (directory, name, node) in entries {
            let names = self.directories.get_mut(directory).unwrap();
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
    }

    fn file(&mut self, node: Node) -> &mut Content {
        self.files.get_mut(&node).expect("it is a file")
    }

    fn apply(&mut self, what: &Pending, recording: &Recording) {
        match what {
            Pending::Data { node, offset, data } => {
                self.file(*node).write(*offset, recording.data(data));
            }
            Pending::Length { node, length } => self.file(*node).truncate(*length),
            Pending::Entries(entries) => self.enter(entries),
        }
    }

    fn store(&self, from: Node, directory: &Path) {
        fs::create_dir(directory).unwrap();
        for (name, node) in &self.directories[&from] {
            let path = directory.join(name);
            match self.files.get(node) {
                Some(file) => file.store(&path),
                None => self.store(*node, &path),
            }
        }
    }

    fn compare(&self, from: Node, directory: &Path) {
        let mut found = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let node = self.directories[&from].get(name);
            let node = node.unwrap_or_else(|| panic!("{} was not recorded", path.display()));
            match self.files.get(node) {
                Some(file) => {
                    let same = file.bytes() == fs::read(&path).unwrap();
                    assert!(same, "{} is not as recorded", path.display());
                }
                None => self.compare(*node, &path),
            }
            found += 1;
        }
        assert_eq!(found, self.directories[&from].len(), "in {}", directory.display());
    }
}
