"""What nginx is told, and its configuration made of that."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(__file__).parent
PROXIED_PATHS = (
    "/",
    "/class",
    "/class/validity",
    "/text",
    "/score",
    "/score_batch",
    "/compare",
    "/explain",
    "/validity",
    "/models",
    "/prompts",
    "/status",
    "/docs",
    "/docs.json",
    "/livez",
    "/readyz",
)
"""What the world may ask for. Metrics, purges and drift are asked of each instance, from its own machine."""
FILE_PATHS = ("/", "/text")
"""Of these, forms that may carry a file."""
SLOW_PATHS = ("/", "/score_batch", "/explain")
"""Of these, what takes many runs of a model: a batch, and an explanation, which the form may ask for, too."""


@dataclass(frozen=True)
class Site:
    """One public address and the instances behind it."""

    folder: Path
    """Where configuration, process id and logs lie; absolute."""
    server_names: tuple[str, ...]
    """Hosts that are answered; all others are refused."""
    instances: tuple[str, ...]
    """Addresses of the service, `HOST:PORT`, two or more to survive one's end."""
    certificate_file: Path
    private_key_file: Path
    static_folder: Path = Path("serving/web/static")
    """The page's style sheet, script and icon."""
    listen_hosts: tuple[str, ...] = ("0.0.0.0", "[::]")  # noqa: S104 - a public site's default
    https_port: int = 443
    http_port: int | None = 80
    """Sends browsers to https; none listens to https alone."""
    user: str | None = "www-data"
    """As whom nginx answers, when root starts it; none where it is started by another."""
    worker_processes: int | Literal["auto"] = "auto"
    max_body_bytes: int = 1_000_000
    """As `service.max_body_bytes`."""
    max_file_bytes: int = 5_000_000
    """As `service.max_file_bytes`: what a form may be larger by, where it may carry a file."""
    score_timeout_s: int = 25
    """How long an instance may take; longer than `service.timeout_s`, whose answer should come first."""
    batch_timeout_s: int = 130
    """The same for a batch or an explanation: longer than `service.batch_timeout_s` and one essay more."""
    connect_timeout_s: int = 2
    client_timeout_s: int = 10
    """How long a caller may be silent, and take for its headers."""
    connections_per_address: int = 64
    requests_per_s: int = 10
    """Of one key, or of one address without a key; an address with many keys may have five times as many."""
    burst: int = 20
    """How many may come at once before that rate counts."""
    retry_instance_s: int = 10
    """An instance that failed is left alone for so long."""
    hsts_s: int = 63_072_000
    """How long browsers remember to come by https alone."""

    proxied_paths = PROXIED_PATHS
    file_paths = FILE_PATHS
    slow_paths = SLOW_PATHS
    pages_folder = _TEMPLATES

    @property
    def config_file(self) -> Path:
        """What `nginx -c` reads."""
        return self.folder / "nginx.conf"

    @property
    def instances_file(self) -> Path:
        """The part that changes while nginx runs."""
        return self.folder / "instances.conf"

    @property
    def pid_file(self) -> Path:
        """The process that is told to reload."""
        return self.folder / "nginx.pid"


def write_site(site: Site) -> None:
    """Lay down everything that nginx reads but the certificate."""
    (site.folder / "temp").mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - nginx's language, from an operator's own values
    )
    _replace(site.config_file, environment.get_template("nginx.conf.jinja").render(site=site))
    write_instances(site, unready=())


def write_instances(site: Site, unready: Collection[str]) -> None:
    """List the instances, and keep new requests from the unready ones. Where all are, all are asked: one may answer."""
    spared = unready if len(unready) < len(site.instances) else ()
    lines = [
        f"server {instance} max_fails=1 fail_timeout={site.retry_instance_s}s{' down' * (instance in spared)};\n"
        for instance in site.instances
    ]
    _replace(site.instances_file, "".join(lines))


def _replace(path: Path, text: str) -> None:
    # In one step: nginx may read at any moment.
    new = path.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(path)
