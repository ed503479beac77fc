//! The names on a simulated medium: as those see them who look now, and as a power cut would leave them.
//!
//! What is done in a directory is durable when the directory has been synced since. Until then each operation is kept or
//! lost for itself, or, as a file system with a journal has it, those from one on are lost. A change of a name takes it from
//! one place and gives it in the other at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::faults::{Dice, Fault};

/// What has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Directory,
    /// A file's content, by number.
    File(u64),
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

/// One operation in a directory: which names then stand for what.
#[derive(Debug)]
struct Change {
    directory: PathBuf,
    names: Vec<(PathBuf, Option<Node>)>,
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Directory) } else { self.live.get(path).copied() }
    }

    /// What lies in a directory.
    pub(super) fn within(&self, directory: &Path) -> Vec<PathBuf> {
        let below = self.live.range(directory.to_owned()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(directory));
        below.filter(|path| path.parent() == Some(directory)).cloned().collect()
    }

    /// What lies in a directory, and in those in it; those within first.
    pub(super) fn all_within(&self, directory: &Path) -> Vec<PathBuf> {
        let below = self.live.range(directory.to_owned()..).map(|(path, _)| path);
        let mut below: Vec<_> = below.take_while(|path| path.starts_with(directory)).cloned().collect();
        below.reverse();
        below
    }

    /// All files with the numbers of their contents.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.live.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path.as_path(), *file)),
            Node::Directory => None,
        })
    }

    /// Has names, all in one directory, stand for something else, at once.
    pub(super) fn change(&mut self, names: Vec<(PathBuf, Option<Node>)>) {
        let directory = names[0].0.parent().unwrap_or(Path::new("")).to_owned();
        assert!(
            names.iter().all(|(path, _)| path.parent() == Some(&directory)),
            "nothing changes its directory"
        );
        apply(&mut self.live, &names);
        self.pending.push(Change { directory, names });
    }

    pub(super) fn sync(&mut self, directory: &Path) {
        for change in self.pending.extract_if(.., |change| change.directory == directory) {
            apply(&mut self.durable, &change.names);
        }
    }

    pub(super) fn crash(&mut self, dice: &mut Dice) {
        let in_order = dice.odds.of(Fault::LostName) > 0 && dice.below(Fault::LostName, 2) == 0;
        let mut lost = false;
        for change in std::mem::take(&mut self.pending) {
            lost = (in_order && lost) || dice.hits(Fault::LostName);
            if !lost {
                apply(&mut self.durable, &change.names);
            }
        }
        // Without its directory nothing is found.
        let mut found = BTreeMap::new();
        for (path, node) in &self.durable {
            let parent = path.parent().unwrap_or(Path::new(""));
            if is_root(parent) || found.get(parent) == Some(&Node::Directory) {
                found.insert(path.clone(), *node);
            }
        }
        self.durable.clone_from(&found);
        self.live = found;
    }

    /// The contents that still have a name, or may have one after a power cut.
    pub(super) fn named(&self) -> BTreeSet<u64> {
        let pending = self.pending.iter().flat_map(|change| &change.names).filter_map(|(_, node)| *node);
        let nodes = self.live.values().chain(self.durable.values()).copied().chain(pending);
        let file = |node| match node {
            Node::File(file) => Some(file),
            Node::Directory => None,
        };
        nodes.filter_map(file).collect()
    }
}

/// What lies above all directories is always there.
fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, changes: &[(PathBuf, Option<Node>)]) {
    for (path, node) in changes {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}
