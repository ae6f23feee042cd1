//! Relayers behind nginx and HAProxy, with the configurations of `docs/deploy` as they are shipped: what happens to
//! payments while relayers stop, die, and cannot take any.

mod load_balancers {
    mod balancer;
    mod resent;
    mod restarts;
}
