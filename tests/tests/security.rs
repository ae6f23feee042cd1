//! What strangers may not do, and what nobody gets to see: Redis over TLS with a user for each role, listeners, secrets,
//! and the tests that the threat model names.

mod security {
    mod acl;
    mod guarded;
    mod listeners;
    mod secrets;
    mod threat_model;
    mod tls;
}
