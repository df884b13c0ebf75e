// The peers as a graph and as a table, the form that adds one, and what of theirs was refused.
import { $, el, grouped, link, moment, refill, say, table, visible } from "./dom.js";
import { peerGraph } from "./drawings.js";
import { json, on, post, state } from "./node.js";
import { t } from "./words.js";
import { why } from "./why.js";

let refused = [];

export function draw() {
  const typed = $('peer')?.value ?? '';
  $('view-network').replaceChildren(
    el('section', { 'aria-labelledby': 'peers-title' },
      el('div', { class: 'head' }, el('h2', { id: 'peers-title', tabindex: '-1' }, t('peers-title'))),
      el('div', { id: 'graph', class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('peers-drawn') }), el('p', { class: 'quiet', id: 'graph-left' }),
      el('p', { class: 'quiet' }, t('legend')),
      el('div', { class: 'scroll' }, el('table', { id: 'peers', class: 'cards', role: 'table', 'aria-labelledby': 'peers-title' })),
      el('form', { id: 'add', onsubmit: add },
        el('label', { for: 'peer' }, t('add-title')),
        el('div', { class: 'line' }, el('input', { id: 'peer', required: true, placeholder: 'ws://127.0.0.1:6006', value: typed, autocomplete: 'off', spellcheck: 'false' }), el('button', {}, t('add'))),
        el('p', { class: 'said', id: 'add-said', role: 'status' }))),
    el('section', { 'aria-labelledby': 'why-title' },
      el('div', { class: 'head' }, el('h2', { id: 'why-title' }, t('why-title'))), el('ul', { class: 'refused', id: 'refused' })));
  drawPeers();
  drawRefused();
}

function drawPeers() {
  if (!$('peers')) return;
  const peers = [...state.peers.values()];
  const { drawing, left } = peerGraph(peers, state.tip, $('graph').clientWidth || 720);
  $('graph').replaceChildren(drawing);
  $('graph-left').textContent = peers.length === 0 ? t('no-peers') : left > 0 ? t('peers-left', { n: grouped(left) }) : '';
  const names = ['address', 'direction', 'kind', 'tip', 'latency', 'agent'];
  const latency = value => typeof value === 'number' ? `${value.toFixed(1)} ms` : '–';
  refill($('peers'), peers.length === 0 ? [] : table(names.map(name => t(name)), peers.map(peer => ({ cells: [
    el('span', { class: 'mono' }, peer.address), peer.direction ? t(peer.direction) : '–', t(peer.kind === 'connecting' ? 'kind-connecting' : peer.kind),
    peer.tip ? link(peer.tip.hash, grouped(peer.tip.index), { 'data-key': `${peer.id}` }) : '–', latency(peer.latencyMs), visible(peer.agent ?? '–'),
  ] }))));
}

function drawRefused() {
  if (!$('refused')) return;
  refill($('refused'), refused.length === 0 ? [el('li', { class: 'quiet' }, t('why-none'))] : refused.map(row =>
    el('li', {},
      el('p', { class: 'quiet' }, `${moment(row.time)} · ${t('why-from', { remote: row.remote })}`, row.times > 1 ? ` · ${t('why-times', { n: grouped(row.times) })}` : ''),
      why(row))));
}

async function add(event) {
  event.preventDefault();
  try {
    await post('/addPeers', { peers: [$('peer').value.trim()] });
    $('peer').value = '';
    say('add-said', 'good', t('added'));
  } catch (error) {
    say('add-said', 'bad', t('not-added'), why(error.problem ?? { detail: error.message }));
  }
}

export function start() {
  draw();
  on('peers', drawPeers);
  addEventListener('resize', drawPeers);
  on('tip', () => { if (!$('view-network').hidden) drawPeers(); });
  on('line', () => { if (state.connected) drawPeers(); });
  on('status', async () => {
    if ($('view-network').hidden) return;
    refused = await json('/refused').catch(() => refused);
    drawRefused();
  });
}
