import zipfile
from pathlib import Path

import pytest

from data.task_texts import DESCRIPTIONS_FILE, read_task_texts
from essays.errors import BadCorpus
from essays.source_texts import answers_source
from essays.text import words

DOCUMENT = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'


def write_description(folder: Path, paragraphs: list[str]) -> None:
    inner = folder / "inner.docx"
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    with zipfile.ZipFile(inner, "w") as document:
        document.writestr("word/document.xml", DOCUMENT.format(body))
    with zipfile.ZipFile(folder / DESCRIPTIONS_FILE, "w") as archive:
        archive.write(inner, "Essay_Set_Descriptions/Essay Set #4--ReadMeFirst.docx")
        archive.writestr("Essay_Set_Descriptions/other.xlsx", "")


def test_task_and_source_stand_between_their_headings(tmp_path: Path) -> None:
    write_description(
        tmp_path,
        ["Essay Set #4", "Source Essay", "Once there was a pond.", "", "Prompt", "Say why.", "Rubric Guidelines"],
    )
    assert read_task_texts(tmp_path) == {"asap-4": "Once there was a pond.\nSay why."}


def test_without_descriptions_no_task_is_known(tmp_path: Path) -> None:
    assert read_task_texts(tmp_path) == {}


def test_a_description_without_its_headings_is_named(tmp_path: Path) -> None:
    write_description(tmp_path, ["Essay Set #4", "Say why."])
    with pytest.raises(BadCorpus, match="Essay Set #4"):
        read_task_texts(tmp_path)


def test_the_owners_file_holds_eight_tasks_and_long_sources_where_there_are_sources(mirror: Path) -> None:
    tasks = read_task_texts(mirror / "asap-aes")
    assert list(tasks) == [f"asap-{number}" for number in range(1, 9)]
    for prompt_id, task in tasks.items():
        assert (len(words(task)) > 400) == answers_source(prompt_id), prompt_id
