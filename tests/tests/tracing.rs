//! One request's trail with real processes: its id and its place in its caller's trace, from the relayer through the stream
//! to the settler and to the issuer, in answers, requests and log lines; and what is logged at all.

mod tracing {
    mod ids;
    mod lines;
    mod payments;
    mod scene;
    mod spans;
}
