"""``python -m mer_ray`` is the command ``mer-ray``."""

from mer_ray.cli import main

if __name__ == "__main__":
    main()
