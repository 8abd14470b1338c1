"""Sketches: of the whole essay, of length one, under a key; and three metrics that order alike on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cache.index import NearIndex
from serving.cache.result_cache import ResultCache
from serving.cache.settings import Metric
from serving.cache.sketch import DIMENSIONS, sketch_of, tokens_of

METRICS: tuple[Metric, ...] = ("cosine", "inner_product", "euclidean")
KEY = b"k" * 16


def sketch(text: str, key: bytes = KEY) -> np.ndarray:
    return sketch_of(tokens_of(text), key)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_every_text_gets_a_finite_vector_of_length_one(text: str) -> None:
    vector = sketch(text)
    assert vector.shape == (DIMENSIONS,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_the_end_of_a_long_essay_counts_as_much_as_its_start() -> None:
    words = [f"word{number}" for number in range(2_000)]
    start, end = (" ".join([*words[:place], "other", *words[place + 1 :]]) for place in (5, 1_995))
    whole = sketch(" ".join(words))
    assert float(whole @ sketch(start)) < 1
    assert float(whole @ sketch(end)) == pytest.approx(float(whole @ sketch(start)), abs=2e-3)


def test_another_key_gives_another_vector() -> None:
    text = " ".join(f"word{number}" for number in range(300))
    assert abs(float(sketch(text) @ sketch(text, b"other"))) < 0.3


def unit_vectors(number: int) -> np.ndarray:
    vectors = np.random.default_rng(4).normal(size=(number, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def distances(metric: Metric, vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    if metric == "euclidean":
        return np.linalg.norm(vectors - query, axis=1)
    inner = vectors @ query
    return -inner if metric == "inner_product" else 1 - inner / np.linalg.norm(vectors, axis=1)


def test_on_unit_vectors_the_three_metrics_order_alike() -> None:
    """|a - b|^2 = 2 - 2ab: each is a falling function of the others."""
    vectors = unit_vectors(500).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    orders = [np.argsort(distances(metric, vectors, vectors[7])).tolist() for metric in METRICS]
    assert orders[0] == orders[1] == orders[2]
    # And not on others, so the test can fail.
    longer = vectors * np.linspace(0.5, 2, 500)[:, None]
    assert (
        np.argsort(distances("cosine", longer, vectors[7])).tolist()
        != np.argsort(distances("euclidean", longer, vectors[7])).tolist()
    )


@pytest.mark.parametrize("metric", METRICS)
def test_the_index_finds_the_neighbours_that_counting_finds(metric: Metric) -> None:
    vectors = unit_vectors(400)
    near = vectors[:20] + 0.02 * unit_vectors(20)[::-1]
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    index = NearIndex(metric)
    index.add(range(400), list(vectors))
    assert [index.nearest(vector, 3)[0] for vector in near] == list(range(20))
    index.remove([0])
    assert index.nearest(vectors[0], 1) != [0]
    assert NearIndex(metric).nearest(vectors[0], 3) == []


@pytest.mark.parametrize("metric", METRICS)
def test_a_slip_is_found_under_every_metric_in_every_store(
    metric: Metric, store_settings: dict[str, Any], open_cache: Callable[..., ResultCache], helpers: Any
) -> None:
    cache = open_cache(**store_settings, metric=metric)
    space = helpers.space_in(cache)
    for number in range(30):
        helpers.keep(cache, f"{helpers.ESSAY} I am pupil {number} of {number * number}, class {number % 7}!", space)
    helpers.keep(cache, helpers.ESSAY, space, score=0.25)
    (found,) = cache.near(cache.essay(helpers.SLIP), [space]).values()
    assert found.run.raw_unit_score == 0.25


def test_what_is_not_finite_never_enters_the_index(tmp_path: Path) -> None:
    index = NearIndex("cosine")
    index.add([1, 2], [np.full(DIMENSIONS, np.nan, dtype=np.float32), unit_vectors(1)[0]])
    assert len(index) == 1
