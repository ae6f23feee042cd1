//! Who can reach what: the admin listener asks for no credentials, so it is not for strangers.

use std::path::Path;

use common::config::{Config, parse};
use tests::rig::{Rig, RigOptions};

fn shipped<C: Config>(file: &str) -> C {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    parse(file, &std::fs::read_to_string(path).expect("the file is shipped")).expect("valid")
}

#[test]
fn admin_listeners_are_local_unless_someone_says_otherwise() {
    let admin = [
        relayer::Config::default().admin_listen,
        settler::Config::default().admin_listen,
        issuer::Config::default().admin_listen,
        shipped::<relayer::Config>("config.relayer.yaml").admin_listen,
        shipped::<settler::Config>("config.settler.yaml").admin_listen,
    ];
    for address in admin {
        assert!(address.ip().is_loopback(), "{address}");
    }
}

#[tokio::test]
async fn payers_see_nothing_of_the_admin_routes() {
    let rig = Rig::start(RigOptions::default()).await;
    for route in ["livez", "readyz", "metrics", "status"] {
        let reply = rig.http.get(&format!("{}/{route}", rig.relayer(0))).await;
        assert_eq!(reply.problem().code.as_str(), "not_found", "{route}");
    }
    let admin = rig.relayers[0].admin_url();
    let reply = rig.http.post(&format!("{admin}/v1/payments"), "{}").await;
    assert_eq!(reply.problem().code.as_str(), "not_found", "and the admin listener takes no payments");
}
