import tomllib
from dataclasses import replace

import pytest

from sfumato.attacks.catalogue import attacks
from sfumato.cli.catalogue import defence_label, defences
from sfumato.cli.config import defence_from, defence_table
from sfumato.cli.fields import shown
from sfumato.cli.spelling import defence, method, read, words
from sfumato.cli.toml_text import toml_text
from sfumato.defences.dropout import Dropout
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mixup import Mixup
from sfumato.errors import UsageError


def test_words_keep_commas_inside_brackets() -> None:
    assert words(" mixup(alpha=0.4,x=1), dropout ,") == ["mixup(alpha=0.4,x=1)", "dropout"]


def test_name_and_fields() -> None:
    assert read("name(a=1, b=x|y)") == ("name", {"a": "1", "b": "x,y"})
    assert read(" name ") == ("name", {})


@pytest.mark.parametrize("name", sorted(defences()))
def test_every_defence_can_be_spelled_in_full_on_a_command_line_and_in_a_file(name: str) -> None:
    made = defences()[name].example()
    given = {key: value for key, value in shown(made).items() if key != "inner"}
    text = ",".join(f"{k}={'|'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in given.items())
    assert replace(defence(f"{name}({text})", defences()), inner=made.inner) == made
    assert defence_from(tomllib.loads(toml_text(defence_table(made)))) == made


def test_several_values_stand_between_bars_and_the_error_says_so() -> None:
    assert defence("memguard(hidden=16|8)", defences()).hidden == (16, 8)
    with pytest.raises(UsageError, match=r"hidden=16\|8"):
        defence('memguard(hidden="16,8")', defences())


@pytest.mark.parametrize("text", ["a(b", "a b", "a(b)", "", "a)b("])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Expected a method"):
        read(text)


def test_method_gets_typed_fields() -> None:
    made = method("lira-online(variance=per-example,queries=2)", attacks(), "attack")
    assert (made.name, made.variance, made.queries) == ("lira-online", "per-example", 2)
    made = method("lira-online(queries=16,average=probabilities,noise=common)", attacks(), "attack")
    assert (made.query_set.key, made.query_set.average) == ("none-x16-common", "probabilities")
    with pytest.raises(UsageError, match="Did you mean 'logits'"):
        method("lira-online(average=logit)", attacks(), "attack")


def test_an_attack_may_be_called_something() -> None:
    made = method("lira-online(statistic=hinge, called=lira-hinge)", attacks(), "attack")
    assert (made.name, made.method, made.statistic) == ("lira-hinge", "lira-online", "hinge")
    with pytest.raises(UsageError, match="called"):
        method("lira-online(called=a/b)", attacks(), "attack")


def test_unknown_names_and_fields_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="'lira-online'"):
        method("lira-onlin", attacks(), "attack")
    with pytest.raises(UsageError, match="'alpha'"):
        defence("mixup(alfa=1)", defences())
    with pytest.raises(UsageError, match="a number"):
        defence("mixup(alpha=much)", defences())


def test_plus_wraps_the_first_around_the_second() -> None:
    made = defence("dropout(rate=0.3)+label-smoothing", defences())
    assert made == Dropout(rate=0.3, inner=LabelSmoothing())


def test_inner_cannot_be_given_as_text() -> None:
    with pytest.raises(UsageError, match="inner"):
        defence("mixup(inner=dropout)", defences())


def test_label_names_what_differs_from_the_defaults() -> None:
    assert defence_label(Mixup()) == "mixup"
    assert defence_label(Dropout(rate=0.3, inner=Mixup(alpha=0.4))) == "dropout(rate=0.3)+mixup(alpha=0.4)"
    assert defence(defence_label(Dropout(rate=0.3, inner=Mixup())), defences()) == Dropout(rate=0.3, inner=Mixup())
