"""The unresolved failures of a workspace by stage and reason, with advice: for `mer-ray status` and the report."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mer_ray.io.advice import advice
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace
from mer_ray.scoring import sql

EXAMPLES = 2


def groups(workspace: Workspace) -> list[dict[str, Any]]:
    """stage, reason, count, transient (how many of them), advice, and examples (messages); the commonest first."""
    found = sql.query(
        "SELECT stage, reason, count(*) AS count, count_if(transient)::BIGINT AS transient, list(message) AS examples "
        "FROM failures GROUP BY stage, reason ORDER BY count DESC, stage, reason",
        failures=pa.Table.from_pylist(workspace.failures(), schema=SCHEMAS["failures"]),
    ).to_pylist()
    return [{**group, "advice": advice(group["reason"]), "examples": group["examples"][:EXAMPLES]} for group in found]
