import pytest
from pydantic import Field, ValidationError

from essays.errors import BadParams
from essays.params import Section, parse_params, read_params


class Inner(Section):
    rate: float = Field(gt=0)
    """Described here."""
    sizes: tuple[int, ...]


class Outer(Section):
    inner: Inner
    name: str


GOOD = """
seed: 7
models: [lexical, lstm]
train:
  lstm: {rate: 2.0e-3, sizes: [1, 2]}
outer: {name: x, inner: {rate: 1.0, sizes: []}}
"""


@pytest.fixture
def params_file(tmp_path):
    def write(text):
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_values_are_read_by_dotted_key(params_file):
    path = params_file(GOOD)
    assert read_params("seed", int, path) == 7
    assert read_params("models", tuple[str, ...], path) == ("lexical", "lstm")
    assert read_params("train.lstm", Inner, path) == Inner(rate=0.002, sizes=(1, 2))
    assert read_params("outer", Outer, path).inner.sizes == ()


def test_every_fault_of_a_section_is_listed_with_its_path_and_what_was_found(params_file):
    path = params_file("train: {lstm: {rate: -1.0, sizes: [1, two], extra: 3}}")
    with pytest.raises(BadParams) as caught:
        read_params("train.lstm", Inner, path)
    message = str(caught.value)
    assert "params.yaml: 3 faults" in message
    assert "train.lstm.rate: Input should be greater than 0 (found -1.0)" in message
    assert "train.lstm.sizes.1: Input should be a valid integer (found 'two')" in message
    assert "train.lstm.extra: Extra inputs are not permitted" in message


def test_a_number_that_yaml_reads_as_text_is_refused(params_file):
    with pytest.raises(BadParams, match=r"rate: Input should be a valid number \(found '2e-5'\)"):
        read_params("train", Inner, params_file("train: {rate: 2e-5, sizes: []}"))


def test_a_missing_key_is_named_with_what_stands_beside_it(params_file):
    path = params_file(GOOD)
    with pytest.raises(BadParams, match=r"no 'train.minilm': train has lstm"):
        read_params("train.minilm", Inner, path)
    with pytest.raises(BadParams, match=r"no 'sed': the top level has seed, models, train, outer"):
        read_params("sed", int, path)
    with pytest.raises(BadParams, match=r"no 'seed.x': seed has nothing"):
        read_params("seed.x", int, path)


@pytest.mark.parametrize(
    ("text", "what"), [("a: [", "not YAML"), ("- 1\n", "expected sections, found list"), ("", "found NoneType")]
)
def test_a_file_that_holds_no_sections_is_refused(params_file, text, what):
    with pytest.raises(BadParams, match=what):
        read_params("seed", int, params_file(text))


def test_a_missing_file_says_where_to_run_from(tmp_path):
    with pytest.raises(BadParams, match="no such file; run from the project's root"):
        read_params("seed", int, tmp_path / "params.yaml")


def test_one_fault_is_one_fault():
    with pytest.raises(BadParams, match=r"params\.yaml: 1 fault\n  seed: .*valid integer.*'7'"):
        parse_params("7", "seed", int)


def test_sections_do_not_change_and_describe_their_fields():
    section = Inner(rate=1.0, sizes=())
    with pytest.raises(ValidationError, match="frozen"):
        section.rate = 2.0
    assert Inner.model_json_schema()["properties"]["rate"]["description"] == "Described here."
