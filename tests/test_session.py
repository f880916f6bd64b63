"""The connection to Ray, where there is none."""

from __future__ import annotations

import pytest

from mer_ray.errors import ServiceError
from mer_ray.stages import session


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1", "127.0.0.1:99999"]
)
def test_a_cluster_that_does_not_answer_ends_at_once(address):
    with pytest.raises(ServiceError, match="cannot join Ray") as caught:
        session._knock(address)
    assert address in str(caught.value)
    assert "--address" in caught.value.hint


def test_joining_it_says_so_too(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"):
        session.connect(None)
