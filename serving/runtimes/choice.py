"""Which runtime runs which model: the best that this machine has, or the one that the settings name.

Runtimes are imported when a model is opened: the service's parent process opens none, and need not hold them.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from essays.manifest import Manifest, Precision
from serving.runtimes.external_data import require_no_external_data
from serving.runtimes.interface import Runtime, Session
from serving.runtimes.precision import PrecisionSetting, choose_precisions
from serving.runtimes.shifted import ShiftedSession

RuntimeSetting = Literal["auto", "onnxruntime", "openvino", "cuda", "tensorrt"]
TRANSFORMERS = frozenset({"encoder", "probe", "decoder"})
"""Kinds of models that OpenVINO runs best on a CPU."""


class Runtimes:
    """The runtimes of a service; each is made when the first model needs it."""

    def __init__(
        self, setting: RuntimeSetting = "auto", cache: Path | None = None, precision: PrecisionSetting = "auto"
    ) -> None:
        """`cache` is for compiled graphs, in a folder for each model's.

        Raises BadParams when the machine lacks what the setting names.
        """
        self.setting = setting
        self.precision = precision
        self._cache = cache
        self._made: dict[RuntimeSetting, Runtime] = {}
        self._making = threading.Lock()
        if setting != "auto":
            self._runtime(setting)

    def precisions(self, manifests: Sequence[Manifest]) -> dict[str, Precision]:
        """The precision of each single model among those served. Raises BadParams for a setting that none can meet."""
        from serving.runtimes.openvino_cpu import multiplies

        return choose_precisions(manifests, self._name_for, multiplies, self.precision)

    def open(self, manifest: Manifest, folder: Path, num_lanes: int, precision: Precision = "fp32") -> list[Session]:
        """A session of the model for each lane. Raises GraphInvalid when its file is not what the manifest says."""
        graph, parity = manifest.graph_at(precision), manifest.parity_at(precision)
        require_no_external_data(folder / graph.file)
        sessions = self._runtime(self._name_for(manifest)).open(graph, folder, num_lanes)
        if parity is None:
            return sessions
        names = manifest.traits.names if manifest.traits else ()
        trait_shifts = [parity.traits[name].shift for name in names]
        return [ShiftedSession(each, parity.shifts, manifest.prompt_ids, trait_shifts) for each in sessions]

    def lanes(self, num_cores: int) -> int:
        """How many essays are best in work at once: one a core, many more where a GPU takes them in batches."""
        from serving.runtimes.onnxruntime_gpu import LANES, best_provider

        on_gpu = best_provider() is not None if self.setting == "auto" else self.setting in ("cuda", "tensorrt")
        return LANES if on_gpu else num_cores

    def _name_for(self, manifest: Manifest) -> RuntimeSetting:
        return self.setting if self.setting != "auto" else best_runtime(manifest)

    def _runtime(self, name: RuntimeSetting) -> Runtime:
        with self._making:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: RuntimeSetting) -> Runtime:
        if name == "openvino":
            from serving.runtimes.openvino_cpu import OpenVinoCpu

            return OpenVinoCpu(self._cache)
        if name == "cuda" or name == "tensorrt":
            from serving.runtimes.onnxruntime_gpu import OnnxRuntimeGpu

            return OnnxRuntimeGpu(name, self._cache)
        from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu()


def best_runtime(manifest: Manifest) -> RuntimeSetting:
    """A GPU where one answers; else OpenVINO for transformers, ONNX Runtime for the small graphs of the others."""
    from serving.runtimes.onnxruntime_gpu import best_provider

    return best_provider() or ("openvino" if manifest.kind in TRANSFORMERS else "onnxruntime")
