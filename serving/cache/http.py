"""The cache in HTTP's words: what a request allows, and what its answer says."""

from collections.abc import Mapping, Sequence

from serving.cache.runs import CacheMode
from serving.schemas import BatchResponse, CacheMarker, ComparisonResponse, ExplanationResponse, Schema, ScoreResponse

# The first of these that some part of an answer has is the whole answer's.
_WORST_FIRST = ("off", "bypass", "miss", "near", "exact")
_HEADER = {"off": "bypass"}


def cache_mode(headers: Mapping[str, str]) -> CacheMode:
    """What `Cache-Control` of a request allows (RFC 9111, 5.2.1)."""
    directives = {part.strip().lower() for part in headers.get("cache-control", "").split(",")}
    if "no-store" in directives:
        return CacheMode.BYPASS
    return CacheMode.REFRESH if directives & {"no-cache", "max-age=0"} else CacheMode.USE


def cache_headers(given: Schema) -> dict[str, str]:
    """`X-Cache`, and `Age` in whole seconds where the answer was kept."""
    markers = _markers(given)
    if not markers:
        return {}
    worst = min(markers, key=lambda marker: _WORST_FIRST.index(marker.tier))
    headers = {"X-Cache": _HEADER.get(worst.tier, worst.tier)}
    ages = [marker.age_s for marker in markers if marker.age_s is not None]
    if worst.tier in ("exact", "near"):
        headers["Age"] = str(int(max(ages)))
    return headers


def _markers(given: Schema) -> Sequence[CacheMarker]:
    if isinstance(given, ScoreResponse):
        return [given.cache]
    if isinstance(given, ExplanationResponse):
        return [given.result.cache]
    if isinstance(given, ComparisonResponse):
        return [result.cache for result in given.results]
    if isinstance(given, BatchResponse):
        return [item.result.cache for item in given.results if item.result]
    return []
