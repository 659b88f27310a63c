"""What is wrong with scenes and labels, said before anything is trained. No torch.

    adapteo.yaml ──▶ View (scenes, sampled pixels, labels, plan; each read once) ──▶ checks ──▶ Checked
                                                                                     terminal · JSON · one HTML page

The file system is the registry: each file of this folder whose name has no leading underscore is a check. It exports a
`Check` under the constant ``CHECK``, and the first line of its docstring says what it looks for.
"""

from adapteo.check._before import before_training
from adapteo.check._findings import Check, Checked, Finding
from adapteo.check._page import write_page
from adapteo.check._reading import Source, read_source
from adapteo.check._running import names, run
from adapteo.check._terminal import lines, show
from adapteo.check._view import View

__all__ = [
    "Check", "Checked", "Finding", "Source", "View", "before_training", "lines", "names", "read_source", "run", "show",
    "write_page",
]  # fmt: skip
