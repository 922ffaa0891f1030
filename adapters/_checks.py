"""A check at the door that adapters share."""

from collections.abc import Mapping, Sequence


def check_normalize(
    normalize: Mapping[str, Sequence[float]], channels: int
) -> dict[str, list[float]]:
    """Raise a ValueError unless there are a mean and a positive deviation for each channel.

    Returns:
        The numbers.
    """
    numbers = {key: [float(value) for value in normalize[key]] for key in normalize}
    lengths = {key: len(values) for key, values in numbers.items()}
    fitting = lengths == {"mean": channels, "std": channels}
    if not fitting or not all(value > 0 for value in numbers["std"]):
        raise ValueError(
            f"normalize: expected {channels} numbers as 'mean' and {channels} above 0 as 'std', "
            f"got {numbers}"
        )
    return numbers
