"""The command `python -m guidelines_core.grading`."""

from __future__ import annotations

import sys

from guidelines_core.grading.command import main

sys.exit(main())
