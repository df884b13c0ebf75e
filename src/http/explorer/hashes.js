// Everything that can be computed again without the node's word for it. Browsers lend their SHA-256 only to pages from
// https or from this machine itself.

export const possible = Boolean(globalThis.crypto?.subtle);

export const FIELDS = ['version', 'index', 'previousHash', 'time', 'merkleRoot'];

const encoder = new TextEncoder();

export async function sha256(text) {
  const digest = await crypto.subtle.digest('SHA-256', encoder.encode(text));
  return Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, '0')).join('');
}

const upper = async text => (await sha256(text)).toUpperCase();

// The text whose SHA-256 is the block hash: the header's fields, nothing between.
export const preimage = header => FIELDS.map(name => String(header[name])).join('');

// The tree row by row, leaves first. The last node of an odd row moves up as it is.
export async function merkleRows(body) {
  const rows = [await Promise.all(body.map(upper))];
  while (rows.at(-1).length > 1) {
    const row = rows.at(-1), pairs = [];
    for (let at = 0; at < row.length; at += 2) pairs.push(at + 1 < row.length ? upper(row[at] + row[at + 1]) : row[at]);
    rows.push(await Promise.all(pairs));
  }
  return rows;
}

// Judges one block: is its hash that of its header, and its root that of its body?
export async function judge({ header, body }, hash) {
  const [own, rows] = await Promise.all([sha256(preimage(header)), merkleRows(body)]);
  const root = rows.at(-1)[0];
  return { own, root, hashRight: own === hash, rootRight: root === header.merkleRoot };
}

const STEP_BYTES = 1_000_000;    // text of blocks that one step asks for, about

// Judges a block and all below it, in bounded steps from above. `blocks(from, limit)` brings them; `report(next, done)` is told
// after each step and ends it by answering false. Ends with what is wrong, or with how many are right.
export async function judgeDown(top, hash, blocks, report) {
  let wanted = hash, next = top, limit = 50, done = 0;
  while (next >= 0) {
    const from = Math.max(0, next - limit + 1);
    const run = await blocks(from, next - from + 1);
    if (run.length !== next - from + 1) return { done, missing: next };
    for (const block of run.reverse()) {
      if (block.header.index !== next) return { done, missing: next };
      const verdict = await judge(block, wanted);
      if (!verdict.hashRight || !verdict.rootRight) return { done, wrong: next, verdict, wanted };
      wanted = block.header.previousHash;
      next -= 1;
      done += 1;
    }
    // Small blocks in many, large ones one by one.
    const bytes = run.reduce((sum, block) => sum + JSON.stringify(block).length, 0);
    limit = Math.max(1, Math.min(500, Math.floor(STEP_BYTES / (bytes / run.length))));
    if (!report(next, done)) return { done, stopped: true };
  }
  return /^0{64}$/.test(wanted) ? { done } : { done, wrong: 0 };
}
