"""Who builds and runs images here: Docker where its daemon answers, else buildah, which needs none.

As root in a container, where namespaces are forbidden, buildah works with `BUILDAH_ISOLATION=chroot` and
`STORAGE_DRIVER=vfs`; both are set unless the environment says otherwise.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.processes import UpFailed
from essays.console import say

BUILDAH_DEFAULTS = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
STOP_PATIENCE_S = 60.0
BASE_PACKAGES = "python3,python3-venv,ca-certificates,libgomp1"
"""What the official Python image has beside Debian, as far as the service needs it."""


class ImageFailed(UpFailed):
    """A step that ended with an error; its own message stands above."""


class Docker:
    """The engine with a daemon."""

    name = "docker"

    def build(self, context: Path, tag: str, options: Sequence[str]) -> None:
        """An image from a Bento's folder."""
        call(["docker", "build", "--tag", tag, "--file", str(dockerfile(context)), *options, str(context)])

    def save(self, tag: str, archive: Path) -> None:
        """The image in a file, each layer a tar inside."""
        call(["docker", "save", "--output", str(archive), tag])

    @contextmanager
    def running(self, tag: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """The image's own entry point, on this machine's network."""
        variables = [option for name in environment for option in ("--env", name)]
        command = ["docker", "run", "--rm", "--network", "host", "--cap-drop", "ALL", *variables, tag]
        yield from _running(command, {**os.environ, **environment})


class Buildah:
    """The engine without one."""

    name = "buildah"

    def build(self, context: Path, tag: str, options: Sequence[str]) -> None:
        """An image from a Bento's folder; in Docker's format, since the other has no health check."""
        command = ["buildah", "build", "--format", "docker", "--tag", tag, "--file", str(dockerfile(context))]
        call([*command, *options, str(context)], self.environment())

    def save(self, tag: str, archive: Path) -> None:
        """The image in a file, each layer a tar inside."""
        call(["buildah", "push", "--quiet", tag, f"docker-archive:{archive}"], self.environment())

    @contextmanager
    def running(self, tag: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """The image's own entry point as the image's user, on this machine's network."""
        container = self._output("from", tag)
        try:
            each_word = '{{range .OCIv1.Config.Entrypoint}}{{.}}{{"\\n"}}{{end}}'
            entry = self._output("inspect", "--format", each_word, container).splitlines()
            # Not by name, as Docker takes them: buildah 1.28 passes nothing then.
            variables = [option for name, value in environment.items() for option in ("--env", f"{name}={value}")]
            yield from _running(["buildah", "run", *variables, container, "--", *entry], self.environment())
        finally:
            call(["buildah", "rm", container], self.environment())

    def environment(self) -> dict[str, str]:
        """This one, with what buildah needs as root in a container."""
        return {**BUILDAH_DEFAULTS, **os.environ}

    def own_base(self, tag: str, folder: Path) -> None:
        """A base image of Debian's packages, for a machine that reaches no registry of images."""
        archive = folder / "base.tar"
        say(f"base image: Debian's {BASE_PACKAGES}")
        call(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(archive)])
        container = self._output("from", "scratch")
        call(["buildah", "add", "--quiet", container, str(archive), "/"], self.environment())
        call(["buildah", "commit", "--quiet", "--rm", container, tag], self.environment())
        archive.unlink()

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(["buildah", *arguments], env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise ImageFailed(f"buildah {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()


Engine = Docker | Buildah


def find_engine() -> Engine:
    """Docker or buildah. Raises ImageFailed where there is neither."""
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode:
        return Docker()
    if shutil.which("buildah"):
        return Buildah()
    raise ImageFailed("no Docker daemon answers and there is no buildah; install one (Debian: apt-get install buildah)")


def dockerfile(bento: Path) -> Path:
    """Where BentoML leaves it."""
    return bento / "env" / "docker" / "Dockerfile"


def call(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run to the end, heard as ours. Raises ImageFailed."""
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        raise ImageFailed(f"{' '.join(command[:2])} ended with code {done.returncode}; its message stands above")


def _running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        # buildah's end is not that of what it runs: without a daemon or a namespace those are processes like any other.
        inside = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        for each in inside:
            with suppress(psutil.NoSuchProcess):
                each.terminate()
        _, left = psutil.wait_procs(inside, timeout=STOP_PATIENCE_S)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(timeout=STOP_PATIENCE_S)
