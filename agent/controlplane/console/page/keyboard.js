// What keys of a keyboard and pasted texts are for the command of a terminal, as xterm sends them. Pure.

const CURSOR = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", End: "F", Home: "H" };
const NUMBERED = {
  Insert: 2, Delete: 3, PageUp: 5, PageDown: 6, F5: 15, F6: 17, F7: 18, F8: 19, F9: 20, F10: 21, F11: 23, F12: 24,
};
const OF_FUNCTION = { F1: "P", F2: "Q", F3: "R", F4: "S" };
const PLAIN = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b" };
const CONTROLLED = { " ": 0, "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, "/": 31, "?": 127 };

/**
 * Return what a key sends; null for a key that the browser has, or one whose text comes as input.
 *
 * @param {KeyboardEvent} event
 * @param {boolean} hasCursorKeys whether the command wants other sequences for the cursor's keys.
 */
export function sentBy(event, hasCursorKeys) {
  const { key, ctrlKey, altKey, shiftKey, metaKey } = event;
  if (metaKey || event.isComposing) return null;
  const more = 1 + (shiftKey ? 1 : 0) + (altKey ? 2 : 0) + (ctrlKey ? 4 : 0);
  if (CURSOR[key]) {
    if (more > 1) return `\x1b[1;${more}${CURSOR[key]}`;
    return `\x1b${hasCursorKeys ? "O" : "["}${CURSOR[key]}`;
  }
  if (OF_FUNCTION[key]) return more > 1 ? `\x1b[1;${more}${OF_FUNCTION[key]}` : `\x1bO${OF_FUNCTION[key]}`;
  if (NUMBERED[key]) return `\x1b[${NUMBERED[key]}${more > 1 ? `;${more}` : ""}~`;
  if (key === "Tab" && shiftKey) return "\x1b[Z";
  if (PLAIN[key]) return (altKey ? "\x1b" : "") + PLAIN[key];
  if (key.length !== 1) return null;
  if (ctrlKey && !altKey) return controlled(key, shiftKey);
  // With both, it is a character of the keyboard's third level.
  return altKey && !ctrlKey ? `\x1b${key}` : null;
}

function controlled(key, isShifted) {
  const letter = key.toLowerCase();
  // Copy and paste are those of the browser.
  if (isShifted && (letter === "c" || letter === "v")) return null;
  if (letter >= "a" && letter <= "z") return letter === "v" ? null : String.fromCharCode(letter.charCodeAt(0) - 96);
  return CONTROLLED[key] === undefined ? null : String.fromCharCode(CONTROLLED[key]);
}

/** Return what a pasted text sends: lines end as with the enter key, and nothing in it ends the brackets. */
export function pasted(text, hasBrackets) {
  const lines = text.replace(/\r?\n/g, "\r");
  // eslint-disable-next-line no-control-regex
  return hasBrackets ? `\x1b[200~${lines.replace(/\x1b/g, "")}\x1b[201~` : lines;
}
