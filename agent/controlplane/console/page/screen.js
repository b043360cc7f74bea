// A terminal as data: what bytes of a command change on a screen of characters, as xterm does it. Pure.
//
// It knows what shells, editors, pagers and tables of processes use: moving, erasing, inserting, scrolling in a
// part, colours, the second screen, characters of double width, and the line drawing of VT100. What it does not
// know, it leaves out. Source: "XTerm Control Sequences" by Moy, Dickey and others; ECMA-48.

import { DRAWN, painted, widthOf } from "./characters.js";
import { Parser } from "./sequences.js";

const PLAIN = Object.freeze({});

export class Screen {
  /**
   * @param {number} rows
   * @param {number} columns
   * @param {object} told `answer(text)` is what the terminal says to the command, `scrolled(row)` gets each row that
   *   has left the top of the first screen, `title(text)` is the title that the command sets.
   */
  constructor(rows, columns, told) {
    this.told = told;
    this.parser = new Parser(this);
    this.rows = rows;
    this.columns = columns;
    this.reset();
  }

  reset() {
    this.style = PLAIN;
    this.lines = Array.from({ length: this.rows }, () => this.blank());
    this.other = null;
    this.row = this.column = 0;
    this.top = 0;
    this.bottom = this.rows - 1;
    this.saved = { row: 0, column: 0, style: PLAIN };
    this.isPastEnd = false;
    this.wraps = true;
    this.inserts = this.isShifted = this.isOfOrigin = false;
    this.hasCursor = true;
    this.hasCursorKeys = this.hasBrackets = false;
    this.sets = ["B", "B"];
    this.stops = new Set(Array.from({ length: 64 }, (_, at) => 8 * at));
    this.dirty = new Set(this.lines.keys());
    this.lastWritten = " ";
  }

  /** Return a row of spaces, in the colour behind the text. */
  blank() {
    const style = this.style.back === undefined ? PLAIN : { back: this.style.back };
    return Array.from({ length: this.columns }, () => ({ text: " ", style }));
  }

  /** Take another size: rows below the cursor go first, and then those at the top, as if scrolled. */
  resize(rows, columns) {
    this.columns = columns;
    this.row = this.fit(this.lines, this.row, rows, this.other ? null : this.told.scrolled);
    if (this.other) this.other.row = this.fit(this.other.lines, this.other.row, rows, this.told.scrolled);
    this.rows = rows;
    this.top = 0;
    this.bottom = rows - 1;
    this.move(this.row, this.column);
    this.dirty = new Set(this.lines.keys());
  }

  /** Give rows the new size; return where a row of them is now. */
  fit(lines, row, rows, scrolled) {
    for (const line of lines) {
      if (line.length > this.columns) line.length = this.columns;
      if (line.at(-1).isWide) line[line.length - 1] = { text: " ", style: line.at(-1).style };
      while (line.length < this.columns) line.push({ text: " ", style: PLAIN });
    }
    let at = row;
    while (lines.length > rows) {
      if (lines.length - 1 > at) lines.pop();
      else {
        const gone = lines.shift();
        scrolled?.(gone);
        at -= 1;
      }
    }
    while (lines.length < rows) lines.push(this.blank());
    return at;
  }

  /** Take what a command has written. */
  write(text) {
    this.parser.take(text);
  }

  control(code) {
    if (code === 0x08) this.move(this.row, this.column - 1);
    else if (code === 0x09) this.tab(1);
    else if (code >= 0x0a && code <= 0x0c) this.feed();
    else if (code === 0x0d) this.move(this.row, 0);
    else if (code === 0x0e || code === 0x0f) this.isShifted = code === 0x0e;
  }

  escape(character) {
    switch (character) {
      case "7": this.save(); break;
      case "8": this.restore(); break;
      case "D": this.feed(); break;
      case "E": this.feed(); this.move(this.row, 0); break;
      case "M": this.feedBack(); break;
      case "H": this.stops.add(this.column); break;
      case "c": this.reset(); break;
    }
  }

  /** Do what a control sequence says: by its last character, with what is before and after its parameters. */
  sequence(name, given, numbers) {
    const count = Math.min(Math.max(given[0], 1), 10_000);
    const { row, column } = this;
    switch (name) {
      case "?h": case "?l": given.forEach((one) => this.mode(one, name === "?h")); break;
      case ">c": this.told.answer("\x1b[>0;0;0c"); break;
      case "!p": this.reset(); break;
      case "@": this.insertCells(count); break;
      case "A": this.moveBy(-count); break;
      case "B": case "e": this.moveBy(count); break;
      case "C": case "a": this.move(row, column + count); break;
      case "D": this.move(row, column - count); break;
      case "E": this.moveBy(count); this.move(this.row, 0); break;
      case "F": this.moveBy(-count); this.move(this.row, 0); break;
      case "G": case "`": this.move(row, count - 1); break;
      case "H": case "f": this.place(count - 1, Math.max(given[1] ?? 1, 1) - 1); break;
      case "I": this.tab(count); break;
      case "J": this.eraseScreen(given[0]); break;
      case "K": this.eraseLine(given[0]); break;
      case "L": this.insertLines(count); break;
      case "M": this.deleteLines(count); break;
      case "P": this.deleteCells(count); break;
      case "S": this.scroll(this.top, count); break;
      case "T": this.scrollBack(this.top, count); break;
      case "X": this.erase(row, column, column + count); break;
      case "Z": this.tab(-count); break;
      case "b": if (this.lastWritten) this.write(this.lastWritten.repeat(Math.min(count, this.columns * this.rows))); break;
      case "c": this.told.answer("\x1b[?6c"); break;
      case "d": this.place(count - 1, column); break;
      case "g": if (given[0] === 3) this.stops.clear(); else if (given[0] === 0) this.stops.delete(column); break;
      case "h": case "l": if (given[0] === 4) this.inserts = name === "h"; break;
      case "m": this.style = painted(this.style, numbers); break;
      case "n": this.report(given[0]); break;
      case "r": this.region(given[0] || 1, given[1] || this.rows); break;
      case "s": this.save(); break;
      case "u": this.restore(); break;
    }
  }

  mode(number, isOn) {
    switch (number) {
      case 1: this.hasCursorKeys = isOn; break;
      case 6: this.isOfOrigin = isOn; this.place(0, 0); break;
      case 7: this.wraps = isOn; break;
      case 25: this.hasCursor = isOn; this.dirty.add(this.row); break;
      case 47: case 1047: this.swap(isOn); break;
      case 1048: if (isOn) this.save(); else this.restore(); break;
      case 1049:
        if (isOn) this.save();
        this.swap(isOn);
        if (!isOn) this.restore();
        break;
      case 2004: this.hasBrackets = isOn; break;
    }
  }

  report(what) {
    if (what === 5) this.told.answer("\x1b[0n");
    if (what === 6) this.told.answer(`\x1b[${this.row + 1 - (this.isOfOrigin ? this.top : 0)};${this.column + 1}R`);
  }

  // The cursor.

  move(row, column) {
    this.dirty.add(this.row);
    this.row = Math.min(Math.max(row, 0), this.rows - 1);
    this.column = Math.min(Math.max(column, 0), this.columns - 1);
    this.isPastEnd = false;
    this.dirty.add(this.row);
  }

  /** Move up or down; a part that scrolls is not left. */
  moveBy(rows) {
    const isIn = this.row >= this.top && this.row <= this.bottom;
    const to = this.row + rows;
    this.move(isIn ? Math.min(Math.max(to, this.top), this.bottom) : to, this.column);
  }

  place(row, column) {
    if (this.isOfOrigin) this.move(Math.min(row + this.top, this.bottom), column);
    else this.move(row, column);
  }

  tab(count) {
    let at = this.column;
    const step = Math.sign(count);
    for (let left = Math.abs(count); left > 0; left -= 1) {
      do at += step;
      while (at > 0 && at < this.columns - 1 && !this.stops.has(at));
    }
    this.move(this.row, at);
  }

  save() {
    const { row, column, style, isOfOrigin, isShifted } = this;
    this.saved = { row, column, style, isOfOrigin, isShifted, sets: [...this.sets] };
  }

  restore() {
    const { row, column, style, isOfOrigin = false, isShifted = false, sets = ["B", "B"] } = this.saved;
    Object.assign(this, { style, isOfOrigin, isShifted, sets: [...sets] });
    this.move(row, column);
  }

  swap(isOn) {
    if (isOn === (this.other !== null)) return;
    if (isOn) {
      this.other = { lines: this.lines, row: this.row };
      this.lines = Array.from({ length: this.rows }, () => this.blank());
    } else {
      this.lines = this.other.lines;
      this.other = null;
    }
    this.region(1, this.rows, { moves: false });
    this.dirty = new Set(this.lines.keys());
  }

  region(first, last, { moves = true } = {}) {
    const bottom = Math.min(last, this.rows) - 1;
    if (first - 1 >= bottom) return;
    this.top = first - 1;
    this.bottom = bottom;
    if (moves) this.place(0, 0);
  }

  // What is shown.

  put(given) {
    const isDrawn = this.sets[this.isShifted ? 1 : 0] === "0" && given >= "`" && given <= "~";
    const text = isDrawn ? DRAWN[given.charCodeAt(0) - 0x60] : given;
    const width = widthOf(text);
    if (width === 0) return this.join(text);
    if (width > this.columns) return;
    if (this.isPastEnd || this.column + width > this.columns) {
      if (!this.wraps) this.column = this.columns - width;
      else {
        this.feed();
        this.column = 0;
      }
      this.isPastEnd = false;
    }
    if (this.inserts) this.insertCells(width);
    this.part(this.row, this.column);
    this.part(this.row, this.column + width);
    const line = this.lines[this.row];
    line[this.column] = { text, style: this.style, isWide: width === 2 };
    if (width === 2) line[this.column + 1] = { text: "", style: this.style };
    this.lastWritten = given;
    this.dirty.add(this.row);
    if (this.column + width < this.columns) this.column += width;
    else {
      this.column = this.columns - 1;
      this.isPastEnd = true;
    }
  }

  /** Join a mark to the character before it. */
  join(mark) {
    const line = this.lines[this.row];
    let at = this.isPastEnd ? this.column : this.column - 1;
    if (at > 0 && line[at].text === "") at -= 1;
    if (at < 0 || line[at].text.length > 16) return;
    line[at] = { ...line[at], text: line[at].text + mark };
    this.dirty.add(this.row);
  }

  /** Give up a character of double width whose second half begins here. */
  part(row, column) {
    const line = this.lines[row];
    if (column > 0 && column < line.length && line[column].text === "") {
      line[column - 1] = { text: " ", style: line[column - 1].style };
      line[column] = { text: " ", style: line[column].style };
    }
  }

  feed() {
    if (this.row === this.bottom) this.scroll(this.top, 1);
    else this.move(this.row + 1, this.column);
    this.isPastEnd = false;
  }

  feedBack() {
    if (this.row === this.top) this.scrollBack(this.top, 1);
    else this.move(this.row - 1, this.column);
  }

  scroll(top, count) {
    for (let left = Math.min(count, this.bottom - top + 1); left > 0; left -= 1) {
      const [gone] = this.lines.splice(top, 1);
      if (top === 0 && !this.other) this.told.scrolled(gone);
      this.lines.splice(this.bottom, 0, this.blank());
    }
    this.touch(top, this.bottom);
  }

  scrollBack(top, count) {
    for (let left = Math.min(count, this.bottom - top + 1); left > 0; left -= 1) {
      this.lines.splice(this.bottom, 1);
      this.lines.splice(top, 0, this.blank());
    }
    this.touch(top, this.bottom);
  }

  insertLines(count) {
    if (this.row < this.top || this.row > this.bottom) return;
    this.scrollBack(this.row, count);
    this.move(this.row, 0);
  }

  deleteLines(count) {
    if (this.row < this.top || this.row > this.bottom) return;
    // Rows that are deleted are gone, and not in what was scrolled.
    for (let left = Math.min(count, this.bottom - this.row + 1); left > 0; left -= 1) {
      this.lines.splice(this.row, 1);
      this.lines.splice(this.bottom, 0, this.blank());
    }
    this.touch(this.row, this.bottom);
    this.move(this.row, 0);
  }

  insertCells(count) {
    this.part(this.row, this.column);
    const line = this.lines[this.row];
    line.splice(this.column, 0, ...this.blank().slice(0, Math.min(count, this.columns - this.column)));
    line.length = this.columns;
    if (line.at(-1).isWide) line[this.columns - 1] = { text: " ", style: line.at(-1).style };
    this.isPastEnd = false;
    this.dirty.add(this.row);
  }

  deleteCells(count) {
    const line = this.lines[this.row];
    const left = Math.min(count, this.columns - this.column);
    this.part(this.row, this.column);
    this.part(this.row, this.column + left);
    line.splice(this.column, left);
    line.push(...this.blank().slice(0, left));
    this.isPastEnd = false;
    this.dirty.add(this.row);
  }

  erase(row, from, to) {
    const line = this.lines[row];
    const end = Math.min(to, this.columns);
    this.part(row, from);
    this.part(row, end);
    const blank = this.blank();
    for (let at = from; at < end; at += 1) line[at] = blank[at];
    this.isPastEnd = false;
    this.dirty.add(row);
  }

  eraseLine(what) {
    if (what === 0) this.erase(this.row, this.column, this.columns);
    if (what === 1) this.erase(this.row, 0, this.column + 1);
    if (what === 2) this.erase(this.row, 0, this.columns);
  }

  eraseScreen(what) {
    if (what > 2) return;
    const first = what === 0 ? this.row + 1 : 0;
    const last = what === 1 ? this.row : this.rows;
    for (let row = first; row < last; row += 1) this.erase(row, 0, this.columns);
    if (what < 2) this.eraseLine(what);
  }

  touch(first, last) {
    for (let row = first; row <= last; row += 1) this.dirty.add(row);
  }
}
