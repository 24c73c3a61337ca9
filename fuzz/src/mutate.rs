//! Protobuf changed field by field, with the lengths around a change put right. Bytes changed at random
//! break a length nearly every time, and never reach what stands ten messages deep.

use libfuzzer_sys::fuzzer_mutate;

/// Deeper messages are changed as bytes.
const DEEPEST: u32 = 24;

/// Varints that sit at an edge.
const EDGES: [u64; 8] = [0, 1, 0x7F, 0x80, 1 << 31, 1 << 32, i64::MAX as u64, u64::MAX];

/// Numbers that fields of OTLP have, and some that none has.
const NUMBERS: [u64; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 99, 1000, (1 << 29) - 1];

/// A libFuzzer mutator for inputs of some bytes of options and a message. Gives the new length.
pub fn protobuf(options: usize, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    if size <= options || dice.below(8) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    if dice.below(12) == 0 {
        let choice = dice.below(options);
        data[choice] ^= 1 << dice.below(8);
        return size;
    }
    let mut changed = data[options..size].to_vec();
    for _ in 0..=dice.below(3) {
        changed = message(&changed, &mut dice, 0);
    }
    if options + changed.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[options..options + changed.len()].copy_from_slice(&changed);
    options + changed.len()
}

/// One field: its number, its wire type, and its value without a length.
#[derive(Clone)]
struct Field {
    number: u64,
    wire: u64,
    value: Vec<u8>,
}

fn message(bytes: &[u8], dice: &mut Dice, depth: u32) -> Vec<u8> {
    let fields = (depth < DEEPEST).then(|| fields(bytes)).flatten();
    let Some(mut fields) = fields.filter(|fields| !fields.is_empty()) else { return leaf(bytes, dice) };
    let at = dice.below(fields.len());
    let other = dice.below(fields.len());
    match dice.below(32) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(other, fields[at].clone()),
        2 => fields.swap(at, other),
        3 => fields[at].number = NUMBERS[dice.below(NUMBERS.len())],
        4 => {
            let value = fields[other].value.clone();
            fields[at].value = value;
        }
        5 => {
            let (number, wire) = (NUMBERS[dice.below(NUMBERS.len())], [0, 1, 2, 5][dice.below(4)]);
            let value = match wire {
                0 => varint(EDGES[dice.below(EDGES.len())], 0),
                1 => vec![0xAB; 8],
                5 => vec![0xAB; 4],
                _ => fields[other].value.clone(),
            };
            fields.insert(at, Field { number, wire, value });
        }
        // A message in two parts, which readers merge.
        6 if fields[at].wire == 2 => {
            let mut rest = fields[at].clone();
            let middle = self::fields(&rest.value)
                .filter(|inner| !inner.is_empty())
                .map_or(0, |inner| written(&inner[..dice.below(inner.len())], dice).len());
            fields[at].value.truncate(middle);
            rest.value.drain(..middle.min(rest.value.len()));
            fields.insert(at + 1, rest);
        }
        // A message inside a message of its own: twice as deep at every turn.
        7 if fields[at].wire == 2 => {
            if let Some(mut inner) = self::fields(&fields[at].value)
                && let Some(child) = inner.iter_mut().find(|child| child.wire == 2)
            {
                child.value = written(&[fields[at].clone()], dice);
                fields[at].value = written(&inner, dice);
            }
        }
        _ => {
            let field = &mut fields[at];
            field.value = match field.wire {
                2 => message(&field.value, dice, depth + 1),
                0 => varint(EDGES[dice.below(EDGES.len())], dice.padding()),
                _ => leaf(&field.value, dice),
            };
        }
    }
    written(&fields, dice)
}

/// Bytes that are no message, or are not to be taken for one.
fn leaf(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    match dice.below(6) {
        0 => Vec::new(),
        1 => vec![0xAB; [8, 16, 15][dice.below(3)]],
        _ => {
            let mut room = bytes.to_vec();
            room.resize(bytes.len() + 16, 0);
            let size = fuzzer_mutate(&mut room, bytes.len(), bytes.len() + 16);
            room.truncate(size);
            room
        }
    }
}

fn written(fields: &[Field], dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, wire, value } in fields {
        out.extend(varint(number << 3 | wire, dice.padding()));
        if *wire == 2 {
            out.extend(varint(value.len() as u64, dice.padding()));
        }
        out.extend(value);
    }
    out
}

/// A varint with so many bytes more than it needs.
fn varint(mut value: u64, more: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
    for _ in 0..more {
        if let Some(last) = out.last_mut() {
            *last |= 0x80;
        }
        out.push(0);
    }
    out
}

fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        let (number, wire) = (tag >> 3, tag & 7);
        let value = match wire {
            0 => {
                let before = bytes;
                read_varint(&mut bytes)?;
                &before[..before.len() - bytes.len()]
            }
            1 => bytes.split_off(..8)?,
            5 => bytes.split_off(..4)?,
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                bytes.split_off(..length)?
            }
            _ => return None,
        };
        fields.push(Field { number, wire, value: value.to_vec() });
    }
    Some(fields)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Xorshift, so that one seed makes one change.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }

    /// Needless bytes for one varint in forty.
    fn padding(&mut self) -> usize {
        if self.below(40) == 0 { 1 + self.below(9) } else { 0 }
    }
}
