import json

import pytest

from sfumato.errors import UsageError
from sfumato.models.ranking import MOST_BYTES, RankedRegion, Ranking, read_ranking

NUMBERS = {
    "stem": (0.06, 0.30),
    "middle": (0.05, 0.001),
    "head": (0.02, 0.0),
    "norm": (-0.01, -0.2),
    "odd": (None, None),
}


def ranking(numbers=NUMBERS) -> Ranking:
    return Ranking(
        operation="rewind-private",
        measure="auc",
        regions=[
            RankedRegion(region=name, parameters=[f"{name}.weight"], count=1, risk=risk, accuracy=accuracy)
            for name, (risk, accuracy) in numbers.items()
        ],
    )


def names(share: float) -> list[str]:
    return [region.region for region in ranking().riskiest(share)]


def test_the_rule_takes_risk_over_accuracy_until_the_share_is_reached():
    scores = {region.region: region.score for region in ranking().regions}
    assert scores["stem"] == pytest.approx(0.2)
    assert scores["middle"] == pytest.approx(5), "less than a point of accuracy counts as one point"
    assert names(0.01) == ["middle"]
    assert names(0.05 / 0.13) == ["middle"], "exactly the share is enough"
    assert names(0.4) == ["middle", "head"]
    assert names(0.9) == ["stem", "middle", "head"]
    assert names(1.0) == ["stem", "middle", "head"], "regions without risk are never taken"


def test_a_map_without_risk_is_refused():
    with pytest.raises(UsageError, match="carries risk"):
        ranking({"stem": (-0.1, 0.1), "head": (None, 0.2)}).riskiest(0.5)


def written(tmp_path, value: object, text: str | None = None):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(value) if text is None else text)
    return path


def test_it_is_read_from_a_map(tmp_path):
    assert read_ranking(written(tmp_path, {"ranking": ranking().model_dump(), "more": 1})) == ranking()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(regions=[]), "at least 1"),
        (lambda r: r.update(extra=1), "[Ee]xtra"),
        (lambda r: r["regions"][0].update(risk="0.1"), "valid number"),
        (lambda r: r["regions"][0].update(parameters=[]), "at least 1"),
        (lambda r: r["regions"][0].update(parameters=[3]), "valid string"),
        (lambda r: r["regions"][0].update(count=-1), "greater than"),
        (lambda r: r["regions"][0].pop("risk"), "required"),
    ],
)
def test_files_of_others_are_read_strictly(tmp_path, change, message):
    plain = ranking().model_dump()
    change(plain)
    with pytest.raises(UsageError, match=message):
        read_ranking(written(tmp_path, {"ranking": plain}))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"ranking": 3}', "[" * 100_000, '{"ranking": NaN}', "\x00"])
def test_what_is_no_map_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match=r"map\.json"):
        read_ranking(written(tmp_path, None, text))


def test_a_number_that_json_does_not_have_a_huge_file_and_none_at_all_are_refused(tmp_path):
    plain = json.dumps({"ranking": ranking().model_dump()}).replace("0.06", "Infinity")
    with pytest.raises(UsageError, match="Infinity"):
        read_ranking(written(tmp_path, None, plain))
    with pytest.raises(UsageError, match="more than"):
        read_ranking(written(tmp_path, None, " " * (MOST_BYTES + 1)))
    with pytest.raises(UsageError, match="nowhere"):
        read_ranking(tmp_path / "nowhere.json")
