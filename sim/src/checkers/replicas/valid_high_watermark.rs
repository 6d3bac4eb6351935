//! `ValidHighWatermark`: a high watermark lies within its log, and a leader's never goes back within an epoch.
//!
//! `ValidHighWatermark` of hachikuji/kafka-specification (KafkaReplication.tla). A follower's may go back, and so may a
//! partition's after an election: a new leader begins with what it knew as a follower.

/// The invariant's name.
pub const NAME: &str = "ValidHighWatermark";

/// A broker moved its high watermark from `before` to `to`.
pub fn moved(node: i32, before: i64, to: i64, log_end: i64, as_leader: bool) -> Option<String> {
    if to > log_end {
        return Some(format!(
            "The high watermark {to} of broker-{node} lies beyond its log end offset {log_end}."
        ));
    }
    (as_leader && to < before)
        .then(|| format!("The high watermark of the leader broker-{node} went back from {before} to {to}."))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_one_beyond_the_log_or_going_back() {
        assert_eq!(after(vec![(1, watermark(11))]), ["ValidHighWatermark"]);
        assert_eq!(after(vec![(1, watermark(9))]), ["ValidHighWatermark"]);
    }

    #[test]
    fn is_silent_on_a_followers_that_goes_back_and_after_an_election() {
        let story = vec![
            (2, follower_watermark(10)),
            (2, follower_watermark(7)),
            (1, state(2, 1, 1, &[2])),
            (2, lead(1, 10, 7)),
            (2, watermark(10)),
        ];
        assert_eq!(after(story), [""; 0]);
    }
}
