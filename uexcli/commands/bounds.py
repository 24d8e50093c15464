"""Bounds that were meant for another norm: told before any work."""

from __future__ import annotations

from uexcli import plugin
from uexcli.errors import UsageError

FAR = 16  # times what is usual; below it, nothing of the noise is left once it is rounded to whole levels


def check(norm: plugin.Norm, text: str, eps: float, usual: str, *, at: str, hint: str = "") -> None:
    """Refuse an eps that is far from `usual`, as typed, which holds at the size that `at` says.

    Norms that limit each value say themselves what they allow, and few changed values are seen however few they are.

    Raises:
        UsageError: it is below a sixteenth or above sixteen times of it.
    """
    if not norm.bounded or norm.sparse or norm.levels(eps) is not None:
        return
    try:
        wanted = norm.parse(usual)
    except UsageError:  # a stranger's release says it
        return
    if wanted / FAR <= eps <= wanted * FAR:
        return
    side = "below" if eps < wanted else "above"
    raise UsageError(
        f"`eps={text}`: far {side} what is usual for norm '{norm.name}', which is {usual}{at}.",
        hint=f"Leave `eps` out, or write `eps={usual}`{hint}.",
    )


def instead(method: plugin.Method, norm: plugin.Norm, linf: plugin.Norm, text: str) -> str:
    """What else could be typed: the same bound under linf, if the method knows that and the bound can be meant."""
    if norm.name == linf.name or (method.norms and linf.name not in method.norms):
        return ""
    try:
        linf.parse(text)
    except UsageError:
        return ""
    return f", or `norm={linf.name}` `eps={text}`"
