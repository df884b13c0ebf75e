//! The explorer in a real browser, driven from end to end. Needs Chromium: without one each test says so and passes.
//!
//! Pictures of what a person would see are left in `target/tmp/screenshots`.

#[path = "../support/mod.rs"]
mod support;

#[path = "../store/blocks.rs"]
#[allow(dead_code, reason = "shared with the store's tests")]
mod blocks;

/// The browser.
mod devtools;

use std::sync::Arc;

use devtools::{Browser, Page};
use dolmen::ledger::storage::Storage;
use dolmen::store::{Options, RealDisk, Store};
use serde_json::{Value, json};
use support::writers::fill;
use support::{NodeOptions, NodeProcess, add_peer, mine, mine_all, tip, wait_equal, wait_index};
use tungstenite::Message;

fn lone() -> NodeProcess {
    NodeProcess::start(NodeOptions::new())
}

fn open(browser: &mut Browser, node: &NodeProcess, path: &str) -> Page {
    browser.open(&format!("{}/{path}", node.http_url()))
}

/// Mines through the form.
fn mine_by_form(page: &mut Page, entry: &str) {
    page.click("#entry");
    page.write(entry);
    page.click("#mine button");
}

#[test]
fn what_is_mined_through_the_form_shows_on_another_nodes_page() {
    let Some(mut browser) = Browser::start() else { return };
    let (a, b) = (lone(), lone());
    add_peer(&a, &b.p2p_url());
    let (mut here, mut there) = (open(&mut browser, &a, ""), open(&mut browser, &b, ""));
    here.says("#fact-peers", "1");
    mine_by_form(&mut here, "Hello from the form");
    here.says("#mine-said", "Mined: block 1.");
    here.says("#detail-title", "Block 1");
    here.says("#receipts li", "in block 1, 1 deep, on 1 peer");
    let (_, hash) = tip(&a);
    here.says("#field-hash", &hash);
    there.says("#stones .stone:last-child", "Hello from the form");
    there.says("#blocks li:first-child", "Hello from the form");
    there.click("#blocks a[data-index='1']");
    there.says("#field-hash", &hash);
    there.says("#field-confirmations", "1");
    // It counts on by itself, and so does the receipt.
    mine(&b, "a second one");
    there.says("#field-confirmations", "2");
    here.says("#receipts li", "2 deep");
    there.until("document.querySelector('#next:not([hidden])')?.textContent");

    // What others wrote is text, whatever it looks like, and hides nothing.
    let bad = "<script>window.bad = 1</script><img src=x onerror='window.bad = 2'>\u{202e}turned\u{7}";
    mine_by_form(&mut here, bad);
    here.says("#detail-title", "Block 3");
    let shown = here.says("#body li", "<script>window.bad = 1</script><img src=x onerror='window.bad = 2'>");
    assert!(shown.ends_with("U+202EturnedU+0007"), "{shown}");
    there.says("#stones", "<script>");
    for page in [&mut here, &mut there] {
        assert_eq!(
            page.run("[window.bad, document.querySelectorAll('script:not([src]), main img').length]"),
            json!([null, 0])
        );
        page.assert_no_errors(&[]);
    }

    // Several entries at once.
    here.click("#lines");
    mine_by_form(&mut here, "one\ntwo\nthree");
    here.says("#body-title", "Entries (3)");
    here.until("document.querySelectorAll('#tree .node').length === 6");
    here.assert_no_errors(&[]);
    here.size(1280, 1500);
    here.picture("chain");
}

#[test]
fn a_reorg_is_followed_live() {
    let Some(mut browser) = Browser::start() else { return };
    let (a, b) = (lone(), lone());
    mine(&a, "ours, which will lose its place");
    let ours = tip(&a).1;
    for number in 1..=3 {
        mine(&b, &format!("theirs {number}"));
    }
    let mut page = open(&mut browser, &a, &format!("#/{ours}"));
    page.says("#field-confirmations", "1");
    let mut forks = open(&mut browser, &a, "#/forks");
    forks.says("#forks-said", "Every block this node knows is on the best chain.");
    add_peer(&a, &b.p2p_url());
    page.says("#field-confirmations", "not on the best chain");
    page.says("#stones", "theirs 3");
    forks.says("#reorgs", "After block 0, 1 left and");
    // Who comes later is told, too.
    let mut late = open(&mut browser, &a, "#/forks");
    late.says("#reorgs", "After block 0, 1 left and");
    late.says("#reorgs", &ours[..6]);
    late.assert_no_errors(&[]);
    // The tree of branches, and our entry in its new place.
    forks.says("#branches", &format!("{}…", &ours[..8]));
    forks.until("document.querySelectorAll('#tree-of-forks .orphan').length === 1");
    wait_index(&a, 4);
    page.says("#stones .stone:last-child", "ours, which will lose its place");
    forks.size(1280, 900);
    forks.picture("forks");
    forks.click("#branches a");
    forks.says("#field-confirmations", "not on the best chain");
    for page in [&mut page, &mut forks] {
        page.assert_no_errors(&[]);
    }
    wait_equal(&[&a, &b]);
}

#[test]
fn a_parked_branch_is_shown_with_the_way_to_take_it_over() {
    let Some(mut browser) = Browser::start() else { return };
    let (a, b) = (NodeProcess::start(NodeOptions::new().arg("--max-reorg").arg("2")), lone());
    (1..=4).for_each(|number| drop(mine(&a, &format!("ours {number}"))));
    (1..=9).for_each(|number| drop(mine(&b, &format!("theirs {number}"))));
    let theirs = tip(&b).1;
    let mut page = open(&mut browser, &a, "#/forks");
    // The stranger dials; nobody here named it.
    add_peer(&b, &a.p2p_url());
    page.says("#parked", "1 longer branch is parked");
    page.says("#parked a", "See the branches");
    page.says("#branches", &format!("dolmen adopt {theirs}"));
    page.until("document.querySelectorAll('#tree-of-forks .orphan.parked').length > 1");
    page.size(1280, 900);
    page.picture("parked");
    let _ = a.post_json(&format!("/forks/{theirs}/adopt"), "{}").expect(200);
    page.says("#reorgs", "After block 0, 4 left and");
    page.until("document.getElementById('parked').hidden");
    page.assert_no_errors(&[]);
}

#[test]
fn blocks_are_found_and_verified() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    fill(node.http_port(), "filler", 1_500);
    mine(&node, "a Needle in the stones");
    let (needle, hash) = tip(&node);
    let many: Vec<String> = (0..100).map(|number| format!("reading {number}")).collect();
    mine_all(&node, &many.iter().map(String::as_str).collect::<Vec<_>>());
    fill(node.http_port(), "more", 500);
    let mut page = open(&mut browser, &node, "");
    let find = |page: &mut Page, text: &str| {
        page.run("document.getElementById('wanted').value = ''");
        page.click("#wanted");
        page.write(text);
        page.press("Enter");
    };
    find(&mut page, "needle");
    page.says("#found-said", "Looked through the whole chain");
    assert_eq!(page.run("document.querySelectorAll('#found-rows li').length"), 1);
    page.click("#found-rows a");
    page.says("#field-hash", &hash);
    find(&mut page, &(needle + 1).to_string());
    page.says("#body-title", "Entries (100)");
    // A large body: the way from one entry to the root, and no more.
    page.says("#tree", "100 entries");
    let drawn = page.run("document.querySelectorAll('#tree .node').length").as_u64().expect("a number");
    assert!((10..=15).contains(&drawn), "{drawn} nodes");
    a_large_tree_is_drawn_and_proves_each_entry(&mut page);
    find(&mut page, &hash.to_uppercase());
    page.until(&format!("document.getElementById('field-hash')?.textContent === '{hash}'"));

    page.click("#check-one");
    page.says("#checked", "✓ The SHA-256 of the header is the block hash.");
    page.says("#checked", "✓ The Merkle root of the entries is the header’s.");
    page.click("#check-down");
    page.says("#checked", &format!("All {} blocks from here to genesis are right", "1,502"));
    // The same code, given one changed letter, says so.
    let verdict = page.run(
        "import('/explorer/hashes.js').then(async hashes => { \
           const blocks = await (await fetch('/blocks?from=0&limit=5')).json(); \
           const top = (await (await fetch('/blocks/5')).json()).header.previousHash; \
           const run = changed => hashes.judgeDown(4, top, async (from, count) => changed.slice(from, from + count), () => true); \
           const good = await run(structuredClone(blocks)); \
           blocks[2].body[0] += '!'; \
           const bad = await run(blocks); \
           return [good.done, good.wrong ?? null, bad.wrong, bad.verdict.hashRight, bad.verdict.rootRight]; })",
    );
    assert_eq!(verdict, json!([5, null, 2, true, false]));

    // A window on the chain: few rows, wherever one goes.
    let rows = "document.querySelectorAll('#blocks li').length";
    assert_eq!(page.run(rows), 12);
    page.run("(() => { const slide = document.getElementById('slide'); slide.value = 700; slide.dispatchEvent(new Event('input')); })()");
    page.says("#blocks li:first-child .number", "700");
    page.click("#older");
    page.says("#blocks li:first-child .number", "688");
    // While one looks elsewhere the chain grows, and the list stays.
    mine(&node, "one more");
    page.says("#latest", "newer)");
    assert_eq!(page.run(rows), 12);
    assert_eq!(page.says("#blocks li:first-child .number", ""), "688");
    page.click("#latest");
    page.says("#blocks li:first-child", "one more");

    find(&mut page, "999999");
    page.says("#detail", "There is no block 999999 here.");
    page.assert_no_errors(&["/blocks/999999"]);

    // For people to look at: dark, narrow, Korean, and the network of the next test beside it.
    find(&mut page, &(needle + 1).to_string());
    page.says("#tree", "100 entries");
    page.colours("dark");
    page.size(1280, 2200);
    page.picture("block-dark");
    page.colours("light");
    page.size(390, 2600);
    page.picture("block-narrow");
    assert_eq!(page.run("document.documentElement.scrollWidth"), 390, "nothing stands out at the side");
}

/// Of the block with 100 entries: the shape of its whole tree, and the proof of whatever entry is chosen.
fn a_large_tree_is_drawn_and_proves_each_entry(page: &mut Page) {
    let feet = "document.querySelector('#tree-shape .feet').getAttribute('d').split('M').length - 1";
    assert_eq!(page.run(feet), 100);
    // 99 inner nodes and the odd ones that move up: each has a line to the one above.
    let lines = "document.querySelector('#tree-shape .twigs').getAttribute('d').split('M').length - 1";
    assert_eq!(page.run(lines), 100 + 50 + 25 + 13 + 7 + 4 + 2);
    // The last entry has no neighbour on its way: at the third row it moves up as it is.
    page.run("(() => { const leaf = document.getElementById('leaf'); leaf.value = 99; leaf.dispatchEvent(new Event('input')); })()");
    page.says("#steps", "reading 99");
    page.says("#steps", "It has no neighbour, and moves up as it is");
    page.says("#steps li:last-child", "This is the merkleRoot of the header.");
    // A click into the drawing chooses the entry below it.
    page.click("#tree-shape svg");
    let chosen = page.until("['49', '50'].find(leaf => leaf === document.getElementById('leaf').value)");
    let entry = format!("reading {}", chosen.as_str().expect("a number"));
    page.says("#steps", &entry);
    // The steps, computed again: each takes what the one before gave, and the last gives the root.
    page.run(&format!("window.entry = '{entry}'"));
    let proven = page.run(
        "import('/explorer/hashes.js').then(async ({ sha256 }) => { \
           const upper = async text => (await sha256(text)).toUpperCase(); \
           const steps = [...document.querySelectorAll('#steps li')].slice(0, -1).map(li => [...li.querySelectorAll('.mono')].map(e => e.title)); \
           let now = await upper(window.entry); \
           if (steps[0][0] !== now) return 'the leaf is another'; \
           for (const step of steps.slice(1)) { \
             if (step.length === 3) { \
               if (!step.slice(0, 2).includes(now)) return 'a step does not take what was given'; \
               now = await upper(step[0] + step[1]); \
             } \
             if (step.at(-1) !== now) return 'a step does not give what it says'; \
           } \
           return now === document.getElementById('field-merkleRoot').textContent ? 'proven' : 'another root'; })",
    );
    assert_eq!(proven, "proven");
}

#[test]
fn a_very_large_tree_is_folded_up() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    let many: Vec<String> = (0..3_000).map(|number| format!("entry {number}")).collect();
    mine_all(&node, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut page = open(&mut browser, &node, "#/1");
    page.says("#tree", "a mark stands for 16 entries");
    let feet = "document.querySelector('#tree-shape .feet').getAttribute('d').split('M').length - 1";
    assert_eq!(page.run(feet), 188, "3,000 entries by sixteens");
    page.run("(() => { const leaf = document.getElementById('leaf'); leaf.value = 2999; leaf.dispatchEvent(new Event('input')); })()");
    page.says("#steps", "entry 2999");
    assert_eq!(page.run("document.querySelectorAll('#steps li').length"), 14, "the leaf, twelve rows, and the root");
    page.size(1280, 1500);
    page.picture("tree-folded");
    page.assert_no_errors(&[]);
}

/// Draws so many peers for a wide page and for a phone; says what stands out of a drawing or covers another peer.
const CROWDED: &str = "import('/explorer/drawings.js').then(({ peerGraph }) => { \
    const place = document.getElementById('graph'), tip = { index: 1234567, hash: 'a' }, wrong = []; \
    const peer = (_, at) => ({ address: at % 3 ? `ws://10.0.0.${at}:6005` : `ws://a-very-long-name-${at}.example.org:6005`, \
      direction: at % 2 ? 'inbound' : 'outbound', kind: at % 4 === 3 ? 'tutorial' : 'native', latencyMs: 12.3, \
      tip: { index: 1234000 + at, hash: at % 2 ? 'a' : 'b' } }); \
    const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height; \
    for (const count of [1, 2, 3, 6, 7, 12, 13, 24]) for (const room of [1190, 327]) { \
      place.replaceChildren(peerGraph(Array.from({ length: count }, peer), tip, room).drawing); \
      const { width, height } = place.firstChild.viewBox.baseVal; \
      const parts = group => [...group.querySelectorAll('circle, rect, text')].filter(part => !part.textContent.endsWith(' ms')); \
      const own = [...place.querySelectorAll('.peer')].map(group => parts(group).map(part => part.getBBox())); \
      const out = box => box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height; \
      if (own.flat().some(out)) wrong.push(`${count} in ${room} stand out`); \
      if (own.some((mine, at) => own.slice(at + 1).some(other => mine.some(a => other.some(b => meet(a, b)))))) wrong.push(`${count} in ${room} cover another`); \
    } \
    return wrong; })";

#[test]
fn a_few_peers_and_many_are_told_apart() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    let mut page = open(&mut browser, &node, "#/network");
    page.says("#graph-left", "No peer is known yet.");
    assert_eq!(page.run(CROWDED), json!([]));
    page.assert_no_errors(&[]);
}

/// Everything that is read stands out from what is behind it as WCAG 2 AA wants: 4.5 to 1, large text 3 to 1.
const FAINT: &str = "(() => { \
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true }); \
    const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); \
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; }; \
    const over = (top, below) => top.slice(0, 3).map((part, at) => part * top[3] + below[at] * (1 - top[3])); \
    const light = colour => { const [r, g, b] = colour.map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); \
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
    const behind = node => { const above = []; \
      for (let at = node; at; at = at.parentElement) { const own = rgba(getComputedStyle(at).backgroundColor); above.push(own); if (own[3] === 1) break; } \
      return above.reverse().reduce((below, own) => over(own, below), [255, 255, 255]); }; \
    const faint = []; \
    for (const node of document.querySelectorAll('body *')) { \
      if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()) || node.checkVisibility?.() === false) continue; \
      if (node.matches(':disabled, :disabled *, .sr, .skip, noscript, title')) continue; \
      const style = getComputedStyle(node), drawn = node instanceof SVGElement; \
      let back = behind(drawn ? node.closest('svg').parentElement : node); \
      const box = drawn && node.parentNode.querySelector?.(':scope > rect, :scope > circle'); \
      if (box && node.matches('.node text, .peer.us text')) back = over(rgba(getComputedStyle(box).fill), back); \
      const [one, other] = [light(over(rgba(drawn ? style.fill : style.color), back)), light(back)]; \
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05); \
      const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700; \
      if (ratio < (large ? 3 : 4.5)) faint.push(`${node.tagName} ${node.className.baseVal ?? node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`); \
    } \
    return [...new Set(faint)]; })()";

#[test]
fn all_text_can_be_read_in_both_colours_and_on_a_phone() {
    let Some(mut browser) = Browser::start() else { return };
    let (a, b) = (NodeProcess::start(NodeOptions::new().arg("--max-reorg").arg("2")), lone());
    mine_all(&a, &["one", "two", "three"]);
    (1..=3).for_each(|number| drop(mine(&a, &format!("ours {number}"))));
    (1..=9).for_each(|number| drop(mine(&b, &format!("theirs {number}"))));
    add_peer(&b, &a.p2p_url());
    add_peer(&a, "ws://127.0.0.1:1");
    for (path, shown) in [
        ("#/1", "document.querySelectorAll('#tree .node').length"),
        ("#/network", "document.querySelectorAll('#graph .peer').length > 2"),
        ("#/forks", "document.querySelectorAll('#tree-of-forks .parked').length"),
        ("docs", "document.querySelectorAll('#routes details').length > 10"),
    ] {
        let name = path.trim_start_matches("#/");
        let mut page = if path == "docs" {
            browser.open_plain(&format!("{}/docs", a.http_url()))
        } else {
            open(&mut browser, &a, path)
        };
        page.until(shown);
        if path == "#/1" {
            mine_by_form(&mut page, &"AB".repeat(32));
            page.says("#mine-said dd", "entry-ambiguous");
            page.click("#check-one");
            page.says("#checked", "✓");
        }
        for scheme in ["dark", "light"] {
            page.colours(scheme);
            for width in [1280, 390] {
                page.size(width, 900);
                page.picture(&format!("{name}-{scheme}-{width}"));
                assert_eq!(page.run(FAINT), json!([]), "{path} {scheme} {width}");
                assert_eq!(page.run("document.documentElement.scrollWidth"), width, "{path} stands out at the side");
            }
        }
        page.assert_no_errors(&["/mineBlock"]);
    }
}

#[test]
fn the_api_is_described_and_tried_on_a_page_of_its_own() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    mine(&node, "<b>text</b>");
    let mut page = browser.open_plain(&format!("{}/docs", node.http_url()));
    page.says("#about", "OpenAPI 3.1");
    let described = node.get("/openapi.json").expect(200).json();
    let operations: usize = described["paths"]
        .as_object()
        .expect("paths")
        .values()
        .map(|item| item.as_object().map_or(0, serde_json::Map::len))
        .sum();
    assert_eq!(page.run("document.querySelectorAll('#routes details').length"), operations);
    let objects = described["components"]["schemas"].as_object().expect("schemas").len();
    assert_eq!(page.run("document.querySelectorAll('#schemas details').length"), objects);
    page.run("[...document.querySelectorAll('#routes details')].find(e => e.querySelector('.path').textContent === '/blocks/{name}').open = true");
    page.click("#routes details[open] form button");
    page.says("#routes details[open] form [role=status]", "GET /blocks/tip → 200");
    page.says("#routes details[open] form pre", "<b>text</b>");
    page.run("location.hash = '#object-Receipt'");
    page.until("document.getElementById('object-Receipt').open");
    let elsewhere =
        "performance.getEntriesByType('resource').filter(e => new URL(e.name).origin !== location.origin).length";
    assert_eq!(page.run(elsewhere), 0, "nothing comes from elsewhere");
    page.assert_no_errors(&[]);
}

/// Makes a chain of so many blocks in a data directory.
fn long_chain(dir: &std::path::Path, count: usize) {
    let (mut store, _) = Store::open(dir, Arc::new(RealDisk), Options::default()).expect("an empty directory");
    for part in (0..count).step_by(1_000) {
        let blocks = blocks::branch(store.tip(), (count - part).min(1_000), "stone");
        let batch = blocks::extend(store.tip(), &blocks);
        store.commit(&batch).expect("room");
    }
    store.close().expect("the store closes");
}

#[test]
fn the_page_fetches_no_more_of_a_long_chain_than_it_shows() {
    let Some(mut browser) = Browser::start() else { return };
    // DOLMEN_TEST_BLOCKS=1000000 shows the same for a million.
    let count = std::env::var("DOLMEN_TEST_BLOCKS").ok().and_then(|text| text.parse().ok()).unwrap_or(50_000_usize);
    let dir = tempfile::TempDir::with_prefix("dolmen-long-").expect("a temporary directory");
    long_chain(dir.path(), count);
    let node = NodeProcess::start(NodeOptions::new().data_dir(dir.path()));
    let mut page = open(&mut browser, &node, "");
    page.says("#blocks li:first-child", &format!("stone {}", (count - 1) % 1_000));
    let top = count / 2;
    page.run(&format!(
        "(() => {{ const slide = document.getElementById('slide'); slide.value = {top}; slide.dispatchEvent(new Event('input')); }})()"
    ));
    page.until(&format!("document.querySelector('#blocks li:first-child a').dataset.index === '{top}'"));
    page.click("#blocks li:first-child a");
    page.says("#field-confirmations", "");
    page.click("#wanted");
    page.write("no entry has this text");
    page.press("Enter");
    page.says("#found-said", "Looked through blocks");
    page.click("#found-more");
    let bytes = "performance.getEntriesByType('resource').filter(e => !e.name.includes('/explorer/')).reduce((sum, e) => sum + e.transferSize, 0)";
    let bytes = page.run(bytes).as_u64().expect("a number");
    assert!(bytes < 60_000, "{bytes} bytes were fetched");
    let elements = page.run("document.querySelectorAll('*').length").as_u64().expect("a number");
    assert!(elements < 600, "{elements} elements are in the page");
    let slowest = page.run("Math.round(Math.max(...performance.getEntriesByType('resource').map(e => e.duration)))");
    println!("{count} blocks: {bytes} bytes fetched, the slowest answer took {slowest} ms");
    page.assert_no_errors(&[]);
}

#[test]
fn the_keyboard_alone_is_enough() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    for number in 1..=15 {
        mine(&node, &format!("stone {number}"));
    }
    let mut page = open(&mut browser, &node, "");
    page.says("#blocks li:first-child", "stone 15");
    let focused = "document.activeElement.id || document.activeElement.textContent.trim()";
    page.press("Tab");
    assert_eq!(page.run(focused), "Skip to the content");
    page.press("Enter");
    assert_eq!(page.run(focused), "main");
    let tab_to = |page: &mut Page, wanted: &str| {
        for _ in 0..80 {
            if page.run(wanted) == true {
                // Whoever sees the page sees where they are.
                let outline = page.run("getComputedStyle(document.activeElement).outlineStyle");
                assert_eq!(outline, "solid", "{wanted}");
                return;
            }
            page.press("Tab");
        }
        panic!("no Tab leads to {wanted}");
    };
    tab_to(&mut page, "document.activeElement.id === 'entry'");
    page.write("by the keyboard");
    tab_to(&mut page, "document.activeElement.matches('#mine button')");
    page.press("Enter");
    page.says("#mine-said", "Mined: block 16.");
    page.says("#blocks li:first-child", "by the keyboard");
    tab_to(&mut page, "document.activeElement.matches('#blocks li:first-child a')");
    // Down through the list, over its end, where it turns the page.
    for index in (4..16).rev() {
        page.press("ArrowDown");
        page.until(&format!("document.activeElement.dataset.index === '{index}'"));
    }
    page.press("Enter");
    page.says("#detail-title", "Block 4");
    page.until("document.querySelector('#blocks a[aria-current]')");
    tab_to(&mut page, "document.activeElement.id === 'check-one'");
    page.press("Enter");
    page.says("#checked", "✓");
    // Names for who cannot see: every control has one, and every drawing.
    let nameless = page.run(
        "[...document.querySelectorAll('button, input, textarea, a, svg[role=img]')].filter(e => e.offsetParent !== null || e.matches('svg')) \
           .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML.slice(0, 80))",
    );
    // The stone of the head is decoration.
    assert_eq!(nameless, json!([]));
    page.assert_no_errors(&[]);
}

#[test]
fn the_page_speaks_english_and_korean_and_remembers_which() {
    let Some(mut browser) = Browser::start() else { return };
    let node = lone();
    mine(&node, "안녕하세요, 돌무덤");
    let mut page = open(&mut browser, &node, "#/1");
    page.says("#detail-title", "Block 1");
    page.click("[data-language=ko]");
    page.says("nav a[aria-current]", "체인");
    page.says("#detail-title", "블록 1");
    assert_eq!(page.run("document.documentElement.lang"), "ko");
    page.reload();
    page.says("#detail-title", "블록 1");
    assert_eq!(page.run("document.querySelector('[data-language=ko]').getAttribute('aria-pressed')"), "true");
    let keys = page.run("import('/explorer/words.js').then(words => [words.keys('en'), words.keys('ko')])");
    assert_eq!(keys[0], keys[1], "both languages have the same words");
    let missing = page.run(
        "import('/explorer/words.js').then(async words => { \
           const texts = await Promise.all(['main', 'chain', 'block', 'network', 'forks', 'drawings', 'why'].map(async name => (await fetch(`/explorer/${name}.js`)).text())); \
           const used = texts.flatMap(text => [...text.matchAll(/\\bt\\('([^']+)'/g)].map(match => match[1])); \
           const html = [...document.querySelectorAll('[data-t], [data-t-label], [data-t-placeholder]')].flatMap(e => [e.dataset.t, e.dataset.tLabel, e.dataset.tPlaceholder]); \
           const known = new Set(words.keys('en')); \
           return [...used, ...html].filter(key => key && !known.has(key)); })",
    );
    assert_eq!(missing, json!([]));
    page.until("document.querySelectorAll('#tree .node').length");
    page.size(1280, 1500);
    page.picture("korean");
    page.click("[data-language=en]");
    page.says("#detail-title", "Block 1");
    page.assert_no_errors(&[]);
}

#[test]
fn whoever_asks_why_is_told_in_a_sentence() {
    let Some(mut browser) = Browser::start() else { return };
    let (node, peer) = (lone(), lone());
    add_peer(&node, &peer.p2p_url());
    add_peer(&node, "ws://127.0.0.1:1");
    let mut page = open(&mut browser, &node, "");
    mine_by_form(&mut page, &"AB".repeat(32));
    page.says("#mine-said", "looks exactly like a node of the Merkle tree");
    page.says("#mine-said dd", "entry-ambiguous");
    assert_eq!(tip(&node).0, 0);

    // A peer's block whose entries were changed on the way.
    let text = mine(&lone(), "honest").replace("honest", "forged");
    let frame = json!({ "type": 2, "data": format!("[{text}]") }).to_string();
    let (mut link, _) = tungstenite::connect(node.p2p_url()).expect("the node listens");
    link.send(Message::text(frame)).expect("the node reads");
    page.run("location.hash = '#/network'");
    page.says("#refused", "The entries do not belong to this header");
    let refused: Value = node.get("/refused").expect(200).json();
    let row = &refused[0];
    assert_eq!((&row["rule"], &row["times"]), (&json!("merkle-root-mismatch"), &json!(1)));
    page.says("#refused dd", row["got"].as_str().expect("what was found"));
    page.says("#refused dd", row["wanted"].as_str().expect("what was wanted"));

    // The peers, as a drawing and as a table.
    page.says("#peers", "outbound");
    page.until("document.querySelectorAll('#graph .peer.native').length === 1");
    page.until("document.querySelectorAll('#graph .peer.connecting').length === 1");
    page.click("#peer");
    page.write("ftp://nowhere");
    page.click("#add button");
    page.says("#add-said", "Not added.");
    page.run("document.getElementById('peer').value = ''");
    page.size(1280, 1300);
    page.picture("network");
    page.assert_no_errors(&["/mineBlock", "/addPeers"]);
}
