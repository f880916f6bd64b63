"""``python -m mer_ray`` is the command ``mer-ray``, which starts here."""

from mer_ray.importing import leave_current_folder


def main() -> None:
    """First of all, nothing more is imported from the current folder."""
    leave_current_folder()
    from mer_ray.cli import main as command

    command()


if __name__ == "__main__":
    main()
