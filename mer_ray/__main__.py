"""``python -m mer_ray`` is the command ``mer-ray``, which starts here."""

import sys

from mer_ray.child_process import leave_current_folder


def main(arguments: list[str] | None = None) -> None:
    """Run the command, without imports from the current folder. arguments: by default of the process."""
    leave_current_folder()
    if sys.platform == "win32":
        sys.exit("mer-ray: error: mer-ray needs Linux or macOS: on Windows, run it in WSL (docs/how-to/install.md)")
    from mer_ray.cli import main as command

    if arguments is not None:
        sys.argv[1:] = arguments
    command()


if __name__ == "__main__":
    main()
