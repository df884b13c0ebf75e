//! A headless Chromium, driven over its DevTools protocol: pages are opened, read, clicked and typed into as a person would.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::support::wait;

/// Names under which Debian and others install it.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Folders of programs, for a test that is started without a search path.
const FOLDERS: &str = "/usr/bin:/usr/local/bin";

/// A running browser; ended when dropped.
pub struct Browser {
    child: Child,
    port: u16,
    control: Link,
    _profile: TempDir,
}

/// One socket to the browser or to a page of it.
struct Link {
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// What went wrong in the page meanwhile.
    errors: Vec<String>,
}

/// An open page.
pub struct Page {
    link: Link,
    /// The system's colours, for pictures.
    scheme: String,
}

fn program() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":" + FOLDERS;
    let folders: Vec<&str> = path.split(':').collect();
    PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| Path::new(folder).join(name)))
        .find(|path| path.exists())
}

impl Browser {
    /// Starts one; `None`, with a sentence, on a machine that has none.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            println!("skipped: no Chromium is installed (Debian: apt-get install chromium)");
            return None;
        };
        let profile = TempDir::with_prefix("dolmen-browser-").expect("a temporary directory");
        let mut child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking", "--lang=en"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned))
            .expect("the browser says where it listens");
        // What it goes on to say must be read, or it would wait.
        std::thread::spawn(move || lines.for_each(drop));
        let port = address.split([':', '/']).find_map(|part| part.parse().ok()).expect("a port");
        Some(Self { child, port, control: Link::open(port, &address), _profile: profile })
    }

    /// Opens a page and waits until the explorer in it lives.
    pub fn open(&mut self, url: &str) -> Page {
        let mut page = self.new_page();
        page.go(url);
        page
    }

    /// Opens a page that is not the explorer.
    pub fn open_plain(&mut self, url: &str) -> Page {
        let mut page = self.new_page();
        page.call("Page.navigate", json!({ "url": url }));
        page.until("location.href !== 'about:blank' && document.readyState === 'complete'");
        page
    }

    fn new_page(&mut self) -> Page {
        let target = self.control.call("Target.createTarget", json!({ "url": "about:blank" }));
        let id = target["targetId"].as_str().expect("a target").to_owned();
        let link = Link::open(self.port, &format!("ws://127.0.0.1:{}/devtools/page/{id}", self.port));
        let mut page = Page { link, scheme: "light".to_owned() };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        page.size(1280, 900);
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing lets its helpers end and its profile be removed; a browser that does not is killed.
        let _ = self.control.socket.send(Message::text(json!({ "id": 0, "method": "Browser.close" }).to_string()));
        let ended = wait::try_until(std::time::Duration::from_secs(5), || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Link {
    fn open(port: u16, url: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the browser listens");
        stream.set_read_timeout(Some(wait::SOON)).expect("a timeout");
        let (socket, _) = tungstenite::client(url, stream).expect("the browser speaks DevTools");
        Self { socket, calls: 0, errors: Vec::new() }
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let message = json!({ "id": id, "method": method, "params": parameters });
        self.socket.send(Message::text(message.to_string())).expect("the browser reads");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method} is answered: {error}"));
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).expect("DevTools speak JSON");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                self.errors.push(parameters["args"].to_string());
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                self.errors.push(parameters["entry"].to_string());
            }
            _ => {}
        }
    }
}

impl Page {
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.link.call(method, parameters)
    }

    /// Goes to an address.
    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until(
            "document.readyState === 'complete' && document.querySelector('#live.live:not(.connecting)')?.textContent",
        );
    }

    /// Loads the page again.
    pub fn reload(&mut self) {
        self.run("window.before = true");
        self.call("Page.reload", json!({}));
        self.until(
            "!window.before && document.readyState === 'complete' && document.querySelector('#live')?.textContent",
        );
    }

    /// The window's size.
    pub fn size(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The system's colours, as of the next picture.
    pub fn colours(&mut self, scheme: &str) {
        scheme.clone_into(&mut self.scheme);
    }

    /// The value of an expression.
    pub fn run(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true, or anything that counts as that; returns it.
    pub fn until(&mut self, expression: &str) -> Value {
        let found = wait::try_until(wait::SOON, || {
            // In the moment between two pages there is none to ask.
            let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
            let value = self.call("Runtime.evaluate", parameters)["result"]["value"].clone();
            let nothing = value.is_null() || value == false || value == 0 || value == "";
            (!nothing).then_some(value)
        });
        found.unwrap_or_else(|| {
            let text = self.run("document.body.innerText");
            panic!("waited in vain for {expression}; the page says:\n{}", text.as_str().unwrap_or_default())
        })
    }

    /// Waits until an element's text contains a part; returns the text.
    pub fn says(&mut self, selector: &str, part: &str) -> String {
        let (selector, part) = (json!(selector), json!(part));
        let text =
            format!("[...document.querySelectorAll({selector})].map(e => e.textContent).find(t => t.includes({part}))");
        self.until(&text).as_str().unwrap_or_default().to_owned()
    }

    /// Clicks into the middle of an element, or of the one that has taken its place when the click comes. What else moves the
    /// page meanwhile can make a click miss: then once more.
    pub fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        let aim = format!(
            "(() => {{ const e = document.querySelector({selector}); if (!e || e.disabled) return null; \
             e.scrollIntoView({{ block: 'center' }}); const r = e.getBoundingClientRect(); if (!r.width) return null; \
             const at = [r.x + r.width / 2, r.y + r.height / 2]; if (!e.contains(document.elementFromPoint(...at))) return null; \
             window.hit = null; const hits = target => e.contains(target) || document.querySelector({selector})?.contains(target) === true; \
             addEventListener('click', click => window.hit = hits(click.target), {{ once: true, capture: true }}); \
             return at; }})()"
        );
        let hit = wait::try_until(wait::SOON, || {
            let place = self.until(&aim);
            for kind in ["mousePressed", "mouseReleased"] {
                let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
                self.call("Input.dispatchMouseEvent", event);
            }
            (self.run("window.hit") == true).then_some(())
        });
        assert!(hit.is_some(), "{selector} was clicked in vain");
    }

    /// Types a text where the focus is.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "ArrowDown" => (40, ""),
            "ArrowUp" => (38, ""),
            other => panic!("no key {other}"),
        };
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        let key =
            |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", key(down));
        self.call("Input.dispatchKeyEvent", key("keyUp"));
    }

    /// Writes what the page looks like to where a person can look at it.
    pub fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).expect("a folder for pictures");
        let still = json!([{ "name": "prefers-reduced-motion", "value": "reduce" }, { "name": "prefers-color-scheme", "value": self.scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": still }));
        self.run("window.scrollTo(0, 0)");
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, base64(answer["data"].as_str().expect("a picture"))).expect("the picture is written");
        println!("{}", file.display());
    }

    /// Panics if anything went wrong in the page that the test did not mean to: refused requests to these paths are meant.
    pub fn assert_no_errors(&mut self, meant: &[&str]) {
        self.run("0");
        let errors: Vec<&String> =
            self.link.errors.iter().filter(|error| !meant.iter().any(|path| error.contains(path))).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

/// The bytes of a text in base64, as DevTools send pictures.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        // A position is below 64, so 14 bits are the most that are held.
        held = (held << 6 | digit as u32) & 0x3fff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}
