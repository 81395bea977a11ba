"""Verdicts, as they are stored and shown."""

from maillinkd.mail.verdict import Standing, Verdict


def test_a_verdict_comes_back_as_it_was_stored() -> None:
    verdict = Verdict(Standing.FAIL, "softfail", "none", "all of ourco.example", "192.0.2.1")

    assert Verdict.of_text(verdict.to_text()) == verdict


def test_a_verdict_is_shown_in_the_words_of_the_field() -> None:
    assert str(Verdict(Standing.PASS, "pass", "none")) == "spf=pass dkim=none"
    assert str(Verdict(Standing.FAIL, why="two From fields")) == "spf=unchecked dkim=unchecked (two From fields)"


def test_what_is_logged_is_ours() -> None:
    assert Verdict(Standing.FAIL, "fail", "none", why="x@evil.example").words == {"spf": "fail", "dkim": "none"}
