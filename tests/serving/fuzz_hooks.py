"""Loaded by schemathesis: half of the right requests name a real writing task and hold a whole essay.

What it makes up by the schema alone fits, and is nearly always refused before a model runs.
"""

from typing import Any

import schemathesis
from schemathesis import GenerationMode

from tests.made_essays import made_essay

WITH_ESSAYS = ("/score", "/score_batch", "/compare", "/explain")


@schemathesis.hook
def before_call(_: Any, case: Any, __: dict[str, Any]) -> None:
    """Fill in what a right request may say, before it is sent."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE or not isinstance(case.body, dict):
        return
    if case.operation.path not in WITH_ESSAYS:
        return
    essays = case.body.get("essays", [case.body])
    for number, essay in enumerate(essays):
        if len(essay["prompt_id"]) % 2:
            essay["prompt_id"] = "ellipse-overall"
            essay["essay"] += made_essay(number)
            if "model" in essay:
                essay["model"] = ("lexical", "tiny", "ensemble")[len(essay["model"]) % 3]
