"""The command `python -m guidelines_core.grading`."""

from __future__ import annotations

import sys

from guidelines_core.grading.pool import main

sys.exit(main())
