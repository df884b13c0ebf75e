// The chain: its newest blocks as they come, a window on any part of it, the form that mines, the search.
import { $, el, grouped, link, moment, refill, say, short, visible } from "./dom.js";
import { ask, json, on, post, rate, rows, state, token } from "./node.js";
import { t } from "./words.js";
import { why } from "./why.js";

const STONES = 7;                // newest blocks that are drawn large, if there is room
const STONE_WIDTH = 160;         // pixels of one
const WINDOW = 12;               // rows of the list
const FOUND = 500;               // rows that a search shows before it has to begin anew

// ---- The newest blocks.

let standing = new Set();

function showStones() {
  const room = Math.floor($('stones').clientWidth / STONE_WIDTH);
  const newest = state.blocks.slice(-Math.max(2, Math.min(STONES, room || STONES)));
  showRate();
  refill($('stones'), newest.map(block => {
    const fresh = standing.size && !standing.has(block.hash);
    return el('li', { class: fresh ? 'stone fresh' : 'stone', 'data-key': block.hash },
      el('a', { href: `#/${block.index}`, 'aria-label': `${t('block-n', { n: grouped(block.index) })}: ${block.preview}` },
        el('span', { class: 'number' }, block.index === 0 ? t('genesis') : grouped(block.index)),
        el('span', { class: 'entry', dir: 'auto' }, ...visible(block.preview)),
        el('span', { class: 'mono quiet' }, short(block.hash))));
  }));
  standing = new Set(newest.map(block => block.hash));
}

function showRate() {
  const now = rate();
  $('rate').textContent = now >= 1 ? t('rate', { n: grouped(Math.round(now)) }) : '';
}

// The stream tells what happens from now on; what stands before is asked for once.
async function fetchStones() {
  const tip = state.tip;
  if (state.blocks.length >= STONES || !tip || state.blocks.length > tip.index) return showStones();
  try {
    const newest = (await rows(Math.max(0, tip.index - STONES + 1), STONES)).reverse();
    const lowest = state.blocks[0];
    const before = newest.filter(block => !lowest || block.index < lowest.index);
    if (!lowest || before.at(-1)?.hash === lowest.previousHash) state.blocks = [...before, ...state.blocks];
  } catch {
    // The status line says that the node does not answer.
  }
  showStones();
}

// ---- The window.

const view = { rows: [], top: null, following: true, shown: null };

export function rowOf(block, more = {}) {
  return el('li', { 'data-key': block.hash ?? block.index, class: more.fresh ? 'fresh' : null },
    el('a', { href: `#/${more.byHash ? block.hash : block.index}`, 'data-index': block.index },
      el('span', { class: 'number' }, grouped(block.index)),
      el('span', { class: 'entry', dir: 'auto' }, ...visible(more.entry ?? block.preview)),
      el('span', { class: 'mono quiet' }, short(block.hash)),
      el('span', { class: 'quiet under' }, more.entry === undefined ? `${moment(block.time)} · ${t('n-entries', { n: grouped(block.count) })}` : t('leaf', { n: block.position }))));
}

function showWindow(fresh = 0) {
  refill($('blocks'), view.rows.map((block, at) => rowOf(block, { fresh: at < fresh })));
  markShown(view.shown);
  showPager();
}

function showPager() {
  const tip = state.tip?.index ?? 0;
  const top = view.rows[0]?.index ?? 0, bottom = view.rows.at(-1)?.index ?? 0;
  const newer = tip - top;
  // Nothing to turn to while everything stands here.
  $('pager').hidden = tip < WINDOW;
  $('latest').disabled = view.following;
  $('latest').textContent = !view.following && newer > 0 ? t('latest-n', { n: grouped(newer) }) : t('latest');
  $('newer').disabled = view.following || newer <= 0;
  $('older').disabled = bottom <= 0;
  $('blocks-range').textContent = view.rows.length ? t('blocks-range', { from: grouped(bottom), to: grouped(top), all: grouped(tip + 1) }) : '';
  $('slide').max = tip;
  if (document.activeElement !== $('slide') || view.following) $('slide').value = view.following ? tip : top;
  $('slide').setAttribute('aria-valuetext', t('block-n', { n: grouped(top) }));
}

let fetching = false, again = false;

// Fetches the window's rows. While it grows with the tip, the newest blocks that came by themselves suffice.
async function fetchWindow() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    do {
      again = false;
      const tip = state.tip.index;
      const top = view.following ? tip : Math.min(view.top, tip);
      const known = state.blocks.slice(-WINDOW).reverse();
      const before = view.rows[0]?.index;
      const whole = view.following && known[0]?.index === tip && (known.length === WINDOW || known.at(-1).index === 0);
      const found = whole ? known : await rows(Math.max(0, top - WINDOW + 1), Math.min(WINDOW, top + 1));
      view.rows = found;
      view.top = top;
      showWindow(view.following && before !== undefined ? found.filter(block => block.index > before).length : 0);
    } while (again);
  } catch {
    // The status line says that the node does not answer.
  }
  fetching = false;
}

function turn(top) {
  const tip = state.tip.index;
  view.following = top >= tip;
  view.top = Math.max(Math.min(top, tip), Math.min(WINDOW - 1, tip));
  fetchWindow();
}

export function markShown(index) {
  view.shown = index;
  for (const row of $('blocks').querySelectorAll('a')) {
    if (Number(row.dataset.index) === index) row.setAttribute('aria-current', 'true');
    else row.removeAttribute('aria-current');
  }
}

// Moves along the list by the arrow keys; over its end it turns the page.
async function walk(event) {
  const links = [...$('blocks').querySelectorAll('a')], at = links.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || at < 0) return;
  event.preventDefault();
  if (links[at + step]) return links[at + step].focus();
  const wanted = Number(links[at].dataset.index) - step;
  if (wanted < 0 || wanted > state.tip.index) return;
  turn(step > 0 ? wanted : wanted + WINDOW - 1);
  for (let looks = 0; looks < 40; looks++) {
    const row = $('blocks').querySelector(`[data-index="${wanted}"]`);
    if (row) return row.focus();
    await new Promise(done => setTimeout(done, 50));
  }
}

// ---- Mining.

const RECEIPTS = 'dolmen.receipts';
const MAX_RECEIPTS = 5;

const receipts = () => JSON.parse(sessionStorage.getItem(RECEIPTS) ?? '[]');
const keep = list => sessionStorage.setItem(RECEIPTS, JSON.stringify(list.slice(0, MAX_RECEIPTS)));

async function mine(event) {
  event.preventDefault();
  const text = $('entry').value;
  const data = $('lines').checked ? text.split('\n').filter(line => line !== '') : [text];
  if (text === '') { $('entry').focus(); return say('mine-said', 'bad', t('no-entry')); }
  if ($('token').value) token.set($('token').value);
  const button = $('mine').querySelector('button');
  button.disabled = true;
  say('mine-said', '', t('mining'));
  try {
    const answer = await post('/mineBlock', { data });
    const block = await answer.json();
    keep([{ id: answer.headers.get('Receipt-Id'), entry: data[0].slice(0, 80) }, ...receipts()]);
    $('entry').value = '';
    $('token-row').hidden = true;
    say('mine-said', 'good', t('mined', { n: grouped(block.header.index) }));
    location.hash = `#/${block.header.index}`;
    followReceipts();
  } catch (error) {
    if (error.status === 401) $('token-row').hidden = false;
    say('mine-said', 'bad', t('not-mined'), why(error.problem ?? { detail: error.message }));
  }
  button.disabled = false;
  $('entry').focus();
}

async function where(id) {
  try {
    return await json(`/receipts/${id}`);
  } catch (error) {
    return { status: error.status === 404 ? 'unknown' : 'silent' };
  }
}

let asked = 0;

async function followReceipts() {
  const ours = ++asked;
  const found = await Promise.all(receipts().map(async receipt => ({ ...receipt, place: await where(receipt.id) })));
  if (ours !== asked || found.some(receipt => receipt.place.status === 'silent')) return;
  refill($('receipts'), found.map(({ id, entry, place }) => {
    const { status, index, depth, peers } = place;
    const said = status === 'included'
      ? t('receipt-included', { n: grouped(index), depth: grouped(depth), peers: grouped(peers) })
      : t(`receipt-${status}`);
    return el('li', { 'data-key': id, class: status },
      el('a', { href: `#/${status === 'included' ? index : id.split('-')[0]}`, class: 'entry', dir: 'auto', title: `${t('receipt')} ${id}` }, ...visible(entry)),
      el('span', { class: 'quiet' }, said));
  }));
}

// ---- Looking for a block or an entry.

const search = { text: '', next: null, from: null, found: [] };

async function find(event) {
  event.preventDefault();
  const wanted = $('wanted').value.trim();
  const number = wanted.replaceAll(/[\s,.\u202f]/g, '');
  if (/^\d{1,16}$/.test(number)) { location.hash = `#/${number}`; return; }
  if (/^[0-9a-f]{64}$/i.test(wanted)) { location.hash = `#/${wanted.toLowerCase()}`; return; }
  if (wanted === '') return;
  Object.assign(search, { text: wanted, next: null, from: null, found: [] });
  if (!location.hash.match(/^(#\/(\d+|[0-9a-f]{64})?)?$/)) location.hash = '#/';
  await lookFurther();
  $('found-title').focus();
}

async function lookFurther() {
  const text = search.text;
  $('found').hidden = false;
  $('found-said').textContent = t('looking');
  try {
    const before = search.next === null ? '' : `&before=${search.next}`;
    const part = await (await ask(`/search?text=${encodeURIComponent(text)}${before}`)).json();
    if (text !== search.text) return;
    search.found = [...search.found, ...part.found].slice(-FOUND);
    search.from ??= part.from;
    Object.assign(search, { next: part.next, to: part.to });
    showFound();
  } catch (error) {
    $('found-said').textContent = error.message;
  }
}

function showFound() {
  const { text, found, from, to, next } = search;
  if ($('found').hidden) return;
  $('found-title').textContent = t('found-title', { text });
  $('found-rows').replaceChildren(...found.map(block => rowOf(block, { entry: block.entry, byHash: true })));
  $('found-more').hidden = next === null;
  $('found-said').textContent = next === null ? t('found-all', { n: grouped(found.length) }) : t('found-said', { from: grouped(from), to: grouped(to), n: grouped(found.length) });
}

// ---- Beginning.

export function redraw() {
  showStones();
  showWindow();
  showFound();
  followReceipts();
}

export function start() {
  on('tip', () => {
    fetchStones();
    if (view.following || view.top === null) fetchWindow();
    else showPager();
  });
  on('reorg', () => { if (!view.following) fetchWindow(); });
  on('status', showRate);
  on('status', () => { if (!document.hidden && receipts().length) followReceipts(); });
  addEventListener('resize', showStones);
  $('mine').addEventListener('submit', mine);
  $('entry').addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('mine').requestSubmit();
  });
  $('find').addEventListener('submit', find);
  $('found-more').addEventListener('click', lookFurther);
  $('found-close').addEventListener('click', () => { $('found').hidden = true; $('wanted').focus(); });
  $('blocks').addEventListener('keydown', walk);
  $('latest').addEventListener('click', () => turn(Infinity));
  $('newer').addEventListener('click', () => turn(view.rows[0].index + WINDOW));
  $('older').addEventListener('click', () => turn(view.rows.at(-1).index - 1));
  $('slide').addEventListener('input', () => turn(Number($('slide').value)));
}
