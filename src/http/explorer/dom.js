// Building the page. What others wrote reaches it through text nodes alone; nothing here makes markup from text.
import { locale } from "./words.js";

export const $ = id => document.getElementById(id);

// An element with attributes and children; `on…` are listeners, false and null leave an attribute out.
function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);

export const short = hash => hash ? `${hash.slice(0, 8)}…${hash.slice(-4)}` : '';

export const grouped = number => Number.isSafeInteger(number) ? number.toLocaleString(locale()) : '–';

export function moment(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? String(seconds) : date.toLocaleString(locale(), { dateStyle: 'medium', timeStyle: 'medium' });
}

// Characters that a reader cannot see or that turn the text around them: controls, marks of direction, spaces of no width.
const HIDDEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

// Text with all that is hidden made visible. A line break stays one.
export function visible(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > at) parts.push(text.slice(at, match.index));
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
    parts.push(el('span', { class: 'hidden-character', title: `U+${code}` }, `U+${code}`));
    at = match.index + match[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

export const link = (hash, text, attributes = {}) =>
  el('a', { href: `#/${hash}`, class: 'mono', title: hash, ...attributes }, text ?? short(hash));

// A table; where there is no room for one, each row is a card that names its cells.
export function table(names, rows) {
  const cell = (content, at) => el('td', { role: 'cell', 'data-name': names[at] }, el('span', {}, ...[content].flat()));
  return [
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...names.map(name => el('th', { scope: 'col', role: 'columnheader' }, name)))),
    el('tbody', { role: 'rowgroup' }, ...rows.map(({ cells, kind }) => el('tr', { role: 'row', class: kind }, ...cells.map(cell)))),
  ];
}

// Says something about a form in its own place.
export function say(id, kind, ...what) {
  $(id).className = `said ${kind}`;
  $(id).replaceChildren(...what);
}

// Replaces children without taking the focus from who moves by keyboard: elements are told apart by data-key.
export function refill(parent, children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.closest('[data-key]')?.dataset.key : null;
  parent.replaceChildren(...children);
  if (key) {
    const again = [...parent.querySelectorAll('[data-key]')].find(child => child.dataset.key === key);
    (again?.matches('a, button') ? again : again?.querySelector('a, button'))?.focus({ preventScroll: true });
  }
}
