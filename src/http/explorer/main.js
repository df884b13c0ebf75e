// The explorer: the frame around the views, the address of the page, the language.
import { $, el, grouped, refill, short } from "./dom.js";
import { on, look, start as startNode, state } from "./node.js";
import { choose, current, t, translate } from "./words.js";
import * as block from "./block.js";
import * as chain from "./chain.js";
import * as forks from "./forks.js";
import * as network from "./network.js";

// ---- The address of the page: #/ and #/17 and #/<hash>, #/network, #/forks.

const VIEWS = ['chain', 'network', 'forks'];

function route(event) {
  const path = location.hash.replace(/^#\/?/, '');
  const view = VIEWS.includes(path) ? path : 'chain';
  for (const each of VIEWS) $(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const name = /^(\d{1,16}|[0-9a-f]{64}|tip)$/.exec(path)?.[1];
  if (name && name !== block.current()) block.show(name);
  if (view !== 'chain') look();
  if (view === 'forks') forks.look();
  // Whoever chose a block below the edge of the screen is brought there.
  const narrow = $('detail').getBoundingClientRect().top > innerHeight * 0.7;
  if (event && name && narrow) $('detail').scrollIntoView({ block: 'start' });
  title();
}

function title() {
  document.title = state.tip ? `${grouped(state.tip.index)} · dolmen` : 'dolmen';
}

// ---- The node in one line.

function span(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${t('days', { n: days })} ${t('hours', { n: hours })}`;
  if (hours) return `${t('hours', { n: hours })} ${t('minutes', { n: minutes })}`;
  return minutes ? t('minutes', { n: minutes }) : t('seconds', { n: seconds });
}

function facts() {
  const { status, tip, sync } = state;
  if (!status || !tip) return;
  const linked = [...state.peers.values()].filter(peer => peer.direction).length;
  const rows = [
    ['tip', el('a', { href: `#/${tip.index}`, 'data-key': 'tip' }, grouped(tip.index), ' ', el('span', { class: 'mono quiet' }, short(tip.hash)))],
    ['peers', el('a', { href: '#/network', 'data-key': 'peers' }, grouped(state.connected ? linked : status.peers.linked))],
    ['sync', sync ? `${Math.floor(100 * (sync.at - sync.from) / Math.max(1, sync.target - sync.from))} %` : t('sync-none')],
    ['outbox', grouped(status.outbox)],
    ['side', el('a', { href: '#/forks', 'data-key': 'side' }, grouped(status.sideBlocks))],
    ['reorgs', grouped(status.reorgs)],
    ['up', span(status.uptimeSeconds)],
    ['version', status.version],
  ];
  refill($('facts'), rows.map(([name, value]) => el('div', {}, el('dt', {}, t(`fact-${name}`)), el('dd', { id: `fact-${name}` }, value))));
  title();
}

// Says it in its own place, or in a part of it that leaves room for a link.
function notice(id, text, place = id) {
  if ($(place).textContent !== (text ?? '')) $(place).textContent = text ?? '';
  $(id).hidden = !text;
}

function notices() {
  const { status, gone, sync } = state;
  notice('gone', gone === null ? null : gone ? t('gone-why', { why: gone }) : t('gone'));
  notice('problem', status?.problem && t('problem-is', { why: status.problem }));
  notice('parked', status?.parkedBranches ? t('parked-are', { n: grouped(status.parkedBranches) }) : null, 'parked-said');
  $('sync').hidden = !sync;
  if (sync) {
    $('sync-text').textContent = t('sync-is', { at: grouped(sync.at), target: grouped(sync.target) });
    $('sync-bar').max = Math.max(1, sync.target - sync.from);
    $('sync-bar').value = sync.at - sync.from;
  }
  const word = gone !== null ? 'no-answer' : state.connected ? 'live' : 'connecting';
  if ($('live').textContent !== t(word)) $('live').textContent = t(word);
  $('live').className = `live ${word}`;
}

function redraw() {
  translate();
  facts();
  notices();
  chain.redraw();
  block.draw();
  network.draw();
  forks.draw();
}

// ---- Beginning.

for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => { if (button.dataset.language !== current()) { choose(button.dataset.language); redraw(); } });
}
// Without this, the way past the head would be taken for the address of a block.
document.querySelector('.skip').addEventListener('click', event => { event.preventDefault(); $('main').focus(); });
addEventListener('hashchange', route);
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
on('tip', facts);
on('peers', facts);
on('status', facts);
on('line', notices);
on('status', notices);
on('sync', () => { facts(); notices(); });
translate();
notices();
chain.start();
block.start();
network.start();
forks.start();
route();
startNode();
