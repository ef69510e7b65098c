"""Imported by a warm interpreter: what its processes start by `sys.executable` is warm, too."""

import multiprocessing.spawn
import os
import sys

sys.executable = os.fsdecode(multiprocessing.spawn.get_executable())
