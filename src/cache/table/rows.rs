//! Values side by side, in rows that are filled one after another. It grows by a part of a row, and never copies more than
//! one.

/// Values in a row: few enough that a table of few values is small, many enough that rows are soon found.
const ROW: usize = 256;

/// A row grows by so many at a time.
const STEP: usize = 16;

/// All of them.
#[derive(Debug)]
pub(super) struct Rows<T> {
    /// All but the last are full, and none is empty.
    rows: Vec<Vec<T>>,
}

impl<T> Rows<T> {
    /// The most bytes that stand empty: in the last row, and in a short list of rows.
    pub(super) const EMPTY: usize = STEP * size_of::<T>() + 4 * size_of::<Vec<T>>();

    pub(super) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        let full = self.rows.len().saturating_sub(1).saturating_mul(ROW);
        self.rows.last().map_or(0, Vec::len).saturating_add(full)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().flatten()
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.rows.get(place / ROW)?.get(place % ROW)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.rows.get_mut(place / ROW)?.get_mut(place % ROW)
    }

    pub(super) fn push(&mut self, value: T) {
        match self.rows.last_mut() {
            Some(row) if row.len() < ROW => {
                if row.len() == row.capacity() {
                    row.reserve_exact(STEP.min(ROW.saturating_sub(row.len())));
                }
                row.push(value);
            }
            _ => {
                let mut row = Vec::with_capacity(STEP);
                row.push(value);
                self.rows.push(row);
            }
        }
    }

    /// Takes a value out; the last one fills its place.
    pub(super) fn swap_remove(&mut self, place: usize) -> Option<T> {
        self.get(place)?;
        let last = self.rows.last_mut()?;
        let value = last.pop()?;
        if last.is_empty() {
            self.rows.pop();
        }
        match self.get_mut(place) {
            Some(taken) => Some(std::mem::replace(taken, value)),
            None => Some(value),
        }
    }

    /// Gives back what is not needed.
    pub(super) fn shrink_to_fit(&mut self) {
        self.rows.iter_mut().for_each(Vec::shrink_to_fit);
        self.rows.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.rows.iter().map(Vec::capacity).sum();
        let list = self.rows.capacity().saturating_mul(size_of::<Vec<T>>());
        values.saturating_mul(size_of::<T>()).saturating_add(list)
    }
}

#[cfg(test)]
mod tests {
    use super::{ROW, Rows};

    /// Scenario: some rows are filled; values are taken out of the first, of the middle and at the end, until none is left.
    /// Guarantees: the last value fills each gap, nothing else moves, nothing is lost, and no more room is held than a row more.
    #[test]
    fn the_last_one_fills_the_gap() {
        let mut rows = Rows::new();
        let mut model = Vec::new();
        for value in 0..ROW * 3 + 5 {
            rows.push(value);
            model.push(value);
        }
        for turn in 0_usize.. {
            assert!(rows.iter().eq(&model) && rows.len() == model.len());
            // What was taken out of a full row leaves it whole.
            assert!(rows.bytes() <= (model.len() + ROW) * size_of::<usize>() + Rows::<usize>::EMPTY);
            if model.is_empty() {
                break;
            }
            let place = turn * 7_919 % model.len();
            assert_eq!(rows.get(place), Some(&model[place]));
            assert_eq!(rows.swap_remove(place), Some(model.swap_remove(place)));
            assert_eq!(rows.swap_remove(model.len()), None);
        }
    }
}
