"""A program that prepares services as `bentoml serve` does in its parent process, each in a fork of its own.

Reads a JSON list of environments on stdin; answers with a list of exit codes and what was said. All forks run side by
side, and imports are paid once.
"""

import json
import os
import sys
import traceback
from typing import NoReturn

from bentoml._internal.configuration.containers import BentoMLContainer

from serving.service import EssayScoring


def main() -> None:
    """Fork, collect, answer."""
    children = []
    for environment in json.load(sys.stdin):
        said = os.memfd_create("said")
        pid = os.fork()
        if pid == 0:
            _prepare(environment, said)
        children.append((pid, said))
    answers = []
    for pid, said in children:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.lseek(said, 0, os.SEEK_SET)
        with os.fdopen(said) as file:
            answers.append({"code": code, "said": file.read()})
    json.dump(answers, sys.stdout)


def _prepare(environment: dict[str, str], said: int) -> NoReturn:
    """Ends the process with what `prepare` ends it with."""
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ.update(environment)
    BentoMLContainer.http.host.set("127.0.0.1")
    BentoMLContainer.http.port.set(0)
    code = 1
    try:
        EssayScoring.inner.prepare()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:  # noqa: BLE001 - said, not swallowed
        traceback.print_exc()
    # Threads of libraries did not come along, and at an ordinary end those would wait for them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
