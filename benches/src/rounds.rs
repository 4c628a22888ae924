//! Which rounds count. The machine is shared: a round whose limit was far from the others' says more about
//! other load than about the daemon, and is discarded by this rule alone.

/// How far a round's limit may be from the median of all.
const DIRTY_BEYOND: f64 = 0.20;

/// Returns the median of `values`; the mean of the two middle ones if their number is even; 0 if there are
/// none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = half
        .checked_sub(1)
        .and_then(|at| sorted.get(at))
        .copied()
        .unwrap_or(upper);
    f64::midpoint(lower, upper)
}

/// Returns whether each round is clean. Round `i` is between the limits `i` and `i + 1`, and both must be
/// within 20 % of the median of all limits.
pub(crate) fn clean(limits: &[f64]) -> Vec<bool> {
    let middle = median(limits);
    let fine = |limit: f64| (limit - middle).abs() <= middle * DIRTY_BEYOND;
    limits
        .windows(2)
        .map(|pair| pair.iter().all(|limit| fine(*limit)))
        .collect()
}

/// Returns the values of the clean rounds, or all of them if none is clean.
pub(crate) fn kept(values: &[f64], clean: &[bool]) -> Vec<f64> {
    let good: Vec<f64> = values
        .iter()
        .zip(clean)
        .filter(|(_, clean)| **clean)
        .map(|(value, _)| *value)
        .collect();
    if good.is_empty() {
        values.to_vec()
    } else {
        good
    }
}

/// Returns a note about the discarded rounds, if there were any.
pub(crate) fn remark(what: &str, clean: &[bool]) -> Option<String> {
    let dirty = clean.iter().filter(|clean| !**clean).count();
    match (dirty, clean.len()) {
        (0, _) => None,
        (dirty, all) if dirty == all => Some(format!(
            "{what}: the limit moved by more than 20 % in each of the {all} rounds; no round is \
             clean, all are shown: run again on a quieter machine"
        )),
        (dirty, all) => Some(format!(
            "{what}: {dirty} of {all} rounds discarded, their limit was over 20 % off the median"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_middle_ones() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[9.0, 1.0, 3.0]) - 3.0).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }

    #[test]
    fn a_round_beside_a_limit_that_is_off_is_thrown_away() {
        assert_eq!(clean(&[100.0, 95.0, 70.0, 105.0]), vec![true, false, false]);
    }

    #[test]
    fn when_no_round_is_clean_all_are_kept_and_it_is_said() {
        let verdicts = clean(&[100.0, 10.0]);
        assert_eq!(kept(&[5.0], &verdicts), vec![5.0]);
        assert!(remark("x", &verdicts).is_some_and(|text| text.contains("no round is clean")));
    }

    #[test]
    fn clean_rounds_alone_give_the_figure() {
        assert_eq!(kept(&[1.0, 2.0, 3.0], &[true, false, true]), vec![1.0, 3.0]);
        assert_eq!(remark("x", &[true, true]), None);
    }
}
