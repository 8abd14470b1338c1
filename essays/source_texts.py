"""Which writing tasks ask about a text that writers had before them; an essay alone does not show it."""

# Beside `prompts.toml`, not in it: training reads that file, and nothing that is learned depends on this.
_WITH_SOURCE = frozenset({"asap-3", "asap-4", "asap-5", "asap-6"})


def answers_source(prompt_id: str) -> bool:
    """Whether essays of this prompt answer a source text: a story, a memoir or an article."""
    return prompt_id in _WITH_SOURCE
