"""Ranges and conditions against plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.api.ranges import Span, Unsatisfiable, not_modified, span

ETAG = '"abc"'
sizes = st.integers(0, 1000)
places = st.integers(0, 1100)


def cut(content: bytes, header: str) -> bytes | None:
    """What a range of the content is; None for the whole."""
    found = span({"range": header}, ETAG, len(content))
    return None if found is None else content[found.start : found.stop]


@given(sizes, places, places)
def test_a_range_is_a_slice(size: int, first: int, last: int) -> None:
    """`bytes=a-b` and `bytes=a-` are slices with the end included, or cannot be satisfied."""
    content = bytes(number % 251 for number in range(size))
    if first >= size and first <= last:
        with pytest.raises(Unsatisfiable):
            cut(content, f"bytes={first}-{last}")
    elif first <= last:
        assert cut(content, f"bytes={first}-{last}") == content[first : last + 1]
    else:
        assert cut(content, f"bytes={first}-{last}") is None
    if first < size:
        assert cut(content, f"bytes={first}-") == content[first:]


@given(sizes, st.integers(1, 1100))
def test_a_suffix_is_the_end(size: int, count: int) -> None:
    """`bytes=-n` is the last n bytes, or all if there are fewer."""
    content = bytes(number % 251 for number in range(size))
    if content:
        assert cut(content, f"bytes=-{count}") == content[-count:]
    else:
        with pytest.raises(Unsatisfiable):
            cut(content, f"bytes=-{count}")


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", f"bytes={10**18}-"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    """What begins at the end or behind it is said to be so."""
    with pytest.raises(Unsatisfiable):
        span({"range": header}, ETAG, 10)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "bytes=5-2",
        "lines=0-1",
        "bytes=٣-",
        f"bytes={10**30}-",
        "0-1",
    ],
)
def test_what_is_not_one_range_of_bytes_means_the_whole(header: str) -> None:
    """Several ranges, other units and nonsense are answered with everything."""
    assert span({"range": header}, ETAG, 10) is None


@given(st.text())
def test_any_header_is_answered(header: str) -> None:
    """Whatever a header says, there is a span within the file, or none."""
    try:
        found = span({"range": header}, ETAG, 10)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found.start < found.stop <= 10


@pytest.mark.parametrize(
    ("if_range", "holds"),
    [
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"other"', False),
        ("Sat, 01 Jan 2000 00:00:00 GMT", False),
    ],
)
def test_a_range_of_other_bytes_means_the_whole(if_range: str, holds: bool) -> None:
    """If-Range counts only with the very ETag."""
    found = span({"range": "bytes=1-2", "if-range": if_range}, ETAG, 10)
    assert found == (Span(1, 3) if holds else None)


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (ETAG, True),
        (f"W/{ETAG}", True),
        (f'"x", {ETAG}', True),
        ("*", True),
        ('"x"', False),
        ("abc", False),
        ("", False),
    ],
)
def test_the_same_bytes_are_not_sent_again(header: str, same: bool) -> None:
    """If-None-Match holds for the ETag, weak or in a list, and for `*`."""
    assert not_modified({"if-none-match": header}, ETAG) is same
    assert not not_modified({}, ETAG)
