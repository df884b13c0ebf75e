// The API for people: the description of this node, read from it, and tried on it. What the node answers is shown as text.
import { $, el } from "./dom.js";

const SHOWN = 4_000;             // characters of an answer that are shown
const TAGS = { chain: 'The chain', peers: 'Peers', node: 'The node' };

const nameOf = reference => reference.split('/').pop();

// Words of the description, where `code` stands in backticks.
const prose = text => text.split('`').map((part, at) => at % 2 ? el('code', {}, part) : part);

// A schema in few words: a link to an object, or a type.
function type(schema) {
  if (!schema) return [];
  if (schema.$ref) return [el('a', { href: `#object-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) return choices.flatMap((choice, at) => at ? [' or ', ...type(choice)] : type(choice));
  const word = [schema.type ?? 'any'].flat().join(' or ');
  return schema.items ? ['array of ', ...type(schema.items)] : [word];
}

const cells = (title, names, rows) => el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': title }, el('table', { class: 'cells' },
  el('thead', {}, el('tr', {}, ...names.map(name => el('th', { scope: 'col' }, name)))),
  el('tbody', {}, ...rows.map(row => el('tr', {}, ...row.map(cell => el('td', {}, ...[cell].flat())))))));

const code = text => el('code', {}, text);

// An example of a body, from what the schemas give as examples.
function example(api, schema) {
  if (schema?.$ref) return example(api, api.components.schemas[nameOf(schema.$ref)]);
  if (schema?.example !== undefined) return schema.example;
  if (!schema?.properties) return {};
  const given = Object.entries(schema.properties).filter(([name, of]) => of.example !== undefined || schema.required?.includes(name));
  return Object.fromEntries(given.map(([name, of]) => [name, example(api, of)]));
}

function curl(api, method, path, operation) {
  const body = operation.requestBody?.content['application/json'];
  const named = (operation.parameters ?? []).filter(parameter => parameter.in === 'path' && parameter.example !== undefined);
  const place = named.reduce((text, { name, example: hint }) => text.replace(`{${name}}`, hint), path);
  const parts = ['curl', method === 'get' ? null : `-X ${method.toUpperCase()}`, `${location.origin}${place}`];
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example(api, body.schema))}'`);
  return parts.filter(Boolean).join(' ');
}

// A form that asks this node. Only what reads: what writes is for the command line.
function trial(path, parameters) {
  const asked = parameters.filter(parameter => parameter.in !== 'header');
  const inputs = asked.map(({ name, example: hint, required }) => el('input', { name, required, value: required ? hint ?? '' : '', autocomplete: 'off', spellcheck: 'false' }));
  const said = el('div', { role: 'status' });
  const submit = async event => {
    event.preventDefault();
    const value = at => encodeURIComponent(inputs[at].value.trim());
    const target = asked.reduce((text, { name }, at) => text.replace(`{${name}}`, value(at)), path);
    const query = asked.flatMap(({ name, in: where }, at) => where === 'query' && inputs[at].value !== '' ? [`${name}=${value(at)}`] : []);
    const address = query.length ? `${target}?${query.join('&')}` : target;
    try {
      const answer = await fetch(address, { cache: 'no-store' });
      const text = await answer.text();
      const pretty = (answer.headers.get('Content-Type') ?? '').includes('json') ? JSON.stringify(JSON.parse(text), null, 2) : text;
      said.replaceChildren(el('p', { class: 'quiet' }, code(`GET ${address}`), ` → ${answer.status} ${answer.statusText}`),
        el('pre', { tabindex: '0' }, pretty.length > SHOWN ? `${pretty.slice(0, SHOWN)}\n…` : pretty));
    } catch (error) {
      said.replaceChildren(el('p', { class: 'said bad' }, `No answer: ${error.message}`));
    }
  };
  return el('form', { onsubmit: submit },
    el('div', { class: 'try' }, ...asked.map(({ name }, at) => el('label', {}, name, inputs[at])), el('button', {}, 'Ask this node')), said);
}

function route(api, method, path, operation) {
  const parameters = operation.parameters ?? [];
  const body = Object.entries(operation.requestBody?.content ?? {})[0];
  const answers = Object.entries(operation.responses).sort(([a], [b]) => a.localeCompare(b));
  const place = ({ in: where, required }) => required ? `${where}, required` : where;
  return el('details', {},
    el('summary', {}, el('span', { class: `method ${method}` }, method.toUpperCase()), el('code', { class: 'path' }, path), el('span', { class: 'quiet' }, ...prose(operation.summary ?? ''))),
    el('div', {},
      operation.description && el('p', {}, ...prose(operation.description)),
      el('pre', { tabindex: '0' }, curl(api, method, path, operation)),
      parameters.length > 0 && [el('h3', {}, 'Parameters'), cells('Parameters', ['Name', 'In', 'Type', 'Meaning'], parameters.map(p => [code(p.name), place(p), type(p.schema), prose(p.description ?? '')]))],
      body && [el('h3', {}, 'Body'), el('p', {}, code(body[0]), ' ', ...type(body[1].schema))],
      el('h3', {}, 'Answers'),
      cells('Answers', ['Status', 'Type', 'Meaning'], answers.map(([status, { content, description }]) => [code(status), type(Object.values(content ?? {})[0]?.schema), prose(description)])),
      method === 'get' && path !== '/events' && [el('h3', {}, 'Try it'), trial(path, parameters)]));
}

function object([name, schema]) {
  const fields = Object.entries(schema.properties ?? {});
  return el('details', { id: `object-${name}` },
    el('summary', {}, code(name), el('span', { class: 'quiet' }, ...prose(schema.description ?? ''))),
    el('div', {}, cells('Fields', ['Field', 'Type', 'Meaning'], fields.map(([field, of]) => [code(field), type(of), prose(of.description ?? '')]))));
}

// A link to an object opens it.
function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (named?.matches('details')) {
    named.open = true;
    named.scrollIntoView({ block: 'start' });
  }
}

try {
  const api = await (await fetch('/openapi.json')).json();
  const operations = Object.entries(api.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ method, path, operation })));
  const tags = [...new Set([...Object.keys(TAGS), ...operations.map(({ operation }) => operation.tags?.[0])])];
  $('routes').append(...tags.filter(Boolean).map(tag => el('section', { 'aria-labelledby': `tag-${tag}` },
    el('div', { class: 'head' }, el('h2', { id: `tag-${tag}` }, TAGS[tag] ?? tag)),
    ...operations.filter(({ operation }) => operation.tags?.[0] === tag).map(({ method, path, operation }) => route(api, method, path, operation)))));
  $('schemas').append(...Object.entries(api.components.schemas).map(object));
  $('about').textContent = `${api.info.description} Version ${api.info.version}, OpenAPI ${api.openapi}. This page speaks only to its own node.`;
  addEventListener('hashchange', openNamed);
  openNamed();
} catch (error) {
  $('about').textContent = `The description could not be read: ${error.message}`;
}
document.querySelector('.skip').addEventListener('click', event => { event.preventDefault(); $('main').focus(); });
