"""Text out of files: plain, Word, PDF, and files that mean harm."""

import io
import sys
import zipfile
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from essays import documents
from essays.documents import MAX_FILE_BYTES, UnreadableDocument, join_lines, read_document

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def docx(body: str, head: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"{head}<w:document {WORD}><w:body>{body}</w:body></w:document>")
    return buffer.getvalue()


def paragraph(*runs: str) -> str:
    return f"<w:p>{''.join(f'<w:r><w:t>{run}</w:t></w:r>' for run in runs)}</w:p>"


def pdf(lines: list[str], password: str = "") -> bytes:
    writer = PdfWriter()
    page = writer.add_blank_page(600, 800)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    fonts = DictionaryObject({NameObject("/F1"): named})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    shown = " T* ".join(f"({line}) Tj" for line in lines)
    content.set_data(f"BT /F1 12 Tf 14 TL 50 750 Td {shown} ET".encode())
    page[NameObject("/Contents")] = content
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_plain_text_is_read_in_the_encodings_that_editors_write(encoding: str) -> None:
    assert read_document("a.TXT", "Déjà vu – “quoted”.\nTwo".encode(encoding)) == "Déjà vu – “quoted”.\nTwo"


def test_word_gives_its_paragraphs_with_insertions_and_without_deletions() -> None:
    body = (
        paragraph("My sch", "ool.")
        + "<w:p/>"
        + "<w:p><w:ins><w:r><w:t>Inserted</w:t></w:r></w:ins>"
        + "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        + "<w:tbl><w:tr><w:tc>" + paragraph("a cell") + "</w:tc></w:tr></w:tbl>"
        + "<w:p><w:r><w:t>one</w:t><w:br/><w:t>two</w:t><w:tab/><w:t>three</w:t></w:r></w:p>"
    )  # fmt: skip
    assert read_document("essay.docx", docx(body)) == "My school.\n\nInserted\na cell\none\ntwo\tthree"


def test_pdf_gives_its_text_with_the_lines_of_a_paragraph_joined() -> None:
    lines = [
        "This is the first line of an essay which goes on",
        "in a second one. Here it ends.",
        "Another",
    ]
    expected = "This is the first line of an essay which goes on in a second one. Here it ends.\nAnother"
    assert read_document("essay.pdf", pdf(lines)) == expected


def test_lines_end_a_paragraph_where_it_ends() -> None:
    long = "word " * 12
    assert (
        join_lines(f"{long}\nends here.\nNext one {long}\nand on")
        == f"{long.strip()} ends here.\nNext one {long}and on"
    )
    assert join_lines("one\n\ntwo") == "one\ntwo"


OUTSIDE = '<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BOMB = "<!DOCTYPE w [" + '<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("essay.odt", b"x", "it should end in"),
        ("essay.txt", b"\x00\x01\x02", "no plain text"),
        ("essay.txt", b"  \n", "no text in it"),
        ("essay.txt", b"x" * (MAX_FILE_BYTES + 1), "larger than"),
        ("essay.docx", b"PK\x03\x04 nothing", "no Word document"),
        ("essay.docx", docx("<w:p>", ""), "no Word document"),
        ("essay.docx", docx(paragraph("&j;"), BOMB), "no Word document"),
        ("essay.docx", docx(paragraph("&x;"), OUTSIDE), "no Word document"),
        ("essay.docx", docx(paragraph("a" * 21_000_000)), "its text takes more than"),
        ("essay.pdf", b"%PDF-1.7 nothing", "no PDF"),
        ("essay.pdf", pdf(["secret"], password="x"), "protected by a password"),
        ("essay.pdf", pdf([""]), "no text in it"),
    ],
    ids=[
        "odt", "binary", "blank", "large", "no zip", "broken", "entities", "outside", "bomb", "no pdf",
        "locked", "scan",
    ],
)  # fmt: skip
def test_a_file_without_text_or_with_harm_is_refused_with_its_name(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason) as caught:
        read_document(name, content)
    assert str(caught.value).startswith(f"cannot read {name}: ")
    assert "nothing" not in str(caught.value), "it quotes the file"
    assert caught.value.field == "file"


def test_a_file_that_takes_too_long_or_too_much_ends_its_own_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_WALL_S", 0.01)
    with pytest.raises(UnreadableDocument, match=r"it takes more than 0\.01 s"):
        read_document("essay.docx", docx(paragraph("text")))


def test_the_process_that_opens_a_file_is_given_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shows_its_environment = tmp_path / "python"
    shows_its_environment.write_text("#!/bin/sh\nenv\n")
    shows_its_environment.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shows_its_environment))
    for name in ("FAIRMARK_STORE__SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "zebracanary")
    monkeypatch.setenv("HARMLESS", "kept")
    said = read_document("essay.pdf", b"%PDF-")
    assert "HARMLESS=kept" in said
    assert "zebracanary" not in said


def test_a_name_is_shown_without_its_folders() -> None:
    with pytest.raises(UnreadableDocument, match=r"^cannot read passwd: "):
        read_document(str(Path("..") / "etc" / "passwd"), b"x")
