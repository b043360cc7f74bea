// What one character on a terminal is: how many cells it takes, and its colours. Pure.

const WIDE =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1f200}-\u{1f320}\u{20000}-\u{3fffd}])/u;
const MARK = /^[\p{Mn}\p{Me}\u200d\ufe0f]/u;

/** Return how many cells a character takes: 0, 1 or 2. */
export function widthOf(character) {
  if (character < "\u0300") return 1;
  if (MARK.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/** The line drawing of VT100, from the grave accent on. */
export const DRAWN = "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·";

export const PARAMETERS_MOST = 32;

/** Return a style changed by the parameters of SGR. A colour is a number of the palette, or "#rrggbb". */
export function painted(old, numbers) {
  const parts = numbers.split(";", PARAMETERS_MOST);
  let style = { ...old };
  for (let at = 0; at < parts.length; at += 1) {
    const sub = parts[at].split(":");
    const number = parseInt(sub[0], 10) || 0;
    if (number === 0) style = {};
    else if (number === 38 || number === 48) {
      const isWhole = sub.length > 1;
      const told = (isWhole ? sub.slice(1) : parts.slice(at + 1)).map((one) => parseInt(one, 10) || 0);
      const [colour, used] = mixed(isWhole && sub.length > 5 ? [told[0], ...told.slice(2)] : told);
      if (!isWhole) at += used;
      if (colour !== null) style[number === 38 ? "text" : "back"] = colour;
    } else plain(style, number);
  }
  return Object.freeze(style);
}

/** Return the colour that parameters after 38 or 48 mean, and how many they are. */
function mixed([kind, ...told]) {
  if (kind === 5) return [told[0] <= 255 ? told[0] : null, 2];
  if (kind !== 2) return [null, 1];
  const hex = told.slice(0, 3).map((one) => Math.min(one, 255).toString(16).padStart(2, "0"));
  return [hex.length === 3 ? `#${hex.join("")}` : null, 4];
}

const FLAGS = { 1: "isBold", 2: "isFaint", 3: "isItalic", 4: "isUnderlined", 7: "isInverse", 8: "isHidden", 9: "isStruck" };
const ENDS = {
  22: ["isBold", "isFaint"], 23: ["isItalic"], 24: ["isUnderlined"], 27: ["isInverse"], 28: ["isHidden"], 29: ["isStruck"],
  39: ["text"], 49: ["back"],
};

function plain(style, number) {
  if (FLAGS[number]) style[FLAGS[number]] = true;
  for (const name of ENDS[number] ?? []) delete style[name];
  if (number >= 30 && number <= 37) style.text = number - 30;
  if (number >= 40 && number <= 47) style.back = number - 40;
  if (number >= 90 && number <= 97) style.text = number - 82;
  if (number >= 100 && number <= 107) style.back = number - 92;
}
