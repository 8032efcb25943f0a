import pytest

from keras_amalgam.evaluation import AblationRun, noise, removals, standard_error
from keras_amalgam.evaluation.ablation import JOINT

NORMS = {
    "useful": 0.5,
    "useful/left": 0.3,
    "useful/left/mmd": 0.2,
    "useful/right/mmd": 0.1,
    "useful/right/other": 0.7,
}


IMAGES = {"left": 1000, "right": 1000}


def _run(removed, left, right, joint, norms) -> AblationRun:
    return AblationRun(
        method="some method",
        removed=removed,
        task_accuracy={"left": left, "right": right},
        joint_accuracy=joint,
        gradient_norms=norms,
    )


FULL = _run(None, 0.9, 0.8, 0.85, NORMS)


def _runs(changes: dict[str, tuple[float, float, float | None]]) -> list[AblationRun]:
    """Full run at 0.9 / 0.8 / 0.85 on 1,000 images each; `changes` in units of standard errors."""
    runs = [
        _run(
            name,
            0.9 + left * standard_error(0.9, 1000),
            0.8 + right * standard_error(0.8, 1000),
            None if joint is None else 0.85 + joint * standard_error(0.85, 2000),
            {},
        )
        for name, (left, right, joint) in changes.items()
    ]
    return [runs[0], FULL, *runs[1:]]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ((0.0, 0.0, 0.0), "changes nothing"),
        ((0.99, -0.99, 0.99), "changes nothing"),
        ((1.0, -1.0, 0.0), "changes nothing"),
        ((-1.01, 0.0, 0.0), "helps"),
        ((0.0, 0.0, -1.01), "helps"),
        ((0.0, 1.01, 0.0), "hurts"),
        ((-3.0, 3.0, 0.0), "helps and hurts"),
        ((0.5, 0.5, None), "changes nothing"),
    ],
)
def test_a_term_is_judged_by_whether_an_accuracy_leaves_its_standard_error(change, verdict):
    judged = removals(_runs({"some": change}), IMAGES)
    assert [(removal.removed, removal.verdict) for removal in judged] == [("some", verdict)]


def test_noise_is_the_binomial_standard_error_of_the_full_run():
    assert noise(FULL, IMAGES) == {
        "left": pytest.approx((0.9 * 0.1 / 1000) ** 0.5),
        "right": pytest.approx((0.8 * 0.2 / 1000) ** 0.5),
        JOINT: pytest.approx((0.85 * 0.15 / 2000) ** 0.5),
    }


def test_removals_carry_the_gradient_norms_of_the_run_with_all_terms():
    nothing = (0.0, 0.0, 0.0)
    judged = removals(_runs({"useful": nothing, "useful/mmd": nothing, "other": nothing}), IMAGES)
    assert [removal.gradient_norms for removal in judged] == [
        {"": 0.5},
        {"left": 0.2, "right": 0.1},
        {},
    ]
