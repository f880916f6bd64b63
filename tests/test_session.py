"""The connection to Ray, where there is none."""

from __future__ import annotations

import socket

import pytest

from mer_ray.errors import ConfigError, ServiceError
from mer_ray.stages import session


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1", "127.0.0.1:99999"]
)
def test_a_cluster_that_does_not_answer_ends_at_once(address):
    with pytest.raises(ServiceError, match="cannot join Ray") as caught:
        session.check_reachable(address)
    assert address in str(caught.value)
    assert "--address" in caught.value.hint


def test_joining_it_says_so_too(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"):
        session.connect(None)


def test_a_port_that_cannot_be_is_not_taken_for_another():
    """C's resolver takes it modulo 2^16."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1] + 65_536}"
        with pytest.raises(ServiceError, match="ports end at 65535"):
            session.check_reachable(address)


def test_a_worker_that_got_a_gpu_and_has_none_for_jax_says_so(monkeypatch):
    """Otherwise it would train on the CPU for days."""
    session.check_gpu(0)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ConfigError, match=r"0\.25 of one for each process\), and none for JAX") as caught:
        session.check_gpu(0.25)
    assert "mer-ray[cuda]" in caught.value.hint


def test_work_that_would_wait_for_a_gpu_for_ever_is_refused(ray_session, monkeypatch):
    session.check_fits(0)
    with pytest.raises(ConfigError, match=r"0\.5 of a GPU was asked for each process, and Ray finds 0"):
        session.check_fits(0.5)
    monkeypatch.setattr(session, "_single_node", False)
    session.check_fits(0.5)  # on a cluster, one may yet come
