"""The table of labels."""

import pytest

from maillinkd.mail.labels import LABELS, LANGUAGES, MAX_LABEL, compared


def test_every_language_has_what_a_block_needs() -> None:
    needed = {"from", "to", "cc", "date", "subject", "reply-to", "other"}

    for language in LANGUAGES:
        assert needed == {meanings[language] for meanings in LABELS.values() if language in meanings}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("*From", "from"),
        ("  Sent\xa0by ", "sentby"),
        ("收 件 人", "收件人"),
        ("ＣＣ", "cc"),
        ("PŘEDMĚT", "předmět"),
        ("A\u0308mne", "ämne"),
    ],
)
def test_labels_are_compared_without_what_differs_between_clients(label: str, expected: str) -> None:
    assert compared(label) == expected


@pytest.mark.parametrize("label", ["Von", "Od", "De", "发件人"])
def test_a_translated_sender_belongs_to_no_other_field(label: str) -> None:
    assert set(LABELS[compared(label)].values()) == {"from"}


def test_english_labels_count_beside_a_translated_sender() -> None:
    """Gmail leaves Date, Subject and To in English."""
    assert LABELS["date"].keys() == LABELS["subject"].keys() == set(LANGUAGES)
    assert set(LABELS["from"]) == {"English"}


def test_no_label_is_longer_than_what_is_looked_at() -> None:
    assert max(map(len, LABELS)) < MAX_LABEL
