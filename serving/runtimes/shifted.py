"""What a lower precision moved on average, taken back prompt by prompt.

Rounded weights are the same for every essay, so much of the error is the same too: a prompt's scores all move a little
in one direction. The shifts are measured by `export.precisions` and stand in the manifest.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from essays.encoding import Arrays
from essays.manifest import Precision
from essays.outputs import Outputs
from serving.runtimes.interface import Session


class ShiftedSession:
    """Another session, with a number for each prompt added to its scores, and for each trait to its."""

    def __init__(
        self,
        session: Session,
        shifts: Mapping[str, float],
        prompt_ids: Sequence[str],
        trait_shifts: Sequence[float] = (),
    ) -> None:
        """`shifts` are raw unit scores by prompt id, none is 0; `prompt_ids` is in the order of `prompt_index`.

        `trait_shifts` are the traits', in the order of the graph's second output; without any, traits stay as they are.
        """
        self._session = session
        self._trait_shifts = np.array(tuple(trait_shifts) or 0.0, dtype=np.float32)
        self._shifts = np.array([shifts.get(prompt_id, 0.0) for prompt_id in prompt_ids], dtype=np.float32)

    @property
    def runtime(self) -> str:
        """The other's."""
        return self._session.runtime

    @property
    def precision(self) -> Precision:
        """The other's."""
        return self._session.precision

    def outputs(self, arrays: Arrays) -> Outputs:
        """As `Session.outputs`."""
        scores, traits = self._session.outputs(arrays)
        return Outputs(scores + self._shifts[arrays["prompt_index"]], traits + self._trait_shifts)
