"""How the cache stands: for `/status`, and for Prometheus."""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.cache.result_cache import ResultCache
from serving.cache.settings import CacheSettings
from serving.catalogue import ServedModel
from serving.schemas import CacheInfo, ModelCacheInfo, NearInfo, NearState

_STATES = get_args(NearState)


def cache_info(settings: CacheSettings, cache: ResultCache | None, models: Sequence[ServedModel]) -> CacheInfo:
    """Everything an operator asks first; `models` are those that are served."""
    return CacheInfo(
        store=settings.kind,
        working=cache is not None and cache.store is not None and cache.fault is None,
        fault=None if cache is None else cache.fault,
        entries=None if cache is None else cache.entries,
        max_entries=settings.max_entries,
        ttl_s=settings.ttl_s,
        near=settings.near,
        metric=settings.metric,
        faults={} if cache is None else cache.ledger.faults,
        models=[] if cache is None else [_model_info(cache, model) for model in models],
    )


def _model_info(cache: ResultCache, model: ServedModel) -> ModelCacheInfo:
    account = cache.ledger.account(model.name)
    hits, all_runs = account.exact + account.near, account.exact + account.near + account.computed
    return ModelCacheInfo(
        model=model.name,
        exact=account.exact,
        near=account.near,
        computed=account.computed,
        bypassed=account.bypassed,
        hit_rate=hits / all_runs if all_runs else None,
        saved_s=account.saved_s,
        lookup_s=account.lookup_s,
        mean_run_s=account.mean_run_s,
        near_tier=_near_info(cache, model),
    )


def _near_info(cache: ResultCache, model: ServedModel) -> NearInfo:
    account, digest = cache.ledger.account(model.name), model.artifact.digest
    verified, disagreed = cache.proof.counts(digest)
    return NearInfo(
        state=_near_state(cache, model),
        pays=account.pays,
        lookups=account.near_lookups,
        found=account.near_found,
        lookup_s=account.near_lookup_s,
        unsteady=account.unsteady,
        verified=verified,
        disagreed=disagreed,
        bound=cache.proof.bound(digest),
        gap=cache.proof.gap(digest),
        alarm=cache.proof.alarm(digest),
    )


def _near_state(cache: ResultCache, model: ServedModel) -> NearState:
    state = cache.proof.state(model.artifact.digest)
    account = cache.ledger.account(model.name)
    if cache.settings.near == "off":
        return "off"
    if state == "alarm":
        return "alarm"
    if not cache.searchable:
        return "filling"
    # An ensemble has no look-ups of its own: its members' decide.
    if cache.settings.near == "auto" and not model.is_ensemble and account.pays is not True:
        return "trying" if account.pays is None else "does_not_pay"
    return "on" if state == "proved" else "proving"


class CacheCollector(Collector):
    """The ledger and the proof as Prometheus' metrics, read when it asks."""

    def __init__(self, cache: ResultCache, models: Callable[[], Sequence[ServedModel]]) -> None:
        """`models` gives those that are served when it is asked."""
        self._cache = cache
        self._models = models

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        infos = cache_info(self._cache.settings, self._cache, self._models())
        runs = CounterMetricFamily("fairmark_cache_runs", "Runs of a model, by tier.", labels=["model", "tier"])
        saved = CounterMetricFamily("fairmark_cache_saved_seconds", "Time of runs not needed.", labels=["model"])
        spent = CounterMetricFamily("fairmark_cache_lookup_seconds", "Time of look-ups.", labels=["model"])
        near = GaugeMetricFamily("fairmark_cache_near_state", "1 for the near tier's state.", labels=["model", "state"])
        bound = GaugeMetricFamily(
            "fairmark_cache_changed_grades_bound_ratio",
            "Upper 95 % bound of the share of changed grades.",
            labels=["model"],
        )
        verified = GaugeMetricFamily(
            "fairmark_cache_verified_runs", "Near-duplicates scored anyway, of the served version.", labels=["model"]
        )
        alarm = GaugeMetricFamily("fairmark_cache_alarm", "1 when the near tier closed itself.", labels=["model"])
        for info in infos.models:
            for tier in ("exact", "near", "computed", "bypassed"):
                runs.add_metric([info.model, tier], getattr(info, tier))
            saved.add_metric([info.model], info.saved_s)
            spent.add_metric([info.model], info.lookup_s)
            bound.add_metric([info.model], info.near_tier.bound)
            verified.add_metric([info.model], info.near_tier.verified)
            alarm.add_metric([info.model], info.near_tier.state == "alarm")
            for state in _STATES:
                near.add_metric([info.model, state], info.near_tier.state == state)
        faults = CounterMetricFamily("fairmark_cache_faults", "Failures of the cache, each a miss.", labels=["kind"])
        for kind, count in infos.faults.items():
            faults.add_metric([kind], count)
        entries = GaugeMetricFamily("fairmark_cache_entries", "Essays kept.", value=infos.entries or 0)
        working = GaugeMetricFamily("fairmark_cache_working", "1 when the cache works.", value=infos.working)
        yield from (runs, saved, spent, near, bound, verified, alarm, faults, entries, working)
