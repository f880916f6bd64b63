"""Which machines are taken for sick: where far more fails than on the others, or what others can read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mer_ray.stages.machines import SICK_ROWS, Machines
from mer_ray.stages.task import Node

NODES = [Node(f"id{i}", f"10.0.0.{i}") for i in range(8)]


def cluster(n: int = 8) -> Machines:
    return Machines(lambda: {node.id for node in NODES[:n]})


def eaten(sick: int, missing: float, faster: int = 20, rows: int = 20_000, block: int = 16) -> tuple[int, set[str]]:
    """(rows that failed on sick machines, the machines that were set aside) while a catalog is worked off.

    missing: share of the files that no machine finds. faster: how many times as fast failing is.
    """
    machines, rng, lost, done = cluster(), np.random.default_rng(0), 0, 0
    while done < rows:
        able = [i for i in range(8) if NODES[i].id not in machines.aside]
        pace = np.array([faster if i < sick else 1 for i in able], float)
        i = int(rng.choice(able, p=pace / pace.sum()))
        doubts = block if i < sick else int(rng.binomial(block, missing))
        machines.count(NODES[i], block, doubts)
        done += block
        lost += block * (i < sick)
        if machines.verdict(NODES[i]):
            machines.set_aside(NODES[i])
    return lost, set(machines.aside)


@pytest.mark.parametrize("sick", [0, 1, 2, 3])
@pytest.mark.parametrize("missing", [0.0, 0.05])
def test_the_sick_ones_of_eight_are_found_soon(sick, missing):
    lost, aside = eaten(sick, missing)
    assert aside == {node.id for node in NODES[:sick]}
    assert lost < 2_000


def test_a_catalog_of_which_half_is_gone_makes_nobody_sick():
    assert eaten(0, 0.5) == (0, set())


def test_a_machine_that_does_not_see_what_the_driver_sees_is_sick_though_no_other_has_reported(tmp_path):
    files = [tmp_path / f"{i}.flac" for i in range(SICK_ROWS)]
    for file in files:
        file.touch()
    rows = pa.table({"uri": [str(file) for file in files]})
    machines = cluster(2)
    machines.count(NODES[0], SICK_ROWS, SICK_ROWS, rows)
    assert machines.verdict(NODES[0]).startswith(f"{SICK_ROWS} of its {SICK_ROWS} tracks")
    gone = cluster(2)
    for file in files:
        file.unlink()
    gone.count(NODES[0], SICK_ROWS, SICK_ROWS, rows)
    assert gone.verdict(NODES[0]) == "", "they are not there"


def test_the_last_machine_works_on():
    machines = cluster(2)
    assert machines.set_aside(NODES[0])
    assert not machines.set_aside(NODES[0])
    assert not machines.set_aside(NODES[1])
    assert machines.to_avoid() == [NODES[0].id]
    assert machines.to_avoid([NODES[1]]) == [NODES[0].id], "a doubtful row of the healthy one comes there again"
    assert cluster(2).to_avoid([NODES[1]]) == [NODES[1].id]
    assert cluster(1).to_avoid([NODES[0]]) == []
