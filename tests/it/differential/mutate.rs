//! Mutations that know the wire format but no schema: a body becomes a tree of fields, something in
//! it is doubled, moved, split, renumbered or replaced, and it is written again with right lengths.
//! Bytes changed at random seldom get past the first check; these do.

/// Random numbers that are the same on every run (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound.max(1)
    }

    pub(super) fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// One field.
#[derive(Clone)]
pub(super) struct Node {
    number: u64,
    wire: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Varint(u64),
    /// Eight or four bytes, or a string.
    Bytes(Vec<u8>),
    /// What can be read as a message, whether it is meant as one or not.
    Message(Vec<Node>),
}

/// Strings and ids that the rules look at, and some that they don't.
const STRINGS: [&[u8]; 16] = [
    b"ci.job.id",
    b"CI_Job-id",
    b"service.name",
    b"gitlab.cell.id",
    b"GITLAB-x",
    b"gitlab",
    b"host.name",
    b"",
    &[0xAB; 16],
    &[9; 16],
    &[0; 16],
    &[9; 8],
    &[0xAB; 15],
    "näme".as_bytes(),
    &[0xC3, 0x28],
    &[b'x'; 200],
];

const NUMBERS: [u64; 10] = [0, 1, 2, 5, 16, 127, 128, 1 << 32, (1 << 32) | 1, u64::MAX];

/// Reads a body as a tree; `None` if it is no sequence of fields.
pub(super) fn parse(bytes: &[u8], depth: usize) -> Option<Vec<Node>> {
    let (mut rest, mut nodes) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (tag, after) = varint(rest)?;
        let (number, wire) = (tag >> 3, tag & 7);
        let (value, after) = match wire {
            0 => varint(after).map(|(value, after)| (Value::Varint(value), after))?,
            1 => after.split_at_checked(8).map(|(value, after)| (Value::Bytes(value.into()), after))?,
            5 => after.split_at_checked(4).map(|(value, after)| (Value::Bytes(value.into()), after))?,
            2 => {
                let (length, after) = varint(after)?;
                let (content, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                let message = if depth > 0 { parse(content, depth - 1) } else { None };
                (message.map_or_else(|| Value::Bytes(content.into()), Value::Message), after)
            }
            _ => return None,
        };
        if number == 0 {
            return None;
        }
        nodes.push(Node { number, wire, value });
        rest = after;
    }
    Some(nodes)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(10).position(|&byte| byte < 0x80)? + 1;
    let (these, rest) = bytes.split_at(length);
    let bits = |value, (place, byte): (usize, &u8)| value | (u64::from(byte & 0x7F) << (7 * place));
    Some((these.iter().enumerate().fold(0, bits), rest))
}

/// How oddly a tree is written.
pub(super) struct Style<'r> {
    /// `None`: as an encoder would.
    pub(super) odd: Option<&'r mut Random>,
}

impl Style<'_> {
    fn varint(&mut self, mut value: u64, out: &mut Vec<u8>) {
        let start = out.len();
        while value >= 0x80 {
            out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        out.push(value.to_le_bytes()[0]);
        if let Some(random) = &mut self.odd
            && random.once_in(40)
        {
            let longest = if random.once_in(20) { 11 } else { 10 };
            for _ in 0..random.below(longest + 1 - (out.len() - start)) {
                *out.last_mut().expect("a byte") |= 0x80;
                out.push(0);
            }
        }
    }

    fn is_wrong(&mut self) -> bool {
        self.odd.as_mut().is_some_and(|random| random.once_in(2_000))
    }

    pub(super) fn write(&mut self, nodes: &[Node], out: &mut Vec<u8>) {
        for node in nodes {
            let high = if self.is_wrong() { 1 << 35 } else { 0 };
            self.varint(high | (node.number << 3) | node.wire, out);
            let content = match &node.value {
                Value::Varint(value) => {
                    self.varint(*value, out);
                    continue;
                }
                Value::Bytes(bytes) => bytes.clone(),
                Value::Message(nodes) => {
                    let mut content = Vec::new();
                    self.write(nodes, &mut content);
                    content
                }
            };
            if node.wire == 2 {
                let more = u64::from(self.is_wrong());
                self.varint(content.len() as u64 + more, out);
            }
            out.extend(content);
        }
    }
}

/// The lists of fields in a tree, each by the way to it: places of messages, from the outside in.
fn lists(nodes: &[Node], way: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    found.push(way.clone());
    for (place, node) in nodes.iter().enumerate() {
        if let Value::Message(inner) = &node.value {
            way.push(place);
            lists(inner, way, found);
            way.pop();
        }
    }
}

fn list<'a>(nodes: &'a mut Vec<Node>, way: &[usize]) -> &'a mut Vec<Node> {
    way.iter().fold(nodes, |nodes, &place| match &mut nodes[place].value {
        Value::Message(inner) => inner,
        _ => unreachable!("the way leads through messages"),
    })
}

/// Changes one thing somewhere in the tree.
pub(super) fn mutate(tree: &mut Vec<Node>, random: &mut Random) {
    let mut ways = Vec::new();
    lists(tree, &mut Vec::new(), &mut ways);
    let donor = {
        let way = &ways[random.below(ways.len())];
        let from = list(tree, way);
        if from.is_empty() { None } else { Some(from[random.below(from.len())].clone()) }
    };
    let nodes = list(tree, &ways[random.below(ways.len())]);
    let at = random.below(nodes.len());
    if nodes.is_empty() || random.once_in(12) {
        nodes.extend(donor);
        return;
    }
    match random.below(12) {
        0 => {
            let to = random.below(nodes.len() + 1);
            nodes.insert(to, nodes[at].clone());
        }
        1 => drop(nodes.remove(at)),
        2 => {
            let to = random.below(nodes.len());
            nodes.swap(at, to);
        }
        3 => {
            let another = 1 + random.below(16) as u64;
            nodes[at].number = random.pick(&[another, another, another, 99, 1000, (1 << 29) - 1]);
        }
        4 => {
            if let Some(donor) = donor {
                nodes[at].value = donor.value;
                nodes[at].wire = donor.wire;
            }
        }
        5 => split(nodes, at, random),
        6 => {
            let inner = nodes[at].clone();
            nodes[at].value = Value::Message(vec![inner]);
            nodes[at].wire = 2;
        }
        7 => {
            if let Value::Message(inner) = &nodes[at].value {
                let inner = inner.clone();
                nodes.splice(at..=at, inner);
            }
        }
        8 => {
            // Wire types as they come, 3, 4, 6 and 7 included.
            nodes[at].wire = random.below(8) as u64;
        }
        9 => {
            let (tag, value) = (nodes[at].number, random.pick(&NUMBERS));
            nodes.insert(at, Node { number: tag, wire: 0, value: Value::Varint(value) });
        }
        _ => set(&mut nodes[at], random),
    }
}

/// A message into two of the same number, or numbers one by one instead of packed.
fn split(nodes: &mut Vec<Node>, at: usize, random: &mut Random) {
    let number = nodes[at].number;
    match &mut nodes[at].value {
        Value::Message(inner) => {
            let second = inner.split_off(random.below(inner.len() + 1));
            let to = random.below(nodes.len() + 1);
            nodes.insert(to, Node { number, wire: 2, value: Value::Message(second) });
        }
        Value::Bytes(packed) => {
            let second = packed.split_off(random.below(packed.len() + 1));
            nodes.insert(at + 1, Node { number, wire: 2, value: Value::Bytes(second) });
        }
        Value::Varint(value) => {
            let value = value.to_le_bytes()[0] & 0x7F;
            nodes.insert(at, Node { number, wire: 2, value: Value::Bytes(vec![value, 1, 0x81, 0x00]) });
        }
    }
}

/// Another value of the same wire type.
fn set(node: &mut Node, random: &mut Random) {
    node.value = match node.wire {
        0 => Value::Varint(random.pick(&NUMBERS)),
        1 => Value::Bytes(random.pick(&[0, 1, u64::MAX, 0x7FF8 << 48]).to_le_bytes().into()),
        5 => Value::Bytes(random.pick(&[0, 1, u32::MAX]).to_le_bytes().into()),
        _ if random.once_in(12) => {
            // Arrays in arrays, around the limit of 32.
            let mut value = Vec::new();
            for _ in 0..28 + random.below(10) {
                let element = Node { number: 1, wire: 2, value: Value::Message(value) };
                value = vec![Node { number: 5, wire: 2, value: Value::Message(vec![element]) }];
            }
            Value::Message(value)
        }
        _ => Value::Bytes(random.pick(&STRINGS).into()),
    };
}

/// Every tree with one field less, those that lose most first.
pub(super) fn smaller(tree: &[Node]) -> Vec<Vec<Node>> {
    let mut ways = Vec::new();
    lists(tree, &mut Vec::new(), &mut ways);
    ways.sort_by_key(Vec::len);
    let mut all = Vec::new();
    for way in ways {
        let places = list(&mut tree.to_vec(), &way).len();
        all.extend((0..places).map(|place| {
            let mut less = tree.to_vec();
            drop(list(&mut less, &way).remove(place));
            less
        }));
    }
    all
}
