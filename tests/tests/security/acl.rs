//! What the documented users of Redis may not do, tried with their own rights.

use super::guarded::{Guarded, RELAYER_PASSWORD, SETTLER_PASSWORD, refusal};

const STATE: &str = "{mr:07}:state:9A1MN7Kak5na2q3icPtsJJNnwH5tjp913ygGiXjq8SuY";

/// What neither may: to lose money, to look at what is not Millrace's, to change the server.
const NEITHER: [&[&str]; 25] = [
    &["FLUSHALL"],
    &["FLUSHDB"],
    &["KEYS", "*"],
    &["SCAN", "0"],
    &["DEL", STATE],
    &["UNLINK", STATE],
    &["EXPIRE", STATE, "0"],
    &["PEXPIRE", STATE, "0"],
    &["RENAME", STATE, "{mr:07}:state:x"],
    &["GETDEL", STATE],
    &["COPY", STATE, "{mr:07}:state:x"],
    &["XDEL", "{mr:07}:accepted", "1-1"],
    &["DEL", "{mr:07}:accepted"],
    &["EVAL", "return redis.call('DEL', KEYS[1])", "1", STATE],
    &["EVAL", "return redis.call('FLUSHALL')", "0"],
    &["GET", "someone:else"],
    &["SET", "someone:else", "x"],
    &["CONFIG", "GET", "*"],
    &["CONFIG", "SET", "appendonly", "no"],
    &["ACL", "LIST"],
    &["SCRIPT", "FLUSH"],
    &["MONITOR"],
    &["SHUTDOWN", "NOSAVE"],
    &["REPLICAOF", "127.0.0.1", "1"],
    &["CLIENT", "LIST"],
];

/// What is the settler's alone: leadership, the fence, the stream's cursor, the dead, the books.
const SETTLERS_ALONE: [&[&str]; 17] = [
    &["GET", "{mr:settler}:lease"],
    &["SET", "{mr:settler}:lease", "x"],
    &["DEL", "{mr:settler}:lease"],
    &["SET", "{mr:settler}:token", "99"],
    &["INCR", "{mr:settler}:token"],
    &["SET", "{mr:07}:fence", "99999999999999999999"],
    &["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "{mr:settler}:lease"],
    &["EVAL", "return redis.call('SET', '{mr:07}:fence', 'x')", "0"],
    &["EVAL", "return redis.call('PEXPIRE', KEYS[1], 0)", "1", STATE],
    &["XREADGROUP", "GROUP", "settler", "x", "STREAMS", "{mr:07}:accepted", ">"],
    &["XACK", "{mr:07}:accepted", "settler", "1-1"],
    &["XTRIM", "{mr:07}:accepted", "MAXLEN", "0"],
    &["XADD", "{mr:07}:dead", "*", "a", "b"],
    &["ZREM", "{mr:07}:due", "x"],
    &["HSET", "{mr:07}:books", "accepted", "1"],
    &["PUBLISH", "{mr:settler}:released", "released"],
    &["SUBSCRIBE", "{mr:settler}:released"],
];

async fn all_are_refused(guarded: &Guarded, user: (&str, &str), commands: &[&[&str]]) {
    let client = guarded.client(user.0, user.1).await;
    for command in commands {
        let error = refusal(&client, command).await;
        let error = error.unwrap_or_else(|| panic!("{} may {command:?}", user.0));
        // Of a script, the server says in other words that it was the user who may not.
        let denied = error.starts_with("NOPERM") || error.contains("The user executing the script can't");
        assert!(denied, "{} is refused {command:?} for another reason: {error}", user.0);
    }
}

async fn with_money() -> Guarded {
    let guarded = Guarded::start().await;
    guarded.redis.command(&["SET", STATE, "O0000000000000000000500000000000000001000proof"]).await;
    guarded.redis.command(&["XADD", "{mr:07}:accepted", "1-1", "a", "b"]).await;
    guarded.redis.command(&["SET", "{mr:settler}:lease", "holder"]).await;
    guarded.redis.command(&["SET", "{mr:07}:fence", "00000000000000000001"]).await;
    guarded
}

#[tokio::test]
async fn the_relayers_user_can_do_nothing_that_is_the_settlers() {
    let guarded = with_money().await;
    let before = guarded.redis.dump().await;
    all_are_refused(&guarded, ("relayer", RELAYER_PASSWORD), &SETTLERS_ALONE).await;
    assert_eq!(guarded.redis.dump().await, before);
}

#[tokio::test]
async fn neither_user_can_delete_money_or_touch_the_server() {
    let guarded = with_money().await;
    let before = guarded.redis.dump().await;
    all_are_refused(&guarded, ("relayer", RELAYER_PASSWORD), &NEITHER).await;
    all_are_refused(&guarded, ("settler", SETTLER_PASSWORD), &NEITHER).await;
    assert_eq!(guarded.redis.dump().await, before);
}

/// The commands that a Lua file calls, as an ACL names them.
fn calls(file: &std::path::Path) -> Vec<String> {
    let source = std::fs::read_to_string(file).expect("a script");
    // Some scripts have a shorter name for it.
    let calls = source.split("call(").skip(1);
    calls
        .map(|call| {
            let mut words = call.split('\'').skip(1).step_by(2).map(str::to_lowercase);
            let name = words.next().expect("a command");
            match name.as_str() {
                "xinfo" | "xgroup" => format!("{name}|{}", words.next().expect("a subcommand")),
                _ => name,
            }
        })
        .collect()
}

#[test]
fn the_documented_users_may_call_what_their_scripts_call_and_no_script_is_forgotten() {
    const RELAYERS: [&str; 3] = ["accept", "register_channel", "request_close"];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let documented = |role: &str| {
        std::fs::read_to_string(root.join(format!("docs/acl/{role}.acl"))).expect("a documented user")
    };
    let (relayer, settler) = (documented("relayer"), documented("settler"));
    let mut scripts = 0;
    for entry in std::fs::read_dir(root.join("common/lua")).expect("the scripts") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let user = if RELAYERS.contains(&name.as_str()) { &relayer } else { &settler };
        for call in calls(&path) {
            assert!(
                user.split([' ', '(', ')']).any(|word| word == format!("+{call}")),
                "{name}.lua calls {call}"
            );
            scripts += 1;
        }
    }
    assert!(scripts > 30, "the scripts call Redis: {scripts}");
}
