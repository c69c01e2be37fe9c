"""How many trials side by side on each device: the candidates, and the search among them. Nothing here runs a trial."""

import math
from collections.abc import Callable, Sequence

import jax


def default_width(device: jax.Device, trials: int) -> int:
    """The rule of thumb for ``trials`` trials on one device: few where cores do the arithmetic, else many.

    On two CPU cores a small CNN on 8×8 images trained 6 epochs of 78 trials in 7.2, 7.8, 10.2, 11.8 s at widths 1, 2,
    4, 8 with two host devices, and in 11.1, 8.1, 9.8 s at 1, 2, 8 with one. Accelerators are still to be measured.
    """
    return min(trials, 2 if device.platform == "cpu" else 256)


def candidates(base: int, thumb: int, trials: int) -> list[int]:
    """The widths worth a try for ``trials`` trials on one device, in order.

    Powers of ``base``, all trials at once, and the rule of ``thumb``. A power is left out if its last pack is so empty
    that more than a fifth of all lanes would hold copies.
    """
    powers = [base**exponent for exponent in range(trials.bit_length()) if base**exponent <= trials]
    fitting = {width for width in powers if width * calls(width, trials) <= 1.25 * trials}
    return sorted({*fitting, trials, thumb})


def calls(width: int, trials: int) -> int:
    """Packs that ``trials`` trials on one device take; the last is filled up with copies."""
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
    """Try widths from ``first`` on, in the direction that helps until it stops helping.

    What counts is the time of one segment of all trials: seconds of one call × number of packs, the last of which is
    full too, with copies.

    Args:
        seconds_of: ``width -> seconds`` of one call of a pack's segment; ``inf`` where memory ran out.
        widths: the candidates, in order.
        first: the one to begin with.
        trials: on one device.
        worth: whether one more try pays, given the seconds of all trials at the best width so far.
        smallest_within: also look at smaller widths as long as they are at most this fraction slower than the best.

    Returns:
        the seconds of all trials at each width tried.
    """
    found = {first: seconds_of(first) * calls(first, trials)}

    def helps(width: int, limit: float) -> bool:
        found[width] = seconds_of(width) * calls(width, trials)
        return found[width] <= limit

    def best() -> float:
        return min(found.values())

    at = widths.index(first)
    if math.isfinite(best()):  # what is too large already is not made larger
        for width in widths[at + 1 :]:
            if not (worth(best()) and helps(width, math.nextafter(best(), 0))):
                break
    if best() == found[first] or smallest_within:
        for width in reversed(widths[:at]):
            if not (worth(best()) and helps(width, best() * (1 + smallest_within))):
                break
    return found


def chosen(found: dict[int, float], smallest_within: float = 0.0) -> int:
    """The smallest width that is at most a fraction ``smallest_within`` slower than the fastest."""
    limit = min(found.values()) * (1 + smallest_within)
    return min(width for width, seconds in found.items() if seconds <= limit)
