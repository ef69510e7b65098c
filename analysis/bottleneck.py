"""Shows where a step's time goes, by phase and GPU and against the hardware's limits, and what to change first.

    python analysis/bottleneck.py RUN [--gpu H100] [--json [FILE]] [--html FILE]
    python analysis/bottleneck.py --figures analysis/reference-figures.yaml

RUN is a run's id or name; a bare name means its newest FINISHED top-level run. `--figures`
reads the figures of an unrecorded run from a YAML file. Exit codes: 0 done, 1 failed, 2 refused.
"""

from __future__ import annotations

import sys

if __name__ != "__main__":
    # pandas imports a package of this name where there is one (`pandas/core/nanops.py`), and finds this script.
    raise ImportError("analysis/bottleneck.py is a script: import analysis.diagnosis.command instead")


from analysis.diagnosis.command import main
from guidelines_core.terminal import replace_unprintable

replace_unprintable()
sys.exit(main())
