"""Audio files: search, formats, decoding, and providers."""
