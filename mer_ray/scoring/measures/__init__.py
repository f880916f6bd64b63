"""What is measured of a track beside its scores: tempo, key, loudness, true peak."""
