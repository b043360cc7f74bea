// Builds elements, and changes a page into a new one by the least. Texts are always text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element. An attribute that is null, undefined or false is left out; true is an empty one. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an element of SVG. */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/**
 * Make `old` equal to `fresh` and keep what is the same, with focus, selection and place of scrolling.
 *
 * Children with `data-key` are known again by it wherever they move. What is below `data-own` is left alone:
 * a part of the page that changes by itself.
 */
export function morph(old, fresh) {
  syncAttributes(old, fresh);
  if (old.hasAttribute("data-own")) return;
  const keyed = new Map();
  for (const child of old.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = old.firstChild;
  for (const want of [...fresh.childNodes]) {
    const key = keyOf(want);
    const have = key ? keyed.get(key) : at;
    if (!have || have.nodeName !== want.nodeName || keyOf(have) !== key) {
      old.insertBefore(want, at);
      continue;
    }
    if (have === at) at = at.nextSibling;
    else old.insertBefore(have, at);
    if (have.nodeType === Node.TEXT_NODE) {
      if (have.data !== want.data) have.data = want.data;
    } else {
      morph(have, want);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function syncAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's choice; styles are set by scripts alone.
    const isKept = name === "style" || (name === "open" && old.localName === "details");
    if (!isKept && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const isField = old.localName === "input" || old.localName === "select";
  if (isField && old !== document.activeElement && fresh.hasAttribute("value")) old.value = fresh.getAttribute("value");
  if (old.localName === "option") old.selected = fresh.hasAttribute("selected");
}
