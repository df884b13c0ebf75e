// Why something was refused, in a beginner's sentence: one for every rule that the node can name.
import { el, visible } from "./dom.js";
import { current, t } from "./words.js";

const WHY = {
  en: {
    'not-a-block': 'This is not a block as JSON: a field is missing, has another type, or holds a number that programs read differently.',
    'version-form': 'A block’s version is three numbers with dots, such as 1.0.0.',
    'index-range': 'The index is so large that JavaScript can no longer count it exactly.',
    'previous-hash-form': 'A block names the one before by its hash: 64 characters of 0-9 and a-f, in lower case.',
    'time-range': 'The time is so large that JavaScript can no longer count it exactly.',
    'merkle-root-form': 'The Merkle root is 64 characters of 0-9 and A-F, in upper case.',
    'body-empty': 'A block without an entry says nothing. It needs at least one.',
    'body-entries': 'There are too many entries for one block. Spread them over several.',
    'entry-bytes': 'One entry is too long. Split it, or put only its hash into the chain.',
    'body-bytes': 'All entries together are too long for one block. Spread them over several.',
    'entry-ambiguous': 'The entry looks exactly like a node of the Merkle tree. Another body with the same root could hide behind it, so it is not taken; in lower case or with a word before it, it is.',
    'merkle-root-mismatch': 'The entries do not belong to this header: the root that they give is another. Somebody changed one or the other.',
    'time-ahead': 'The block says that it was mined in the future. One of two clocks is wrong.',
    'index-not-next': 'The block does not count on from its parent.',
    'previous-hash-mismatch': 'The block does not hang on its parent: it names another hash. A chain is only one if each block names the one before.',
    'genesis-mismatch': 'The chain begins with another first block: it belongs to another network.',
    'no-blocks': 'The message should hold blocks and holds none.',
    other: 'The node did not do this.',
  },
  ko: {
    'not-a-block': '블록을 나타내는 JSON이 아닙니다. 필드가 빠졌거나 종류가 다르거나, 프로그램마다 다르게 읽는 수가 들어 있습니다.',
    'version-form': '블록의 버전은 1.0.0처럼 점으로 이은 세 수입니다.',
    'index-range': '번호가 너무 커서 JavaScript가 정확히 셀 수 없습니다.',
    'previous-hash-form': '블록은 앞 블록을 해시로 가리킵니다. 해시는 0-9와 소문자 a-f로 된 64글자입니다.',
    'time-range': '시각이 너무 커서 JavaScript가 정확히 셀 수 없습니다.',
    'merkle-root-form': '머클 뿌리는 0-9와 대문자 A-F로 된 64글자입니다.',
    'body-empty': '항목이 없는 블록은 아무 말도 하지 않습니다. 적어도 하나가 필요합니다.',
    'body-entries': '한 블록에 항목이 너무 많습니다. 여러 블록으로 나누세요.',
    'entry-bytes': '항목 하나가 너무 깁니다. 나누거나, 해시만 체인에 넣으세요.',
    'body-bytes': '항목을 모두 합하면 한 블록에 너무 깁니다. 여러 블록으로 나누세요.',
    'entry-ambiguous': '이 항목은 머클 트리의 마디와 똑같이 생겼습니다. 뿌리가 같은 다른 본문이 그 뒤에 숨을 수 있어 받지 않습니다. 소문자로 쓰거나 앞에 글자를 붙이면 됩니다.',
    'merkle-root-mismatch': '항목들이 이 헤더의 것이 아닙니다. 항목에서 나오는 뿌리가 다릅니다. 누군가 한쪽을 바꾸었습니다.',
    'time-ahead': '블록이 미래에 채굴되었다고 합니다. 두 시계 가운데 하나가 틀렸습니다.',
    'index-not-next': '블록의 번호가 앞 블록에서 이어지지 않습니다.',
    'previous-hash-mismatch': '블록이 앞 블록에 이어지지 않습니다. 다른 해시를 가리킵니다. 블록마다 바로 앞 블록을 가리켜야 체인입니다.',
    'genesis-mismatch': '체인이 다른 첫 블록으로 시작합니다. 다른 네트워크의 것입니다.',
    'no-blocks': '블록이 들어 있어야 할 메시지가 비어 있습니다.',
    other: '노드가 하지 않았습니다.',
  },
};

// What was found and what was wanted, by the rules that cannot be broken by a number or a hash.
const FORMS = {
  en: {
    'entry-ambiguous': { got: 'an entry of 64 or 128 characters of 0-9 and A-F, and nothing else', wanted: 'any other text' },
    'not-a-block': { got: 'something else', wanted: 'an object with header and body, as in the tutorial' },
  },
  ko: {
    'entry-ambiguous': { got: '0-9와 대문자 A-F만으로 된 64글자 또는 128글자의 항목', wanted: '그 밖의 글' },
    'not-a-block': { got: '다른 것', wanted: '튜토리얼처럼 header와 body가 있는 객체' },
  },
};

// A problem of the node, or a row of what it refused: the sentence first, then what was found and what was wanted.
export function why(problem) {
  const { rule, detail } = problem, words = WHY[current()], form = FORMS[current()][rule];
  const [got, wanted] = [problem.got ?? form?.got, problem.wanted ?? form?.wanted];
  const pairs = [['rule', rule], ['got', got], ['wanted', wanted], ['said', detail]].filter(([, value]) => value);
  return el('div', { class: 'why' },
    el('p', {}, words[rule] ?? (detail ? visible(detail) : words.other)),
    el('dl', {}, ...pairs.filter(([name]) => rule || name !== 'said')
      .flatMap(([name, value]) => [el('dt', {}, t(name)), el('dd', { class: 'mono' }, ...visible(String(value)))])));
}
