"""The SQL of the engine in files of its own, with a sentence for each step."""

from importlib.resources import files


def read(name: str) -> str:
    """The statement in ``name``, without its comments."""
    lines = files(__package__ or "").joinpath(name).read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("--"))
