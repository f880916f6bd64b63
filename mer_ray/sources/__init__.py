"""Sources of tracks and tags: a module per source, with a class ``Source`` (`source.TrackSource`).

``lastfm`` has a harvest instead (`stages.collect_lastfm`), which takes hours and caches its responses.
"""
