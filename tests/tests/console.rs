//! The settler's console: what it shows, to a program and in a real browser, and what a person may do there.

mod console {
    mod actions;
    mod lists;
    mod looking;
    mod money;
    mod scene;
    mod scripts;
}
