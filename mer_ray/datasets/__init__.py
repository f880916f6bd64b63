"""Published data sets of music with emotion labels: a copy that the user has downloaded → what ``mer-ray run`` takes.

One file a data set, with a subclass of `base.DataSet`. Nothing is downloaded: most of them may only be used under their
own terms. `conversion.run` is the command ``mer-ray dataset``.
"""

from __future__ import annotations

DATASETS = {
    "deam": "mer_ray.datasets.deam",
    "emomusic": "mer_ray.datasets.emomusic",
    "pmemo": "mer_ray.datasets.pmemo",
    "muse": "mer_ray.datasets.muse",
    "musav": "mer_ray.datasets.musav",
    "eerola": "mer_ray.datasets.eerola",
    "vgmidi": "mer_ray.datasets.vgmidi",
    "panda4q": "mer_ray.datasets.panda4q",
    "mtg-jamendo-mood": "mer_ray.datasets.mtg_jamendo_mood",
}
"""Name → module, which has the data set as ``DATASET``."""
