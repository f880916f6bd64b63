"""Files and tables: addresses, stores, tables and their schemas, ids."""
