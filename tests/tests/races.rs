//! Relayers racing one another on a channel, and payments racing its close. Each check is also made on a version that
//! is broken on purpose, and must find fault with it.

mod races {
    mod closing;
    mod first_payment;
    mod later_payment;
    mod record;
}
