"""A service's drift report as lines: what is watched, how far it is from what the models know, the verdict."""

from collections.abc import Iterator

from fairmark.answers import Drift, QuantityDrift

HEAD = ("prompt", "what", "essays", "psi", "bound", "ks", "bound", "verdict")


def in_words(found: Drift) -> str:
    """The answer in one sentence."""
    if not found.prompts:
        return "Nothing is watched: no served model brings essays to compare with."
    named = [prompt.prompt_id for prompt in found.prompts if prompt.drifted]
    if named:
        return f"Alarm: essays differ from those that the models were made for on {', '.join(named)}."
    quantities = [quantity for prompt in found.prompts for quantity in prompt.quantities]
    if all(quantity.drifted is None for quantity in quantities):
        return f"Cannot tell yet: it takes {found.least_essays} essays on a writing task."
    return "No alarm: essays are like those that the models were made for."


def rows_of(found: Drift) -> Iterator[tuple[str, ...]]:
    """A line for each quantity of each writing task."""
    for prompt in found.prompts:
        for each in prompt.quantities:
            measures = (each.psi, each.psi_bound, each.ks, each.ks_bound)
            shown = ("" if measure is None else f"{measure:.2f}" for measure in measures)
            yield prompt.prompt_id, each.title, str(each.num_essays), *shown, _verdict(each, found.least_essays)


def _verdict(quantity: QuantityDrift, least_essays: int) -> str:
    if quantity.drifted is None:
        return f"too few essays ({least_essays})"
    return "alarm" if quantity.drifted else "none"
