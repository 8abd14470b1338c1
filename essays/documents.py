"""The text of an essay that comes as a file: plain text, Word's .docx, or PDF.

Word and PDF files are opened in a process of its own, which ends when it takes too long or too much memory: such a file
may come from anybody. Of a .docx the paragraphs of the body are read, with what was inserted under tracked changes and
without what was deleted; headers, footnotes and comments are not. Scanned pages hold no text and are refused.
"""

import io
import os
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path, PurePath
from xml.etree.ElementTree import Element, ParseError

from essays.errors import BadInput, FairmarkError

SUFFIXES = (".txt", ".md", ".docx", ".pdf")
MAX_FILE_BYTES = 10_000_000
_MAX_XML_BYTES = 20_000_000
_MAX_PAGES = 100
_CPU_S, _WALL_S, _MEMORY_BYTES = 10, 30, 1_000_000_000
_PROJECT = Path(__file__).resolve().parents[1]
_OF_SECRETS = ("FAIRMARK_", "AWS_", "OTEL_")
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_SENTENCE_END = re.compile(r"[.!?:…]['\"’”)]*$")
_REFUSED = 3
"""Exit code of the child for a file with a fault that it can name."""


class UnreadableDocument(BadInput):
    """A file from which no text can be had."""

    def __init__(self, message: str, *, hint: str = "paste the text, or save it as .docx or plain text") -> None:
        super().__init__(message, field="file", hint=hint)


def read_document(name: str, content: bytes) -> str:
    """The text of a file; its name's ending says what it is. Blocks for at most half a minute.

    Raises UnreadableDocument, which names the file and never quotes it.
    """
    suffix = PurePath(name).suffix.lower()
    shown = PurePath(name).name[-80:]
    if suffix not in SUFFIXES:
        raise UnreadableDocument(f"cannot read {shown}: it should end in {', '.join(SUFFIXES)}")
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableDocument(f"cannot read {shown}: larger than {MAX_FILE_BYTES:,} bytes")
    text = _in_child(shown, suffix, content) if suffix in (".docx", ".pdf") else _plain(shown, content)
    if not text.strip():
        raise UnreadableDocument(
            f"cannot read {shown}: there is no text in it; pages that were scanned are pictures of text"
        )
    return text


def _plain(shown: str, content: bytes) -> str:
    encodings = ["utf-16"] if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _CONTROLS.search(text):
            return text
    raise UnreadableDocument(f"cannot read {shown}: this is no plain text", hint="save it as text in UTF-8")


def _in_child(shown: str, suffix: str, content: bytes) -> str:
    command = [sys.executable, "-m", "essays.documents", suffix]
    # A file that gets the better of its parser finds no secret there.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OF_SECRETS)}
    try:
        ended = subprocess.run(command, input=content, capture_output=True, cwd=_PROJECT, env=plain, timeout=_WALL_S)
    except subprocess.TimeoutExpired:
        raise UnreadableDocument(f"cannot read {shown}: it takes more than {_WALL_S} s") from None
    if ended.returncode == 0:
        return ended.stdout.decode("utf-8", errors="replace")
    if ended.returncode == _REFUSED:
        raise UnreadableDocument(f"cannot read {shown}: {ended.stdout.decode('utf-8')}")
    # What it wrote to stderr, a traceback or a parser's warnings, may quote the file.
    raise UnreadableDocument(f"cannot read {shown}: it is damaged, or larger than it looks")


def docx_text(content: bytes) -> str:
    """One line for each paragraph of a Word document. Raises UnreadableDocument."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = archive.getinfo("word/document.xml")
            if entry.file_size > _MAX_XML_BYTES:
                raise UnreadableDocument(f"its text takes more than {_MAX_XML_BYTES:,} bytes")
            tree = fromstring(archive.read(entry))
    except (zipfile.BadZipFile, KeyError, ParseError, DefusedXmlException, NotImplementedError, RuntimeError):
        raise UnreadableDocument("this is no Word document (.docx), or a damaged or protected one") from None
    return "\n".join(map(_paragraph_text, tree.iter(f"{_WORD}p"))).strip()


def pdf_text(content: bytes) -> str:
    """The text of a PDF, with the lines of a paragraph joined again. Raises UnreadableDocument."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument("it is protected by a password")
        if len(reader.pages) > _MAX_PAGES:
            raise UnreadableDocument(f"it has {len(reader.pages)} pages, at most {_MAX_PAGES} are read")
        return join_lines("\n".join(page.extract_text() for page in reader.pages))
    except PyPdfError:
        raise UnreadableDocument("this is no PDF, or a damaged one") from None


def join_lines(text: str) -> str:
    """Text as it was written from text as it was set: a line goes on in the next, unless it ends a paragraph.

    It does at a blank line, and where a sentence ends well before the right margin.
    """
    lines = [line.strip() for line in text.splitlines()]
    width = max(map(len, lines), default=0)
    paragraphs, current = list[str](), ""
    for line in lines:
        current = f"{current} {line}".strip()
        if not line or (_SENTENCE_END.search(line) and len(line) < 0.8 * width):
            paragraphs.append(current)
            current = ""
    return "\n".join(part for part in [*paragraphs, current] if part)


def _paragraph_text(paragraph: Element) -> str:
    pieces = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n", f"{_WORD}noBreakHyphen": "-"}
    return "".join(
        (part.text or "") if part.tag == f"{_WORD}t" else pieces.get(part.tag, "") for part in paragraph.iter()
    )


def _main(suffix: str) -> None:
    """The child: a file on standard input, its text on standard output, or the reason with exit code `_REFUSED`."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    content = sys.stdin.buffer.read()
    try:
        text = docx_text(content) if suffix == ".docx" else pdf_text(content)
    except FairmarkError as error:
        sys.stdout.write(str(error))
        sys.exit(_REFUSED)
    sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))


if __name__ == "__main__":
    # As `__main__` this module is another one: its errors would not be those that others catch.
    from essays import documents

    documents._main(sys.argv[1])
