//! Places where a test stops a process exactly between two effects, and checks that a test takes out.
//!
//! Nothing of this is in a program that anybody runs: it takes the cargo feature `fault-points`, which only the crate
//! `tests` turns on (so a build of the whole workspace has it and `-p settler` or `-p cli` has not), *and* a build with
//! debug assertions, which a release build has not, whatever its features.
//!
//! A test arms a point by writing its name to `fault-point.<process id>` in the process' working directory. Whoever
//! reaches it first renames that file to `fault-point.<process id>.reached` and waits there until it is gone. The wait
//! blocks the thread: when it ends, the very next thing that happens is what comes after the point, even if the task
//! was abandoned meanwhile. The rest of the process goes on, until the test stops or kills it.

/// Waits here if a test says so.
pub fn reach(point: &str) {
    #[cfg(all(feature = "fault-points", debug_assertions))]
    armed::reach(point);
    #[cfg(not(all(feature = "fault-points", debug_assertions)))]
    let _ = point;
}

/// True if a test wants to see what happens without this check: if the file `broken` in the working directory names it.
pub fn is_broken(check: &str) -> bool {
    #[cfg(all(feature = "fault-points", debug_assertions))]
    return armed::is_broken(check);
    #[cfg(not(all(feature = "fault-points", debug_assertions)))]
    {
        let _ = check;
        false
    }
}

#[cfg(all(feature = "fault-points", debug_assertions))]
mod armed {
    use std::path::Path;
    use std::sync::LazyLock;
    use std::time::Duration;

    /// Between two looks whether the test lets go.
    const POLL: Duration = Duration::from_millis(1);

    static BROKEN: LazyLock<String> = LazyLock::new(|| std::fs::read_to_string("broken").unwrap_or_default());

    pub(super) fn is_broken(check: &str) -> bool {
        BROKEN.lines().any(|line| line == check)
    }

    pub(super) fn reach(point: &str) {
        let armed = format!("fault-point.{}", std::process::id());
        if !std::fs::read_to_string(&armed).is_ok_and(|wanted| wanted == point) {
            return;
        }
        let reached = format!("{armed}.reached");
        // Of those who come by at once, one gets it.
        if std::fs::rename(&armed, &reached).is_ok() {
            tokio::task::block_in_place(|| {
                while Path::new(&reached).exists() {
                    std::thread::sleep(POLL);
                }
            });
        }
    }
}
