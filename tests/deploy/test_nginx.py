"""nginx's configuration: valid to nginx itself, and at one with the service's calls and bounds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.nginx.certificate import make_certificate
from deploy.nginx.program import nginx_running
from deploy.nginx.site import FILE_PATHS, PROXIED_PATHS, Site, write_instances, write_site
from deploy.processes import UpFailed
from serving.calls import CALLS
from serving.config import ServiceSettings

INSTANCES = ("127.0.0.1:3001", "127.0.0.1:3002")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with nginx's own defaults, and a certificate."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate("fairmark.example", certificate, key)
    return Site(
        folder=tmp_path / "nginx",
        server_names=("fairmark.example", "www.fairmark.example"),
        instances=INSTANCES,
        certificate_file=certificate,
        private_key_file=key,
        user=None,
    )


def checked(site: Site) -> subprocess.CompletedProcess[str]:
    command = ["/usr/sbin/nginx", "-t", "-c", site.config_file, "-e", site.folder / "error.log"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("changes", [{}, {"http_port": None}, {"server_names": ("one.example",), "https_port": 8443}])
def test_nginx_takes_the_configuration_without_a_warning(site: Site, changes: dict[str, object]) -> None:
    write_site(replace(site, **changes))  # type: ignore[arg-type]
    ended = checked(site)
    assert ended.returncode == 0, ended.stderr
    assert "warn" not in ended.stderr


def test_the_command_writes_what_nginx_takes(site: Site) -> None:
    options = ["--folder", site.folder, "--server-name", "fairmark.example", "--user", ""]
    options += ["--certificate", site.certificate_file, "--private-key", site.private_key_file]
    options += ["--instance", INSTANCES[0], "--instance", INSTANCES[1], "--requests-per-s", "3"]
    subprocess.run([sys.executable, "-m", "deploy.nginx.render", *map(str, options)], check=True)
    assert checked(site).returncode == 0
    written = site.config_file.read_text()
    assert "rate=3r/s" in written
    assert str(Path("serving/web/static").absolute()) in written


def test_what_nginx_refuses_is_said_in_its_words(site: Site) -> None:
    write_site(replace(site, certificate_file=site.folder / "none.pem"))
    with pytest.raises(UpFailed, match=r"none\.pem"), nginx_running(site, {"PATH": ""}):
        pytest.fail("it runs")


def test_every_call_but_an_operators_is_passed_on() -> None:
    assert {call.path for call in CALLS if call.scope != "admin"} <= set(PROXIED_PATHS)
    assert not {call.path for call in CALLS if call.scope == "admin"} & set(PROXIED_PATHS)
    assert "/metrics" not in PROXIED_PATHS


def test_every_page_but_an_operators_is_passed_on() -> None:
    pages = {"/", "/class", "/class/validity", "/text"}
    assert pages <= set(PROXIED_PATHS)
    assert "/drift/report" not in PROXIED_PATHS
    assert set(FILE_PATHS) <= pages


def test_its_bounds_are_those_of_the_service(site: Site) -> None:
    service = ServiceSettings()
    assert site.max_body_bytes == service.max_body_bytes
    assert site.max_file_bytes == service.max_file_bytes
    assert site.score_timeout_s > service.timeout_s
    assert site.batch_timeout_s > service.batch_timeout_s + service.timeout_s
    assert site.batch_timeout_s > service.explain.timeout_s + service.timeout_s
    assert site.client_timeout_s <= service.body_timeout_s


def test_the_unready_are_spared_unless_nobody_is_left(site: Site) -> None:
    write_site(site)

    def spared(*unready: str) -> list[str]:
        write_instances(site, unready)
        assert checked(site).returncode == 0
        lines = site.instances_file.read_text().splitlines()
        return [line.split()[1] for line in lines if line.endswith(" down;")]

    assert spared() == []
    assert spared(INSTANCES[1]) == [INSTANCES[1]]
    assert spared(*INSTANCES) == []
