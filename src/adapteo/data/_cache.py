"""Where things are kept that take long to find out again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$ADAPTEO_CACHE``, or ``~/.cache/adapteo``; not made until something is written."""
    given = os.environ.get("ADAPTEO_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "adapteo"
