"""Where tracks and tags come from: a module per source, with a class ``Source`` (`source.TrackSource`).

``lastfm`` is harvested (`stages.collect_lastfm`), since it takes hours and its tables follow from stored responses.
"""
