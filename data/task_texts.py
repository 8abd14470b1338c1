"""What writers of ASAP's prompts had before them: each task and its source text, from the owner's descriptions.

The descriptions are optional (`data.corpora`): without them there is nothing that an essay could be compared with.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from essays.errors import BadCorpus
from essays.text import normalize_text

DESCRIPTIONS_FILE = "Essay_Set_Descriptions.zip"
_DESCRIPTION = re.compile(r"Essay Set #(\d+)--ReadMeFirst\.docx$")
_WORD_XML = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FIRST_HEADINGS = ("Prompt", "Source Essay")
_LAST_HEADING = "Rubric Guidelines"


def read_task_texts(folder: Path) -> Mapping[str, str]:
    """Task and source text by prompt id, a paragraph a line; nothing when the folder holds no descriptions.

    Raises BadCorpus when a description has not the headings between which the task stands.
    """
    path = folder / DESCRIPTIONS_FILE
    if not path.exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return {
            f"asap-{found[1]}": _task_of(archive.read(name), f"{path}: {name}")
            for name in sorted(archive.namelist())
            if (found := _DESCRIPTION.search(name))
        }


def _task_of(document: bytes, source: str) -> str:
    paragraphs = list(_paragraphs(document))
    starts = [place for place, text in enumerate(paragraphs) if text in _FIRST_HEADINGS]
    ends = [place for place, text in enumerate(paragraphs) if text.startswith(_LAST_HEADING)]
    if not starts or not ends or ends[0] < starts[0]:
        raise BadCorpus(f"{source}: no task between 'Prompt' and '{_LAST_HEADING}'; is it the owner's file?")
    task = [text for text in paragraphs[starts[0] : ends[0]] if text not in _FIRST_HEADINGS]
    return normalize_text("\n".join(task))


def _paragraphs(document: bytes) -> Iterator[str]:
    """The document's paragraphs that are not empty. Its digest is known (`data.corpora`), so its XML is trusted."""
    with zipfile.ZipFile(io.BytesIO(document)) as parts:
        root = ElementTree.fromstring(parts.read("word/document.xml"))  # noqa: S314
    for paragraph in root.iter(f"{_WORD_XML}p"):
        if text := "".join(run.text or "" for run in paragraph.iter(f"{_WORD_XML}t")).strip():
            yield text
