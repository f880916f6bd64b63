"""The stages: each reads tables, calls pure functions and appends to one table. The only rooms that import ray.

Every stage has ``check(config)``, which finds what would make it fail before anything is done, and ``run(config,
workspace)``, which does what is left to do and returns a `Summary`.
"""
