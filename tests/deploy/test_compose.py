"""compose.yaml as a compose program reads it, the secrets that it names, and what its images are made of."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grimp
import httpx
import pytest
import yaml

from deploy.compose.__main__ import make_files
from essays.ports import owner_of_port
from tests.serving.processes import free_port


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that compose reads, with secrets of their own."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copytree(root / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    make_files(folder / ".make/compose", "localhost", folder / ".make/signing")
    return folder


@pytest.fixture(scope="module")
def config(checkout: Path) -> dict[str, Any]:
    """compose.yaml, resolved and checked by docker-compose, which needs no engine for it."""
    done = subprocess.run(
        ["docker-compose", "-f", "deploy/compose.yaml", "--profile", "traces", "config"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    resolved: dict[str, Any] = yaml.safe_load(done.stdout)
    return resolved


def test_a_misspelt_key_is_found_out(checkout: Path, tmp_path: Path) -> None:
    wrong = (checkout / "deploy/compose.yaml").read_text("utf-8").replace("stop_grace_period", "stop_grace")
    (checkout / "deploy/wrong.yaml").write_text(wrong, "utf-8")
    command = ["docker-compose", "-f", "deploy/wrong.yaml", "config", "-q"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "stop_grace" in done.stderr


def test_the_whole_site_is_there_and_only_nginx_is_open_to_the_world(config: dict[str, Any]) -> None:
    services = config["services"]
    assert set(services) == {
        "nginx", "service-1", "service-2", "s3", "buckets", "postgresql", "mlflow", "prometheus", "grafana", "traces",
    }  # fmt: skip
    # Those of one address come as text, those of any as a mapping.
    open_to_all = {
        (name, port["published"])
        for name, service in services.items()
        for port in service.get("ports", [])
        if not str(port).startswith("127.0.0.1:")
    }
    assert open_to_all == {("nginx", 443), ("nginx", 80)}
    for name, service in services.items():
        image = service.get("image", "built:here")
        assert re.search(r":v?[\w.-]+$", image), name
        assert not image.endswith(":latest") or image == "fairmark:latest"
        if name != "buckets":
            assert service["restart"] == "unless-stopped"
            assert service["security_opt"] == ["no-new-privileges:true"]
    for name in ("service-1", "service-2"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert "healthcheck" in services[name]


def test_every_file_that_compose_mounts_or_builds_from_is_there(config: dict[str, Any], checkout: Path) -> None:
    mounted = [
        Path(volume.split(":")[0])
        for service in config["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("/")
    ]
    secrets = [Path(secret["file"]) for secret in config["secrets"].values()]
    built = [service["build"] for service in config["services"].values() if "build" in service]
    files = [Path(each["context"]) / each["dockerfile"] for each in built]
    assert len(mounted + secrets + files) > 10
    assert [path for path in mounted + secrets + files if not path.exists()] == []
    targets = yaml.safe_load((checkout / "deploy/prometheus/targets.json").read_text("utf-8"))
    assert [each.split(":")[0] for group in targets for each in group["targets"]] == ["service-1", "service-2"]


def test_secrets_are_made_once_and_nobody_else_gets_in(checkout: Path) -> None:
    folder = checkout / ".make/compose"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    make_files(folder, "localhost", checkout / ".make/signing")
    assert {path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]} == set()
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o644} == {"certificate.pem", "grafana-password", "s3.json"}
    assert set(modes.values()) == {0o600, 0o644}


def test_the_image_of_nginx_holds_what_its_program_imports(root: Path) -> None:
    graph = grimp.build_graph("deploy", "essays")
    needed = {"deploy.nginx.__main__", *graph.find_upstream_modules("deploy.nginx.__main__")}
    files = {
        path
        for name in needed | {"deploy", "essays"}
        for path in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py")
        if (root / path).is_file()
    }
    lines = re.findall(r"^COPY (.*)", (root / "deploy/compose/front.Dockerfile").read_text("utf-8"), re.M)
    copied = {source for line in lines for source in line.split()[:-1]}
    assert {file for file in files if file not in copied and "deploy/nginx" not in file} == set()
    assert {source for source in copied if source.endswith(".py")} <= files
    assert {"deploy/nginx", "serving/web/static"} <= copied


def test_nginx_runs_as_its_container_does_and_ends_at_a_signal(checkout: Path, root: Path, tmp_path: Path) -> None:
    port, instance = free_port(), free_port()
    secrets = checkout / ".make/compose"
    user = "root" if os.geteuid() == 0 else ""
    command = [
        sys.executable, "-m", "deploy.nginx", f"--folder={tmp_path / 'nginx'}", "--server-name=localhost",
        f"--instance=127.0.0.1:{instance}", f"--certificate={secrets / 'certificate.pem'}", "--http-port=0",
        f"--private-key={secrets / 'private.pem'}", f"--https-port={port}", f"--user={user}",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert process.stderr.readline() == f"nginx: serving localhost at port {port}\n"
            answer = httpx.get(f"https://localhost:{port}/status", verify=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    deadline = time.monotonic() + 5
    while owner_of_port(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)
