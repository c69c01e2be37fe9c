"""Width, the number of trials per device: candidates, and the search among them. No trial runs here."""

import math
from collections.abc import Callable, Sequence

import jax


def default_width(device: jax.Device, trials: int) -> int:
    """Default width for ``trials`` trials on one device: small on a CPU, large on an accelerator.

    On two CPU cores a small CNN on 8×8 images trained 6 epochs of 78 trials in 7.2, 7.8, 10.2, 11.8 s at widths 1, 2,
    4, 8 with two host devices, and in 11.1, 8.1, 9.8 s at 1, 2, 8 with one. Accelerators have not been measured.
    """
    return min(trials, 2 if device.platform == "cpu" else 256)


def candidates(base: int, default: int, trials: int) -> list[int]:
    """Candidate widths for ``trials`` trials on one device, in ascending order.

    They are powers of ``base``, all trials at once, and ``default``. A power is left out if more than a fifth of all
    lanes would hold copies.
    """
    powers = [base**exponent for exponent in range(trials.bit_length()) if base**exponent <= trials]
    fitting = {width for width in powers if width * pack_count(width, trials) <= 1.25 * trials}
    return sorted({*fitting, trials, default})


def pack_count(width: int, trials: int) -> int:
    """Number of packs for ``trials`` trials on one device; copies fill up the last one."""
    return -(-trials // width)


def search(
    seconds_of: Callable[[int], float],
    widths: Sequence[int],
    first: int,
    trials: int,
    *,
    worth: Callable[[float], bool] = lambda seconds: True,
    smallest_within: float = 0.0,
) -> dict[int, float]:
    """Time widths from ``first`` on, first larger then smaller ones, as long as training gets faster.

    The criterion is the time of one segment of all trials: seconds of one call × number of packs.

    Args:
        seconds_of: ``width -> seconds`` of one segment of a pack; ``inf`` if memory ran out.
        widths: the candidates, in ascending order.
        first: the width to begin with.
        trials: number of trials on one device.
        worth: whether to time one more width, given the seconds of all trials at the best width so far.
        smallest_within: also try smaller widths while they are at most this fraction slower than the best.

    Returns:
        The seconds of all trials at each width tried.
    """
    found = {first: seconds_of(first) * pack_count(first, trials)}

    def helps(width: int, limit: float) -> bool:
        found[width] = seconds_of(width) * pack_count(width, trials)
        return found[width] <= limit

    def best() -> float:
        return min(found.values())

    at = widths.index(first)
    if math.isfinite(best()):  # if the first width is too large, larger ones are too
        for width in widths[at + 1 :]:
            if not (worth(best()) and helps(width, math.nextafter(best(), 0))):
                break
    if best() == found[first] or smallest_within:
        for width in reversed(widths[:at]):
            if not (worth(best()) and helps(width, best() * (1 + smallest_within))):
                break
    return found


def choose(found: dict[int, float], smallest_within: float = 0.0) -> int:
    """Choose the smallest width that is at most a fraction ``smallest_within`` slower than the fastest."""
    limit = min(found.values()) * (1 + smallest_within)
    return min(width for width, seconds in found.items() if seconds <= limit)
