// The node: questions to it, and what it tells by itself. Knows nothing of the page.

const PATIENCE = 30_000;         // milliseconds until an answer counts as lost
const STATUS_EVERY = 3_000;      // milliseconds between two looks at the numbers that no event carries
const BEHIND = 20;               // blocks that are told; older ones are passed over when the chain grows faster than the page
const KEPT = 60;                 // blocks and reorgs that are remembered
const SAMPLES = 10;              // looks at the tip, at least half a second apart, that tell how fast it moves
const AGAIN = 5_000;             // milliseconds until a refused stream is asked for again

// What the page knows. `blocks` are the newest, in order: { index, hash, time, count, preview }.
export const state = {
  tip: null, status: null, blocks: [], peers: new Map(), sync: null, reorgs: [], connected: false, gone: null, samples: [],
};

const listeners = new Map();

// Calls back on: tip, peers, sync, reorg, status, line.
export function on(what, listener) {
  listeners.set(what, [...listeners.get(what) ?? [], listener]);
}

const due = new Set();

// Many events, one look: the page is told at most once a frame.
function tell(what) {
  if (due.size === 0) setTimeout(() => {
    const now = [...due];
    due.clear();
    for (const each of now) for (const listener of listeners.get(each) ?? []) listener();
  }, 60);
  due.add(what);
}

// ---- Questions.

const token = { get: () => sessionStorage.getItem('dolmen.token'), set: value => sessionStorage.setItem('dolmen.token', value) };
export { token };

export async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE), ...options });
  if (answer.ok) return answer;
  // Errors are problems with members that the page can explain; anything else is told by its number.
  const problem = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail ?? `${answer.status}`), { status: answer.status, problem });
}

export const json = async path => (await ask(path)).json();

export function post(path, value) {
  const headers = { 'Content-Type': 'application/json' };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  return ask(path, { method: 'POST', headers, body: JSON.stringify(value) });
}

export async function block(name) {
  const answer = await ask(`/blocks/${encodeURIComponent(name)}`);
  const found = await answer.json();
  return { ...found, hash: answer.headers.get('Block-Hash'), confirmations: Number(answer.headers.get('Confirmations')) };
}

// Blocks a second over the last seconds.
export function rate() {
  const now = performance.now();
  const first = state.samples.find(sample => now - sample.at < 6000);
  return first && now - first.at > 1000 ? Math.max(0, (state.tip.index - first.index) / (now - first.at) * 1000) : 0;
}

export const row = ({ header, body }, hash) => ({
  index: header.index, hash, previousHash: header.previousHash, time: header.time, count: body.length, preview: body[0].slice(0, 160),
});

// Rows of a part of the chain, newest first. A block's hash stands in the block after it.
export async function rows(from, count) {
  const blocks = await json(`/blocks?from=${from}&limit=${count + 1}`);
  const last = blocks.at(-1);
  const hash = blocks.length > count || !last ? null : (await block(last.header.index)).hash;
  return blocks.map((each, at) => row(each, blocks[at + 1]?.header.previousHash ?? hash)).slice(0, count).reverse();
}

// ---- What the node tells.

function newTip(tip) {
  state.tip = tip;
  const now = performance.now();
  if (!(now - state.samples.at(-1)?.at < 500)) state.samples = [...state.samples, { at: now, index: tip.index }].slice(-SAMPLES);
  tell('tip');
}

const read = {
  block(data) {
    state.blocks = [...state.blocks, row(data.block, data.hash)].slice(-KEPT);
    newTip({ index: data.block.header.index, hash: data.hash });
  },
  reorg(data) {
    state.blocks = state.blocks.filter(each => each.index <= data.fork.index);
    state.reorgs = [{ ...data, seen: Date.now() }, ...state.reorgs].slice(0, KEPT);
    newTip(data.fork);
    tell('reorg');
  },
  skipped(data) {
    state.blocks = [];
    newTip(data.to);
  },
  reset(data) {
    state.blocks = [];
    newTip(data.tip);
    tell('reorg');
  },
  peer({ change, peer }) {
    const key = peer.id ?? peer.address;
    if (change === 'closed') state.peers.delete(key);
    else state.peers.set(key, peer);
    tell('peers');
  },
  sync(data) {
    state.sync = data;
    tell('sync');
  },
};

let last = null;

function follow() {
  const from = last ? `&lastEventId=${last}` : '';
  const source = new EventSource(`/events?behind=${BEHIND}${from}`);
  source.onopen = () => {
    // All peers are told anew.
    state.peers.clear();
    state.connected = true;
    state.gone = null;
    tell('line');
  };
  source.onerror = () => {
    state.connected = false;
    tell('line');
    // The browser asks again by itself after a break, but not after a refusal.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN);
  };
  for (const [kind, take] of Object.entries(read)) {
    source.addEventListener(kind, event => {
      last = event.lastEventId;
      take(JSON.parse(event.data));
    });
  }
}

export async function look() {
  try {
    state.status = await json('/status');
    state.gone = null;
    if (!state.tip || !state.connected && state.status.tip.hash !== state.tip.hash) newTip(state.status.tip);
  } catch (error) {
    state.gone = error.status ? error.message : '';
  }
  tell('status');
  tell('line');
}

export async function start() {
  await look();
  follow();
  setInterval(() => { if (!document.hidden) look(); }, STATUS_EVERY);
}
