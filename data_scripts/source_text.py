"""`PATH[:key=value]...`, the way in which inputs with options of their own are written on the command line."""

from collections.abc import Collection


def path_and_options(text: str, keys: Collection[str], *, expected: str) -> tuple[str, dict[str, str]]:
    """The path and the options of a text.

    Args:
        text: path and options, parted by colons; neither may contain one.
        keys: the options there are, each at most once.
        expected: the form, for messages.

    Raises:
        ValueError: for a text without a path, an option of another name, without a value, or given twice.
    """
    path, *options = text.split(":")
    chosen: dict[str, str] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if key not in keys or not separator or not value or key in chosen:
            raise ValueError(f"{text!r}: {option!r} is no option; expected {expected}")
        chosen[key] = value
    if not path:
        raise ValueError(f"{text!r} names no file; expected {expected}")
    return path, chosen
