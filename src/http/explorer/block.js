// One block: header, hash, what is hashed, entries, tree, neighbours; and all of it computed again on request.
import { $, el, grouped, link, moment, short, visible } from "./dom.js";
import { merkleShape, merkleTree } from "./drawings.js";
import { FIELDS, judge, judgeDown, merkleRows, possible } from "./hashes.js";
import { markShown } from "./chain.js";
import { block as fetchBlock, json, on, state } from "./node.js";
import { t } from "./words.js";

const ENTRIES = 12;              // entries that are shown at once
const LONG = 5_000;              // characters of an entry that are shown at once

// What is shown; `name` as it was asked for.
const shown = { name: null, block: null, error: null, leaf: 0, all: false };
let asked = 0;
let running = null;              // a verification down to genesis

export async function show(name) {
  const ours = ++asked;
  stop();
  if (shown.name !== name) Object.assign(shown, { block: null, error: null, leaf: 0, all: false });
  shown.name = name;
  try {
    const block = await fetchBlock(name);
    if (ours !== asked) return;
    Object.assign(shown, { block, error: null });
  } catch (error) {
    if (ours !== asked) return;
    Object.assign(shown, { block: null, error });
  }
  draw();
}

export const current = () => shown.name;

// Until somebody chooses a block, the newest of that moment is shown.
function showNewest() {
  if (shown.name === null && state.tip) show(state.tip.hash);
}

function stop() {
  if (running) running.stopped = true;
  running = null;
}

export function draw() {
  const { block, error, name } = shown;
  markShown(block?.header.index ?? null);
  if (!block) {
    const said = error ? error.status === 404 ? t('no-block', { name }) : t('block-failed', { why: error.message }) : name ? t('fetching') : t('choose');
    return $('detail').replaceChildren(head(t('block')), el('p', { class: 'quiet', role: 'status' }, said));
  }
  const { header, hash } = block;
  const title = header.index === 0 ? t('genesis') : t('block-n', { n: grouped(header.index) });
  const parts = [
    head(title, neighbours(block)),
    table(block),
    el('h3', {}, t('preimage')), el('p', { class: 'quiet' }, t('preimage-said')),
    el('p', { class: 'preimage mono', id: 'preimage' }, ...FIELDS.map(field => el('span', { class: `f-${field}`, title: field }, String(header[field])))),
    el('h3', {}, t('check')), ...checks(block),
    el('h3', { id: 'body-title' }, `${t('body')} (${grouped(block.body.length)})`), ...entries(block),
    el('h3', {}, t('tree')), el('div', { id: 'tree' }),
  ];
  $('detail').replaceChildren(...parts);
  drawTree(block, hash);
}

const head = (title, ...more) => el('div', { class: 'head' }, el('h2', { id: 'detail-title', tabindex: '-1' }, title), ...more);

function neighbours({ header, hash }) {
  const { index, previousHash } = header;
  return el('span', { class: 'pager' },
    index > 0 && el('a', { class: 'button', id: 'previous', href: `#/${previousHash}`, rel: 'prev' }, `← ${t('previous')}`),
    el('a', { class: 'button', id: 'next', rel: 'next', hidden: !(state.tip?.index > index) || undefined, href: `#/${index + 1}` }, `${t('next')} →`));
}

function table({ header, hash, confirmations }) {
  const rows = [
    ['hash', t('hash'), hash],
    ['confirmations', t('confirmations'), confirmations === 0 ? t('off-chain') : grouped(confirmations)],
    ['version', 'version', header.version],
    ['index', 'index', String(header.index)],
    ['previousHash', 'previousHash', header.index > 0 ? link(header.previousHash, header.previousHash) : header.previousHash],
    ['time', 'time', `${header.time}  (${moment(header.time)})`],
    ['merkleRoot', 'merkleRoot', header.merkleRoot],
  ];
  return el('table', { class: 'fields' }, el('tbody', {}, ...rows.map(([key, name, value]) =>
    el('tr', {}, el('th', { scope: 'row' }, name), el('td', { class: `mono f-${key}`, id: `field-${key}` }, value)))));
}

function entries({ body }) {
  const { all } = shown;
  const cut = entry => !all && entry.length > LONG;
  const list = el('ol', { class: 'body', id: 'body' }, ...body.slice(0, all ? body.length : ENTRIES).map(entry =>
    el('li', {}, el('pre', { dir: 'auto', tabindex: entry.length > 500 ? '0' : null }, ...visible(cut(entry) ? `${entry.slice(0, LONG)} …` : entry)))));
  const more = body.length > ENTRIES || body.some(cut);
  return [list, more && !all && el('div', { class: 'actions' }, el('button', { type: 'button', onclick: () => { shown.all = true; draw(); } }, t('whole-body')))].filter(Boolean);
}

// ---- The tree.

async function drawTree(block, hash) {
  const place = $('tree');
  if (!possible) return place.replaceChildren(el('p', { class: 'quiet' }, t('tree-none')));
  const rows = await merkleRows(block.body);
  if (shown.block?.hash !== hash || !place.isConnected) return;
  const count = block.body.length, whole = count <= 8;
  const boxes = () => el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('tree') }, merkleTree(rows, block.body, shown.leaf));
  if (whole) {
    const drawn = boxes();
    place.replaceChildren(el('p', { class: 'quiet' }, t('tree-whole')), drawn);
    // Where there is no room for all of it, the root in the middle is seen first.
    drawn.scrollLeft = (drawn.scrollWidth - drawn.clientWidth) / 2;
    return;
  }
  const pick = el('input', { type: 'number', id: 'leaf', min: 0, max: count - 1, value: shown.leaf });
  const choose = leaf => { pick.value = shown.leaf = leaf; paint(); };
  pick.addEventListener('input', () => {
    const wanted = Number(pick.value);
    if (pick.value !== '' && Number.isInteger(wanted) && wanted >= 0 && wanted < count) choose(wanted);
  });
  const whichShape = el('div', { id: 'tree-shape' }), folded = el('p', { class: 'quiet' });
  const proof = el('div', { class: 'proof', id: 'proof' });
  const paint = () => {
    const { drawing, each } = merkleShape(rows, shown.leaf, Math.max(280, place.clientWidth), choose);
    folded.textContent = each > 1 ? t('tree-folded', { n: grouped(each) }) : '';
    whichShape.replaceChildren(drawing);
    proof.replaceChildren(boxes(), steps(rows, block.body[shown.leaf]));
  };
  place.replaceChildren(
    el('p', { class: 'quiet' }, t('tree-large', { n: grouped(count) })), whichShape, folded,
    el('h3', {}, t('proof')), el('p', { class: 'quiet' }, t('tree-path')),
    el('label', { class: 'inline', for: 'leaf' }, `${t('tree-entry')} `, pick), proof);
  paint();
}

// What has to be computed to come from an entry to the root, step by step.
function steps(rows, entry) {
  const hash = text => el('span', { class: 'mono', title: text }, short(text));
  const list = [el('li', {}, t('proof-leaf'), el('br'), 'SHA-256(', el('q', { dir: 'auto' }, ...visible(entry.length > 40 ? `${entry.slice(0, 40)}…` : entry)), ') = ', hash(rows[0][shown.leaf]))];
  for (let level = 0, at = shown.leaf; level + 1 < rows.length; level++, at >>= 1) {
    const [left, right] = [rows[level][at & ~1], rows[level][at | 1]], up = hash(rows[level + 1][at >> 1]);
    const given = text => el('b', {}, hash(text));
    list.push(right === undefined ? el('li', {}, t('proof-odd'), el('br'), up)
      : el('li', {}, t(at & 1 ? 'proof-left' : 'proof-right'), el('br'), 'SHA-256(', at & 1 ? given(left) : hash(left), ' + ', at & 1 ? hash(right) : given(right), ') = ', up));
  }
  list.push(el('li', { class: 'good' }, t('proof-root')));
  return el('ol', { class: 'steps', id: 'steps' }, ...list);
}

// ---- Computing it again.

function checks(block) {
  if (!possible) return [el('p', { class: 'quiet', id: 'check-impossible' }, t('check-impossible'))];
  return [
    el('p', { class: 'quiet' }, t('check-said')),
    el('div', { class: 'actions' },
      el('button', { type: 'button', id: 'check-one', onclick: () => checkOne(block) }, t('check-one')),
      el('button', { type: 'button', id: 'check-down', onclick: () => checkDown(block) }, t('check-down'))),
    el('div', { id: 'checked', role: 'status' }),
  ];
}

const result = (right, good, bad) => el('li', { class: right ? 'good' : 'bad' }, right ? `✓ ${good}` : `✗ ${bad}`);

async function checkOne(block) {
  const { own, root, hashRight, rootRight } = await judge(block, block.hash);
  $('checked')?.replaceChildren(el('ul', { class: 'checks' },
    result(hashRight, t('hash-right'), t('hash-wrong', { own })), result(rootRight, t('root-right'), t('root-wrong', { root }))));
}

async function checkDown(block) {
  stop();
  const run = running = { stopped: false };
  const top = block.header.index;
  const bar = el('progress', { max: top + 1, value: 0, 'aria-label': t('check-down') }), said = el('span', {});
  const button = el('button', { type: 'button', onclick: () => { run.stopped = true; } }, t('stop'));
  $('checked').replaceChildren(bar, el('div', { class: 'actions' }, button, said));
  const fetchRun = (from, count) => json(`/blocks?from=${from}&limit=${count}`);
  const report = (next, done) => {
    bar.value = done;
    said.textContent = t('down-at', { done: grouped(done), next: grouped(Math.max(next, 0)) });
    return !run.stopped;
  };
  let end;
  try {
    // A block off the best chain has its own way down: it cannot be read from the chain by its index.
    const off = block.confirmations === 0 ? { done: 0, moved: true } : null;
    end = off ?? await judgeDown(top, block.hash, fetchRun, report);
  } catch {
    end = { done: bar.value, missing: top - bar.value };
  }
  if (running !== run) return;
  running = null;
  // What looks wrong may be a reorg that came in between: the block is then no longer on the chain.
  if (end.wrong !== undefined) {
    const now = await fetchBlock(block.hash).catch(() => null);
    if (now?.confirmations === 0) end = { done: end.done, moved: true };
  }
  const done = grouped(end.done);
  const [good, words] = end.moved ? [false, t('down-moved')]
    : end.stopped ? [true, t('down-stopped', { done })]
    : end.wrong !== undefined ? [false, t('down-wrong', { n: grouped(end.wrong), done })]
    : end.missing !== undefined ? [false, t('down-missing', { n: grouped(end.missing), done })]
    : [true, t('down-right', { done })];
  $('checked')?.replaceChildren(el('ul', { class: 'checks' }, result(good, words, words)));
}

// ---- The chain goes on.

export function start() {
  draw();
  // A drawing is made for the room there is.
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth === width || !shown.block) return;
    width = innerWidth;
    drawTree(shown.block, shown.block.hash);
  });
  on('tip', () => {
    showNewest();
    const { block } = shown;
    if (shown.error?.status === 404) show(shown.name);
    if (!block || !state.tip) return;
    $('next')?.toggleAttribute('hidden', state.tip.index <= block.header.index);
    const cell = $('field-confirmations');
    if (!cell || block.confirmations === 0) return;
    block.confirmations = Math.max(1, state.tip.index - block.header.index + 1);
    cell.textContent = grouped(block.confirmations);
  });
  on('reorg', async () => {
    const { block } = shown;
    if (!block) return;
    // It may have left the chain, or come back to it.
    const now = await fetchBlock(block.hash).catch(() => null);
    const cell = $('field-confirmations');
    if (!now || shown.block !== block || !cell) return;
    block.confirmations = now.confirmations;
    cell.textContent = now.confirmations === 0 ? t('off-chain') : grouped(now.confirmations);
  });
}
