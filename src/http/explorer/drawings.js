// Drawings: the Merkle tree of a block, the peers around this node, the branches beside the chain. Each is bounded, whatever
// there is to draw, and says in words what it leaves out.
import { grouped, short, svg } from "./dom.js";
import { t } from "./words.js";

const ALL_LEAVES = 8;            // leaves of a tree whose nodes are drawn with their hashes
const MANY_LEAVES = 256;         // marks at the foot of the drawing of a larger tree

const canvas = (width, height, label, ...children) =>
  svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label, class: 'drawing' }, ...children);

const text = (x, y, content, attributes = {}) => svg('text', { x, y, 'text-anchor': 'middle', ...attributes }, content);

const titled = (node, title) => { node.append(svg('title', {}, title)); return node; };

// ---- The Merkle tree.

const NODE = { width: 98, height: 46, gap: 10, rise: 78 };

// The nodes to draw, as { row, at }: all of them, or the way from one leaf to the root with what stands beside it.
function chosen(rows, leaf) {
  if (rows[0].length <= ALL_LEAVES) return rows.flatMap((row, level) => row.map((_, at) => ({ level, at, on: false })));
  const nodes = [];
  for (let level = 0, at = leaf; level < rows.length; level++, at >>= 1) {
    nodes.push({ level, at, on: true });
    const beside = at ^ 1;
    if (beside < rows[level].length && level < rows.length - 1) nodes.push({ level, at: beside, on: false });
  }
  return nodes;
}

export function merkleTree(rows, body, leaf) {
  const whole = rows[0].length <= ALL_LEAVES;
  const nodes = chosen(rows, leaf);
  const step = NODE.width + NODE.gap;
  const place = new Map();
  const key = (level, at) => `${level}/${at}`;
  if (whole) {
    rows.forEach((row, level) => row.forEach((_, at) => {
      const children = [place.get(key(level - 1, 2 * at)), place.get(key(level - 1, 2 * at + 1))].filter(x => x !== undefined);
      place.set(key(level, at), level === 0 ? at * step + step / 2 : children.reduce((a, b) => a + b, 0) / children.length);
    }));
  } else {
    nodes.forEach(({ level, at }) => place.set(key(level, at), step * (at % 2 === 0 ? 0.5 : 1.5)));
    place.set(key(rows.length - 1, 0), step);
  }
  const width = (whole ? rows[0].length : 2) * step;
  const below = 40;
  const height = (rows.length - 1) * NODE.rise + NODE.height + below + 8;
  const y = level => 4 + (rows.length - 1 - level) * NODE.rise;
  const lines = nodes.filter(({ level }) => level < rows.length - 1).map(({ level, at }) => {
    const x = place.get(key(level, at)), up = place.get(key(level + 1, at >> 1));
    if (up === undefined) return null;
    const [from, to] = [y(level), y(level + 1) + NODE.height];
    return svg('path', { d: `M${x} ${from} C${x} ${(from + to) / 2} ${up} ${(from + to) / 2} ${up} ${to}`, class: 'branch' });
  });
  const boxes = nodes.map(({ level, at, on }) => {
    const x = place.get(key(level, at)), root = level === rows.length - 1;
    const hash = rows[level][at];
    const box = svg('g', { class: root ? 'node root' : on ? 'node on' : 'node' },
      svg('rect', { x: x - NODE.width / 2, y: y(level), width: NODE.width, height: NODE.height, rx: 8 }),
      text(x, y(level) + 19, root ? t('root') : level === 0 ? t('leaf', { n: at }) : `${level}.${at}`, { class: 'small' }),
      text(x, y(level) + 35, `${hash.slice(0, 5)}…${hash.slice(-4)}`, { class: 'mono' }));
    return titled(box, hash);
  });
  const leaves = nodes.filter(({ level }) => level === 0).map(({ at }) => {
    const entry = body[at].replace(/\p{C}/gu, '·');
    return text(place.get(key(0, at)), y(0) + NODE.height + 22, entry.length > 12 ? `${entry.slice(0, 11)}…` : entry, { class: 'small' });
  });
  const drawing = canvas(width, height, t('tree-label', { leaves: rows[0].length, levels: rows.length }), ...lines, ...boxes, ...leaves);
  drawing.classList.add('fits');
  // Below this it would be too small to read, and is moved along instead.
  drawing.style.minWidth = `${Math.min(width, 560)}px`;
  return drawing;
}

// ---- A tree with more leaves than there is room for hashes.

// The shape of the whole tree, and in it the way from one leaf to the root. Of a very large tree the lowest rows are folded
// up: a mark at the foot then stands for several leaves. `width` is that of the place; `pick` is told which leaf was chosen.
export function merkleShape(rows, leaf, width, pick) {
  const folded = rows.findIndex(row => row.length <= MANY_LEAVES);
  const drawn = rows.slice(folded), feet = drawn[0].length;
  const step = width / feet, rise = Math.max(18, Math.min(34, 220 / drawn.length));
  const mark = Math.min(7, Math.max(0.8, step * 0.36));
  const y = level => 12 + (drawn.length - 1 - level) * rise, height = y(0) + 14;
  const x = [Array.from({ length: feet }, (_, at) => (at + 0.5) * step)];
  for (let level = 1; level < drawn.length; level++) {
    const below = x[level - 1];
    x.push(drawn[level].map((_, at) => 2 * at + 1 < below.length ? (below[2 * at] + below[2 * at + 1]) / 2 : below[2 * at]));
  }
  // One path for all lines: a thousand elements would be slow to draw.
  const line = (level, at) => `M${x[level][at].toFixed(1)} ${y(level)}V${y(level) - rise / 2}H${x[level + 1][at >> 1].toFixed(1)}V${y(level + 1)}`;
  const lines = drawn.slice(0, -1).flatMap((row, level) => row.map((_, at) => line(level, at))).join('');
  const way = [], beside = [];
  for (let level = 0, at = leaf >> folded; level < drawn.length; level++, at >>= 1) {
    if (level + 1 < drawn.length) way.push(line(level, at));
    if ((at ^ 1) < drawn[level].length && level + 1 < drawn.length) beside.push([x[level][at ^ 1], y(level)]);
  }
  const foot = x[0].map(place => `M${place.toFixed(1)} ${y(0) - mark}v${2 * mark}`).join('');
  const chosenX = x[0][leaf >> folded], top = drawn.length - 1;
  const drawing = canvas(width, height, t('tree-label', { leaves: rows[0].length, levels: rows.length }),
    svg('path', { d: lines, class: 'twigs' }), svg('path', { d: foot, class: 'feet', 'stroke-width': Math.max(0.8, step * 0.7) }),
    svg('path', { d: way.join(''), class: 'way' }),
    ...beside.map(([cx, cy]) => svg('circle', { cx, cy, r: 4, class: 'beside' })),
    svg('circle', { cx: chosenX, cy: y(0), r: 6, class: 'way-end' }), svg('circle', { cx: x[top][0], cy: y(top), r: 8, class: 'way-end' }),
    text(x[top][0] + 14, y(top) + 4, `${t('root')} ${rows.at(-1)[0].slice(0, 8)}…`, { class: 'small halo', 'text-anchor': 'start' }));
  drawing.classList.add('fits', 'shape');
  drawing.addEventListener('click', event => {
    const box = drawing.getBoundingClientRect();
    const foot = Math.floor((event.clientX - box.left) / box.width * feet);
    pick(Math.min(rows[0].length - 1, Math.max(0, foot << folded)));
  });
  return { drawing, each: 2 ** folded };
}

// ---- The peers.

const MAX_PEERS = 24;

// An address in little room; the table has it whole.
function called(address, room) {
  const name = address.replace(/^wss?:\/\//, '');
  return name.length > room ? `${name.slice(0, room - 10)}…${name.slice(-9)}` : name;
}

// `room` is the width of the place, in pixels. Where there is none for the names of all, the table alone has them.
export function peerGraph(peers, tip, room) {
  const shown = peers.slice(0, MAX_PEERS), count = shown.length, few = count <= 2;
  const width = Math.max(320, Math.min(720, room)), narrow = width < 560;
  const named = count <= (narrow ? 6 : 12), size = named ? 22 : narrow ? 10 : 13;
  const height = few ? 136 : narrow ? 420 : count > 8 && named ? 520 : 340;
  const x0 = count === 1 ? width * 0.3 : width / 2, y0 = few ? 46 : height / 2;
  const around = shown.map((peer, at) => {
    // Two stand at the sides, where there is most room; more go around, none right above or below.
    const angle = few ? at * Math.PI : -Math.PI / 2 + (at + 0.5) * 2 * Math.PI / count;
    const reach = count === 1 ? width * 0.4 : width / 2 - (narrow ? 56 : 110);
    const x = x0 + Math.cos(angle) * reach, y = y0 + Math.sin(angle) * (height / 2 - 66);
    const [dx, dy] = [x - x0, y - y0], length = Math.hypot(dx, dy) || 1;
    const edge = (from, r) => [from[0] + dx / length * r, from[1] + dy / length * r];
    const near = edge([x0, y0], 46), far = edge([x, y], -size - 6);
    const [from, to] = peer.direction === 'inbound' ? [far, near] : [near, far];
    const marks = { class: `link ${peer.kind}`, 'marker-end': peer.direction ? 'url(#arrow)' : null };
    const line = svg('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1], ...marks });
    // Only where it does not cover the line.
    const latency = typeof peer.latencyMs === 'number' && named && length > 180 ? `${peer.latencyMs.toFixed(1)} ms` : '';
    const middle = [(near[0] + far[0]) / 2, (near[1] + far[1]) / 2];
    const shape = peer.kind === 'tutorial'
      ? svg('rect', { x: x - size + 2, y: y - size + 2, width: 2 * size - 4, height: 2 * size - 4, rx: 6 })
      : svg('circle', { cx: x, cy: y, r: size });
    const same = peer.tip && tip && peer.tip.hash === tip.hash;
    // A number too long for the shape stands beside the name; both stand away from the line.
    const index = peer.tip ? grouped(peer.tip.index) : '?', inside = named && index.length <= 5;
    const words = [called(peer.address, narrow ? 16 : 22), ...inside ? [] : [index]], above = !few && dy < 0;
    const place = at => above ? y - size - 9 - 16 * (words.length - 1 - at) : y + size + 18 + 16 * at;
    return titled(svg('g', { class: `peer ${peer.kind} ${same ? 'same' : ''}` }, line, shape,
      text(x, y + 5, inside ? index : !peer.tip ? '?' : same ? '=' : '≠', { class: 'small strong' }),
      ...named ? words.map((word, at) => text(x, place(at), word, { class: at ? 'small strong halo' : 'small halo' })) : [],
      latency ? text(middle[0], middle[1] - 6, latency, { class: 'small halo' }) : null), `${peer.address}  ${index}`);
  });
  const arrow = svg('marker', { id: 'arrow', viewBox: '0 0 10 10', refX: 9, refY: 5, markerWidth: 7, markerHeight: 7, orient: 'auto' },
    svg('path', { d: 'M0 0L10 5L0 10z' }));
  const us = svg('g', { class: 'peer us' }, svg('circle', { cx: x0, cy: y0, r: 40 }),
    text(x0, y0 - 2, t('this-node'), { class: 'small' }), text(x0, y0 + 15, grouped(tip?.index), { class: 'small strong' }));
  const drawing = canvas(width, height, t('peers-label', { n: peers.length }), svg('defs', {}, arrow), ...around, us);
  return { drawing, left: peers.length - shown.length };
}

// ---- The branches.

const MAX_BRANCHES = 12;
const DOTS = 5;                  // blocks of a branch that are drawn

// `room` is the width of the place, in pixels.
export function forkTree(branches, best, room) {
  const shown = branches.slice(0, MAX_BRANCHES);
  const forks = [...new Set(shown.map(branch => branch.fork.index))].sort((a, b) => a - b);
  const narrow = room < 560, left = narrow ? 24 : 60, unit = narrow ? 30 : 42, rise = 64, top = 30;
  // A branch stands right of its fork; what lies between two forks is left out of the trunk, and its number told.
  const longest = Math.min(DOTS, Math.max(1, ...shown.map(branch => branch.length)));
  const space = Math.max((longest + 2) * unit, 220);
  const x = new Map(forks.map((fork, at) => [fork, left + at * space]));
  const width = Math.max(Math.min(room, 900), left + (forks.length - 1) * space + Math.max(longest * unit, 170) + 90, 300);
  // Only branches of one fork stand above each other.
  const level = shown.map((branch, at) => shown.slice(0, at).filter(other => other.fork.index === branch.fork.index).length);
  const y0 = top + (Math.max(...level) + 1) * rise + 6, height = y0 + 46, end = width - 34;
  const open = (hash, label, ...children) =>
    svg('a', { href: `#/${hash}`, 'aria-label': label }, ...children.map(child => titled(child, label)));
  const stops = [...forks.map(fork => [fork, x.get(fork)]), [best.index, end]];
  const between = stops.slice(1).map(([index, at], n) => {
    const [before, from] = stops[n], blocks = index - before - 1;
    return blocks > 0 ? text((from + at) / 2, y0 - 10, `⋯ ${t('n-blocks', { n: grouped(blocks) })} ⋯`, { class: 'small' }) : null;
  });
  const trunk = [
    svg('line', { x1: x.get(forks[0]) - 14, y1: y0, x2: end, y2: y0, class: 'trunk' }), ...between,
    ...forks.map(fork => {
      const hash = shown.find(branch => branch.fork.index === fork).fork.hash;
      return svg('g', {}, open(hash, t('fork-at', { n: grouped(fork) }), svg('circle', { cx: x.get(fork), cy: y0, r: 9, class: 'on-best' })),
        text(x.get(fork), y0 + 28, grouped(fork), { class: 'small' }));
    }),
    open(best.hash, `${t('tip')} ${grouped(best.index)}`, svg('circle', { cx: end, cy: y0, r: 12, class: 'best-tip' })),
    text(end + 12, y0 + 32, `${t('tip')} ${grouped(best.index)}`, { class: 'small strong', 'text-anchor': 'end' }),
  ];
  const arms = shown.map((branch, at) => {
    const from = x.get(branch.fork.index), y = y0 - 6 - (level[at] + 1) * rise;
    const dots = Math.min(DOTS, branch.length), kind = branch.parked ? 'parked' : 'kept';
    const place = n => from + unit * (n + 1.2), last = place(dots - 1);
    const path = svg('path', { d: `M${from} ${y0} C${from} ${y + 22} ${from + 4} ${y} ${from + unit} ${y} L${last} ${y}`, class: `arm ${kind}` });
    const marks = Array.from({ length: dots }, (_, n) => {
      if (n === dots - 1) return open(branch.tip.hash, `${t(kind)}: ${t('block-n', { n: grouped(branch.tip.index) })} ${short(branch.tip.hash)}`,
        svg('circle', { cx: place(n), cy: y, r: 11, class: `orphan ${kind}` }));
      const gap = n === dots - 2 && branch.length > DOTS;
      return gap ? text(place(n), y + 5, '⋯', { class: 'strong halo' }) : svg('circle', { cx: place(n), cy: y, r: 7, class: `orphan ${kind}` });
    });
    const label = `${t(kind)} · ${t('n-blocks', { n: grouped(branch.length) })} · `;
    const words = text(from + unit * 0.7, y + 27, label, { class: 'small halo', 'text-anchor': 'start' });
    words.append(svg('tspan', { class: 'mono' }, `${branch.tip.hash.slice(0, 8)}…`));
    return svg('g', {}, path, ...marks, words);
  });
  return { drawing: canvas(width, height, t('forks-label', { n: branches.length }), ...arms, ...trunk), left: branches.length - shown.length };
}
