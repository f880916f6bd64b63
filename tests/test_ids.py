"""Sets of ids against Python's own sets."""

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.io.ids import Ids

OWN = st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}")
NEAR = st.sampled_from(["0" * 15, "0" * 17, "F" * 16, "g" * 16, "é" * 8, "", "mine", "0" * 16, "f" * 16, "ab\x00" * 5])
ID = st.one_of(OWN, NEAR, st.integers(0, 9).map(lambda n: f"{n:016x}"), st.text(max_size=20))


def as_list(ids):
    return ids


def as_column(ids):
    """In pieces, and not at the start of its buffer."""
    half = len(ids) // 2
    pieces = [pa.array(["x", *part], pa.string()).slice(1) for part in (ids[:half], ids[half:])]
    return pa.chunked_array(pieces, pa.string())


@given(
    st.lists(st.lists(ID, max_size=30), max_size=8), st.lists(ID, max_size=30), st.sampled_from([as_list, as_column])
)
def test_like_a_set(batches, asked, given_as):
    ids, expected = Ids(), set()
    for batch in batches:
        new = []
        for i in batch:
            new.append(i not in expected)
            expected.add(i)
        assert ids.add(given_as(batch)).tolist() == new
        assert len(ids) == len(expected)
    assert ids == expected
    assert set(ids) == expected
    assert ids.mask(given_as(asked)).tolist() == [i in expected for i in asked]
    assert [i in ids for i in asked] == [i in expected for i in asked]
    assert ids - set(asked) == expected - set(asked)
    assert ids | set(asked) == expected | set(asked)
    assert ids & set(asked) == expected & set(asked)


def test_a_hundred_thousand_ids_take_eight_bytes_each():
    names = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(100_000)]
    ids = Ids()
    for start in range(0, len(names), 777):
        assert ids.add(names[start : start + 777]).all()
    assert len(ids) == len(names)
    assert ids.nbytes == 8 * len(names)
    assert ids.mask(names).all()
    there = set(names)
    assert not ids.mask([n[::-1] for n in names if n[::-1] not in there]).any()
