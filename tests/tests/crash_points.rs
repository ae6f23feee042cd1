//! A leader is stopped exactly between any two effects of its work, with SIGKILL and with SIGSTOP past its lease, and
//! goes on after its successor (promises I4 and I5). Fault points exist in builds with debug assertions alone.

#![cfg(debug_assertions)]

#[path = "crash_points/broken.rs"]
mod broken;
#[path = "crash_points/gate.rs"]
mod gate;
#[path = "crash_points/issuer.rs"]
mod issuer;
#[path = "crash_points/leaving.rs"]
mod leaving;
#[path = "crash_points/page.rs"]
mod page;
#[path = "crash_points/points.rs"]
mod points;
#[path = "crash_points/scene.rs"]
mod scene;
