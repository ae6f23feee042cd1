//! Requests to the relayers of a rig, made by hand, and what an account holds.

use common::ids::PublicKey;

use super::{Rig, SOON};
use crate::http::Reply;
use crate::payer::Channel;
use crate::wait::wait_until;

impl Rig {
    /// Presents a voucher, or whatever a test made of one, to the `i`th relayer.
    ///
    /// # Panics
    /// There are not that many, or no answer comes.
    pub async fn present(&self, i: usize, body: impl Into<Vec<u8>>) -> Reply {
        self.http.post(&format!("{}/v1/payments", self.relayer(i)), body).await
    }

    /// Pays on the `i`th relayer until `amount` in total is owed.
    ///
    /// # Panics
    /// There are not that many, or no answer comes.
    pub async fn pay(&self, i: usize, channel: &Channel, amount: u64) -> Reply {
        self.present(i, serde_json::to_vec(&channel.voucher(amount)).expect("a voucher is JSON")).await
    }

    /// Waits until the `i`th relayer says that it takes payments, or that it does not.
    ///
    /// # Panics
    /// There are not that many, or it does not say so in time.
    pub async fn relayer_is_ready(&self, i: usize, ready: bool) {
        let url = format!("{}/readyz", self.relayers[i].admin_url());
        let what = if ready { "the relayer is ready" } else { "the relayer is not ready" };
        wait_until(SOON, what, || async { (self.http.get(&url).await.status == 200) == ready }).await;
    }

    /// What an account of the issuer holds of `usd`: free, and locked in open channels.
    ///
    /// # Panics
    /// The issuer does not know it.
    pub async fn balance(&self, key: &PublicKey) -> (u64, u64) {
        let account = self.issuer.client().account(key).await.expect("a registered account");
        let balance = account.balances.iter().find(|balance| balance.asset == "usd");
        balance.map_or((0, 0), |balance| (balance.available.units(), balance.locked.units()))
    }
}
