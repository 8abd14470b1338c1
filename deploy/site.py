"""A hook of MkDocs (mkdocs.yml): what a page links to outside of docs/ is the repository's matter.

Such links work where the repository is read. On the site they go to the repository, where DOCS_REPOSITORY names it (as
pages.yml does), else the text stays without a link.
"""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page's text, with links that leave docs/ turned."""
    return turned(markdown, page.file.src_uri, config.repo_url)


def turned(markdown: str, path: str, repository: str | None) -> str:
    """`path` is the page's below docs/; `repository` its address, if there is one."""

    def turn(match: re.Match[str]) -> str:
        text, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        whole = posixpath.normpath(posixpath.join("docs", posixpath.dirname(path), target))
        if whole.startswith("docs/"):
            return match.group()
        return f"[{text}]({repository.rstrip('/')}/blob/main/{whole}{anchor})" if repository else text

    return _LINK.sub(turn, markdown)
