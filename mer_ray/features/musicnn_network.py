"""musicnn's arrays and tags, and what follows from their definition: no compute.

Pons & Serra (2019), "musicnn: pre-trained convolutional neural networks for music audio tagging", ISMIR late-breaking
demo; Pons et al. (2018), "End-to-end learning for music audio tagging at scale", ISMIR. Two networks of one shape,
trained on the Million Song Dataset (``msd``) and MagnaTagATune (``mtt``). A patch of 187 log-mel frames (3 s) goes
through

- batch normalisation of the input, one scale and shift;
- *timbral* filters of 7 frames by 38 and by 67 bands, and *temporal* filters of 128, 64 and 32 frames by one band, each
  followed by the maximum over bands;
- three convolutions over 7 frames and all channels, the last two with a residual;
- the maximum and the mean over time of all channels so far, and two dense layers: 200 units (*penultimate*), 50 tags.

Batch normalisation stands after every ReLU, and after the pooling. It is stored as ``scale`` and ``shift``.
"""

from __future__ import annotations

N_BANDS = 96
PATCH_FRAMES = 187
TAPS = 7  # frames of a timbral filter, and of a convolution
TIMBRAL = {"timbral38": 38, "timbral67": 67}  # bands of each filter
TEMPORAL = {"temporal128": 128, "temporal64": 64, "temporal32": 32}  # frames of each filter
N_TIMBRAL, N_TEMPORAL = 204, 51  # filters of each kind
CONVOLUTIONS = ("conv1", "conv2", "conv3")
N_FRONT = 2 * N_TIMBRAL + 3 * N_TEMPORAL  # channels before the convolutions: 561
N_MIDDLE = 64  # channels of each convolution
N_POOLED = 2 * (N_FRONT + 3 * N_MIDDLE)  # maximum and mean of each channel, in turn: 1,506
N_PENULTIMATE, N_TAGS = 200, 50
EPSILON = 1e-3  # of batch normalisation

_MSD = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,"
    "metal,chillout,male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,"
    "instrumental,punk,oldies,blues,hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-"
    "Hop,70s,party,country,easy listening,sexy,catchy,funk,electro,heavy metal,Progressive rock,60s,"
    "rnb,indie pop,sad,House,happy"
)
_MTT = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,"
    "vocal,synth,female,indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,"
    "woman,male vocal,no vocal,pop,soft,sitar,solo,man,classic,choir,voice,new age,dance,male voice,"
    "female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,choral"
)
TAGS = {"msd": _MSD.split(","), "mtt": _MTT.split(",")}
"""The tags of each network, in the order of its outputs (configuration.py of the release)."""


def kernels() -> dict[str, tuple[int, ...]]:
    """The shape of each layer's kernel; the last axis is that of its outputs."""
    return {
        **{name: (TAPS, bands, N_TIMBRAL) for name, bands in TIMBRAL.items()},
        **{name: (frames, N_TEMPORAL) for name, frames in TEMPORAL.items()},
        **{name: (TAPS, N_MIDDLE if i else N_FRONT, N_MIDDLE) for i, name in enumerate(CONVOLUTIONS)},
        "penultimate": (N_POOLED, N_PENULTIMATE),
        "tags": (N_PENULTIMATE, N_TAGS),
    }


def normalised() -> dict[str, int]:
    """The width of each batch normalisation, named like the layer that it follows."""
    layers = {name: shape[-1] for name, shape in kernels().items() if name != "tags"}
    return {"input": 1, **layers, "pooled": N_POOLED}


def shapes() -> dict[str, tuple[int, ...]]:
    """All arrays of one network by name: ``LAYER/kernel``, ``/bias``, ``/scale`` and ``/shift``."""
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in kernels().items():
        result[f"{name}/kernel"], result[f"{name}/bias"] = shape, shape[-1:]
    for name, width in normalised().items():
        result[f"{name}/scale"] = result[f"{name}/shift"] = (width,)
    return result
