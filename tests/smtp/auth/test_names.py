"""Names of domains that send mail."""

import pytest

from maillinkd.smtp.auth.names import is_domain


@pytest.mark.parametrize(
    "text", ["ourco.example", "a.b.c.OURCO.example", "xn--bcher-kva.example", "_x.example", "1.2"]
)
def test_names(text: str) -> None:
    assert is_domain(text)


@pytest.mark.parametrize(
    "text",
    ["", "example", "ourco.example.", ".example", "a..example", "-a.example", "a-.example", "bücher.example",
     "a b.example", f"{'a' * 64}.example", "a." * 126 + "example", "[192.0.2.1]", "ourco.example\n"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert not is_domain(text)
