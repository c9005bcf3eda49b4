from dataclasses import replace

import pytest

from sfumato.attacks.catalogue import attacks
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.errors import UsageError


def test_an_attack_goes_by_the_name_that_it_was_given():
    made = LiRAOnline(statistic="hinge", called="lira-hinge")
    assert made.name == "lira-hinge"
    assert made.method == "lira-online"
    assert replace(made, queries=4).name == "lira-hinge"
    assert replace(made, called="").name == "lira-online"
    assert LiRAOnline.name == "lira-online"
    assert LiRAOnline().name == "lira-online"
    assert attacks()["lira-online"] is LiRAOnline


def test_names_are_part_of_what_an_attack_is():
    assert LiRAOnline(called="a") != LiRAOnline(called="b")
    assert "called='lira-hinge'" in repr(LiRAOnline(called="lira-hinge"))


@pytest.mark.parametrize("wrong", ["a/b", "a b", " ", "-a", "a\n", "<b>", "ä"])
def test_names_that_a_path_or_a_page_could_misread_are_refused(wrong):
    with pytest.raises(UsageError, match="called"):
        LiRAOnline(called=wrong)
