import json
import socket
import time
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from essays.errors import BadParams, BadSecret
from essays.settings import SecretsSettings, Settings, SettingsSection, StoreSettings, load_settings
from serving.access import AccessSettings
from serving.cache.settings import CacheSettings
from serving.config import ServiceSettings, ServingSettings

CANARY = "canary-7f3a-never-shown"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a fairmark.toml of the developer's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def secrets_manager() -> str:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def put_secret(secrets_manager, monkeypatch):
    """Stores a secret in Secrets Manager and names it in the environment."""
    for name, value in {
        "ACCESS_KEY_ID": "testing",
        "SECRET_ACCESS_KEY": "testing",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("secretsmanager", endpoint_url=secrets_manager)
    numbers = iter(range(1000))

    def put(value: object, name: str | None = None) -> str:
        name = name or f"fairmark/{put_secret_id(numbers)}"
        if isinstance(value, bytes):
            client.create_secret(Name=name, SecretBinary=value)
        else:
            client.create_secret(Name=name, SecretString=value if isinstance(value, str) else json.dumps(value))
        return use(name)

    def use(name: str) -> str:
        monkeypatch.setenv("FAIRMARK_SECRETS__ID", name)
        monkeypatch.setenv("FAIRMARK_SECRETS__ENDPOINT_URL", secrets_manager)
        monkeypatch.setenv("FAIRMARK_SECRETS__TIMEOUT_S", "5")
        return name

    put.use = use
    yield put
    for secret in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    client.close()


def put_secret_id(numbers) -> str:
    return f"test-{next(numbers)}"


def write_toml(text: str) -> None:
    Path("fairmark.toml").write_text(text, encoding="utf-8")


def test_defaults_hold_where_nothing_is_set():
    assert load_settings(Settings).store == StoreSettings()


def test_environment_over_secret_over_file_over_default(put_secret, monkeypatch):
    write_toml('[store]\nurl = "s3://from-file"\nregion = "from-file"\nmax_attempts = 2\nread_timeout_s = 7')
    put_secret({"store": {"url": "s3://from-secret", "region": "from-secret"}})
    monkeypatch.setenv("FAIRMARK_STORE__URL", "s3://from-environment")
    store = load_settings(Settings).store
    assert (store.url, store.region, store.max_attempts) == ("s3://from-environment", "from-secret", 2)
    assert (store.read_timeout_s, store.connect_timeout_s) == (7.0, StoreSettings().connect_timeout_s)


def test_the_file_may_name_the_secret(put_secret, secrets_manager, monkeypatch):
    name = put_secret({"store": {"url": "s3://from-secret"}})
    for part in ("ID", "ENDPOINT_URL", "TIMEOUT_S"):
        monkeypatch.delenv(f"FAIRMARK_SECRETS__{part}")
    write_toml(f'[secrets]\nid = "{name}"\nendpoint_url = "{secrets_manager}"')
    assert load_settings(Settings).store.url == "s3://from-secret"


def test_a_flat_secret_as_the_console_makes_it_is_read(put_secret):
    put_secret({"store__access_key_id": "AKIA", "STORE__SECRET_ACCESS_KEY": CANARY})
    store = load_settings(Settings).store
    assert store.access_key_id == "AKIA"
    assert store.secret_access_key.get_secret_value() == CANARY


def test_empty_variables_count_as_unset(monkeypatch):
    monkeypatch.setenv("FAIRMARK_STORE__ENDPOINT_URL", "")
    assert load_settings(Settings).store.endpoint_url is None


def test_a_file_may_lie_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "other.toml").write_text('[store]\nurl = "s3://elsewhere"')
    monkeypatch.setenv("FAIRMARK_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings(Settings).store.url == "s3://elsewhere"
    monkeypatch.setenv("FAIRMARK_CONFIG", "gone.toml")
    with pytest.raises(BadParams, match=r"gone\.toml: no such file"):
        load_settings(Settings)


def test_every_fault_of_the_file_is_listed_at_once():
    write_toml(
        '[store]\nurl = "ftp://x"\nurll = "s3://x"\nmax_attempts = 0\nendpoint_url = "http://me:pw@host"\n[stroe]\n'
    )
    with pytest.raises(BadParams) as caught:
        load_settings(Settings)
    for name in ("store.url:", "store.urll:", "store.max_attempts:", "store.endpoint_url:", "stroe:", "5 faults"):
        assert name in str(caught.value)


def test_a_misspelt_variable_is_a_fault(monkeypatch):
    monkeypatch.setenv("FAIRMARK_STORE__URLL", "s3://x")
    with pytest.raises(BadParams, match=r"store\.urll"):
        load_settings(Settings)
    monkeypatch.delenv("FAIRMARK_STORE__URLL")
    monkeypatch.setenv("FAIRMARK_STROE__URL", "s3://x")
    with pytest.raises(BadParams, match="FAIRMARK_STROE__URL"):
        load_settings(Settings)


def test_a_file_that_is_not_toml_is_named():
    write_toml("[store\n")
    with pytest.raises(BadParams, match=r"fairmark\.toml: not TOML"):
        load_settings(Settings)


def test_other_readers_sections_are_left_to_them(monkeypatch):
    class PortSection(SettingsSection):
        port: int = 1

    class WithService(Settings):
        service: PortSection = PortSection()

    write_toml("[service]\nport = 8000\n")
    assert load_settings(Settings).store == StoreSettings()
    assert load_settings(WithService).service.port == 8000
    monkeypatch.setenv("FAIRMARK_SERVICE__PORT", "9000")
    assert load_settings(Settings).store == StoreSettings()
    assert load_settings(WithService).service.port == 9000


def test_one_key_without_the_other_is_a_fault(monkeypatch):
    monkeypatch.setenv("FAIRMARK_STORE__ACCESS_KEY_ID", "AKIA")
    with pytest.raises(BadParams, match="both or neither"):
        load_settings(Settings)


def test_a_secret_shows_in_no_text(put_secret):
    put_secret({"store": {"access_key_id": "AKIA", "secret_access_key": CANARY}})
    settings = load_settings(Settings)
    assert settings.store.secret_access_key.get_secret_value() == CANARY
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert CANARY not in text


@pytest.mark.row(36)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"{{'store': '{CANARY}'", "not JSON"),
        (json.dumps([CANARY]), "found list"),
        (CANARY.encode(), "binary"),
        (json.dumps({"store": CANARY, "store__url": "s3://x"}), "wants it to be a table"),
    ],
)
def test_a_garbled_secret_is_named_and_not_shown(put_secret, value, said):
    name = put_secret(value)
    with pytest.raises(BadSecret, match=said) as caught:
        load_settings(Settings)
    assert name in str(caught.value)
    assert CANARY not in everything_said(caught.value)


def test_faulty_values_in_a_secret_are_not_shown(put_secret):
    put_secret({"store": {"max_attempts": CANARY, "url": CANARY, "unknown": CANARY, "secret_access_key": [CANARY]}})
    with pytest.raises(BadParams, match="4 faults") as caught:
        load_settings(Settings)
    assert CANARY not in everything_said(caught.value)


@pytest.mark.row(36)
def test_a_secret_that_does_not_exist_is_named(put_secret):
    put_secret.use("fairmark/none")
    with pytest.raises(BadSecret, match="'fairmark/none': it does not exist"):
        load_settings(Settings)


@pytest.mark.row(36)
def test_a_secrets_manager_that_is_down_is_said_with_the_secrets_name(put_secret, monkeypatch):
    put_secret.use("fairmark/some")
    monkeypatch.setenv("FAIRMARK_SECRETS__ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(BadSecret, match=r"'fairmark/some': Secrets Manager \(http://127\.0\.0\.1:9\)"):
        load_settings(Settings)


@pytest.mark.row(36)
def test_a_secrets_manager_that_does_not_answer_is_given_up_in_time(put_secret, monkeypatch, figure):
    put_secret.use("fairmark/some")
    monkeypatch.setenv("FAIRMARK_SECRETS__TIMEOUT_S", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("FAIRMARK_SECRETS__ENDPOINT_URL", address)
        started = time.monotonic()
        with pytest.raises(BadSecret, match=f"'fairmark/some': Secrets Manager \\({address}\\)") as caught:
            load_settings(Settings)
    took_s = time.monotonic() - started
    assert "testing" not in everything_said(caught.value)
    # Three tries, and pauses of a second or two between them.
    assert took_s < 10
    figure(f"given up after {took_s:.1f} s with a bound of 0.2 s for each of three tries")


@pytest.fixture
def iam(secrets_manager):
    """Makes keys of a user who may do nothing; from then on, as on AWS, everybody's rights are asked."""
    client = boto3.client("iam", endpoint_url=secrets_manager)

    def forbid_everything() -> dict[str, str]:
        client.create_user(UserName="nobody")
        key = client.create_access_key(UserName="nobody")["AccessKey"]
        httpx.post(f"{secrets_manager}/moto-api/reset-auth", content=b"0")
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    yield forbid_everything
    httpx.post(f"{secrets_manager}/moto-api/reset-auth", content=b"inf")
    client.close()


@pytest.mark.row(36)
def test_a_secret_that_this_machine_may_not_read_is_named(put_secret, iam, monkeypatch):
    name = put_secret({"store": {"secret_access_key": CANARY}})
    keys = iam()
    for variable, value in keys.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(BadSecret, match=f"'{name}': access is denied; allow secretsmanager:GetSecretValue") as caught:
        load_settings(Settings)
    for value in (CANARY, *keys.values()):
        assert value not in everything_said(caught.value)


@pytest.mark.row(36)
def test_no_credentials_for_the_secrets_manager_is_said(put_secret, monkeypatch):
    put_secret.use("fairmark/some")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    with pytest.raises(BadSecret, match="no AWS credentials"):
        load_settings(Settings)


def test_nobody_is_asked_when_no_secret_is_named(secrets_manager, monkeypatch):
    # An address where nobody listens would be an error if it were asked.
    monkeypatch.setenv("FAIRMARK_SECRETS__ENDPOINT_URL", "http://127.0.0.1:9")
    assert load_settings(Settings).secrets.id is None


def test_the_example_file_is_valid_complete_and_shows_the_defaults(root, monkeypatch):
    monkeypatch.setenv("FAIRMARK_CONFIG", str(root / "fairmark.toml.example"))
    read = load_settings(ServingSettings)
    assert read.store == StoreSettings()
    assert read.service == ServiceSettings()
    example = (root / "fairmark.toml.example").read_text()
    for section in (StoreSettings, SecretsSettings, ServiceSettings, CacheSettings, AccessSettings):
        shown = [name for name in section.model_fields if f"{name} = " in example or f".{name}]" in example]
        assert shown == list(section.model_fields)


def everything_said(error: BaseException | None) -> str:
    """The error and all that a traceback would show with it."""
    said = []
    while error is not None:
        said.append(f"{error!r} {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(said)
