//! Every code of the relayer's table, reached over HTTP, with its status, its body and what else was promised. That
//! each is reached is itself a test.

mod codes {
    mod bounds;
    mod channel;
    mod order;
    mod proof;
    mod stores;
    mod table;
    mod voucher;
}
