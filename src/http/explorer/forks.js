// The branches beside the best chain as a tree and as a table, and what each reorg moved.
import { $, el, grouped, link, moment, refill, table } from "./dom.js";
import { forkTree } from "./drawings.js";
import { json, on, state } from "./node.js";
import { t } from "./words.js";

const LISTED = 8;                // blocks of a reorg that are named

let forks = null, past = [];

export function draw() {
  $('view-forks').replaceChildren(
    el('section', { 'aria-labelledby': 'forks-title' },
      el('div', { class: 'head' }, el('h2', { id: 'forks-title', tabindex: '-1' }, t('forks-title'))),
      el('p', { class: 'quiet', id: 'forks-said' }),
      el('div', { id: 'tree-of-forks', class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('forks-drawn') }),
      el('div', { class: 'scroll' }, el('table', { id: 'branches', class: 'cards', role: 'table', 'aria-labelledby': 'forks-title' }))),
    el('section', { 'aria-labelledby': 'reorgs-title' },
      el('div', { class: 'head' }, el('h2', { id: 'reorgs-title' }, t('reorgs-title'))), el('ol', { class: 'reorgs', id: 'reorgs' })));
  drawForks();
  drawReorgs();
}

function drawForks() {
  if (!$('branches') || !forks) return;
  const { best, branches } = forks;
  const none = branches.length === 0;
  $('forks-said').textContent = none ? t('forks-none') : t('forks-legend');
  if (none) { $('tree-of-forks').replaceChildren(); $('branches').replaceChildren(); return; }
  const place = $('tree-of-forks'), at = place.childElementCount > 0 && place.clientWidth > 0 ? place.scrollLeft : Infinity;
  const { drawing, left } = forkTree(branches, best, place.clientWidth || 720);
  place.replaceChildren(drawing, left > 0 ? el('p', { class: 'quiet' }, t('forks-left', { n: grouped(left) })) : '');
  // Where there is no room for all of it, the newest is seen first.
  place.scrollLeft = Math.min(at, place.scrollWidth);
  const names = ['tip', 'block', 'forks-at', 'length', 'state'];
  refill($('branches'), table(names.map(name => t(name)), branches.slice(0, 50).map(({ tip, fork, length, parked }) => ({ kind: parked ? 'parked' : null, cells: [
    link(tip.hash, undefined, { 'data-key': tip.hash }), grouped(tip.index), grouped(fork.index), grouped(length),
    parked ? [t('parked'), el('br'), el('span', { class: 'quiet' }, t('adopt'), ' ', el('code', { class: 'mono' }, `dolmen adopt ${tip.hash}`))] : t('kept'),
  ] }))));
}

// A receipt's id is the hash of the block that its entries were mined in first, and their place in it.
function receipt(id) {
  const [hash, place] = id.split('-');
  return el('a', { class: 'mono', href: `/receipts/${id}`, title: `${t('receipt')} ${id}`, 'data-key': id }, `${hash.slice(0, 8)}…-${place}`);
}

function drawReorgs() {
  if (!$('reorgs')) return;
  const some = (all, number, name) => {
    const named = all.slice(0, LISTED).map(each => typeof each === 'string' ? receipt(each) : link(each.hash, `${grouped(each.index)} ${each.hash.slice(0, 6)}`, { 'data-key': each.hash }));
    const left = number - named.length;
    return el('p', {}, el('strong', {}, t(name)), ' ', ...named.flatMap(each => [each, ' ']), left > 0 ? t('reorg-more', { n: grouped(left) }) : '');
  };
  // What this page was told itself names every block; of what came before, the node remembers where it began and ended.
  const told = state.reorgs.map(reorg => ({ ...reorg, time: reorg.seen / 1000 }));
  const known = new Set(told.map(reorg => reorg.old.hash));
  const all = [...told, ...past.filter(reorg => !known.has(reorg.old.hash))];
  refill($('reorgs'), all.length === 0 ? [el('li', { class: 'quiet' }, t('reorgs-none'))] : all.map(reorg => {
    const { time, fork, old, depth, length, left, entered, requeued } = reorg;
    const said = [el('p', { class: 'quiet' }, moment(time)), el('p', {}, t('reorg-said', { fork: grouped(fork.index), left: grouped(depth), entered: grouped(length) }))];
    const again = Array.isArray(requeued) ? requeued.length > 0 && some(requeued, requeued.length, 'reorg-requeued')
      : requeued > 0 && el('p', {}, t('reorg-again', { n: grouped(requeued) }));
    return el('li', {}, ...said, ...left ? [some(left, depth, 'reorg-left'), some(entered, length, 'reorg-entered')] : [some([old], 1, 'reorg-last')], again);
  }));
}

async function look() {
  if (!state.status) return;
  // Asked for only where there are any, and only while somebody looks.
  if (state.status.sideBlocks === 0) forks = { best: state.status.tip, branches: [] };
  else if (!$('view-forks').hidden) forks = await json('/forks').catch(() => forks);
  drawForks();
  if ($('view-forks').hidden || state.status.reorgs === 0) return;
  past = await json('/reorgs').catch(() => past);
  drawReorgs();
}

export { look };

export function start() {
  draw();
  on('status', look);
  addEventListener('resize', drawForks);
  on('reorg', () => { drawReorgs(); look(); });
}
