"""What must hold whatever comes: property tests of the filter, few cases each time, many in the nightly run."""

import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import pytest
from hypothesis import HealthCheck, settings

P = ParamSpec("P")
T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("HAINA_TEST_EXAMPLES", "2000"))
"""Cases of each invariant. `make nightly` sets 100,000."""


def invariant(test: Callable[P, T]) -> Callable[P, T]:
    """Mark a property test as one of the filter's invariants."""
    many = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    return pytest.mark.invariant(many(test))
