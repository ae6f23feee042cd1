//! The Lua files, and how one is called: EVALSHA, and EVAL where the server does not know it yet.

use fred::clients::Client;
use fred::error::Error as RedisError;
use fred::interfaces::LuaInterface;
use fred::types::{Key, Value};
use fred::util::sha1_hash;
use std::sync::LazyLock;

/// A Lua file with its hash.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    sha1: LazyLock<String>,
}

macro_rules! scripts {
    (plain { $($plain:ident = $file:literal;)* } fenced { $($fenced:ident = $ffile:literal;)* }
     booking { $($booking:ident = $bfile:literal;)* } by_hand { $($by_hand:ident = $hfile:literal;)* }) => {
        $(
            #[doc = concat!("`common/lua/", $file, "`: its header says keys, arguments and answers.")]
            pub static $plain: Script = Script {
                source: include_str!(concat!("../../lua/", $file)),
                sha1: LazyLock::new(|| sha1_hash($plain.source)),
            };
        )*
        $(
            #[doc = concat!("`common/lua/", $ffile, "`, after `fence.lua`: its header says keys, arguments and answers.")]
            pub static $fenced: Script = Script {
                source: concat!(include_str!("../../lua/fence.lua"), include_str!(concat!("../../lua/", $ffile))),
                sha1: LazyLock::new(|| sha1_hash($fenced.source)),
            };
        )*
        $(
            #[doc = concat!("`common/lua/", $bfile, "`, after `fence.lua` and `books.lua`: its header says keys, ")]
            #[doc = "arguments and answers."]
            pub static $booking: Script = Script {
                source: concat!(
                    include_str!("../../lua/fence.lua"),
                    include_str!("../../lua/books.lua"),
                    include_str!(concat!("../../lua/", $bfile))
                ),
                sha1: LazyLock::new(|| sha1_hash($booking.source)),
            };
        )*
        $(
            #[doc = concat!("`common/lua/", $hfile, "`, after `books.lua`: its header says keys, arguments and answers.")]
            pub static $by_hand: Script = Script {
                source: concat!(
                    include_str!("../../lua/books.lua"),
                    include_str!(concat!("../../lua/", $hfile))
                ),
                sha1: LazyLock::new(|| sha1_hash($by_hand.source)),
            };
        )*
        /// Every script, by the name of its file.
        pub static ALL: &[(&str, &Script)] = &[$(($file, &$plain),)* $(($ffile, &$fenced),)* $(($bfile, &$booking),)* $(($hfile, &$by_hand),)*];
    };
}

scripts! {
    plain {
    ACCEPT = "accept.lua";
    REGISTER_CHANNEL = "register_channel.lua";
    REQUEST_CLOSE = "request_close.lua";
    READ_CHANNELS = "read_channels.lua";
    ACQUIRE_LEASE = "acquire_lease.lua";
    RENEW_LEASE = "renew_lease.lua";
    RELEASE_LEASE = "release_lease.lua";
    RAISE_TOKEN = "raise_token.lua";
    HALT = "halt.lua";
    TAKE_BACK = "take_back.lua";
    REOPEN = "reopen.lua";
    REQUEUE_DEAD = "requeue_dead.lua";
    }
    fenced {
    TAKE_PARTITION = "take_partition.lua";
    READ_ACCEPTED = "read_accepted.lua";
    RETRY_CLOSE = "retry_close.lua";
    READ_ENDED = "read_ended.lua";
    PASS_IDS = "pass_ids.lua";
    NOTE_HISTORY = "note_history.lua";
    }
    booking {
    APPLY = "apply.lua";
    BEGIN_CLOSE = "begin_close.lua";
    FINISH_CLOSE = "finish_close.lua";
    FAIL_CLOSE = "fail_close.lua";
    }
    by_hand {
    RETRY_FAILED = "retry_failed.lua";
    }
}

impl Script {
    /// The Lua text, as it is sent.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// What a server that knows the script knows it by.
    pub(super) fn sha1(&self) -> &str {
        &self.sha1
    }

    /// Runs a fenced script without its fence, for the test that shows what then goes wrong.
    pub(super) async fn run_unfenced(
        &self,
        client: &Client,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, RedisError> {
        let body = self.source.strip_prefix(include_str!("../../lua/fence.lua")).unwrap_or(self.source);
        client.eval(body, keys, args).await
    }

    /// Runs the script.
    ///
    /// # Errors
    /// Whatever the client or the server said, but for NOSCRIPT, which is answered with the whole script.
    pub async fn run(
        &self,
        client: &Client,
        keys: Vec<impl Into<Key>>,
        args: Vec<Value>,
    ) -> Result<Value, RedisError> {
        // Keys and values share their bytes when they are cloned.
        let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
        self.run_made(client, || (keys.clone(), args.clone())).await
    }

    /// [`Script::run`], with keys and arguments that are made again in the rare case that they are sent again.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn run_made(
        &self,
        client: &Client,
        make: impl Fn() -> (Vec<Key>, Vec<Value>),
    ) -> Result<Value, RedisError> {
        let (keys, args) = make();
        match client.evalsha(self.sha1.as_str(), keys, args).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let (keys, args) = make();
                client.eval(self.source, keys, args).await
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_its_keys_arguments_and_answers() {
        for (file, script) in ALL {
            for word in ["KEYS[1", "ARGV[1", "Returns"] {
                assert!(script.source().contains(word), "{file} does not say {word}");
            }
        }
        assert_eq!(
            ALL.len() + 2,
            std::fs::read_dir("lua").expect("common/lua").count(),
            "fence.lua, books.lua and one each"
        );
    }
}
