//! Memory that is free, given back to the system.

/// Writes to the API server that make a burst: each has left some kilobytes behind.
const BURST: u64 = 500;

/// Finds out when so much was done that memory is worth giving back, and that nothing of it goes on any more.
#[derive(Debug, Default)]
pub struct Bursts {
    last: u64,
    given_back: u64,
}

impl Bursts {
    /// Takes note of how many writes there have been since the start, and whether a pass is under way: what it needs would be
    /// taken from the system again. Says whether a burst is over: there were many writes, and none since it was asked last.
    pub const fn is_over(&mut self, writes: u64, is_busy: bool) -> bool {
        let over = writes == self.last && writes >= self.given_back + BURST && !is_busy;
        self.last = writes;
        if over {
            self.given_back = writes;
        }
        over
    }
}

/// Gives the pages that glibc's malloc keeps between blocks that are in use back to the system (`malloc_trim(3)`): by itself
/// it gives back what is at the end only, and a process stays as large as it has ever been. Takes milliseconds, in which
/// nobody else gets memory. Other allocators are left to themselves.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "a function of glibc that asks nothing of its caller")]
        // SAFETY: it touches only what malloc itself holds, under malloc's own locks.
        let any = unsafe { libc::malloc_trim(0) } != 0;
        tracing::debug!(any, "memory was given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_over_once_when_there_were_many_writes_and_no_more_come() {
        let mut bursts = Bursts::default();
        let asked = [0, 3, 3, 400, 700, 700, 700, 800, 800, 1199, 1199, 1200, 1200, 1200];
        let over: Vec<_> = asked.iter().map(|writes| bursts.is_over(*writes, false)).collect();
        let expected = [false, false, false, false, false, true, false, false, false, false, false, false, true, false];
        assert_eq!(over, expected);
    }

    #[test]
    fn a_burst_is_not_over_while_a_pass_is_under_way() {
        let mut bursts = Bursts::default();
        let asked = [(500, true), (500, true), (500, false), (500, false)];
        assert_eq!(asked.map(|(writes, is_busy)| bursts.is_over(writes, is_busy)), [false, false, true, false]);
    }

    #[test]
    fn what_is_in_use_stays_as_it_is() {
        let kept: Vec<String> = (0..10_000).map(|n| format!("{n:0100}")).collect();
        let odd: Vec<&String> = kept.iter().skip(1).step_by(2).collect();
        give_back();
        assert!(odd.iter().enumerate().all(|(n, text)| text.parse() == Ok(2 * n + 1)));
    }
}
