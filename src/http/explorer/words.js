// The page's words, in English and Korean. A missing word shows its key, so that a test sees it.

const WORDS = {
  en: {
    skip: 'Skip to the content', page: 'The explorer of a dolmen node', views: 'Views', 'nav-chain': 'Chain', 'nav-network': 'Network', 'nav-forks': 'Forks',
    'find-label': 'Index, hash or text of an entry', 'find-placeholder': 'Index, hash or text', find: 'Find', close: 'Close',
    language: 'Language', live: 'live', 'no-answer': 'no answer', connecting: 'connecting',
    gone: 'The node does not answer. It may have stopped, or the network may be down. What you see may be old; this page keeps asking.',
    'gone-why': 'The node answers with an error: {why}', 'problem-is': 'The node takes no new entries: {why}',
    'parked-are': '{n} longer branch is parked, because adopting it would undo too many blocks. | {n} longer branches are parked, because adopting them would undo too many blocks.', 'parked-see': 'See the branches',
    'sync-is': 'Fetching blocks from a peer: {at} of {target}.',
    'fact-tip': 'Tip', 'fact-peers': 'Peers', 'fact-outbox': 'To be mined again', 'fact-side': 'Blocks off the chain', 'fact-reorgs': 'Reorgs', 'fact-up': 'Running for', 'fact-version': 'Version', 'fact-sync': 'Sync',
    'sync-none': 'up to date', days: '{n} d', hours: '{n} h', minutes: '{n} min', seconds: '{n} s',
    growing: 'The chain as it grows', rate: '{n} block/s | {n} blocks/s', 'mine-title': 'Mine a block', entry: 'Your entry, a text', mine: 'Mine', 'each-line': 'each line is an entry of its own',
    token: 'This node wants its token for changes', mining: 'Mining …', mined: 'Mined: block {n}.', 'not-mined': 'Nothing was mined.', 'no-entry': 'Write something first.',
    blocks: 'Blocks', 'blocks-range': '{from} to {to} of {all}', latest: 'Latest', 'latest-n': 'Latest ({n} newer)', newer: 'Newer', older: 'Older', jump: 'Jump along the chain',
    'n-entries': '{n} entry | {n} entries', 'n-blocks': '{n} block | {n} blocks', genesis: 'Genesis', 'block-n': 'Block {n}', block: 'Block',
    'receipt-included': 'in block {n}, {depth} deep, on {peers} peer | in block {n}, {depth} deep, on {peers} peers', 'receipt-orphaned': 'its block left the best chain; it is about to be mined again', 'receipt-unknown': 'this node no longer knows it', receipt: 'Receipt',
    'fetching': 'Fetching the block …', 'no-block': 'There is no block {name} here.', 'block-failed': 'The block could not be fetched: {why}',
    choose: 'Choose a block to see its header, its hash, the text that is hashed, its entries and its Merkle tree.',
    previous: 'Previous', next: 'Next', hash: 'block hash', confirmations: 'confirmations', 'off-chain': '0: this block is not on the best chain',
    header: 'Header', preimage: 'The text that is hashed', 'preimage-said': 'The five fields of the header, nothing between. Their SHA-256 is the block hash.',
    body: 'Entries', 'whole-body': 'Show all', tree: 'Merkle tree', 'tree-whole': 'Each leaf is the SHA-256 of an entry, each node that of the two below it; one that has no neighbour moves up as it is. The root stands in the header.',
    'tree-large': '{n} entries, each a mark at the foot; the root is at the top. Click a mark, or type a number, to see how that entry is proven.', 'tree-folded': 'The lowest rows are folded up: a mark stands for {n} entries.',
    proof: 'Proof of one entry', 'tree-path': 'The green way leads from one entry to the root. Whoever knows the entry and the hashes beside the way (in bold below) can compute the root: that is all it takes to prove that the entry is in the block.',
    'proof-leaf': 'The entry gives its leaf:', 'proof-left': 'With the node to its left:', 'proof-right': 'With the node to its right:', 'proof-odd': 'It has no neighbour, and moves up as it is:', 'proof-root': 'This is the merkleRoot of the header.', 'tree-entry': 'Entry', 'tree-none': 'Browsers compute hashes only for pages from https or from this machine itself (localhost), so the tree cannot be drawn here.',
    'tree-label': 'Merkle tree with {leaves} leaves and {levels} rows', root: 'root', leaf: 'entry {n}',
    check: 'Verify in my browser', 'check-one': 'Verify this block', 'check-down': 'Verify down to genesis', stop: 'Stop', 'check-said': 'Computed by your browser with WebCrypto, without the node’s word for it.',
    'check-impossible': 'Your browser lends WebCrypto only to pages from https or from this machine itself (localhost), so nothing can be verified here. Open the page over localhost, or run “dolmen verify”.',
    'hash-right': 'The SHA-256 of the header is the block hash.', 'hash-wrong': 'The SHA-256 of the header is {own}, not the block hash.', 'root-right': 'The Merkle root of the entries is the header’s.', 'root-wrong': 'The Merkle root of the entries is {root}, not the header’s.',
    'down-at': '{done} right so far, at block {next}', 'down-right': 'All {done} blocks from here to genesis are right: each hash, each root, each link to the block before.', 'down-stopped': 'Stopped. The {done} blocks that were looked at are right.', 'down-wrong': 'Block {n} is not right. The {done} above it are.', 'down-missing': 'Block {n} could not be read. The {done} above it are right.', 'down-moved': 'The chain changed meanwhile; begin again.',
    'found-title': 'Entries with “{text}”', 'found-said': 'Looked through blocks {to} to {from}; found {n}.', 'found-all': 'Looked through the whole chain, down to genesis; found {n}.', 'look-further': 'Look further', looking: 'Looking …',
    'peers-title': 'Peers', 'peers-drawn': 'The peers, drawn', 'no-peers': 'No peer is known yet.', 'peers-label': 'This node and {n} peers around it', 'this-node': 'this node', 'peers-left': '{n} more are in the table only.',
    legend: 'An arrow goes from who dialled to who answered. Round: a dolmen node. Square: a node of the tutorial. Green: it has our tip. Dashed: being dialled.',
    address: 'Address', direction: 'Direction', kind: 'Kind', tip: 'Tip', latency: 'Latency', agent: 'Program', inbound: 'inbound', outbound: 'outbound', native: 'dolmen', tutorial: 'tutorial', 'kind-connecting': 'connecting',
    'add-title': 'Address of another node', add: 'Add', 'added': 'Added: the node dials it now, and again whenever the link is lost.', 'not-added': 'Not added.',
    'why-title': 'Refused, and why', 'why-none': 'No block of a peer has been refused since this node started.', 'why-times': '{n} times', 'why-from': 'from {remote}', got: 'found', wanted: 'wanted', rule: 'rule', said: 'the node says',
    'forks-title': 'Branches beside the best chain', 'forks-drawn': 'The branches, drawn', 'forks-none': 'Every block this node knows is on the best chain.', 'forks-label': 'The best chain with {n} branches beside it', 'forks-legend': 'The line below is the best chain. Branches left it, or never were on it; their blocks are kept, and can be opened.', 'forks-left': '{n} more branches are not drawn.',
    'fork-at': 'The branch begins after block {n}', kept: 'kept', parked: 'parked', adopt: 'to take it over:', state: 'State', 'forks-at': 'Begins after', length: 'Length',
    'reorgs-title': 'What reorgs have moved', 'reorgs-none': 'None since this node started. When a longer chain comes from a peer, it is told here which blocks left and which entered.', 'reorg-said': 'After block {fork}, {left} left and {entered} entered.', 'reorg-left': 'Left', 'reorg-entered': 'Entered', 'reorg-requeued': 'Of this node’s own entries, these go back to the outbox and are mined again:', 'reorg-more': 'and {n} more', 'reorg-last': 'The last that left', 'reorg-again': '{n} submission of this node went back to the outbox and was mined again. | {n} submissions of this node went back to the outbox and were mined again.',
    footer: 'This page speaks only to its own node, and shows what others wrote as text.',
  },
  ko: {
    skip: '본문으로 건너뛰기', page: 'dolmen 노드의 탐색기', views: '보기', 'nav-chain': '체인', 'nav-network': '네트워크', 'nav-forks': '갈래',
    'find-label': '블록 번호, 해시 또는 내용', 'find-placeholder': '번호, 해시, 내용', find: '찾기', close: '닫기',
    language: '언어', live: '실시간', 'no-answer': '응답 없음', connecting: '연결 중',
    gone: '노드가 응답하지 않습니다. 멈췄거나 네트워크가 끊겼을 수 있습니다. 보이는 내용이 오래된 것일 수 있으며, 계속 다시 묻고 있습니다.',
    'gone-why': '노드가 오류로 응답합니다: {why}', 'problem-is': '노드가 새 내용을 받지 않습니다: {why}',
    'parked-are': '너무 많은 블록을 되돌리게 되어 보류된 더 긴 갈래가 {n}개 있습니다.', 'parked-see': '갈래 보기',
    'sync-is': '피어에게서 블록을 받는 중: {target} 중 {at}.',
    'fact-tip': '마지막 블록', 'fact-peers': '피어', 'fact-outbox': '다시 채굴할 것', 'fact-side': '체인 밖 블록', 'fact-reorgs': '재편성', 'fact-up': '가동 시간', 'fact-version': '버전', 'fact-sync': '동기화',
    'sync-none': '최신 상태', days: '{n}일', hours: '{n}시간', minutes: '{n}분', seconds: '{n}초',
    growing: '자라나는 체인', rate: '초당 {n}블록', 'mine-title': '블록 채굴하기', entry: '블록에 담을 글', mine: '채굴', 'each-line': '한 줄을 항목 하나로',
    token: '이 노드를 바꾸려면 토큰이 필요합니다', mining: '채굴 중 …', mined: '채굴 완료: 블록 {n}.', 'not-mined': '아무것도 채굴되지 않았습니다.', 'no-entry': '먼저 글을 쓰세요.',
    blocks: '블록', 'blocks-range': '전체 {all} 중 {from}–{to}', latest: '최신', 'latest-n': '최신 (새 블록 {n}개)', newer: '더 새로운', older: '더 오래된', jump: '체인을 따라 이동',
    'n-entries': '항목 {n}개', 'n-blocks': '블록 {n}개', genesis: '제네시스', 'block-n': '블록 {n}', block: '블록',
    'receipt-included': '블록 {n}에 있음, 깊이 {depth}, 피어 {peers}곳에 있음', 'receipt-orphaned': '블록이 최선 체인에서 빠졌고, 곧 다시 채굴됩니다', 'receipt-unknown': '이 노드가 더는 알지 못합니다', receipt: '영수증',
    'fetching': '블록을 가져오는 중 …', 'no-block': '여기에는 블록 {name}이(가) 없습니다.', 'block-failed': '블록을 가져오지 못했습니다: {why}',
    choose: '블록을 고르면 헤더, 해시, 해시되는 글, 항목과 머클 트리를 볼 수 있습니다.',
    previous: '이전', next: '다음', hash: '블록 해시', confirmations: '확인 수', 'off-chain': '0: 최선 체인에 없는 블록입니다',
    header: '헤더', preimage: '해시되는 글', 'preimage-said': '헤더의 다섯 필드를 사이에 아무것도 없이 이은 것입니다. 이 글의 SHA-256이 블록 해시입니다.',
    body: '항목', 'whole-body': '모두 보기', tree: '머클 트리', 'tree-whole': '잎은 항목의 SHA-256이고, 마디는 바로 아래 둘을 이은 글의 SHA-256입니다. 짝이 없는 마디는 그대로 올라갑니다. 뿌리가 헤더에 들어 있습니다.',
    'tree-large': '항목 {n}개가 맨 아래 눈금으로, 뿌리가 맨 위에 있습니다. 눈금을 누르거나 번호를 쓰면 그 항목의 증명을 볼 수 있습니다.', 'tree-folded': '가장 아래 줄들은 접혀 있습니다. 눈금 하나가 항목 {n}개입니다.',
    proof: '항목 하나의 증명', 'tree-path': '초록 길은 한 항목에서 뿌리까지 이어집니다. 항목과 길 옆의 해시(아래에서 굵은 글씨)를 알면 누구나 뿌리를 계산할 수 있습니다. 항목이 블록에 들어 있음을 증명하는 데 이것이면 충분합니다.',
    'proof-leaf': '항목에서 잎이 나옵니다:', 'proof-left': '왼쪽 마디와 함께:', 'proof-right': '오른쪽 마디와 함께:', 'proof-odd': '짝이 없어 그대로 올라갑니다:', 'proof-root': '이것이 헤더의 merkleRoot입니다.', 'tree-entry': '항목', 'tree-none': '브라우저는 https나 이 컴퓨터(localhost)의 페이지에서만 해시를 계산해 주므로 여기서는 트리를 그릴 수 없습니다.',
    'tree-label': '잎 {leaves}개, {levels}줄의 머클 트리', root: '뿌리', leaf: '항목 {n}',
    check: '내 브라우저로 검증', 'check-one': '이 블록 검증', 'check-down': '제네시스까지 검증', stop: '멈춤', 'check-said': '노드의 말을 믿지 않고 브라우저가 WebCrypto로 직접 계산합니다.',
    'check-impossible': '브라우저는 https나 이 컴퓨터(localhost)의 페이지에서만 WebCrypto를 허용하므로 여기서는 검증할 수 없습니다. localhost로 열거나 “dolmen verify”를 실행하세요.',
    'hash-right': '헤더의 SHA-256이 블록 해시와 같습니다.', 'hash-wrong': '헤더의 SHA-256은 {own}이며, 블록 해시와 다릅니다.', 'root-right': '항목들의 머클 뿌리가 헤더의 것과 같습니다.', 'root-wrong': '항목들의 머클 뿌리는 {root}이며, 헤더의 것과 다릅니다.',
    'down-at': '지금까지 {done}개가 맞습니다. 현재 블록 {next}', 'down-right': '여기서 제네시스까지 블록 {done}개가 모두 맞습니다: 해시, 뿌리, 앞 블록과의 연결까지.', 'down-stopped': '멈췄습니다. 살펴본 블록 {done}개는 맞습니다.', 'down-wrong': '블록 {n}이(가) 틀립니다. 그 위의 {done}개는 맞습니다.', 'down-missing': '블록 {n}을(를) 읽지 못했습니다. 그 위의 {done}개는 맞습니다.', 'down-moved': '그동안 체인이 바뀌었습니다. 다시 시작하세요.',
    'found-title': '“{text}”이(가) 들어 있는 항목', 'found-said': '블록 {to}부터 {from}까지 살펴보고 {n}개를 찾았습니다.', 'found-all': '제네시스까지 체인 전체를 살펴보고 {n}개를 찾았습니다.', 'look-further': '더 찾기', looking: '찾는 중 …',
    'peers-title': '피어', 'peers-drawn': '피어 그림', 'no-peers': '아직 아는 피어가 없습니다.', 'peers-label': '이 노드와 주위의 피어 {n}곳', 'this-node': '이 노드', 'peers-left': '{n}곳은 표에만 있습니다.',
    legend: '화살표는 연결을 건 쪽에서 받은 쪽으로 갑니다. 원: dolmen 노드. 네모: 튜토리얼 노드. 초록: 우리와 같은 마지막 블록. 점선: 연결하는 중.',
    address: '주소', direction: '방향', kind: '종류', tip: '마지막 블록', latency: '지연', agent: '프로그램', inbound: '들어옴', outbound: '나감', native: 'dolmen', tutorial: '튜토리얼', 'kind-connecting': '연결 중',
    'add-title': '다른 노드의 주소', add: '추가', 'added': '추가했습니다. 지금 연결하고, 끊길 때마다 다시 연결합니다.', 'not-added': '추가하지 못했습니다.',
    'why-title': '거절된 것과 그 까닭', 'why-none': '이 노드가 켜진 뒤로 거절된 피어의 블록이 없습니다.', 'why-times': '{n}번', 'why-from': '보낸 곳 {remote}', got: '온 값', wanted: '있어야 할 값', rule: '규칙', said: '노드의 말',
    'forks-title': '최선 체인 옆의 갈래', 'forks-drawn': '갈래 그림', 'forks-none': '이 노드가 아는 모든 블록이 최선 체인에 있습니다.', 'forks-label': '최선 체인과 그 옆의 갈래 {n}개', 'forks-legend': '아래 줄이 최선 체인입니다. 갈래는 거기서 빠졌거나 오른 적이 없으며, 블록은 보관되어 열어 볼 수 있습니다.', 'forks-left': '갈래 {n}개는 그리지 않았습니다.',
    'fork-at': '블록 {n} 다음에서 갈라집니다', kept: '보관', parked: '보류', adopt: '이 갈래를 받아들이려면:', state: '상태', 'forks-at': '갈라진 곳', length: '길이',
    'reorgs-title': '재편성으로 옮겨진 것', 'reorgs-none': '노드가 켜진 뒤로 없습니다. 피어에게서 더 긴 체인이 오면, 어느 블록이 빠지고 들어왔는지 여기에 보입니다.', 'reorg-said': '블록 {fork} 다음에서 {left}개가 빠지고 {entered}개가 들어왔습니다.', 'reorg-left': '빠짐', 'reorg-entered': '들어옴', 'reorg-requeued': '이 노드의 항목 가운데 다음은 보낼 편지함으로 돌아가 다시 채굴됩니다:', 'reorg-more': '외 {n}개', 'reorg-last': '빠진 마지막 블록', 'reorg-again': '이 노드가 받은 것 {n}건이 보낼 편지함으로 돌아가 다시 채굴되었습니다.',
    footer: '이 페이지는 자기 노드와만 이야기하며, 남이 쓴 것은 글로만 보여 줍니다.',
  },
};

const KEY = 'dolmen.language';

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

let language = WORDS[remembered()] ? remembered() : navigator.language?.startsWith('ko') ? 'ko' : 'en';

export const keys = name => Object.keys(WORDS[name]).sort();

export const current = () => language;

export const locale = () => language === 'ko' ? 'ko-KR' : 'en-GB';

export function choose(wanted) {
  language = wanted;
  try {
    localStorage.setItem(KEY, wanted);
  } catch {
    // A browser that keeps nothing forgets the choice; the page works all the same.
  }
  translate();
}

// A sentence with {names} filled in. Of two forms the first is for one.
export function t(key, values = {}) {
  const forms = (WORDS[language][key] ?? key).split(' | ');
  const count = values.peers ?? values.n;
  const form = forms.length > 1 && Number(count) !== 1 ? forms[1] : forms[0];
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

// Puts the words into the parts of the page that stand from the beginning.
export function translate() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll('[data-t]')) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll('[data-t-label]')) node.setAttribute('aria-label', t(node.dataset.tLabel));
  for (const node of document.querySelectorAll('[data-t-placeholder]')) node.placeholder = t(node.dataset.tPlaceholder);
  for (const button of document.querySelectorAll('[data-language]')) {
    button.setAttribute('aria-pressed', String(button.dataset.language === language));
  }
}
