// Tables and zip archives, read in the browser: what comes out is a list of essays and of rows that hold none.
"use strict";

const MAX_FILES = 2000;
const MAX_ENTRY_BYTES = 5_000_000;
const MAX_TOTAL_BYTES = 100_000_000;
const ESSAY_FILES = /\.(txt|md|docx|pdf)$/i;

/** Text of a file as editors write it: UTF-8, UTF-16 with its mark, else Windows' own encoding. */
function decode(bytes) {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    return new TextDecoder(bytes[0] === 0xff ? "utf-16le" : "utf-16be").decode(bytes);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/** Rows of cells (RFC 4180), separated as the first line suggests. Throws where a quote is never closed. */
function parseTable(text) {
  const head = text.split("\n", 1)[0];
  const separator = [",", ";", "\t"].reduce((best, each) => (head.split(each).length > head.split(best).length ? each : best));
  const rows = [];
  let row = [];
  let place = 0;
  while (place < text.length) {
    let cell = "";
    if (text[place] === '"') {
      for (;;) {
        const end = text.indexOf('"', place + 1);
        if (end < 0) throw new Error(`Row ${rows.length}: a quote is opened and never closed.`);
        cell += text.slice(place + 1, end);
        place = end + 1;
        if (text[place] !== '"') break;
        cell += '"';
      }
    }
    let end = place;
    while (end < text.length && text[end] !== separator && text[end] !== "\n") end += 1;
    cell += text.slice(place, end).replace(/\r$/, "");
    row.push(cell);
    place = end + 1;
    if (end >= text.length || text[end] === "\n") {
      if (row.length > 1 || row[0]) rows.push(row);
      row = [];
    }
  }
  return rows;
}

/** Essays of a table: `{id, text}`, with `marks` (the teacher's score, two raters') where they are there, or `{id, error}` for a row that holds none. */
function essaysOfTable(text) {
  const [head, ...rows] = parseTable(text);
  const names = (head || []).map((name) => name.trim().toLowerCase());
  const column = (...wanted) => wanted.map((name) => names.indexOf(name)).find((index) => index >= 0) ?? -1;
  const essay = column("essay", "full_text", "text");
  if (essay < 0) throw new Error(`The table needs a column named essay; found: ${names.join(", ").slice(0, 200) || "nothing"}.`);
  const id = column("essay_id", "text_id", "id", "name");
  const marks = [column("score", "human_score", "mark", "grade"), column("rater1"), column("rater2")];
  return rows.map((cells, index) => {
    const name = (id >= 0 && cells[id]) || String(index + 1);
    if (cells.length !== head.length) {
      return { id: name, error: `The row has ${cells.length} cells; the first line names ${head.length}.` };
    }
    return { id: name, text: cells[essay], marks: marks.map((place) => numberOf(cells[place])) };
  });
}

/** A number as people write it, or null. */
function numberOf(cell) {
  const plain = (cell ?? "").trim().replace(",", ".");
  return plain && Number.isFinite(Number(plain)) ? Number(plain) : null;
}

/** Files of a zip archive, as `{name, bytes}`, with bounds on all that they may become. */
async function filesOfZip(buffer) {
  const view = new DataView(buffer);
  const files = [];
  let total = 0;
  for (const entry of zipEntries(view)) {
    if (!ESSAY_FILES.test(entry.name) || /(^|\/)(\.|__MACOSX\/)/.test(entry.name)) continue;
    total += entry.size;
    if (files.length >= MAX_FILES) throw new Error(`The archive holds more than ${MAX_FILES.toLocaleString("en")} files.`);
    if (entry.size > MAX_ENTRY_BYTES || total > MAX_TOTAL_BYTES) throw new Error(`${entry.name}: the archive holds too much.`);
    files.push({ name: entry.name, bytes: await inflate(view, entry) });
  }
  if (!files.length) throw new Error("The archive holds no .txt, .md, .docx or .pdf file.");
  return files;
}

function zipEntries(view) {
  const broken = new Error("This is no zip archive, or a damaged one.");
  let end = view.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw broken;
  const entries = [];
  let place = view.getUint32(end + 16, true);
  try {
    for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
      if (view.getUint32(place, true) !== 0x02014b50) throw broken;
      const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) => view.getUint16(place + offset, true));
      const name = decode(new Uint8Array(view.buffer, place + 46, nameLength));
      if (view.getUint16(place + 8, true) & 1) throw new Error(`${name}: the archive is protected by a password.`);
      entries.push({
        name,
        method: view.getUint16(place + 10, true),
        packed: view.getUint32(place + 20, true),
        size: view.getUint32(place + 24, true),
        offset: view.getUint32(place + 42, true),
      });
      place += 46 + nameLength + extraLength + commentLength;
    }
  } catch (error) {
    throw error instanceof RangeError ? broken : error;
  }
  return entries;
}

async function inflate(view, entry) {
  const start = entry.offset + 30 + view.getUint16(entry.offset + 26, true) + view.getUint16(entry.offset + 28, true);
  const packed = new Uint8Array(view.buffer, start, entry.packed);
  if (entry.method === 0) return packed;
  if (entry.method !== 8) throw new Error(`${entry.name}: it is packed in a way that browsers do not know.`);
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const bytes = new Uint8Array(entry.size);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    // What an archive says of itself may be wrong: never more than that.
    if (filled + value.length > entry.size) throw new Error(`${entry.name}: larger than the archive says.`);
    bytes.set(value, filled);
    filled += value.length;
  }
  return bytes.subarray(0, filled);
}

/** A CSV line; a cell that a spreadsheet would take for a formula begins with an apostrophe. */
function csvLine(cells) {
  return cells
    .map((cell) => {
      const plain = String(cell ?? "").replace(/[\u0000-\u001f\u007f]+/g, " ");
      const safe = /^\s*[=+\-@]/.test(plain) && Number.isNaN(Number(plain)) ? `'${plain}` : plain;
      return /[",;]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    })
    .join(",");
}
