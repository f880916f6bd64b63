"""Where things are kept and how they are written: addresses, stores, tables and their schemas, ids."""
