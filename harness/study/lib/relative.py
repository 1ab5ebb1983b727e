"""What is left of a patch's success on another artifact than the float network that it was made on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.study.findings import LEAST
from harness.study.lib.inputs import Inputs


def relative(inputs: Inputs, artifact: ArtifactStep, lab: ArtifactStep, case: Case) -> pd.DataFrame:
    """`Inputs.success` with ``relative``: as a share of the same patch's success on the float network `lab`.

    NaN where that is below `LEAST`: a share of next to nothing is noise.
    """
    there, here = inputs.success(artifact, case), inputs.success(lab, case)["success"].to_numpy(float)
    base = here[0] if len(here) and here[0] >= LEAST else np.nan
    return there.assign(relative=there["success"] / base)
