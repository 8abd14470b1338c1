"""What is said of drift: to an operator with an admin key, and to Prometheus."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.drift.watch import DriftWatch, Seen, Watched
from serving.schemas import DriftBin, DriftResponse, PromptDrift, QuantityDrift

_LABELS = ("prompt_id", "quantity", "model")
_TITLES = {
    "words": "Length in words",
    "unknown_words": "Share of words that training essays lack",
    "topic_distance": "Distance of its words from training essays",
}


def drift_response(watch: DriftWatch) -> DriftResponse:
    """Everything that is watched, by prompt."""
    ordered = sorted(watch.seen(), key=lambda each: each.watched.prompt_id)
    prompts = [_prompt(name, list(own)) for name, own in groupby(ordered, key=lambda each: each.watched.prompt_id)]
    return DriftResponse(
        drifted=any(prompt.drifted for prompt in prompts),
        least_essays=watch.settings.least_essays,
        prompts=prompts,
    )


class DriftCollector(Collector):
    """Drift as Prometheus asks for it; asked rarely, so nothing is kept."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Both measures and the verdict of whatever has essays enough."""
        self._watch.save_if_due()
        psi = GaugeMetricFamily("fairmark_drift_psi", "Population stability index of the last essays.", labels=_LABELS)
        ks = GaugeMetricFamily("fairmark_drift_ks", "Largest distance of cumulated shares.", labels=_LABELS)
        alarm = GaugeMetricFamily("fairmark_drifted", "1 where one of them passes its bound.", labels=_LABELS)
        for each, labels in self._known():
            assert each.difference is not None, "only what has essays enough is known"
            psi.add_metric(labels, each.difference.psi)
            ks.add_metric(labels, each.difference.ks)
            alarm.add_metric(labels, float(each.difference.drifted))
        return psi, ks, alarm

    def _known(self) -> Iterator[tuple[Seen, tuple[str, str, str]]]:
        for each in self._watch.seen():
            if each.difference is not None:
                yield each, (each.watched.prompt_id, each.watched.quantity, each.watched.model)


def _prompt(prompt_id: str, seen: Sequence[Seen]) -> PromptDrift:
    quantities = [_quantity(each) for each in seen]
    return PromptDrift(prompt_id=prompt_id, drifted=any(each.drifted for each in quantities), quantities=quantities)


def _quantity(seen: Seen) -> QuantityDrift:
    found = seen.difference
    return QuantityDrift.model_validate(
        {
            "quantity": seen.watched.quantity,
            "title": _title(seen.watched),
            "model": seen.watched.model or None,
            "num_essays": seen.num_essays,
            "drifted": found and found.drifted,
            "psi": found and found.psi,
            "psi_bound": found and found.psi_bound,
            "ks": found and found.ks,
            "ks_bound": found and found.ks_bound,
            "num_reference": sum(seen.watched.histogram.counts),
            "bins": _bins(seen),
        }
    )


def _title(watched: Watched) -> str:
    return _TITLES.get(watched.quantity) or f"Score by {watched.model}, from 0 to 1"


def _bins(seen: Seen) -> list[DriftBin]:
    edges, counts = seen.watched.histogram.edges, seen.watched.histogram.counts
    return [
        DriftBin(
            low=low,
            high=high,
            expected=count / sum(counts),
            found=seen.counts[place] / seen.num_essays if seen.difference else None,
        )
        for place, (low, high, count) in enumerate(zip((None, *edges), (*edges, None), counts, strict=True))
    ]
