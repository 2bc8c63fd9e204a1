//! "Did you mean": the word an operator most likely had in mind.

/// The word of `words` nearest to `written`, when near enough to be offered.
pub(crate) fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = plain(written);
    // A third of the letters may differ, a swap counting one: `agee` for `age`, `hsah` for `hash`, `endpoint` for `endpoints`.
    let allowed = (written.chars().count().max(3)) / 3;
    words
        .into_iter()
        .map(|word| (distance(&written, &plain(word)), word))
        .filter(|(far, _)| *far <= allowed)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// Case, dashes and underscores are never what the operator meant to say.
fn plain(word: &str) -> String {
    word.chars().take(64).filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_a_different_word_finds_none() {
        let words = ["least_load", "round_robin", "hash"];
        assert_eq!(nearest("hsah", words), Some("hash"));
        assert_eq!(nearest("LeastLoad", words), Some("least_load"));
        assert_eq!(nearest("round-robbin", words), Some("round_robin"));
        assert_eq!(nearest("random", words), None);
        assert_eq!(nearest("", words), None);
    }
}
