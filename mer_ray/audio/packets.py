"""A hash of a file's audio without its tags: of the encoded packets, which no decoder has to understand."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mer_ray.audio.opened import shown
from mer_ray.errors import TrackError


def packets_digest(path: Path) -> str:
    """SHA-256 of the codecs' headers and of the audio packets with their times, in the file's order.

    Two files with the same digest decode to the same samples. Raises TrackError (corrupt) for what FFmpeg cannot open.
    """
    import av

    digest = hashlib.sha256()
    try:
        # By handle: FFmpeg's own opening knows protocols, and no names that are not UTF-8.
        with path.open("rb") as file, av.open(file, metadata_errors="replace") as container:
            streams = list(container.streams.audio)
            if not streams:
                raise TrackError("corrupt", f"{shown(path)} holds no audio")
            for stream in streams:
                codec = stream.codec_context
                digest.update(f"{codec.name} {codec.sample_rate} {codec.layout.name}\n".encode())
                digest.update(codec.extradata or b"")
            try:
                for packet in container.demux(streams):
                    digest.update(f"\n{packet.stream_index} {packet.pts} {packet.size}\n".encode())
                    digest.update(bytes(packet))
            except av.error.FFmpegError as error:  # damage in the middle: the same one before and after
                digest.update(f"\nends: {error.errno}".encode())
    except av.error.FFmpegError as error:
        raise TrackError("corrupt", f"{shown(path)} cannot be opened ({error.strerror})") from error
    return digest.hexdigest()
