"""The explorer: a catalog's scores as one HTML page that works offline."""
