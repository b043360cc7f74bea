// Takes apart what a command writes to a terminal: characters, control characters and control sequences. Pure.
//
// Source: "A parser for DEC's ANSI-compatible video terminals" for what ends what; ECMA-48.

import { PARAMETERS_MOST } from "./characters.js";

const TEXT_MOST = 4096;

export class Parser {
  /** @param {import("./screen.js").Screen} screen is told of each part, in order. */
  constructor(screen) {
    this.screen = screen;
    this.state = "text";
    this.given = "";
  }

  /** Take text; what it ends in the middle of goes on with the next. */
  take(text) {
    for (const character of text) this.step(character);
  }

  step(character) {
    const code = character.codePointAt(0);
    if (this.state === "string") return this.inString(character);
    if (code === 0x1b) return void (this.state = "escape");
    if (code === 0x18 || code === 0x1a) return void (this.state = "text");
    if (code < 0x20) return this.screen.control(code);
    if (code === 0x7f) return;
    switch (this.state) {
      case "text": return this.screen.put(character);
      case "escape": return this.escaped(character);
      case "set": this.screen.sets[this.chosen] = character; return void (this.state = "text");
      case "skip": return void (this.state = "text");
      default: return this.inSequence(character, code);
    }
  }

  escaped(character) {
    this.state = "text";
    switch (character) {
      case "[": this.state = "sequence"; this.given = ""; break;
      case "]": case "P": case "X": case "^": case "_":
        this.state = "string"; this.kind = character; this.given = ""; break;
      case "(": case ")": this.state = "set"; this.chosen = character === ")" ? 1 : 0; break;
      case "#": case "%": case "*": case "+": case " ": this.state = "skip"; break;
      default: this.screen.escape(character);
    }
  }

  /** Skip a string to its end: BEL, or ESC and a backslash. Of all of them, only titles mean something here. */
  inString(character) {
    const isCancelled = character === "\x18" || character === "\x1a";
    const isOver = character === "\x07" || (character === "\\" && this.given.endsWith("\x1b"));
    if (!isOver && !isCancelled) {
      if (this.given.length < TEXT_MOST) this.given += character;
      else if (character === "\x1b") this.given = this.given.slice(0, -1) + character;
      return;
    }
    this.state = "text";
    const title = /^[02];([^\x1b]*)/.exec(this.given);
    if (isOver && this.kind === "]" && title) this.screen.told.title(title[1]);
  }

  inSequence(character, code) {
    if (code < 0x40) {
      if (this.given.length < TEXT_MOST) this.given += character;
      return;
    }
    this.state = "text";
    const found = /^([<=>?]?)([\d;:]*)([ -/]*)$/.exec(this.given);
    if (!found) return;
    const [, mark, numbers, between] = found;
    const given = numbers.split(";", PARAMETERS_MOST).map((one) => parseInt(one, 10) || 0);
    this.screen.sequence(mark + between + character, given, numbers);
  }
}
