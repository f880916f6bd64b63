"""Networks: one file each, a complete model in a screenful.

To add a network: write ``models/NAME.py`` with ``build(n_dims, n_targets, rngs)`` and add its name to `NETWORKS`.
"""

from __future__ import annotations

NETWORKS = {"cnn": "mer_ray.models.cnn", "lstm": "mer_ray.models.lstm"}
