"""Scores in the audio files' own tags: fields, replacement of a file, log of the former values, and the command."""
