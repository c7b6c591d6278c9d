"""What is checked where: from the environment."""

import os
from collections.abc import Callable

DEVICE = os.environ.get("HAINA_GPU_CHECK_DEVICE", "cuda")
"""`cpu` runs the same checks without a GPU: to see that they run."""
MODELS = [one.strip() for one in os.environ.get("HAINA_GPU_MODELS", "").split(",") if one.strip()]
"""Folders of real models, separated by commas."""

Note = Callable[[str, str], None]
"""Takes what was measured and the figure with its unit."""
