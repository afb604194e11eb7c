"""What the tests of faults share: the document of outcomes, and a server that misbehaves."""

from tests.faults.server import server
from tests.robustness import (
    _section,
    outcome,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
)

__all__ = [
    "_section",
    "outcome",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "server",
]
