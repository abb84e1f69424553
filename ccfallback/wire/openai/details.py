"""OpenRouter's `reasoning_details`, which it wants back as it gave them."""

from typing import Any, Final

_TEXTS: Final = ("text", "summary", "data")
"""What comes in fragments; the other members come once, or are repeated."""


class Details:
    """Puts the details of a stream together."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, details: object) -> None:
        """Take the details of one chunk."""
        for detail in details if isinstance(details, list) else ():
            if not isinstance(detail, dict):
                continue
            last = self._items[-1] if self._items else None
            if last is None or any(last.get(key) != detail.get(key) for key in ("type", "index")):
                self._items.append(dict(detail))
            else:
                _append(last, detail)

    def envelope(self) -> dict[str, Any] | None:
        """What a signature is to carry, once."""
        items, self._items = self._items, []
        return envelope(items)


def envelope(items: object) -> dict[str, Any] | None:
    """What a signature is to carry for these details."""
    return {"reasoning_details": items} if items and isinstance(items, list) else None


def _append(item: dict[str, Any], fragment: dict[str, Any]) -> None:
    for key, value in fragment.items():
        before = item.get(key)
        if key in _TEXTS and isinstance(before, str) and isinstance(value, str):
            item[key] = before + value
        elif value is not None:
            item[key] = value
