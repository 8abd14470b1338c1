"""The model card of a bundle: what the model is for, what it learned from, how far to trust it."""

from collections.abc import Sequence

from essays.manifest import CorpusSource, Member, Parity, PrecisionParity, PromptMetrics
from essays.prompts import get_prompt
from essays.traits import TraitQuality, Traits

_KINDS = {
    "lexical": "Linear over hashed character n-grams, quadratic over surface features of the text.",
    "lstm": "A bidirectional LSTM over static word vectors: attention, mean and maximum, beside the length.",
    "trees": "Gradient-boosted trees on surface features and principal components of character n-grams.",
    "probe": "Ridge regression on the mean states of a pretrained transformer encoder (a linear probe).",
    "encoder": "A fine-tuned transformer encoder with CLS and mean pooling.",
    "decoder": "A decoder fine-tuned with LoRA, read at its last token.",
    "ensemble": "A non-negative mix of other models' scores, weights fitted on dev essays.",
}

_ELSEWHERE = (
    "**This model was not measured itself**: it learned from every essay but those that calibrate it, so that none is"
    " left to test. A number below was measured on another model of this kind, trained without the essays that it was"
    " tested on, as listed below the table."
)


def write_card(
    name: str,
    kind: str,
    prompt_ids: Sequence[str],
    metrics: Sequence[PromptMetrics],
    corpora: Sequence[CorpusSource],
    parity: Parity,
    origin: str,
    members: Sequence[Member] = (),
    *,
    precisions: Sequence[PrecisionParity] = (),
    traits: Traits | None = None,
) -> str:
    """The card as Markdown; holds no essay and no version, so that it can be part of what the version is made from."""
    blocks = [
        f"# {name}",
        f"{_KINDS[kind]} Scores English essays on the prompts below, from training by Fairmark.",
        "## Agreement with people\n\nQuadratic weighted kappa (QWK) on held-out test essays, with a 95 % bootstrap"
        " interval; beside it the agreement of two human raters, where single ratings exist.",
        *([_ELSEWHERE] if _not_its_own(prompt_ids, metrics) else []),
        _metrics_table(prompt_ids, metrics),
        *([_runs(metrics)] if any(row.measured_on for row in metrics) else []),
        *([_traits_table(traits)] if traits else []),
        f"## Served as ONNX\n\nOn {parity.num_essays} held-out essays the served graph's unit scores lie at most"
        f" {parity.max_gap:.1e} from the checkpoint's; {parity.same_grade_share:.1%} get the same grade.",
        *(_precision(each) for each in precisions),
        "## Learned from\n\n" + "\n".join(f"- {corpus.name}: {corpus.licence}" for corpus in corpora),
        *([_members_table(members)] if members else []),
        f"## Made by\n\n{origin}",
        "## Meant for, and not\n\nA second opinion beside a human reader: for practice, for sorting, for finding essays"
        " that deserve another look. Not for decisions about a person without a human who reads the essay. Scores say"
        " nothing about truth, originality or effort. On prompts, ages or kinds of writing other than those above the"
        " agreement is unknown.",
    ]
    return "\n\n".join(blocks) + "\n"


def _precision(parity: PrecisionParity) -> str:
    changes = ", ".join(f"{change:+.4f} on {corpus}" for corpus, change in parity.qwk_changes.items())
    return (
        f"At {parity.precision} ({parity.runtime}) {parity.same_grade_share:.2%} of {parity.num_essays} held-out essays"
        f" get the checkpoint's grade; QWK changes by {changes}, unit scores by at most {parity.max_gap:.1e}."
    )


def _not_its_own(prompt_ids: Sequence[str], metrics: Sequence[PromptMetrics]) -> bool:
    return {row.prompt_id for row in metrics if row.measured_on is None} != set(prompt_ids)


def _metrics_table(prompt_ids: Sequence[str], metrics: Sequence[PromptMetrics]) -> str:
    measured = {row.prompt_id: row for row in metrics}
    rows = ["| prompt | essays | QWK | interval | human–human |", "|---|---|---|---|---|"]
    rows += [f"| {name}: {get_prompt(name).title} | {_numbers(measured.get(name))} |" for name in prompt_ids]
    return "\n".join(rows)


def _numbers(row: PromptMetrics | None) -> str:
    if row is None:
        return "– | not measured | – | –"
    human = "–" if row.human_qwk is None else f"{row.human_qwk:.3f}"
    low, high = row.qwk_interval
    return f"{row.num_essays} | {row.qwk:.3f} | {low:.3f}–{high:.3f} | {human}"


def _runs(metrics: Sequence[PromptMetrics]) -> str:
    prompts: dict[str, list[str]] = {}
    for row in metrics:
        if row.measured_on:
            prompts.setdefault(row.measured_on, []).append(row.prompt_id)
    return "\n".join(f"- {', '.join(names)}: {source}" for source, names in prompts.items())


def _traits_table(traits: Traits) -> str:
    rows = ["| trait | essays | QWK | interval | holistic score in its place |", "|---|---|---|---|---|"]
    rows += [f"| {trait.name} | {_trait_numbers(trait.quality)} |" for trait in traits.traits]
    return (
        f"## Traits\n\nOn {traits.prompt_id} the model also scores parts of the writing. Where the holistic score in a"
        " trait's place agrees with people as well, within what the test essays can tell, the trait's score says no"
        " more than that one does.\n\n" + "\n".join(rows)
    )


def _trait_numbers(quality: TraitQuality | None) -> str:
    if quality is None:
        return "– | not measured | – | –"
    low, high = quality.qwk_interval
    verdict = "surely worse" if quality.beats_holistic else "as good"
    return f"{quality.num_essays} | {quality.qwk:.3f} | {low:.3f}–{high:.3f} | {quality.holistic_qwk:.3f}, {verdict}"


def _members_table(members: Sequence[Member]) -> str:
    prompt_ids = list(members[0].weights)
    head = ["| member | version | " + " | ".join(prompt_ids) + " |", "|---|---|" + "---|" * len(prompt_ids)]
    rows = [
        f"| {member.name} | {member.version} | " + " | ".join(f"{member.weights[p]:.3f}" for p in prompt_ids) + " |"
        for member in members
    ]
    return "## Members and weights\n\n" + "\n".join([*head, *rows])
