// The branches beside the best chain as a tree and as a table, and what each reorg moved.
import { $, el, grouped, link, moment, refill } from "./dom.js";
import { forkTree } from "./drawings.js";
import { json, on, state } from "./node.js";
import { t } from "./words.js";

const LISTED = 8;                // blocks of a reorg that are named

let forks = null;

export function draw() {
  $('view-forks').replaceChildren(
    el('section', { 'aria-labelledby': 'forks-title' },
      el('div', { class: 'head' }, el('h2', { id: 'forks-title', tabindex: '-1' }, t('forks-title'))),
      el('p', { class: 'quiet', id: 'forks-said' }),
      el('div', { id: 'tree-of-forks', class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('forks-title') }),
      el('div', { class: 'scroll' }, el('table', { id: 'branches' }))),
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
  const { drawing, left } = forkTree(branches, best);
  $('tree-of-forks').replaceChildren(drawing, left > 0 ? el('p', { class: 'quiet' }, t('forks-left', { n: grouped(left) })) : '');
  const names = ['tip', 'block', 'forks-at', 'length', 'state'];
  refill($('branches'), [
    el('thead', {}, el('tr', {}, ...names.map(name => el('th', { scope: 'col' }, t(name))))),
    el('tbody', {}, ...branches.slice(0, 50).map(({ tip, fork, length, parked }) => el('tr', { class: parked ? 'parked' : null },
      el('td', {}, link(tip.hash, undefined, { 'data-key': tip.hash })), el('td', {}, grouped(tip.index)), el('td', {}, grouped(fork.index)),
      el('td', {}, grouped(length)),
      el('td', {}, parked ? [t('parked'), el('br'), el('span', { class: 'quiet mono' }, t('adopt', { hash: tip.hash }))] : t('kept')))))]);
}

function drawReorgs() {
  if (!$('reorgs')) return;
  const some = (all, number, name) => {
    const named = all.slice(0, LISTED).map(each => typeof each === 'string' ? el('span', { class: 'mono' }, each) : link(each.hash, `${grouped(each.index)} ${each.hash.slice(0, 6)}`, { 'data-key': each.hash }));
    const left = number - named.length;
    return el('p', {}, el('strong', {}, t(name)), ' ', ...named.flatMap(each => [each, ' ']), left > 0 ? t('reorg-more', { n: grouped(left) }) : '');
  };
  refill($('reorgs'), state.reorgs.length === 0 ? [el('li', { class: 'quiet' }, t('reorgs-none'))] : state.reorgs.map(reorg =>
    el('li', {},
      el('p', { class: 'quiet' }, moment(reorg.seen / 1000)),
      el('p', {}, t('reorg-said', { fork: grouped(reorg.fork.index), left: grouped(reorg.depth), entered: grouped(reorg.length) })),
      some(reorg.left, reorg.depth, 'reorg-left'), some(reorg.entered, reorg.length, 'reorg-entered'),
      reorg.requeued.length > 0 && some(reorg.requeued, reorg.requeued.length, 'reorg-requeued'))));
}

async function look() {
  if (!state.status) return;
  // Asked for only where there are any, and only while somebody looks.
  if (state.status.sideBlocks === 0) forks = { best: state.status.tip, branches: [] };
  else if (!$('view-forks').hidden) forks = await json('/forks').catch(() => forks);
  drawForks();
}

export { look };

export function start() {
  draw();
  on('status', look);
  on('reorg', () => { drawReorgs(); look(); });
}
