"""The command as a module: ``python -m fourcaster.forecast``, for launchers such as ``torchrun``."""

from .cli.main import main

if __name__ == "__main__":
    main()
