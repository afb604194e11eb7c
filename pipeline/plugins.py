"""Methods found by name: one module per method, imported only when it is used.

There is no registry on purpose: one would import every method, and so make every result
depend on the code of all of them. The digest of a job names the modules it uses instead
(``pipeline.jobs``).
"""

from importlib import import_module
from typing import Any


def find(package: str, module: str, name: str) -> Any:
    """The attribute ``name`` of the method ``pipeline.<package>.<module>``."""
    return getattr(import_module(f"pipeline.{package}.{module}"), name)
