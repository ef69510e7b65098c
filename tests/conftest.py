"""What holds for every test."""

from __future__ import annotations

import os

# As a run has it: otherwise the import of vLLM's HTTP server sets the root logger to ERROR, and the tests after it in
# the same process see no warning.
os.environ["SAGEMAKER_CONTAINER_LOG_LEVEL"] = "WARNING"
