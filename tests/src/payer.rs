//! A payer: opens channels with an issuer and pays relayers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::client::{Purse, compressed};
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::problem::Problem;
use common::voucher::Proof;
use common::wire::{
    CloseAnswer, CloseRequest, OpenRequest, Party, PaymentAnswer, PaymentRequest, RelayerChannel,
};
use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;
use service::issuer_client::{IssuerClient, IssuerClientConfig, IssuerError};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of the issuer at `url`.
///
/// # Panics
/// The URL is none.
pub fn issuer_client(url: &str) -> IssuerClient {
    let config = IssuerClientConfig { url: url.to_owned(), ..IssuerClientConfig::default() };
    IssuerClient::new(&config).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Owner of a deposit: a key with an account.
#[derive(Clone, Debug)]
pub struct Payer {
    key: SigningKey,
    issuer: IssuerClient,
    issuer_key: PublicKey,
    http: reqwest::Client,
}

impl Payer {
    /// A payer with a fresh key, registered with the issuer; where that is in development mode, it has play money.
    ///
    /// # Panics
    /// The issuer does not take it.
    pub async fn register(issuer_url: &str) -> Payer {
        Self::register_as(issuer_url, SigningKey::from_bytes(&rand::random())).await
    }

    /// A payer with this key.
    ///
    /// # Panics
    /// The issuer does not take it.
    pub async fn register_as(issuer_url: &str, key: SigningKey) -> Payer {
        let issuer = issuer_client(issuer_url);
        let info = issuer.info().await.expect("the issuer says who it is");
        issuer.register(&PublicKey::of(&key)).await.expect("the issuer registers any key");
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build();
        let http = http.expect("a client without options that could be wrong");
        Payer { key, issuer, issuer_key: info.public_key, http }
    }

    /// Its public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    /// Its client of the issuer.
    pub fn issuer(&self) -> &IssuerClient {
        &self.issuer
    }

    /// A channel for `payee`, still to be opened: capacity 1000 usd, a day to live, vouchers signed by the payer.
    pub fn channel(&self, payee: PublicKey) -> Opening<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
        let terms = Terms {
            issuer: self.issuer_key,
            payer: self.public_key(),
            payer_authorizer: self.public_key(),
            payee,
            asset: "usd".to_owned(),
            capacity: Amount::new(1_000),
            expires_at: i64::try_from(now + 86_400).expect("a day from now fits"),
            salt: rand::random(),
            scheme: SchemeKind::Ed25519,
        };
        Opening { payer: self, authorizer: self.key.clone(), terms, purse: None }
    }
}

/// The payment schemes, for a test that holds in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Signed vouchers.
    Ed25519,
    /// Steps of a hash chain.
    Payword,
    /// Leaves of a Merkle tree.
    Paytree,
}

impl Scheme {
    /// Each of them.
    pub const ALL: [Scheme; 3] = [Scheme::Ed25519, Scheme::Payword, Scheme::Paytree];
}

/// A channel that is about to be opened.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    payer: &'a Payer,
    authorizer: SigningKey,
    terms: Terms,
    purse: Option<Arc<Purse>>,
}

impl Opening<'_> {
    /// The deposit, in atomic units.
    pub fn capacity(mut self, units: u64) -> Self {
        self.terms.capacity = Amount::new(units);
        self
    }

    /// What the amounts count.
    pub fn asset(mut self, asset: &str) -> Self {
        asset.clone_into(&mut self.terms.asset);
        self
    }

    /// Unix time in seconds after which nothing is settled.
    pub fn expires_at(mut self, at_s: i64) -> Self {
        self.terms.expires_at = at_s;
        self
    }

    /// Has another key than the payer's sign the vouchers.
    pub fn authorizer(mut self, key: SigningKey) -> Self {
        self.terms.payer_authorizer = PublicKey::of(&key);
        self.authorizer = key;
        self
    }

    /// Has payments be steps of the chain that grows from `seed`.
    ///
    /// # Panics
    /// There is no chain of that length.
    pub fn payword(self, seed: Hash, unit: u64, length: u32) -> Self {
        self.paid_from(Purse::payword(seed, Amount::new(unit), length).expect("1 to 1048576 steps"))
    }

    /// Has payments be leaves of the tree that grows from `seed`.
    ///
    /// # Panics
    /// There is no tree of that many leaves.
    pub fn paytree(self, seed: Hash, unit: u64, leaves: u32) -> Self {
        let purse = Purse::paytree(seed, Amount::new(unit), leaves);
        self.paid_from(purse.expect("a power of two, 2 to 1048576 leaves"))
    }

    /// Has payments be in this scheme: up to `units` of 1 where it counts them, from a fresh seed.
    ///
    /// # Panics
    /// There is no commitment to that many.
    pub fn in_scheme(self, scheme: Scheme, units: u32) -> Self {
        let seed = Hash(rand::random());
        match scheme {
            Scheme::Ed25519 => self,
            Scheme::Payword => self.payword(seed, 1, units),
            // Leaf 0 pays nothing.
            Scheme::Paytree => self.paytree(seed, 1, (units + 1).next_power_of_two()),
        }
    }

    fn paid_from(mut self, purse: Purse) -> Self {
        self.terms.scheme = purse.scheme();
        self.purse = Some(Arc::new(purse));
        self
    }

    /// Any other change of the terms.
    pub fn with(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        change(&mut self.terms);
        self
    }

    /// The request that opens the channel, signed.
    pub fn request(&self) -> OpenRequest {
        let signature = Signature::of(&self.payer.key, &message::open(&self.terms.id()));
        OpenRequest { terms: self.terms.clone(), signature }
    }

    /// The channel, without telling the issuer.
    pub fn unopened(self) -> Channel {
        let Opening { payer, authorizer, terms, purse } = self;
        let (id, payer, http) = (terms.id(), payer.key.clone(), payer.http.clone());
        Channel { id, terms, authorizer, purse, payer, http }
    }

    /// Opens the channel.
    ///
    /// # Errors
    /// The issuer's answer, where it is not a channel.
    pub async fn try_open(self) -> Result<Channel, IssuerError> {
        self.payer.issuer.open(&self.request()).await?;
        Ok(self.unopened())
    }

    /// Opens the channel.
    ///
    /// # Panics
    /// The issuer does not open it.
    pub async fn open(self) -> Channel {
        self.try_open().await.unwrap_or_else(|error| panic!("the channel was not opened: {error}"))
    }
}

/// A channel with the keys to pay from it.
#[derive(Clone, Debug)]
pub struct Channel {
    id: ChannelId,
    terms: Terms,
    authorizer: SigningKey,
    purse: Option<Arc<Purse>>,
    payer: SigningKey,
    http: reqwest::Client,
}

impl Channel {
    /// Its id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Its terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// A payment of `amount` in total, as a relayer takes it: a voucher which never expires, or the complete proof of
    /// another scheme.
    ///
    /// # Panics
    /// The channel's scheme has no payment of this amount.
    pub fn voucher(&self, amount: u64) -> PaymentRequest {
        match &self.purse {
            Some(purse) => purse
                .payment(self.id, Amount::new(amount))
                .unwrap_or_else(|error| panic!("{amount} cannot be paid: {error}")),
            None => self.voucher_until(amount, 0),
        }
    }

    /// As [`Channel::voucher`], without what a relayer knows that took `latest_amount`.
    ///
    /// # Panics
    /// As [`Channel::voucher`].
    pub fn compressed_after(&self, amount: u64, latest_amount: u64) -> PaymentRequest {
        compressed(&self.voucher(amount), &self.voucher(latest_amount).proof)
    }

    /// A voucher for `amount` in total that expires at `expires_at` (Unix time in seconds), whatever the scheme.
    pub fn voucher_until(&self, amount: u64, expires_at: i64) -> PaymentRequest {
        let cumulative_amount = Amount::new(amount);
        let message = message::voucher(&self.id, cumulative_amount, expires_at);
        let signature = Signature::of(&self.authorizer, &message);
        PaymentRequest {
            channel_id: self.id,
            cumulative_amount,
            proof: Proof::Ed25519 { expires_at, signature },
        }
    }

    /// Pays until `amount` in total is owed.
    ///
    /// # Errors
    /// The relayer cannot be reached, or breaks off: what became of the payment is not known.
    ///
    /// # Panics
    /// As [`Answer`]: the relayer answers with something that is neither an answer nor a problem.
    pub async fn pay(&self, relayer_url: &str, amount: u64) -> Result<Answer<PaymentAnswer>, reqwest::Error> {
        self.present(relayer_url, &self.voucher(amount)).await
    }

    /// Presents a voucher, or what a test made of one.
    ///
    /// # Errors
    /// As [`Channel::pay`].
    ///
    /// # Panics
    /// As [`Channel::pay`].
    pub async fn present(
        &self,
        relayer_url: &str,
        voucher: &PaymentRequest,
    ) -> Result<Answer<PaymentAnswer>, reqwest::Error> {
        answer(self.http.post(format!("{relayer_url}/v1/payments")).json(voucher)).await
    }

    /// Asks a relayer for the channel's state.
    ///
    /// # Errors
    /// As [`Channel::pay`].
    ///
    /// # Panics
    /// As [`Channel::pay`].
    pub async fn read(&self, relayer_url: &str) -> Result<Answer<RelayerChannel>, reqwest::Error> {
        answer(self.http.get(format!("{relayer_url}/v1/channels/{}", self.id))).await
    }

    /// Asks for a close, signed by the payer.
    ///
    /// # Errors
    /// As [`Channel::pay`].
    ///
    /// # Panics
    /// As [`Channel::pay`].
    pub async fn close(&self, relayer_url: &str) -> Result<Answer<CloseAnswer>, reqwest::Error> {
        self.close_as(relayer_url, Party::Payer, &self.payer).await
    }

    /// Asks for a close in the name of a party, signed with `key`.
    ///
    /// # Errors
    /// As [`Channel::pay`].
    ///
    /// # Panics
    /// As [`Channel::pay`].
    pub async fn close_as(
        &self,
        relayer_url: &str,
        requested_by: Party,
        key: &SigningKey,
    ) -> Result<Answer<CloseAnswer>, reqwest::Error> {
        let signature = Signature::of(key, &message::close_request(&self.id));
        let request = CloseRequest { requested_by, signature };
        answer(self.http.post(format!("{relayer_url}/v1/channels/{}/close", self.id)).json(&request)).await
    }
}

/// The signature of a voucher.
///
/// # Panics
/// It is a proof of another scheme.
pub fn signature_of(proof: &Proof) -> Signature {
    match proof {
        Proof::Ed25519 { signature, .. } => *signature,
        other => panic!("not a voucher: {other:?}"),
    }
}

/// A voucher under another signature.
pub fn forged(voucher: PaymentRequest, signature: Signature) -> PaymentRequest {
    PaymentRequest { proof: Proof::Ed25519 { expires_at: 0, signature }, ..voucher }
}

/// What a relayer said, with its HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The status.
    pub status: u16,
    /// The documented body of a success or of an error.
    pub body: Result<T, Box<Problem>>,
}

impl<T> Answer<T> {
    /// The code of a problem; `None` for a success.
    pub fn code(&self) -> Option<&'static str> {
        self.body.as_ref().err().map(|problem| problem.code.as_str())
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<Answer<T>, reqwest::Error> {
    let response = request.send().await?;
    let (status, success) = (response.status().as_u16(), response.status().is_success());
    let body = response.bytes().await?;
    let documented = if success {
        serde_json::from_slice(&body).map(Ok)
    } else {
        serde_json::from_slice(&body).map(|problem| Err(Box::new(problem)))
    };
    let body = documented.unwrap_or_else(|error| {
        panic!("status {status}: {error} in {:?}", String::from_utf8_lossy(&body));
    });
    Ok(Answer { status, body })
}
