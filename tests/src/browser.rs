//! A real browser without a window, driven over its own debugging protocol: what a person would see, click and miss.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use cli::stack::child::Supervised;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::wait::wait_for;

/// How long the browser may take for anything: it starts on a machine that runs other tests as well.
const DEADLINE: Duration = Duration::from_secs(60);

/// By what names it goes.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Without a window, without a word to anyone, and as root too.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "--remote-debugging-address=127.0.0.1",
];

/// A browser with one page, gone with the test that started it.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    session: String,
    calls: u64,
    events: VecDeque<Value>,
    complaints: Vec<String>,
    _process: Supervised,
    _dir: TempDir,
}

impl Browser {
    /// Starts the browser that `CHROMIUM_BIN` names, or one of the usual ones in `PATH`.
    ///
    /// # Panics
    /// There is none, or it does not start: a page that nobody looked at was not tested.
    pub async fn start() -> Browser {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let profile = dir.path().join("profile");
        let mut command = Command::new(program());
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.env("HOME", dir.path());
        let log = dir.path().join("browser.log");
        let process = Supervised::spawn("browser", command, &log).unwrap_or_else(|error| panic!("{error}"));
        let address = wait_for(DEADLINE, "the browser says where it listens", || async {
            address(&profile.join("DevToolsActivePort"))
        })
        .await;
        let (port, path) = address;
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.expect("the browser listens");
        // A screenshot comes as one message.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) =
            client_async_with_config(url, tcp, Some(config)).await.expect("a WebSocket connection");
        let mut browser = Browser {
            socket,
            session: String::new(),
            calls: 0,
            events: VecDeque::new(),
            complaints: Vec::new(),
            _process: process,
            _dir: dir,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Calls a method of the protocol.
    ///
    /// # Panics
    /// The browser refuses, or does not answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("the browser is there");
        loop {
            let heard = self.hear().await;
            if heard["id"] == json!(id) {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
            self.note(heard);
        }
    }

    async fn hear(&mut self) -> Value {
        loop {
            let heard = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("an answer in time");
            match heard.expect("the browser is there").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(_) => panic!("the browser is gone"),
                _ => {}
            }
        }
    }

    /// Keeps an event, and what a person would find in the console of the developer's tools.
    fn note(&mut self, event: Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
        self.events.push_back(event);
    }

    /// Waits for an event that has not been waited for yet.
    async fn event(&mut self, method: &str) -> Value {
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["method"] == method {
                    return event;
                }
            }
            let heard = self.hear().await;
            self.note(heard);
        }
    }

    /// Opens a page and waits until it is there.
    ///
    /// # Panics
    /// It cannot be opened.
    pub async fn open(&mut self, url: &str) {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.event("Page.loadEventFired").await;
    }

    /// Clicks what a selector finds, and waits until the page behind it is there.
    ///
    /// # Panics
    /// There is no such element.
    pub async fn follow(&mut self, selector: &str) {
        self.events.clear();
        self.click(selector).await;
        self.event("Page.loadEventFired").await;
    }

    /// Clicks what a selector finds, in its middle, as a mouse does.
    ///
    /// # Panics
    /// There is no such element, or nothing of it is to be seen.
    pub async fn click(&mut self, selector: &str) {
        let script = format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        );
        let place = self.eval(&script).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Types into what a selector finds.
    ///
    /// # Panics
    /// There is no such element.
    pub async fn type_into(&mut self, selector: &str, text: &str) {
        self.click(selector).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// What a script comes to, as JSON.
    ///
    /// # Panics
    /// It throws.
    pub async fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The words that a selector's element shows.
    ///
    /// # Panics
    /// There is no such element.
    pub async fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?}).innerText")).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until a script comes to `true`.
    ///
    /// # Panics
    /// It does not in time; the message says `what` was waited for.
    pub async fn wait_until(&mut self, what: &str, script: &str) {
        let start = std::time::Instant::now();
        while self.eval(script).await != json!(true) {
            assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Turns JavaScript on or off, from the next page on.
    pub async fn javascript(&mut self, on: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !on})).await;
    }

    /// Prefers dark colours, or light ones.
    pub async fn dark(&mut self, on: bool) {
        let value = if on { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// Makes the window so large, in CSS pixels, on a screen with `scale` of its own to each.
    pub async fn size(&mut self, width: u32, height: u32, scale: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// The page as a PNG, from its top to its end or `height_max` CSS pixels down.
    ///
    /// # Panics
    /// The browser sends none.
    pub async fn screenshot(&mut self, height_max: u32) -> Vec<u8> {
        let script = "[document.documentElement.clientWidth, document.documentElement.scrollHeight]";
        let size = self.eval(script).await;
        let height = size[1].as_u64().map(|height| height.min(height_max.into()));
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1});
        let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", params).await;
        let data = answer["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    /// What the browser has complained of since it was last asked: exceptions, violations of the page's policy, what could
    /// not be loaded.
    pub fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }
}

fn program() -> String {
    if let Ok(named) = std::env::var("CHROMIUM_BIN") {
        return named;
    }
    let runs = |name: &&'static str| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = NAMES.into_iter().find(runs);
    let found = found.expect("no Chromium in PATH: run tests/install-deps.sh, or name one in CHROMIUM_BIN");
    found.to_owned()
}

/// What the browser writes once it listens: a port, and a path.
fn address(file: &Path) -> Option<(u16, String)> {
    let text = std::fs::read_to_string(file).ok()?;
    let (port, path) = text.trim_end().split_once('\n')?;
    Some((port.parse().ok()?, path.to_owned()))
}
