"""Where tracks, tags and audio come from. One file per source; none of them knows of Ray or of the workspace.

A source of tracks yields a `Track` for each one that it found and, for each one that it lost, the little that it knows
of it with a TrackError (yielded, not raised); it raises a MerRayError when it cannot go on at all. A source of audio is
a function that fetches one file, or raises TrackError.
"""
