//! Where the cases come from. A block of cases is the same on every run with one seed and number,
//! so that a case that failed can be made again instead of being kept.

use std::{fs, path::PathBuf};

use proptest::{
    strategy::{BoxedStrategy, Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use spangate::otlp::signal::Signal;

use super::mutate::{Node, Random, Style, mutate, parse, smaller};
use crate::otlp_property::generators;

/// Cases in a block.
pub(super) const BLOCK: u64 = 200;

/// Requests that are built anew for each block: they cost as much as a hundred mutations.
const BUILT: usize = 4;

/// Deeper than any message of OTLP without nested values.
const DEPTH: usize = 40;

/// One request and how it is to be treated.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) signal: Signal,
    pub(super) body: Vec<u8>,
    pub(super) strip_scope: bool,
    pub(super) strip_items: bool,
    /// Whether items are not read to the last byte.
    pub(super) shallow: bool,
    pub(super) max_item_size: usize,
    pub(super) budget: u64,
}

/// The folder of the Go side.
pub(super) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/pdata").join(name)
}

/// The committed requests in a folder that are of a signal: their names begin with its label.
pub(super) fn committed(name: &str, signal: Signal) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(folder(name))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "bin"))
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (stem, fs::read(path).expect("a request"))
        })
        .filter(|(stem, _)| stem.split('-').next() == Some(signal.label()))
        .collect();
    found.sort();
    found
}

/// A committed request under every option.
pub(super) fn all_options(signal: Signal, body: &[u8]) -> Vec<Case> {
    let mut cases = Vec::new();
    for options in 0..8 {
        for (max_item_size, budget) in
            [(usize::MAX, u64::MAX), (150, u64::MAX), (usize::MAX, 1), (usize::MAX, 0), (60, 1)]
        {
            cases.push(Case {
                signal,
                body: body.to_vec(),
                strip_scope: options & 1 != 0,
                strip_items: options & 2 != 0,
                shallow: options & 4 != 0,
                max_item_size,
                budget,
            });
        }
    }
    cases
}

/// Makes blocks of cases for one signal.
pub(super) struct Source {
    signal: Signal,
    seed: u64,
    seeds: Vec<Vec<u8>>,
    built: BoxedStrategy<Vec<u8>>,
}

impl Source {
    pub(super) fn new(signal: Signal, seed: u64) -> Self {
        let seeds = ["seeds", "regressions"].into_iter().flat_map(|name| committed(name, signal));
        Self { signal, seed, seeds: seeds.map(|(_, body)| body).collect(), built: generators::built(signal) }
    }

    /// The cases of one block.
    pub(super) fn block(&self, number: u64) -> Vec<Case> {
        let mut random = Random::new(self.seed ^ Random::new(number).next());
        let mut chacha = [0; 32];
        for part in chacha.as_chunks_mut().0 {
            *part = random.next().to_le_bytes();
        }
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &chacha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut pool: Vec<_> =
            (0..BUILT).map(|_| self.built.new_tree(&mut runner).expect("a request").current()).collect();
        pool.extend_from_slice(&self.seeds);
        let trees: Vec<_> = pool.iter().map(|body| parse(body, DEPTH).expect("well formed")).collect();

        (0..BLOCK)
            .map(|place| {
                let body = match usize::try_from(place) {
                    Ok(place) if place < BUILT => pool[place].clone(),
                    _ => self.body(&pool, &trees, &mut random),
                };
                Case {
                    signal: self.signal,
                    body,
                    strip_scope: random.once_in(2),
                    strip_items: random.once_in(2),
                    shallow: random.once_in(4),
                    max_item_size: if random.once_in(3) { random.below(400) } else { usize::MAX },
                    budget: if random.once_in(3) { random.below(6) as u64 } else { u64::MAX },
                }
            })
            .collect()
    }

    fn body(&self, pool: &[Vec<u8>], trees: &[Vec<Node>], random: &mut Random) -> Vec<u8> {
        match random.below(10) {
            0..3 => {
                let entropy: Vec<u8> =
                    (0..random.below(1_500)).map(|_| random.next().to_le_bytes()[0]).collect();
                let mut body = generators::hostile(self.signal, &entropy);
                if random.once_in(4) {
                    damage(&mut body, random);
                }
                body
            }
            3 => {
                let mut body = pool[random.below(pool.len())].clone();
                damage(&mut body, random);
                body
            }
            _ => {
                let mut tree = trees[random.below(trees.len())].clone();
                for _ in 0..=random.below(4) {
                    mutate(&mut tree, random);
                }
                let mut body = Vec::new();
                let odd = if random.once_in(2) { Some(&mut *random) } else { None };
                Style { odd }.write(&tree, &mut body);
                body
            }
        }
    }
}

/// A few bytes changed, taken out or put in.
fn damage(body: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if body.is_empty() {
            return;
        }
        let (at, byte) = (random.below(body.len()), random.next().to_le_bytes()[0]);
        match random.below(3) {
            0 => body[at] = byte,
            1 => drop(body.remove(at)),
            _ => body.insert(at, byte),
        }
    }
}

/// Makes a failing case as small as it gets: options and fields taken away one by one for as long as
/// it fails. `failing` gives the first of several cases that does.
pub(super) fn shrink(case: &Case, failing: &dyn Fn(&[Case]) -> Option<usize>) -> Case {
    let mut least = case.clone();
    loop {
        let mut simpler = vec![
            Case { strip_scope: false, strip_items: false, ..least.clone() },
            Case { strip_scope: false, ..least.clone() },
            Case { strip_items: false, ..least.clone() },
            Case { shallow: false, ..least.clone() },
            Case { max_item_size: usize::MAX, ..least.clone() },
            Case { budget: u64::MAX, ..least.clone() },
        ];
        simpler.retain(|simpler| options(simpler) != options(&least));
        for tree in parse(&least.body, DEPTH).iter().flat_map(|tree| smaller(tree)) {
            let mut body = Vec::new();
            Style { odd: None }.write(&tree, &mut body);
            simpler.push(Case { body, ..least.clone() });
        }
        match failing(&simpler) {
            Some(first) => least = simpler.swap_remove(first),
            None => return least,
        }
    }
}

fn options(case: &Case) -> (bool, bool, bool, usize, u64) {
    (case.strip_scope, case.strip_items, case.shallow, case.max_item_size, case.budget)
}
