//! A fault proxy on each way that a payment or a settlement takes.

use super::error::StackError;
use super::plan::Plan;
use super::proxy::{FaultProxy, Protocol};

/// The proxies of a stack.
#[derive(Debug)]
pub struct Links {
    /// Those of each relayer.
    pub relayers: Vec<ProcessLinks>,
    /// Those of each settler.
    pub settlers: Vec<ProcessLinks>,
}

/// The proxies of one process.
#[derive(Debug)]
pub struct ProcessLinks {
    /// Between it and Redis.
    pub redis: FaultProxy,
    /// Between it and the issuer.
    pub issuer: FaultProxy,
}

impl Links {
    /// Starts a pair of proxies for each relayer and settler.
    pub(super) async fn start(plan: &Plan) -> Result<Links, StackError> {
        let target = |url: &str, scheme: &str| {
            url.strip_prefix(scheme).map(str::to_owned).ok_or_else(|| StackError::Io {
                what: format!("no fault proxy can stand before {url}: it must start with {scheme}"),
                source: std::io::ErrorKind::InvalidInput.into(),
            })
        };
        let redis = target(plan.redis_url(), "redis://")?;
        let issuer = target(&plan.issuer_url(), "http://")?;
        let pairs = async |count: usize| {
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push(ProcessLinks {
                    redis: FaultProxy::start(redis.clone(), Protocol::Redis).await,
                    issuer: FaultProxy::start(issuer.clone(), Protocol::Bytes).await,
                });
            }
            pairs
        };
        let options = plan.options();
        Ok(Links { relayers: pairs(options.relayers).await, settlers: pairs(options.settlers).await })
    }

    /// Every proxy.
    pub fn all(&self) -> impl Iterator<Item = &FaultProxy> {
        self.relayers.iter().chain(&self.settlers).flat_map(|links| [&links.redis, &links.issuer])
    }
}
